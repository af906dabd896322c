//! The sink that records: a [`Recording`] writes events to a log.
//!
//! ```text
//! events -> to_log (channels, sequences, budget) -> log (chunks, rotation) -> disk <- sync (group commit, sealing)
//! ```

mod collector;

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedReceiver;
use tracing::{error, warn};

pub use self::collector::RecordingCollector;

use crate::output::counted;
use crate::payload::Inspector;
use crate::recorded::commits::Commits;
use crate::recorded::counters::SuppressedCounters;
use crate::recorded::journal;
use crate::recorded::lifecycle::Lifecycle;
use crate::recorded::ranges::CHECKER;
use crate::recorded::report;
use crate::recorded::time::Time;
use crate::recorded::to_log::EventWriter;
use blocksd_engine::error::SinkError;
use blocksd_engine::event::{Event, EventKind};
use blocksd_engine::session::{Recovered, Sessions};
use blocksd_engine::sink::lossy::Next;
use blocksd_engine::sink::{Events, Sink, Supervision, Supervisor};
use blocksd_recording::catalog::{RecordingFile, files};
use blocksd_recording::scan::Summary;
use blocksd_recording::topic::Kind;
use blocksd_recording::{
    Durability, Error, Lock, Log, LogContext, LogError, LogOptions, LogReport, Packer, Repaired,
    Retention, Stats, Unrepaired, WindowedFile,
};

/// How long to wait for a disk that accepts nothing, after the last connection has closed.
const GIVE_UP_AFTER: Duration = Duration::from_secs(5);

/// Longest time that the end of the daemon waits for the packing of sealed files.
pub(crate) const PACK_AT_MOST: Duration = Duration::from_secs(1);

/// Creates the context of a recording in the folder of a lock.
///
/// # Errors
/// [`Error::Folder`].
pub fn context(
    lock: &Lock,
    stats: Arc<Stats>,
    retention: Arc<Retention>,
) -> Result<LogContext, Error> {
    let kept = Arc::clone(&retention);
    let context = LogContext::open(lock.path(), stats, retention)?.keeping(lock);
    let report = move |it: &LogReport<'_>| report::log(it, &kept);
    Ok(context.reporting_to(report).counting_with(messages))
}

/// The number of messages of devices in a sealed file; `None` if it has no summary.
fn messages(path: &Path) -> Option<u64> {
    let mut input = WindowedFile::open(path).ok()?;
    let summary = Summary::of_sealed(&mut input, false).ok()??;
    summary.count(Kind::Blocks)
}

/// Makes room for the repair of the longest torn file. A repair writes a copy.
fn make_room(context: &LogContext, folder: &Path) {
    let files = files(folder).unwrap_or_default();
    let torn = files.iter().filter(|path| {
        let file = RecordingFile::of(path.to_path_buf());
        file.sealed_path().is_some()
    });
    let len = |path: &PathBuf| path.metadata().map_or(0, |file| file.len());
    if let Some(longest) = torn.map(len).max() {
        context.make_room(longest);
    }
}

/// Repairs and seals the files that a crash has torn. A file that cannot be repaired is not changed; the next start
/// tries again. Emits an event for each torn file. Returns whether all could be repaired.
pub fn repair(lock: &Lock, context: &LogContext, mut emit: impl FnMut(Lifecycle<'static>)) -> bool {
    make_room(context, lock.path());
    let stats = &context.stats;
    let repaired = match CHECKER.repair_dir(lock.path()) {
        Ok(repaired) => repaired,
        Err(error) => {
            error!(
                "recording: cannot look for torn files: {}",
                with_cause(&error)
            );
            return false;
        }
    };
    let mut is_repaired = true;
    for repaired in repaired {
        let Repaired {
            from,
            original,
            recovered,
            ..
        } = match repaired {
            Ok(repaired) => repaired,
            Err(Unrepaired { path, error }) => {
                is_repaired = false;
                let failure = with_cause(&error);
                error!(file = %path.display(), "recording: cannot repair a torn file: {failure}; the next start tries again");
                emit(Lifecycle::Unrepaired {
                    time: Time(SystemTime::now()),
                    file: name(&path),
                    error: failure.into(),
                });
                continue;
            }
        };
        make_room(context, lock.path());
        stats.repaired(recovered.blocks, recovered.lost_bytes);
        emit(Lifecycle::Repaired {
            time: Time(SystemTime::now()),
            file: name(&from),
            blocks: recovered.blocks,
            lost_bytes: recovered.lost_bytes,
            original: original.as_deref().map(name),
        });
        let blocks = counted(recovered.blocks, "block");
        let bytes = counted(recovered.lost_bytes, "byte");
        warn!(file = %from.display(), "recording: a torn file was repaired: {blocks} recovered, {bytes} lost{}", recovered.disorder());
        if recovered.unconfirmed != 0 {
            let messages = counted(recovered.unconfirmed, "message");
            warn!(file = %from.display(), "recording: {messages} of sessions set aside: not acknowledged, so their devices send them again");
        }
        if let Some(original) = original {
            warn!(file = %original.display(), "recording: the original is kept, since more is lost than an unfinished record");
        }
        for hint in recovered.hints() {
            warn!(file = %from.display(), "recording: {hint}");
        }
    }
    is_repaired
}

/// Reads the sessions of a recording. If that is not possible, or if a torn file could not be repaired, no session can be
/// opened, because the acknowledged numbers are not known.
pub fn recover_sessions(folder: &Path, sessions: &Sessions, is_repaired: bool) {
    let folded = match journal::fold(folder) {
        Ok(folded) => folded,
        Err(error) => {
            error!(
                "recording: cannot read the sessions: {}; devices that open one are refused",
                with_cause(&error)
            );
            return sessions.close();
        }
    };
    for unread in &folded.unread {
        warn!("recording: sessions: {unread}");
    }
    if !is_repaired {
        error!(
            "recording: devices that open a session are refused until the torn files are repaired: make room on the disk, or move away what \
             cannot be repaired, and restart the daemon"
        );
        sessions.close();
    }
    let recovered = folded.sessions.into_iter().map(|session| Recovered {
        device: session.device.into(),
        session: session.session,
        next: session.next,
        check: session.check,
    });
    sessions.recover(recovered);
}

/// Writes events to a recording.
#[derive(Debug)]
pub struct Recording {
    context: Arc<LogContext>,
    writer: EventWriter,
    /// Events of the daemon itself.
    lifecycle: UnboundedReceiver<Lifecycle<'static>>,
    synced: Arc<Notify>,
    packer: Packer,
    commits: Arc<Commits>,
    /// Held until the last file is sealed.
    lock: Lock,
}

/// The disk did not accept everything that was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{least} to {most} received messages are not recorded")]
pub struct Unrecorded {
    /// The least number of received messages that are in no file.
    pub least: u64,
    /// The greatest number, with all messages that the disk has not confirmed.
    pub most: u64,
}

/// The totals of a recording at its end.
#[derive(Clone, Copy, Debug)]
struct RecordedTotals {
    /// Messages that it received.
    blocks: u64,
    /// Messages that are certainly in no file.
    unwritten: u64,
    /// The recording gave up before the last event.
    abandoned: bool,
}

impl Recording {
    /// Opens a recording in the folder of the lock. The [`context`] is that of the same lock. It also records the events
    /// of the daemon from `lifecycle`.
    ///
    /// # Errors
    /// [`Error::Folder`].
    pub fn open(
        lock: Lock,
        options: LogOptions,
        context: LogContext,
        suppressed: Arc<SuppressedCounters>,
        lifecycle: UnboundedReceiver<Lifecycle<'static>>,
    ) -> Result<Self, Error> {
        let context = Arc::new(context);
        let packer = Packer::start(&context, options.compression);
        let log = Log::after_others(options, Arc::clone(&context))?;
        let synced = Arc::<Notify>::default();
        {
            let synced = Arc::clone(&synced);
            log.on_synced(move || synced.notify_one());
        }
        Ok(Self {
            context,
            writer: EventWriter::new(log).counting(suppressed),
            lifecycle,
            synced,
            packer,
            commits: Arc::default(),
            lock,
        })
    }

    /// Records the messages of sessions, and acknowledges them when they are durable.
    #[must_use]
    pub fn with_sessions(self, sessions: Arc<Sessions>, commits: Arc<Commits>) -> Self {
        let ended = Arc::clone(&commits);
        self.writer
            .log()
            .on_commit(move |outcome| ended.ended(outcome));
        Self {
            writer: self.writer.with_sessions(sessions, Arc::clone(&commits)),
            commits,
            ..self
        }
    }

    /// What of the recording is durable.
    #[must_use]
    pub fn durability(&self) -> Arc<Durability> {
        Arc::clone(self.writer.log().durability())
    }

    /// Reports and records undecodable messages.
    #[must_use]
    pub fn inspecting(self, inspector: Inspector) -> Self {
        Self {
            writer: self.writer.inspecting(inspector),
            ..self
        }
    }
}

impl Sink for Recording {
    fn name(&self) -> &'static str {
        "recording"
    }

    fn run(self: Box<Self>, events: Events) -> Result<(), SinkError> {
        let Self {
            context,
            writer,
            lifecycle,
            synced,
            packer,
            commits,
            lock: _lock,
        } = *self;
        let applying = {
            let commits = Arc::clone(&commits);
            Handle::current().spawn(async move { commits.run().await })
        };
        let RecordedTotals {
            blocks,
            unwritten,
            abandoned,
        } = Handle::current().block_on(record(writer, lifecycle, events, &synced));
        applying.abort();
        commits.apply();
        packer.finish(PACK_AT_MOST);
        let stats = context.stats.read();
        // After a failed sync it is unknown whether its chunks are on the disk.
        if abandoned || stats.chunks_synced < stats.chunks_written {
            return Err(Unrecorded {
                least: unwritten,
                most: blocks.saturating_sub(stats.blocks_synced),
            }
            .into());
        }
        Ok(())
    }

    /// Gives up on a disk that accepts nothing, when no connection is left.
    fn supervisor(&self) -> Supervisor {
        let context = Arc::clone(&self.context);
        let mut stuck = None;
        Box::new(move || {
            if context.stats.read().retrying {
                let since = *stuck.get_or_insert_with(Instant::now);
                if GIVE_UP_AFTER < since.elapsed() {
                    context.give_up();
                }
            } else {
                stuck = None;
            }
            Supervision::Wait
        })
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

/// The name of a file, for an event.
fn name(path: &Path) -> Cow<'static, str> {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned().into()
}

async fn record(
    mut writer: EventWriter,
    mut lifecycle: UnboundedReceiver<Lifecycle<'static>>,
    mut events: Events,
    synced: &Notify,
) -> RecordedTotals {
    loop {
        match next(&mut writer, &mut lifecycle, &mut events, synced).await {
            Ok(Some(event)) if writer.event(&event).is_ok() => {}
            Ok(None) => {
                let stopped = Lifecycle::Stopped {
                    time: Time(SystemTime::now()),
                    blocks: writer.given(),
                };
                if writer.lifecycle(&stopped).is_err() {
                    break;
                }
                let blocks = writer.given();
                let (ended, unwritten) = writer.end();
                return RecordedTotals {
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
    while let Next::Event(event) = events.recv().await {
        if let EventKind::Batch { batch, .. } = &event.kind {
            left += batch.messages().0;
        }
    }
    // The sync thread gives up as well.
    let (_, unwritten) = writer.end();
    RecordedTotals {
        blocks: given + left,
        unwritten: unwritten + left,
        abandoned: true,
    }
}

/// Waits for the next event, and does the work that is due in the meantime.
async fn next(
    writer: &mut EventWriter,
    lifecycle: &mut UnboundedReceiver<Lifecycle<'static>>,
    events: &mut Events,
    synced: &Notify,
) -> Result<Option<Event>, LogError> {
    loop {
        writer.tick()?;
        while let Ok(event) = lifecycle.try_recv() {
            writer.lifecycle(&event)?;
        }
        if let Next::Event(event) = events.poll() {
            return Ok(Some(event));
        }
        let due = async {
            match writer.due() {
                Some(due) => tokio::time::sleep_until(due.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            Some(event) = lifecycle.recv() => writer.lifecycle(&event)?,
            next = events.recv() => return Ok(match next {
                Next::Event(event) => Some(event),
                _ => None,
            }),
            () = due => {}
            // Its end can be a failure, after which devices must send again.
            () = synced.notified() => {}
        }
    }
}
