//! Appends messages and makes them durable in group commits. Start with [`Log::open`].

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use crate::durability::Durability;
use crate::error::{Error, LogError};
use crate::format::filename;
use crate::format::origin::MessageOrigin;
use crate::format::private::VoidedFile;
use crate::lock::Lock;
use crate::write::active::{ActiveSegment, CommitCounts, SegmentFile};
use crate::write::channel::{Channel, ChannelSpec};
use crate::write::compress::ChunkEnd;
use crate::write::epoch::CommitOutcome;
use crate::write::epochs::Epochs;
use crate::write::options::LogOptions;
use crate::write::retention::Retention;
use crate::write::retry::LogContext;
use crate::write::segment::SegmentWriter;
use crate::write::stats::Stats;
use crate::write::sync::SyncThread;

/// Largest number of entries in the index of a file. An entry takes about 20 bytes of memory until the file is sealed,
/// and the first of a chunk about 280.
const INDEX_MAX: usize = 1 << 20;
/// A hastened commit follows after this part of [`LogOptions::sync_after`].
const HASTENED: u32 = 10;

/// The writing side of a recording. Methods block while the disk does.
///
/// Messages are appended to channels, and become durable together in group commits: call [`tick`](Self::tick) when
/// [`due`](Self::due) says so, or call [`commit`](Self::commit). See [the crate](crate) for an example.
///
/// A disk that refuses data, for example because it is full, is retried without end. Another thread can end that with
/// [`LogContext::give_up`]. Dropping a log without [`finish`](Self::finish) leaves its last file torn,
/// and does not commit: messages since the last commit may be lost without a report.
#[derive(Debug)]
pub struct Log {
    options: LogOptions,
    context: Arc<LogContext>,
    sync: SyncThread,
    /// Number of the next file.
    number: u64,
    active: Option<Box<ActiveSegment>>,
    epochs: Epochs,
    /// A sync failed: sync the header of the next file before messages go there.
    probe_next_file: bool,
    /// Files that the next file declares void.
    voided: Vec<VoidedFile>,
    /// Counted messages that are certainly in no file, and will not be.
    unwritten: u64,
    _lock: Option<Lock>,
}

impl Log {
    /// Opens a log in a folder, and locks it. Creates the folder if it does not exist. Torn files are not changed:
    /// [`repair_dir`](crate::repair_dir) seals them.
    ///
    /// # Errors
    /// [`Error::Folder`]; [`Error::Locked`] if another process has locked the folder.
    pub fn open(folder: &Path, options: LogOptions) -> Result<Self, Error> {
        let lock = Lock::take(folder)?;
        let context = LogContext::open(folder, Arc::default(), Retention::new(None))?;
        let context = context.keeping(&lock);
        let log = Self::after_others(options, Arc::new(context))?;
        let lock = Some(lock);
        Ok(Self { _lock: lock, ..log })
    }

    /// Opens a log in a folder that the caller has [locked](Lock). File numbers continue after the existing files.
    ///
    /// # Errors
    /// [`Error::Folder`].
    pub fn after_others(options: LogOptions, context: Arc<LogContext>) -> Result<Self, Error> {
        let files = context.folder.list();
        let files = files.map_err(|error| Error::folder(&context.path, error))?;
        let numbers = files.iter().filter_map(|(name, _)| filename::number(name));
        let numbers = numbers.filter(|number| *number < filename::NUMBER_END / 2);
        let number = numbers.max().map_or(1, |number| number + 1);
        Ok(Self::new(options, context, number))
    }

    /// Creates a log whose first file has this number. The file is created with the first channel.
    #[must_use]
    pub fn new(options: LogOptions, context: Arc<LogContext>, number: u64) -> Self {
        Self {
            sync: SyncThread::start(Arc::clone(&context)),
            options,
            context,
            number,
            active: None,
            epochs: Epochs::new(),
            probe_next_file: false,
            voided: Vec::new(),
            unwritten: 0,
            _lock: None,
        }
    }

    /// Registers a channel in the current file, unless `channel` is registered there already. Returns the channel.
    /// `spec` describes it, and is called only if needed.
    ///
    /// Call this before each [`append`](Self::append): in the same file, it only compares two numbers.
    ///
    /// # Errors
    /// [`LogError::GaveUp`]; [`LogError::Internal`].
    pub fn channel(
        &mut self,
        channel: &mut Channel,
        spec: impl FnOnce() -> ChannelSpec,
    ) -> Result<Channel, LogError> {
        if let Some(active) = &self.active
            && active.number == channel.file
        {
            return Ok(*channel);
        }
        if self.active.as_ref().is_some_and(|it| it.segment.is_full()) {
            self.seal()?;
        }
        let mut active = match self.active.take() {
            Some(active) => active,
            None => self.begin()?,
        };
        let spec = spec();
        if spec.is_numbered() {
            self.epochs.current().number();
        }
        let id = active.segment.channel(&spec);
        *channel = Channel {
            file: active.number,
            id: self.context.internal(id)?,
            is_counted: spec.is_counted,
        };
        self.active = Some(active);
        Ok(*channel)
    }

    /// Appends a message to a channel of the current file. `time_ns` is its time in nanoseconds since 1970. Its origin is
    /// not recorded; [`append_all`](Self::append_all) records it.
    ///
    /// # Errors
    /// [`LogError::StaleChannel`] if the file of the channel is sealed; [`LogError::GaveUp`]; [`LogError::Internal`].
    #[inline]
    pub fn append(
        &mut self,
        channel: Channel,
        sequence: u32,
        time_ns: u64,
        bytes: &[u8],
    ) -> Result<(), LogError> {
        self.append_all(channel, None, sequence, time_ns, std::iter::once(bytes))
    }

    /// Appends messages that were received together to a channel of the current file, with sequence numbers from
    /// `sequence` on. `origin` is that of the first, and the others follow it in the same connection.
    ///
    /// # Errors
    /// [`LogError`].
    #[inline]
    pub fn append_all<'a>(
        &mut self,
        channel: Channel,
        origin: Option<MessageOrigin>,
        sequence: u32,
        time_ns: u64,
        messages: impl Iterator<Item = &'a [u8]>,
    ) -> Result<(), LogError> {
        let active = self.active.as_mut();
        let active = active.filter(|active| active.number == channel.file);
        let active = active.ok_or(LogError::StaleChannel)?;
        active.messages(&self.context, channel, origin, sequence, time_ns, messages)
    }

    /// Counts messages that another message stands for as part of the current chunk.
    pub fn count(&mut self, messages: u64) {
        if let Some(active) = &mut self.active {
            active.counted += messages;
        }
    }

    /// Returns when [`tick`](Self::tick) must be called, even if no message comes. `None` while no file is open. The end
    /// of a [commit in progress](Self::is_syncing) is another reason to call it.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        let active = self.active.as_ref()?;
        let rotate = active.begun + self.options.rotate_after;
        let (oldest, after) = match self.sync.is_idle() {
            true => (active.oldest_unsynced, self.commit_after(active)),
            false => (active.oldest_unwritten, self.options.sync_after),
        };
        let commit = oldest.map(|oldest| oldest + after);
        Some(commit.map_or(rotate, |commit| commit.min(rotate)))
    }

    /// Rotates and commits if that is due.
    ///
    /// # Errors
    /// [`LogError::GaveUp`]; [`LogError::Internal`].
    pub fn tick(&mut self) -> Result<(), LogError> {
        self.rotate_if_due()?;
        self.commit_if_due()
    }

    /// Seals the current file if it is long or old, or if a [sync failed](Self::has_failed_sync). Returns whether it did.
    ///
    /// After a failed sync, begins a new [epoch](Self::epoch): the next file declares the broken files void. With a numbered
    /// channel in any file of the old epoch, these are all files that were not completely synced before; otherwise those whose
    /// own sync failed. They stay unsealed, and the next start repairs them. Messages go to the next file only when its first
    /// sync has succeeded.
    ///
    /// # Errors
    /// [`LogError::GaveUp`]; [`LogError::Internal`].
    pub fn rotate_if_due(&mut self) -> Result<bool, LogError> {
        if self.sync.is_gone() {
            return Err(LogError::GaveUp);
        }
        self.epochs.prune();
        // The sync may fail at any time, so it is asked once.
        let has_failed = self.has_failed_sync();
        let is_due = self.is_due(has_failed);
        if has_failed {
            self.voided.extend(self.epochs.renew());
            self.probe_next_file = true;
        }
        if is_due {
            self.seal()?;
        }
        Ok(is_due)
    }

    /// Makes the current file due: the next [`rotate_if_due`](Self::rotate_if_due) seals it.
    pub fn end_file(&mut self) {
        if let Some(active) = &mut self.active {
            active.is_ended = true;
        }
    }

    /// Lets the current file get at least this long, in bytes; if a limit on the space allows less, at least a quarter of it. For
    /// a file that begins with a state which each file repeats.
    pub fn keep_until(&mut self, len: u64) {
        if let Some(active) = &mut self.active {
            active.least_len = len;
        }
    }

    /// Returns whether [`rotate_if_due`](Self::rotate_if_due) would seal the current file now.
    #[must_use]
    pub fn is_rotation_due(&self) -> bool {
        self.is_due(self.has_failed_sync())
    }

    /// Returns whether a sync of the current [epoch](Self::epoch) failed. A sync of a file that is being sealed counts, also
    /// after the next file was begun. [`rotate_if_due`](Self::rotate_if_due) ends this state.
    #[must_use]
    pub fn has_failed_sync(&self) -> bool {
        self.epochs.current().has_failed()
    }

    /// Returns the number of the current epoch, from 1. It grows each time that the log has noticed a failed sync. Messages of
    /// an earlier epoch that were not reported as [durable](Self::on_commit) by then never are.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.epochs.number()
    }

    /// Commits if the oldest message has waited long enough. While another commit is in progress, only hands the messages
    /// to the system: they survive the end of the process.
    ///
    /// # Errors
    /// [`LogError::GaveUp`]; [`LogError::Internal`].
    pub fn commit_if_due(&mut self) -> Result<(), LogError> {
        let Some(active) = self.active.as_deref() else {
            return Ok(());
        };
        let is_due = |oldest: Option<Instant>, after: Duration| {
            oldest.is_some_and(|oldest| after <= oldest.elapsed())
        };
        if is_due(active.oldest_unsynced, self.commit_after(active)) && self.sync.is_idle() {
            return self.commit();
        }
        if is_due(active.oldest_unwritten, self.options.sync_after)
            && let Some(active) = &mut self.active
        {
            return active.end_chunk(&self.context, ChunkEnd::Commit);
        }
        Ok(())
    }

    /// Commits the messages appended so far sooner: after a tenth of [`LogOptions::sync_after`]. Commits still do not overlap.
    pub fn hasten(&mut self) {
        if let Some(active) = &mut self.active {
            active.is_hastened = active.oldest_unsynced.is_some();
        }
    }

    /// Writes all appended messages, and begins to make them durable. Does not wait for the sync.
    ///
    /// # Errors
    /// [`LogError::GaveUp`]; [`LogError::Internal`].
    pub fn commit(&mut self) -> Result<(), LogError> {
        let Some(mut active) = self.active.take() else {
            return Ok(());
        };
        if let Err(error) = active.end_chunk(&self.context, ChunkEnd::Commit) {
            self.unwritten += active.unwritten();
            return Err(error);
        }
        active.oldest_unsynced = None;
        active.is_hastened = false;
        let counts = std::mem::take(&mut active.since_commit);
        self.sync.commit(&active.file, counts)?;
        self.active = Some(active);
        Ok(())
    }

    /// Returns whether a commit is in progress.
    #[must_use]
    pub fn is_syncing(&self) -> bool {
        !self.sync.is_idle()
    }

    /// Returns the number of the commit that will make the next appended message durable. Commits, and the seals of files, are
    /// numbered from 1.
    #[must_use]
    pub const fn next_commit(&self) -> u64 {
        self.sync.next()
    }

    /// Registers a function that is called from the sync thread with the outcome of each commit, in their order: after its
    /// sync, before the writer [can see](Self::has_failed_sync) that it failed, and before the function of
    /// [`on_synced`](Self::on_synced). If the log gives up, the commits that are left are not durable. Only the first
    /// registration has an effect.
    pub fn on_commit(&self, report: impl Fn(CommitOutcome) + Send + Sync + 'static) {
        self.sync.on_commit(report);
    }

    /// Registers a function that is called from the sync thread after each commit or seal. Only the first registration
    /// has an effect.
    pub fn on_synced(&self, wake: impl Fn() + Send + Sync + 'static) {
        self.sync.on_done(wake);
    }

    /// Returns the number of the next file.
    #[must_use]
    pub const fn next_number(&self) -> u64 {
        self.number
    }

    /// Returns the counters of the log.
    #[must_use]
    pub fn stats(&self) -> &Arc<Stats> {
        &self.context.stats
    }

    /// Returns what is known to be durable, for [`Tail::durable`](crate::Tail::durable).
    #[must_use]
    pub fn durability(&self) -> &Arc<Durability> {
        self.context.durability()
    }

    /// Seals the last file, and waits until everything is on the disk.
    ///
    /// # Errors
    /// [`LogError::GaveUp`]; [`LogError::Internal`].
    pub fn finish(self) -> Result<(), LogError> {
        self.end().0
    }

    /// As [`finish`](Self::finish). Also returns how many counted messages are certainly in no file. Messages of a
    /// chunk that was partly written, or not synced, are not included.
    pub fn end(mut self) -> (Result<(), LogError>, u64) {
        let sealed = self.seal();
        let synced = self.sync.finish();
        (sealed.and(synced), self.unwritten)
    }

    /// Returns whether a file is being written.
    #[must_use]
    pub const fn has_file(&self) -> bool {
        self.active.is_some()
    }

    /// How long the oldest message waits for a commit.
    fn commit_after(&self, active: &ActiveSegment) -> Duration {
        match active.is_hastened {
            true => self.options.sync_after / HASTENED,
            false => self.options.sync_after,
        }
    }

    fn is_due(&self, has_failed_sync: bool) -> bool {
        let LogOptions {
            rotate_bytes,
            rotate_after,
            ..
        } = self.options;
        let file_max = self.context.space.file_max();
        let is_due = |active: &ActiveSegment| {
            // A limit on the space never makes a file of little more than the state that each repeats.
            let file_max = file_max.max(active.least_len / 4);
            let full = rotate_bytes.max(active.least_len).min(file_max);
            full <= active.file.len.load(Ordering::Relaxed)
                || has_failed_sync
                || active.is_ended
                || active.segment.is_nearly_full()
                || INDEX_MAX <= active.segment.index_len()
                || rotate_after <= active.begun.elapsed()
        };
        self.active.as_deref().is_some_and(is_due)
    }

    fn begin(&mut self) -> Result<Box<ActiveSegment>, LogError> {
        let LogContext { folder, .. } = &*self.context;
        let synced_len = Arc::default();
        let mut segment = SegmentWriter::new(self.options.compression, &synced_len);
        if !self.voided.is_empty() {
            let declared = segment.declare_void(&self.voided);
            self.context.internal(declared)?;
        }
        let (number, probe, nonce) = (&mut self.number, self.probe_next_file, segment.nonce());
        let probe_len = if probe {
            segment.ready().len() as u64
        } else {
            0
        };
        self.context.reserve(probe_len);
        self.context.durability.begin(nonce, &self.voided);
        let (name, file) = self.context.retry("begin a file", || {
            let name = filename::sealed(*number, SystemTime::now(), nonce);
            let part = filename::part(&name);
            let file = folder.create(&part).inspect_err(|error| {
                // Another program has created a file with this name: use the next number.
                *number += u64::from(error.kind() == io::ErrorKind::AlreadyExists);
            })?;
            if probe {
                // This writes the head of the file, which is written again later. A disk that cannot sync blocks the writer here,
                // instead of losing one file after another.
                let tried = file.write_at(segment.ready(), 0).and_then(|_| file.sync());
                if let Err(error) = tried {
                    let _ = folder.remove(&part);
                    return Err(error);
                }
            }
            self.context.space.begin(&part);
            Ok((name, file))
        })?;
        self.context.written(&name, probe_len, 0);
        let number = *number;
        self.number += 1;
        self.probe_next_file = false;
        self.voided.clear();
        let file = Arc::new(SegmentFile {
            name,
            file,
            nonce,
            len: AtomicU64::new(0),
            synced_len,
            is_complete: AtomicBool::new(false),
            is_broken: AtomicBool::new(false),
            is_named: AtomicBool::new(false),
            epoch: Arc::clone(self.epochs.current()),
        });
        self.epochs.add(&file);
        Ok(Box::new(ActiveSegment {
            number,
            file,
            segment,
            begun: Instant::now(),
            least_len: 0,
            is_ended: false,
            oldest_unsynced: None,
            is_hastened: false,
            oldest_unwritten: None,
            counted: 0,
            is_torn: false,
            since_commit: CommitCounts::default(),
        }))
    }

    /// Seals the current file, if there is one.
    fn seal(&mut self) -> Result<(), LogError> {
        let Some(mut active) = self.active.take() else {
            return Ok(());
        };
        if let Err(error) = active.end_chunk(&self.context, ChunkEnd::Commit) {
            self.unwritten += active.unwritten();
            return Err(error);
        }
        active.segment.finish();
        let bytes = active.write_out(&self.context)?;
        self.context.stats.end_written(bytes);
        self.sync.seal(&active.file, active.since_commit)
    }
}
