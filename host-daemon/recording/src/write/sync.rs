//! Makes files durable while others are written: [`SyncThread`] runs group commits, sealing and retention on its own
//! thread.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::error::LogError;
use crate::format::filename;
use crate::write::active::{CommitCounts, SegmentFile};
use crate::write::hook::Hook;
use crate::write::report::LogReport;
use crate::write::retry::LogContext;
use crate::write::storage::Folder;

/// Largest number of files that wait to be sealed. Each keeps a descriptor open.
const FILES_MAX: usize = 64;
/// Largest number of renamed files that wait for a sync of the folder.
const RENAMES_MAX: usize = 16;
/// Largest total length of the files that wait to be sealed, in bytes. Beyond it, the writer blocks.
const BYTES_MAX: u64 = 256 << 20;
/// How often the free space is measured while nothing is written.
const MEASURE: Duration = Duration::from_secs(10);

/// A job for one file.
#[derive(Debug)]
enum Job {
    Commit(Arc<SegmentFile>, CommitCounts),
    Seal(Arc<SegmentFile>, CommitCounts),
}

impl Job {
    /// Files and bytes that count towards the limits of the queue.
    fn cost(&self) -> (usize, u64) {
        match self {
            Self::Commit(..) => (0, 0),
            Self::Seal(_, counts) => (1, counts.bytes),
        }
    }
}

/// A handle to the thread that syncs, seals and deletes files.
#[derive(Debug)]
pub(crate) struct SyncThread {
    queue: Arc<Queue>,
    done: Arc<Hook<()>>,
    thread: JoinHandle<Result<(), LogError>>,
}

/// The queue of jobs from the writer to the thread.
#[derive(Debug, Default)]
struct Queue {
    jobs: Mutex<Jobs>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Jobs {
    waiting: VecDeque<Job>,
    /// Files and bytes of the waiting jobs and of the current one.
    cost: (usize, u64),
    is_busy: bool,
    /// The writer adds no more jobs.
    has_ended: bool,
    /// The thread has ended.
    is_gone: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Jobs> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, jobs: MutexGuard<'a, Jobs>) -> MutexGuard<'a, Jobs> {
        let waited = self.changed.wait(jobs);
        waited.unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a job. Waits while too many files, or too many bytes, wait to be sealed.
    fn push(&self, job: Job) -> Result<(), LogError> {
        let mut jobs = self.lock();
        let (files, bytes) = job.cost();
        while !jobs.is_gone
            && files != 0
            && (FILES_MAX <= jobs.cost.0 || (jobs.cost.0 != 0 && BYTES_MAX < jobs.cost.1 + bytes))
        {
            jobs = self.wait(jobs);
        }
        if jobs.is_gone {
            return Err(LogError::GaveUp);
        }
        jobs.cost = (jobs.cost.0 + files, jobs.cost.1 + bytes);
        jobs.waiting.push_back(job);
        self.changed.notify_all();
        Ok(())
    }

    /// Waits for the next job, and calls `idle` now and then. Returns `None` after the last one.
    fn next(&self, idle: &dyn Fn()) -> Option<Job> {
        let mut jobs = self.lock();
        loop {
            if let Some(job) = jobs.waiting.pop_front() {
                jobs.is_busy = true;
                return Some(job);
            }
            if jobs.has_ended {
                return None;
            }
            let waited = self.changed.wait_timeout(jobs, MEASURE);
            let (held, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            jobs = held;
            if timeout.timed_out() {
                drop(jobs);
                idle();
                jobs = self.lock();
            }
        }
    }

    /// Whether no job waits.
    fn is_empty(&self) -> bool {
        self.lock().waiting.is_empty()
    }

    /// The files of the waiting jobs.
    fn files(&self) -> Vec<Arc<SegmentFile>> {
        let jobs = self.lock();
        let files = jobs.waiting.iter().map(|job| match job {
            Job::Commit(file, _) | Job::Seal(file, _) => Arc::clone(file),
        });
        files.collect()
    }

    /// Subtracts the cost of a finished job.
    fn done(&self, (files, bytes): (usize, u64)) {
        let mut jobs = self.lock();
        jobs.is_busy = false;
        jobs.cost = (jobs.cost.0 - files, jobs.cost.1 - bytes);
        self.changed.notify_all();
    }
}

impl SyncThread {
    /// Starts the thread.
    #[must_use]
    pub(crate) fn start(context: Arc<LogContext>) -> Self {
        context.space.start();
        let queue = Arc::<Queue>::default();
        let done = Arc::<Hook<()>>::default();
        let worker = Worker {
            context,
            queue: Arc::clone(&queue),
            renamed: Vec::new(),
        };
        let thread = {
            let done = Arc::clone(&done);
            std::thread::spawn(move || worker.run(&done))
        };
        Self {
            queue,
            done,
            thread,
        }
    }

    /// Whether a new job would start immediately.
    #[must_use]
    pub(crate) fn is_idle(&self) -> bool {
        let jobs = self.queue.lock();
        !jobs.is_busy && jobs.waiting.is_empty()
    }

    /// Registers a function that is called after each job. Only the first registration has an effect.
    pub(crate) fn on_done(&self, wake: impl Fn() + Send + Sync + 'static) {
        self.done.set(move |()| wake());
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
        self.queue.push(Job::Commit(Arc::clone(file), counts))
    }

    /// Queues the sealing of a complete file: sync, then rename. Blocks while the queue is full.
    ///
    /// # Errors
    /// [`LogError::GaveUp`].
    pub(crate) fn seal(
        &self,
        file: &Arc<SegmentFile>,
        counts: CommitCounts,
    ) -> Result<(), LogError> {
        self.queue.push(Job::Seal(Arc::clone(file), counts))
    }

    /// Waits until all jobs are done, and ends the thread.
    ///
    /// # Errors
    /// [`LogError::GaveUp`].
    pub(crate) fn finish(self) -> Result<(), LogError> {
        self.queue.lock().has_ended = true;
        self.queue.changed.notify_all();
        match self.thread.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

struct Worker {
    context: Arc<LogContext>,
    queue: Arc<Queue>,
    /// Sealed files whose new names may not be on the disk yet.
    renamed: Vec<Arc<SegmentFile>>,
}

/// Unblocks the writer when the thread ends, even by a panic.
impl Drop for Worker {
    fn drop(&mut self) {
        self.queue.lock().is_gone = true;
        self.queue.changed.notify_all();
        self.context.space.stop();
    }
}

impl Worker {
    fn run(mut self, done: &Hook<()>) -> Result<(), LogError> {
        let context = Arc::clone(&self.context);
        let tidy = |is_changed| context.tidy(is_changed);
        tidy(true);
        while let Some(job) = self.next_job(&|| tidy(true))? {
            let cost = job.cost();
            self.context.renew_lock();
            let (Job::Commit(file, counts) | Job::Seal(file, counts)) = &job;
            // Without its name, a synced file would be lost in a power failure.
            if !file.is_named.load(Ordering::Relaxed) {
                self.sync_folder()?;
                file.is_named.store(true, Ordering::Relaxed);
            }
            self.sync(file, *counts);
            let is_sealed = matches!(job, Job::Seal(..));
            if is_sealed {
                self.seal(file)?;
                self.context.space.release(&filename::part(&file.name));
            }
            tidy(is_sealed);
            self.queue.done(cost);
            done.call(&());
        }
        Ok(())
    }

    /// Waits for the next job, after the names of all sealed files are on the disk, and calls `idle` now and then. Files that
    /// wait to be sealed share the syncs of the folder, because a disk that is slow to sync would otherwise hold up the writer.
    fn next_job(&mut self, idle: &dyn Fn()) -> Result<Option<Job>, LogError> {
        let must_sync = RENAMES_MAX <= self.renamed.len() || self.queue.is_empty();
        if must_sync && !self.renamed.is_empty() {
            self.sync_folder()?;
        }
        Ok(self.queue.next(idle))
    }

    /// Syncs the folder: the new names of sealed files, and the first names of files that wait.
    fn sync_folder(&mut self) -> Result<(), LogError> {
        let waiting = self.queue.files();
        self.context
            .retry("sync the folder", || self.context.sync_folder())?;
        for file in waiting {
            file.is_named.store(true, Ordering::Relaxed);
        }
        for file in self.renamed.drain(..) {
            self.context.sealed(&file.name);
        }
        Ok(())
    }

    fn sync(&self, file: &SegmentFile, counts: CommitCounts) {
        let begun = Instant::now();
        match file.file.sync() {
            // A successful sync after a failed one does not restore lost data.
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

    fn seal(&mut self, file: &Arc<SegmentFile>) -> Result<(), LogError> {
        let folder = &self.context.folder;
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
        if is_renamed {
            self.renamed.push(Arc::clone(file));
        } else {
            let report = LogReport::FileGone { file: &from };
            self.context.reporter().report(&report);
        }
        Ok(())
    }
}

/// Whether a rename failed because the file is missing, and not its folder.
fn is_gone(folder: &dyn Folder, name: &str, error: &io::Error) -> bool {
    let is_missing = |files: Vec<(String, u64)>| files.iter().all(|(other, _)| other != name);
    error.kind() == io::ErrorKind::NotFound && folder.list().is_ok_and(is_missing)
}
