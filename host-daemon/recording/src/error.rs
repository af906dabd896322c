//! Errors: [`Error`] of files and folders, [`LogError`] of a log that is open.

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
    #[error("the sound parts of {} do not make a sound recording; please report this, and keep the file", path.display())]
    UnsoundRepair {
        /// The file.
        path: PathBuf,
    },
    /// Another process writes to the folder.
    #[error("another process is recording to {}; stop it first", path.display())]
    Locked {
        /// The folder.
        path: PathBuf,
    },
}

impl Error {
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

    /// The file or folder that the error is about.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Read { path, .. }
            | Self::Write { path, .. }
            | Self::Folder { path, .. }
            | Self::UnsoundRepair { path }
            | Self::Locked { path } => path,
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
pub enum LogError {
    /// The disk does not take its data, and is no longer waited for.
    #[error("the disk does not take the data of the log")]
    GaveUp,
    /// The channel is of a file that is sealed: [`Log::channel`](crate::write::log::Log::channel) gives it in the present one.
    #[error("the channel is of a file that is sealed")]
    StaleChannel,
}
