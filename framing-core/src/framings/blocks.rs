//! `blocks`: messages with a length of four bytes, ended by a length of zero.
//!
//! From `blocks.py` in *Foundations of Python Network Programming*.
//!
//! ```text
//! | u32, big-endian: n > 0 | n bytes |  …  | 00 00 00 00 |
//! ```

use super::Named;
use super::counted::{UnitPrefix, put};
use super::prefix::{Parsed, Prefix};
use crate::fault::Refusal;

/// A 4-byte big-endian length and the payload, repeated; a length of zero ends the series.
///
/// A message has 1 to 2³²−1 bytes. An empty one is refused ([`Refusal::Empty`]), since it would end the series;
/// `Writer::finish` ends the series.
///
/// Except for the meaning of zero, it is the format of Erlang's `{packet,4}`, Twisted's `Int32StringReceiver` and
/// tokio-util's `LengthDelimitedCodec`.
///
/// ```
/// use framing_core::{Blocks, Framing, encode};
///
/// let mut out = [0; 16];
/// let len = encode(&mut Blocks.encoder(), b"hello", &mut out)?;
/// assert_eq!(&out[..len], b"\0\0\0\x05hello");
/// # Ok::<(), framing_core::Refusal>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Blocks;

impl Blocks {
    /// Bytes on the wire of a message of `len` bytes.
    ///
    /// ```
    /// use framing_core::Blocks;
    ///
    /// assert_eq!(Blocks::wire_len(5), 9);
    /// ```
    #[must_use]
    pub const fn wire_len(len: usize) -> usize {
        len.saturating_add(4)
    }

    /// Length of the smallest buffer that receives messages of up to `len` bytes whole.
    ///
    /// ```
    /// use framing_core::Blocks;
    ///
    /// assert_eq!(Blocks::buffer_len(5), 5);
    /// ```
    #[must_use]
    pub const fn buffer_len(len: usize) -> usize {
        if len < 4 { 4 } else { len }
    }
}

impl Prefix for Blocks {
    const HEADER_MAX: usize = 4;
    const SERIES: bool = true;
    const CHECKED: bool = false;

    #[inline]
    fn header_min(&self, _have: usize) -> usize {
        4
    }

    #[inline]
    fn parse(&self, window: &[u8]) -> Parsed {
        match window.first_chunk() {
            None => Parsed::NeedMore { len: 4 },
            Some(header) => match u32::from_be_bytes(*header) {
                0 => Parsed::End { take: 4 },
                len => Parsed::Length { take: 4, len },
            },
        }
    }

    #[inline]
    fn write(&self, len: u32, out: &mut [u8]) -> Result<usize, Refusal> {
        if len == 0 {
            return Err(Refusal::Empty);
        }
        put(len.to_be_bytes(), out)
    }

    fn write_end(&self, out: &mut [u8]) -> Result<usize, Refusal> {
        put([0; 4], out)
    }
}

impl UnitPrefix for Blocks {
    const UNIT: Self = Self;
}

impl Named for Blocks {
    const SPEC: &'static str = "blocks";
    const PLAIN: Option<Self> = Some(Self);
}
