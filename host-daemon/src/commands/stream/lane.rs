//! The messages and events of one device in one recording: a [`Lane`] puts them in the order of the recording.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use blocksd_forward::Kind;
use blocksd_forward::message::{Forwarded, Head};
use blocksd_forward::reader::{Fetched, Topic};
use serde::Deserialize as _;

use crate::commands::stream::window::{Emit, Emitted};
use crate::error::CommandError;
use crate::payload::{Style, Value, members};
use crate::recorded::note::Note;

/// What a message of the stream takes besides its texts and its body, in bytes.
const MESSAGE: usize = 512;
/// What an event takes besides its texts, in bytes.
const EVENT: usize = 1024;
/// How often the messages of a message of the stream are interrupted: as often as its headers can say where.
const SPLITS_MAX: usize = 128;
/// Queue of messages that is made smaller when it is less than a quarter full.
const QUEUE_MIN: usize = 64;

/// A place in a recording: the number of a file, and the number of its messages up to there.
type RecordedPlace = (u64, u64);
/// The place of an event, and its number among all that were read.
pub(super) type EventKey = (RecordedPlace, u64);

/// An event of a recording.
#[derive(Debug)]
pub(super) struct RecordedEvent {
    /// Its number among all that were read.
    pub(super) serial: u64,
    /// The device that it is about, if it is about one.
    pub(super) device: Option<Arc<str>>,
    /// The former name of the connection, if the event gives it another one.
    pub(super) former: Option<Arc<str>>,
    /// The headers that it came with.
    head: Arc<Head>,
    json: Box<[u8]>,
    place: RecordedPlace,
    conn: u64,
    number: u64,
    time: u64,
}

/// The messages of a device in one recording that were read, and the events that belong between them.
#[derive(Debug, Default)]
pub(super) struct Lane {
    messages: VecDeque<Box<Fetched>>,
    events: BTreeMap<EventKey, RecordedEvent>,
    /// The events of each connection.
    of_connection: BTreeSet<(u64, EventKey)>,
    /// Events of a connection that had the name of another device when they were recorded: they are in the order of both
    /// devices. One of the two lanes has the event; each names the other one.
    shared: BTreeMap<EventKey, Arc<str>>,
    /// The first of the messages, if a part of it was emitted.
    begun: Option<BegunMessage>,
    /// Messages of the stream that were emitted before their turn.
    early: usize,
}

/// A message of the stream of which a part was emitted.
#[derive(Clone, Copy, Debug)]
struct BegunMessage {
    /// Messages in it that were emitted.
    count: usize,
    /// The place of the next one.
    next: RecordedPlace,
    /// How often it was interrupted.
    splits: usize,
}

impl RecordedEvent {
    /// An event in a message of the stream with these headers. `None` if it is not a JSON object.
    pub(super) fn new(serial: u64, head: &Arc<Head>, message: &Forwarded<'_>) -> Option<Self> {
        if !is_object(message.data) {
            return None;
        }
        let json = members(message.data);
        let note = Note::deserialize(&json).ok();
        let known = note.as_ref().map(|note| &note.head().origin);
        let device = known.and_then(|it| it.device.as_deref());
        let former = match &note {
            Some(Note::Session { former, .. }) => Some((&**former).into()),
            _ => None,
        };
        Some(Self {
            serial,
            device: device.map(Into::into),
            former,
            head: Arc::clone(head),
            json: message.data.into(),
            place: place(head, message),
            conn: known.and_then(|it| it.conn).unwrap_or_default(),
            number: message.number,
            time: message.time,
        })
    }

    /// Bytes of memory that it takes.
    pub(super) fn cost(&self) -> usize {
        let text = |text: &Option<Arc<str>>| text.as_ref().map_or(0, |it| it.len());
        EVENT + self.json.len() + text(&self.device) + text(&self.former)
    }

    /// Its place in the order of its recording.
    pub(super) fn key(&self) -> EventKey {
        (self.place, self.serial)
    }

    fn emitted(&self) -> Emitted<'_> {
        Emitted {
            head: &self.head,
            device: None,
            number: self.number,
            time: self.time,
            data: &self.json,
        }
    }
}

/// Bytes of memory that a message of the stream takes.
pub(super) fn cost(stored: &Fetched) -> usize {
    let Fetched {
        head, body, topic, ..
    } = stored;
    let device = match topic {
        Topic::Device(device) => device.len(),
        Topic::Events => 0,
    };
    let session = head.session.as_ref().map_or(0, String::capacity);
    let texts = device + session + head.framing.capacity() + head.decode.capacity();
    let lists = size_of_val(&*head.steps) + size_of_val(&*head.gaps);
    MESSAGE + body.len() + texts + lists
}

fn place(head: &Head, message: &Forwarded<'_>) -> RecordedPlace {
    (head.place.number, message.place)
}

/// Whether an event can be printed as JSON.
fn is_object(json: &[u8]) -> bool {
    let mut text = String::with_capacity(json.len());
    let written = Value::json(json).write(Style::Json, &mut text);
    written.is_ok() && text.starts_with('{')
}

impl Lane {
    /// Adds the next messages.
    pub(super) fn push(&mut self, stored: Fetched) {
        self.messages.push_back(Box::new(stored));
    }

    /// Adds an event.
    pub(super) fn push_event(&mut self, event: RecordedEvent) {
        if event.conn != 0 {
            self.of_connection.insert((event.conn, event.key()));
        }
        self.events.insert(event.key(), event);
    }

    /// Has an event that this lane or another one holds in the order of both.
    pub(super) fn share(&mut self, event: EventKey, other: &Arc<str>) {
        self.shared.insert(event, Arc::clone(other));
    }

    /// The next event that is in the order of another device, too, and that device, if the event is emitted with the next
    /// messages or is due.
    pub(super) fn next_shared(&self, has_turn: bool, due: u64) -> Option<(EventKey, &Arc<str>)> {
        let (event, other) = self.shared.first_key_value()?;
        let (place, serial) = *event;
        let turn = self
            .messages
            .front()
            .filter(|_| has_turn && self.early == 0);
        let in_turn = turn.is_some_and(|it| place < (it.head.place.number, it.head.place.messages));
        let is_due = serial <= due && self.next_message().is_none_or(|next| place < next);
        (in_turn || is_due).then_some((*event, other))
    }

    /// The first event before another one that is in the order of another device, too, and that device.
    pub(super) fn shared_before(&self, event: EventKey) -> Option<(EventKey, &Arc<str>)> {
        let (first, other) = self.shared.first_key_value()?;
        (*first < event).then_some((*first, other))
    }

    /// Takes the events of the connection of another event.
    pub(super) fn take_of(&mut self, event: &RecordedEvent) -> Vec<RecordedEvent> {
        let conn = event.conn;
        let of = (conn, EventKey::default())..=(conn, ((u64::MAX, u64::MAX), u64::MAX));
        let keys: Vec<_> = self.of_connection.range(of).map(|(_, key)| *key).collect();
        keys.iter().filter_map(|key| self.take(key)).collect()
    }

    /// Emits the next messages, each after the events that were recorded before it. Returns the memory that they took.
    ///
    /// # Errors
    /// Those of the function.
    pub(super) fn emit_messages(
        &mut self,
        device: Option<&Arc<str>>,
        emit: &mut Emit<'_>,
    ) -> Result<usize, CommandError> {
        let mut freed = 0;
        if self.early == 0 {
            self.emit_front(device, None, &mut freed, emit)?;
        } else {
            self.early -= 1;
        }
        Ok(freed)
    }

    /// Emits what was recorded before an event, before its turn. Returns the memory that it took.
    ///
    /// # Errors
    /// Those of the function.
    pub(super) fn emit_before(
        &mut self,
        device: Option<&Arc<str>>,
        event: EventKey,
        emit: &mut Emit<'_>,
    ) -> Result<usize, CommandError> {
        let mut freed = 0;
        while self.emit_front(device, Some(event.0), &mut freed, emit)? {
            self.early += 1;
        }
        while let Some(earlier) = self.pop_event_if(|it| it.key() < event) {
            freed += earlier.cost();
            emit(&earlier.emitted())?;
        }
        Ok(freed)
    }

    /// Emits an event that is in the order of another device, too, if this lane has it. Returns the memory that it took.
    ///
    /// # Errors
    /// Those of the function.
    pub(super) fn emit_shared(
        &mut self,
        event: EventKey,
        emit: &mut Emit<'_>,
    ) -> Result<usize, CommandError> {
        self.shared.remove(&event);
        let Some(event) = self.take(&event) else {
            return Ok(0);
        };
        emit(&event.emitted())?;
        Ok(event.cost())
    }

    /// Emits the messages of the first message of the stream, those before a place if there is one. Returns whether it was
    /// emitted to its end.
    fn emit_front(
        &mut self,
        device: Option<&Arc<str>>,
        before: Option<RecordedPlace>,
        freed: &mut usize,
        emit: &mut Emit<'_>,
    ) -> Result<bool, CommandError> {
        let is_after = |at| before.is_some_and(|before| before <= at);
        if self.begun.is_some_and(|it| is_after(it.next)) {
            return Ok(false);
        }
        let Some(stored) = self.messages.pop_front() else {
            return Ok(false);
        };
        let (mut count, splits) = self.begun.take().map_or((0, 0), |it| (it.count, it.splits));
        for message in stored.messages().filter_map(Result::ok).skip(count) {
            let at = place(&stored.head, &message);
            if splits < SPLITS_MAX && is_after(at) {
                self.begun = Some(BegunMessage {
                    count,
                    next: at,
                    splits: splits + 1,
                });
                self.messages.push_front(stored);
                return Ok(false);
            }
            while let Some(event) = self.pop_event_if(|event| event.place < at) {
                *freed += event.cost();
                emit(&event.emitted())?;
            }
            emit(&Emitted {
                head: &stored.head,
                device,
                number: message.number,
                time: message.time,
                data: message.data,
            })?;
            count += 1;
            if stored.head.kind == Kind::Pieces {
                // The event with the position of a piece is recorded next. It must stay next to it, among the messages of all devices.
                let next = (at.0, at.1 + 1);
                if let Some(event) = self.pop_event_if(|event| event.place == next) {
                    *freed += event.cost();
                    emit(&event.emitted())?;
                }
            }
        }
        *freed += cost(&stored);
        let (len, capacity) = (self.messages.len(), self.messages.capacity());
        if QUEUE_MIN < capacity && len < capacity / 4 {
            self.messages.shrink_to(2 * len);
        }
        Ok(true)
    }

    /// Emits the events up to the one with this number, unless they were recorded after messages that wait. Returns the
    /// memory that they took.
    ///
    /// # Errors
    /// Those of the function.
    pub(super) fn emit_events(
        &mut self,
        due: u64,
        emit: &mut Emit<'_>,
    ) -> Result<usize, CommandError> {
        let next = self.next_message();
        let mut freed = 0;
        let is_due = |event: &RecordedEvent| {
            event.serial <= due && next.is_none_or(|next| event.place < next)
        };
        while let Some(event) = self.pop_event_if(is_due) {
            freed += event.cost();
            emit(&event.emitted())?;
        }
        Ok(freed)
    }

    /// Whether nothing waits.
    pub(super) fn is_idle(&self) -> bool {
        self.messages.is_empty()
            && self.events.is_empty()
            && self.shared.is_empty()
            && self.early == 0
    }

    /// What waits, in bytes.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        let messages = self.messages.iter().map(|it| cost(it));
        let events = self.events.values().map(RecordedEvent::cost);
        messages.sum::<usize>() + events.sum::<usize>()
    }

    /// The place of the next message.
    fn next_message(&self) -> Option<RecordedPlace> {
        self.begun.map(|it| it.next).or_else(|| {
            let stored = self.messages.front()?;
            Some(place(&stored.head, &stored.messages().next()?.ok()?))
        })
    }

    fn pop_event_if(
        &mut self,
        is_wanted: impl Fn(&RecordedEvent) -> bool,
    ) -> Option<RecordedEvent> {
        let (key, event) = self.events.first_key_value()?;
        let key = *key;
        is_wanted(event).then(|| self.take(&key))?
    }

    fn take(&mut self, key: &EventKey) -> Option<RecordedEvent> {
        let event = self.events.remove(key)?;
        self.of_connection.remove(&(event.conn, *key));
        self.shared.remove(key);
        Some(event)
    }
}
