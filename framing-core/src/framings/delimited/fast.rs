//! The receiving side of `lines` and `delimited:HEX` for hosts, in more code than [`scan`](crate::Decode::scan):
//! [`DelimitedDecoder::run`].

use super::decoder::{DelimitedDecoder, DelimitedState};
use crate::framing::{Limits, Step};
use crate::size::size_usize;

impl DelimitedDecoder {
    /// [`scan_run`](crate::Decode::scan_run): hands out messages that are not skipped, up to the first whose end is
    /// missing, or that is too long. Also searches the rest of the window, so `scan` does not.
    #[inline]
    pub(super) fn run<const STREAMING: bool>(
        &mut self,
        window: &[u8],
        limits: &Limits,
        mut each: impl FnMut(usize, Step) -> bool,
    ) -> (usize, bool) {
        let limit = size_usize(limits.block_max).unwrap_or(usize::MAX);
        let mut used = 0;
        while self.at == DelimitedState::Message
            && (STREAMING || self.done == 0)
            && let Some(rest) = window.get(used..)
            && self.find_fast(rest)
        {
            let end = self.payload_end(rest, self.searched);
            if !STREAMING && limit < end {
                break;
            }
            let at = used;
            used += self.searched + self.delimiter.len;
            let step = self.ended(end);
            if !each(at, step) {
                return (used, false);
            }
        }
        (used, true)
    }

    /// Whether the window has a delimiter. Stores where the first one begins, or how far it searched.
    #[inline]
    fn find_fast(&mut self, window: &[u8]) -> bool {
        let Some((&first, others)) = self.delimiter.delimiter().split_first() else {
            return false;
        };
        let mut at = self.searched;
        while let Some(ahead) = window.get(at..)
            && let Some(next) = memchr::memchr(first, ahead)
        {
            at += next;
            let after = window.get(at + 1..).unwrap_or_default();
            let after = after.get(..others.len()).unwrap_or(after);
            if others.get(..after.len()) == Some(after) {
                // All of it, or as much as was received.
                self.searched = at;
                return after.len() == others.len();
            }
            at += 1;
        }
        self.searched = window.len();
        false
    }
}
