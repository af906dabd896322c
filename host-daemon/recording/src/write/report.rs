//! What a log reports while it writes, besides its [`Stats`](crate::Stats): [`LogReport`].

use std::fmt;
use std::io;
use std::time::Duration;

use tracing::{error, info, warn};

use crate::error::Error;

/// An event of a log that an operator should know. A program that sets
/// [`LogContext::reporting_to`](crate::LogContext::reporting_to) words it itself; else [`log`](Self::log) does.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum LogReport<'a> {
    /// The disk refuses a step. The log retries it, and blocks its caller meanwhile.
    Refused {
        /// The step, such as `write`.
        step: &'a str,
        /// The answer of the system.
        error: &'a io::Error,
    },
    /// The disk has taken what it refused.
    Resumed {
        /// Time since it was refused first.
        after: Duration,
    },
    /// A sync failed: messages may be lost. The next messages go to a new file.
    SyncFailed {
        /// The sealed name of the file.
        file: &'a str,
        /// Counted messages since the sync before.
        messages: u64,
        /// The answer of the system.
        error: &'a io::Error,
    },
    /// A file stays unsealed after a failed sync: a repair seals it.
    LeftUnsealed {
        /// The sealed name of the file.
        file: &'a str,
    },
    /// The file was removed or renamed by another program while it was written.
    FileGone {
        /// The name of the file.
        file: &'a str,
    },
    /// A file was deleted, since all files together exceed the [`Retention`](crate::Retention).
    Deleted {
        /// The name of the file.
        file: &'a str,
        /// Its length in bytes.
        len: u64,
        /// The limit in bytes.
        max_bytes: u64,
    },
    /// A file over the limit cannot be deleted. The log continues, and retries every second.
    DeletionFailed {
        /// The limit in bytes.
        max_bytes: u64,
        /// The answer of the system.
        error: &'a io::Error,
    },
    /// A sealed file could not be rewritten with longer chunks. It stays as it was.
    PackingFailed {
        /// The name of the file.
        file: &'a str,
        /// The cause.
        error: &'a Error,
    },
    /// A defect of the log itself: nothing more is written.
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
            Self::DeletionFailed { .. } => warn!("recording: {self}"),
            Self::Deleted { file, len, .. } => info!(file, bytes = len, "recording: {self}"),
            Self::Resumed { after } => {
                info!(held_up_s = after.as_secs_f32(), "recording continues");
            }
        }
    }
}

impl fmt::Display for LogReport<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { step, error } => write!(f, "cannot {step}: {error}; retrying"),
            Self::Resumed { .. } => f.write_str("the disk takes data again"),
            Self::SyncFailed { error, .. } => write!(
                f,
                "cannot sync: {error}; these messages may be lost, the next go to a new file"
            ),
            Self::LeftUnsealed { .. } => f.write_str("left unsealed; the next start repairs it"),
            Self::FileGone { .. } => f.write_str("another program has removed or renamed the file"),
            Self::Deleted { max_bytes, .. } => {
                write!(f, "deleted, to keep to {max_bytes} bytes")
            }
            Self::DeletionFailed { max_bytes, error } => write!(
                f,
                "cannot delete what exceeds {max_bytes} bytes: {error}; continues, and retries every second"
            ),
            Self::PackingFailed { error, .. } => {
                write!(f, "cannot rewrite a sealed file with longer chunks: {error}")?;
                match std::error::Error::source(error) {
                    Some(cause) => write!(f, ": {cause}; it stays as it was"),
                    None => f.write_str("; it stays as it was"),
                }
            }
            Self::Internal { error } => write!(f, "{error}; please report this"),
        }
    }
}

/// Receives the reports of a log.
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
