//! `lines` and `delimited:HEX`: a delimiter after each message.
//!
//! ```text
//! | payload without the delimiter | delimiter: 1 to 8 bytes | …
//! ```

mod decoder;
mod encoder;
mod fast;

use core::fmt;

pub use self::decoder::DelimitedDecoder;
pub use self::encoder::DelimitedEncoder;
use super::{Named, SpecError};
use crate::framing::{Framing, UnitFraming};

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
