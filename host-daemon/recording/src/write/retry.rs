//! Retries operations that the disk refuses: [`LogContext::retry`].

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::durability::Durability;
use crate::durable::{is_first, is_unsupported};
use crate::error::{Error, LogError};
use crate::lock::{Lock, LockKeeper};
use crate::write::hook::Hook;
use crate::write::report::{LogReport, Reporter};
use crate::write::retention::Retention;
use crate::write::space::{Space, SpaceContext};
use crate::write::stats::Stats;
use crate::write::storage::{Directory, Folder};

/// Delay before a retry: the first, and the longest.
const AGAIN: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Returns the number of messages of a file, if it can tell.
struct MessageCounter(Box<CountMessages>);

type CountMessages = dyn Fn(&Path) -> Option<u64> + Send + Sync;

impl fmt::Debug for MessageCounter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MessageCounter")
    }
}

/// The environment of a log, shared with its sync thread: folder, retention, counters and reports.
///
/// # Examples
/// ```
/// use std::sync::Arc;
/// use blocksd_recording::{LogContext, Retention};
///
/// # let folder = tempfile::tempdir()?;
/// # let folder = folder.path();
/// let context = LogContext::open(folder, Arc::default(), Retention::new(None))?
///     .reporting_to(|report| eprintln!("recording: {report}"));
/// assert_eq!(context.stats.read().errors, [0, 0, 0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct LogContext {
    /// The counters of the log.
    pub stats: Arc<Stats>,
    /// Path of the folder, for errors.
    pub(super) path: PathBuf,
    pub(crate) folder: Arc<dyn Folder>,
    pub(super) space: Space,
    pub(super) durability: Arc<Durability>,
    reporter: Reporter,
    /// Counts the messages of a file that is about to be deleted.
    counter: Option<MessageCounter>,
    gave_up: AtomicBool,
    /// Called with the name of each file that was sealed.
    on_sealed: Hook<str>,
    /// Held while a file is replaced, or removed.
    names: Mutex<()>,
    /// The folder cannot be synced, and this was reported.
    is_unsynced: AtomicBool,
    /// The lock of the folder.
    lock: Option<LockKeeper>,
    /// The lock could not be renewed, and this was reported.
    is_unlocked: AtomicBool,
}

impl LogContext {
    /// Creates the context of a log in a folder, which is created if it does not exist.
    ///
    /// # Errors
    /// [`Error::Folder`].
    pub fn open(path: &Path, stats: Arc<Stats>, retention: Arc<Retention>) -> Result<Self, Error> {
        let folder = Directory::open(path).map_err(|error| Error::folder(path, error))?;
        Ok(Self::new(path, Arc::new(folder), stats, retention))
    }

    /// Creates the context of a log in a folder with its own implementation.
    #[doc(hidden)]
    #[must_use]
    pub fn new(
        path: &Path,
        folder: Arc<dyn Folder>,
        stats: Arc<Stats>,
        retention: Arc<Retention>,
    ) -> Self {
        Self {
            stats,
            path: path.into(),
            folder,
            space: Space::new(retention),
            durability: Arc::default(),
            reporter: Reporter::default(),
            counter: None,
            gave_up: AtomicBool::new(false),
            on_sealed: Hook::default(),
            names: Mutex::default(),
            is_unsynced: AtomicBool::new(false),
            lock: None,
            is_unlocked: AtomicBool::new(false),
        }
    }

    /// Returns what is known to be durable of the files of the log, for [`Tail::durable`](crate::Tail::durable).
    #[must_use]
    pub const fn durability(&self) -> &Arc<Durability> {
        &self.durability
    }

    /// Creates the lock file again if it is removed while the log is written.
    #[must_use]
    pub fn keeping(self, lock: &Lock) -> Self {
        let lock = Some(lock.keeper());
        Self { lock, ..self }
    }

    /// Sends reports to this function instead of [`LogReport::log`]. It must not block, because the log waits for it.
    #[must_use]
    pub fn reporting_to(self, report: impl Fn(&LogReport<'_>) + Send + Sync + 'static) -> Self {
        let reporter = Reporter::new(report);
        Self { reporter, ..self }
    }

    /// Counts the messages of files before they are deleted with this function, for [`Stats`] and [`LogReport::Deleted`].
    /// It gets the path of a file, and may return `None` if it cannot read the file. Without it, they are not counted.
    #[must_use]
    pub fn counting_with(
        self,
        count: impl Fn(&Path) -> Option<u64> + Send + Sync + 'static,
    ) -> Self {
        let counter = Some(MessageCounter(Box::new(count)));
        Self { counter, ..self }
    }

    /// Deletes the oldest sealed files until `len` more bytes fit within the limits of the [`Retention`], as far as
    /// possible. A log does that before each write. Call it before other programs, such as a repair, write to the folder.
    pub fn make_room(&self, len: u64) {
        self.with_space(|space, context| space.make_room_for(context, len));
    }

    /// Reserves bytes for a write. Waits until there is room.
    pub(super) fn reserve(&self, len: u64) {
        self.with_space(|space, context| space.reserve(context, len));
    }

    /// Ends the reservation of `reserved` bytes, of which `written` were written to a part.
    pub(super) fn written(&self, part: &str, reserved: u64, written: u64) {
        self.with_space(|space, context| space.written(context, part, reserved, written));
    }

    /// Reserves space for the packed copy of a sealed file. Returns `false` if there is none.
    pub(crate) fn reserve_copy(&self, name: &str, len: u64) -> bool {
        self.with_space(|space, context| space.reserve_copy(context, name, len))
    }

    /// Ends the reservation for a packed copy.
    pub(crate) fn release_copy(&self) {
        self.with_space(|space, context| space.release_copy(context));
    }

    /// Deletes files ahead of need. `is_changed` says that the files must be counted again.
    pub(super) fn tidy(&self, is_changed: bool) {
        self.with_space(|space, context| space.tidy(context, is_changed));
    }

    fn with_space<T>(&self, act: impl FnOnce(&Space, &SpaceContext<'_>) -> T) -> T {
        let counter = self.counter.as_ref();
        let count = |name: &str| counter.and_then(|counter| (counter.0)(&self.path.join(name)));
        let context = SpaceContext {
            folder: &*self.folder,
            stats: &self.stats,
            reporter: &self.reporter,
            gave_up: &self.gave_up,
            names: &self.names,
            count: &count,
        };
        act(&self.space, &context)
    }

    /// Ends all retries: from now on, each refused operation returns [`LogError::GaveUp`].
    pub fn give_up(&self) {
        self.gave_up.store(true, Ordering::Relaxed);
    }

    /// Whether [`give_up`](Self::give_up) was called.
    pub(crate) fn has_given_up(&self) -> bool {
        self.gave_up.load(Ordering::Relaxed)
    }

    /// The path of the folder.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Calls this function with the name of each file that is sealed from now on. The first call counts.
    pub(crate) fn on_sealed(&self, sealed: impl Fn(&str) + Send + Sync + 'static) {
        self.on_sealed.set(sealed);
    }

    /// A file was sealed.
    pub(super) fn sealed(&self, name: &str) {
        self.stats.sealed();
        self.on_sealed.call(name);
    }

    /// Does something while no file is removed or replaced by another thread.
    pub(crate) fn with_names<T>(&self, act: impl FnOnce() -> T) -> T {
        let _held = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        act()
    }

    /// Waits until all changes of names in the folder are on the disk, unless its file system cannot do that, which is
    /// reported once.
    pub(crate) fn sync_folder(&self) -> io::Result<()> {
        match self.folder.sync() {
            Err(error) if is_unsupported(&error) => {
                let is_reported = self.is_unsynced.swap(true, Ordering::Relaxed);
                if !is_reported && (is_first(&self.path) || self.path.as_os_str().is_empty()) {
                    self.report(&LogReport::FolderUnsynced { error: &error });
                }
                Ok(())
            }
            synced => synced,
        }
    }

    /// Creates the lock file again if it was removed.
    pub(super) fn renew_lock(&self) {
        let renewed = self.lock.as_ref().map_or(Ok(()), LockKeeper::renew);
        match renewed {
            Ok(()) => self.is_unlocked.store(false, Ordering::Relaxed),
            Err(error) => {
                if !self.is_unlocked.swap(true, Ordering::Relaxed) {
                    self.report(&LogReport::Unlocked { error: &error });
                }
            }
        }
    }

    /// Reports something.
    pub(crate) fn report(&self, report: &LogReport<'_>) {
        self.reporter.report(report);
    }

    pub(super) fn reporter(&self) -> &Reporter {
        &self.reporter
    }

    /// Reports an error of the encoder. It writes to memory only, so any error is a defect.
    pub(super) fn internal<T>(&self, result: io::Result<T>) -> Result<T, LogError> {
        result.map_err(|error| {
            self.reporter.report(&LogReport::Internal { error: &error });
            LogError::Internal
        })
    }

    /// Calls `attempt` until it succeeds, because a full disk may have space later. The delay between attempts doubles
    /// from 50 ms to 1 s. `step` names the operation in reports.
    ///
    /// # Errors
    /// [`LogError::GaveUp`] after [`give_up`](Self::give_up).
    pub fn retry<T>(
        &self,
        step: &str,
        mut attempt: impl FnMut() -> io::Result<T>,
    ) -> Result<T, LogError> {
        let mut again = AGAIN.0;
        let mut since = None;
        loop {
            let error = match attempt() {
                Ok(done) => {
                    if let Some(since) = since {
                        let after = Instant::now().duration_since(since);
                        self.reporter.report(&LogReport::Resumed { after });
                        self.stats.taken(step);
                    }
                    return Ok(done);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => error,
            };
            self.stats.write_error(&error);
            if since.is_none() {
                since = Some(Instant::now());
                // The last attempt of an operation that was given up must not be reported again.
                if self.stats.refused(step, &error) {
                    let error = &error;
                    self.reporter.report(&LogReport::Refused { step, error });
                }
            }
            // Sleep in short steps, so that a shutdown does not wait for a long one.
            let until = Instant::now() + again;
            while Instant::now() < until {
                if self.gave_up.load(Ordering::Relaxed) {
                    return Err(LogError::GaveUp);
                }
                std::thread::sleep(AGAIN.0);
            }
            again = (again * 2).min(AGAIN.1);
        }
    }
}
