//! Why a recording is not forwarded: [`ForwardError`].

use std::io;
use std::path::PathBuf;

use blocksd_forward::{CheckError, ConnectError};

/// Why a recording is not forwarded to a cluster.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ForwardError {
    /// The stream cannot be used.
    #[error(transparent)]
    Stream(CheckError),
    /// An address or a certificate cannot be used.
    #[error(transparent)]
    Client(ConnectError),
    /// A file with a secret cannot be read.
    #[error("{key}: cannot read {}: {error}", path.display())]
    File {
        /// The option that names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// The error of the system.
        #[source]
        error: io::Error,
    },
    /// The value of an option is not the path of a file. It is not shown, since it may be the secret itself.
    #[error(
        "{key}: its value must be the path of a file with the secret, and there is no such file: {error}"
    )]
    NotAFile {
        /// The option.
        key: &'static str,
        /// The error of the system.
        #[source]
        error: io::Error,
    },
    /// The identity of the recording cannot be read or written.
    #[error("the identity of the recording: {0}")]
    Instance(#[source] io::Error),
    /// The thread that forwards cannot be started.
    #[error("cannot start the thread that forwards: {0}")]
    Thread(#[source] io::Error),
}

impl ForwardError {
    /// Whether a later start may succeed without a change of the configuration.
    pub(super) const fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::Thread(_)
                | Self::Stream(
                    CheckError::NoStream(_)
                        | CheckError::Taken { .. }
                        | CheckError::NotCreated(_)
                        | CheckError::NotReplicated
                )
        )
    }
}
