//! Decoder and encoder of every framing that declares lengths: of every [`Prefix`].
//!
//! ```text
//! | header: n | payload: n bytes | trailer: 0 or 1 byte |
//! ```

use core::ops::Range;

use super::prefix::{Parsed, Prefix};
use crate::bytes::{copy, starts_with};
use crate::fault::{Fault, Part, Refusal};
use crate::framing::{Decode, Encode, Framing, Limits, Step, UnitFraming};
use crate::sealed::Sealed;
use crate::sender::OWN_MAX;
use crate::size::{size_u32, size_usize};
use crate::stage::Joined;
use crate::window::ExactWindow;

impl<P: Prefix> Framing for P {
    type Decoder = CountedDecoder<P>;
    type Encoder = CountedEncoder<P>;

    fn decoder(&self) -> CountedDecoder<P> {
        CountedDecoder::new(*self)
    }

    fn encoder(&self) -> CountedEncoder<P> {
        CountedEncoder { prefix: *self }
    }
}

impl<P: UnitPrefix> UnitFraming for P {
    const DECODER: CountedDecoder<P> = CountedDecoder::new(P::UNIT);
    const ENCODER: CountedEncoder<P> = CountedEncoder { prefix: P::UNIT };
}

/// A [`Prefix`] without parameters.
pub trait UnitPrefix: Prefix {
    /// Its only value.
    const UNIT: Self;
}

/// Decoder of the framings that declare the length of a message.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct CountedDecoder<P> {
    prefix: P,
    at: CountedState,
    /// Within a series, before its end mark.
    open: bool,
    /// Length of the message whose header was read last, in bytes.
    len: u32,
    /// How much of that message was neither handed out nor skipped, in bytes.
    left: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
enum CountedState {
    /// Before or within a header.
    Header,
    /// After the header of a message.
    Payload,
    /// After the header of a message that is too long to be handed out whole, and is not reported yet.
    Over,
    /// Pieces of the message were handed out.
    Begun,
    /// Pieces were handed out of a message that is too long to be skipped.
    Long,
    /// The message was refused, or its rest is skipped. If it was refused, none of its bytes was dropped, or `len` is zero.
    Skip,
    /// No boundary can be found: see [`Fault::is_lost`].
    Lost,
}

impl<P> Sealed for CountedDecoder<P> {}

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
        window: &mut [u8],
        limits: &Limits,
        mut each: impl FnMut(usize, Step) -> bool,
    ) -> (usize, bool) {
        if self.at != CountedState::Header {
            return (0, true);
        }
        let block_max = size_usize(limits.block_max).unwrap_or(usize::MAX);
        let (window, mut goes_on) = (&*window, true);
        let mut rest = window;
        // Length of the previous message on the wire.
        let mut last = 0;
        // Each length depends on the one before, so the loop does nothing else between two lengths.
        while goes_on
            && let Parsed::Length { take: start, len } = parse(&self.prefix, rest)
            && let Some(size) = size_usize(len)
            && (STREAMING || size <= block_max)
            && let Some((header, body)) = rest.split_at_checked(start)
            && let Some((body, after)) = size
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
            rest = after;
            goes_on = each(at, step);
            if take != last {
                last = take;
                continue;
            }
            // Two messages of one length: expect more of them. Their headers are only compared, so the processor can
            // work on the next message before this one is checked.
            while goes_on
                && let Some((block, after)) = rest.split_at_checked(take)
                && starts_with(block, header)
                && ends::<P>(block)
            {
                let at = window.len() - rest.len();
                rest = after;
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
            // The fault of a refused message was reported.
            CountedState::Header | CountedState::Lost => return None,
            CountedState::Skip if self.len <= self.left => return None,
            _ => {
                let have = (self.len - self.left).saturating_add(size_u32(unread));
                (Part::Payload, have, self.len)
            }
        };
        // The trailer counts, too.
        let want = want.max(have.saturating_add(1));
        Some(Fault::Truncated { part, have, want })
    }

    fn unfinished(&self, unread: usize) -> Range<usize> {
        match self.at {
            CountedState::Payload | CountedState::Over => 0..unread.min(self.left()),
            _ => 0..0,
        }
    }

    fn is_lost(&self) -> bool {
        self.at == CountedState::Lost
    }

    fn is_mid_block(&self) -> bool {
        !matches!(self.at, CountedState::Header | CountedState::Lost)
    }

    fn block_max(&self, len: usize) -> u32 {
        size_u32(len.saturating_sub(trailer_len::<P>()))
    }
}

impl<P: Prefix> CountedDecoder<P> {
    const fn new(prefix: P) -> Self {
        const { assert!(P::HEADER_MAX <= OWN_MAX, "a header has at most 12 bytes") };
        Self {
            prefix,
            at: CountedState::Header,
            open: false,
            len: 0,
            left: 0,
        }
    }

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
            // A header can be empty (`fixed`).
            _ => self.body::<STREAMING>(window, limits),
        }
    }

    /// Scans after a header.
    // `always` here and below: otherwise the step is returned through memory (50 bytes of code on a Cortex-M4).
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
            CountedState::Skip if self.left != self.len || self.len == 0 => self.skip(window),
            CountedState::Skip => {
                // A refused message of which no byte was dropped is handed out now: it is no longer refused.
                self.at = CountedState::Over;
                self.piece(window, limits)
            }
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
        let was_refused = self.len <= self.left;
        if take <= window.len() {
            if let Some(fault) = self.bad_ending(window) {
                if was_refused {
                    let (take, want) = (window.len(), usize::MAX);
                    return Step::Skip { take, want };
                }
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
        if was_refused {
            self.len = 0;
        }
        self.left -= size_u32(here);
        self.at = CountedState::Skip;
        Step::Skip {
            take: here,
            want: self.need(),
        }
    }

    /// Ends a message whose last byte is in the window.
    #[inline]
    fn ended(&mut self, window: &[u8], first: bool) -> Step {
        let end = self.left();
        if let Some(fault) = self.bad_ending(window) {
            return Step::Fault { take: end, fault };
        }
        self.last(0, end, first)
    }

    /// The fault of a message whose last byte is in the window, if it ends in the wrong byte.
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

    /// The last `len` bytes of a message.
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

    /// Bytes of payload that are left.
    #[inline]
    fn left(&self) -> usize {
        size_usize(self.left).unwrap_or(usize::MAX)
    }

    /// Bytes of payload and trailer that are left.
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

impl<P> Sealed for CountedEncoder<P> {}

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
        if P::CHECKED {
            within(stage.len(), self.prefix.write(len, stage))
        } else {
            self.prefix.write(len, stage)
        }
    }

    fn trailer(&mut self, stage: &mut [u8]) -> Result<usize, Refusal> {
        match P::TRAILER {
            Some(trailer) => put([trailer], stage),
            None => Ok(0),
        }
    }

    fn end(&self, stage: &mut [u8]) -> Result<usize, Refusal> {
        if P::CHECKED {
            within(stage.len(), self.prefix.write_end(stage))
        } else {
            self.prefix.write_end(stage)
        }
    }
}

/// Refuses a header that claims to be longer than the memory for it.
fn within(max: usize, written: Result<usize, Refusal>) -> Result<usize, Refusal> {
    match written {
        Ok(len) if max < len => Err(Refusal::NoRoom { len: max }),
        written => written,
    }
}

/// Writes a header to the front of `out`.
#[inline]
pub(crate) fn put<const N: usize>(header: [u8; N], out: &mut [u8]) -> Result<usize, Refusal> {
    let len = out.len();
    let front = out.first_chunk_mut().ok_or(Refusal::NoRoom { len })?;
    *front = header;
    Ok(N)
}

/// Writes a header of any length to the front of `out`.
pub(crate) fn put_slice(header: &[u8], out: &mut [u8]) -> Result<usize, Refusal> {
    let len = out.len();
    let front = out.get_mut(..header.len()).ok_or(Refusal::NoRoom { len })?;
    copy(header, front);
    Ok(header.len())
}

/// Reads a header.
#[inline]
fn parse<P: Prefix>(prefix: &P, window: &[u8]) -> Parsed {
    let parsed = prefix.parse(window);
    match P::CHECKED {
        true => checked(parsed, window),
        false => parsed,
    }
}

/// Refuses a header of no bytes before a payload of no bytes, which would be found again without end; a header that is
/// longer than the window; and one that needs no more bytes than the window has.
fn checked(parsed: Parsed, window: &[u8]) -> Parsed {
    match parsed {
        Parsed::Length { take: 0, len: 0 } | Parsed::End { take: 0 } => bad(window),
        Parsed::Length { take, .. } | Parsed::End { take } if window.len() < take => bad(window),
        Parsed::NeedMore { len } => Parsed::NeedMore {
            len: len.max(window.len().saturating_add(1)),
        },
        parsed => parsed,
    }
}

/// Refuses a header at its first byte.
#[inline]
fn bad(window: &[u8]) -> Parsed {
    Parsed::Bad {
        found: window.first().copied().unwrap_or_default(),
        offset: 0,
    }
}

const fn trailer_len<P: Prefix>() -> usize {
    if P::TRAILER.is_some() { 1 } else { 0 }
}

/// Whether a message ends in the trailer of its framing.
#[inline]
fn ends<P: Prefix>(message: &[u8]) -> bool {
    P::TRAILER.is_none() || message.last().copied() == P::TRAILER
}
