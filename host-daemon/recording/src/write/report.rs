//! Reports of a log about its disk and its files: [`LogReport`].

use std::fmt;
use std::io;
use std::time::Duration;

use tracing::{error, info, warn};

use crate::durable::Unsupported;
use crate::error::Error;

/// An event of a log that an operator should know about. By default, [`log`](Self::log) writes it to the log of
/// `tracing`; [`LogContext::reporting_to`](crate::LogContext::reporting_to) replaces that.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum LogReport<'a> {
    /// The disk refuses an operation. The log retries it, and blocks its caller until it succeeds.
    Refused {
        /// The operation, such as `write`.
        step: &'a str,
        /// The error of the operating system.
        error: &'a io::Error,
    },
    /// A retry has succeeded.
    Resumed {
        /// Time since the first refusal.
        after: Duration,
    },
    /// A sync failed: messages may be lost. Further messages go to a new file.
    SyncFailed {
        /// Name of the file once it is sealed.
        file: &'a str,
        /// Counted messages since the previous sync.
        messages: u64,
        /// The error of the operating system.
        error: &'a io::Error,
    },
    /// A file stays unsealed after a failed sync. A repair seals it.
    LeftUnsealed {
        /// Name of the file once it is sealed.
        file: &'a str,
    },
    /// Another program removed or renamed the file while it was written.
    FileGone {
        /// Name of the file.
        file: &'a str,
    },
    /// A file was deleted, to stay within a limit of the [`Retention`](crate::Retention).
    Deleted {
        /// Name of the file. An unsealed file has the suffix `.part`.
        file: &'a str,
        /// Its length in bytes.
        len: u64,
        /// Number of its messages, if that is [known](crate::LogContext::counting_with).
        messages: Option<u64>,
        /// The limit.
        limit: SpaceLimit,
    },
    /// Files over the limit cannot be deleted. The log continues, and retries every second.
    DeletionFailed {
        /// The limit.
        limit: SpaceLimit,
        /// The error of the operating system.
        error: &'a io::Error,
    },
    /// There is no room within a limit, and no file may be deleted. The log waits.
    NoRoom {
        /// The limit.
        limit: SpaceLimit,
        /// Why there is no room.
        error: &'a io::Error,
    },
    /// The files exceed the limit on their length, because files are [kept](crate::Retention::keep_from). The log continues.
    /// Reported once, until the files are within the limit again.
    OverLimit {
        /// The limit on the length of all files, in bytes.
        max: u64,
        /// Bytes beyond it, with those of the write that was about to begin.
        bytes: u64,
        /// The number from which on files are kept.
        kept_from: u64,
    },
    /// A sealed file could not be rewritten with longer chunks. It is unchanged.
    PackingFailed {
        /// The name of the file.
        file: &'a str,
        /// The cause.
        error: &'a Error,
    },
    /// The file system cannot sync the folder, so a power failure may undo the newest names. The log continues.
    FolderUnsynced {
        /// The error of the operating system.
        error: &'a io::Error,
    },
    /// The lock file was removed or replaced, and cannot be locked again. The log continues.
    Unlocked {
        /// The cause: another process has locked the folder, or the file cannot be created.
        error: &'a Error,
    },
    /// A defect of this library. Nothing more is written.
    Internal {
        /// The error.
        error: &'a io::Error,
    },
}

impl LogReport<'_> {
    /// Writes the report to the log of `tracing`.
    pub fn log(&self) {
        match self {
            Self::Refused { .. } | Self::Internal { .. } => error!("recording: {self}"),
            Self::SyncFailed { file, messages, .. } => error!(file, messages, "recording: {self}"),
            Self::LeftUnsealed { file } | Self::FileGone { file } => {
                warn!(file, "recording: {self}");
            }
            Self::PackingFailed { file, .. } => warn!(file, "recording: {self}"),
            Self::NoRoom { .. } | Self::Unlocked { .. } => error!("recording: {self}"),
            Self::DeletionFailed { .. } | Self::FolderUnsynced { .. } | Self::OverLimit { .. } => {
                warn!("recording: {self}");
            }
            Self::Deleted {
                file,
                len,
                messages,
                ..
            } => info!(file, bytes = len, messages, "recording: {self}"),
            Self::Resumed { after } => {
                info!(held_up_s = after.as_secs_f32(), "recording continues");
            }
        }
    }
}

/// A limit of the [`Retention`](crate::Retention).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpaceLimit {
    /// Largest length of all files, in bytes.
    MaxBytes(u64),
    /// Least number of bytes that stay free in the file system.
    MinFree(u64),
}

impl fmt::Display for SpaceLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MaxBytes(max) => write!(f, "stay within {max} bytes"),
            Self::MinFree(min) => write!(f, "keep {min} bytes free"),
        }
    }
}

impl fmt::Display for LogReport<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { step, error } => write!(f, "cannot {step}: {error}; retrying"),
            Self::Resumed { .. } => f.write_str("the disk accepts data again"),
            Self::SyncFailed { error, .. } => write!(
                f,
                "cannot sync: {error}; these messages may be lost, further ones go to a new file"
            ),
            Self::LeftUnsealed { .. } => f.write_str("left unsealed; the next start repairs it"),
            Self::FileGone { .. } => f.write_str("another program has removed or renamed the file"),
            Self::Deleted { limit, .. } => write!(f, "deleted, to {limit}"),
            Self::NoRoom { limit, error } => write!(f, "cannot {limit}: {error}; waiting"),
            Self::DeletionFailed { limit, error } => write!(
                f,
                "cannot delete files to {limit}: {error}; recording continues, retrying every second"
            ),
            Self::OverLimit {
                max,
                bytes,
                kept_from,
            } => {
                write!(
                    f,
                    "the files exceed the limit of {max} bytes by {bytes}, because "
                )?;
                match kept_from {
                    0 => f.write_str("all are kept")?,
                    _ => write!(f, "those from number {kept_from} on are kept")?,
                }
                f.write_str("; recording continues")
            }
            Self::PackingFailed { error, .. } => {
                write!(
                    f,
                    "cannot rewrite a sealed file with longer chunks: {error}"
                )?;
                match std::error::Error::source(error) {
                    Some(cause) => write!(f, ": {cause}; the file is unchanged"),
                    None => f.write_str("; the file is unchanged"),
                }
            }
            Self::FolderUnsynced { error } => Unsupported(error).fmt(f),
            Self::Unlocked { error } => {
                write!(
                    f,
                    "the lock file was removed, and cannot be locked again: {error}"
                )?;
                match std::error::Error::source(error) {
                    Some(cause) => write!(f, ": {cause}"),
                    None => Ok(()),
                }
            }
            Self::Internal { error } => write!(f, "{error}; please report this"),
        }
    }
}

/// The function that receives the reports of a log.
pub(super) struct Reporter(Box<dyn Fn(&LogReport<'_>) + Send + Sync>);

impl Reporter {
    pub(super) fn new(report: impl Fn(&LogReport<'_>) + Send + Sync + 'static) -> Self {
        Self(Box::new(report))
    }

    pub(super) fn report(&self, report: &LogReport<'_>) {
        (self.0)(report);
    }
}

impl Default for Reporter {
    fn default() -> Self {
        Self::new(|report| report.log())
    }
}

impl fmt::Debug for Reporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reporter")
    }
}
