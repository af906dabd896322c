//! Reasons and kinds that are counted by name: [`CloseReason`], [`FaultKind`], [`RefusedReason`].

use std::fmt;

use framing_core::Fault;

use crate::batch::CloseCause;

/// Asserts at compile time that `ALL` of an enum is in the order of its discriminants: they are used as indexes of it.
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

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The peer ended its series.
    End,
    /// The peer closed, or closed its sending side.
    Eof,
    /// The peer was silent for longer than the idle time-out.
    Idle,
    /// The peer sent nothing at all within the first-byte timeout.
    FirstByteTimeout,
    /// The header of a message was not whole in time.
    HeaderTimeout,
    /// A message was not whole in time.
    BlockTimeout,
    /// The peer did not accept the reply in time.
    ReplyTimeout,
    /// The daemon could not keep or read the reply: its disk is full, or a file cannot be opened.
    ReplyFailed,
    /// All places were taken, and an origin or a device with fewer connections needed one.
    Evicted,
    /// Unfinished messages held too much memory.
    Memory,
    /// A message was over a limit that closes the connection.
    Limit,
    /// The framing was lost: no boundary can be found any more.
    Fault,
    /// The transport failed.
    Reset,
    /// The daemon is stopping.
    Shutdown,
}

impl CloseReason {
    /// All of them, in the order of their declaration.
    pub const ALL: [Self; 14] = [
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
    ];

    /// The word for it in the output.
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
    /// There are as many connections as there may be.
    ConnectionsFull,
    /// The device has as many connections as it may have.
    DeviceFull,
}

impl RefusedReason {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::ConnectionsFull, Self::DeviceFull];

    /// The word for it in the metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ConnectionsFull => "connections_full",
            Self::DeviceFull => "device_full",
        }
    }
}

impl fmt::Display for RefusedReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ConnectionsFull => "all places are taken",
            Self::DeviceFull => "the device has as many connections as it may have",
        })
    }
}

/// Faults that are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// A message is too long.
    TooLong,
    /// A length cannot be one.
    BadLength,
    /// A message does not end where it must.
    BadEnding,
    /// The stream was cut.
    Truncated,
    /// A block is not what it should be; counted where it is read.
    Undecodable,
}

impl FaultKind {
    /// All of them, in the order of the totals.
    pub const ALL: [Self; 5] = [
        Self::TooLong,
        Self::BadLength,
        Self::BadEnding,
        Self::Truncated,
        Self::Undecodable,
    ];

    /// The kind of a fault.
    #[must_use]
    pub const fn of(fault: &Fault) -> Self {
        match fault {
            Fault::BadLength { .. } => Self::BadLength,
            Fault::BadEnding { .. } | Fault::EarlyEnd { .. } => Self::BadEnding,
            Fault::Truncated { .. } => Self::Truncated,
            // `TooLong`; a fault that the core may have some day belongs to one of these.
            _ => Self::TooLong,
        }
    }

    /// The word for it in the output.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TooLong => "too_long",
            Self::BadLength => "bad_length",
            Self::BadEnding => "bad_ending",
            Self::Truncated => "truncated",
            Self::Undecodable => "undecodable",
        }
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
