//! The header of a framing that declares lengths: what the framings of this family differ in, and the place to add one.

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
/// The compiler refuses a [`HEADER_MAX`](Self::HEADER_MAX) over 12:
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
    /// Longest header, in bytes: at most 12, which the compiler checks.
    const HEADER_MAX: usize;
    /// The byte that must stand behind the payload.
    const TRAILER: Option<u8> = None;
    /// Whether a series of messages is ended by a mark, so that closing without it cuts the series.
    const SERIES: bool = false;

    /// Reads the length that the window begins with. The result must depend on the bytes of the header alone, not on
    /// those after it.
    ///
    /// A header of no bytes before a payload of no bytes is treated as [`Parsed::Bad`], since the window would begin
    /// with it again.
    fn parse(&self, window: &[u8]) -> Parsed;

    /// Least length, in bytes, of a header of which `have` bytes have come, and which is not whole.
    fn header_min(&self, have: usize) -> usize;

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
#[non_exhaustive]
pub enum Parsed {
    /// The header is not whole: it has at least `len` bytes, more than are there.
    NeedMore {
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
