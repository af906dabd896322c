//! Counters of a log: [`Stats`]. The log updates them, and any thread may read them.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Upper bounds of the histogram of sync durations, in milliseconds. The last bucket has no upper bound.
pub const SYNC_BOUNDS_MS: [u64; 13] = [
    1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000,
];

/// Counters of a log. The log updates them, and any thread may [`read`](Self::read) them. The values of one snapshot
/// may be of slightly different moments.
///
/// # Examples
/// ```
/// use blocksd_recording::{Channel, ChannelSpec, Log, LogOptions};
///
/// # let folder = tempfile::tempdir()?;
/// # let folder = folder.path();
/// let mut log = Log::open(folder, LogOptions::default())?;
/// let spec = || ChannelSpec { is_counted: true, ..ChannelSpec::default() };
/// let channel = log.channel(&mut Channel::default(), spec)?;
/// log.append(channel, 0, 0, b"message")?;
/// let stats = log.stats().clone();
/// log.finish()?;
/// let counted = stats.read();
/// assert_eq!((counted.blocks_synced, counted.files_sealed), (1, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct Stats {
    written: Amount,
    synced: Amount,
    chunks_written: AtomicU64,
    chunks_synced: AtomicU64,
    sync_time_us: AtomicU64,
    syncs: [AtomicU64; SYNC_BOUNDS_MS.len() + 1],
    files_sealed: AtomicU64,
    files_packed: AtomicU64,
    bytes_packed_away: AtomicU64,
    files_deleted: AtomicU64,
    bytes_deleted: AtomicU64,
    messages_deleted: AtomicU64,
    bytes_on_disk: AtomicU64,
    bytes_free: AtomicU64,
    bytes_over_limit: AtomicU64,
    errors: [AtomicU64; WriteErrorKind::ALL.len()],
    /// Number of threads that wait for the disk.
    retrying: AtomicU64,
    refusals: Mutex<Refusals>,
    files_repaired: AtomicU64,
    blocks_recovered: AtomicU64,
    bytes_lost: AtomicU64,
}

/// Operations that the disk refuses.
#[derive(Debug, Default)]
struct Refusals {
    /// Text of the last refusal.
    last: String,
    /// Operations that are being retried, or were given up.
    open: Vec<String>,
}

/// Counted messages and bytes.
#[derive(Debug, Default)]
struct Amount {
    blocks: AtomicU64,
    bytes: AtomicU64,
}

/// Why a write to the recording failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteErrorKind {
    /// The disk is full, or a quota or file size limit is reached.
    Full,
    /// The file system is read-only.
    ReadOnly,
    /// Anything else, such as a device that fails.
    Other,
}

impl WriteErrorKind {
    /// All kinds, in the order of their declaration.
    pub const ALL: [Self; 3] = [Self::Full, Self::ReadOnly, Self::Other];

    /// Returns the kind of an error.
    #[must_use]
    pub fn of(error: &io::Error) -> Self {
        use io::ErrorKind::{FileTooLarge, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
        match error.kind() {
            StorageFull | QuotaExceeded | FileTooLarge => Self::Full,
            ReadOnlyFilesystem => Self::ReadOnly,
            _ => Self::Other,
        }
    }

    /// The name of the kind in the metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::ReadOnly => "read_only",
            Self::Other => "other",
        }
    }
}

impl Stats {
    /// Counts a chunk that was handed to the system: its counted messages, and its bytes in the file.
    pub fn chunk_written(&self, blocks: u64, bytes: u64) {
        add(&self.chunks_written, 1);
        self.written.add(blocks, bytes);
    }

    /// Counts the bytes after the last chunk of a file, once they are handed to the system.
    pub fn end_written(&self, bytes: u64) {
        self.written.add(0, bytes);
    }

    /// Counts a completed group commit: its chunks, their counted messages, its bytes, and how long the sync took.
    pub fn synced(&self, chunks: u64, blocks: u64, bytes: u64, duration: Duration) {
        add(&self.chunks_synced, chunks);
        self.synced.add(blocks, bytes);
        let bucket = SYNC_BOUNDS_MS.partition_point(|&ms| Duration::from_millis(ms) < duration);
        if let Some(count) = self.syncs.get(bucket) {
            add(count, 1);
        }
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        add(&self.sync_time_us, us);
    }

    /// Counts a sealed file.
    pub fn sealed(&self) {
        add(&self.files_sealed, 1);
    }

    /// Counts a sealed file of `before` bytes that was rewritten, and now has `after` bytes.
    pub fn packed(&self, before: u64, after: u64) {
        add(&self.files_packed, 1);
        add(&self.bytes_packed_away, before.saturating_sub(after));
    }

    /// Counts files that retention deleted, their bytes, and their messages as far as known.
    pub fn deleted(&self, files: u64, bytes: u64, messages: u64) {
        add(&self.files_deleted, files);
        add(&self.bytes_deleted, bytes);
        add(&self.messages_deleted, messages);
    }

    /// Sets the bytes of all files, and the free bytes of their file system, as far as known.
    pub fn space(&self, on_disk: Option<u64>, free: Option<u64>) {
        for (gauge, value) in [(&self.bytes_on_disk, on_disk), (&self.bytes_free, free)] {
            if let Some(value) = value {
                gauge.store(value, Ordering::Relaxed);
            }
        }
    }

    /// Sets the bytes by which the files exceed the limit on their length, because files are kept.
    pub fn over_limit(&self, bytes: u64) {
        self.bytes_over_limit.store(bytes, Ordering::Relaxed);
    }

    /// Counts a failed write, sync or creation of a file.
    pub fn write_error(&self, error: &io::Error) {
        if let Some(count) = self.errors.get(WriteErrorKind::of(error) as usize) {
            add(count, 1);
        }
    }

    /// Records that the disk refuses an operation, and that one thread [waits](Self::retrying) for it. Returns `false`
    /// if the same operation was given up before.
    pub fn refused(&self, what: &str, error: &io::Error) -> bool {
        let mut refusals = self.refusals();
        refusals.last = format!("cannot {what}: {error}");
        let is_new = refusals.open.iter().all(|open| open != what);
        if is_new {
            refusals.open.push(what.to_owned());
        }
        drop(refusals);
        self.retrying(true);
        is_new
    }

    /// Records that the disk accepted an operation that it had [refused](Self::refused).
    pub fn taken(&self, what: &str) {
        self.refusals().open.retain(|open| open != what);
        self.retrying(false);
    }

    /// Returns the text of the last refusal while a thread waits for the disk.
    #[must_use]
    pub fn refusal(&self) -> Option<String> {
        let waits = self.retrying.load(Ordering::Relaxed) != 0;
        waits.then(|| self.refusals().last.clone())
    }

    fn refusals(&self) -> MutexGuard<'_, Refusals> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one thread more that waits for the disk, or one less.
    pub fn retrying(&self, retrying: bool) {
        if retrying {
            add(&self.retrying, 1);
        } else {
            self.retrying.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Counts a repaired file: the counted messages that were recovered, and the bytes that were lost.
    pub fn repaired(&self, blocks: u64, bytes_lost: u64) {
        add(&self.files_repaired, 1);
        add(&self.blocks_recovered, blocks);
        add(&self.bytes_lost, bytes_lost);
    }

    /// Reads all counters.
    #[must_use]
    pub fn read(&self) -> StatsSnapshot {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        StatsSnapshot {
            blocks_written: read(&self.written.blocks),
            bytes_written: read(&self.written.bytes),
            chunks_written: read(&self.chunks_written),
            blocks_synced: read(&self.synced.blocks),
            bytes_synced: read(&self.synced.bytes),
            chunks_synced: read(&self.chunks_synced),
            syncs: self.syncs.each_ref().map(read),
            sync_time: Duration::from_micros(read(&self.sync_time_us)),
            files_sealed: read(&self.files_sealed),
            files_packed: read(&self.files_packed),
            bytes_packed_away: read(&self.bytes_packed_away),
            files_deleted: read(&self.files_deleted),
            bytes_deleted: read(&self.bytes_deleted),
            messages_deleted: read(&self.messages_deleted),
            bytes_on_disk: read(&self.bytes_on_disk),
            bytes_free: read(&self.bytes_free),
            bytes_over_limit: read(&self.bytes_over_limit),
            errors: self.errors.each_ref().map(read),
            retrying: read(&self.retrying) != 0,
            files_repaired: read(&self.files_repaired),
            blocks_recovered: read(&self.blocks_recovered),
            bytes_lost: read(&self.bytes_lost),
        }
    }
}

impl Amount {
    fn add(&self, blocks: u64, bytes: u64) {
        add(&self.blocks, blocks);
        add(&self.bytes, bytes);
    }
}

fn add(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}

/// The values of [`Stats`] at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatsSnapshot {
    /// Counted messages handed to the system.
    pub blocks_written: u64,
    /// Bytes of files handed to the system.
    pub bytes_written: u64,
    /// Chunks handed to the system.
    pub chunks_written: u64,
    /// Counted messages that are on the disk.
    pub blocks_synced: u64,
    /// Bytes of files that are on the disk.
    pub bytes_synced: u64,
    /// Chunks that are on the disk.
    pub chunks_synced: u64,
    /// Histogram of sync durations: for each of [`SYNC_BOUNDS_MS`], the syncs that took at most this long, and longer
    /// than the previous bound. The last entry counts longer ones.
    pub syncs: [u64; SYNC_BOUNDS_MS.len() + 1],
    /// Total duration of all syncs.
    pub sync_time: Duration,
    /// Files that were sealed.
    pub files_sealed: u64,
    /// Sealed files that were rewritten with longer chunks.
    pub files_packed: u64,
    /// Bytes by which these files became shorter.
    pub bytes_packed_away: u64,
    /// Files that retention deleted.
    pub files_deleted: u64,
    /// Bytes of the deleted files.
    pub bytes_deleted: u64,
    /// Messages of the deleted files, as far as [known](crate::LogContext::counting_with).
    pub messages_deleted: u64,
    /// Bytes of all files of the log: sealed, unsealed, and originals of repaired ones.
    pub bytes_on_disk: u64,
    /// Free bytes of their file system at the last measurement.
    pub bytes_free: u64,
    /// Bytes by which the files exceed the limit on their length, because files are [kept](crate::Retention::keep_from).
    pub bytes_over_limit: u64,
    /// Failed operations, in the order of [`WriteErrorKind::ALL`].
    pub errors: [u64; WriteErrorKind::ALL.len()],
    /// Whether a thread waits for the disk.
    pub retrying: bool,
    /// Torn files that were repaired at the start.
    pub files_repaired: u64,
    /// Counted messages that were recovered from these files.
    pub blocks_recovered: u64,
    /// Bytes of these files that were lost.
    pub bytes_lost: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sync_is_counted_in_its_bucket() {
        let stats = Stats::default();
        for us in [0, 1_000, 1_001, 10_000_000, 10_000_001] {
            stats.synced(1, 2, 3, Duration::from_micros(us));
        }
        let reading = stats.read();
        let mut syncs = [0; SYNC_BOUNDS_MS.len() + 1];
        (syncs[0], syncs[1], syncs[12], syncs[13]) = (2, 1, 1, 1);
        assert_eq!(reading.syncs, syncs);
        assert_eq!(reading.sync_time, Duration::from_micros(20_002_002));
        let counted = (
            reading.chunks_synced,
            reading.blocks_synced,
            reading.bytes_synced,
        );
        assert_eq!(counted, (5, 10, 15));
    }

    #[test]
    fn a_thread_that_continues_does_not_hide_one_that_waits() {
        let stats = Stats::default();
        stats.retrying(true);
        stats.retrying(true);
        stats.retrying(false);
        assert!(stats.read().retrying);
        stats.retrying(false);
        assert!(!stats.read().retrying);
    }

    #[test]
    fn failures_are_counted_by_kind() {
        let stats = Stats::default();
        for kind in [
            io::ErrorKind::StorageFull,
            io::ErrorKind::QuotaExceeded,
            io::ErrorKind::ReadOnlyFilesystem,
            io::ErrorKind::NotFound,
        ] {
            stats.write_error(&kind.into());
        }
        assert_eq!(stats.read().errors, [2, 1, 1]);
    }
}
