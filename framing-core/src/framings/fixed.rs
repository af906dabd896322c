//! `fixed:N`: messages of one length.
//!
//! From `tcp_sixteen.py` in *Foundations of Python Network Programming*.
//!
//! ```text
//! | N bytes | N bytes | …
//! ```

use core::fmt;
use core::num::NonZeroU32;

use super::prefix::{Parsed, Prefix};
use super::{Named, SpecError};
use crate::fault::Refusal;

/// Messages of `N` bytes each, with nothing between them; `N` is 1 to 2³²−1.
///
/// A message of another length is refused ([`Refusal::WrongLength`]).
///
/// ```
/// use framing_core::{Fixed, Framing, encode};
/// use core::num::NonZeroU32;
///
/// const FIVE: Fixed = Fixed::new(NonZeroU32::new(5).unwrap());
/// assert_eq!(FIVE.len(), 5);
/// let mut out = [0; 16];
/// let len = encode(&mut FIVE.encoder(), b"hello", &mut out)?;
/// assert_eq!(&out[..len], b"hello");
/// # Ok::<(), framing_core::Refusal>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Fixed {
    len: NonZeroU32,
}

impl Fixed {
    /// The framing of messages of `len` bytes.
    #[must_use]
    pub const fn new(len: NonZeroU32) -> Self {
        Self { len }
    }

    /// Length of each message, in bytes.
    #[must_use]
    #[allow(
        clippy::len_without_is_empty,
        reason = "the length of its messages, which is never zero"
    )]
    pub const fn len(&self) -> u32 {
        self.len.get()
    }

    /// Bytes on the wire of a message of `len` bytes.
    ///
    /// ```
    /// use framing_core::Fixed;
    ///
    /// assert_eq!(Fixed::wire_len(5), 5);
    /// ```
    #[must_use]
    pub const fn wire_len(len: usize) -> usize {
        len
    }

    /// Length of the smallest buffer that receives messages of `len` bytes whole.
    ///
    /// ```
    /// use framing_core::Fixed;
    ///
    /// assert_eq!(Fixed::buffer_len(5), 5);
    /// ```
    #[must_use]
    pub const fn buffer_len(len: usize) -> usize {
        len
    }
}

impl Prefix for Fixed {
    const HEADER_MAX: usize = 0;
    const CHECKED: bool = false;

    #[inline]
    fn header_min(&self, _have: usize) -> usize {
        usize::try_from(self.len()).unwrap_or(usize::MAX)
    }

    #[inline]
    fn parse(&self, window: &[u8]) -> Parsed {
        if window.is_empty() {
            Parsed::NeedMore {
                len: usize::try_from(self.len()).unwrap_or(usize::MAX),
            }
        } else {
            Parsed::Length {
                take: 0,
                len: self.len(),
            }
        }
    }

    fn write(&self, len: u32, _out: &mut [u8]) -> Result<usize, Refusal> {
        if len == self.len() {
            Ok(0)
        } else {
            Err(Refusal::WrongLength {
                len,
                want: self.len(),
            })
        }
    }
}

impl Named for Fixed {
    const SPEC: &'static str = "fixed:N";

    fn parse_spec(spec: &str) -> Option<Result<Self, SpecError>> {
        let len = spec.strip_prefix("fixed:")?;
        let digits = len.bytes().all(|byte| byte.is_ascii_digit());
        let len = len.parse().ok().filter(|_| digits);
        Some(len.map(Self::new).ok_or(SpecError::BadLength))
    }

    fn fmt_spec(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fixed:{}", self.len)
    }
}
