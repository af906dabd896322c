//! `lines` and `delimited:HEX`: a delimiter after each message.
//!
//! ```text
//! | payload without the delimiter | delimiter: 1 to 8 bytes | …
//! ```

mod encoder;

use core::fmt;
use core::ops::Range;

pub use self::encoder::DelimitedEncoder;
use super::{Named, SpecError};
use crate::fault::{Fault, Part};
use crate::framing::{Decode, Framing, Limits, Step, UnitFraming};
use crate::sealed::Sealed;
use crate::size::{size_u32, size_usize};
use crate::window::SlidingWindow;

/// Messages that end in a delimiter of 1 to 8 bytes; the first occurrence ends the message.
///
/// A payload that contains the delimiter is refused ([`Refusal::Delimiter`](crate::Refusal::Delimiter)). So is one that
/// forms it too early with the delimiter that follows (`xa` before `aa`). Use [`Cobs`](crate::Cobs) to send any bytes. A
/// message has any length, and may be empty.
///
/// ```
/// use framing_core::{Delimited, Framing, encode};
///
/// const CRLF: Delimited = Delimited::new(b"\r\n").unwrap();
/// assert_eq!(CRLF.delimiter(), b"\r\n");
/// let mut out = [0; 16];
/// let len = encode(&mut CRLF.encoder(), b"hello", &mut out)?;
/// assert_eq!(&out[..len], b"hello\r\n");
/// # Ok::<(), framing_core::Refusal>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Delimited {
    bytes: [u8; Self::LEN_MAX],
    len: usize,
}

impl Delimited {
    /// Longest delimiter, in bytes.
    pub const LEN_MAX: usize = 8;

    /// The framing with this delimiter; `None` unless it has 1 to 8 bytes.
    #[must_use]
    pub const fn new(delimiter: &[u8]) -> Option<Self> {
        // A loop over a slice has a path to a panic in a `const fn`.
        let bytes = match *delimiter {
            [a] => [a, 0, 0, 0, 0, 0, 0, 0],
            [a, b] => [a, b, 0, 0, 0, 0, 0, 0],
            [a, b, c] => [a, b, c, 0, 0, 0, 0, 0],
            [a, b, c, d] => [a, b, c, d, 0, 0, 0, 0],
            [a, b, c, d, e] => [a, b, c, d, e, 0, 0, 0],
            [a, b, c, d, e, f] => [a, b, c, d, e, f, 0, 0],
            [a, b, c, d, e, f, g] => [a, b, c, d, e, f, g, 0],
            [a, b, c, d, e, f, g, h] => [a, b, c, d, e, f, g, h],
            _ => return None,
        };
        let len = delimiter.len();
        Some(Self { bytes, len })
    }

    /// The delimiter.
    #[must_use]
    pub fn delimiter(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// Most bytes on the wire of a message of `len` bytes.
    ///
    /// ```
    /// use framing_core::Delimited;
    ///
    /// assert_eq!(Delimited::wire_len(5), 13);
    /// ```
    #[must_use]
    pub const fn wire_len(len: usize) -> usize {
        len.saturating_add(Self::LEN_MAX)
    }

    /// Length of a buffer that receives messages of up to `len` bytes whole, with any delimiter.
    ///
    /// ```
    /// use framing_core::Delimited;
    ///
    /// assert_eq!(Delimited::buffer_len(5), 13);
    /// ```
    #[must_use]
    pub const fn buffer_len(len: usize) -> usize {
        len.saturating_add(Self::LEN_MAX)
    }
}

impl Framing for Delimited {
    type Decoder = DelimitedDecoder;
    type Encoder = DelimitedEncoder;

    fn decoder(&self) -> DelimitedDecoder {
        DelimitedDecoder::new(*self, false)
    }

    fn encoder(&self) -> DelimitedEncoder {
        DelimitedEncoder::new(*self, false)
    }
}

impl Named for Delimited {
    const SPEC: &'static str = "delimited:HEX";

    fn parse_spec(spec: &str) -> Option<Result<Self, SpecError>> {
        let hex = spec.strip_prefix("delimited:")?;
        let digit = |byte: u8| {
            char::from(byte)
                .to_digit(16)
                .and_then(|digit| u8::try_from(digit).ok())
        };
        let mut bytes = [0; Self::LEN_MAX];
        let pairs = hex.as_bytes().chunks(2);
        if pairs.len() == 0 || Self::LEN_MAX < pairs.len() {
            return Some(Err(SpecError::BadDelimiter));
        }
        let len = pairs.len();
        for (slot, pair) in bytes.iter_mut().zip(pairs) {
            let &[high, low] = pair else {
                return Some(Err(SpecError::BadDelimiter));
            };
            let (Some(high), Some(low)) = (digit(high), digit(low)) else {
                return Some(Err(SpecError::BadDelimiter));
            };
            *slot = high << 4 | low;
        }
        Some(Ok(Self { bytes, len }))
    }

    fn fmt_spec(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("delimited:")?;
        self.delimiter()
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Lines of text: `\n` ends a message, and one `\r` before it is not part of the message. Sent with `\n` alone.
///
/// A payload that contains `\n`, or ends in `\r`, is refused ([`Refusal::Delimiter`](crate::Refusal::Delimiter)). A
/// message has any length, and may be empty.
///
/// ```
/// use framing_core::{Lines, Framing, encode};
///
/// let mut out = [0; 16];
/// let len = encode(&mut Lines.encoder(), b"hello", &mut out)?;
/// assert_eq!(&out[..len], b"hello\n");
/// # Ok::<(), framing_core::Refusal>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Lines;

impl Lines {
    const DELIMITER: Delimited = Delimited {
        bytes: [b'\n', 0, 0, 0, 0, 0, 0, 0],
        len: 1,
    };

    /// Most bytes on the wire of a message of `len` bytes.
    ///
    /// ```
    /// use framing_core::Lines;
    ///
    /// assert_eq!(Lines::wire_len(5), 7);
    /// ```
    #[must_use]
    pub const fn wire_len(len: usize) -> usize {
        len.saturating_add(2)
    }

    /// Length of a buffer that receives messages of up to `len` bytes whole.
    ///
    /// ```
    /// use framing_core::Lines;
    ///
    /// assert_eq!(Lines::buffer_len(5), 7);
    /// ```
    #[must_use]
    pub const fn buffer_len(len: usize) -> usize {
        len.saturating_add(2)
    }
}

impl Framing for Lines {
    type Decoder = DelimitedDecoder;
    type Encoder = DelimitedEncoder;

    fn decoder(&self) -> DelimitedDecoder {
        Self::DECODER
    }

    fn encoder(&self) -> DelimitedEncoder {
        Self::ENCODER
    }
}

impl UnitFraming for Lines {
    const DECODER: DelimitedDecoder = DelimitedDecoder::new(Self::DELIMITER, true);
    const ENCODER: DelimitedEncoder = DelimitedEncoder::new(Self::DELIMITER, true);
}

impl Named for Lines {
    const SPEC: &'static str = "lines";
    const PLAIN: Option<Self> = Some(Self);
}

/// Decoder of [`Delimited`] and [`Lines`].
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct DelimitedDecoder {
    delimiter: Delimited,
    lines: bool,
    at: DelimitedState,
    /// The message that is skipped was refused.
    refused: bool,
    /// Bytes at the front of the window in which no delimiter begins. One may begin right after them.
    searched: usize,
    /// Payload bytes of this message that have left the window.
    done: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
enum DelimitedState {
    Message,
    /// Within a message that was refused, or handed out in part.
    Skip,
    Lost,
}

impl Sealed for DelimitedDecoder {}

impl Decode for DelimitedDecoder {
    type Window = SlidingWindow;

    fn scan<const STREAMING: bool>(&mut self, window: &mut [u8], limits: &Limits) -> Step {
        match self.at {
            DelimitedState::Lost if window.is_empty() => Step::NeedMore { want: usize::MAX },
            DelimitedState::Lost => Step::Skip {
                take: window.len(),
                want: usize::MAX,
            },
            // Refused, but no byte of it was dropped.
            DelimitedState::Skip if STREAMING && self.done == 0 => {
                self.at = DelimitedState::Message;
                self.piece(window)
            }
            DelimitedState::Skip => self.skip(window, limits),
            DelimitedState::Message if STREAMING => self.piece(window),
            DelimitedState::Message if self.done != 0 => {
                self.at = DelimitedState::Skip;
                self.refused = false;
                self.skip(window, limits)
            }
            DelimitedState::Message => self.whole(window, limits),
        }
    }

    fn close(&mut self, unread: usize) -> Option<Fault> {
        let have = self.done.saturating_add(size_u32(unread));
        // The fault of a refused message was reported.
        let refused = self.at == DelimitedState::Skip && self.refused;
        let cut = have != 0 && self.at != DelimitedState::Lost && !refused;
        *self = Self::new(self.delimiter, self.lines);
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
    const fn new(delimiter: Delimited, lines: bool) -> Self {
        Self {
            delimiter,
            lines,
            at: DelimitedState::Message,
            refused: false,
            searched: 0,
            done: 0,
        }
    }

    /// Most bytes that end a message.
    fn ending_max(&self) -> usize {
        self.delimiter.len + usize::from(self.lines)
    }

    fn whole(&mut self, window: &[u8], limits: &Limits) -> Step {
        let limit = size_usize(limits.block_max).unwrap_or(usize::MAX);
        if let Some(found) = self.find(window) {
            let end = self.payload_end(window, found);
            if end <= limit {
                return self.ended(end, found + self.delimiter.len);
            }
        } else if window.len() < limit.saturating_add(self.ending_max()) {
            return Step::NeedMore { want: usize::MAX };
        }
        // Skip the bytes in the window as those that follow: they are searched again, but only once.
        self.at = DelimitedState::Skip;
        self.refused = true;
        self.searched = 0;
        let fault = Fault::TooLong {
            declared: None,
            limit: limits.block_max,
            lost: false,
        };
        Step::Fault { take: 0, fault }
    }

    fn piece(&mut self, window: &[u8]) -> Step {
        let first = self.done == 0;
        if let Some(found) = self.find(window) {
            let end = self.payload_end(window, found);
            return match self.ended(end, found + self.delimiter.len) {
                Step::Payload {
                    start,
                    end,
                    take,
                    last,
                    ..
                } => Step::Payload {
                    start,
                    end,
                    take,
                    first,
                    last,
                },
                step => step,
            };
        }
        // Keep bytes that may be the beginning of the delimiter in the window.
        let end = self.payload_end(window, self.searched);
        if end == 0 {
            return Step::NeedMore { want: usize::MAX };
        }
        self.done = self.done.saturating_add(size_u32(end));
        self.searched = self.searched.saturating_sub(end);
        Step::Payload {
            start: 0,
            end,
            take: end,
            first,
            last: false,
        }
    }

    fn skip(&mut self, window: &[u8], limits: &Limits) -> Step {
        let found = self.find(window);
        let gone = found.unwrap_or(self.searched);
        let done = self.done.saturating_add(size_u32(gone));
        if limits.skip_max < done {
            self.at = DelimitedState::Lost;
            if self.refused {
                let (take, want) = (gone, usize::MAX);
                return Step::Skip { take, want };
            }
            let fault = Fault::TooLong {
                declared: None,
                limit: limits.block_max,
                lost: true,
            };
            return Step::Fault { take: 0, fault };
        }
        if let Some(found) = found {
            self.ended(found, found + self.delimiter.len);
            return Step::Skip {
                want: usize::MAX,
                take: found + self.delimiter.len,
            };
        }
        if gone == 0 {
            return Step::NeedMore { want: usize::MAX };
        }
        self.done = done;
        self.searched = self.searched.saturating_sub(gone);
        Step::Skip {
            take: gone,
            want: usize::MAX,
        }
    }

    fn ended(&mut self, end: usize, take: usize) -> Step {
        self.at = DelimitedState::Message;
        self.searched = 0;
        self.done = 0;
        Step::Payload {
            start: 0,
            end,
            take,
            first: true,
            last: true,
        }
    }

    /// Position of the first delimiter. Stores how far it searched.
    fn find(&mut self, window: &[u8]) -> Option<usize> {
        let delimiter = self.delimiter.delimiter();
        let (&first, others) = delimiter.split_first()?;
        let mut at = self.searched;
        while let Some(ahead) = window.get(at..)
            && let Some(next) = memchr::memchr(first, ahead)
        {
            at += next;
            let after = window.get(at + 1..).unwrap_or_default();
            let after = after.get(..others.len()).unwrap_or(after);
            if after == others {
                return Some(at);
            }
            if others.get(..after.len()) == Some(after) {
                // It may begin here: its rest is not received yet.
                self.searched = at;
                return None;
            }
            at += 1;
        }
        self.searched = window.len();
        None
    }

    /// Where the payload ends if the delimiter begins at `found`.
    fn payload_end(&self, window: &[u8], found: usize) -> usize {
        let before = found.checked_sub(1).and_then(|at| window.get(at));
        let carriage_return = self.lines && before == Some(&b'\r');
        found - usize::from(carriage_return)
    }
}
