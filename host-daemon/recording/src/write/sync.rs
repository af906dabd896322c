//! Makes files durable while others are written: [`SyncThread`] runs group commits, sealing and retention on its own
//! thread.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread::JoinHandle;
use std::time::Instant;

use crate::error::LogError;
use crate::format::filename;
use crate::write::active::{CommitCounts, SegmentFile};
use crate::write::report::LogReport;
use crate::write::retention::Deleter;
use crate::write::retry::LogContext;
use crate::write::storage::Folder;

/// Length of the queue of jobs. A slower disk blocks the writer.
const JOBS: usize = 4;
/// A job for one file.
#[derive(Debug)]
enum Job {
    Commit(Arc<SegmentFile>, CommitCounts),
    Seal(Arc<SegmentFile>, CommitCounts),
}

/// A handle to the thread that syncs, seals and deletes files.
#[derive(Debug)]
pub(crate) struct SyncThread {
    jobs: mpsc::SyncSender<Job>,
    waiting: Arc<AtomicUsize>,
    done: Arc<OnDone>,
    thread: JoinHandle<Result<(), LogError>>,
}

impl SyncThread {
    /// Starts the thread.
    #[must_use]
    pub(crate) fn start(context: Arc<LogContext>) -> Self {
        let (jobs, queue) = mpsc::sync_channel(JOBS);
        let waiting = Arc::<AtomicUsize>::default();
        let done = Arc::<OnDone>::default();
        let worker = Worker {
            deleter: Deleter::new(Arc::clone(&context.retention)),
            context,
        };
        let thread = {
            let (waiting, done) = (Arc::clone(&waiting), Arc::clone(&done));
            std::thread::spawn(move || worker.run(&queue, &waiting, &done))
        };
        Self {
            jobs,
            waiting,
            done,
            thread,
        }
    }

    /// Whether a new job would begin at once.
    #[must_use]
    pub(crate) fn is_idle(&self) -> bool {
        self.waiting.load(Ordering::Acquire) == 0
    }

    /// Registers a function that is called after each job. Only the first registration has an effect.
    pub(crate) fn on_done(&self, wake: Box<dyn Fn() + Send + Sync>) {
        let _ = self.done.0.set(wake);
    }

    /// Whether the thread has ended.
    #[must_use]
    pub(crate) fn is_gone(&self) -> bool {
        self.thread.is_finished()
    }

    /// Queues a sync of everything written to a file so far.
    ///
    /// # Errors
    /// [`LogError::GaveUp`].
    pub(crate) fn commit(
        &self,
        file: &Arc<SegmentFile>,
        counts: CommitCounts,
    ) -> Result<(), LogError> {
        self.push(Job::Commit(Arc::clone(file), counts))
    }

    /// Queues the sealing of a complete file: sync, then rename.
    ///
    /// # Errors
    /// [`LogError::GaveUp`].
    pub(crate) fn seal(
        &self,
        file: &Arc<SegmentFile>,
        counts: CommitCounts,
    ) -> Result<(), LogError> {
        self.push(Job::Seal(Arc::clone(file), counts))
    }

    /// Waits until all jobs are done, and ends the thread.
    ///
    /// # Errors
    /// [`LogError::GaveUp`].
    pub(crate) fn finish(self) -> Result<(), LogError> {
        drop(self.jobs);
        match self.thread.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    fn push(&self, job: Job) -> Result<(), LogError> {
        self.waiting.fetch_add(1, Ordering::AcqRel);
        self.jobs.send(job).map_err(|_| LogError::GaveUp)
    }
}

/// The function that is called after each job.
#[derive(Default)]
struct OnDone(OnceLock<Box<dyn Fn() + Send + Sync>>);

impl OnDone {
    fn call(&self) {
        if let Some(wake) = self.0.get() {
            wake();
        }
    }
}

impl fmt::Debug for OnDone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OnDone")
            .field(&self.0.get().is_some())
            .finish()
    }
}

struct Worker {
    context: Arc<LogContext>,
    deleter: Deleter,
}

impl Worker {
    fn run(
        mut self,
        jobs: &mpsc::Receiver<Job>,
        waiting: &AtomicUsize,
        done: &OnDone,
    ) -> Result<(), LogError> {
        // The file whose name is already synced. A synced file without its name would be lost in a power failure.
        let mut named = None;
        for job in jobs {
            let (Job::Commit(file, counts) | Job::Seal(file, counts)) = &job;
            let is_named = named.as_ref().is_some_and(|named| Arc::ptr_eq(named, file));
            if !is_named {
                self.context
                    .retry("sync the folder", || self.context.folder.sync())?;
                named = Some(Arc::clone(file));
            }
            self.sync(file, *counts);
            let open_len = match job {
                Job::Commit(..) => file.len.load(Ordering::Relaxed),
                // It is among the sealed files now.
                Job::Seal(..) => {
                    self.seal(file)?;
                    0
                }
            };
            let LogContext { folder, stats, .. } = &*self.context;
            self.deleter
                .apply(&**folder, stats, self.context.reporter(), open_len);
            waiting.fetch_sub(1, Ordering::AcqRel);
            done.call();
        }
        Ok(())
    }

    fn sync(&self, file: &SegmentFile, counts: CommitCounts) {
        let begun = Instant::now();
        match file.file.sync() {
            // A later sync that succeeds does not bring back what was lost.
            Ok(()) if file.broken.load(Ordering::Acquire) => {}
            Ok(()) => {
                let CommitCounts {
                    chunks,
                    blocks,
                    bytes,
                } = counts;
                self.context
                    .stats
                    .synced(chunks, blocks, bytes, begun.elapsed());
            }
            Err(error) => {
                self.context.stats.write_error(&error);
                file.broken.store(true, Ordering::Release);
                self.context.reporter().report(&LogReport::SyncFailed {
                    file: &file.name,
                    messages: counts.blocks,
                    error: &error,
                });
            }
        }
    }

    fn seal(&mut self, file: &SegmentFile) -> Result<(), LogError> {
        let LogContext { folder, stats, .. } = &*self.context;
        let name = &file.name;
        if file.broken.load(Ordering::Acquire) {
            let report = LogReport::LeftUnsealed { file: name };
            self.context.reporter().report(&report);
            return Ok(());
        }
        let from = filename::part(name);
        let is_renamed =
            self.context
                .retry("rename a file", || match folder.rename(&from, name) {
                    Err(error) if is_gone(&**folder, &from, &error) => Ok(false),
                    renamed => renamed.map(|()| true),
                })?;
        self.context.retry("sync the folder", || folder.sync())?;
        if is_renamed {
            stats.sealed();
        } else {
            let report = LogReport::FileGone { file: &from };
            self.context.reporter().report(&report);
        }
        self.deleter.sealed();
        Ok(())
    }
}

/// Whether a rename failed because the file does not exist, rather than its folder.
fn is_gone(folder: &dyn Folder, name: &str, error: &io::Error) -> bool {
    let is_missing = |files: Vec<(String, u64)>| files.iter().all(|(other, _)| other != name);
    error.kind() == io::ErrorKind::NotFound && folder.list().is_ok_and(is_missing)
}
