//! The sending side of `cobs` for messages in pieces: [`CobsPiecesEncoder`].

use super::{GROUP, is_between_groups};
use crate::bytes::{copy, shift_down};
use crate::fault::Refusal;
use crate::framing::Encode;
use crate::framings::counted::put_slice;
use crate::sealed::Sealed;
use crate::size::size_u32;
use crate::stage::Escaped;

/// Encoder of [`CobsPieces`](super::CobsPieces). It copies payload, because the code of a group is sent before the group.
#[derive(Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct CobsPiecesEncoder {
    /// Position of the code byte of the current group in the stage.
    code_at: usize,
    /// Bytes in the stage.
    filled: usize,
    /// Bytes at the front of the stage that were sent.
    sent: usize,
    /// A group is open. If not, the last one was full, and the next payload byte opens one.
    open: bool,
}

impl CobsPiecesEncoder {
    /// Between messages.
    pub(super) const fn new() -> Self {
        Self {
            code_at: 0,
            filled: 0,
            sent: 0,
            open: false,
        }
    }

    /// Moves the current group to the front of the stage.
    fn compact(&mut self, stage: &mut [u8]) {
        shift_down(stage, self.sent, 0, self.filled.saturating_sub(self.sent));
        self.code_at = self.code_at.saturating_sub(self.sent);
        self.filled = self.filled.saturating_sub(self.sent);
        self.sent = 0;
    }

    /// Ends the current group.
    fn close_group(&mut self, stage: &mut [u8]) {
        let len = self.filled.saturating_sub(self.code_at);
        if let Some(code) = stage.get_mut(self.code_at) {
            *code = size_u32(len).to_le_bytes()[0];
        }
        self.open = false;
    }

    /// Begins a group, and reserves a byte for its code.
    fn open_group(&mut self) {
        self.code_at = self.filled;
        self.filled += 1;
        self.open = true;
    }
}

impl Sealed for CobsPiecesEncoder {}

impl Encode for CobsPiecesEncoder {
    type Stage = Escaped<{ GROUP + 2 }>;
    const PASSTHROUGH: bool = false;

    fn header(&self, _len: u32, _out: &mut [u8]) -> Result<usize, Refusal> {
        Ok(0)
    }

    fn begin(&mut self) {
        (self.filled, self.sent) = (0, 0);
        self.open_group();
    }

    fn escape(&mut self, piece: &[u8], stage: &mut [u8]) -> (usize, usize) {
        if self.sent != 0 {
            self.compact(stage);
        }
        let mut used = 0;
        loop {
            if used == piece.len() {
                return (used, 0);
            }
            if !self.open {
                self.open_group();
            }
            // Reserve a byte after the payload: for the next code, or for the delimiter.
            let spare = stage.len().saturating_sub(self.filled + 1);
            let group = GROUP + 1 - self.filled.saturating_sub(self.code_at);
            let ahead = piece.get(used..).unwrap_or_default();
            let ahead = ahead.get(..group.min(spare)).unwrap_or(ahead);
            if ahead.is_empty() {
                break;
            }
            let zero = memchr::memchr(0, ahead);
            let take = zero.unwrap_or(ahead.len());
            let from = ahead.get(..take).unwrap_or_default();
            let to = stage
                .get_mut(self.filled..self.filled + take)
                .unwrap_or_default();
            copy(from, to);
            used += take;
            self.filled += take;
            if zero.is_some() {
                used += 1;
                self.close_group(stage);
                self.open_group();
            } else if take == group {
                self.close_group(stage);
            }
        }
        // The stage is full: send everything before the current group.
        self.sent = self.code_at;
        (used, self.sent)
    }

    /// Writes a delimiter where the decoder reports [`Fault::EarlyEnd`](crate::Fault::EarlyEnd), so it never ends a shorter message.
    fn abandon(&self, sent: usize, stage: &mut [u8]) -> Option<usize> {
        // Between two groups, a delimiter would end the message: begin a group of one byte first.
        let is_between = is_between_groups(stage.get(..sent)?);
        let end: &[u8] = if is_between { &[2, 0] } else { &[0] };
        put_slice(end, stage).ok()
    }

    fn trailer(&mut self, stage: &mut [u8]) -> Result<usize, Refusal> {
        if self.open {
            self.close_group(stage);
        }
        let len = stage.len();
        let delimiter = stage.get_mut(self.filled).ok_or(Refusal::NoRoom { len })?;
        *delimiter = 0;
        Ok(self.filled + 1)
    }
}
