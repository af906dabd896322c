//! The receiving side of `lines` and `delimited:HEX`, in few instructions of code: [`DelimitedDecoder`].

use core::ops::Range;

use super::Delimited;
use crate::fault::{Fault, Part};
use crate::framing::{Decode, Limits, Step};
use crate::sealed::Sealed;
use crate::size::{size_u32, size_usize};
use crate::window::SlidingWindow;

/// Decoder of [`Delimited`] and [`Lines`](super::Lines).
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct DelimitedDecoder {
    pub(super) delimiter: Delimited,
    lines: bool,
    pub(super) at: DelimitedState,
    /// Bytes at the front of the window in which no delimiter begins. One may begin right after them.
    pub(super) searched: usize,
    /// Payload bytes of this message that have left the window.
    pub(super) done: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub(super) enum DelimitedState {
    Message,
    /// Within the rest of a message that was handed out in part.
    Skip,
    /// Within a message that was refused.
    SkipRefused,
    Lost,
}

impl Sealed for DelimitedDecoder {}

impl Decode for DelimitedDecoder {
    type Window = SlidingWindow;

    fn scan<const STREAMING: bool>(&mut self, window: &mut [u8], limits: &Limits) -> Step {
        let want = usize::MAX;
        if self.at == DelimitedState::Lost {
            let take = window.len();
            return skip_or_wait(take);
        }
        if STREAMING && self.at == DelimitedState::SkipRefused && self.done == 0 {
            // No byte of it was dropped.
            self.at = DelimitedState::Message;
        }
        if !STREAMING && self.at == DelimitedState::Message && self.done != 0 {
            self.at = DelimitedState::Skip;
        }
        let found = self.find(window);
        let mut take = self.searched;
        if self.at == DelimitedState::Message {
            let end = self.payload_end(window, take);
            let limit = size_usize(limits.block_max).unwrap_or(usize::MAX);
            let is_full = found || limit.saturating_add(self.ending_max()) <= window.len();
            if !STREAMING && limit < end && is_full {
                // Skip the bytes in the window as those that follow: they are searched again, but only once.
                self.at = DelimitedState::SkipRefused;
                self.searched = 0;
                return too_long(limits, false);
            }
            if found {
                return self.ended(end);
            }
            if !STREAMING || end == 0 {
                return Step::NeedMore { want };
            }
            // Bytes that may be the beginning of the delimiter stay in the window.
            let first = self.done == 0;
            self.gone(end);
            return Step::Payload {
                start: 0,
                end,
                take: end,
                first,
                last: false,
            };
        }
        self.gone(take);
        if limits.skip_max < self.done {
            let refused = self.at == DelimitedState::SkipRefused;
            self.at = DelimitedState::Lost;
            if !refused {
                return too_long(limits, true);
            }
        } else if found {
            take += self.delimiter.len;
            self.restart();
        }
        skip_or_wait(take)
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
        let have = self.done.saturating_add(size_u32(unread));
        // The fault of a refused message was reported.
        let is_open = matches!(self.at, DelimitedState::Message | DelimitedState::Skip);
        let cut = have != 0 && is_open;
        self.restart();
        let want = have.saturating_add(1);
        cut.then_some(Fault::Truncated {
            part: Part::Payload,
            have,
            want,
        })
    }

    fn unfinished(&self, unread: usize) -> Range<usize> {
        match self.at {
            DelimitedState::Message => 0..unread,
            _ => 0..0,
        }
    }

    fn is_lost(&self) -> bool {
        self.at == DelimitedState::Lost
    }

    fn is_mid_block(&self) -> bool {
        self.done != 0
    }

    fn block_max(&self, len: usize) -> u32 {
        size_u32(len.saturating_sub(self.ending_max()))
    }
}

impl DelimitedDecoder {
    pub(super) const fn new(delimiter: Delimited, lines: bool) -> Self {
        Self {
            delimiter,
            lines,
            at: DelimitedState::Message,
            searched: 0,
            done: 0,
        }
    }

    /// Most bytes that end a message.
    fn ending_max(&self) -> usize {
        self.delimiter.len + usize::from(self.lines)
    }

    /// The last bytes of a message, up to `end`; the delimiter begins after those that were searched.
    pub(super) fn ended(&mut self, end: usize) -> Step {
        let first = self.done == 0;
        let take = self.searched + self.delimiter.len;
        self.restart();
        Step::Payload {
            start: 0,
            end,
            take,
            first,
            last: true,
        }
    }

    /// Sets the fields one by one: the delimiter stays.
    fn restart(&mut self) {
        self.at = DelimitedState::Message;
        self.searched = 0;
        self.done = 0;
    }

    /// Counts bytes at the front of the window that leave it.
    fn gone(&mut self, len: usize) {
        self.done = self.done.saturating_add(size_u32(len));
        self.searched -= len;
    }

    /// Whether the window has a delimiter. Stores where the first one begins, or how far it searched.
    #[inline(never)]
    fn find(&mut self, window: &[u8]) -> bool {
        let mut at = self.searched;
        let mut matched = 0;
        let mut found = false;
        while !found && let Some(&byte) = window.get(at + matched) {
            if self.delimiter.bytes.get(matched) == Some(&byte) {
                matched += 1;
                found = matched == self.delimiter.len;
            } else {
                at += 1;
                matched = 0;
            }
        }
        self.searched = at;
        found
    }

    /// Where the payload ends if the delimiter begins at `found`.
    pub(super) fn payload_end(&self, window: &[u8], found: usize) -> usize {
        let before = found.checked_sub(1).and_then(|at| window.get(at));
        let carriage_return = self.lines && before == Some(&b'\r');
        found - usize::from(carriage_return)
    }
}

fn skip_or_wait(take: usize) -> Step {
    let want = usize::MAX;
    if take == 0 {
        Step::NeedMore { want }
    } else {
        Step::Skip { take, want }
    }
}

fn too_long(limits: &Limits, lost: bool) -> Step {
    let fault = Fault::TooLong {
        declared: None,
        limit: limits.block_max,
        lost,
    };
    Step::Fault { take: 0, fault }
}
