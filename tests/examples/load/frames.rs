//! What is sent: framed messages, made once, of samples that move slowly.

/// How messages are framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    /// A 4-byte length before each, for `blocksd` and tokio-util.
    Blocks,
    /// A decimal length before each, and a syslog header in it (RFC 6587 and RFC 3164).
    Syslog,
}

/// What messages are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// 16-bit samples that move by at most 3: what a compressor likes.
    Samples,
    /// Noise, which no compressor makes smaller.
    Noise,
}

/// Bytes of frames that one connection sends over and over, about: not so few that a compressor finds the repetition.
const TAPE_LEN: usize = 1 << 20;
/// Bytes of frames that are written at once, about.
const WRITE_LEN: usize = 256 << 10;

/// The frames of one connection.
#[derive(Debug)]
pub(crate) struct Tape {
    bytes: Vec<u8>,
    /// Frames in one write, and their bytes.
    frames_per_write: usize,
    bytes_per_write: usize,
}

impl Tape {
    /// Frames with messages of so many bytes each, the syslog header among them.
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

    /// What to write, one after the other, each with how many frames it is.
    pub(crate) fn writes(&self) -> impl Iterator<Item = (&[u8], usize)> {
        let writes = self.bytes.chunks_exact(self.bytes_per_write);
        writes.map(|write| (write, self.frames_per_write))
    }
}

/// Makes messages.
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

    /// Appends a frame. All of one length of message are of the same length.
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
        // Xorshift: the same messages in every run.
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
