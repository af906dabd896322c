//! The messages and events of one device in one recording: a [`Lane`] puts them in the order of the recording.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use blocksd_forward::message::Forwarded;
use blocksd_forward::reader::Fetched;
use serde::Deserialize as _;

use crate::commands::stream::window::{Emit, Emitted};
use crate::error::CommandError;
use crate::payload::members;
use crate::recorded::note::Note;

/// A place in a recording: the number of a file, and the number of its messages up to there.
type RecordedPlace = (u64, u64);

/// An event of a recording.
#[derive(Debug)]
pub(super) struct RecordedEvent {
    /// Its number among all that were read.
    pub(super) serial: u64,
    /// The device that it is about, if it is about one.
    pub(super) device: Option<Arc<str>>,
    /// The former name of the connection, if the event gives it another one.
    pub(super) former: Option<Arc<str>>,
    /// The message of the stream that has it, and where it has it.
    stored: Arc<Fetched>,
    range: Range<usize>,
    place: RecordedPlace,
    conn: u64,
    number: u64,
    time: u64,
    /// Its place in the order of the stream has passed.
    is_due: bool,
}

/// The messages of a device in one recording that were read, and the events that belong between them.
#[derive(Debug, Default)]
pub(super) struct Lane {
    messages: VecDeque<Fetched>,
    events: VecDeque<RecordedEvent>,
}

impl RecordedEvent {
    /// The events in a message of the stream.
    pub(super) fn all(stored: Fetched) -> Vec<Self> {
        let stored = Arc::new(stored);
        let body = stored.body.as_ptr().addr();
        let messages = stored.messages().filter_map(Result::ok);
        let event = |message: Forwarded<'_>| {
            let begin = message.data.as_ptr().addr() - body;
            let range = begin..begin + message.data.len();
            Self::of(&stored, range, &message)
        };
        messages.map(event).collect()
    }

    fn of(stored: &Arc<Fetched>, range: Range<usize>, message: &Forwarded<'_>) -> Self {
        let json = members(message.data);
        let note = Note::deserialize(&json).ok();
        let known = note.as_ref().map(|note| &note.head().origin);
        let device = known.and_then(|it| it.device.as_deref());
        let former = match &note {
            Some(Note::Session { former, .. }) => Some((&**former).into()),
            _ => None,
        };
        Self {
            serial: 0,
            device: device.map(Into::into),
            former,
            stored: Arc::clone(stored),
            range,
            place: place(stored, message),
            conn: known.and_then(|it| it.conn).unwrap_or_default(),
            number: message.number,
            time: message.time,
            is_due: false,
        }
    }

    /// The event, as JSON.
    pub(super) fn data(&self) -> &[u8] {
        self.stored.body.get(self.range.clone()).unwrap_or_default()
    }

    fn emitted(&self) -> Emitted<'_> {
        Emitted {
            head: &self.stored.head,
            device: None,
            number: self.number,
            time: self.time,
            data: self.data(),
        }
    }
}

fn place(stored: &Fetched, message: &Forwarded<'_>) -> RecordedPlace {
    (stored.head.place.number, message.place)
}

impl Lane {
    /// Adds the next messages.
    pub(super) fn push(&mut self, stored: Fetched) {
        self.messages.push_back(stored);
    }

    /// Adds events.
    pub(super) fn push_events(&mut self, events: impl IntoIterator<Item = RecordedEvent>) {
        for event in events {
            let later = self.events.iter().rev();
            let later = later.take_while(|it| event.place < it.place).count();
            self.events.insert(self.events.len() - later, event);
        }
    }

    /// Takes the events of the connection of another event.
    pub(super) fn take_of(&mut self, event: &RecordedEvent) -> VecDeque<RecordedEvent> {
        if event.conn == 0 {
            return VecDeque::new();
        }
        let (taken, kept) = self.events.drain(..).partition(|it| it.conn == event.conn);
        self.events = kept;
        taken
    }

    /// Emits the next messages, each after the events that were recorded before it, and then the events that are due.
    ///
    /// # Errors
    /// Those of the function.
    pub(super) fn emit_messages(
        &mut self,
        device: Option<&Arc<str>>,
        emit: &mut Emit<'_>,
    ) -> Result<(), CommandError> {
        let Some(stored) = self.messages.pop_front() else {
            return Ok(());
        };
        for message in stored.messages().filter_map(Result::ok) {
            let at = place(&stored, &message);
            while let Some(event) = self.events.pop_front_if(|event| event.place < at) {
                emit(&event.emitted())?;
            }
            emit(&Emitted {
                head: &stored.head,
                device,
                number: message.number,
                time: message.time,
                data: message.data,
            })?;
        }
        self.emit_due(emit)
    }

    /// Emits the events up to this one, unless they were recorded after messages that wait.
    ///
    /// # Errors
    /// Those of the function.
    pub(super) fn emit_events(
        &mut self,
        serial: u64,
        emit: &mut Emit<'_>,
    ) -> Result<(), CommandError> {
        let due = self.events.iter_mut();
        for event in due.take_while(|event| event.serial <= serial) {
            event.is_due = true;
        }
        self.emit_due(emit)
    }

    /// Whether nothing waits.
    pub(super) fn is_idle(&self) -> bool {
        self.messages.is_empty() && self.events.is_empty()
    }

    fn emit_due(&mut self, emit: &mut Emit<'_>) -> Result<(), CommandError> {
        let next = self.messages.front();
        let next = next.and_then(|stored| Some(place(stored, &stored.messages().next()?.ok()?)));
        let is_due =
            |event: &mut RecordedEvent| event.is_due && next.is_none_or(|next| event.place < next);
        while let Some(event) = self.events.pop_front_if(is_due) {
            emit(&event.emitted())?;
        }
        Ok(())
    }
}
