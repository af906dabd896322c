//! Puts messages together that were recorded in pieces, since most framings send the length first. Start with
//! [`PieceCollector`].

use std::fs::File;
use std::io::{self, Write as _};

use tempfile::{SpooledData, SpooledTempFile};

/// Length up to which a message is kept in memory, in bytes. A longer one is stored in a temporary file.
const MEMORY_MAX: usize = 64 << 10;

/// The pieces of the current message of a connection.
#[derive(Debug, Default)]
pub(super) struct PieceCollector(State);

#[derive(Debug, Default)]
enum State {
    /// No message is in progress.
    #[default]
    Idle,
    /// The beginning of a message.
    Collecting(Unfinished),
    /// The rest of this message is dropped.
    Dropping,
}

#[derive(Debug)]
struct Unfinished {
    bytes: SpooledTempFile,
    len: u64,
    last_byte: Option<u8>,
    /// The recorded connection ended here.
    is_truncated: bool,
}

/// A message that is complete.
#[derive(Debug)]
pub(super) enum Collected {
    /// In memory.
    Memory(Vec<u8>),
    /// In a temporary file.
    Stored(StoredMessage),
}

/// A message in a temporary file.
#[derive(Debug)]
pub(super) struct StoredMessage {
    /// The file.
    pub(super) file: File,
    /// Length of the message, in bytes.
    pub(super) len: u32,
    /// The last byte of the message.
    pub(super) last_byte: Option<u8>,
}

/// The beginning of a message, whose rest was never received.
#[derive(Debug)]
pub(super) struct CutMessage {
    /// The bytes that were received.
    pub(super) begun: Collected,
    /// Length of the whole message, in bytes.
    pub(super) want: u32,
}

/// Why a message is not sent.
#[derive(Debug)]
pub(super) enum Unsendable {
    /// The recording has only a part of it.
    Incomplete,
    /// It is longer than any framing can express.
    TooLong,
    /// It could not be stored.
    Store(io::Error),
}

impl PieceCollector {
    /// Adds a piece, which begins at `offset`. Returns the message if this is the last piece. Before a first piece, call
    /// [`cut`](Self::cut).
    pub(super) fn add(
        &mut self,
        bytes: &[u8],
        offset: u64,
        (first, last): (bool, bool),
    ) -> Result<Option<Collected>, Unsendable> {
        if first {
            self.0 = State::Collecting(Unfinished {
                bytes: SpooledTempFile::new(MEMORY_MAX),
                len: 0,
                last_byte: None,
                is_truncated: false,
            });
            return self.append(bytes, last);
        }
        match &self.0 {
            State::Collecting(message) if message.len == offset => self.append(bytes, last),
            State::Dropping => {
                if last {
                    self.0 = State::Idle;
                }
                Ok(None)
            }
            // Pieces are missing.
            State::Idle | State::Collecting(_) => {
                self.0 = if last { State::Idle } else { State::Dropping };
                Err(Unsendable::Incomplete)
            }
        }
    }

    /// Drops the message in progress, whose rest was never received. Returns whether there was one that is not reported
    /// yet.
    pub(super) fn cut(&mut self) -> bool {
        matches!(std::mem::take(&mut self.0), State::Collecting(_))
    }

    /// Marks the message in progress as truncated after its last piece.
    pub(super) fn truncate(&mut self) {
        if let State::Collecting(message) = &mut self.0 {
            message.is_truncated = true;
        }
    }

    /// Takes the beginning of a message that was truncated, if there is one. The length of the message is `want`.
    pub(super) fn take_cut(&mut self, want: Option<u32>) -> io::Result<Option<CutMessage>> {
        if !matches!(&self.0, State::Collecting(message) if message.is_truncated) {
            return Ok(None);
        }
        let Some(begun) = self.finish()? else {
            return Ok(None);
        };
        let len = match &begun {
            Collected::Memory(bytes) => u32::try_from(bytes.len()).unwrap_or(u32::MAX),
            Collected::Stored(message) => message.len,
        };
        let least = len.saturating_add(1);
        let want = want.unwrap_or(least).max(least);
        Ok(Some(CutMessage { begun, want }))
    }

    fn append(&mut self, bytes: &[u8], last: bool) -> Result<Option<Collected>, Unsendable> {
        let State::Collecting(message) = &mut self.0 else {
            return Ok(None);
        };
        message.len += bytes.len() as u64;
        message.last_byte = bytes.last().copied().or(message.last_byte);
        let failure = match message.bytes.write_all(bytes) {
            _ if u64::from(u32::MAX) < message.len => Unsendable::TooLong,
            Err(error) => Unsendable::Store(error),
            Ok(()) if !last => return Ok(None),
            Ok(()) => match self.finish() {
                Ok(collected) => return Ok(collected),
                Err(error) => Unsendable::Store(error),
            },
        };
        self.0 = if last { State::Idle } else { State::Dropping };
        Err(failure)
    }

    fn finish(&mut self) -> io::Result<Option<Collected>> {
        let State::Collecting(message) = std::mem::take(&mut self.0) else {
            return Ok(None);
        };
        Ok(Some(match message.bytes.into_inner() {
            SpooledData::InMemory(bytes) => Collected::Memory(bytes.into_inner()),
            SpooledData::OnDisk(mut file) => {
                file.flush()?;
                Collected::Stored(StoredMessage {
                    file,
                    len: u32::try_from(message.len).unwrap_or(u32::MAX),
                    last_byte: message.last_byte,
                })
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: (bool, bool) = (true, false);
    const MIDDLE: (bool, bool) = (false, false);
    const LAST: (bool, bool) = (false, true);

    fn add(to: &mut PieceCollector, bytes: &[u8], offset: u64, ends: (bool, bool)) -> String {
        match to.add(bytes, offset, ends) {
            Ok(None) => "more".to_owned(),
            Ok(Some(Collected::Memory(bytes))) => String::from_utf8(bytes).unwrap(),
            Ok(Some(Collected::Stored(message))) => format!("stored {}", message.len),
            Err(Unsendable::Incomplete) => "incomplete".to_owned(),
            Err(failure) => panic!("{failure:?}"),
        }
    }

    #[test]
    fn pieces_in_order_are_a_message() {
        let mut pieces = PieceCollector::default();
        assert_eq!(add(&mut pieces, b"ab", 0, FIRST), "more");
        assert_eq!(add(&mut pieces, b"c", 2, MIDDLE), "more");
        assert_eq!(add(&mut pieces, b"", 3, LAST), "abc");
        assert_eq!(add(&mut pieces, b"one", 0, (true, true)), "one");
        assert!(!pieces.cut());
        let half = vec![7; MEMORY_MAX];
        assert_eq!(add(&mut pieces, &half, 0, FIRST), "more");
        let stored = format!("stored {}", 2 * MEMORY_MAX);
        assert_eq!(add(&mut pieces, &half, MEMORY_MAX as u64, LAST), stored);
    }

    #[test]
    fn a_message_without_all_its_pieces_is_reported_once() {
        let mut pieces = PieceCollector::default();
        // The middle is missing.
        add(&mut pieces, b"ab", 0, FIRST);
        assert_eq!(add(&mut pieces, b"c", 3, MIDDLE), "incomplete");
        assert_eq!(add(&mut pieces, b"d", 4, LAST), "more");
        // The beginning is missing.
        assert_eq!(add(&mut pieces, b"d", 4, LAST), "incomplete");
        // The end is missing.
        add(&mut pieces, b"ab", 0, FIRST);
        assert!(pieces.cut());
        assert_eq!(add(&mut pieces, b"x", 0, FIRST), "more");
        assert_eq!(add(&mut pieces, b"y", 1, LAST), "xy");
        add(&mut pieces, b"ab", 0, FIRST);
        assert!(pieces.cut() && !pieces.cut());
    }
}
