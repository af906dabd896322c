//! What a frame of the host means to a sender: [`Heard`], or why it is refused.

use core::error::Error;
use core::fmt;

/// What a message from the host says. [`time_ns`](super::wire::time_ns) of the message is the host's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Heard {
    /// The session goes on.
    Welcome {
        /// A frame comes at least every so many seconds; 0: never. Close the connection after three times that without one.
        heartbeat_s: u16,
        /// [`SYNCED`](super::wire::SYNCED) and [`NEW`](super::wire::NEW).
        flags: u16,
    },
    /// Messages are acknowledged, or this is a heartbeat.
    Acknowledged,
    /// The host closes the connection.
    Closing {
        /// A [`ClosingCode`](super::wire::ClosingCode), or one of a later version.
        code: u8,
        /// When to connect again, in s, at the earliest.
        retry_s: u16,
    },
    /// A frame of a later version, which can be ignored.
    Unknown,
}

/// The host broke the protocol, or the session is another's. Close the connection; all messages are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum HeardError {
    /// The frame is shorter than its type needs.
    Short {
        /// Its length in bytes.
        len: u8,
    },
    /// A frame of this type has no place here, or must be understood.
    Unexpected {
        /// Its type.
        kind: u8,
    },
    /// The host acknowledges or has messages that were not sent.
    Unsent,
    /// The host has another message under a number of this ring: the session was continued without its ring. It is
    /// forgotten; the next HELLO asks for another.
    OtherRing,
}

impl fmt::Display for HeardError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short { len } => write!(f, "the host sent a frame of {len} bytes, which is too short"),
            Self::Unexpected { kind } => {
                write!(f, "the host sent a frame of type {kind}, which has no place here")
            }
            Self::Unsent => f.write_str("the host names messages that were not sent"),
            Self::OtherRing => f.write_str(
                "the host has another message under the same number: the session was continued without its ring",
            ),
        }
    }
}

impl Error for HeardError {}
