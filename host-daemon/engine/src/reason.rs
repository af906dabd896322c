//! Enums whose values are counted by name: [`CloseReason`], [`FaultKind`], [`RefusedReason`] and [`HandshakeRefusal`].

use std::fmt;

use framing_core::Fault;

use crate::batch::CloseCause;

/// Asserts at compile time that `ALL` lists the variants in the order of their discriminants, which serve as indexes.
macro_rules! assert_order {
    ($kind:ty) => {
        const _: () = {
            let mut index = 0;
            while index < <$kind>::ALL.len() {
                assert!(<$kind>::ALL[index] as usize == index);
                index += 1;
            }
        };
    };
}
pub(crate) use assert_order;

assert_order!(RefusedReason);
assert_order!(FaultKind);
assert_order!(CloseReason);
assert_order!(HandshakeRefusal);

/// Why a connection was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The peer sent the end mark of its series.
    End,
    /// The peer closed the connection, or its sending side.
    Eof,
    /// The peer was silent for longer than the idle timeout.
    Idle,
    /// The peer sent no byte within the first-byte timeout.
    FirstByteTimeout,
    /// The header of a message was incomplete when its timeout expired.
    HeaderTimeout,
    /// A message was incomplete when its timeout expired.
    BlockTimeout,
    /// The peer did not accept the reply within the reply timeout.
    ReplyTimeout,
    /// The reply could not be stored or read: the disk is full, or a file cannot be opened. Also if a responder of the
    /// embedding program panicked.
    ReplyFailed,
    /// The connection limit was reached, and this connection made room for an origin or a device with fewer
    /// connections.
    Evicted,
    /// Unfinished messages held too much memory.
    Memory,
    /// A message exceeded a limit, and the policy is to close the connection; or it could not be skipped.
    Limit,
    /// The decoder lost the framing: it cannot find another message boundary.
    Fault,
    /// The transport failed, or the task of the connection ended early.
    Reset,
    /// The engine is shutting down.
    Shutdown,
    /// Another connection continues the session.
    Superseded,
    /// A sync failed, or the recording was damaged. The device must send its unacknowledged messages again.
    SyncFailed,
    /// No session was opened. The device was sent the reason.
    SessionRefused,
    /// The device broke the protocol of sessions.
    Protocol,
    /// The certificate of the device was revoked, or the device is no longer allowed.
    Revoked,
}

impl CloseReason {
    /// All reasons, in the order of their declaration.
    pub const ALL: [Self; 19] = [
        Self::End,
        Self::Eof,
        Self::Idle,
        Self::FirstByteTimeout,
        Self::HeaderTimeout,
        Self::BlockTimeout,
        Self::ReplyTimeout,
        Self::ReplyFailed,
        Self::Evicted,
        Self::Memory,
        Self::Limit,
        Self::Fault,
        Self::Reset,
        Self::Shutdown,
        Self::Superseded,
        Self::SyncFailed,
        Self::SessionRefused,
        Self::Protocol,
        Self::Revoked,
    ];

    /// The name of the reason in output, recordings and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::End => "end",
            Self::Eof => "eof",
            Self::Idle => "idle",
            Self::FirstByteTimeout => "first_byte_timeout",
            Self::HeaderTimeout => "header_timeout",
            Self::BlockTimeout => "block_timeout",
            Self::ReplyTimeout => "reply_timeout",
            Self::ReplyFailed => "reply_failed",
            Self::Evicted => "evicted",
            Self::Memory => "memory",
            Self::Limit => "limit",
            Self::Fault => "fault",
            Self::Reset => "reset",
            Self::Shutdown => "shutdown",
            Self::Superseded => "superseded",
            Self::SyncFailed => "sync_failed",
            Self::SessionRefused => "session_refused",
            Self::Protocol => "protocol",
            Self::Revoked => "revoked",
        }
    }
}

impl From<CloseCause> for CloseReason {
    fn from(cause: CloseCause) -> Self {
        match cause {
            CloseCause::End => Self::End,
            CloseCause::TooLong => Self::Limit,
            CloseCause::Lost => Self::Fault,
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a connection was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusedReason {
    /// The connection limit is reached, and no connection can be evicted.
    ConnectionsFull,
    /// The device has reached its own connection limit.
    DeviceFull,
    /// The handshake failed. [`HandshakeRefusal`] says why.
    Handshake,
}

impl RefusedReason {
    /// All reasons, in the order of their declaration.
    pub const ALL: [Self; 3] = [Self::ConnectionsFull, Self::DeviceFull, Self::Handshake];

    /// The name of the reason in the metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ConnectionsFull => "connections_full",
            Self::DeviceFull => "device_full",
            Self::Handshake => "handshake",
        }
    }
}

impl fmt::Display for RefusedReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ConnectionsFull => "the connection limit is reached",
            Self::DeviceFull => "the device has reached its connection limit",
            Self::Handshake => "the handshake failed",
        })
    }
}

/// Why a handshake failed, or did not begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeRefusal {
    /// The peer sent no certificate.
    NoCertificate,
    /// The certificate has expired.
    Expired,
    /// The certificate is not valid yet.
    NotYetValid,
    /// The certificate was not issued by a trusted authority.
    UnknownCa,
    /// The certificate is not one for clients.
    WrongUsage,
    /// The certificate was revoked.
    Revoked,
    /// The list of allowed devices does not have the peer.
    NotAllowed,
    /// The certificate does not name a device.
    BadName,
    /// The certificate or its signature is malformed.
    BadCertificate,
    /// The handshake took too long.
    Timeout,
    /// The peer does not speak TLS.
    PlainText,
    /// The peer does not trust the certificate of this daemon.
    Distrusted,
    /// The peer broke the protocol, or supports no common version or cipher.
    Protocol,
    /// The peer gave up.
    Closed,
    /// Too many handshakes are in progress.
    Full,
    /// The header of the PROXY protocol is missing or invalid.
    ProxyHeader,
}

impl HandshakeRefusal {
    /// All reasons, in the order of their declaration.
    pub const ALL: [Self; 16] = [
        Self::NoCertificate,
        Self::Expired,
        Self::NotYetValid,
        Self::UnknownCa,
        Self::WrongUsage,
        Self::Revoked,
        Self::NotAllowed,
        Self::BadName,
        Self::BadCertificate,
        Self::Timeout,
        Self::PlainText,
        Self::Distrusted,
        Self::Protocol,
        Self::Closed,
        Self::Full,
        Self::ProxyHeader,
    ];

    /// The name of the reason in the metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoCertificate => "no_certificate",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::UnknownCa => "unknown_ca",
            Self::WrongUsage => "wrong_usage",
            Self::Revoked => "revoked",
            Self::NotAllowed => "not_allowed",
            Self::BadName => "bad_name",
            Self::BadCertificate => "bad_certificate",
            Self::Timeout => "timeout",
            Self::PlainText => "plain_text",
            Self::Distrusted => "distrusted",
            Self::Protocol => "protocol",
            Self::Closed => "closed",
            Self::Full => "full",
            Self::ProxyHeader => "proxy_header",
        }
    }
}

impl fmt::Display for HandshakeRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoCertificate => "the peer sent no certificate",
            Self::Expired => "the certificate has expired",
            Self::NotYetValid => "the certificate is not valid yet",
            Self::UnknownCa => "the certificate was not issued by a trusted authority",
            Self::WrongUsage => "the certificate is not one for clients",
            Self::Revoked => "the certificate was revoked",
            Self::NotAllowed => "the device is not in the list of allowed devices",
            Self::BadName => "the certificate does not name a device",
            Self::BadCertificate => "the certificate is malformed",
            Self::Timeout => "the handshake took too long",
            Self::PlainText => "the peer does not speak TLS",
            Self::Distrusted => "the peer does not trust the certificate of this daemon",
            Self::Protocol => "the peer broke the TLS protocol",
            Self::Closed => "the peer closed the connection within the handshake",
            Self::Full => "too many handshakes are in progress",
            Self::ProxyHeader => "the header of the PROXY protocol is missing or invalid",
        })
    }
}

/// The kind of a fault. Faults are counted by kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// A message is too long.
    TooLong,
    /// A header declares an invalid length.
    BadLength,
    /// A message does not end with its delimiter, or ends too early.
    BadEnding,
    /// The checksum of a message does not match.
    BadChecksum,
    /// The stream ended within a message.
    Truncated,
    /// The peer reset the connection between two messages.
    Reset,
    /// The payload is invalid in its encoding. Counted by the decoder of the payload, not by the engine.
    Undecodable,
}

impl FaultKind {
    /// All kinds, in the order in which totals list them.
    pub const ALL: [Self; 7] = [
        Self::TooLong,
        Self::BadLength,
        Self::BadEnding,
        Self::BadChecksum,
        Self::Truncated,
        Self::Reset,
        Self::Undecodable,
    ];

    /// Returns the kind of a fault.
    #[must_use]
    pub const fn of(fault: &Fault) -> Self {
        match fault {
            Fault::BadLength { .. } => Self::BadLength,
            Fault::BadEnding { .. } | Fault::EarlyEnd { .. } => Self::BadEnding,
            Fault::BadChecksum { .. } => Self::BadChecksum,
            Fault::Truncated { .. } => Self::Truncated,
            // `TooLong`. `Fault` is non-exhaustive: map a new fault to one of these kinds.
            _ => Self::TooLong,
        }
    }

    /// The name of the kind in output, recordings and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TooLong => "too_long",
            Self::BadLength => "bad_length",
            Self::BadEnding => "bad_ending",
            Self::BadChecksum => "bad_checksum",
            Self::Truncated => "truncated",
            Self::Reset => "reset",
            Self::Undecodable => "undecodable",
        }
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
