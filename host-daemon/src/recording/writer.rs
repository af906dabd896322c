//! Turns events into files: channels and sequences, chunks, group commits, rotation.

use std::collections::HashMap;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;

use super::container::{Compression, Container, Kind};
use super::names;
use super::syncer::{Abandoned, Common, Part, Share, Syncer};
use crate::batch::{Batch, Item};
use crate::event::{Event, Position, Source, What};
use crate::output::json::{Head, Note, write_note};

/// Bytes of messages in a chunk, before it is ended without waiting for a commit. What a reader must hold in memory,
/// and what a write to the disk moves: larger ones leave the processor's cache.
const CHUNK_LEN: usize = 512 << 10;
/// Bytes of memory that are kept for the next chunk.
const BUFFER_MAX: usize = 4 * CHUNK_LEN;
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
    conns: HashMap<u64, Channels>,
    event_sequence: u32,
    json: Vec<u8>,
    /// Blocks that were given to it.
    given: u64,
    /// The last file was broken: the next is tried before it is relied on.
    is_wary: bool,
}

/// The file that is being written.
#[derive(Debug)]
struct Open {
    part: Arc<Part>,
    container: Container,
    bytes: Vec<u8>,
    begun: Instant,
    /// When the oldest message was added that is not yet handed to the syncer.
    dirty: Option<Instant>,
    /// What is in the present chunk, and what was written since the last commit.
    chunk_blocks: u64,
    share: Share,
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
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.begin()?,
        };
        let written = self.write(&mut open, event);
        self.open = Some(open);
        written
    }

    /// When something is to be done though no event comes: [`commit`](Self::commit) or rotate, by [`tick`](Self::tick).
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        let open = self.open.as_ref()?;
        let rotate = open.begun + self.settings.rotate_after;
        let commit = open.dirty.map(|dirty| dirty + self.settings.sync_after);
        Some(commit.map_or(rotate, |commit| commit.min(rotate)))
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
        let sealed = self.seal();
        let synced = self.syncer.finish();
        sealed.and(synced)
    }

    fn write(&mut self, open: &mut Open, event: &Event) -> Result<(), Abandoned> {
        let source = &event.source;
        match &event.what {
            What::Opened { peer } => {
                let device = Arc::clone(&source.device);
                self.devices.entry(device).or_default().conns += 1;
                self.conns.insert(source.conn, Channels::default());
                self.note(open, event, &Note::Opened(peer))
            }
            What::Batch { batch, position } => self.batch(open, event, batch, *position),
            What::Closed {
                blocks,
                bytes,
                reason,
            } => {
                self.conns.remove(&source.conn);
                if let Some(device) = self.devices.get_mut(&source.device) {
                    device.conns = device.conns.saturating_sub(1);
                    device.file = self.number;
                    if (device.conns, device.blocks, device.pieces) == (0, 0, 0) {
                        self.devices.remove(&source.device);
                    }
                }
                let (blocks, bytes, reason) = (*blocks, *bytes, *reason);
                let note = Note::Closed {
                    blocks,
                    bytes,
                    reason,
                };
                self.note(open, event, &note)
            }
        }
    }

    fn batch(
        &mut self,
        open: &mut Open,
        event: &Event,
        batch: &Batch,
        mut position: Position,
    ) -> Result<(), Abandoned> {
        let source = &*event.source;
        let time_ns = nanoseconds(event.time);
        let mut channels = self.conns.get(&source.conn).copied().unwrap_or_default();
        let device = self.devices.get(&source.device);
        let (mut blocks, mut pieces) =
            device.map_or((0, 0), |device| (device.blocks, device.pieces));
        for item in batch.items() {
            let note = match item {
                Item::Block(bytes) => {
                    let channel = open.channel(&mut channels.blocks, source, Kind::Blocks)?;
                    // Before: the message may end the chunk.
                    open.chunk_blocks += 1;
                    open.message(&self.common, channel, blocks, time_ns, bytes)?;
                    blocks = blocks.wrapping_add(1);
                    None
                }
                Item::Piece { bytes, first, last } => {
                    let channel = open.channel(&mut channels.pieces, source, Kind::Pieces)?;
                    open.message(&self.common, channel, pieces, time_ns, bytes)?;
                    pieces = pieces.wrapping_add(1);
                    Some(Note::Piece {
                        seq: position.seq,
                        offset: if first { 0 } else { position.offset },
                        len: bytes.len(),
                        first,
                        last,
                    })
                }
                Item::End => Some(Note::End {
                    blocks: position.in_series,
                }),
                Item::Fault(ref fault) => {
                    self.note(open, event, &Note::Fault(fault))?;
                    None
                }
            };
            if let Some(note) = note {
                self.note(open, event, &note)?;
            }
            position.pass(&item);
        }
        self.conns.insert(source.conn, channels);
        let device = match self.devices.get_mut(&source.device) {
            Some(device) => device,
            None => self.devices.entry(Arc::clone(&source.device)).or_default(),
        };
        (device.blocks, device.pieces, device.file) = (blocks, pieces, self.number);
        Ok(())
    }

    fn note(&mut self, open: &mut Open, event: &Event, note: &Note<'_>) -> Result<(), Abandoned> {
        self.json.clear();
        let json = write_note(&Head::of(event), note, &mut self.json);
        internal(json.and_then(|()| self.json.write_all(b"}")))?;
        let channel = internal(open.container.events())?;
        let (sequence, time_ns) = (self.event_sequence, nanoseconds(event.time));
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
            let name = names::sealed(*number, Timestamp::now(), mark);
            let part = names::part(&name);
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
        for channels in self.conns.values_mut() {
            *channels = Channels::default();
        }
        let number = self.number;
        self.devices
            .retain(|_, device| device.conns != 0 || device.file == number);
        Ok(())
    }
}

impl Open {
    fn channel(
        &mut self,
        known: &mut Option<u16>,
        source: &Source,
        kind: Kind,
    ) -> Result<u16, Abandoned> {
        match *known {
            Some(channel) => Ok(channel),
            None => Ok(*known.insert(internal(self.container.channel(source, kind))?)),
        }
    }

    fn message(
        &mut self,
        common: &Common,
        channel: u16,
        sequence: u32,
        time_ns: u64,
        bytes: &[u8],
    ) -> Result<(), Abandoned> {
        internal(self.container.message(channel, sequence, time_ns, bytes))?;
        if self.dirty.is_none() {
            self.dirty = Some(Instant::now());
        }
        if CHUNK_LEN <= self.container.chunk_len() {
            self.end_chunk(common)?;
        }
        Ok(())
    }

    fn end_chunk(&mut self, common: &Common) -> Result<(), Abandoned> {
        internal(self.container.end_chunk())?;
        let bytes = self.write_out(common)?;
        let blocks = std::mem::take(&mut self.chunk_blocks);
        if bytes != 0 {
            common.stats.chunk_written(blocks, bytes);
            self.share.chunks += 1;
            self.share.blocks += blocks;
        }
        Ok(())
    }

    /// Writes what is ready, and goes on where the disk stopped when it takes no more.
    fn write_out(&mut self, common: &Common) -> Result<u64, Abandoned> {
        self.container.take(&mut self.bytes);
        let begin = self.part.len.load(Ordering::Relaxed);
        let mut len = 0;
        while let Some(rest) = self.bytes.get(len..).filter(|rest| !rest.is_empty()) {
            let offset = begin + len as u64;
            let attempt = || match self.part.file.write_at(rest, offset) {
                Ok(0) => Err(io::ErrorKind::WriteZero.into()),
                written => written,
            };
            match common.insist("write", attempt) {
                Ok(written) => len += written,
                Err(abandoned) => {
                    // What is written is not to be written again behind itself.
                    self.bytes.drain(..len);
                    return Err(abandoned);
                }
            }
            let end = begin + len as u64;
            self.part.len.store(end, Ordering::Relaxed);
        }
        self.share.bytes += len as u64;
        self.bytes.clear();
        // A large block has made it large.
        self.bytes.shrink_to(BUFFER_MAX);
        Ok(len as u64)
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
