//! Errors of the libraries as errors of a command.

use std::io;

use framing_core::{Fault, ReceiveError, SendError};

use super::CommandError;
use crate::config::error::ConfigError;
use blocksd_engine::connection::reply::UnusableReply;
use blocksd_engine::connection::responder::ReplyError;
use blocksd_recording::Error as RecordingError;

impl From<ConfigError> for CommandError {
    fn from(error: ConfigError) -> Self {
        Self::Config(Box::new(error))
    }
}

impl From<RecordingError> for CommandError {
    fn from(error: RecordingError) -> Self {
        match error {
            RecordingError::UnsoundRepair {
                path,
                findings,
                first,
            } => Self::UnsoundRepair {
                path,
                findings,
                first,
            },
            RecordingError::Locked { path } => Self::Locked { path },
            error => Self::Recording(error),
        }
    }
}

impl From<blocksd_engine::Error> for CommandError {
    fn from(error: blocksd_engine::Error) -> Self {
        use blocksd_engine::Error;
        match error {
            Error::Listen { address, source } => Self::Listen {
                address,
                error: source,
            },
            Error::Duplicate { first, again } => Self::Duplicate { first, again },
            Error::Thread(error) => Self::Start(error),
            error => Self::Io(io::Error::other(error)),
        }
    }
}

impl From<ReplyError> for CommandError {
    fn from(error: ReplyError) -> Self {
        match error {
            ReplyError::Connection(error) => Self::Connection(error),
            ReplyError::Read { path, source } => Self::File {
                path,
                error: source,
            },
            ReplyError::Write { path, source } => Self::Write {
                path,
                error: source,
            },
            ReplyError::TooLong { path, len, max } => Self::FileTooLong { path, len, max },
            ReplyError::Refused(refusal) => Self::Refused(refusal),
            error => Self::Io(io::Error::other(error)),
        }
    }
}

impl From<UnusableReply> for CommandError {
    fn from(error: UnusableReply) -> Self {
        match error {
            UnusableReply::EchoOfPieces => Self::Conflict {
                one: "--reply echo",
                other: "--oversize pieces",
            },
            UnusableReply::DelimiterInReceipt => Self::Conflict {
                one: "--reply receipt",
                other: "a delimiter that the receipt contains",
            },
            UnusableReply::Unsendable {
                path,
                framing,
                refusal,
            } => Self::Unsendable {
                path,
                framing,
                refusal,
            },
            UnusableReply::File(error) => error.into(),
            error => Self::Io(io::Error::other(error)),
        }
    }
}

impl From<SendError<io::Error>> for CommandError {
    fn from(error: SendError<io::Error>) -> Self {
        match error {
            SendError::Refused(refusal) => Self::Refused(refusal),
            SendError::Io(error) => Self::Connection(error),
            SendError::WriteZero => Self::Connection(io::ErrorKind::WriteZero.into()),
            error => Self::Io(io::Error::other(error.to_string())),
        }
    }
}

impl From<ReceiveError<io::Error>> for CommandError {
    fn from(error: ReceiveError<io::Error>) -> Self {
        match error {
            ReceiveError::Fault(Fault::Truncated { have, want, .. }) => Self::Closed { have, want },
            ReceiveError::Fault(fault) => Self::Fault(fault),
            ReceiveError::Io(error) => Self::Connection(error),
            error => Self::Io(io::Error::other(error.to_string())),
        }
    }
}
