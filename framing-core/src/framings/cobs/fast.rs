//! The receiving side of `cobs` for hosts, in more code than [`scan`](crate::Decode::scan): [`CobsDecoder::run`].

use super::CODE_FULL;
use super::decoder::{CobsDecoder, CobsState};
use crate::bytes::shift_down;
use crate::framing::{Limits, Step};
use crate::size::size_u32;

impl CobsDecoder {
    /// [`scan_run`](crate::Decode::scan_run): decodes messages that are not skipped, up to the first byte that is missing
    /// or one too many.
    #[inline]
    pub(super) fn run<const STREAMING: bool>(
        &mut self,
        window: &mut [u8],
        limits: &Limits,
        mut each: impl FnMut(usize, Step) -> bool,
    ) -> (usize, bool) {
        let limit = Self::limit::<STREAMING>(limits).saturating_add(1);
        let mut used = 0;
        while self.at <= CobsState::Message
            && (STREAMING || self.done == 0)
            && let Some(rest) = window.get_mut(used..)
            && self.unescape(rest, limit)
        {
            let step = self.delimiter::<STREAMING>();
            let at = used;
            match step {
                Step::Skip { take, .. } => {
                    used += take;
                    continue;
                }
                Step::Payload { take, .. } | Step::Fault { take, .. } => used += take,
                Step::NeedMore { .. } | Step::End { .. } => {}
            }
            if !each(at, step) {
                return (used, false);
            }
        }
        (used, true)
    }

    /// Unescapes payload; whether the window has the delimiter of the message, and it is next.
    #[inline]
    fn unescape(&mut self, window: &mut [u8], limit: usize) -> bool {
        while let Some(&byte) = window.get(self.read) {
            if byte == 0 {
                return true;
            }
            if self.left == 0 {
                if self.zero {
                    if self.end == limit {
                        return false;
                    }
                    if let Some(slot) = window.get_mut(self.end) {
                        *slot = 0;
                    }
                    self.end += 1;
                }
                self.at = CobsState::Message;
                self.read += 1;
                self.left = byte - 1;
                self.zero = byte != CODE_FULL;
                continue;
            }
            let ahead = window.get(self.read..).unwrap_or_default();
            let ahead = ahead.get(..usize::from(self.left)).unwrap_or(ahead);
            let len = memchr::memchr(0, ahead).unwrap_or(ahead.len());
            if limit - self.end < len {
                return false;
            }
            if self.read != self.end {
                // Only after 254 bytes: no zero follows a full group, so its code byte leaves a gap.
                shift_down(window, self.read, self.end, len);
            }
            self.left -= size_u32(len).to_le_bytes()[0];
            self.read += len;
            self.end += len;
        }
        false
    }
}
