//! Writes events to a log: [`EventWriter`]. The inverse is [`from_log`](crate::recorded::from_log).

mod batch;
pub(super) mod channels;
mod held;
mod numbered;

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use crate::payload::Inspector;
use crate::recorded::budget::{Account, Budget};
use crate::recorded::commits::Commits;
use crate::recorded::counters::SuppressedCounters;
use crate::recorded::lifecycle::Lifecycle;
use crate::recorded::note::Note;
use crate::recorded::schema::Schemas;
use crate::recorded::time::nanoseconds;
use crate::recorded::to_log::channels::{events_channel, messages_channel};
use crate::recorded::to_log::numbered::FileChannel;
use blocksd_engine::event::{ConnectionInfo, Event, EventKind, SessionOpened};
use blocksd_engine::session::Sessions;
use blocksd_recording::{Channel, Log, LogError, MessageOrigin};

/// Writes events to a log: messages to the channels of their devices, everything else as [`Note`]s to one channel.
#[derive(Debug)]
pub struct EventWriter {
    log: Log,
    devices: HashMap<Arc<str>, DeviceSequences>,
    conns: HashMap<u64, Conn>,
    schemas: Schemas,
    budget: Budget,
    inspector: Option<Inspector>,
    suppressed: Arc<SuppressedCounters>,
    /// The channel of notes.
    events: Channel,
    event_sequence: u32,
    /// The sessions whose messages are written; `None` if there are none.
    sessions: Option<Arc<Sessions>>,
    commits: Arc<Commits>,
    /// The channel of entries about sessions.
    entries: Channel,
    entry_sequence: u32,
    /// The file that has the states of the sessions at its head.
    head_of: u64,
    /// A session was forgotten, so that a file says so if it has none.
    has_forgotten: bool,
    /// The [epoch](Log::epoch) of the log: a larger one follows a failed sync.
    epoch: u64,
    /// The channels of sessions in the current file, by device and session.
    numbered: HashMap<(Arc<str>, u64), FileChannel>,
    /// The file that these belong to.
    numbered_in: u64,
    json: Vec<u8>,
    /// Number of messages in all events so far.
    given: u64,
    /// Number of messages that were never passed to the log.
    unwritten: u64,
}

/// The state of a device.
#[derive(Debug, Default)]
struct DeviceSequences {
    blocks: u32,
    pieces: u32,
    conns: usize,
    /// [`Log::next_number`] when it was last written to.
    file: u64,
}

/// The state of a connection.
#[derive(Debug, Default)]
struct Conn {
    channels: Channels,
    account: Account,
    /// Number of the first message of its session in the channel.
    first: Option<u64>,
}

/// The channels of a connection.
#[derive(Clone, Copy, Debug, Default)]
struct Channels {
    blocks: Channel,
    pieces: Channel,
}

impl EventWriter {
    /// Writes to this log.
    #[must_use]
    pub fn new(log: Log) -> Self {
        let epoch = log.epoch();
        Self {
            log,
            devices: HashMap::new(),
            conns: HashMap::new(),
            schemas: Schemas::default(),
            budget: Budget::default(),
            inspector: None,
            suppressed: Arc::default(),
            events: Channel::default(),
            event_sequence: 0,
            sessions: None,
            commits: Arc::default(),
            entries: Channel::default(),
            entry_sequence: 0,
            head_of: 0,
            has_forgotten: false,
            epoch,
            numbered: HashMap::new(),
            numbered_in: 0,
            json: Vec::new(),
            given: 0,
            unwritten: 0,
        }
    }

    /// Adds the events that are recorded as counts only to these counters.
    #[must_use]
    pub fn counting(self, suppressed: Arc<SuppressedCounters>) -> Self {
        Self { suppressed, ..self }
    }

    /// Reports undecodable messages, and writes a fault after each.
    #[must_use]
    pub fn inspecting(self, inspector: Inspector) -> Self {
        Self {
            inspector: Some(inspector),
            ..self
        }
    }

    /// Writes the messages of these sessions. The sessions of each commit are added to `commits`. The caller must
    /// [report](Commits::ended) the outcome of each commit to it.
    #[must_use]
    pub fn with_sessions(self, sessions: Arc<Sessions>, commits: Arc<Commits>) -> Self {
        Self {
            sessions: Some(sessions),
            commits,
            ..self
        }
    }

    /// Writes an event, or the part of it before the recording gave up.
    ///
    /// # Errors
    /// [`LogError::GaveUp`].
    pub fn event(&mut self, event: &Event) -> Result<(), LogError> {
        let blocks = match &event.kind {
            EventKind::Batch { batch, .. } => batch.messages().0,
            _ => 0,
        };
        self.given += blocks;
        let mut had_file = false;
        let written = self.prepare().and_then(|()| {
            had_file = self.log.has_file();
            self.write(event)
        });
        // There was no file, and none could be created.
        if written.is_err() && !had_file && !self.log.has_file() {
            self.unwritten += blocks;
        }
        written
    }

    /// Writes an event of the daemon itself.
    ///
    /// # Errors
    /// [`LogError::GaveUp`].
    pub fn lifecycle(&mut self, event: &Lifecycle<'_>) -> Result<(), LogError> {
        self.prepare()?;
        self.json.clear();
        let encoded = event.write(&mut self.json);
        self.append_json(encoded, event.time().0)
    }

    /// When to call [`tick`](Self::tick) if no event comes before.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        [self.log.due(), self.budget.due()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Rotates, writes counts and commits, each if it is due.
    ///
    /// # Errors
    /// [`LogError::GaveUp`].
    pub fn tick(&mut self) -> Result<(), LogError> {
        self.rotate_if_due()?;
        if self.budget.due().is_some_and(|due| due <= Instant::now()) {
            self.write_sums(false)?;
        }
        self.log.commit_if_due()
    }

    /// Starts to make all events so far durable. Does not wait.
    ///
    /// # Errors
    /// [`LogError::GaveUp`].
    pub fn commit(&mut self) -> Result<(), LogError> {
        self.log.commit()
    }

    /// The log.
    #[must_use]
    pub const fn log(&self) -> &Log {
        &self.log
    }

    /// Number of messages in all events so far, whether they were written or not.
    #[must_use]
    pub const fn given(&self) -> u64 {
        self.given
    }

    /// Number of devices with a state: those with connections, and those whose sequence numbers continue.
    #[must_use]
    pub fn devices(&self) -> usize {
        self.devices.len()
    }

    /// Writes the last counts, seals the last file, and waits until everything is on the disk.
    ///
    /// # Errors
    /// [`LogError::GaveUp`].
    pub fn finish(self) -> Result<(), LogError> {
        self.end().0
    }

    /// Like [`finish`](Self::finish), but also returns the number of messages that are certainly in no file. The
    /// messages of a chunk that was written in part or not synced are not among them.
    pub fn end(mut self) -> (Result<(), LogError>, u64) {
        let counted = match self.budget.due() {
            Some(_) => self.write_sums(true),
            None => Ok(()),
        };
        let counted = counted.and_then(|()| self.end_sessions());
        let (finished, unwritten) = self.log.end();
        (counted.and(finished), self.unwritten + unwritten)
    }

    fn write(&mut self, event: &Event) -> Result<(), LogError> {
        let source = &event.source;
        match &event.kind {
            EventKind::Opened { peer } => {
                let device = Arc::clone(&source.device);
                self.devices.entry(device).or_default().conns += 1;
                let account = self.budget.open(event, peer, Instant::now());
                let is_held = account.is_open_held();
                let conn = Conn {
                    account,
                    ..Conn::default()
                };
                self.conns.insert(source.conn, conn);
                match is_held {
                    true => Ok(()),
                    false => self.note(event.time, &Note::open(event, peer)),
                }
            }
            EventKind::Batch { batch, position } => match &source.session {
                Some(session) => self.of_session(event, batch, position, session),
                None => self.batch(event, batch, position),
            },
            EventKind::Session(opened) => self.opened_session(event, opened),
            EventKind::Gap(gap) => match &source.session {
                Some(session) => self.gap(event, gap, session),
                None => Ok(()),
            },
            EventKind::Closed {
                messages,
                bytes,
                reason,
                series_open,
            } => {
                let is_recorded = self.closed(event)?;
                let note = Note::close(event, *messages, *bytes, *reason, *series_open);
                match is_recorded {
                    true => self.note(event.time, &note),
                    false => Ok(()),
                }
            }
            // The engine limits their rate.
            EventKind::Silent { since, interval } => {
                self.note(event.time, &Note::silent(event, *since, *interval))
            }
            EventKind::Back { silence } => self.note(event.time, &Note::back(event, *silence)),
            EventKind::Suppressed(sums) => self.note(event.time, &Note::suppressed(event, sums)),
            EventKind::Undecodable(message) => {
                self.note(event.time, &Note::recorded_undecodable(event, message))
            }
        }
    }

    /// Writes that a connection has opened a session, if the budget allows it. The channel of the messages has the session, too.
    fn opened_session(&mut self, event: &Event, opened: &SessionOpened) -> Result<(), LogError> {
        let source = &event.source;
        if let Some(inspector) = &mut self.inspector {
            inspector.session(source, &opened.former);
        }
        let mut conns = 0;
        if let Some(former) = self.devices.get_mut(&opened.former) {
            conns = 1.min(former.conns);
            former.conns -= conns;
            if (former.conns, former.blocks, former.pieces) == (0, 0, 0) {
                self.devices.remove(&opened.former);
            }
        }
        let device = self.devices.entry(Arc::clone(&source.device)).or_default();
        device.conns += conns;
        let Some(conn) = self.conns.get_mut(&source.conn) else {
            return Ok(());
        };
        match self.budget.pay_event(&mut conn.account, Instant::now) {
            true => self.note(event.time, &Note::session(event, opened)),
            false => Ok(()),
        }
    }

    /// Removes a connection. Returns whether to record its close, which is so if its open was recorded.
    fn closed(&mut self, event: &Event) -> Result<bool, LogError> {
        let source = &event.source;
        if let Some(inspector) = &mut self.inspector {
            inspector.closed(source.conn);
        }
        let mut conn = self.conns.remove(&source.conn).unwrap_or_default();
        let is_recorded = !conn.account.is_open_held();
        if is_recorded {
            let mut blocks = self.next_block(&source.device);
            // Its open has paid for this.
            self.write_held(&mut conn, &mut blocks, event.time)?;
            if let Some(device) = self.devices.get_mut(&source.device) {
                device.blocks = blocks;
            }
        } else if let Some(held) = conn.account.take() {
            self.budget.total(&held, Instant::now());
        }
        if let Some(device) = self.devices.get_mut(&source.device) {
            device.conns = device.conns.saturating_sub(1);
            device.file = self.log.next_number();
            if (device.conns, device.blocks, device.pieces) == (0, 0, 0) {
                self.devices.remove(&source.device);
            }
        }
        Ok(is_recorded)
    }

    /// Sequence number of the next message of a device.
    fn next_block(&self, device: &Arc<str>) -> u32 {
        self.devices.get(device).map_or(0, |device| device.blocks)
    }

    fn note(&mut self, time: SystemTime, note: &Note<'_>) -> Result<(), LogError> {
        self.json.clear();
        let encoded = note.write(&mut self.json);
        self.append_json(encoded, time)
    }

    /// Appends the encoded event to the channel of events.
    fn append_json(&mut self, encoded: io::Result<()>, time: SystemTime) -> Result<(), LogError> {
        encoded.map_err(|error| {
            tracing::error!("recording: {error}");
            LogError::Internal
        })?;
        let channel = self.log.channel(&mut self.events, events_channel)?;
        let sequence = self.event_sequence;
        self.event_sequence = sequence.wrapping_add(1);
        self.log
            .append(channel, sequence, nanoseconds(time), &self.json)
    }

    /// Prepares the file before anything is written.
    fn prepare(&mut self) -> Result<(), LogError> {
        match self.sessions {
            Some(_) => self.prepare_sessions(),
            None => self.rotate_if_due(),
        }
    }

    /// Starts a new file if that is due. Forgets devices that have no connection and are not in the last file.
    fn rotate_if_due(&mut self) -> Result<(), LogError> {
        if self.sessions.is_some() && self.log.is_rotation_due() && !self.log.has_failed_sync() {
            self.end_sessions()?;
        }
        let is_rotated = self.log.rotate_if_due()?;
        // Now, and not before: the sync can have failed in the meantime.
        self.reset_after_failure();
        if is_rotated {
            let number = self.log.next_number();
            self.devices
                .retain(|_, device| device.conns != 0 || device.file == number);
            let devices = &self.devices;
            self.schemas.retain(|device| devices.contains_key(device));
        }
        Ok(())
    }
}

/// Adds message number `seq` of a connection, or of its session. The next sequence number of its device is `sequence`.
#[inline]
fn append_block(
    log: &mut Log,
    (channels, first): (&mut Channels, Option<u64>),
    schemas: &Schemas,
    source: &ConnectionInfo,
    (sequence, seq): (&mut u32, u64),
    time_ns: u64,
    bytes: &[u8],
) -> Result<(), LogError> {
    let spec = || messages_channel(source, schemas, first);
    let channel = log.channel(&mut channels.blocks, spec)?;
    let origin = MessageOrigin::new(source.conn, seq);
    log.append_all(channel, origin, *sequence, time_ns, std::iter::once(bytes))?;
    *sequence = sequence.wrapping_add(1);
    Ok(())
}
