//! The space that a recording takes: [`Space`] counts the bytes of all its files, and makes room before each write.

mod room;

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::format::filename::{self, Suffix};
use crate::write::report::{LogReport, Reporter, SpaceLimit};
use crate::write::retention::Retention;
use crate::write::stats::Stats;
use crate::write::storage::Folder;

/// Delay before a failed deletion is retried.
const AGAIN: Duration = Duration::from_secs(1);
/// Delay between two attempts to make room, unless a file is sealed.
const LOOK: Duration = Duration::from_millis(50);
/// How long a writer waits for free space without a report, and how long for a slow disk.
const QUIET: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5));
/// Smallest length of a file to which a lack of free space limits it, in bytes.
const FILE_MIN: u64 = 1 << 20;

/// Counts the files of a recording, and deletes the oldest.
#[derive(Debug)]
pub(super) struct Space {
    pub(super) retention: Arc<Retention>,
    state: Mutex<State>,
    /// A file was sealed, or the sync thread has ended.
    changed: Condvar,
    /// Largest length of one file, given the free space.
    file_max: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    /// Length of all files: at the last listing, with the writes and deletions since.
    total: Option<u64>,
    /// Bytes of writes in progress.
    reserved: u64,
    /// The files that are written or wait to be sealed, with their lengths. Their names have the suffix of a part.
    unsealed: HashMap<String, u64>,
    /// The file that is being packed.
    packing: Option<Packing>,
    /// Free bytes of the file system, less the writes since, and when they were measured.
    free: Option<(u64, Instant)>,
    /// When deleted files did not appear as free space.
    unsettled: Option<Instant>,
    /// When nothing was left to delete but files that are kept, and from which number on.
    kept: Option<(Option<u64>, Instant)>,
    /// The limit on the length is exceeded because of them, and this was reported.
    is_over: bool,
    /// When a deletion last failed.
    complained: Option<Instant>,
    /// The sync thread has ended: nothing will be sealed.
    is_gone: bool,
}

#[derive(Debug)]
struct Packing {
    name: String,
    copy: String,
    /// Bytes that are reserved for the copy.
    len: u64,
}

/// Why there is no room.
#[derive(Debug)]
enum Shortage {
    /// Files wait to be sealed. Once sealed, they may be deleted.
    Unsealed,
    /// The file system has too little free space, and there is no file to delete.
    Free {
        free: u64,
        min: u64,
        /// Bytes of the write that waits.
        len: u64,
        is_kept: bool,
    },
}

/// When the bytes of a limit are needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    /// For the write that waits.
    Now,
    /// For later writes, too.
    Later,
}

/// Which files may be deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deletable {
    /// All but those that are written or wait to be sealed.
    All,
    /// All but unsealed files.
    Sealed,
}

/// The log whose files are counted.
pub(super) struct SpaceContext<'a> {
    pub(super) folder: &'a dyn Folder,
    pub(super) stats: &'a Stats,
    pub(super) reporter: &'a Reporter,
    /// The log does not wait any more.
    pub(super) gave_up: &'a AtomicBool,
    /// Held while a file is replaced, or removed.
    pub(super) names: &'a Mutex<()>,
    /// Returns the number of messages of a file, if it is known.
    pub(super) count: &'a dyn Fn(&str) -> Option<u64>,
}

impl SpaceContext<'_> {
    fn remove(&self, name: &str) -> io::Result<()> {
        let _held = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        self.folder.remove(name)
    }
}

impl State {
    /// Bytes of all files and of the writes in progress.
    fn used(&self) -> u64 {
        let packing = self.packing.as_ref().map_or(0, |packing| packing.len);
        self.total.unwrap_or_default() + self.reserved + packing
    }

    /// Whether files wait to be sealed, besides the one that is written.
    fn has_queue(&self) -> bool {
        1 < self.unsealed.len()
    }

    fn may_be_deleted(&self, name: &str, deletable: Deletable) -> bool {
        let is_packed = self.packing.as_ref().is_some_and(|it| it.name == name);
        match filename::suffix(name) {
            Some(Suffix::Sealed | Suffix::Lost) => !is_packed,
            Some(Suffix::Part) => deletable == Deletable::All && !self.unsealed.contains_key(name),
            Some(Suffix::New) | None => false,
        }
    }
}

impl Space {
    pub(super) fn new(retention: Arc<Retention>) -> Self {
        Self {
            retention,
            state: Mutex::default(),
            changed: Condvar::new(),
            file_max: u64::MAX.into(),
        }
    }

    /// Largest length of one file, in bytes.
    pub(super) fn file_max(&self) -> u64 {
        let by_free = self.file_max.load(Ordering::Relaxed);
        self.retention.file_max().min(by_free)
    }

    /// A file was created, with the suffix of a part.
    pub(super) fn begin(&self, part: &str) {
        self.lock().unsealed.insert(part.to_owned(), 0);
    }

    /// A file was sealed or given up. From now on it may be deleted.
    pub(super) fn release(&self, part: &str) {
        self.lock().unsealed.remove(part);
        self.changed.notify_all();
    }

    /// Files will be sealed, by the sync thread of a new log.
    pub(super) fn start(&self) {
        self.lock().is_gone = false;
    }

    /// No file will be sealed any more.
    pub(super) fn stop(&self) {
        self.lock().is_gone = true;
        self.changed.notify_all();
    }

    /// Reserves bytes for a write. Deletes the oldest files if they do not fit within the limits, and waits if nothing may
    /// be deleted. After the log gave up, it does not wait.
    pub(super) fn reserve(&self, context: &SpaceContext<'_>, len: u64) {
        let mut state = self.lock();
        let mut held: Option<(Instant, Option<&str>)> = None;
        loop {
            let shortage = self.make_room(&mut state, context, len, Need::Now, Deletable::All);
            let Some(shortage) = shortage else {
                break;
            };
            if context.gave_up.load(Ordering::Relaxed) || state.is_gone {
                break;
            }
            let (since, reported) = held.get_or_insert_with(|| (Instant::now(), None));
            let quiet = match shortage {
                Shortage::Free { .. } => QUIET.0,
                Shortage::Unsealed => QUIET.1,
            };
            if quiet < since.elapsed() && reported.is_none() {
                let (step, error) = shortage.describe();
                *reported = Some(step);
                if matches!(shortage, Shortage::Free { .. }) {
                    context.stats.write_error(&error);
                }
                if context.stats.refused(step, &error) {
                    let limit = match shortage {
                        Shortage::Unsealed => SpaceLimit::MaxBytes(self.max_bytes()),
                        Shortage::Free { min, .. } => SpaceLimit::MinFree(min),
                    };
                    let error = &error;
                    context.reporter.report(&LogReport::NoRoom { limit, error });
                }
            }
            let waited = self.changed.wait_timeout(state, LOOK);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        if let Some((since, Some(step))) = held {
            context.stats.taken(step);
            if !context.gave_up.load(Ordering::Relaxed) {
                let after = since.elapsed();
                context.reporter.report(&LogReport::Resumed { after });
            }
        }
        state.reserved += len;
    }

    /// Ends the reservation of `reserved` bytes, of which `written` were written to a part.
    pub(super) fn written(
        &self,
        context: &SpaceContext<'_>,
        part: &str,
        reserved: u64,
        written: u64,
    ) {
        let mut state = self.lock();
        state.reserved -= reserved;
        if let Some(total) = &mut state.total {
            *total += written;
        }
        if let Some(len) = state.unsealed.get_mut(part) {
            *len += written;
        }
        if let Some((free, _)) = &mut state.free {
            *free = free.saturating_sub(written);
        }
        context.stats.space(state.total, None);
    }

    /// Reserves space for the packed copy of a sealed file, which is at most as long as the file. Returns `false` if there
    /// is none. Does not wait.
    pub(super) fn reserve_copy(&self, context: &SpaceContext<'_>, name: &str, len: u64) -> bool {
        let mut state = self.lock();
        state.packing = Some(Packing {
            name: name.to_owned(),
            copy: format!("{name}.{}", filename::NEW),
            len: 0,
        });
        let shortage = self.make_room(&mut state, context, len, Need::Now, Deletable::Sealed);
        let fits = shortage.is_none() && state.used().saturating_add(len) <= self.max_bytes();
        match &mut state.packing {
            Some(packing) if fits => packing.len = len,
            packing => *packing = None,
        }
        fits
    }

    /// Ends the reservation for a packed copy.
    pub(super) fn release_copy(&self, context: &SpaceContext<'_>) {
        let mut state = self.lock();
        state.packing = None;
        self.list(&mut state, context);
    }

    /// Deletes the oldest sealed files until `len` more bytes fit within the limits, as far as possible. Does not wait.
    pub(super) fn make_room_for(&self, context: &SpaceContext<'_>, len: u64) {
        let mut state = self.lock();
        self.list(&mut state, context);
        self.measure(&mut state, context);
        self.make_room(&mut state, context, len, Need::Now, Deletable::Sealed);
    }

    /// Deletes ahead of need. Counts the files again if others may have changed, and measures the free space.
    pub(super) fn tidy(&self, context: &SpaceContext<'_>, is_changed: bool) {
        let mut state = self.lock();
        if is_changed || state.total.is_none() {
            self.list(&mut state, context);
        }
        self.measure(&mut state, context);
        self.make_room(&mut state, context, 0, Need::Later, Deletable::All);
    }

    fn max_bytes(&self) -> u64 {
        self.retention.max_bytes().unwrap_or(u64::MAX)
    }

    /// Counts all files again. Returns them with their lengths, or `None` if they cannot be listed.
    fn list(&self, state: &mut State, context: &SpaceContext<'_>) -> Option<Vec<(String, u64)>> {
        let mut files = match context.folder.list() {
            Ok(files) => files,
            Err(error) => {
                let limit = SpaceLimit::MaxBytes(self.max_bytes());
                state.failed(context, limit, Some(error));
                return None;
            }
        };
        let copy = state.packing.as_ref().filter(|it| it.len != 0);
        let copy = copy.map(|packing| packing.copy.as_str());
        files.retain(|(name, _)| filename::number(name).is_some() && Some(name.as_str()) != copy);
        // The lengths of files that are written change meanwhile.
        let sealed = files
            .iter()
            .filter(|(name, _)| !state.unsealed.contains_key(name));
        let sealed: u64 = sealed.map(|(_, len)| len).sum();
        state.total = Some(sealed + state.unsealed.values().sum::<u64>());
        context.stats.space(state.total, None);
        Some(files)
    }

    /// Measures the free space of the file system.
    fn measure(&self, state: &mut State, context: &SpaceContext<'_>) {
        let free = context.folder.free().ok();
        state.free = free.map(|free| (free, Instant::now()));
        context.stats.space(state.total, free);
        let file_max = match (self.retention.min_free(), free) {
            (Some(min), Some(free)) => {
                let own = state.total.unwrap_or_default();
                let most = own.saturating_add(free).saturating_sub(min);
                Retention::file_max_of(most).max(FILE_MIN)
            }
            _ => u64::MAX,
        };
        self.file_max.store(file_max, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether a deletion failed a moment ago. Received messages do not wait for a file that cannot be deleted.
    fn is_failing(&self) -> bool {
        self.complained.is_some_and(|at| at.elapsed() < AGAIN)
    }

    /// Records whether deletions failed, and reports the first failure.
    fn failed(
        &mut self,
        context: &SpaceContext<'_>,
        limit: SpaceLimit,
        refused: Option<io::Error>,
    ) {
        if let Some(error) = &refused {
            context.stats.write_error(error);
            if self.complained.is_none() {
                context
                    .reporter
                    .report(&LogReport::DeletionFailed { limit, error });
            }
        }
        self.complained = refused.map(|_| Instant::now());
    }
}

impl Shortage {
    /// The operation that is refused, and its error.
    fn describe(&self) -> (&'static str, io::Error) {
        match self {
            Self::Unsealed => (
                "keep within the size limit",
                io::Error::other("files that are not synced yet take the space"),
            ),
            Self::Free {
                free, len, is_kept, ..
            } => {
                let left = match is_kept {
                    true => "all files that are left are kept",
                    false => "no older file is left to delete",
                };
                let text = format!(
                    "{free} bytes are free, the next write needs {len} beyond the minimum, and {left}"
                );
                (
                    "keep the minimum of free space",
                    io::Error::new(io::ErrorKind::StorageFull, text),
                )
            }
        }
    }
}
