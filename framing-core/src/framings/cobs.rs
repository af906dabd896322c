//! `cobs`: a zero byte after each message, and no zero in it.
//!
//! The payload is cut at its zeros into groups, and each group is written after a code byte: its length plus one. A code
//! of 255 stands for 254 bytes that no zero follows.
//!
//! ```text
//! 11 22 00 33   ->   03 11 22 02 33 00
//! ```

mod encoder;

use core::ops::Range;

pub use self::encoder::CobsEncoder;
use super::Named;
use crate::bytes::shift_down;
use crate::fault::{Fault, Part};
use crate::framing::{Decode, Framing, Limits, Step, UnitFraming};
use crate::sealed::Sealed;
use crate::size::size_u32;
use crate::window::SlidingWindow;

/// Any bytes, escaped so that a zero byte can end each message. The receiver finds the next message after any damage.
///
/// Consistent Overhead Byte Stuffing, by Cheshire and Baker, [IEEE/ACM Transactions on Networking 7(2),
/// 1999](https://doi.org/10.1109/90.769765). A message has 0 to 2³²−1 bytes. The overhead is two bytes, and one more for
/// each 254 bytes.
///
/// A zero between messages is skipped, so a sender may begin with one. A damaged message is reported
/// ([`Fault::EarlyEnd`](crate::Fault::EarlyEnd)) or arrives with wrong bytes: let the payload carry a checksum.
///
/// ```
/// use framing_core::{Cobs, Framing, encode};
///
/// let mut out = [0; 16];
/// let len = encode(&mut Cobs.encoder(), b"\x11\x22\0\x33", &mut out)?;
/// assert_eq!(&out[..len], b"\x03\x11\x22\x02\x33\0");
/// # Ok::<(), framing_core::Refusal>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Cobs;

/// Most payload bytes of a group.
const GROUP: usize = 254;
/// The code of a full group, which no zero follows.
const CODE_FULL: u8 = 255;

impl Cobs {
    /// Most bytes on the wire of a message of `len` bytes.
    ///
    /// ```
    /// use framing_core::Cobs;
    ///
    /// assert_eq!(Cobs::wire_len(5), 7);
    /// ```
    #[must_use]
    pub const fn wire_len(len: usize) -> usize {
        len.saturating_add(len / GROUP).saturating_add(2)
    }

    /// Length of a buffer that receives messages of up to `len` bytes whole.
    ///
    /// ```
    /// use framing_core::Cobs;
    ///
    /// assert_eq!(Cobs::buffer_len(5), 7);
    /// ```
    #[must_use]
    pub const fn buffer_len(len: usize) -> usize {
        Self::wire_len(len)
    }
}

impl Framing for Cobs {
    type Decoder = CobsDecoder;
    type Encoder = CobsEncoder;

    fn decoder(&self) -> CobsDecoder {
        Self::DECODER
    }

    fn encoder(&self) -> CobsEncoder {
        Self::ENCODER
    }
}

impl UnitFraming for Cobs {
    const DECODER: CobsDecoder = CobsDecoder::new();
    const ENCODER: CobsEncoder = CobsEncoder::new();
}

impl Named for Cobs {
    const SPEC: &'static str = "cobs";
    const PLAIN: Option<Self> = Some(Self);
}

/// Decoder of [`Cobs`]. Unescapes in the window: a code byte is overwritten by the zero that it stands for.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct CobsDecoder {
    at: CobsState,
    /// The message that is skipped was refused.
    refused: bool,
    /// Bytes of the window that were decoded.
    read: usize,
    /// First byte of unescaped payload in the window.
    start: usize,
    /// First byte after it.
    end: usize,
    /// Payload bytes of this message that have left the window.
    done: u32,
    /// Payload bytes that are missing in this group.
    left: u8,
    /// A zero follows this group, if another group does.
    zero: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
enum CobsState {
    /// Between messages.
    Start,
    Message,
    /// Within a refused message, of which no byte was dropped.
    Refused,
    /// Within the rest of a message that was refused, or handed out in part.
    Skip,
    Lost,
}

impl Sealed for CobsDecoder {}

impl Decode for CobsDecoder {
    type Window = SlidingWindow;

    fn scan<const STREAMING: bool>(&mut self, window: &mut [u8], limits: &Limits) -> Step {
        match self.at {
            CobsState::Lost if window.is_empty() => return Step::NeedMore { want: usize::MAX },
            CobsState::Lost => {
                return Step::Skip {
                    take: window.len(),
                    want: usize::MAX,
                };
            }
            CobsState::Skip => return self.skip(window, limits),
            CobsState::Message if !STREAMING && self.done != 0 => {
                self.at = CobsState::Skip;
                self.refused = false;
                return self.skip(window, limits);
            }
            CobsState::Refused if !STREAMING => {
                self.at = CobsState::Skip;
                return self.skip(window, limits);
            }
            CobsState::Refused => self.at = CobsState::Message,
            CobsState::Start | CobsState::Message => {}
        }
        let limit = (!STREAMING).then_some(limits.block_max);
        match self.unescape(window, limit) {
            Some(step) => step,
            None if STREAMING && self.start < self.end => self.piece(),
            None => Step::NeedMore { want: usize::MAX },
        }
    }

    fn close(&mut self, unread: usize) -> Option<Fault> {
        let gone = size_u32(self.end.saturating_sub(self.start));
        let unread = size_u32(unread.saturating_sub(self.read));
        // The fault of a refused message was reported.
        let cut = match self.at {
            CobsState::Start => unread != 0,
            CobsState::Message => true,
            CobsState::Skip => !self.refused,
            CobsState::Refused | CobsState::Lost => false,
        };
        let have = self.done.saturating_add(gone).saturating_add(unread);
        // At least the rest of the group and the delimiter.
        let want = have.saturating_add(u32::from(self.left)).saturating_add(1);
        *self = Self::new();
        let fault = Fault::Truncated {
            part: Part::Payload,
            have,
            want,
        };
        cut.then_some(fault)
    }

    fn unfinished(&self, _unread: usize) -> Range<usize> {
        match self.at {
            CobsState::Message => self.start..self.end,
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
        size_u32(len.saturating_sub(len.saturating_add(1) / (GROUP + 1)))
    }
}

impl CobsDecoder {
    const fn new() -> Self {
        Self {
            at: CobsState::Start,
            refused: false,
            read: 0,
            start: 0,
            end: 0,
            done: 0,
            left: 0,
            zero: false,
        }
    }

    /// Unescapes the bytes of this message in the window; `None` if its end is not among them.
    fn unescape(&mut self, window: &mut [u8], limit: Option<u32>) -> Option<Step> {
        loop {
            let step = if self.left == 0 {
                self.code(window, limit)?
            } else {
                self.group(window, limit)?
            };
            if step.is_some() {
                return step;
            }
        }
    }

    /// Reads a code byte, or the delimiter. `None`: needs more bytes; `Some(None)`: continue.
    #[allow(
        clippy::option_option,
        reason = "the outer one is for `?`, the inner one is the answer"
    )]
    fn code(&mut self, window: &mut [u8], limit: Option<u32>) -> Option<Option<Step>> {
        let code = *window.get(self.read)?;
        if code == 0 {
            return Some(Some(self.delimiter()));
        }
        if self.at == CobsState::Start {
            // The first code byte stands for no zero: payload begins after it.
            self.at = CobsState::Message;
            self.start = self.read + 1;
            self.end = self.start;
        } else if self.zero {
            if let Some(limit) = limit
                && self.len() == limit
            {
                return Some(Some(self.too_long(limit)));
            }
            if let Some(slot) = window.get_mut(self.end) {
                *slot = 0;
            }
            self.end += 1;
        }
        self.read += 1;
        self.left = code - 1;
        self.zero = code != CODE_FULL;
        Some(None)
    }

    /// Takes payload bytes of a group. Returns as [`Self::code`].
    #[allow(clippy::option_option, reason = "as above")]
    fn group(&mut self, window: &mut [u8], limit: Option<u32>) -> Option<Option<Step>> {
        let ahead = window.get(self.read..)?;
        let ahead = ahead.get(..usize::from(self.left)).unwrap_or(ahead);
        if ahead.is_empty() {
            return None;
        }
        let zero = memchr::memchr(0, ahead);
        let take = zero.unwrap_or(ahead.len());
        if let Some(limit) = limit
            && limit.saturating_sub(self.len()) < size_u32(take)
        {
            return Some(Some(self.too_long(limit)));
        }
        if self.read != self.end {
            // Only after 254 bytes: no zero follows a full group, so its code byte leaves a gap.
            shift_down(window, self.read, self.end, take);
        }
        self.read += take;
        self.end += take;
        self.left = self.left.saturating_sub(size_u32(take).to_le_bytes()[0]);
        if zero.is_some() {
            let fault = Fault::EarlyEnd { missing: self.left };
            let take = self.read + 1;
            *self = Self::new();
            return Some(Some(Step::Fault { take, fault }));
        }
        Some(None)
    }

    /// A zero at `read`: the end of a message, or an extra one.
    fn delimiter(&mut self) -> Step {
        let Self {
            at,
            read,
            start,
            end,
            done,
            ..
        } = *self;
        *self = Self::new();
        match at {
            CobsState::Start => Step::Skip {
                take: read + 1,
                want: usize::MAX,
            },
            _ => Step::Payload {
                start,
                end,
                take: read + 1,
                first: done == 0,
                last: true,
            },
        }
    }

    fn piece(&mut self) -> Step {
        let first = self.done == 0;
        let Self {
            read, start, end, ..
        } = *self;
        self.done = self.len();
        (self.read, self.start, self.end) = (0, 0, 0);
        Step::Payload {
            start,
            end,
            take: read,
            first,
            last: false,
        }
    }

    /// Payload bytes of this message so far.
    fn len(&self) -> u32 {
        self.done
            .saturating_add(size_u32(self.end.saturating_sub(self.start)))
    }

    fn too_long(&mut self, limit: u32) -> Step {
        self.at = CobsState::Refused;
        self.refused = true;
        let fault = Fault::TooLong {
            declared: None,
            limit,
            lost: false,
        };
        Step::Fault { take: 0, fault }
    }

    /// Drops the bytes of the message in the window: first the unescaped ones, which may contain zeros.
    fn skip(&mut self, window: &[u8], limits: &Limits) -> Step {
        let unescaped = self.read;
        (self.read, self.start, self.end, self.left) = (0, 0, 0, 0);
        if unescaped != 0 {
            self.done = self.done.saturating_add(size_u32(unescaped));
            return Step::Skip {
                take: unescaped,
                want: usize::MAX,
            };
        }
        let zero = memchr::memchr(0, window);
        let gone = zero.unwrap_or(window.len());
        self.done = self.done.saturating_add(size_u32(gone));
        if limits.skip_max < self.done {
            self.at = CobsState::Lost;
            if self.refused {
                let (take, want) = (window.len(), usize::MAX);
                return Step::Skip { take, want };
            }
            let fault = Fault::TooLong {
                declared: None,
                limit: limits.block_max,
                lost: true,
            };
            return Step::Fault { take: gone, fault };
        }
        match zero {
            Some(zero) => {
                *self = Self::new();
                Step::Skip {
                    take: zero + 1,
                    want: usize::MAX,
                }
            }
            None if window.is_empty() => Step::NeedMore { want: usize::MAX },
            None => Step::Skip {
                take: gone,
                want: usize::MAX,
            },
        }
    }
}
