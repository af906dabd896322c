//! The header of a framing that declares lengths. Start with [`Prefix`].

use core::fmt::Debug;

use crate::fault::Refusal;

/// The header of a framing that declares the length of each message. Implement it for a protocol of your own: every
/// `Prefix` is a [`Framing`](crate::Framing), for all readers and writers.
///
/// ```
/// use framing_core::blocking::{Reader, Writer};
/// use framing_core::{Parsed, Prefix, Received, Refusal};
///
/// /// A length of three bytes, big-endian.
/// #[derive(Clone, Copy, Debug)]
/// struct U24;
///
/// impl Prefix for U24 {
///     const HEADER_MAX: usize = 3;
///
///     fn parse(&self, window: &[u8]) -> Parsed {
///         match *window {
///             [a, b, c, ..] => Parsed::Length { take: 3, len: u32::from_be_bytes([0, a, b, c]) },
///             _ => Parsed::NeedMore { len: 3 },
///         }
///     }
///
///     fn header_min(&self, _have: usize) -> usize {
///         3
///     }
///
///     fn write(&self, len: u32, out: &mut [u8]) -> Result<usize, Refusal> {
///         let [0, header @ ..] = len.to_be_bytes() else {
///             return Err(Refusal::TooLong { len, max: 0xff_ffff });
///         };
///         let no_room = Refusal::NoRoom { len: out.len() };
///         *out.first_chunk_mut().ok_or(no_room)? = header;
///         Ok(3)
///     }
/// }
///
/// let mut wire = [0; 8];
/// Writer::new(&mut wire[..], U24).send(b"hello")?;
/// assert_eq!(&wire, b"\0\0\x05hello");
/// let mut reader = Reader::new(&wire[..], U24, [0; 16]);
/// assert_eq!(reader.receive(), Ok(Received::Message(b"hello")));
/// # Ok::<(), framing_core::SendError<framing_core::embedded_io::SliceWriteError>>(())
/// ```
///
/// # The contract
///
/// A reader whose buffer has `HEADER_MAX.max(len)` bytes receives messages of up to `len` bytes.
/// [`header_min`](Self::header_min) and [`Parsed::NeedMore`] must agree on how many bytes a header needs.
///
/// The compiler checks [`HEADER_MAX`](Self::HEADER_MAX). A value of [`parse`](Self::parse) or [`write`](Self::write) that
/// cannot be right is treated as [`Parsed::Bad`] or [`Refusal::NoRoom`], so a mistake causes no panic and no endless loop:
/// a header of no bytes before a payload of no bytes, and a header that is longer than the bytes that it was read from
/// or written to. Other mistakes give wrong messages.
///
/// A `HEADER_MAX` over 12 does not compile:
///
/// ```compile_fail,E0080
/// # use framing_core::{Parsed, Prefix, Refusal};
/// # #[derive(Clone, Copy, Debug)]
/// # struct Long;
/// impl Prefix for Long {
///     const HEADER_MAX: usize = 13;
/// #   fn parse(&self, _: &[u8]) -> Parsed { Parsed::NeedMore { len: 13 } }
/// #   fn header_min(&self, _have: usize) -> usize { 13 }
/// #   fn write(&self, _: u32, _: &mut [u8]) -> Result<usize, Refusal> { Ok(13) }
/// }
/// framing_core::blocking::Reader::new(&b""[..], Long, [0; 16]);
/// ```
pub trait Prefix: Copy + Debug {
    /// Longest header, and longest end mark, in bytes. At most 12; the compiler refuses more.
    const HEADER_MAX: usize;
    /// The byte that must follow the payload, if there is one. [`Fault::BadEnding`](crate::Fault::BadEnding) reports
    /// any other byte.
    const TRAILER: Option<u8> = None;
    /// Whether a mark ends a series of messages. Closing without it is then reported as
    /// [`Fault::Truncated`](crate::Fault::Truncated).
    const SERIES: bool = false;
    /// Whether the results of the methods are checked. `false` for the framings of this crate, which are tested instead.
    #[doc(hidden)]
    const CHECKED: bool = true;

    /// Reads the length that the window begins with. The window may be empty. The result must depend on the bytes of
    /// the header alone, not on those after it.
    fn parse(&self, window: &[u8]) -> Parsed;

    /// Least length, in bytes, of a header whose first `have` bytes have arrived and which is not complete. Readers
    /// read up to this length at once: with a value that is too large, they read past the header and lose the bytes
    /// after it.
    fn header_min(&self, have: usize) -> usize;

    /// Writes the header of a message of `len` bytes to the front of `out`; returns the header's length in bytes.
    ///
    /// # Errors
    /// [`Refusal::Empty`], [`Refusal::TooLong`] or [`Refusal::WrongLength`] if the framing cannot express such a
    /// message; [`Refusal::NoRoom`] if `out` is too short.
    fn write(&self, len: u32, out: &mut [u8]) -> Result<usize, Refusal>;

    /// Writes the mark that ends a series to the front of `out`; returns its length in bytes, 0 if there is none.
    ///
    /// # Errors
    /// [`Refusal::NoRoom`] if `out` is too short.
    fn write_end(&self, out: &mut [u8]) -> Result<usize, Refusal> {
        let _ = out;
        Ok(0)
    }
}

/// The result of [`Prefix::parse`].
///
/// It may get new variants, for headers that carry more than a length.
///
/// ```
/// use framing_core::{Netstring, Parsed, Prefix};
///
/// assert_eq!(Netstring.parse(b"5:hello,"), Parsed::Length { take: 2, len: 5 });
/// assert_eq!(Netstring.parse(b"12"), Parsed::NeedMore { len: 3 });
/// assert_eq!(Netstring.parse(b"1x"), Parsed::Bad { found: b'x', offset: 1 });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Parsed {
    /// The header is not complete: it has at least `len` bytes, more than the window.
    NeedMore {
        /// Least length of the header, in bytes.
        len: usize,
    },
    /// A header of `take` bytes, followed by a message of `len` bytes.
    Length {
        /// Length of the header, in bytes.
        take: usize,
        /// Length of the payload, in bytes.
        len: u32,
    },
    /// The mark that ends a series.
    End {
        /// Length of the mark, in bytes.
        take: usize,
    },
    /// Not a header.
    Bad {
        /// The first invalid byte.
        found: u8,
        /// Position of that byte, counted from the first byte of the header.
        offset: u8,
    },
}
