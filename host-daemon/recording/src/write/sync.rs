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
use crate::write::epoch::CommitOutcome;
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

/// A job for one file: a sync, and the sealing after it if the file is complete.
#[derive(Debug)]
struct Job {
    /// The number of the commit.
    number: u64,
    file: Arc<SegmentFile>,
    counts: CommitCounts,
    /// Length of the file when the job was queued, in bytes. The sync may cover more, but only messages before this length
    /// belong to the commit.
    len: u64,
    is_seal: bool,
}

impl Job {
    /// Files and bytes that count towards the limits of the queue.
    const fn cost(&self) -> (usize, u64) {
        match self.is_seal {
            false => (0, 0),
            true => (1, self.counts.bytes),
        }
    }

    const fn outcome(&self, is_durable: bool) -> CommitOutcome {
        let number = self.number;
        CommitOutcome { number, is_durable }
    }
}

/// A handle to the thread that syncs, seals and deletes files.
#[derive(Debug)]
pub(crate) struct SyncThread {
    queue: Arc<Queue>,
    hooks: Arc<Hooks>,
    /// Number of the next job.
    next: u64,
    thread: JoinHandle<Result<(), LogError>>,
}

/// The functions that the thread calls after each job.
#[derive(Debug, Default)]
struct Hooks {
    on_commit: Hook<CommitOutcome>,
    done: Hook<()>,
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
        let files = jobs.waiting.iter().map(|job| Arc::clone(&job.file));
        files.collect()
    }

    /// Refuses further jobs, and returns those that wait.
    fn close(&self) -> VecDeque<Job> {
        let mut jobs = self.lock();
        jobs.is_gone = true;
        self.changed.notify_all();
        std::mem::take(&mut jobs.waiting)
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
        let hooks = Arc::<Hooks>::default();
        let worker = Worker {
            context,
            queue: Arc::clone(&queue),
            renamed: Vec::new(),
        };
        let thread = {
            let hooks = Arc::clone(&hooks);
            std::thread::spawn(move || worker.run(&hooks))
        };
        Self {
            queue,
            hooks,
            next: 1,
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
        self.hooks.done.set(move |()| wake());
    }

    /// Registers a function that is called with the outcome of each job, before the writer can see a failure. Only the first
    /// registration has an effect.
    pub(crate) fn on_commit(&self, report: impl Fn(CommitOutcome) + Send + Sync + 'static) {
        self.hooks.on_commit.set(move |outcome| report(*outcome));
    }

    /// The number of the next job.
    #[must_use]
    pub(crate) const fn next(&self) -> u64 {
        self.next
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
        &mut self,
        file: &Arc<SegmentFile>,
        counts: CommitCounts,
    ) -> Result<(), LogError> {
        self.push(file, counts, false)
    }

    /// Queues the sealing of a complete file: sync, then rename. Blocks while the queue is full.
    ///
    /// # Errors
    /// [`LogError::GaveUp`].
    pub(crate) fn seal(
        &mut self,
        file: &Arc<SegmentFile>,
        counts: CommitCounts,
    ) -> Result<(), LogError> {
        self.push(file, counts, true)
    }

    fn push(
        &mut self,
        file: &Arc<SegmentFile>,
        counts: CommitCounts,
        is_seal: bool,
    ) -> Result<(), LogError> {
        self.queue.push(Job {
            number: self.next,
            file: Arc::clone(file),
            counts,
            len: file.len.load(Ordering::Relaxed),
            is_seal,
        })?;
        self.next += 1;
        Ok(())
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
        self.queue.close();
        self.context.space.stop();
    }
}

impl Worker {
    fn run(mut self, hooks: &Hooks) -> Result<(), LogError> {
        let ended = self.work(hooks);
        // After an error, jobs are left.
        for job in self.queue.close() {
            hooks.on_commit.call(&job.outcome(false));
        }
        ended
    }

    fn work(&mut self, hooks: &Hooks) -> Result<(), LogError> {
        let context = Arc::clone(&self.context);
        let tidy = |is_changed| context.tidy(is_changed);
        tidy(true);
        while let Some(job) = self.next_job(&|| tidy(true))? {
            let cost = job.cost();
            self.context.renew_lock();
            // Without its name, a synced file would be lost in a power failure.
            if let Err(error) = self.name(&job.file) {
                hooks.on_commit.call(&job.outcome(false));
                return Err(error);
            }
            self.sync(&job, hooks);
            if job.is_seal {
                self.seal(&job.file)?;
                self.context.space.release(&filename::part(&job.file.name));
            }
            tidy(job.is_seal);
            self.queue.done(cost);
            hooks.done.call(&());
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

    /// Waits until the name of a file is on the disk.
    fn name(&mut self, file: &SegmentFile) -> Result<(), LogError> {
        if !file.is_named.load(Ordering::Relaxed) {
            self.sync_folder()?;
            file.is_named.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    fn sync(&self, job: &Job, hooks: &Hooks) {
        let file = &job.file;
        let begun = Instant::now();
        let synced = file.file.sync();
        let is_durable = synced.is_ok() && !file.epoch.has_failed();
        if is_durable {
            file.synced_len.store(job.len, Ordering::Release);
            file.is_complete.store(job.is_seal, Ordering::Release);
        }
        hooks.on_commit.call(&job.outcome(is_durable));
        if is_durable {
            self.context.durability.synced(file.nonce, job.len);
        }
        match synced {
            // A successful sync after a failed one does not restore lost data.
            Ok(()) if file.is_void() => {}
            Ok(()) => {
                let CommitCounts {
                    chunks,
                    blocks,
                    bytes,
                } = job.counts;
                self.context
                    .stats
                    .synced(chunks, blocks, bytes, begun.elapsed());
            }
            Err(error) => {
                self.context.stats.write_error(&error);
                file.is_broken.store(true, Ordering::Release);
                file.epoch.fail();
                self.context.reporter().report(&LogReport::SyncFailed {
                    file: &file.name,
                    messages: job.counts.blocks,
                    error: &error,
                });
            }
        }
    }

    fn seal(&mut self, file: &Arc<SegmentFile>) -> Result<(), LogError> {
        let folder = &self.context.folder;
        let name = &file.name;
        if file.is_void() {
            let report = LogReport::LeftUnsealed { file: name };
            self.context.reporter().report(&report);
            return Ok(());
        }
        self.context.durability.sealed(file.nonce);
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
