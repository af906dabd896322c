//! `length:u8`, `length:u16`, `length:u16le`, `length:u32`, `length:u32le`: a binary length before each message.
//! `length:varint`: a length as an LEB128 number.
//!
//! ```text
//! | n: 1, 2 or 4 bytes | n bytes |
//! ```

use core::fmt::Debug;
use core::marker::PhantomData;

use super::Named;
use super::counted::{UnitPrefix, put};
use super::prefix::{Parsed, Prefix};
use crate::fault::Refusal;
use crate::sealed::Sealed;

/// A binary length of a fixed width before each message: `Length::<U16Le>::new()`.
///
/// A message has 0 bytes to the largest number of the width. There is no end mark: an empty message is a message.
///
/// ```
/// use framing_core::{Framing, Length, U16Le, encode};
///
/// let mut out = [0; 16];
/// let len = encode(&mut Length::<U16Le>::new().encoder(), b"hello", &mut out)?;
/// assert_eq!(&out[..len], b"\x05\0hello");
/// # Ok::<(), framing_core::Refusal>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Length<W> {
    width: PhantomData<W>,
}

/// Width and byte order of a [`Length`]. Only this crate implements it; use [`Prefix`] for other headers.
///
/// ```
/// use framing_core::{Length, U8, U16, Width};
///
/// fn longest<W: Width>(_framing: Length<W>) -> u32 {
///     W::MAX
/// }
///
/// assert_eq!(longest(Length::<U8>::new()), 255);
/// assert_eq!(longest(Length::<U16>::new()), 65_535);
/// ```
pub trait Width: Sealed + Copy + Debug + 'static {
    /// Name of the framing at run time.
    const SPEC: &'static str;
    /// Width of the length, in bytes.
    const LEN: usize;
    /// Longest message, in bytes.
    const MAX: u32;

    /// Reads the length at the front of the window; `None` if the window is too short.
    fn read(window: &[u8]) -> Option<u32>;
    /// Writes a length of at most [`Self::MAX`] to the front of `out`; returns its width in bytes.
    ///
    /// # Errors
    /// [`Refusal::NoRoom`] if `out` is too short.
    fn write(len: u32, out: &mut [u8]) -> Result<usize, Refusal>;
}

impl<W: Width> Length<W> {
    /// The framing.
    #[must_use]
    pub const fn new() -> Self {
        Self { width: PhantomData }
    }

    /// Bytes on the wire of a message of `len` bytes.
    ///
    /// ```
    /// use framing_core::{Length, U16};
    ///
    /// assert_eq!(Length::<U16>::wire_len(5), 7);
    /// ```
    #[must_use]
    pub const fn wire_len(len: usize) -> usize {
        len.saturating_add(W::LEN)
    }

    /// Length of the smallest buffer that receives messages of up to `len` bytes whole.
    ///
    /// ```
    /// use framing_core::{Length, U16};
    ///
    /// assert_eq!(Length::<U16>::buffer_len(5), 5);
    /// ```
    #[must_use]
    pub const fn buffer_len(len: usize) -> usize {
        if len < W::LEN { W::LEN } else { len }
    }
}

impl<W: Width> Prefix for Length<W> {
    const HEADER_MAX: usize = W::LEN;
    const CHECKED: bool = false;

    #[inline]
    fn header_min(&self, _have: usize) -> usize {
        W::LEN
    }

    #[inline]
    fn parse(&self, window: &[u8]) -> Parsed {
        match W::read(window) {
            None => Parsed::NeedMore { len: W::LEN },
            Some(len) => Parsed::Length { take: W::LEN, len },
        }
    }

    #[inline]
    fn write(&self, len: u32, out: &mut [u8]) -> Result<usize, Refusal> {
        if W::MAX < len {
            return Err(Refusal::TooLong { len, max: W::MAX });
        }
        W::write(len, out)
    }
}

impl<W: Width> UnitPrefix for Length<W> {
    const UNIT: Self = Self::new();
}

impl<W: Width> Named for Length<W> {
    const SPEC: &'static str = W::SPEC;
    const PLAIN: Option<Self> = Some(Self::new());
}

macro_rules! widths {
    ($($name:ident $uint:ident $from:ident $to:ident $spec:literal $wire:literal $doc:literal;)*) => { $(
        #[doc = $doc]
        ///
        /// ```
        #[doc = concat!("use framing_core::{Framing, Length, ", stringify!($name), ", encode};")]
        ///
        /// let mut out = [0; 16];
        #[doc = concat!("let len = encode(&mut Length::<", stringify!($name), ">::new().encoder(), b\"hello\", &mut out)?;")]
        #[doc = concat!("assert_eq!(&out[..len], b\"", $wire, "hello\");")]
        /// # Ok::<(), framing_core::Refusal>(())
        /// ```
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[cfg_attr(feature = "defmt", derive(defmt::Format))]
        pub struct $name;

        impl Sealed for $name {}

        impl Width for $name {
            const SPEC: &'static str = $spec;
            const LEN: usize = size_of::<$uint>();
            const MAX: u32 = $uint::MAX as u32;

            #[inline]
            fn read(window: &[u8]) -> Option<u32> {
                window.first_chunk().map(|bytes| u32::from($uint::$from(*bytes)))
            }

            fn write(len: u32, out: &mut [u8]) -> Result<usize, Refusal> {
                // `Prefix::write` refuses lengths that do not fit.
                let len = $uint::try_from(len).unwrap_or($uint::MAX);
                put(len.$to(), out)
            }
        }
    )* };
}

widths! {
    U8    u8  from_be_bytes to_be_bytes "length:u8"    r"\x05"       "A length of one byte: messages of up to 255 bytes.";
    U16   u16 from_be_bytes to_be_bytes "length:u16"   r"\0\x05"     "A length of two bytes, big-endian: messages of up to 65,535 bytes.";
    U16Le u16 from_le_bytes to_le_bytes "length:u16le" r"\x05\0"     "A length of two bytes, little-endian: messages of up to 65,535 bytes.";
    U32   u32 from_be_bytes to_be_bytes "length:u32"   r"\0\0\0\x05" "A length of four bytes, big-endian: messages of up to 2³²−1 bytes.";
    U32Le u32 from_le_bytes to_le_bytes "length:u32le" r"\x05\0\0\0" "A length of four bytes, little-endian: messages of up to 2³²−1 bytes.";
}

/// `length:varint`: the length as an unsigned LEB128 number, as in Protocol Buffers' delimited streams.
///
/// A message has 0 to 2³²−1 bytes, and its length one to five. A number over 32 bits is refused at its fifth byte. A
/// longer form than needed (`80 00`) is accepted, as Protocol Buffers do.
///
/// ```
/// use framing_core::{Varint, Framing, encode};
///
/// let mut out = [0; 16];
/// let len = encode(&mut Varint.encoder(), b"hello", &mut out)?;
/// assert_eq!(&out[..len], b"\x05hello");
/// # Ok::<(), framing_core::Refusal>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Varint;

impl Varint {
    const LEN_MAX: usize = 5;

    /// Most bytes on the wire of a message of `len` bytes.
    ///
    /// ```
    /// use framing_core::Varint;
    ///
    /// assert_eq!(Varint::wire_len(5), 10);
    /// ```
    #[must_use]
    pub const fn wire_len(len: usize) -> usize {
        len.saturating_add(Self::LEN_MAX)
    }

    /// Length of a buffer that receives messages of up to `len` bytes whole, and that holds the longest header.
    ///
    /// ```
    /// use framing_core::Varint;
    ///
    /// assert_eq!(Varint::buffer_len(5), 5);
    /// ```
    #[must_use]
    pub const fn buffer_len(len: usize) -> usize {
        if len < Self::LEN_MAX {
            Self::LEN_MAX
        } else {
            len
        }
    }
}

impl Prefix for Varint {
    const HEADER_MAX: usize = Self::LEN_MAX;
    const CHECKED: bool = false;

    #[inline]
    fn header_min(&self, have: usize) -> usize {
        have.saturating_add(1)
    }

    #[inline]
    fn parse(&self, window: &[u8]) -> Parsed {
        let mut len = 0;
        for (offset, &byte) in (0u8..5).zip(window) {
            let bits = u32::from(byte & 0x7f);
            // The fifth byte holds the upper four bits, and must be the last.
            if offset == 4 && 0x0f < byte {
                return Parsed::Bad {
                    found: byte,
                    offset,
                };
            }
            len |= bits << (7 * u32::from(offset));
            if byte < 0x80 {
                return Parsed::Length {
                    take: usize::from(offset) + 1,
                    len,
                };
            }
        }
        Parsed::NeedMore {
            len: window.len().saturating_add(1),
        }
    }

    #[inline]
    fn write(&self, len: u32, out: &mut [u8]) -> Result<usize, Refusal> {
        let capacity = out.len();
        let mut rest = len;
        for (used, slot) in out.iter_mut().enumerate() {
            let low = rest.to_le_bytes()[0] & 0x7f;
            rest >>= 7;
            *slot = if rest == 0 { low } else { low | 0x80 };
            if rest == 0 {
                return Ok(used + 1);
            }
        }
        Err(Refusal::NoRoom { len: capacity })
    }
}

impl UnitPrefix for Varint {
    const UNIT: Self = Self;
}

impl Named for Varint {
    const SPEC: &'static str = "length:varint";
    const PLAIN: Option<Self> = Some(Self);
}
