//! Limits on the space of a recording: a [`Retention`].

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The limits on the files of a log together: their length, and the free space that they leave in the file system. They
/// can be changed while the log is written. To stay within them, the log deletes the oldest files.
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
pub struct Retention {
    /// Largest length of all files; `u64::MAX` for no limit.
    max_bytes: AtomicU64,
    /// Least free space; 0 for no limit.
    min_free: AtomicU64,
    /// Files with this number or a higher one are kept. Held while a file is deleted.
    kept_from: Mutex<Option<u64>>,
}

impl Retention {
    /// Creates a limit in bytes on the length of all files; `None` for no limit.
    #[must_use]
    pub fn new(max_bytes: Option<u64>) -> Arc<Self> {
        Arc::new(Self {
            max_bytes: max_bytes.unwrap_or(u64::MAX).into(),
            min_free: 0.into(),
            kept_from: Mutex::default(),
        })
    }

    /// Changes the limit on the length of all files. It applies from the next write on.
    pub fn set(&self, max_bytes: Option<u64>) {
        let max_bytes = max_bytes.unwrap_or(u64::MAX);
        self.max_bytes.store(max_bytes, Ordering::Relaxed);
    }

    /// Changes the least number of bytes that stay free in the file system; `None` for no limit. It applies from the next
    /// write on. If less is free and no file is left to delete, the log waits.
    pub fn set_min_free(&self, min_free: Option<u64>) {
        self.min_free
            .store(min_free.unwrap_or(0), Ordering::Relaxed);
    }

    /// Keeps all files with this number or a higher one, because they are still needed: no limit deletes them any more once
    /// this returns. `None` keeps no file. Call it before the log is created, which deletes files, too.
    ///
    /// A log that has no other file to delete exceeds the limit on the length of all files, and reports that once with
    /// [`LogReport::OverLimit`](crate::LogReport::OverLimit); [`StatsSnapshot::bytes_over_limit`](crate::StatsSnapshot::bytes_over_limit)
    /// says by how much. For the least free space, it waits as if no file were left.
    ///
    /// Files that are not kept any more are deleted with one of the next commits, or within 10 s.
    ///
    /// # Examples
    /// ```
    /// use blocksd_recording::{Retention, TailPosition};
    ///
    /// /// Keeps what comes after a position that was forwarded.
    /// fn forwarded(retention: &Retention, position: &TailPosition) {
    ///     retention.keep_from(Some(position.number));
    /// }
    /// # let retention = Retention::new(None);
    /// # let nonce = blocksd_recording::FileNonce::new();
    /// # forwarded(&retention, &TailPosition { number: 7, nonce, messages: 1 });
    /// # assert_eq!(retention.kept_from(), Some(7));
    /// ```
    pub fn keep_from(&self, number: Option<u64>) {
        *self.lock() = number;
    }

    /// Returns the number from which on files are kept, if there is one.
    #[must_use]
    pub fn kept_from(&self) -> Option<u64> {
        *self.lock()
    }

    /// Deletes a file with this number, unless it is kept. Returns `None` if it is.
    pub(super) fn delete<T>(&self, number: Option<u64>, delete: impl FnOnce() -> T) -> Option<T> {
        let kept_from = self.lock();
        let is_kept = kept_from.is_some_and(|from| number.is_some_and(|number| from <= number));
        (!is_kept).then(delete)
    }

    fn lock(&self) -> MutexGuard<'_, Option<u64>> {
        self.kept_from
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the limit on the length of all files, if there is one.
    #[must_use]
    pub fn max_bytes(&self) -> Option<u64> {
        Some(self.max_bytes.load(Ordering::Relaxed)).filter(|max| *max != u64::MAX)
    }

    /// Returns the least number of free bytes, if there is a limit.
    #[must_use]
    pub fn min_free(&self) -> Option<u64> {
        Some(self.min_free.load(Ordering::Relaxed)).filter(|min| *min != 0)
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
