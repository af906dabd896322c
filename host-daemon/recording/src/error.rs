//! Errors: [`Error`] of this crate, and [`LogError`] of the calls that append to a log.

use std::io;
use std::path::{Path, PathBuf};

/// Why a recording could not be read, written or locked. [`source`](std::error::Error::source) returns the cause.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder cannot be read, or does not exist.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A file cannot be written, renamed or removed.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The folder of a log cannot be created or written to.
    #[error("cannot record to {}", path.display())]
    Folder {
        /// The folder, or the file in it.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The sound parts of a torn file do not make a sound recording. The file is unchanged.
    #[error("the sound parts of {} do not make a sound recording ({findings} findings, first: {first}); please report this, and keep the file", path.display())]
    UnsoundRepair {
        /// The file.
        path: PathBuf,
        /// Number of findings in the repaired file.
        findings: u64,
        /// The first finding.
        first: String,
    },
    /// Another process has locked the folder.
    #[error("another process is recording to {}; stop it first", path.display())]
    Locked {
        /// The folder.
        path: PathBuf,
    },
    /// The log cannot append messages.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// The category of an error, by the party that can resolve it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The operating system or the disk refused an operation. An operator can free space, set permissions or retry.
    System,
    /// Another process uses the folder.
    InUse,
    /// The program uses this library incorrectly.
    Usage,
    /// A defect of this library. Please report it.
    Defect,
}

impl Error {
    /// Returns the category of the error.
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

    /// Returns the file or folder that the error is about, or `None` for an error of a log.
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

    /// Returns whether a file does not exist that should be read.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Read { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// Why a log cannot append messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The disk refused data, and [`LogContext::give_up`](crate::LogContext::give_up) ended the retries.
    #[error("the disk refuses the data of the log, and retrying was given up")]
    GaveUp,
    /// The channel belongs to a sealed file. [`Log::channel`](crate::Log::channel) returns it for the current file.
    #[error("the channel belongs to a sealed file; request it again for the current file")]
    StaleChannel,
    /// A defect of this library: a message or a file could not be encoded.
    #[error("the log cannot encode its data; please report this")]
    Internal,
}

impl LogError {
    /// Returns the category of the error.
    #[must_use]
    pub const fn kind(self) -> ErrorKind {
        match self {
            Self::GaveUp => ErrorKind::System,
            Self::StaleChannel => ErrorKind::Usage,
            Self::Internal => ErrorKind::Defect,
        }
    }
}
