//! Reports of a session: the outcome of its messages, [`SessionReport`], and the end of a connection, [`SessionError`].

use embedded_io_async::ErrorKind;
use framing_core::session::{HeardError, LinkError};

/// The outcome of the messages of a session. Each is counted exactly once:
/// `acknowledged + given_up + refused + left` is the number of messages
/// that were pushed to the ring, and of those that a reset left in the memory.
///
/// The host has recorded all acknowledged messages, and none twice. It may have recorded others, if its acknowledgement did
/// not arrive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct SessionReport {
    /// Messages that are durable at the host.
    pub acknowledged: u32,
    /// Messages that the full memory dropped before an acknowledgement.
    pub given_up: u32,
    /// Runs of consecutive messages that were given up: the host records each as a gap, unless it has the messages.
    pub gaps: u32,
    /// Messages that did not enter the memory: the [`Ring`](crate::Ring) dropped or refused them, the host takes no message of
    /// this length, or the oldest message in the memory could not be dropped, because a part of it was sent.
    pub refused: u32,
    /// Messages that wait: in the memory, whose next run sends them, and in the ring.
    pub left: u32,
    /// Messages that were in the memory at the start.
    pub restored: u32,
    /// Connections that were established.
    pub connections: u32,
    /// Connections that the host did not welcome: it closed them, or does not speak the protocol.
    pub unwelcome: u32,
    /// All messages are acknowledged.
    pub ended: bool,
}

/// Why a connection of a session is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum SessionError {
    /// Connecting failed.
    Connect(ErrorKind),
    /// The transport failed.
    Io(ErrorKind),
    /// The host closed the connection.
    Closed,
    /// The host sent CLOSING.
    Closing {
        /// A [`ClosingCode`](framing_core::session::wire::ClosingCode).
        code: u8,
        /// When to connect again, in s, at the earliest.
        retry_s: u16,
    },
    /// The host broke the protocol, or has another session.
    Heard(HeardError),
    /// The host did not answer the HELLO: it may not speak the protocol.
    Unanswered,
    /// The host was silent for three heartbeats.
    Silent,
    /// The time limit after the request to stop has passed.
    GaveUp,
}

impl SessionError {
    /// Whether one side has refused the other, for a transport whose sides verify each other.
    pub(super) const fn is_refusal(self) -> bool {
        let (Self::Connect(kind) | Self::Io(kind)) = self else {
            return false;
        };
        matches!(kind, ErrorKind::PermissionDenied)
    }
}

/// Removes the transport's type from an error.
pub(super) fn session_error<E: embedded_io_async::Error>(error: LinkError<E>) -> SessionError {
    match error {
        LinkError::Io(error) => SessionError::Io(error.kind()),
        LinkError::WriteZero => SessionError::Io(ErrorKind::WriteZero),
        LinkError::Closing { code, retry_s } => SessionError::Closing { code, retry_s },
        LinkError::Heard(error) => SessionError::Heard(error),
        _ => SessionError::Closed,
    }
}
