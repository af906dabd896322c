//! Errors, with figures and without strings: [`Fault`] for what a peer sent, [`Refusal`] for what a caller asked,
//! [`ReceiveError`] and [`SendError`] for both with the errors of the transport.

use core::fmt;

/// A received message was refused, because of its bytes.
///
/// A fault concerns one message, and a refused message has one fault, whatever follows: a message that was refused as too
/// long is not reported again if the stream ends within it or it turns out to be too long to be skipped. The next good
/// message is delivered after a fault, unless the framing is lost ([`Fault::is_lost`],
/// [`Reader::is_lost`](crate::blocking::Reader::is_lost)). New framings may add variants.
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
    /// The message is over the limit. It is skipped to its end.
    TooLong {
        /// Length that the peer declared, in bytes; `None` if the framing does not declare lengths.
        declared: Option<u32>,
        /// Longest message that was allowed, in bytes.
        limit: u32,
        /// It is too long to be skipped, too ([`Limits::skip_max`](crate::Limits::skip_max)). The framing is lost. In a
        /// framing that does not declare lengths this is found out later, and
        /// [`Reader::is_lost`](crate::blocking::Reader::is_lost) says so.
        lost: bool,
    },
    /// A header is not valid, so the beginning of the next message is unknown. The framing is lost.
    BadLength {
        /// The first invalid byte.
        found: u8,
        /// Position of that byte, counted from the first byte of the header.
        offset: u8,
    },
    /// The byte after a message with a declared length is not the one that must end it. The framing is lost.
    BadEnding {
        /// The byte that must end the message.
        want: u8,
        /// The byte that was received.
        found: u8,
    },
    /// A delimiter inside an escaped group (`cobs`): bytes of the message were lost or damaged. The next message is
    /// intact.
    EarlyEnd {
        /// How many bytes of the group are missing.
        missing: u8,
    },
    /// The checksum of a message does not match (`cobs-crc16`, `cobs-crc32`): bytes of the message were lost or damaged,
    /// or the peer computes another checksum. The next message is intact.
    BadChecksum {
        /// The checksum of the payload that was received; of no bytes, if `found` is `None`.
        want: u32,
        /// The checksum that was received; `None` if the message is shorter than a checksum.
        found: Option<u32>,
    },
    /// The stream ended inside a message, or before the mark that ends a series. A reader can keep the bytes of the message
    /// that were received: [`Reader::truncated`](crate::blocking::Reader::truncated).
    Truncated {
        /// What the close cut.
        part: Part,
        /// How many bytes of that part were received.
        have: u32,
        /// How many bytes that part has; if the framing does not declare it, how many it has at least. More than `have`,
        /// except if both have reached the largest number, [`u32::MAX`].
        want: u32,
    },
}

/// What a [`Fault::Truncated`] cut. Every framing consists of these parts, so there will be no others.
///
/// ```
/// use framing_core::blocking::Reader;
/// use framing_core::{Blocks, Fault, Part, ReceiveError, Received};
///
/// // A series of one message, whose end mark is missing.
/// let mut reader = Reader::new(&b"\0\0\0\x02on"[..], Blocks, [0; 16]);
/// assert_eq!(reader.receive(), Ok(Received::Message(b"on")));
/// let Err(ReceiveError::Fault(Fault::Truncated { part, have, want })) = reader.receive() else {
///     panic!("the series is cut");
/// };
/// assert_eq!((part, have, want), (Part::End, 0, 4));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Part {
    /// The header of a message.
    Header,
    /// The payload of a message, or the trailer after it.
    Payload,
    /// A series: its end mark is missing.
    End,
}

impl Fault {
    /// Whether the beginning of the next message is unknown. The reader then drops everything until the peer closes,
    /// without further faults. Close the connection; or, on a serial line, use a framing that resynchronises.
    ///
    /// ```
    /// use framing_core::blocking::Reader;
    /// use framing_core::{Netstring, ReceiveError, Received};
    ///
    /// let mut reader = Reader::new(&b"x:hello,2:ok,"[..], Netstring, [0; 16]);
    /// assert!(matches!(reader.receive(), Err(ReceiveError::Fault(fault)) if fault.is_lost()));
    /// assert_eq!(reader.receive(), Ok(Received::Closed));
    /// ```
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
                    "invalid byte 0x{found:02x} at position {offset} of a header"
                )
            }
            Self::BadEnding { want, found } => {
                write!(f, "message ends in 0x{found:02x}, not in 0x{want:02x}")
            }
            Self::EarlyEnd { missing } => {
                write!(f, "delimiter {missing} bytes before the end of a group")
            }
            Self::BadChecksum { want, found } => match found {
                Some(found) => write!(f, "checksum 0x{found:x} of a message, not 0x{want:x}"),
                None => f.write_str("message is shorter than its checksum"),
            },
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

/// A message cannot be sent. No byte of it was written, unless the variant says otherwise.
///
/// New framings may add variants.
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
    /// The framing has no empty messages. In `blocks`, a length of zero ends the series.
    Empty,
    /// The message is longer than the framing can express.
    TooLong {
        /// Length of the message, in bytes; `u32::MAX` if it is even longer.
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
    /// The payload contains the delimiter, or forms it with the delimiter that follows. Of a message sent in pieces,
    /// earlier pieces were written.
    Delimiter {
        /// Position of the last byte of that delimiter in the bytes of this call; the length of those bytes if the
        /// delimiter would end after them.
        offset: usize,
    },
    /// An earlier message was sent in part: resume it, abandon it, or close the connection.
    Unfinished {
        /// Payload bytes of that message that the sender has not taken yet. Some that it took may not be written.
        left: u32,
    },
    /// More bytes than the total that was declared, a piece without a message that was begun, or a resume with nothing
    /// to resume.
    Overrun {
        /// Bytes given.
        len: usize,
        /// Bytes that are left of the message.
        left: u32,
    },
    /// The framing sends whole messages only. For [`Cobs`](crate::Cobs), use [`CobsPieces`](crate::CobsPieces); for
    /// [`CobsCrc32`](crate::CobsCrc32), [`CobsCrc32Pieces`](crate::CobsCrc32Pieces).
    NoPieces,
    /// The output buffer of [`encode`](crate::encode()) is too small, or an own [`Prefix`](crate::Prefix) returned this.
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
                    "message of {len} bytes, but every message of this framing has {want}"
                )
            }
            Self::Delimiter { offset } => {
                write!(
                    f,
                    "message contains the delimiter of this framing, at byte {offset}"
                )
            }
            Self::Unfinished { left } => {
                write!(
                    f,
                    "an earlier message is unfinished, with {left} bytes left to send; resume or abandon it"
                )
            }
            Self::Overrun { len, left } => {
                write!(f, "{len} bytes given, but {left} are left of the message")
            }
            Self::NoPieces => f.write_str("this framing sends whole messages only, not in pieces"),
            Self::NoRoom { len } => write!(f, "message does not fit the buffer of {len} bytes"),
        }
    }
}

impl core::error::Error for Refusal {}

/// A receive failed. Repeat the call to continue.
///
/// New kinds of failure may add variants.
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
    /// A message was refused. The next call continues with the next message, unless the fault
    /// [is lost](Fault::is_lost): then everything is dropped until the peer closes. On a line that never closes, take the
    /// transport out with `into_io`, and build a new reader.
    Fault(Fault),
    /// The transport failed. The bytes that it delivered before are kept, so the call can be repeated.
    Io(E),
    /// The buffer is shorter than a header. Use `buffer_len` of the framing.
    BufferTooSmall {
        /// Length of the buffer, in bytes.
        len: usize,
    },
    /// A `stream` has no message boundaries: call `receive_piece`.
    NoBoundaries,
}

/// A send failed.
///
/// New kinds of failure may add variants.
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
    /// The message cannot be sent in this framing, or not now.
    Refused(Refusal),
    /// The transport failed. The writer knows how many bytes were written: see `resume`.
    Io(E),
    /// The transport took no byte of a non-empty slice (`Ok(0)`). The writer knows how many bytes were written.
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
            Self::BufferTooSmall { len } => {
                write!(f, "buffer of {len} bytes is too small for a header")
            }
            Self::NoBoundaries => {
                f.write_str("a stream has no message boundaries; receive it in pieces")
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
            Self::BufferTooSmall { .. } => embedded_io::ErrorKind::InvalidInput,
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
