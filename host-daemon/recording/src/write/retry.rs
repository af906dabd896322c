//! Tries what the disk refuses again: [`LogContext::retry`].

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tracing::{error, info};

use crate::error::{Error, LogError};
use crate::write::retention::Retention;
use crate::write::stats::Stats;
use crate::write::storage::{Directory, Folder};

/// How long to wait before trying again what the disk refused, at first and at most.
const AGAIN: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// What a log and its sync thread share.
#[derive(Debug)]
pub struct LogContext {
    /// The path of the folder, for messages.
    pub path: PathBuf,
    /// Where the files are.
    pub folder: Arc<dyn Folder>,
    /// What is counted.
    pub stats: Arc<Stats>,
    /// Set when the disk is no longer waited for.
    pub abandon: AtomicBool,
    /// Bytes that all files together may have.
    pub retention: Arc<Retention>,
}

impl LogContext {
    /// The context of a log in a folder of this machine.
    ///
    /// # Errors
    /// [`Error::Folder`].
    pub fn open(path: &Path, stats: Arc<Stats>, retention: Arc<Retention>) -> Result<Self, Error> {
        let folder = Directory::open(path).map_err(|error| Error::folder(path, error))?;
        Ok(Self {
            path: path.into(),
            folder: Arc::new(folder),
            stats,
            abandon: AtomicBool::new(false),
            retention,
        })
    }

    /// Attempts something until it succeeds: a disk that is full now may have room later.
    ///
    /// # Errors
    /// [`LogError::GaveUp`].
    pub fn retry<T>(
        &self,
        what: &str,
        mut attempt: impl FnMut() -> io::Result<T>,
    ) -> Result<T, LogError> {
        let mut again = AGAIN.0;
        let mut since = None;
        loop {
            let error = match attempt() {
                Ok(done) => {
                    if let Some(since) = since {
                        let held_up_s = Instant::now().duration_since(since).as_secs_f32();
                        info!(held_up_s, "recording goes on");
                        self.stats.taken(what);
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
                if self.stats.refused(what, &error) {
                    error!("recording: cannot {what}: {error}; devices are held back until it can");
                }
            }
            // In short steps: nobody who stops the daemon is to wait for a long one.
            let until = Instant::now() + again;
            while Instant::now() < until {
                if self.abandon.load(Ordering::Relaxed) {
                    return Err(LogError::GaveUp);
                }
                std::thread::sleep(AGAIN.0);
            }
            again = (again * 2).min(AGAIN.1);
        }
    }
}
