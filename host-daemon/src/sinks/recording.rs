//! The sink that records: a thread that receives events and writes them to a log. It is never skipped.
//!
//! ```text
//! events -> to_log (channels, sequences, budget) -> log (chunks, rotation) -> disk <- sync (group commit, sealing)
//! ```

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::engine::event::{Event, What};
use crate::recorded::counters::SuppressedCounters;
use crate::recorded::ranges::CHECKER;
use crate::recorded::report;
use crate::recorded::to_log::EventWriter;
use blocksd_recording::{
    Error, Lock, Log, LogContext, LogError, LogOptions, Repaired, Retention, Stats, Unrepaired,
};

/// Events that wait at most. What they weigh is bounded by the [pool](crate::engine::pool).
pub const QUEUE_LEN: usize = 1024;

/// How long a disk that takes nothing is waited for, once the daemon was told to stop.
const PATIENCE: Duration = Duration::from_secs(5);

/// Seals what a crash has left torn. A file that cannot be repaired now stays as it is, until the next start.
pub fn repair(lock: &Lock, stats: &Stats) {
    let repaired = match CHECKER.repair_dir(lock.path()) {
        Ok(repaired) => repaired,
        Err(error) => {
            error!(
                "recording: cannot look for torn files: {}",
                with_cause(&error)
            );
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
            Err(Unrepaired { path, error }) => {
                let failure = with_cause(&error);
                error!(file = %path.display(), "recording: cannot repair a torn file: {failure}; it is left for the next start");
                continue;
            }
        };
        let (blocks, bytes_lost) = (recovered.blocks, recovered.lost_bytes);
        stats.repaired(blocks, bytes_lost);
        warn!(file = %from.display(), "recording: a torn file was repaired: {blocks} blocks recovered, {bytes_lost} bytes lost{}", recovered.disorder());
        if let Some(original) = original {
            warn!(file = %original.display(), "recording: the original is kept, since more is lost than an unfinished record");
        }
        for hint in recovered.hints() {
            warn!(file = %from.display(), "recording: {hint}");
        }
    }
}

/// A recording that is being written, by a thread of its own.
#[derive(Debug)]
pub struct Recording {
    context: Arc<LogContext>,
    thread: JoinHandle<Given>,
    _lock: Lock,
}

/// The disk did not take everything that was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{least} to {most} received messages are not recorded")]
pub struct Unrecorded {
    /// Messages that were received and are in no file, at least.
    pub least: u64,
    /// The same at most: those that the disk has not confirmed.
    pub most: u64,
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
    /// [`Error::Folder`].
    pub fn start(
        lock: Lock,
        options: LogOptions,
        retention: Arc<Retention>,
        stats: Arc<Stats>,
        suppressed: Arc<SuppressedCounters>,
        stop: CancellationToken,
    ) -> Result<(Self, mpsc::Sender<Event>), Error> {
        let context = LogContext::open(lock.path(), stats, retention)?.reporting_to(report::log);
        let context = Arc::new(context);
        let (events, queue) = mpsc::channel(QUEUE_LEN);
        let log = Log::after_others(options, Arc::clone(&context))?;
        let synced = Arc::<Notify>::default();
        {
            let synced = Arc::clone(&synced);
            log.on_synced(move || synced.notify_one());
        }
        let writer = EventWriter::new(log).counting(suppressed);
        let runtime = Handle::current();
        let thread = std::thread::spawn(move || {
            // Whatever ends the thread, nothing is received that nobody records.
            let _stop = stop.drop_guard();
            runtime.block_on(record(writer, queue, &synced))
        });
        let recording = Self {
            context,
            thread,
            _lock: lock,
        };
        Ok((recording, events))
    }

    /// Waits until all is on the disk; not for ever if the disk takes nothing. To be called when no connection is
    /// left.
    ///
    /// # Errors
    /// [`Unrecorded`].
    pub fn finish(self) -> Result<(), Unrecorded> {
        let mut stuck = None;
        while !self.thread.is_finished() {
            if self.context.stats.read().retrying {
                let since = *stuck.get_or_insert_with(Instant::now);
                if PATIENCE < since.elapsed() {
                    self.context.give_up();
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
        let stats = self.context.stats.read();
        // A sync that has failed leaves it open whether its chunks are on the disk.
        if abandoned || stats.chunks_synced < stats.chunks_written {
            return Err(Unrecorded {
                least: unwritten,
                most: blocks.saturating_sub(stats.blocks_synced),
            });
        }
        Ok(())
    }
}

/// An error and its cause, on one line.
fn with_cause(error: &Error) -> String {
    use std::error::Error as _;
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

async fn record(
    mut writer: EventWriter,
    mut events: mpsc::Receiver<Event>,
    synced: &Notify,
) -> Given {
    loop {
        match next(&mut writer, &mut events, synced).await {
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
            Ok(Some(_)) | Err(_) => break,
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
    writer: &mut EventWriter,
    events: &mut mpsc::Receiver<Event>,
    synced: &Notify,
) -> Result<Option<Event>, LogError> {
    loop {
        writer.tick()?;
        if let Ok(event) = events.try_recv() {
            return Ok(Some(event));
        }
        let due = async {
            match writer.due() {
                // The commit before is what is waited for.
                _ if writer.log().is_syncing() => synced.notified().await,
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
