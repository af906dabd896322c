//! Messages enter the ring of a sender here: [`SessionSender::push`].

use core::error::Error;
use core::fmt;

use super::mode::Mode;
use super::sender::{Full, IN_SERIES, SessionSender, WANTS_CONT};

/// Why [`SessionSender::push`] refused a message. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum PushError {
    /// The message is empty: in `blocks`, that is the end of a series.
    Empty,
    /// The message is longer than the ring or the host takes.
    TooLong {
        /// Longest message in bytes.
        max: u32,
    },
    /// The ring is full.
    Full {
        /// Free bytes of the ring.
        free: u32,
    },
}

impl<B: AsRef<[u8]> + AsMut<[u8]>, M: Mode> SessionSender<B, M> {
    /// Keeps a message until it is acknowledged. Does not wait, and does no I/O.
    ///
    /// # Errors
    /// [`PushError`]. [`PushError::Full`] with [`Full::DropOldest`], too, while a message that would have to be dropped is
    /// partly written.
    pub fn push(&mut self, message: &[u8]) -> Result<u32, PushError> {
        let pushed = self.begin(message.len())?;
        self.ring.extend(message);
        Ok(pushed)
    }

    /// Keeps several parts as one message.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn push_parts(&mut self, parts: &[&[u8]]) -> Result<u32, PushError> {
        let len = |len: usize, part: &&[u8]| len.saturating_add(part.len());
        let pushed = self.begin(parts.iter().fold(0, len))?;
        for part in parts {
            self.ring.extend(part);
        }
        Ok(pushed)
    }

    /// Makes the room that a [`push`](Self::push) of `len` bytes needs. Returns how many messages it dropped.
    ///
    /// [Save](Self::save) between this and the push if the ring outlives a reset: the push writes over the messages that
    /// were dropped or acknowledged, and a state that still counts them would not fit the ring.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn make_room(&mut self, len: usize) -> Result<u32, PushError> {
        let max = self.block_max.min(self.ring.size().saturating_sub(4));
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        if len == 0 {
            return Err(PushError::Empty);
        }
        if max < len {
            return Err(PushError::TooLong { max });
        }
        let free = self.ring.free();
        let (at, dropped) = self.walk(0, len.wrapping_add(4).saturating_sub(free));
        if dropped != 0 {
            // A message that is partly written cannot be dropped.
            let is_written = at <= self.sent;
            let is_between = self.lent == 0 && self.walk(0, self.sent).0 == self.sent;
            if self.full == Full::Refuse || !is_written && !is_between {
                return Err(PushError::Full { free });
            }
            // The number of the next message on the wire changes.
            if !is_written && self.flags & IN_SERIES != 0 {
                self.flags |= WANTS_CONT;
            }
        }
        self.forget(at, dropped);
        self.lost = self.lost.saturating_add(dropped);
        Ok(dropped)
    }

    /// Makes room for a message, and writes its header.
    fn begin(&mut self, len: usize) -> Result<u32, PushError> {
        let dropped = self.make_room(len)?;
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        self.held = self.held.wrapping_add(1);
        self.ring.extend(&len.to_be_bytes());
        Ok(dropped)
    }
}

impl fmt::Display for PushError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("a message of a session has at least one byte"),
            Self::TooLong { max } => write!(f, "the message is longer than {max} bytes"),
            Self::Full { free } => write!(f, "the ring has only {free} bytes free"),
        }
    }
}

impl Error for PushError {}
