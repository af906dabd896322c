//! The recording: the files that blocks are kept in. The one sink that is never skipped.
//!
//! ```text
//! events -> writer (channels, chunks, rotation) -> container (MCAP) -> disk <- syncer (group commit, sealing)
//! ```

pub mod check;
pub mod format;
pub mod read;
pub mod write;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::engine::event::{Event, What};
use crate::error::Failure;
use crate::path::parent;
use crate::recording::check::repair::{self, Repaired, Unrepaired};
use crate::recording::format::filename;
use crate::recording::write::log::{Settings, Writer};
use crate::recording::write::stats::Stats;
use crate::recording::write::storage::{Directory, Folder};
use crate::recording::write::sync::{Abandoned, Common, Retention};

/// Events that wait at most. What they weigh is bounded by the [pool](crate::engine::pool).
pub const QUEUE_LEN: usize = 1024;

/// How long a disk that takes nothing is waited for, once the daemon was told to stop.
const PATIENCE: Duration = Duration::from_secs(5);

/// A folder that is locked, so that one daemon writes there.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    _file: fs::File,
}

impl Lock {
    /// Locks a folder, which is made if there is none. The lock ends with the process.
    ///
    /// # Errors
    /// [`Failure::Folder`]; [`Failure::Locked`] if somebody has locked it.
    pub fn take(path: &Path) -> Result<Self, Failure> {
        make_durable(path).map_err(|error| folder_failure(path, error))?;
        let file = repair::lock(path).map_err(of_folder)?;
        Ok(Self {
            path: path.into(),
            _file: file,
        })
    }

    /// Whether a folder can be written to, or made, as far as that is known without doing it: writes a file that has
    /// no name, in the folder or where it would be made.
    ///
    /// # Errors
    /// [`Failure::Folder`].
    pub fn check(path: &Path) -> Result<(), Failure> {
        let there = path.ancestors().find(|it| it.symlink_metadata().is_ok());
        // Of a relative path that is not there, all is to be made where we are.
        let there = there.unwrap_or_else(|| Path::new("."));
        let tried = there.metadata().and_then(|_| tempfile::tempfile_in(there));
        tried.map_err(|error| folder_failure(path, error))?;
        // Whether the file system could have the names that are to be made.
        for name in path.strip_prefix(there).unwrap_or(path).components() {
            if let Err(error) = there.join(name).symlink_metadata()
                && error.kind() != io::ErrorKind::NotFound
            {
                return Err(folder_failure(path, error));
            }
        }
        repair::check_lock(path).map_err(of_folder)?;
        // The numbers of its files are looked up at the start.
        match fs::read_dir(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(folder_failure(path, error))
            }
            _ => Ok(()),
        }
    }

    /// Seals what a crash has left torn. A file that cannot be repaired now stays as it is, until the next start.
    pub fn repair(&self, stats: &Stats) {
        let repaired = match repair::repair_dir(&self.path) {
            Ok(repaired) => repaired,
            Err(failure) => {
                error!("recording: cannot look for torn files: {failure}");
                return;
            }
        };
        for repaired in repaired {
            let Repaired {
                from,
                original,
                recovered,
                ..
            } = match repaired {
                Ok(repaired) => repaired,
                Err(Unrepaired { path, failure }) => {
                    error!(file = %path.display(), "recording: cannot repair a torn file: {failure}; it is left for the next start");
                    continue;
                }
            };
            let (blocks, bytes_lost) = (recovered.blocks, recovered.lost_bytes);
            stats.repaired(blocks, bytes_lost);
            warn!(file = %from.display(), "recording: a torn file was repaired: {blocks} blocks recovered, {bytes_lost} bytes lost");
            if let Some(original) = original {
                warn!(file = %original.display(), "recording: the original is kept, since more is lost than an unfinished record");
            }
            for hint in recovered.hints() {
                warn!(file = %from.display(), "recording: {hint}");
            }
        }
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// A recording that is being written, by a thread of its own.
#[derive(Debug)]
pub struct Recording {
    common: Arc<Common>,
    thread: JoinHandle<Given>,
    _lock: Lock,
}

/// What the thread of a recording came to.
#[derive(Clone, Copy, Debug)]
struct Given {
    /// Blocks that it was given.
    blocks: u64,
    /// Those of them that are certainly in no file.
    unwritten: u64,
    /// They were not all taken.
    abandoned: bool,
}

impl Recording {
    /// Begins to record into a folder what is sent. Must be called in a Tokio runtime. If the recording fails for
    /// good, it stops the daemon.
    ///
    /// # Errors
    /// [`Failure::Folder`].
    pub fn start(
        lock: Lock,
        settings: Settings,
        retention: Arc<Retention>,
        stats: Arc<Stats>,
        stop: CancellationToken,
    ) -> Result<(Self, mpsc::Sender<Event>), Failure> {
        let failure = |error| folder_failure(lock.path(), error);
        let folder = Directory::open(lock.path()).map_err(failure)?;
        let files = folder.list().map_err(failure)?;
        let numbers = files.iter().filter_map(|(name, _)| filename::number(name));
        let number = numbers.max().map_or(1, |number| number + 1);
        let common = Arc::new(Common {
            folder: Arc::new(folder),
            stats,
            abandon: AtomicBool::new(false),
            retention,
        });
        let (events, queue) = mpsc::channel(QUEUE_LEN);
        let writer = Writer::new(settings, Arc::clone(&common), number);
        let runtime = Handle::current();
        let thread = std::thread::spawn(move || {
            // Whatever ends the thread, nothing is received that nobody records.
            let _stop = stop.drop_guard();
            runtime.block_on(record(writer, queue))
        });
        let recording = Self {
            common,
            thread,
            _lock: lock,
        };
        Ok((recording, events))
    }

    /// Waits until all is on the disk; not for ever if the disk takes nothing. To be called when no connection is
    /// left.
    ///
    /// # Errors
    /// [`Failure::Unrecorded`].
    pub fn finish(self) -> Result<(), Failure> {
        let mut stuck = None;
        while !self.thread.is_finished() {
            if self.common.stats.read().retrying {
                let since = *stuck.get_or_insert_with(Instant::now);
                if PATIENCE < since.elapsed() {
                    self.common.abandon.store(true, Ordering::Relaxed);
                }
            } else {
                stuck = None;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let Given {
            blocks,
            unwritten,
            abandoned,
        } = match self.thread.join() {
            Ok(given) => given,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        let stats = self.common.stats.read();
        // A sync that has failed leaves it open whether its chunks are on the disk.
        if abandoned || stats.chunks_synced < stats.chunks_written {
            return Err(Failure::Unrecorded {
                least: unwritten,
                most: blocks.saturating_sub(stats.blocks_synced),
            });
        }
        Ok(())
    }
}

/// A failure of the lock, as one of its folder.
fn of_folder(failure: Failure) -> Failure {
    match failure {
        Failure::Write { path, error } => Failure::Folder { path, error },
        failure => failure,
    }
}

fn folder_failure(path: &Path, error: io::Error) -> Failure {
    let path = path.into();
    Failure::Folder { path, error }
}

/// Makes a folder, and those that it is in, where there are none, and has their names on the disk.
fn make_durable(path: &Path) -> io::Result<()> {
    let missing = path.ancestors().take_while(|it| !it.exists());
    let missing: Vec<_> = missing.filter(|it| !it.as_os_str().is_empty()).collect();
    if let Some(link) = missing.iter().find(|it| it.symlink_metadata().is_ok()) {
        // A link to what is not there, such as a disk that is not mounted yet: nothing is made in its place.
        link.metadata()?;
    }
    fs::create_dir_all(path).map_err(|error| match error.kind() {
        // The file in its place is what is wrong.
        io::ErrorKind::AlreadyExists => io::Error::from_raw_os_error(libc::ENOTDIR),
        _ => error,
    })?;
    for made in missing {
        // One that may not be read cannot be synced, and is none of ours.
        if let Ok(parent) = fs::File::open(parent(made)) {
            parent.sync_all()?;
        }
    }
    Ok(())
}

async fn record(mut writer: Writer, mut events: mpsc::Receiver<Event>) -> Given {
    loop {
        match next(&mut writer, &mut events).await {
            Ok(Some(event)) if writer.event(&event).is_ok() => {}
            Ok(None) => {
                let blocks = writer.given();
                let (ended, unwritten) = writer.end();
                return Given {
                    blocks,
                    unwritten,
                    abandoned: ended.is_err(),
                };
            }
            Ok(Some(_)) | Err(Abandoned) => break,
        }
    }
    let given = writer.given();
    events.close();
    let mut left = 0;
    while let Some(event) = events.recv().await {
        if let What::Batch { batch, .. } = &event.what {
            left += batch.blocks().0;
        }
    }
    // Its thread gives up too.
    let (_, unwritten) = writer.end();
    Given {
        blocks: given + left,
        unwritten: unwritten + left,
        abandoned: true,
    }
}

/// The next event; does meanwhile what is due.
async fn next(
    writer: &mut Writer,
    events: &mut mpsc::Receiver<Event>,
) -> Result<Option<Event>, Abandoned> {
    loop {
        writer.tick()?;
        if let Ok(event) = events.try_recv() {
            return Ok(Some(event));
        }
        let due = async {
            match writer.due() {
                // The commit before is what is waited for.
                _ if writer.is_syncing() => writer.synced().await,
                Some(due) => tokio::time::sleep_until(due.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            event = events.recv() => return Ok(event),
            () = due => {}
        }
    }
}
