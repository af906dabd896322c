//! Turns events into files: channels and sequences, chunks, group commits, rotation.

mod batch;
mod counts;
mod open;

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;

use self::open::Open;
use crate::engine::event::{Event, What};
use crate::recorded::budget::{Account, Budget};
use crate::recorded::note::Note;
use crate::recording::format::filename;
use crate::recording::write::segment::{Compression, Container};
use crate::recording::write::sync::{Abandoned, Common, Part, Share, Syncer};

/// Entries that the index at the end of a file may have: each takes about 20 bytes of memory until the file is sealed,
/// the first of a chunk about 280.
const INDEX_MAX: usize = 1 << 20;

/// How a recording is written.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How chunks are compressed.
    pub compression: Compression,
    /// A file that is so long, in bytes, is followed by the next.
    pub rotate_bytes: u64,
    /// A file that is so old is followed by the next.
    pub rotate_after: Duration,
    /// How long a block may wait until it is on the disk, but for the time that the disk takes.
    pub sync_after: Duration,
}

/// The writing side of a recording. It waits where the disk makes it wait.
#[derive(Debug)]
pub struct Writer {
    settings: Settings,
    common: Arc<Common>,
    syncer: Syncer,
    /// Number of the next file.
    number: u64,
    open: Option<Box<Open>>,
    devices: HashMap<Arc<str>, Device>,
    conns: HashMap<u64, Conn>,
    budget: Budget,
    event_sequence: u32,
    json: Vec<u8>,
    /// Blocks that were given to it.
    given: u64,
    /// The last file was broken: the next is tried before it is relied on.
    is_wary: bool,
}

/// What is known of a device.
#[derive(Debug, Default)]
struct Device {
    blocks: u32,
    pieces: u32,
    conns: usize,
    /// Number of the last file that it is in.
    file: u64,
}

/// What is known of a connection.
#[derive(Debug, Default)]
struct Conn {
    channels: Channels,
    account: Account,
}

/// The channels of a connection in the open file.
#[derive(Clone, Copy, Debug, Default)]
struct Channels {
    blocks: Option<u16>,
    pieces: Option<u16>,
}

impl Writer {
    /// Begins with file number `number`, as soon as there is something to write.
    #[must_use]
    pub fn new(settings: Settings, common: Arc<Common>, number: u64) -> Self {
        let syncer = Syncer::start(Arc::clone(&common));
        Self {
            settings,
            common,
            syncer,
            number,
            open: None,
            devices: HashMap::new(),
            conns: HashMap::new(),
            budget: Budget::default(),
            event_sequence: 0,
            json: Vec::new(),
            given: 0,
            is_wary: false,
        }
    }

    /// Writes an event, or as much of it as there was before the disk failed for good.
    ///
    /// # Errors
    /// [`Abandoned`].
    pub fn event(&mut self, event: &Event) -> Result<(), Abandoned> {
        if let What::Batch { batch, .. } = &event.what {
            self.given += batch.blocks().0;
        }
        self.rotate_if_due()?;
        self.with_open(|writer, open| writer.write(open, event))
    }

    /// When something is to be done though no event comes: [`commit`](Self::commit) or rotate, by [`tick`](Self::tick).
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        let open = self.open.as_ref();
        let rotate = open.map(|open| open.begun + self.settings.rotate_after);
        let dirty = open.and_then(|open| open.dirty);
        let commit = dirty.map(|dirty| dirty + self.settings.sync_after);
        [rotate, commit, self.budget.due()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Resolves when a commit that had to wait for the one before can be made.
    ///
    /// Cancel-safe.
    pub async fn synced(&self) {
        self.syncer.done().await;
    }

    /// Whether the last commit is still under way.
    #[must_use]
    pub fn is_syncing(&self) -> bool {
        !self.syncer.is_idle()
    }

    /// Does what is due.
    ///
    /// # Errors
    /// [`Abandoned`].
    pub fn tick(&mut self) -> Result<(), Abandoned> {
        if self.syncer.is_gone() {
            return Err(Abandoned);
        }
        self.rotate_if_due()?;
        if self.budget.due().is_some_and(|due| due <= Instant::now()) {
            self.write_sums(false)?;
        }
        let dirty = self.open.as_ref().and_then(|open| open.dirty);
        if dirty.is_some_and(|dirty| self.settings.sync_after <= dirty.elapsed())
            && self.syncer.is_idle()
        {
            self.commit()?;
        }
        Ok(())
    }

    /// Has all that was given so far put on the disk: begins it, and does not wait.
    ///
    /// # Errors
    /// [`Abandoned`].
    pub fn commit(&mut self) -> Result<(), Abandoned> {
        let Some(mut open) = self.open.take() else {
            return Ok(());
        };
        open.end_chunk(&self.common)?;
        open.dirty = None;
        self.syncer
            .commit(&open.part, std::mem::take(&mut open.share))?;
        self.open = Some(open);
        Ok(())
    }

    /// Blocks that were given to it, whatever has become of them.
    #[must_use]
    pub const fn given(&self) -> u64 {
        self.given
    }

    /// Devices that it remembers: those with connections, and those of which it has something to count on from.
    #[must_use]
    pub fn devices(&self) -> usize {
        self.devices.len()
    }

    /// Seals the last file, and waits until all is on the disk.
    ///
    /// # Errors
    /// [`Abandoned`].
    pub fn finish(mut self) -> Result<(), Abandoned> {
        let counted = match self.budget.due() {
            Some(_) => self.write_sums(true),
            None => Ok(()),
        };
        let sealed = counted.and_then(|()| self.seal());
        let synced = self.syncer.finish();
        sealed.and(synced)
    }

    /// Calls `write` with the open file; begins one if there is none.
    fn with_open(
        &mut self,
        write: impl FnOnce(&mut Self, &mut Open) -> Result<(), Abandoned>,
    ) -> Result<(), Abandoned> {
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.begin()?,
        };
        let written = write(self, &mut open);
        self.open = Some(open);
        written
    }

    fn write(&mut self, open: &mut Open, event: &Event) -> Result<(), Abandoned> {
        let source = &event.source;
        match &event.what {
            What::Opened { peer } => {
                let device = Arc::clone(&source.device);
                self.devices.entry(device).or_default().conns += 1;
                let account = self.budget.open(event, peer, Instant::now());
                let is_held = account.is_open_held();
                let channels = Channels::default();
                self.conns.insert(source.conn, Conn { channels, account });
                match is_held {
                    true => Ok(()),
                    false => self.note(open, event.time, &Note::open(event, peer)),
                }
            }
            What::Batch { batch, position } => self.batch(open, event, batch, position),
            What::Closed {
                blocks,
                bytes,
                reason,
            } => {
                let is_recorded = self.closed(open, event)?;
                let note = Note::close(event, *blocks, *bytes, *reason);
                match is_recorded {
                    true => self.note(open, event.time, &note),
                    false => Ok(()),
                }
            }
            What::Suppressed(sums) => self.note(open, event.time, &Note::suppressed(event, sums)),
        }
    }

    /// Removes a connection. Returns whether its close is to be recorded: if its open was.
    fn closed(&mut self, open: &mut Open, event: &Event) -> Result<bool, Abandoned> {
        let source = &event.source;
        let mut conn = self.conns.remove(&source.conn).unwrap_or_default();
        let is_recorded = !conn.account.is_open_held();
        if is_recorded {
            let mut blocks = self.next_block(&source.device);
            // Its open has paid for this.
            self.write_held(open, &mut conn, &mut blocks, event.time)?;
            if let Some(device) = self.devices.get_mut(&source.device) {
                device.blocks = blocks;
            }
        } else if let Some(held) = conn.account.take() {
            self.budget.total(&held, Instant::now());
        }
        if let Some(device) = self.devices.get_mut(&source.device) {
            device.conns = device.conns.saturating_sub(1);
            device.file = self.number;
            if (device.conns, device.blocks, device.pieces) == (0, 0, 0) {
                self.devices.remove(&source.device);
            }
        }
        Ok(is_recorded)
    }

    /// Sequence number of the next block of a device.
    fn next_block(&self, device: &Arc<str>) -> u32 {
        self.devices.get(device).map_or(0, |device| device.blocks)
    }

    fn note(
        &mut self,
        open: &mut Open,
        time: SystemTime,
        note: &Note<'_>,
    ) -> Result<(), Abandoned> {
        self.json.clear();
        internal(note.write(&mut self.json))?;
        let channel = internal(open.container.events())?;
        let (sequence, time_ns) = (self.event_sequence, nanoseconds(time));
        self.event_sequence = sequence.wrapping_add(1);
        open.message(&self.common, channel, sequence, time_ns, &self.json)
    }

    fn begin(&mut self) -> Result<Box<Open>, Abandoned> {
        let Common { folder, .. } = &*self.common;
        let mut container = internal(Container::new(self.settings.compression))?;
        let mut bytes = Vec::new();
        container.take(&mut bytes);
        let (number, is_wary, mark) = (&mut self.number, self.is_wary, container.mark());
        let (name, file) = self.common.insist("begin a file", || {
            let name = filename::sealed(*number, Timestamp::now(), mark);
            let part = filename::part(&name);
            let file = folder.create(&part).inspect_err(|error| {
                // Somebody has put a file there: that number is taken.
                *number += u64::from(error.kind() == io::ErrorKind::AlreadyExists);
            })?;
            if is_wary {
                // Its begin, which is written once more: a disk that cannot sync holds the devices back here, and
                // not one file after another is lost.
                let tried = file.write_at(&bytes, 0).and_then(|_| file.sync());
                if let Err(error) = tried {
                    let _ = folder.remove(&part);
                    return Err(error);
                }
            }
            Ok((name, file))
        })?;
        *number += 1;
        self.is_wary = false;
        Ok(Box::new(Open {
            part: Arc::new(Part {
                name,
                file,
                len: AtomicU64::new(0),
                broken: AtomicBool::new(false),
            }),
            container,
            bytes,
            begun: Instant::now(),
            dirty: None,
            chunk_blocks: 0,
            share: Share::default(),
        }))
    }

    fn rotate_if_due(&mut self) -> Result<(), Abandoned> {
        let Settings {
            rotate_bytes,
            rotate_after,
            ..
        } = self.settings;
        let rotate_bytes = rotate_bytes.min(self.common.retention.file_max());
        let is_due = |open: &Open| {
            rotate_bytes <= open.part.len.load(Ordering::Relaxed)
                || open.part.broken.load(Ordering::Acquire)
                || open.container.is_full()
                || INDEX_MAX <= open.container.index_len()
                || rotate_after <= open.begun.elapsed()
        };
        if self.open.as_deref().is_some_and(is_due) {
            self.seal()?;
        }
        Ok(())
    }

    /// Ends the open file, if there is one. Devices that it was not about, and that are gone, are forgotten.
    fn seal(&mut self) -> Result<(), Abandoned> {
        let Some(mut open) = self.open.take() else {
            return Ok(());
        };
        open.end_chunk(&self.common)?;
        internal(open.container.finish())?;
        let bytes = open.write_out(&self.common)?;
        self.common.stats.end_written(bytes);
        self.is_wary = open.part.broken.load(Ordering::Acquire);
        self.syncer.seal(&open.part, open.share)?;
        for conn in self.conns.values_mut() {
            conn.channels = Channels::default();
        }
        let number = self.number;
        self.devices
            .retain(|_, device| device.conns != 0 || device.file == number);
        Ok(())
    }
}

/// Nanoseconds since 1970, as MCAP has them; until the year 2554.
fn nanoseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// What goes wrong in memory is a defect of the recording: nothing more can be recorded.
fn internal<T>(result: io::Result<T>) -> Result<T, Abandoned> {
    result.map_err(|error| {
        tracing::error!("recording: {error}");
        Abandoned
    })
}
