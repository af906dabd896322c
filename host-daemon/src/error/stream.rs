//! Errors of commands that read the stream of a cluster: [`ReadStreamError`].

#[cfg(feature = "nats")]
use blocksd_forward::reader::ReadError;

#[cfg(feature = "nats")]
use crate::error::ForwardError;
use crate::error::code::Code;

/// Why the stream of a cluster is not read, or not whole.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadStreamError {
    /// An address that cannot be used.
    #[error("the address of the stream: {0}")]
    Address(String),
    /// A build without the client.
    #[error(
        "this build of blocksd cannot read the stream of a cluster; the builds of a release can, and those of \
         `cargo install --locked --path host-daemon --features nats`"
    )]
    NotBuilt,
    /// A command that reads recordings only.
    #[error(
        "`{command}` takes recordings, not the stream of a cluster; `read` and `export` take both"
    )]
    OnlyRecordings {
        /// The command.
        command: &'static str,
    },
    /// A stream and something else.
    #[error("the stream of a cluster is read alone; name no other recording or stream")]
    NotAlone,
    /// A file with a secret cannot be read.
    #[cfg(feature = "nats")]
    #[error(transparent)]
    Login(ForwardError),
    /// The cluster, or its stream.
    #[cfg(feature = "nats")]
    #[error("{servers}: {error}")]
    Cluster {
        /// The servers.
        servers: String,
        /// The reason.
        #[source]
        error: ReadError,
    },
    /// The cluster does not answer, and nothing was read.
    #[cfg(feature = "nats")]
    #[error("{servers}: {error}")]
    NotReady {
        /// The servers.
        servers: String,
        /// The reason.
        #[source]
        error: ReadError,
    },
    /// Messages that were passed over. Each was reported before.
    #[error("messages of the stream that cannot be read, and were passed over: {messages}")]
    Unreadable {
        /// Number of these messages.
        messages: u64,
    },
}

impl ReadStreamError {
    pub(super) const fn code(&self) -> Code {
        match self {
            Self::Unreadable { .. } => Code::Failed,
            #[cfg(feature = "nats")]
            Self::NotReady { .. } => Code::Refused,
            #[cfg(feature = "nats")]
            Self::Cluster { error, .. } => match error {
                ReadError::Unreachable(_) => Code::Refused,
                ReadError::NoAnswer(_) | ReadError::Behind(_) | ReadError::Lost { .. } => {
                    Code::Failed
                }
                _ => Code::Wrong,
            },
            _ => Code::Wrong,
        }
    }
}
