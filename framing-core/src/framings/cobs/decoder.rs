//! The receiving side of `cobs`, in few instructions of code: [`CobsDecoder`].

use core::ops::Range;

use super::{CODE_FULL, GROUP};
use crate::bytes::shift_until;
use crate::fault::{Fault, Part};
use crate::framing::{Decode, Limits, Step};
use crate::sealed::Sealed;
use crate::size::{size_u32, size_usize};
use crate::window::SlidingWindow;

/// Decoder of [`Cobs`](super::Cobs). Unescapes in the window: a code byte is overwritten by the zero that it stands for.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct CobsDecoder {
    /// Bytes of the window that were decoded.
    pub(super) read: usize,
    /// Where the unescaped payload in the window ends. It begins at [`start`](Self::start).
    pub(super) end: usize,
    /// Payload bytes of this message that have left the window.
    pub(super) done: u32,
    pub(super) at: CobsState,
    /// Payload bytes that are missing in this group.
    pub(super) left: u8,
    /// A zero follows this group, if another group does. Also set before a message: its first code is overwritten, too, by
    /// a zero that is not part of the payload.
    pub(super) zero: bool,
}

/// In this order, so that comparisons are short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub(super) enum CobsState {
    /// Between messages.
    Start,
    Message,
    /// Within the rest of a message that was handed out in part.
    Skip,
    /// Within a message that was refused.
    SkipRefused,
    Lost,
}

impl Sealed for CobsDecoder {}

impl Decode for CobsDecoder {
    type Window = SlidingWindow;

    fn scan<const STREAMING: bool>(&mut self, window: &mut [u8], limits: &Limits) -> Step {
        if STREAMING && self.at == CobsState::SkipRefused && self.done == 0 {
            // No byte of it was dropped.
            self.at = CobsState::Message;
        }
        if !STREAMING && self.at == CobsState::Message && self.done != 0 {
            self.at = CobsState::Skip;
        }
        if CobsState::Skip <= self.at {
            return self.skip(window, limits);
        }
        let limit = Self::limit::<STREAMING>(limits);
        while let Some(&byte) = window.get(self.read) {
            if byte == 0 {
                return self.delimiter::<STREAMING>();
            }
            if (self.left != 0 || self.zero) && limit < self.end {
                self.at = CobsState::SkipRefused;
                return too_long(limits, false, 0);
            }
            if self.left != 0 {
                let most = usize::from(self.left).min(limit - self.end + 1);
                let len = shift_until(window, self.read, self.end, most, 0);
                self.left -= size_u32(len).to_le_bytes()[0];
                self.read += len;
                self.end += len;
                continue;
            }
            if let Some(slot) = window.get_mut(self.end) {
                // If it is not part of the payload, the next byte overwrites it.
                *slot = 0;
                self.end += usize::from(self.zero);
            }
            self.at = CobsState::Message;
            self.read += 1;
            self.left = byte - 1;
            self.zero = byte != CODE_FULL;
        }
        let start = self.start();
        if STREAMING && start < self.end {
            let Self {
                read, end, done, ..
            } = *self;
            self.gone(end - start);
            return Step::Payload {
                start,
                end,
                take: read,
                first: done == 0,
                last: false,
            };
        }
        Step::NeedMore { want: usize::MAX }
    }

    #[inline]
    fn scan_run<const STREAMING: bool>(
        &mut self,
        window: &mut [u8],
        limits: &Limits,
        each: impl FnMut(usize, Step) -> bool,
    ) -> (usize, bool) {
        self.run::<STREAMING>(window, limits, each)
    }

    fn close(&mut self, unread: usize) -> Option<Fault> {
        let kept = size_u32(self.end.saturating_sub(self.start()));
        let unread = size_u32(unread.saturating_sub(self.read));
        // The fault of a refused message was reported.
        let cut = self.at <= CobsState::Skip && (self.at != CobsState::Start || unread != 0);
        let have = self.done.saturating_add(kept).saturating_add(unread);
        // At least the rest of the group and the delimiter.
        let want = have.saturating_add(u32::from(self.left) + 1);
        self.restart();
        let fault = Fault::Truncated {
            part: Part::Payload,
            have,
            want,
        };
        cut.then_some(fault)
    }

    fn unfinished(&self, _unread: usize) -> Range<usize> {
        match self.at {
            CobsState::Message => self.start()..self.end,
            _ => 0..0,
        }
    }

    fn is_lost(&self) -> bool {
        self.at == CobsState::Lost
    }

    fn is_mid_block(&self) -> bool {
        !matches!(self.at, CobsState::Start | CobsState::Lost)
    }

    fn block_max(&self, len: usize) -> u32 {
        // The inverse of `Cobs::wire_len`: a code, the delimiter, and a code after each full group.
        let len = len.saturating_sub(2);
        size_u32(len.wrapping_sub(len.saturating_add(1) / (GROUP + 1)))
    }
}

impl CobsDecoder {
    pub(super) const fn new() -> Self {
        Self {
            read: 0,
            end: 0,
            done: 0,
            at: CobsState::Start,
            left: 0,
            zero: true,
        }
    }

    /// Where the payload in the window begins: after the first code of the message, unless that has left the window.
    pub(super) fn start(&self) -> usize {
        usize::from(self.done == 0)
    }

    /// Longest message, in bytes; `end` is at most one more. With streaming, in which `start` may be 0, less than the
    /// largest number.
    pub(super) fn limit<const STREAMING: bool>(limits: &Limits) -> usize {
        if STREAMING {
            return usize::MAX - 1;
        }
        size_usize(limits.block_max).unwrap_or(usize::MAX)
    }

    /// At a zero: the end of a message, or an extra zero.
    pub(super) fn delimiter<const STREAMING: bool>(&mut self) -> Step {
        let Self {
            read,
            end,
            done,
            left,
            ..
        } = *self;
        // Without streaming, no part of the message has left the window.
        let first = !STREAMING || done == 0;
        let take = read + 1;
        self.restart();
        if first && read == 0 {
            // Between messages.
            let want = usize::MAX;
            return Step::Skip { take, want };
        }
        if left != 0 {
            let fault = Fault::EarlyEnd { missing: left };
            return Step::Fault { take, fault };
        }
        Step::Payload {
            start: usize::from(first),
            end,
            take,
            first,
            last: true,
        }
    }

    /// Sets each field, because an assignment of all of them would call `memcpy` or `memset`.
    #[inline(never)]
    fn restart(&mut self) {
        self.done = 0;
        self.gone(0);
        (self.at, self.left, self.zero) = (CobsState::Start, 0, true);
    }

    /// Counts bytes of the message that leave the window.
    fn gone(&mut self, len: usize) {
        self.done = self.done.saturating_add(size_u32(len));
        (self.read, self.end) = (0, 0);
    }

    /// Drops the bytes of the message in the window. Those that were decoded may contain zeros, so the search for the end
    /// begins after them.
    fn skip(&mut self, window: &mut [u8], limits: &Limits) -> Step {
        let mut take = window.len();
        if self.at != CobsState::Lost {
            take = self.read + shift_until(window, self.read, self.read, usize::MAX, 0);
            self.gone(take);
            self.left = 0;
            if limits.skip_max < self.done {
                let refused = self.at == CobsState::SkipRefused;
                self.at = CobsState::Lost;
                if !refused {
                    return too_long(limits, true, take);
                }
            } else if take < window.len() {
                self.restart();
                take += 1;
            }
        }
        let want = usize::MAX;
        if take == 0 {
            Step::NeedMore { want }
        } else {
            Step::Skip { take, want }
        }
    }
}

fn too_long(limits: &Limits, lost: bool, take: usize) -> Step {
    let fault = Fault::TooLong {
        declared: None,
        limit: limits.block_max,
        lost,
    };
    Step::Fault { take, fault }
}
