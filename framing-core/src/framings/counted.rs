//! The machine behind every framing that knows a message's length before its first byte.
//!
//! ```text
//! | header: the length | payload: so many bytes | tail: at most one fixed byte |
//! ```

use crate::bytes::copy;
use crate::fault::{Fault, Part, Refusal};
use crate::framing::{Decode, Encode, Framing, Limits, Step};

/// How a length is written: what the framings of this family differ in.
///
/// Every such description is a [`Framing`].
pub trait Prefix: Copy {
    /// The byte that must stand behind the payload.
    const TAIL: Option<u8> = None;
    /// Whether a series of messages is ended by a mark, so that closing without it cuts the series.
    const SERIES: bool = false;

    /// Reads the length that the window begins with.
    fn parse(&self, window: &[u8]) -> Parsed;

    /// Writes the length `len` to the front of `out`; returns how many bytes that is.
    ///
    /// # Errors
    /// Where the framing cannot express it, or `out` is too short.
    fn write(&self, len: u32, out: &mut [u8]) -> Result<usize, Refusal>;

    /// Writes the mark that ends a series; returns how many bytes that is.
    ///
    /// # Errors
    /// [`Refusal::NoRoom`] where `out` is too short.
    fn write_end(&self, out: &mut [u8]) -> Result<usize, Refusal> {
        let _ = out;
        Ok(0)
    }
}

/// What [`Prefix::parse`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Parsed {
    /// The header is not whole: it has at least `len` bytes, more than are there.
    More {
        /// Least length of the header, in bytes.
        len: usize,
    },
    /// A message of `len` bytes follows behind `take` bytes of header.
    Length {
        /// Length of the header, in bytes.
        take: usize,
        /// Length of the payload, in bytes.
        len: u32,
    },
    /// The mark that ends a series.
    End {
        /// Its length, in bytes.
        take: usize,
    },
    /// No length.
    Bad {
        /// The first byte that cannot stand where it does.
        found: u8,
        /// Where it stands.
        offset: u8,
    },
}

impl<P: Prefix> Framing for P {
    type Decoder = CountedDecoder<P>;
    type Encoder = CountedEncoder<P>;

    fn decoder(&self) -> CountedDecoder<P> {
        CountedDecoder {
            prefix: *self,
            open: false,
            at: At::Header,
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
    /// A message of a series has come, and its end mark has not.
    open: bool,
    at: At,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
enum At {
    /// Before a length.
    Header,
    /// Behind the header of a message of `len` bytes, of which `done` were handed out in pieces.
    Payload { len: u32, done: u32 },
    /// The same, in a message that is skipped.
    Skip { len: u32, done: u32 },
    /// Nowhere: see [`Fault::is_lost`].
    Lost,
}

impl<P: Prefix> Decode for CountedDecoder<P> {
    const EXACT: bool = true;

    #[inline]
    fn scan<const PIECES: bool>(&mut self, window: &mut [u8], limits: &Limits) -> Step {
        match self.at {
            At::Header => self.header::<PIECES>(window, limits),
            At::Payload { len, done }
            | At::Skip {
                len,
                done: done @ 0,
            } if PIECES => self.piece(window, len, done),
            At::Payload { len, done: 0 } if len <= limits.block_max => self.whole(window, len),
            At::Payload { len, done } => self.abandon(window, len, done, limits),
            At::Skip { len, done } => self.skip(window, len, done),
            At::Lost if window.is_empty() => Step::More { want: usize::MAX },
            At::Lost => Step::Skip { take: window.len() },
        }
    }

    #[inline]
    fn scan_run<const PIECES: bool>(
        &mut self,
        window: &[u8],
        limits: &Limits,
        mut each: impl FnMut(usize, Step) -> bool,
    ) -> (usize, bool) {
        if self.at != At::Header {
            return (0, true);
        }
        let mut used = 0;
        let mut goes_on = true;
        while goes_on
            && let Some(rest) = window.get(used..)
            && let Parsed::Length { take: start, len } = self.prefix.parse(rest)
            && (PIECES || len <= limits.block_max)
            && let Some(size) = size_usize(len)
            && let Some(body) = rest.get(start..)
            && match P::TAIL {
                None => size <= body.len(),
                Some(want) => body.get(size) == Some(&want),
            }
        {
            let end = start + size;
            let take = end + tail_len::<P>();
            let step = Step::Payload {
                start,
                end,
                take,
                first: true,
                last: true,
            };
            let at = used;
            used += take;
            goes_on = each(at, step);
        }
        self.open |= P::SERIES && used != 0;
        (used, goes_on)
    }

    fn close(&mut self, window: &[u8]) -> Option<Fault> {
        let open = self.open;
        let at = self.at;
        self.open = false;
        self.at = At::Header;
        match at {
            At::Header => match self.prefix.parse(window) {
                Parsed::More { len } if !window.is_empty() => {
                    Some(truncated(Part::Header, window.len(), len))
                }
                Parsed::More { len } if open && P::SERIES => Some(truncated(Part::End, 0, len)),
                // A whole header with nothing behind it (`fixed` has one of no bytes).
                Parsed::Length { take, len } if !window.is_empty() => {
                    Some(cut_payload(len, 0, window.len().saturating_sub(take)))
                }
                _ => None,
            },
            At::Payload { len, done } | At::Skip { len, done } => {
                Some(cut_payload(len, done, window.len()))
            }
            At::Lost => None,
        }
    }

    fn is_mid_block(&self) -> bool {
        matches!(self.at, At::Payload { .. } | At::Skip { .. })
    }

    fn block_max(&self, len: usize) -> u32 {
        size_u32(len.saturating_sub(tail_len::<P>()))
    }
}

impl<P: Prefix> CountedDecoder<P> {
    #[inline]
    fn header<const PIECES: bool>(&mut self, window: &[u8], limits: &Limits) -> Step {
        let (take, len) = match self.prefix.parse(window) {
            Parsed::Length { take, len } => (take, len),
            Parsed::More { len } => {
                return Step::More {
                    want: len.saturating_sub(window.len()),
                };
            }
            Parsed::End { take } => {
                self.open = false;
                return Step::End { take };
            }
            Parsed::Bad { found, offset } => {
                self.at = At::Lost;
                return Step::Fault {
                    take: 0,
                    fault: Fault::BadLength { found, offset },
                };
            }
        };
        if P::SERIES {
            self.open = true;
        }
        if !PIECES && limits.block_max < len {
            return self.too_long(take, len, limits);
        }
        // The whole message is often there already: then its header need not be remembered.
        let rest = window.get(take..).unwrap_or_default();
        if let Some(size) = size_usize(len)
            && size <= rest.len()
            && (P::TAIL.is_none() || size < rest.len())
        {
            return self.ended(rest, take, size, true);
        }
        self.at = At::Payload { len, done: 0 };
        if take == 0 {
            self.scan_body::<PIECES>(window, len)
        } else {
            Step::Skip { take }
        }
    }

    /// A message whose header is of no bytes (`fixed`) has just begun.
    fn scan_body<const PIECES: bool>(&mut self, window: &[u8], len: u32) -> Step {
        if PIECES {
            self.piece(window, len, 0)
        } else {
            self.whole(window, len)
        }
    }

    fn whole(&mut self, window: &[u8], len: u32) -> Step {
        let need = size_usize(len)
            .unwrap_or(usize::MAX)
            .saturating_add(tail_len::<P>());
        match need.checked_sub(window.len()) {
            None | Some(0) => self.ended(window, 0, need.saturating_sub(tail_len::<P>()), true),
            Some(want) => Step::More { want },
        }
    }

    fn piece(&mut self, window: &[u8], len: u32, done: u32) -> Step {
        let left = len.saturating_sub(done);
        let here = left.min(size_u32(window.len()));
        let end = size_usize(here).unwrap_or(usize::MAX);
        if here == left && (P::TAIL.is_none() || end < window.len()) {
            return self.ended(window, 0, end, done == 0);
        }
        if here == 0 {
            let want = size_usize(left)
                .unwrap_or(usize::MAX)
                .saturating_add(tail_len::<P>());
            return Step::More { want };
        }
        self.at = At::Payload {
            len,
            done: done.saturating_add(here),
        };
        Step::Payload {
            start: 0,
            end,
            take: end,
            first: done == 0,
            last: false,
        }
    }

    /// `size` bytes of payload behind `start` end a message; what must stand behind them is there too.
    #[inline]
    fn ended(&mut self, payload: &[u8], start: usize, size: usize, first: bool) -> Step {
        self.at = At::Header;
        let end = start.saturating_add(size);
        if let Some(want) = P::TAIL {
            let found = payload.get(size).copied().unwrap_or_default();
            if found != want {
                self.at = At::Lost;
                return Step::Fault {
                    take: end,
                    fault: Fault::BadEnding { want, found },
                };
            }
        }
        Step::Payload {
            start,
            end,
            take: end.saturating_add(tail_len::<P>()),
            first,
            last: true,
        }
    }

    /// A message whose header was read for pieces is wanted whole: it is refused, unless pieces were handed out.
    fn abandon(&mut self, window: &[u8], len: u32, done: u32, limits: &Limits) -> Step {
        if done != 0 && len <= limits.skip_max {
            self.skip(window, len, done)
        } else {
            self.too_long(0, len, limits)
        }
    }

    fn too_long(&mut self, take: usize, len: u32, limits: &Limits) -> Step {
        let lost = limits.skip_max < len;
        self.at = if lost {
            At::Lost
        } else {
            At::Skip { len, done: 0 }
        };
        let fault = Fault::TooLong {
            declared: Some(len),
            limit: limits.block_max,
            lost,
        };
        Step::Fault { take, fault }
    }

    fn skip(&mut self, window: &[u8], len: u32, done: u32) -> Step {
        let left = len.saturating_sub(done);
        if left == 0 {
            return self.skipped(window);
        }
        let here = left.min(size_u32(window.len()));
        if here == 0 {
            let want = size_usize(left)
                .unwrap_or(usize::MAX)
                .saturating_add(tail_len::<P>());
            return Step::More { want };
        }
        let done = done.saturating_add(here);
        let ended = here == left && P::TAIL.is_none();
        self.at = if ended {
            At::Header
        } else {
            At::Skip { len, done }
        };
        Step::Skip {
            take: size_usize(here).unwrap_or(usize::MAX),
        }
    }

    /// The payload of a skipped message has gone by; its tail has not.
    fn skipped(&mut self, window: &[u8]) -> Step {
        let Some(want) = P::TAIL else {
            self.at = At::Header;
            return Step::More { want: 1 };
        };
        match window.first() {
            None => Step::More { want: 1 },
            Some(&found) if found == want => {
                self.at = At::Header;
                Step::Skip { take: 1 }
            }
            Some(&found) => {
                self.at = At::Lost;
                Step::Fault {
                    take: 0,
                    fault: Fault::BadEnding { want, found },
                }
            }
        }
    }
}

/// Encoder of the framings that declare the length of a message.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct CountedEncoder<P> {
    prefix: P,
}

impl<P: Prefix> Encode for CountedEncoder<P> {
    type Stage = [u8; 64];
    const STAGE: [u8; 64] = [0; 64];
    const VERBATIM: bool = true;
    const TAIL_MAX: usize = tail_len::<P>();

    fn head(&mut self, len: u32, stage: &mut [u8]) -> Result<usize, Refusal> {
        self.prefix.write(len, stage)
    }

    fn tail(&mut self, stage: &mut [u8]) -> Result<usize, Refusal> {
        match P::TAIL {
            Some(tail) => put(&[tail], stage),
            None => Ok(0),
        }
    }

    fn end(&mut self, stage: &mut [u8]) -> Result<usize, Refusal> {
        self.prefix.write_end(stage)
    }
}

/// Copies a header to the front of `out`; the length of `out` is the only thing that can be wrong.
pub(crate) fn put(header: &[u8], out: &mut [u8]) -> Result<usize, Refusal> {
    let room = out.len();
    let front = out
        .get_mut(..header.len())
        .ok_or(Refusal::NoRoom { len: room })?;
    copy(header, front);
    Ok(header.len())
}

/// A length in memory as a length on the wire; one that is over 32 bits is as good as the largest.
pub(crate) fn size_u32(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

/// A length on the wire as a length in memory, if it can be one.
pub(crate) fn size_usize(len: u32) -> Option<usize> {
    usize::try_from(len).ok()
}

const fn tail_len<P: Prefix>() -> usize {
    if P::TAIL.is_some() { 1 } else { 0 }
}

fn cut_payload(len: u32, done: u32, window: usize) -> Fault {
    let have = len.min(done.saturating_add(size_u32(window)));
    let want = if have < len {
        len
    } else {
        len.saturating_add(1)
    };
    Fault::Truncated {
        part: Part::Payload,
        have,
        want,
    }
}

fn truncated(part: Part, have: usize, want: usize) -> Fault {
    Fault::Truncated {
        part,
        have: size_u32(have),
        want: size_u32(want),
    }
}
