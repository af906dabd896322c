//! Results of a receive: [`Received`] and [`ReceivedPiece`].

#[cfg(feature = "heapless")]
use crate::fault::Fault;

/// A whole message, or the end of a series or of the stream.
///
/// The bytes are borrowed from the reader's buffer until the next call. Match all three variants: there will be no others.
///
/// ```
/// use framing_core::blocking::Reader;
/// use framing_core::{Lines, Received};
///
/// let mut reader = Reader::new(&b"on\noff\n"[..], Lines, [0; 16]);
/// let mut seen = Vec::new();
/// loop {
///     match reader.receive()? {
///         Received::Message(bytes) => seen.push(bytes.to_vec()),
///         Received::End => continue,
///         Received::Closed => break,
///     }
/// }
/// assert_eq!(seen, [&b"on"[..], b"off"]);
/// # Ok::<(), framing_core::ReceiveError<core::convert::Infallible>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Received<'a> {
    /// A whole message.
    Message(&'a [u8]),
    /// The mark that ends a series. Another series may follow.
    End,
    /// The peer closed the stream, and no message was cut.
    Closed,
}

/// A piece of a message, or the end of a series or of the stream.
///
/// The bytes are borrowed from the reader's buffer until the next call. Match all three variants: there will be no others.
///
/// ```
/// use framing_core::blocking::Reader;
/// use framing_core::{Netstring, ReceivedPiece};
///
/// // A message of 12 bytes through a buffer of 11.
/// let mut reader = Reader::new(&b"12:hello, world,"[..], Netstring, [0; 11]);
/// let mut message = Vec::new();
/// while let ReceivedPiece::Piece { bytes, last, .. } = reader.receive_piece()? {
///     message.extend_from_slice(bytes);
///     if last {
///         assert_eq!(message, b"hello, world");
///     }
/// }
/// # Ok::<(), framing_core::ReceiveError<core::convert::Infallible>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum ReceivedPiece<'a> {
    /// Part of a message. A message is whole if `first` and `last` are set.
    Piece {
        /// The next bytes of the message. May be empty in the last piece.
        bytes: &'a [u8],
        /// The message begins with these bytes.
        first: bool,
        /// The message ends with these bytes.
        last: bool,
    },
    /// The mark that ends a series. Another series may follow.
    End,
    /// The peer closed the stream, and no message was cut. Ends the message of a `stream`.
    Closed,
}

#[cfg(feature = "heapless")]
impl Received<'_> {
    /// Copies a message out of the buffer; empty for the other variants.
    ///
    /// ```
    /// use framing_core::{Fault, Received};
    ///
    /// let copy = Received::Message(b"hello").to_vec::<8>()?;
    /// assert_eq!(copy, b"hello");
    /// assert!(Received::Message(b"hello").to_vec::<4>().is_err());
    /// # Ok::<(), Fault>(())
    /// ```
    ///
    /// # Errors
    /// [`Fault::TooLong`] if the message is longer than `N` bytes.
    pub fn to_vec<const N: usize>(&self) -> Result<heapless::Vec<u8, N>, Fault> {
        match *self {
            Self::Message(bytes) => copied(bytes),
            Self::End | Self::Closed => copied(&[]),
        }
    }
}

#[cfg(feature = "heapless")]
impl ReceivedPiece<'_> {
    /// Copies a piece out of the buffer, as [`Received::to_vec`]; empty for the other variants.
    ///
    /// # Errors
    /// [`Fault::TooLong`] if the piece is longer than `N` bytes.
    pub fn to_vec<const N: usize>(&self) -> Result<heapless::Vec<u8, N>, Fault> {
        match *self {
            Self::Piece { bytes, .. } => copied(bytes),
            Self::End | Self::Closed => copied(&[]),
        }
    }
}

#[cfg(feature = "heapless")]
fn copied<const N: usize>(bytes: &[u8]) -> Result<heapless::Vec<u8, N>, Fault> {
    heapless::Vec::from_slice(bytes).map_err(|_| Fault::TooLong {
        declared: u32::try_from(bytes.len()).ok(),
        limit: u32::try_from(N).unwrap_or(u32::MAX),
        lost: false,
    })
}
