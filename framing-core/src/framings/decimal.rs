//! `netstring` and `octet-counted`: a decimal length before each message.
//!
//! ```text
//! netstring      5:hello,
//! octet-counted  5 hello
//! ```
//!
//! Lengths are read strictly and refused at the first invalid byte: no leading zero, no sign, no space, at most ten
//! digits, at most 2³²−1. After an invalid length no boundary can be found.

use super::Named;
use super::counted::{UnitPrefix, put_slice};
use super::prefix::{Parsed, Prefix};
use crate::fault::Refusal;

/// Longest header, in bytes: ten digits, and a colon or a space.
const LEN_MAX: usize = 11;

/// A decimal length, a colon, the payload, a comma: [netstrings](https://cr.yp.to/proto/netstrings.txt), by D. J.
/// Bernstein.
///
/// A message has 0 to 2³²−1 bytes. A leading zero is refused, except in the length of an empty message.
///
/// ```
/// use framing_core::{Netstring, Framing, encode};
///
/// let mut out = [0; 16];
/// let len = encode(&mut Netstring.encoder(), b"hello", &mut out)?;
/// assert_eq!(&out[..len], b"5:hello,");
/// # Ok::<(), framing_core::Refusal>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Netstring;

impl Netstring {
    /// Most bytes on the wire of a message of `len` bytes.
    ///
    /// ```
    /// use framing_core::Netstring;
    ///
    /// assert_eq!(Netstring::wire_len(5), 17);
    /// ```
    #[must_use]
    pub const fn wire_len(len: usize) -> usize {
        len.saturating_add(LEN_MAX + 1)
    }

    /// Length of a buffer that receives messages of up to `len` bytes whole, and that holds the longest header.
    ///
    /// ```
    /// use framing_core::Netstring;
    ///
    /// assert_eq!(Netstring::buffer_len(5), 11);
    /// ```
    #[must_use]
    pub const fn buffer_len(len: usize) -> usize {
        if len < LEN_MAX {
            LEN_MAX
        } else {
            len.saturating_add(1)
        }
    }
}

impl Prefix for Netstring {
    const HEADER_MAX: usize = LEN_MAX;
    const TRAILER: Option<u8> = Some(b',');
    const CHECKED: bool = false;

    #[inline]
    fn header_min(&self, have: usize) -> usize {
        have.saturating_add(if have == 0 { 2 } else { 1 })
    }

    #[inline]
    fn parse(&self, window: &[u8]) -> Parsed {
        parse(window, b':', true)
    }

    fn write(&self, len: u32, out: &mut [u8]) -> Result<usize, Refusal> {
        write(len, b':', out)
    }
}

impl UnitPrefix for Netstring {
    const UNIT: Self = Self;
}

impl Named for Netstring {
    const SPEC: &'static str = "netstring";
    const PLAIN: Option<Self> = Some(Self);
}

/// A decimal length, a space, the payload: octet counting of syslog over TCP, [RFC 6587, section
/// 3.4.1](https://www.rfc-editor.org/rfc/rfc6587#section-3.4.1).
///
/// A message has 1 to 2³²−1 bytes: the RFC has no empty ones ([`Refusal::Empty`]). A leading zero is refused.
///
/// ```
/// use framing_core::{OctetCounted, Framing, encode};
///
/// let mut out = [0; 16];
/// let len = encode(&mut OctetCounted.encoder(), b"hello", &mut out)?;
/// assert_eq!(&out[..len], b"5 hello");
/// # Ok::<(), framing_core::Refusal>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct OctetCounted;

impl OctetCounted {
    /// Most bytes on the wire of a message of `len` bytes.
    ///
    /// ```
    /// use framing_core::OctetCounted;
    ///
    /// assert_eq!(OctetCounted::wire_len(5), 16);
    /// ```
    #[must_use]
    pub const fn wire_len(len: usize) -> usize {
        len.saturating_add(LEN_MAX)
    }

    /// Length of a buffer that receives messages of up to `len` bytes whole, and that holds the longest header.
    ///
    /// ```
    /// use framing_core::OctetCounted;
    ///
    /// assert_eq!(OctetCounted::buffer_len(5), 11);
    /// ```
    #[must_use]
    pub const fn buffer_len(len: usize) -> usize {
        if len < LEN_MAX { LEN_MAX } else { len }
    }
}

impl Prefix for OctetCounted {
    const HEADER_MAX: usize = LEN_MAX;
    const CHECKED: bool = false;

    #[inline]
    fn header_min(&self, have: usize) -> usize {
        have.saturating_add(if have == 0 { 2 } else { 1 })
    }

    #[inline]
    fn parse(&self, window: &[u8]) -> Parsed {
        parse(window, b' ', false)
    }

    fn write(&self, len: u32, out: &mut [u8]) -> Result<usize, Refusal> {
        if len == 0 {
            return Err(Refusal::Empty);
        }
        write(len, b' ', out)
    }
}

impl UnitPrefix for OctetCounted {
    const UNIT: Self = Self;
}

impl Named for OctetCounted {
    const SPEC: &'static str = "octet-counted";
    const PLAIN: Option<Self> = Some(Self);
}

fn parse(window: &[u8], end: u8, zero: bool) -> Parsed {
    let mut len: u32 = 0;
    for (offset, &found) in (0u8..).zip(window) {
        let digit = found.wrapping_sub(b'0');
        // A leading zero must be the only digit.
        if digit < 10
            && (offset == 0 || len != 0)
            && let Some(tens) = len.checked_mul(10)
            && let Some(next) = tens.checked_add(u32::from(digit))
            && (zero || next != 0)
        {
            len = next;
        } else if found == end && offset != 0 {
            let take = usize::from(offset) + 1;
            return Parsed::Length { take, len };
        } else {
            return Parsed::Bad { found, offset };
        }
    }
    // At least a digit and the byte after it, then one byte at a time.
    Parsed::NeedMore {
        len: window.len().saturating_add(1).max(2),
    }
}

fn write(len: u32, end: u8, out: &mut [u8]) -> Result<usize, Refusal> {
    let mut text = [end; LEN_MAX];
    let mut rest = len;
    let mut digits = 0;
    // From the last digit to the first.
    for slot in text.iter_mut().rev().skip(1) {
        *slot = b'0' + (rest % 10).to_le_bytes()[0];
        rest /= 10;
        digits += 1;
        if rest == 0 {
            break;
        }
    }
    put_slice(text.get(LEN_MAX - 1 - digits..).unwrap_or_default(), out)
}
