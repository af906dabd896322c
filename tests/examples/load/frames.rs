//! The framed messages to send, generated once.

/// Framing of the messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    /// A 4-byte length before each message, for `blocksd` and tokio-util.
    Blocks,
    /// A decimal length before each message, and a syslog header in it (RFC 6587 and RFC 3164).
    Syslog,
}

/// Content of the messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// 16-bit samples that move by at most 3, which compress well.
    Samples,
    /// Noise, which does not compress.
    Noise,
}

/// Approximate length of the frames that a connection repeats: long enough that a compressor does not find the repetition.
const TAPE_LEN: usize = 1 << 20;
/// Approximate length of one write.
const WRITE_LEN: usize = 256 << 10;

/// The frames of one connection.
#[derive(Debug)]
pub(crate) struct Tape {
    bytes: Vec<u8>,
    /// For each write, the number of frames and their length in bytes.
    frames_per_write: usize,
    bytes_per_write: usize,
}

impl Tape {
    /// Generates frames with messages of `message_len` bytes, including the syslog header.
    pub(crate) fn new(wire: Wire, content: Content, message_len: usize, connection: u64) -> Self {
        let mut source = Source::new(content, connection);
        let mut frame = Vec::new();
        source.frame(wire, message_len, &mut frame);
        let frames_per_write = (WRITE_LEN / frame.len()).max(1);
        let bytes_per_write = frames_per_write * frame.len();
        let writes = (TAPE_LEN / bytes_per_write).max(1);
        let mut bytes = Vec::with_capacity(writes * bytes_per_write);
        for _ in 0..writes * frames_per_write {
            source.frame(wire, message_len, &mut bytes);
        }
        Self {
            bytes,
            frames_per_write,
            bytes_per_write,
        }
    }

    /// The writes in order, each with its number of frames.
    pub(crate) fn writes(&self) -> impl Iterator<Item = (&[u8], usize)> {
        let writes = self.bytes.chunks_exact(self.bytes_per_write);
        writes.map(|write| (write, self.frames_per_write))
    }
}

/// Generates messages.
struct Source {
    content: Content,
    state: u64,
    sample: i16,
}

impl Source {
    fn new(content: Content, seed: u64) -> Self {
        Self {
            content,
            state: (seed + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15),
            sample: 0,
        }
    }

    /// Appends a frame. Frames with the same message length have the same length.
    fn frame(&mut self, wire: Wire, message_len: usize, frame: &mut Vec<u8>) {
        match wire {
            Wire::Blocks => {
                let len = u32::try_from(message_len).expect("messages are short");
                frame.extend_from_slice(&len.to_be_bytes());
                let end = frame.len() + message_len;
                while frame.len() < end {
                    frame.extend_from_slice(&self.next().to_le_bytes());
                }
                frame.truncate(end);
            }
            Wire::Syslog => {
                frame.extend_from_slice(format!("{message_len} ").as_bytes());
                let end = frame.len() + message_len;
                frame.extend_from_slice(b"<13>Oct 11 22:14:15 d00 b: ");
                while frame.len() < end {
                    frame.extend_from_slice(format!("{:04x} ", self.next()).as_bytes());
                }
                frame.truncate(end);
            }
        }
    }

    fn next(&mut self) -> i16 {
        // Xorshift, so that every run has the same messages.
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        let [low, high, ..] = self.state.to_le_bytes();
        match self.content {
            Content::Samples => {
                self.sample = self.sample.wrapping_add(i16::from(low % 7) - 3);
                self.sample
            }
            Content::Noise => i16::from_le_bytes([low, high]),
        }
    }
}
