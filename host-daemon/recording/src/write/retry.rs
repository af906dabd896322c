//! Tries what the disk refuses again: [`LogContext::retry`].

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::error::{Error, LogError};
use crate::write::report::{LogReport, Reporter};
use crate::write::retention::Retention;
use crate::write::stats::Stats;
use crate::write::storage::{Directory, Folder};

/// How long to wait before trying again what the disk refused, at first and at most.
const AGAIN: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// The environment of a log, shared with its sync thread: the folder, the limit of its length, counters and reports.
#[derive(Debug)]
pub struct LogContext {
    /// The counters.
    pub stats: Arc<Stats>,
    /// The path of the folder, for errors.
    pub(super) path: PathBuf,
    pub(super) folder: Arc<dyn Folder>,
    pub(super) retention: Arc<Retention>,
    reporter: Reporter,
    gave_up: AtomicBool,
    on_sealed: OnSealed,
    /// Held while a file is replaced, or removed.
    names: Mutex<()>,
}

/// Called with the name of each file that was sealed.
#[derive(Default)]
struct OnSealed(OnceLock<Box<dyn Fn(&str) + Send + Sync>>);

impl fmt::Debug for OnSealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OnSealed")
            .field(&self.0.get().is_some())
            .finish()
    }
}

impl LogContext {
    /// The context of a log in a folder of this machine.
    ///
    /// # Errors
    /// [`Error::Folder`].
    pub fn open(path: &Path, stats: Arc<Stats>, retention: Arc<Retention>) -> Result<Self, Error> {
        let folder = Directory::open(path).map_err(|error| Error::folder(path, error))?;
        Ok(Self::new(path, Arc::new(folder), stats, retention))
    }

    /// The context of a log in a folder of any kind.
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
            retention,
            reporter: Reporter::default(),
            gave_up: AtomicBool::new(false),
            on_sealed: OnSealed::default(),
            names: Mutex::default(),
        }
    }

    /// Hands reports to this function instead of [`LogReport::log`]. It must not block: the log waits for it.
    #[must_use]
    pub fn reporting_to(self, report: impl Fn(&LogReport<'_>) + Send + Sync + 'static) -> Self {
        let reporter = Reporter::new(report);
        Self { reporter, ..self }
    }

    /// Stops waiting for a disk that refuses data: from now on each refused step is an error.
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
        let _ = self.on_sealed.0.set(Box::new(sealed));
    }

    /// A file was sealed.
    pub(super) fn sealed(&self, name: &str) {
        self.stats.sealed();
        if let Some(sealed) = self.on_sealed.0.get() {
            sealed(name);
        }
    }

    /// Does something while no file is removed or replaced by another thread.
    pub(crate) fn with_names<T>(&self, act: impl FnOnce() -> T) -> T {
        let _held = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        act()
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

    /// Attempts something until it succeeds: a disk that is full now may have room later.
    ///
    /// # Errors
    /// [`LogError::GaveUp`].
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
                // The end tries once more what was given up, and does not log it again.
                if self.stats.refused(step, &error) {
                    let error = &error;
                    self.reporter.report(&LogReport::Refused { step, error });
                }
            }
            // In short steps: nobody who stops the daemon is to wait for a long one.
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
