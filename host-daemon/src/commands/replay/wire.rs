//! Frames messages into a buffer, as they were on the wire of the recorded connection. Start with [`WireBuffer`].

use std::fmt;
use std::io::{self, Sink};

use embedded_io_adapters::std::FromStd;
use framing_core::session::wire::{Hello, MAGIC, Opening};
use framing_core::{AnyFraming, Refusal, SendError, blocking};

/// Length from which the buffer is to be written out, in bytes.
const FULL: usize = 64 << 10;
/// The line end of a line whose last byte is `\r`.
const LINE_END: &[u8] = b"\r\n";

type BufferWriter<W> = blocking::Writer<FromStd<W>, AnyFraming>;

/// Framed messages that are not written to the connection yet.
pub(super) struct WireBuffer {
    framing: AnyFraming,
    writer: BufferWriter<Vec<u8>>,
    /// A message or an end mark was added.
    is_begun: bool,
}

/// Checks whether a message of several chunks can be sent, before any of it is.
pub(super) struct WireCheck {
    is_crlf: bool,
    writer: BufferWriter<Sink>,
}

impl WireBuffer {
    /// A buffer at the beginning of a connection.
    pub(super) fn new(framing: AnyFraming) -> Self {
        Self {
            framing,
            writer: BufferWriter::new(FromStd::new(Vec::new()), framing),
            is_begun: false,
        }
    }

    /// Whether a message of `len` bytes, which begins with these, would open an acknowledged session: the daemon takes it for
    /// a HELLO if it is the first one of a connection.
    pub(super) fn opens_session(&self, begin: &[u8], len: u32) -> bool {
        let is_blocks = matches!(self.framing, AnyFraming::Blocks(_));
        let mut wire = len.to_be_bytes().to_vec();
        wire.extend(begin.iter().take(MAGIC.len()));
        is_blocks && !self.is_begun && Hello::opening(&wire) == Opening::Hello
    }

    /// Adds a message.
    pub(super) fn message(&mut self, payload: &[u8]) -> Result<(), Refusal> {
        self.is_begun = true;
        if self.is_crlf(payload.last().copied()) && !payload.contains(&b'\n') {
            self.bytes().extend_from_slice(payload);
            self.bytes().extend_from_slice(LINE_END);
            return Ok(());
        }
        refusal(self.writer.send(payload))
    }

    /// Adds the end mark of a series, if the framing has one.
    pub(super) fn end(&mut self) -> Result<(), Refusal> {
        self.is_begun = true;
        refusal(self.writer.finish())
    }

    /// Begins a message whose chunks follow. Its last byte is `last`.
    pub(super) fn begin(&mut self, len: u32, last: Option<u8>) -> Result<(), Refusal> {
        self.is_begun = true;
        match self.is_crlf(last) {
            true => Ok(()),
            false => refusal(self.writer.begin(len)),
        }
    }

    /// Adds the next chunk of a message that was begun. Its last byte is `last`.
    pub(super) fn chunk(&mut self, bytes: &[u8], last: Option<u8>) -> Result<(), Refusal> {
        if self.is_crlf(last) {
            self.bytes().extend_from_slice(bytes);
            return Ok(());
        }
        refusal(self.writer.send_piece(bytes))
    }

    /// Ends a message that was begun.
    pub(super) fn end_chunks(&mut self, last: Option<u8>) {
        if self.is_crlf(last) {
            self.bytes().extend_from_slice(LINE_END);
        }
    }

    /// Adds the beginning of a message of `want` bytes, whose rest never follows.
    pub(super) fn cut(&mut self, payload: &[u8], want: u32) -> Result<(), Refusal> {
        if self.is_cobs() {
            refusal(self.writer.send(payload))?;
        } else {
            refusal(self.writer.begin(want))?;
            refusal(self.writer.send_piece(payload))?;
        }
        self.end_cut();
        Ok(())
    }

    /// Begins a message of `want` bytes, of which `len` follow.
    pub(super) fn begin_cut(&mut self, len: u32, want: u32) -> Result<(), Refusal> {
        refusal(self.writer.begin(if self.is_cobs() { len } else { want }))
    }

    /// Ends the beginning of a message.
    pub(super) fn end_cut(&mut self) {
        // A group is written when it is complete: end the message, and leave its delimiter out.
        if self.is_cobs() {
            self.bytes().pop();
        }
    }

    fn is_cobs(&self) -> bool {
        use AnyFraming::{Cobs, CobsCrc16, CobsCrc32};
        matches!(self.framing, Cobs(_) | CobsCrc16(_) | CobsCrc32(_))
    }

    /// Checks a message of this length before [`begin`](Self::begin).
    pub(super) fn check(&self, len: u32, last: Option<u8>) -> Result<WireCheck, Refusal> {
        let mut writer = BufferWriter::new(FromStd::new(io::sink()), self.framing);
        let is_crlf = self.is_crlf(last);
        if !is_crlf {
            refusal(writer.begin(len))?;
        }
        Ok(WireCheck { is_crlf, writer })
    }

    /// The bytes to write to the connection.
    pub(super) fn bytes(&mut self) -> &mut Vec<u8> {
        self.writer.io_mut().inner_mut()
    }

    /// Whether the bytes are to be written before more are added.
    pub(super) fn is_full(&mut self) -> bool {
        FULL <= self.bytes().len()
    }

    /// Whether a message with this last byte was received as a line that ends in `\r\r\n`. The encoder of lines writes
    /// `\n` alone, which would make the `\r` a part of the line end.
    fn is_crlf(&self, last: Option<u8>) -> bool {
        matches!(self.framing, AnyFraming::Lines(_)) && last == Some(b'\r')
    }
}

impl WireCheck {
    /// Checks the next chunk.
    pub(super) fn chunk(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        if !self.is_crlf {
            return refusal(self.writer.send_piece(bytes));
        }
        match bytes.iter().position(|byte| *byte == b'\n') {
            None => Ok(()),
            Some(offset) => Err(Refusal::Delimiter { offset }),
        }
    }
}

impl fmt::Debug for WireBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = f.debug_struct("WireBuffer");
        text.field("framing", &self.framing).finish_non_exhaustive()
    }
}

/// The refusal of a message. Writing to memory does not fail.
fn refusal(sent: Result<(), SendError<io::Error>>) -> Result<(), Refusal> {
    match sent {
        Err(SendError::Refused(refusal)) => Err(refusal),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use framing_core::{Decode as _, Framing as _, Limits, Step};

    use super::*;

    /// The messages that a receiver finds.
    fn received(framing: AnyFraming, mut bytes: Vec<u8>) -> Vec<Vec<u8>> {
        let (mut decoder, mut found) = (framing.decoder(), Vec::new());
        let limits = Limits {
            block_max: 1 << 20,
            skip_max: Limits::SKIP_MAX,
        };
        let mut copy = bytes.clone();
        decoder.scan_all::<false>(&mut bytes, &limits, |at, step| {
            if let Step::Payload { start, end, .. } = step {
                found.push((at + start, at + end));
            }
            true
        });
        // Unescaping rewrites the window.
        copy.clone_from(&bytes);
        let span = |(start, end)| copy[start..end].to_vec();
        found.into_iter().map(span).collect()
    }

    #[test]
    fn a_line_that_ends_in_a_carriage_return_keeps_it() {
        let lines: AnyFraming = "lines".parse().unwrap();
        let mut wire = WireBuffer::new(lines);
        for line in [&b"a\r"[..], b"b", b"\r"] {
            wire.message(line).unwrap();
        }
        let whole = std::mem::take(wire.bytes());
        assert_eq!(received(lines, whole), [&b"a\r"[..], b"b", b"\r"]);
        for (chunk, last) in [(&b"a\r"[..], Some(b'\r')), (b"b", Some(b'b'))] {
            let len = chunk.len() as u32;
            wire.check(len, last).unwrap().chunk(chunk).unwrap();
            wire.begin(len, last).unwrap();
            wire.chunk(chunk, last).unwrap();
            wire.end_chunks(last);
        }
        assert_eq!(*wire.bytes(), b"a\r\r\nb\n");
        // In another framing, it may not have been a line.
        assert!(wire.message(b"a\nb\r").is_err());
        let mut check = wire.check(4, Some(b'\r')).unwrap();
        assert!(check.chunk(b"a\nb\r").is_err());
    }

    #[test]
    fn the_first_message_that_would_open_a_session_is_known() {
        let hello = [&MAGIC[..], &[7; 41]].concat();
        let len = hello.len() as u32;
        let mut wire = WireBuffer::new("blocks".parse().unwrap());
        assert!(wire.opens_session(&hello, len));
        assert!(wire.opens_session(&hello[..8], 4096));
        assert!(!wire.opens_session(&hello[..7], len));
        assert!(!wire.opens_session(&hello, 48) && !wire.opens_session(&hello, 4097));
        wire.end().unwrap();
        assert!(!wire.opens_session(&hello, len));
        let lines = WireBuffer::new("lines".parse().unwrap());
        assert!(!lines.opens_session(&hello, len));
    }

    #[test]
    fn a_message_that_is_refused_leaves_nothing() {
        let mut wire = WireBuffer::new("length:u8".parse().unwrap());
        assert!(wire.message(&[0; 256]).is_err());
        assert!(wire.check(256, Some(0)).is_err());
        wire.message(b"x").unwrap();
        assert_eq!(*wire.bytes(), b"\x01x");
    }
}
