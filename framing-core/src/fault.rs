//! What can go wrong, with figures and without strings, sorted by whose fault it is.

use core::fmt;

/// Why a message was refused. The fault of the bytes, so of the peer; never of the reader's own state.
///
/// A fault concerns one message. The next good one is delivered after it, unless [`Fault::is_lost`].
///
/// ```
/// use framing_core::blocking::Reader;
/// use framing_core::{Fault, Netstring, ReceiveError, Received};
///
/// let mut reader = Reader::new(&b"15:a long sentence,2:ok,"[..], Netstring, [0; 11]);
/// let Err(ReceiveError::Fault(fault)) = reader.receive() else { panic!() };
/// assert_eq!(fault.to_string(), "message of 15 bytes is over the limit of 10");
/// assert!(!fault.is_lost());
/// assert_eq!(reader.receive(), Ok(Received::Message(b"ok")));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Fault {
    /// The message is longer than may be received. It is skipped to its end and reported once.
    TooLong {
        /// Length in bytes that the peer declared; `None` where the framing does not say it beforehand.
        declared: Option<u32>,
        /// Longest message, in bytes, that was allowed.
        limit: u32,
        /// It is also longer than may be skipped ([`Limits::skip_max`](crate::Limits::skip_max)).
        lost: bool,
    },
    /// The bytes where a length should be cannot be one. Where the next message begins cannot be known.
    BadLength {
        /// The first byte that cannot stand where it does.
        found: u8,
        /// Where that byte stands, counted from the first byte of the length.
        offset: u8,
    },
    /// The byte behind a counted message is not the one that must end it. The framing is lost.
    BadEnding {
        /// The byte that must stand there.
        want: u8,
        /// The byte that came.
        found: u8,
    },
    /// A delimiter came inside an escaped group (`cobs`). The next message is intact.
    EarlyEnd {
        /// How many bytes of the group were still to come.
        missing: u8,
    },
    /// The peer closed the stream inside a message, or before the mark that ends a series.
    Truncated {
        /// What was being received.
        part: Part,
        /// How many bytes of that part had come.
        have: u32,
        /// How many bytes it needed, or at least needed where the framing does not declare it. Always over `have`.
        want: u32,
    },
}

/// What a [`Fault::Truncated`] cut in two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Part {
    /// The length in front of a message.
    Header,
    /// The message itself, with what must stand behind it.
    Payload,
    /// Between two messages of a series whose end mark never came.
    End,
}

impl Fault {
    /// Whether the next boundary can no longer be found. What comes after is skipped, without further faults,
    /// until the peer closes; closing first is the caller's decision.
    #[must_use]
    pub const fn is_lost(&self) -> bool {
        matches!(
            self,
            Self::BadLength { .. } | Self::BadEnding { .. } | Self::TooLong { lost: true, .. }
        )
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::TooLong {
                declared,
                limit,
                lost,
            } => {
                match declared {
                    Some(declared) => write!(
                        f,
                        "message of {declared} bytes is over the limit of {limit}"
                    )?,
                    None => write!(f, "message is over the limit of {limit} bytes")?,
                }
                f.write_str(if lost { ", and too long to skip" } else { "" })
            }
            Self::BadLength { found, offset } => {
                write!(
                    f,
                    "byte 0x{found:02x} at {offset} of a length cannot stand there"
                )
            }
            Self::BadEnding { want, found } => {
                write!(f, "message ends in 0x{found:02x}, not in 0x{want:02x}")
            }
            Self::EarlyEnd { missing } => {
                write!(f, "delimiter {missing} bytes before the end of a group")
            }
            Self::Truncated { part, have, want } => {
                let part = match part {
                    Part::Header => "header",
                    Part::Payload => "message",
                    Part::End => "end mark",
                };
                write!(f, "stream closed {have} bytes into a {want}-byte {part}")
            }
        }
    }
}

impl core::error::Error for Fault {}

/// Why a message cannot be sent. The fault of the caller; nothing of the message has been written, unless said.
///
/// ```
/// use framing_core::{Framing, Lines, Refusal, encode};
///
/// let refused = encode(&mut Lines.encoder(), b"two\nlines", &mut [0; 16]);
/// assert_eq!(refused, Err(Refusal::Delimiter { offset: 3 }));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Refusal {
    /// An empty message cannot be distinguished from something else in this framing (in `blocks`, from the end mark).
    Empty,
    /// The framing cannot express so long a message.
    TooLong {
        /// Length of the message, in bytes; the largest number where it does not fit.
        len: u32,
        /// Longest message that the framing can express, in bytes.
        max: u32,
    },
    /// The framing carries messages of one length only.
    WrongLength {
        /// Length of the message, in bytes.
        len: u32,
        /// The length that it must have, in bytes.
        want: u32,
    },
    /// The payload would be read as ending early, or changed. In a message sent in pieces, earlier ones are out.
    Delimiter {
        /// Where in the present call's bytes the offending sequence ends; their length where it would end in what
        /// stands behind the message.
        offset: usize,
    },
    /// An earlier message is on the wire in part: resume it, or close the connection.
    Unfinished {
        /// Payload bytes of that message that are neither staged nor written.
        left: u32,
    },
    /// More bytes than the declared total, or a piece without a message begun.
    Overrun {
        /// Bytes given.
        len: usize,
        /// Bytes that were still to come.
        left: u32,
    },
    /// The output buffer of [`encode`](crate::encode()) is too small.
    NoRoom {
        /// Length of the buffer, in bytes.
        len: usize,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Empty => f.write_str("an empty message cannot be sent in this framing"),
            Self::TooLong { len, max } => write!(
                f,
                "message of {len} bytes is over this framing's limit of {max}"
            ),
            Self::WrongLength { len, want } => {
                write!(
                    f,
                    "message of {len} bytes where this framing sends {want} bytes each"
                )
            }
            Self::Delimiter { offset } => {
                write!(
                    f,
                    "message holds what this framing ends messages with, at byte {offset}"
                )
            }
            Self::Unfinished { left } => {
                write!(
                    f,
                    "the message before is unfinished, {left} bytes of it are left to send"
                )
            }
            Self::Overrun { len, left } => {
                write!(f, "{len} bytes given where {left} are left of the message")
            }
            Self::NoRoom { len } => write!(f, "message does not fit the buffer of {len} bytes"),
        }
    }
}

impl core::error::Error for Refusal {}

/// What a receive can fail with. Repeat the call after any of them to go on.
///
/// ```
/// use framing_core::blocking::Reader;
/// use framing_core::{Blocks, Fault, ReceiveError};
///
/// // The peer closes two bytes into a message of five.
/// let mut reader = Reader::new(&b"\0\0\0\x05he"[..], Blocks, [0; 16]);
/// let error = reader.receive().unwrap_err();
/// assert!(matches!(error, ReceiveError::Fault(Fault::Truncated { have: 2, want: 5, .. })));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum ReceiveError<E> {
    /// A message was refused; the reader goes on with the next.
    Fault(Fault),
    /// The transport failed. Nothing that it delivered is lost; the call may be repeated.
    Io(E),
    /// The buffer cannot hold even the header of a message.
    BufferTooSmall {
        /// Length of the buffer, in bytes.
        len: usize,
    },
    /// A `stream` has no message boundaries: call `receive_piece`.
    NoBoundaries,
}

/// What a send can fail with.
///
/// ```
/// use framing_core::blocking::Writer;
/// use framing_core::{Blocks, Refusal, SendError};
///
/// let mut writer = Writer::new(Vec::new(), Blocks);
/// // In `blocks` a length of zero ends the series.
/// assert_eq!(writer.send(b""), Err(SendError::Refused(Refusal::Empty)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum SendError<E> {
    /// The message cannot be sent.
    Refused(Refusal),
    /// The transport failed. The writer knows how far it came: see `resume`.
    Io(E),
    /// The transport took no byte of a non-empty slice (`Ok(0)`). The writer knows how far it came.
    WriteZero,
}

impl<E> From<Fault> for ReceiveError<E> {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl<E> From<Refusal> for SendError<E> {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl<E: fmt::Display> fmt::Display for ReceiveError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fault(fault) => fault.fmt(f),
            Self::Io(error) => error.fmt(f),
            Self::BufferTooSmall { len } => write!(f, "a buffer of {len} bytes holds no header"),
            Self::NoBoundaries => {
                f.write_str("stream has no message boundaries; receive it in pieces")
            }
        }
    }
}

impl<E: fmt::Display> fmt::Display for SendError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Io(error) => error.fmt(f),
            Self::WriteZero => f.write_str("the transport takes no more bytes"),
        }
    }
}

impl<E: core::error::Error> core::error::Error for ReceiveError<E> {}
impl<E: core::error::Error> core::error::Error for SendError<E> {}

impl<E: embedded_io::Error> embedded_io::Error for ReceiveError<E> {
    fn kind(&self) -> embedded_io::ErrorKind {
        match self {
            Self::Fault(_) => embedded_io::ErrorKind::InvalidData,
            Self::Io(error) => error.kind(),
            Self::BufferTooSmall { .. } => embedded_io::ErrorKind::OutOfMemory,
            Self::NoBoundaries => embedded_io::ErrorKind::Unsupported,
        }
    }
}

impl<E: embedded_io::Error> embedded_io::Error for SendError<E> {
    fn kind(&self) -> embedded_io::ErrorKind {
        match self {
            Self::Refused(_) => embedded_io::ErrorKind::InvalidInput,
            Self::Io(error) => error.kind(),
            Self::WriteZero => embedded_io::ErrorKind::WriteZero,
        }
    }
}
