//! Errors: [`Error`] of this crate; [`LogError`], the part of it that a log returns for each message.

use std::io;
use std::path::{Path, PathBuf};

/// Why a recording could not be read, written or locked. The cause is in [`source`](std::error::Error::source).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The system does not let a file or a folder be read, or it is not there.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// The answer of the system.
        source: io::Error,
    },
    /// The system does not let a file be written, renamed or removed.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The answer of the system.
        source: io::Error,
    },
    /// The folder of a log cannot be made, or cannot be written to.
    #[error("cannot record to {}", path.display())]
    Folder {
        /// The folder, or the file in it.
        path: PathBuf,
        /// The answer of the system.
        source: io::Error,
    },
    /// A torn file of which a sound recording cannot be made. It stays as it is.
    #[error("the sound parts of {} do not make a sound recording ({findings} findings, the first {first}); please report this, and keep the file", path.display())]
    UnsoundRepair {
        /// The file.
        path: PathBuf,
        /// Count of the findings in the file that was made.
        findings: u64,
        /// The first of them.
        first: String,
    },
    /// Another process writes to the folder.
    #[error("another process is recording to {}; stop it first", path.display())]
    Locked {
        /// The folder.
        path: PathBuf,
    },
    /// A log takes no more messages.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// Whose fault an error is, and so who can do something about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The operating system or the disk refuses something: the operator can make room, set permissions, or try again.
    System,
    /// Another process uses the folder.
    InUse,
    /// The program uses this library in a wrong way.
    Usage,
    /// A defect of this library. Please report it.
    Defect,
}

impl Error {
    /// Whose fault it is.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Read { .. } | Self::Write { .. } | Self::Folder { .. } => ErrorKind::System,
            Self::UnsoundRepair { .. } => ErrorKind::Defect,
            Self::Locked { .. } => ErrorKind::InUse,
            Self::Log(error) => error.kind(),
        }
    }

    pub(crate) fn read(path: &Path, source: io::Error) -> Self {
        let path = path.into();
        Self::Read { path, source }
    }

    pub(crate) fn write(path: &Path, source: io::Error) -> Self {
        let path = path.into();
        Self::Write { path, source }
    }

    pub(crate) fn folder(path: &Path, source: io::Error) -> Self {
        let path = path.into();
        Self::Folder { path, source }
    }

    /// The file or folder that the error is about; none for an error of a log.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Read { path, .. }
            | Self::Write { path, .. }
            | Self::Folder { path, .. }
            | Self::UnsoundRepair { path, .. }
            | Self::Locked { path } => Some(path),
            Self::Log(_) => None,
        }
    }

    /// Whether a file that was to be read is not there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Read { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// Why a log takes no more messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The disk does not take its data, and is no longer waited for.
    #[error("the disk does not take the data of the log")]
    GaveUp,
    /// The channel is of a file that is sealed: [`Log::channel`](crate::Log::channel) gives it in the present one.
    #[error("the channel is of a file that is sealed")]
    StaleChannel,
    /// A defect: a message or a file could not be encoded.
    #[error("the log cannot encode its data; please report this")]
    Internal,
}

impl LogError {
    /// Whose fault it is.
    #[must_use]
    pub const fn kind(self) -> ErrorKind {
        match self {
            Self::GaveUp => ErrorKind::System,
            Self::StaleChannel => ErrorKind::Usage,
            Self::Internal => ErrorKind::Defect,
        }
    }
}
