//! Retention: deletes the oldest files of a recording when it exceeds a limit in bytes. Start with [`Retention`].

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::format::filename::{self, Suffix};
use crate::write::report::{LogReport, Reporter};
use crate::write::stats::Stats;
use crate::write::storage::Folder;

/// Delay before a failed deletion is retried.
const AGAIN: Duration = Duration::from_secs(1);

/// The limit on the length of all files of a log together. It can be changed while the log is written.
///
/// # Examples
/// ```
/// use std::sync::Arc;
/// use blocksd_recording::{Log, LogContext, LogOptions, Retention};
///
/// # let folder = tempfile::tempdir()?;
/// # let folder = folder.path();
/// let retention = Retention::new(Some(10 << 30));
/// let context = LogContext::open(folder, Arc::default(), Arc::clone(&retention))?;
/// let log = Log::after_others(LogOptions::default(), Arc::new(context))?;
/// retention.set(Some(5 << 30));
/// # log.finish()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Retention(AtomicU64);

impl Retention {
    /// Creates a limit in bytes; `None` for no limit.
    #[must_use]
    pub fn new(max_bytes: Option<u64>) -> Arc<Self> {
        Arc::new(Self(max_bytes.unwrap_or(u64::MAX).into()))
    }

    /// Changes the limit. It applies from the next commit on.
    pub fn set(&self, max_bytes: Option<u64>) {
        let max_bytes = max_bytes.unwrap_or(u64::MAX);
        self.0.store(max_bytes, Ordering::Relaxed);
    }

    /// The limit in bytes, if there is one.
    fn max_bytes(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|max| *max != u64::MAX)
    }

    /// Largest length of one file, in bytes.
    pub(super) fn file_max(&self) -> u64 {
        self.max_bytes().map_or(u64::MAX, Self::file_max_of)
    }

    /// Returns the largest length of one file for a limit of `max_bytes` for all: a quarter of it.
    #[must_use]
    pub const fn file_max_of(max_bytes: u64) -> u64 {
        max_bytes / 4
    }
}

/// Deletes files of one recording.
#[derive(Debug)]
pub(super) struct Deleter {
    retention: Arc<Retention>,
    /// Length of all sealed files, if known.
    sealed_bytes: Option<u64>,
    /// When a deletion last failed.
    complained: Option<Instant>,
}

impl Deleter {
    pub(super) const fn new(retention: Arc<Retention>) -> Self {
        Self {
            retention,
            sealed_bytes: None,
            complained: None,
        }
    }

    /// Records that a file was sealed, so that the length of all sealed files must be determined again.
    pub(super) const fn sealed(&mut self) {
        self.sealed_bytes = None;
    }

    /// Deletes the oldest sealed files, and originals of repaired files, until all files together are within the limit.
    /// Does not wait for a file that cannot be deleted, because received messages must be synced.
    pub(super) fn apply(
        &mut self,
        folder: &dyn Folder,
        stats: &Stats,
        reporter: &Reporter,
        open_len: u64,
    ) {
        let Some(max_bytes) = self.retention.max_bytes() else {
            return;
        };
        let fits = |sealed_bytes| sealed_bytes + open_len <= max_bytes;
        let is_soon = |at: Instant| at.elapsed() < AGAIN;
        if self.sealed_bytes.is_some_and(fits) || self.complained.is_some_and(is_soon) {
            return;
        }
        let mut refused = None;
        let files = folder.list().unwrap_or_else(|error| {
            refused = Some(error);
            Vec::new()
        });
        let mut sealed: Vec<_> = files
            .into_iter()
            .filter(|(name, _)| {
                matches!(filename::suffix(name), Some(Suffix::Sealed | Suffix::Lost))
            })
            .collect();
        // Of two files with the same number, delete the original first: its whole chunks are in the repaired file.
        sealed.sort_by_key(|(name, _)| (filename::number(name), filename::is_sealed(name)));
        let mut total: u64 = sealed.iter().map(|(_, len)| len).sum();
        for (name, len) in sealed {
            if fits(total) {
                break;
            }
            match folder.remove(&name) {
                Ok(()) => {
                    reporter.report(&LogReport::Deleted {
                        file: &name,
                        len,
                        max_bytes,
                    });
                    stats.deleted(1, len);
                }
                // Another program has removed it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    refused = Some(error);
                    continue;
                }
            }
            total -= len;
        }
        self.sealed_bytes = refused.is_none().then_some(total);
        if let Some(error) = &refused {
            stats.write_error(error);
            if self.complained.is_none() {
                reporter.report(&LogReport::DeletionFailed { max_bytes, error });
            }
        }
        self.complained = refused.map(|_| Instant::now());
    }
}
