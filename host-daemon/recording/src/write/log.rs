//! A log: messages in, durable files out. Start with [`Log::open`].

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::error::{Error, LogError};
use crate::format::filename;
use crate::lock::Lock;
use crate::write::active::{ActiveSegment, CommitCounts, SegmentFile};
use crate::write::channel::{Channel, ChannelSpec};
use crate::write::compress::{ChunkEnd, Compression};
use crate::write::retention::Retention;
use crate::write::retry::LogContext;
use crate::write::segment::SegmentWriter;
use crate::write::stats::Stats;
use crate::write::sync::SyncThread;

/// Entries that the index at the end of a file may have: each takes about 20 bytes of memory until the file is sealed,
/// the first of a chunk about 280.
const INDEX_MAX: usize = 1 << 20;

/// How a log is written.
#[derive(Clone, Copy, Debug)]
pub struct LogOptions {
    /// How chunks are compressed.
    pub compression: Compression,
    /// Length of a file, in bytes, after which the next is begun.
    pub rotate_bytes: u64,
    /// Age of a file after which the next is begun.
    pub rotate_after: Duration,
    /// Longest time that a message waits for its commit, besides the time that the disk takes.
    pub sync_after: Duration,
}

impl Default for LogOptions {
    /// Compressed where the recorder has time; files of 1 GiB or an hour; commits every 100 ms.
    fn default() -> Self {
        Self {
            compression: Compression::Auto,
            rotate_bytes: 1 << 30,
            rotate_after: Duration::from_secs(3600),
            sync_after: Duration::from_millis(100),
        }
    }
}

/// The writing side of a recording. It waits where the disk makes it wait.
///
/// Messages are appended to channels and become durable together, in group commits: call [`tick`](Self::tick) when
/// [`due`](Self::due) says so, or [`commit`](Self::commit).
#[derive(Debug)]
pub struct Log {
    options: LogOptions,
    context: Arc<LogContext>,
    sync: SyncThread,
    /// Number of the next file.
    number: u64,
    active: Option<Box<ActiveSegment>>,
    /// The last file was broken: the next is tried before messages go there.
    probe_next_file: bool,
    /// Messages that are certainly in no file, and will not be.
    unwritten: u64,
    _lock: Option<Lock>,
}

impl Log {
    /// Opens a log in a folder, which is made if it is not there, and locks it. Files that a crash has left torn stay
    /// as they are: [`repair_dir`](crate::repair_dir) seals them.
    ///
    /// # Errors
    /// [`Error::Folder`]; [`Error::Locked`] if another process writes there.
    pub fn open(folder: &Path, options: LogOptions) -> Result<Self, Error> {
        let lock = Lock::take(folder)?;
        let context = LogContext::open(folder, Arc::default(), Retention::new(None))?;
        let log = Self::after_others(options, Arc::new(context))?;
        let lock = Some(lock);
        Ok(Self { _lock: lock, ..log })
    }

    /// Continues in a folder that the caller has locked, after the files that are there.
    ///
    /// # Errors
    /// [`Error::Folder`].
    pub fn after_others(options: LogOptions, context: Arc<LogContext>) -> Result<Self, Error> {
        let files = context.folder.list();
        let files = files.map_err(|error| Error::folder(&context.path, error))?;
        let numbers = files.iter().filter_map(|(name, _)| filename::number(name));
        let number = numbers.max().map_or(1, |number| number + 1);
        Ok(Self::new(options, context, number))
    }

    /// Begins with file number `number`, as soon as there is something to write.
    #[must_use]
    pub fn new(options: LogOptions, context: Arc<LogContext>, number: u64) -> Self {
        Self {
            sync: SyncThread::start(Arc::clone(&context)),
            options,
            context,
            number,
            active: None,
            probe_next_file: false,
            unwritten: 0,
            _lock: None,
        }
    }

    /// Makes `channel` a channel of the present file, unless it is one. `spec` describes it.
    ///
    /// # Errors
    /// [`LogError::GaveUp`].
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
        let id = active.segment.channel(&spec);
        *channel = Channel {
            file: active.number,
            id: self.context.internal(id)?,
            is_counted: spec.is_counted,
        };
        self.active = Some(active);
        Ok(*channel)
    }

    /// Adds a message to a channel of the present file.
    ///
    /// # Errors
    /// [`LogError`].
    #[inline]
    pub fn append(
        &mut self,
        channel: Channel,
        sequence: u32,
        time_ns: u64,
        bytes: &[u8],
    ) -> Result<(), LogError> {
        self.append_all(channel, sequence, time_ns, std::iter::once(bytes))
    }

    /// Adds messages that were received together to a channel of the present file, with sequence numbers from `sequence`
    /// on.
    ///
    /// # Errors
    /// [`LogError`].
    #[inline]
    pub fn append_all<'a>(
        &mut self,
        channel: Channel,
        sequence: u32,
        time_ns: u64,
        messages: impl Iterator<Item = &'a [u8]>,
    ) -> Result<(), LogError> {
        let active = self.active.as_mut();
        let active = active.filter(|active| active.number == channel.file);
        let active = active.ok_or(LogError::StaleChannel)?;
        active.messages(&self.context, channel, sequence, time_ns, messages)
    }

    /// Adds messages that another message stands for to the figures of the present chunk.
    pub fn count(&mut self, messages: u64) {
        if let Some(active) = &mut self.active {
            active.counted += messages;
        }
    }

    /// When [`tick`](Self::tick) has something to do, even if no message comes, and no [commit is under
    /// way](Self::is_syncing): its end is another reason.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        let active = self.active.as_ref()?;
        let rotate = active.begun + self.options.rotate_after;
        let oldest = match self.sync.is_idle() {
            true => active.oldest_unsynced,
            false => active.oldest_unwritten,
        };
        let commit = oldest.map(|oldest| oldest + self.options.sync_after);
        Some(commit.map_or(rotate, |commit| commit.min(rotate)))
    }

    /// Rotates and commits as far as that is due.
    ///
    /// # Errors
    /// [`LogError::GaveUp`].
    pub fn tick(&mut self) -> Result<(), LogError> {
        self.rotate_if_due()?;
        self.commit_if_due()
    }

    /// Seals the present file if it is long, old or broken. Returns whether it was.
    ///
    /// # Errors
    /// [`LogError::GaveUp`].
    pub fn rotate_if_due(&mut self) -> Result<bool, LogError> {
        if self.sync.is_gone() {
            return Err(LogError::GaveUp);
        }
        let LogOptions {
            rotate_bytes,
            rotate_after,
            ..
        } = self.options;
        let rotate_bytes = rotate_bytes.min(self.context.retention.file_max());
        let is_due = |active: &ActiveSegment| {
            rotate_bytes <= active.file.len.load(Ordering::Relaxed)
                || active.file.broken.load(Ordering::Acquire)
                || active.segment.is_nearly_full()
                || INDEX_MAX <= active.segment.index_len()
                || rotate_after <= active.begun.elapsed()
        };
        let is_due = self.active.as_deref().is_some_and(is_due);
        if is_due {
            self.seal()?;
        }
        Ok(is_due)
    }

    /// Commits if the oldest message has waited long enough. While the commit before is under way, hands the messages to
    /// the system only: they survive the end of the process.
    ///
    /// # Errors
    /// [`LogError::GaveUp`].
    pub fn commit_if_due(&mut self) -> Result<(), LogError> {
        let Some(active) = &mut self.active else {
            return Ok(());
        };
        let sync_after = self.options.sync_after;
        let is_due = |oldest: Option<Instant>| oldest.is_some_and(|it| sync_after <= it.elapsed());
        if is_due(active.oldest_unsynced) && self.sync.is_idle() {
            self.commit()
        } else if is_due(active.oldest_unwritten) {
            active.end_chunk(&self.context, ChunkEnd::Commit)
        } else {
            Ok(())
        }
    }

    /// Begins to make durable all that was appended so far. Does not wait.
    ///
    /// # Errors
    /// [`LogError::GaveUp`].
    pub fn commit(&mut self) -> Result<(), LogError> {
        let Some(mut active) = self.active.take() else {
            return Ok(());
        };
        if let Err(error) = active.end_chunk(&self.context, ChunkEnd::Commit) {
            self.unwritten += active.unwritten();
            return Err(error);
        }
        active.oldest_unsynced = None;
        let counts = std::mem::take(&mut active.since_commit);
        self.sync.commit(&active.file, counts)?;
        self.active = Some(active);
        Ok(())
    }

    /// Whether the last commit is still under way.
    #[must_use]
    pub fn is_syncing(&self) -> bool {
        !self.sync.is_idle()
    }

    /// Calls `wake` from another thread whenever a commit is done.
    pub fn on_synced(&self, wake: impl Fn() + Send + Sync + 'static) {
        self.sync.on_done(Box::new(wake));
    }

    /// Number of the file after the present one.
    #[must_use]
    pub const fn next_number(&self) -> u64 {
        self.number
    }

    /// What the log has done so far.
    #[must_use]
    pub fn stats(&self) -> &Arc<Stats> {
        &self.context.stats
    }

    /// Seals the last file, and waits until all is on the disk.
    ///
    /// # Errors
    /// [`LogError::GaveUp`].
    pub fn finish(self) -> Result<(), LogError> {
        self.end().0
    }

    /// As [`finish`](Self::finish). Also returns how many messages of channels that are counted are certainly in no
    /// file: not those of a chunk that was written in part, or that was not synced.
    pub fn end(mut self) -> (Result<(), LogError>, u64) {
        let sealed = self.seal();
        let synced = self.sync.finish();
        (sealed.and(synced), self.unwritten)
    }

    /// Whether a file is being written.
    #[must_use]
    pub const fn has_file(&self) -> bool {
        self.active.is_some()
    }

    fn begin(&mut self) -> Result<Box<ActiveSegment>, LogError> {
        let LogContext { folder, .. } = &*self.context;
        let segment = SegmentWriter::new(self.options.compression);
        let (number, probe, nonce) = (&mut self.number, self.probe_next_file, segment.nonce());
        let (name, file) = self.context.retry("begin a file", || {
            let name = filename::sealed(*number, Timestamp::now(), nonce);
            let part = filename::part(&name);
            let file = folder.create(&part).inspect_err(|error| {
                // Somebody has put a file there: that number is taken.
                *number += u64::from(error.kind() == io::ErrorKind::AlreadyExists);
            })?;
            if probe {
                // The header, which is written once more later. A disk that cannot sync holds the writer back here, and
                // does not lose one file after another.
                let tried = file.write_at(segment.ready(), 0).and_then(|_| file.sync());
                if let Err(error) = tried {
                    let _ = folder.remove(&part);
                    return Err(error);
                }
            }
            Ok((name, file))
        })?;
        let number = *number;
        self.number += 1;
        self.probe_next_file = false;
        Ok(Box::new(ActiveSegment {
            number,
            file: Arc::new(SegmentFile {
                name,
                file,
                len: AtomicU64::new(0),
                broken: AtomicBool::new(false),
            }),
            segment,
            begun: Instant::now(),
            oldest_unsynced: None,
            oldest_unwritten: None,
            counted: 0,
            is_torn: false,
            since_commit: CommitCounts::default(),
        }))
    }

    /// Ends the present file, if there is one.
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
        self.probe_next_file = active.file.broken.load(Ordering::Acquire);
        self.sync.seal(&active.file, active.since_commit)
    }
}
