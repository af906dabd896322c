//! Counters of a log: [`Stats`]. The log adds to them; any thread may read them at any time.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Upper bounds of the buckets for the duration of syncs, in ms. The last bucket, for longer ones, has none.
pub const SYNC_BOUNDS_MS: [u64; 13] = [
    1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000,
];

/// Counts what a log has done. The log adds to it, and any thread may read it. The figures of one
/// [`read`](Self::read) need not be of the same moment.
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
    errors: [AtomicU64; WriteErrorKind::ALL.len()],
    /// Threads that do.
    retrying: AtomicU64,
    refusals: Mutex<Refusals>,
    files_repaired: AtomicU64,
    blocks_recovered: AtomicU64,
    bytes_lost: AtomicU64,
}

/// What the disk refuses.
#[derive(Debug, Default)]
struct Refusals {
    /// The last one, in words.
    last: String,
    /// What is waited for, or was given up.
    open: Vec<String>,
}

/// Blocks and bytes.
#[derive(Debug, Default)]
struct Amount {
    blocks: AtomicU64,
    bytes: AtomicU64,
}

/// Why a write to the recording failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteErrorKind {
    /// The disk is full, or a quota or a limit of file size is reached.
    Full,
    /// The file system cannot be written to.
    ReadOnly,
    /// Anything else, such as a device that fails.
    Other,
}

impl WriteErrorKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Full, Self::ReadOnly, Self::Other];

    /// The kind of an error.
    #[must_use]
    pub fn of(error: &io::Error) -> Self {
        use io::ErrorKind::{FileTooLarge, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
        match error.kind() {
            StorageFull | QuotaExceeded | FileTooLarge => Self::Full,
            ReadOnlyFilesystem => Self::ReadOnly,
            _ => Self::Other,
        }
    }

    /// The word for it in the metrics.
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
    /// A chunk was handed to the system: so many blocks, and so many bytes of the file.
    pub fn chunk_written(&self, blocks: u64, bytes: u64) {
        add(&self.chunks_written, 1);
        self.written.add(blocks, bytes);
    }

    /// The end of a file was handed to the system: so many bytes behind its last chunk.
    pub fn end_written(&self, bytes: u64) {
        self.written.add(0, bytes);
    }

    /// A group commit is done: `chunks` chunks with so many blocks, and so many bytes of the file, are on the disk.
    /// It took the system so long.
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

    /// A file was ended and given its name.
    pub fn sealed(&self) {
        add(&self.files_sealed, 1);
    }

    /// A sealed file of `before` bytes was rewritten, and now has `after` bytes.
    pub fn packed(&self, before: u64, after: u64) {
        add(&self.files_packed, 1);
        add(&self.bytes_packed_away, before.saturating_sub(after));
    }

    /// So many files, of so many bytes together, were deleted to keep to the space that the recording may take.
    pub fn deleted(&self, files: u64, bytes: u64) {
        add(&self.files_deleted, files);
        add(&self.bytes_deleted, bytes);
    }

    /// A write, a sync or a new file failed.
    pub fn write_error(&self, error: &io::Error) {
        if let Some(count) = self.errors.get(WriteErrorKind::of(error) as usize) {
            add(count, 1);
        }
    }

    /// The disk refuses something, and one thread of the recording [waits](Self::retrying) for it from now on. Returns
    /// whether that is new: not a wait that was given up before.
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

    /// The disk has taken what it [refused](Self::refused).
    pub fn taken(&self, what: &str) {
        self.refusals().open.retain(|open| open != what);
        self.retrying(false);
    }

    /// What the disk refuses, while a thread of the recording waits for it.
    #[must_use]
    pub fn refusal(&self) -> Option<String> {
        let waits = self.retrying.load(Ordering::Relaxed) != 0;
        waits.then(|| self.refusals().last.clone())
    }

    fn refusals(&self) -> MutexGuard<'_, Refusals> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One thread of the recording waits from now on for the disk to take what it refused, or waits no longer.
    pub fn retrying(&self, retrying: bool) {
        if retrying {
            add(&self.retrying, 1);
        } else {
            self.retrying.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// A torn file was repaired at the start: so many blocks were found whole, so many bytes were not.
    pub fn repaired(&self, blocks: u64, bytes_lost: u64) {
        add(&self.files_repaired, 1);
        add(&self.blocks_recovered, blocks);
        add(&self.bytes_lost, bytes_lost);
    }

    /// What was counted so far.
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

/// The figures of [`Stats`] at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatsSnapshot {
    /// Blocks handed to the system.
    pub blocks_written: u64,
    /// Bytes of the files handed to the system.
    pub bytes_written: u64,
    /// Chunks handed to the system.
    pub chunks_written: u64,
    /// Blocks that are on the disk.
    pub blocks_synced: u64,
    /// Bytes of the files that are on the disk.
    pub bytes_synced: u64,
    /// Chunks that are on the disk.
    pub chunks_synced: u64,
    /// How many syncs took no longer than each of [`SYNC_BOUNDS_MS`] and longer than the one before; the last, longer
    /// than all.
    pub syncs: [u64; SYNC_BOUNDS_MS.len() + 1],
    /// How long all syncs took together.
    pub sync_time: Duration,
    /// Files that were ended and given their names.
    pub files_sealed: u64,
    /// Sealed files that were rewritten with longer chunks.
    pub files_packed: u64,
    /// Bytes by which these became shorter.
    pub bytes_packed_away: u64,
    /// Files that were deleted to make room.
    pub files_deleted: u64,
    /// Bytes of those files.
    pub bytes_deleted: u64,
    /// Errors, in the order of [`WriteErrorKind::ALL`].
    pub errors: [u64; WriteErrorKind::ALL.len()],
    /// Whether the recording waits for the disk.
    pub retrying: bool,
    /// Torn files that were repaired at the start.
    pub files_repaired: u64,
    /// Blocks that were found whole in them.
    pub blocks_recovered: u64,
    /// Bytes that were not.
    pub bytes_lost: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sync_is_counted_in_the_bucket_that_it_fits_in() {
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
    fn one_thread_that_goes_on_does_not_hide_one_that_waits() {
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
