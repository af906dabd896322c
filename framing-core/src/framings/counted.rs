//! The machine behind every framing that knows a message's length before its first byte.
//!
//! ```text
//! | header: the length | payload: so many bytes | trailer: at most one fixed byte |
//! ```

use super::prefix::{Parsed, Prefix};
use crate::bytes::{copy, starts_with};
use crate::fault::{Fault, Part, Refusal};
use crate::framing::{Decode, Encode, Framing, Limits, Step};
use crate::sender::OWN_MAX;
use crate::size::{size_u32, size_usize};
use crate::stage::Joined;
use crate::window::ExactWindow;

impl<P: Prefix> Framing for P {
    type Decoder = CountedDecoder<P>;
    type Encoder = CountedEncoder<P>;

    fn decoder(&self) -> CountedDecoder<P> {
        const { assert!(P::HEADER_MAX <= OWN_MAX, "a header has at most 12 bytes") };
        CountedDecoder {
            prefix: *self,
            at: CountedState::Header,
            open: false,
            len: 0,
            left: 0,
        }
    }

    fn encoder(&self) -> CountedEncoder<P> {
        CountedEncoder { prefix: *self }
    }
}

/// Decoder of the framings that declare the length of a message.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct CountedDecoder<P> {
    prefix: P,
    at: CountedState,
    /// A message of a series has come, and its end mark has not.
    open: bool,
    /// Length of the message whose header was read last …
    len: u32,
    /// … and how much of it was neither handed out nor skipped: less than `len` once that has begun.
    left: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
enum CountedState {
    /// Before a length.
    Header,
    /// Behind the header of a message.
    Payload,
    /// The same, of a message that is too long to be handed out whole, which was not reported.
    Over,
    /// Pieces of the message were handed out.
    Begun,
    /// The same, of a message that is too long to be skipped.
    Long,
    /// The message was refused, or its rest is not wanted.
    Skip,
    /// Nowhere: see [`Fault::is_lost`].
    Lost,
}

impl<P: Prefix> Decode for CountedDecoder<P> {
    type Window = ExactWindow;

    #[inline]
    fn scan<const STREAMING: bool>(&mut self, window: &mut [u8], limits: &Limits) -> Step {
        if self.at == CountedState::Header {
            self.header::<STREAMING>(window, limits)
        } else {
            self.body::<STREAMING>(window, limits)
        }
    }

    #[inline]
    fn scan_run<const STREAMING: bool>(
        &mut self,
        window: &[u8],
        limits: &Limits,
        mut each: impl FnMut(usize, Step) -> bool,
    ) -> (usize, bool) {
        if self.at != CountedState::Header {
            return (0, true);
        }
        let block_max = size_usize(limits.block_max).unwrap_or(usize::MAX);
        let mut rest = window;
        let mut goes_on = true;
        // Bytes on the wire of the message before.
        let mut last = 0;
        // From one length to the next is a chain that the processor cannot shorten: nothing else is on its way.
        while goes_on
            && let Parsed::Length { take: start, len } = parse(&self.prefix, rest)
            && let Some(size) = size_usize(len)
            && (STREAMING || size <= block_max)
            && let Some((header, body)) = rest.split_at_checked(start)
            && let Some((body, behind)) = size
                .checked_add(trailer_len::<P>())
                .and_then(|len| body.split_at_checked(len))
            && ends::<P>(body)
        {
            let end = start + size;
            let take = end + trailer_len::<P>();
            let step = Step::Payload {
                start,
                end,
                take,
                first: true,
                last: true,
            };
            let at = window.len() - rest.len();
            rest = behind;
            goes_on = each(at, step);
            if take != last {
                last = take;
                continue;
            }
            // As long as the two before: where the next one begins is known before its length is read, which is only
            // compared, so that the processor is a block or more ahead.
            while goes_on
                && let Some((block, behind)) = rest.split_at_checked(take)
                && starts_with(block, header)
                && ends::<P>(block)
            {
                let at = window.len() - rest.len();
                rest = behind;
                goes_on = each(at, step);
            }
        }
        let used = window.len() - rest.len();
        self.open |= P::SERIES && used != 0;
        (used, goes_on)
    }

    fn close(&mut self, unread: usize) -> Option<Fault> {
        let (at, open) = (self.at, self.open);
        (self.at, self.open) = (CountedState::Header, false);
        let (part, have, want) = match at {
            CountedState::Header if unread != 0 => {
                let want = size_u32(self.prefix.header_min(unread));
                (Part::Header, size_u32(unread), want)
            }
            CountedState::Header if open => (Part::End, 0, size_u32(self.prefix.header_min(0))),
            CountedState::Header | CountedState::Lost => return None,
            _ => {
                let have = (self.len - self.left).saturating_add(size_u32(unread));
                (Part::Payload, have, self.len)
            }
        };
        // What must stand behind a payload is wanted too.
        let want = want.max(have.saturating_add(1));
        Some(Fault::Truncated { part, have, want })
    }

    fn is_mid_block(&self) -> bool {
        !matches!(self.at, CountedState::Header | CountedState::Lost)
    }

    fn block_max(&self, len: usize) -> u32 {
        size_u32(len.saturating_sub(trailer_len::<P>()))
    }
}

impl<P: Prefix> CountedDecoder<P> {
    #[inline]
    fn header<const STREAMING: bool>(&mut self, window: &[u8], limits: &Limits) -> Step {
        let (take, len) = match parse(&self.prefix, window) {
            Parsed::Length { take, len } => (take, len),
            Parsed::NeedMore { len } => {
                let want = len.saturating_sub(window.len());
                return Step::NeedMore { want };
            }
            Parsed::End { take } => {
                self.open = false;
                return Step::End { take };
            }
            Parsed::Bad { found, offset } => {
                self.at = CountedState::Lost;
                let fault = Fault::BadLength { found, offset };
                return Step::Fault { take: 0, fault };
            }
        };
        self.open = P::SERIES;
        (self.len, self.left) = (len, len);
        self.at = CountedState::Payload;
        if limits.block_max < len {
            self.at = CountedState::Over;
            if !STREAMING {
                return self.too_long(take, limits);
            }
        }
        match self.need() {
            0 => self.last(take, 0, true),
            want if take != 0 => Step::Skip { take, want },
            // A header may be of no bytes (`fixed`).
            _ => self.body::<STREAMING>(window, limits),
        }
    }

    /// Behind a header.
    // `always` here and below: inlined late, a step goes through memory (50 bytes on a Cortex-M4).
    #[inline(always)]
    fn body<const STREAMING: bool>(&mut self, window: &[u8], limits: &Limits) -> Step {
        match self.at {
            CountedState::Lost if window.is_empty() => Step::NeedMore { want: usize::MAX },
            CountedState::Lost => Step::Skip {
                take: window.len(),
                want: usize::MAX,
            },
            CountedState::Payload if !STREAMING => self.whole(window),
            CountedState::Over | CountedState::Long if !STREAMING => self.too_long(0, limits),
            CountedState::Begun | CountedState::Skip if !STREAMING => self.skip(window),
            CountedState::Skip if self.left != self.len => self.skip(window),
            _ => self.piece(window, limits),
        }
    }

    #[inline]
    fn whole(&mut self, window: &[u8]) -> Step {
        match self.need().checked_sub(window.len()) {
            None | Some(0) => self.ended(window, true),
            Some(want) => Step::NeedMore { want },
        }
    }

    fn piece(&mut self, window: &[u8], limits: &Limits) -> Step {
        let first = self.left == self.len;
        if self.need() <= window.len() {
            return self.ended(window, first);
        }
        let here = self.left().min(window.len());
        if here == 0 {
            return Step::NeedMore { want: self.need() };
        }
        self.left -= size_u32(here);
        self.at = if self.len <= limits.skip_max {
            CountedState::Begun
        } else {
            CountedState::Long
        };
        Step::Payload {
            start: 0,
            end: here,
            take: here,
            first,
            last: false,
        }
    }

    #[inline(always)]
    fn skip(&mut self, window: &[u8]) -> Step {
        let take = self.need();
        if take <= window.len() {
            if let Some(fault) = self.bad_ending(window) {
                let take = self.left();
                return Step::Fault { take, fault };
            }
            let want = self.prefix.header_min(0);
            return Step::Skip { take, want };
        }
        let here = self.left().min(window.len());
        if here == 0 {
            return Step::NeedMore { want: take };
        }
        self.left -= size_u32(here);
        self.at = CountedState::Skip;
        Step::Skip {
            take: here,
            want: self.need(),
        }
    }

    /// All that is left of a message is there.
    #[inline]
    fn ended(&mut self, window: &[u8], first: bool) -> Step {
        let end = self.left();
        if let Some(fault) = self.bad_ending(window) {
            return Step::Fault { take: end, fault };
        }
        self.last(0, end, first)
    }

    /// All that is left of a message is there, and what stands behind the payload is not what must.
    #[inline]
    fn bad_ending(&mut self, window: &[u8]) -> Option<Fault> {
        self.at = CountedState::Header;
        let want = P::TRAILER?;
        let found = window.get(self.left()).copied().unwrap_or_default();
        if found == want {
            return None;
        }
        self.at = CountedState::Lost;
        Some(Fault::BadEnding { want, found })
    }

    /// A message ends with `len` bytes of payload.
    #[inline]
    fn last(&mut self, start: usize, len: usize, first: bool) -> Step {
        self.at = CountedState::Header;
        let end = start + len;
        Step::Payload {
            start,
            end,
            take: end + trailer_len::<P>(),
            first,
            last: true,
        }
    }

    #[inline]
    fn too_long(&mut self, take: usize, limits: &Limits) -> Step {
        let lost = limits.skip_max < self.len;
        self.at = if lost {
            CountedState::Lost
        } else {
            CountedState::Skip
        };
        let fault = Fault::TooLong {
            declared: Some(self.len),
            limit: limits.block_max,
            lost,
        };
        Step::Fault { take, fault }
    }

    /// How much of the payload is left.
    #[inline]
    fn left(&self) -> usize {
        size_usize(self.left).unwrap_or(usize::MAX)
    }

    /// The same, with what must stand behind it.
    #[inline]
    fn need(&self) -> usize {
        self.left().saturating_add(trailer_len::<P>())
    }
}

/// Encoder of the framings that declare the length of a message.
#[derive(Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct CountedEncoder<P> {
    prefix: P,
}

impl<P: Prefix> Encode for CountedEncoder<P> {
    type Stage = Joined<64>;
    const PASSTHROUGH: bool = true;
    const HEADER_MAX: usize = P::HEADER_MAX;
    const TRAILER_MAX: usize = trailer_len::<P>();

    #[inline]
    fn header_min(&self) -> usize {
        self.prefix.header_min(0)
    }

    #[inline]
    fn header(&self, len: u32, stage: &mut [u8]) -> Result<usize, Refusal> {
        self.prefix.write(len, stage)
    }

    fn trailer(&mut self, stage: &mut [u8]) -> Result<usize, Refusal> {
        match P::TRAILER {
            Some(trailer) => put([trailer], stage),
            None => Ok(0),
        }
    }

    fn end(&self, stage: &mut [u8]) -> Result<usize, Refusal> {
        self.prefix.write_end(stage)
    }
}

/// Puts a header to the front of `out`, whose length is the only thing that can be wrong.
#[inline]
pub(crate) fn put<const N: usize>(header: [u8; N], out: &mut [u8]) -> Result<usize, Refusal> {
    let len = out.len();
    let front = out.first_chunk_mut().ok_or(Refusal::NoRoom { len })?;
    *front = header;
    Ok(N)
}

/// As [`put`], of any length.
pub(crate) fn put_slice(header: &[u8], out: &mut [u8]) -> Result<usize, Refusal> {
    let len = out.len();
    let front = out.get_mut(..header.len()).ok_or(Refusal::NoRoom { len })?;
    copy(header, front);
    Ok(header.len())
}

/// Reads a header. One of no bytes before a payload of no bytes would be found again without end: it is refused.
#[inline]
fn parse<P: Prefix>(prefix: &P, window: &[u8]) -> Parsed {
    match prefix.parse(window) {
        Parsed::Length { take: 0, len: 0 } | Parsed::End { take: 0 } => Parsed::Bad {
            found: window.first().copied().unwrap_or_default(),
            offset: 0,
        },
        parsed => parsed,
    }
}

const fn trailer_len<P: Prefix>() -> usize {
    if P::TRAILER.is_some() { 1 } else { 0 }
}

/// Whether a message ends in what must stand behind its payload.
#[inline]
fn ends<P: Prefix>(message: &[u8]) -> bool {
    P::TRAILER.is_none() || message.last().copied() == P::TRAILER
}
