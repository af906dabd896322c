//! Makes files durable while others are written: group commits, sealing, and deleting the oldest.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tracing::{error, info, warn};

use crate::recording::format::filename::{self, State};
use crate::recording::write::stats::Stats;
use crate::recording::write::storage::{File, Folder};

/// Jobs that may wait. A disk that is further behind holds the writer back.
const JOBS: usize = 4;
/// How long to wait before trying again what the disk refused, at first and at most.
const AGAIN: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// A file that is being written.
#[derive(Debug)]
pub struct Part {
    /// Its name when it is sealed.
    pub name: String,
    /// The file.
    pub file: Arc<dyn File>,
    /// How long it is, in bytes.
    pub len: AtomicU64,
    /// A sync has failed: what was written since the one before may be lost, and nothing more is to be written.
    pub broken: AtomicBool,
}

/// What is on the disk when a job is done, since the job before.
#[derive(Clone, Copy, Debug, Default)]
pub struct Share {
    /// Chunks.
    pub chunks: u64,
    /// Blocks in them.
    pub blocks: u64,
    /// Bytes of the file.
    pub bytes: u64,
}

/// Something to do for a file.
#[derive(Debug)]
enum Job {
    Commit(Arc<Part>, Share),
    Seal(Arc<Part>, Share),
}

/// The disk does not take what it is given, and the daemon no longer waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abandoned;

/// What the writer and the syncer of a recording share.
#[derive(Debug)]
pub struct Common {
    /// Where the files are.
    pub folder: Arc<dyn Folder>,
    /// What is counted.
    pub stats: Arc<Stats>,
    /// Set when the disk is no longer waited for.
    pub abandon: AtomicBool,
    /// Bytes that all files together may have.
    pub retention: Arc<Retention>,
}

/// How many bytes all files of a recording together may have. May be changed at any time.
#[derive(Debug)]
pub struct Retention(AtomicU64);

impl Retention {
    /// So many, or any number.
    #[must_use]
    pub fn new(max_bytes: Option<u64>) -> Arc<Self> {
        Arc::new(Self(max_bytes.unwrap_or(u64::MAX).into()))
    }

    /// So many from now on, or any number.
    pub fn set(&self, max_bytes: Option<u64>) {
        let max_bytes = max_bytes.unwrap_or(u64::MAX);
        self.0.store(max_bytes, Ordering::Relaxed);
    }

    /// So many, if there is a bound.
    fn max_bytes(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|max| *max != u64::MAX)
    }

    /// What one file may have of it.
    pub(super) fn file_max(&self) -> u64 {
        self.max_bytes().map_or(u64::MAX, Self::file_max_of)
    }

    /// What one file may have where all together may have `max_bytes`.
    #[must_use]
    pub const fn file_max_of(max_bytes: u64) -> u64 {
        max_bytes / 4
    }
}

impl Common {
    /// Does something until it is done: a disk that is full now may have room later.
    ///
    /// # Errors
    /// [`Abandoned`].
    pub fn insist<T>(
        &self,
        what: &str,
        mut attempt: impl FnMut() -> io::Result<T>,
    ) -> Result<T, Abandoned> {
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
                    return Err(Abandoned);
                }
                std::thread::sleep(AGAIN.0);
            }
            again = (again * 2).min(AGAIN.1);
        }
    }
}

/// The thread that syncs.
#[derive(Debug)]
pub struct Syncer {
    jobs: mpsc::SyncSender<Job>,
    waiting: Arc<AtomicUsize>,
    done: Arc<Notify>,
    thread: JoinHandle<Result<(), Abandoned>>,
}

impl Syncer {
    /// Starts it.
    #[must_use]
    pub fn start(common: Arc<Common>) -> Self {
        let (jobs, queue) = mpsc::sync_channel(JOBS);
        let waiting = Arc::<AtomicUsize>::default();
        let done = Arc::<Notify>::default();
        let worker = Worker {
            common,
            sealed_bytes: None,
            complained: None,
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

    /// Whether a job would be begun at once.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.waiting.load(Ordering::Acquire) == 0
    }

    /// Resolves when a job is done; at once if one was done since the last call.
    ///
    /// Cancel-safe.
    pub async fn done(&self) {
        self.done.notified().await;
    }

    /// Whether nothing is synced any more.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.thread.is_finished()
    }

    /// Has what was written to a file synced.
    ///
    /// # Errors
    /// [`Abandoned`].
    pub fn commit(&self, part: &Arc<Part>, share: Share) -> Result<(), Abandoned> {
        self.push(Job::Commit(Arc::clone(part), share))
    }

    /// Has a file that is complete synced and given its name.
    ///
    /// # Errors
    /// [`Abandoned`].
    pub fn seal(&self, part: &Arc<Part>, share: Share) -> Result<(), Abandoned> {
        self.push(Job::Seal(Arc::clone(part), share))
    }

    /// Waits until all jobs are done.
    ///
    /// # Errors
    /// [`Abandoned`].
    pub fn finish(self) -> Result<(), Abandoned> {
        drop(self.jobs);
        match self.thread.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    fn push(&self, job: Job) -> Result<(), Abandoned> {
        self.waiting.fetch_add(1, Ordering::AcqRel);
        self.jobs.send(job).map_err(|_| Abandoned)
    }
}

struct Worker {
    common: Arc<Common>,
    /// Length of all sealed files, once it is known.
    sealed_bytes: Option<u64>,
    /// When it was last found that not enough can be deleted.
    complained: Option<Instant>,
}

impl Worker {
    fn run(
        mut self,
        jobs: &mpsc::Receiver<Job>,
        waiting: &AtomicUsize,
        done: &Notify,
    ) -> Result<(), Abandoned> {
        // Files whose name is on the disk: only of the present one, the syncs say so.
        let mut named = None;
        for job in jobs {
            let (Job::Commit(part, share) | Job::Seal(part, share)) = &job;
            let is_named = named.as_ref().is_some_and(|named| Arc::ptr_eq(named, part));
            if !is_named {
                self.common
                    .insist("sync the folder", || self.common.folder.sync())?;
                named = Some(Arc::clone(part));
            }
            self.sync(part, *share);
            let open_len = match job {
                Job::Commit(..) => part.len.load(Ordering::Relaxed),
                // It is among the sealed ones now.
                Job::Seal(..) => {
                    self.seal(part)?;
                    0
                }
            };
            self.keep_to_the_limit(open_len);
            waiting.fetch_sub(1, Ordering::AcqRel);
            done.notify_one();
        }
        Ok(())
    }

    fn sync(&self, part: &Part, share: Share) {
        let begun = Instant::now();
        match part.file.sync() {
            // What was lost once is not found by a sync that succeeds.
            Ok(()) if part.broken.load(Ordering::Acquire) => {}
            Ok(()) => {
                let Share {
                    chunks,
                    blocks,
                    bytes,
                } = share;
                self.common
                    .stats
                    .synced(chunks, blocks, bytes, begun.elapsed());
            }
            Err(error) => {
                self.common.stats.write_error(&error);
                part.broken.store(true, Ordering::Release);
                let (file, blocks) = (&part.name, share.blocks);
                error!(%file, blocks, "recording: cannot sync: {error}; these blocks may be lost, the next are written to a new file");
            }
        }
    }

    fn seal(&mut self, part: &Part) -> Result<(), Abandoned> {
        let Common { folder, stats, .. } = &*self.common;
        let name = &part.name;
        if part.broken.load(Ordering::Acquire) {
            warn!(file = %name, "recording: left unsealed; the next start repairs it");
            return Ok(());
        }
        let from = filename::part(name);
        let is_renamed =
            self.common
                .insist("rename a file", || match folder.rename(&from, name) {
                    Err(error) if is_gone(&**folder, &from, &error) => Ok(false),
                    renamed => renamed.map(|()| true),
                })?;
        self.common.insist("sync the folder", || folder.sync())?;
        if is_renamed {
            stats.sealed();
        } else {
            warn!(file = %from, "recording: somebody has taken this file away");
        }
        self.sealed_bytes = None;
        Ok(())
    }

    /// Deletes the oldest sealed files, and originals of repaired ones, while all of them, and the open one, take more
    /// than they may. Nothing waits for a file that cannot be deleted: what is received is still to be synced.
    fn keep_to_the_limit(&mut self, open_len: u64) {
        let Some(max_bytes) = self.common.retention.max_bytes() else {
            return;
        };
        let fits = |sealed_bytes| sealed_bytes + open_len <= max_bytes;
        let is_soon = |at: Instant| at.elapsed() < AGAIN.1;
        if self.sealed_bytes.is_some_and(fits) || self.complained.is_some_and(is_soon) {
            return;
        }
        let Common { folder, stats, .. } = &*self.common;
        let mut refused = None;
        let files = folder.list().unwrap_or_else(|error| {
            refused = Some(error);
            Vec::new()
        });
        let mut sealed: Vec<_> = files
            .into_iter()
            .filter(|(name, _)| matches!(filename::state(name), Some(State::Sealed | State::Lost)))
            .collect();
        // Of one number the original goes first: what was whole in it is in the other.
        sealed.sort_by_key(|(name, _)| (filename::number(name), filename::is_sealed(name)));
        let mut total: u64 = sealed.iter().map(|(_, len)| len).sum();
        for (name, len) in sealed {
            if fits(total) {
                break;
            }
            match folder.remove(&name) {
                Ok(()) => {
                    info!(file = %name, bytes = len, "recording: deleted, to keep to --record-max-bytes");
                    stats.deleted(1, len);
                }
                // Somebody else has removed it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    refused = Some(error);
                    continue;
                }
            }
            total -= len;
        }
        self.sealed_bytes = refused.is_none().then_some(total);
        if let Some(error) = &refused {
            stats.write_error(error);
            if self.complained.is_none() {
                warn!(
                    "recording: cannot delete what is over --record-max-bytes: {error}; the recording goes on, tried again every second"
                );
            }
        }
        self.complained = refused.map(|_| Instant::now());
    }
}

/// Whether a file cannot be renamed because there is none of this name, in a folder that is there.
fn is_gone(folder: &dyn Folder, name: &str, error: &io::Error) -> bool {
    let is_missing = |files: Vec<(String, u64)>| files.iter().all(|(other, _)| other != name);
    error.kind() == io::ErrorKind::NotFound && folder.list().is_ok_and(is_missing)
}
