//! What the blocking and the async shell of a session share: [`LinkError`], and what a received frame means.

use core::error::Error;
use core::fmt;

use super::heard::{Heard, HeardError};
use super::mode::Mode;
use super::sender::SessionSender;
use crate::fault::{Fault, ReceiveError};
use crate::received::Received;

/// Why a connection of a session is over. Call [`SessionSender::closed`], wait, and connect again; all messages are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum LinkError<E> {
    /// The transport failed.
    Io(E),
    /// The transport accepted no bytes.
    WriteZero,
    /// The host closed the connection.
    Closed,
    /// The host sent CLOSING.
    Closing {
        /// A [`ClosingCode`](super::wire::ClosingCode), or one of a later version.
        code: u8,
        /// When to connect again, in s, at the earliest.
        retry_s: u16,
    },
    /// The host broke the protocol, or the session is another's.
    Heard(HeardError),
}

impl<E: fmt::Debug> fmt::Display for LinkError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "the transport failed: {error:?}"),
            Self::WriteZero => f.write_str("the transport accepted no bytes"),
            Self::Closed => f.write_str("the host closed the connection"),
            Self::Closing { code, retry_s } => write!(
                f,
                "the host closes the connection with code {code}; connect again after {retry_s} s"
            ),
            Self::Heard(error) => error.fmt(f),
        }
    }
}

impl<E: fmt::Debug> Error for LinkError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Heard(error) => Some(error),
            _ => None,
        }
    }
}

/// Passes what was received to the sender; `None` if it can be ignored.
pub(crate) fn hear<B: AsRef<[u8]> + AsMut<[u8]>, M: Mode, E>(
    sender: &mut SessionSender<B, M>,
    received: Result<Received<'_>, ReceiveError<E>>,
) -> Result<Option<Heard>, LinkError<E>> {
    match received {
        Ok(Received::Message(frame)) => match sender.heard(frame) {
            Ok(Heard::Closing { code, retry_s }) => Err(LinkError::Closing { code, retry_s }),
            Ok(heard) => Ok(Some(heard)),
            Err(error) => Err(LinkError::Heard(error)),
        },
        // A frame of length 0, or a longer one than this version knows.
        Ok(Received::End) => Ok(None),
        Err(ReceiveError::Fault(Fault::TooLong { lost: false, .. })) => Ok(None),
        Err(ReceiveError::Io(error)) => Err(LinkError::Io(error)),
        // The frames of a host are a series without an end mark, so a close is a fault.
        Ok(Received::Closed) | Err(_) => Err(LinkError::Closed),
    }
}
