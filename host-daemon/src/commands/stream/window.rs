//! Puts the events of a daemon back between the messages of the devices: a [`Window`].
//!
//! A stream has the messages of a device in their order, and the events of a daemon in theirs, but each has a subject of its
//! own. The messages of a device stay in the order of the stream. An event is moved to the place that it had in the
//! recording, within the messages that the window holds.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use blocksd_forward::message::Head;
use blocksd_forward::place::{Instance, Seen};
use blocksd_forward::reader::{Fetched, Topic};
use blocksd_forward::stored::Stored;

use crate::commands::stream::lane::{EventKey, Lane, RecordedEvent, cost};
use crate::error::CommandError;

/// Bytes that a window holds to have each event in its place: as many as a forwarder has under way.
pub(super) const WINDOW_BYTES: usize = 64 << 20;
/// What a place in the order of the stream takes, in bytes.
const ENTRY: usize = 128;
/// What a lane takes besides what waits in it, in bytes.
const LANE: usize = 3 << 10;

/// A message or event on its way to a visitor.
#[derive(Clone, Copy, Debug)]
pub(super) struct Emitted<'a> {
    /// The headers that it came with.
    pub(super) head: &'a Head,
    /// The device; `None` for an event.
    pub(super) device: Option<&'a Arc<str>>,
    /// Its number.
    pub(super) number: u64,
    /// When it was received, in nanoseconds since 1970.
    pub(super) time: u64,
    /// The payload, or the event as JSON.
    pub(super) data: &'a [u8],
}

/// Takes what a window emits.
pub(super) type Emit<'a> = dyn FnMut(&Emitted<'_>) -> Result<(), CommandError> + 'a;

/// The messages of one recording and device, or its events of no device.
type LaneKey = (Instance, Option<Arc<str>>);

/// Messages of a stream that wait for events that belong before them, and the other way round.
#[derive(Debug)]
pub(super) struct Window {
    /// Bytes that it holds at most.
    max: usize,
    lanes: HashMap<LaneKey, Lane>,
    /// What was read, in the order of the stream.
    order: VecDeque<WindowEntry>,
    /// What the entries of the order take, and what waits in the lanes.
    bytes: usize,
    /// Number of entries that were added, and of those that were taken.
    pushed: u64,
    popped: u64,
    /// The number of the last event that was read.
    serial: u64,
    /// The number of the last event whose place in the order of the stream has passed.
    due: u64,
}

/// Events in a message of the stream that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("events that are not JSON objects: {count} of {of}")]
pub(super) struct NotJson {
    pub(super) count: u64,
    pub(super) of: u64,
}

/// A place in the order of the stream.
#[derive(Debug)]
struct WindowEntry {
    key: LaneKey,
    /// The number of an event; `None` for the next messages of the lane.
    event: Option<u64>,
}

impl Window {
    /// An empty window of at most `max` bytes.
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            lanes: HashMap::new(),
            order: VecDeque::new(),
            bytes: 0,
            pushed: 0,
            popped: 0,
            serial: 0,
            due: 0,
        }
    }

    /// Adds the next message of the stream, and emits the first entries if it is full. Returns how many events cannot be read.
    ///
    /// # Errors
    /// Those of the function.
    pub(super) fn push(
        &mut self,
        mut stored: Fetched,
        emit: &mut Emit<'_>,
    ) -> Result<Option<NotJson>, CommandError> {
        // Only forwarders need these.
        stored.subject = String::new();
        (stored.head.seen, stored.head.stored) = (Seen::default(), Stored::default());
        match &stored.topic {
            Topic::Device(device) => {
                let key = (stored.head.instance, Some(Arc::clone(device)));
                self.bytes += cost(&stored);
                self.lanes.entry(key.clone()).or_default().push(stored);
                self.enter(key, None, emit)?;
                Ok(None)
            }
            Topic::Events => self.push_events(&stored, emit),
        }
    }

    fn push_events(
        &mut self,
        stored: &Fetched,
        emit: &mut Emit<'_>,
    ) -> Result<Option<NotJson>, CommandError> {
        let head = Arc::new(Head {
            // Messages have these.
            session: None,
            framing: String::new(),
            decode: String::new(),
            steps: Vec::new(),
            gaps: Vec::new(),
            ..stored.head.clone()
        });
        let (mut count, mut of) = (0, 0);
        for message in stored.messages().filter_map(Result::ok) {
            of += 1;
            match RecordedEvent::new(self.serial + 1, &head, &message) {
                Some(event) => self.add(head.instance, event, emit)?,
                None => count += 1,
            }
        }
        Ok((count != 0).then_some(NotJson { count, of }))
    }

    fn add(
        &mut self,
        instance: Instance,
        event: RecordedEvent,
        emit: &mut Emit<'_>,
    ) -> Result<(), CommandError> {
        self.serial = event.serial;
        let key = (instance, event.device.clone());
        self.bytes += event.cost();
        if let (Some(former), Some(device)) = (&event.former, &event.device)
            && former != device
        {
            // The connection had another name when it was opened: that belongs in the order of both devices.
            let before = (instance, Some(Arc::clone(former)));
            let opened = self.lanes.get_mut(&before).map(|it| it.take_of(&event));
            for event in opened.into_iter().flatten() {
                let shared = event.key();
                let lane = self.lanes.entry(before.clone()).or_default();
                lane.share(shared, device);
                let lane = self.lanes.entry(key.clone()).or_default();
                lane.share(shared, former);
                lane.push_event(event);
            }
        }
        let serial = event.serial;
        self.lanes.entry(key.clone()).or_default().push_event(event);
        self.enter(key, Some(serial), emit)
    }

    fn enter(
        &mut self,
        key: LaneKey,
        event: Option<u64>,
        emit: &mut Emit<'_>,
    ) -> Result<(), CommandError> {
        self.bytes += ENTRY;
        self.pushed += 1;
        self.order.push_back(WindowEntry { key, event });
        while self.is_full() && self.pop(emit)? {}
        Ok(())
    }

    /// Whether the first entry must be taken.
    fn is_full(&self) -> bool {
        self.max <= self.bytes + LANE * self.lanes.len()
    }

    /// Whether it has no entries.
    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Number of all entries that were added.
    pub(super) const fn pushed(&self) -> u64 {
        self.pushed
    }

    /// Number of those that were taken again, the first ones.
    pub(super) const fn popped(&self) -> u64 {
        self.popped
    }

    /// Emits the first entry, with the events that belong there. Returns whether there was one.
    ///
    /// # Errors
    /// Those of the function.
    pub(super) fn pop(&mut self, emit: &mut Emit<'_>) -> Result<bool, CommandError> {
        let Some(WindowEntry { key, event }) = self.order.pop_front() else {
            return Ok(false);
        };
        self.bytes -= ENTRY;
        self.popped += 1;
        self.due = self.due.max(event.unwrap_or_default());
        let due = self.due;
        if event.is_none() {
            self.settle(&key, true, emit)?;
            self.in_lane(&key, |lane, device| lane.emit_messages(device, emit))?;
        }
        self.settle(&key, false, emit)?;
        self.in_lane(&key, |lane, _| lane.emit_events(due, emit))?;
        Ok(true)
    }

    /// Emits the next events of a lane that are in the order of another device, too.
    fn settle(
        &mut self,
        key: &LaneKey,
        has_turn: bool,
        emit: &mut Emit<'_>,
    ) -> Result<(), CommandError> {
        loop {
            let lane = self.lanes.get(key);
            let Some((event, other)) = lane.and_then(|it| it.next_shared(has_turn, self.due))
            else {
                return Ok(());
            };
            let other = (key.0, Some(Arc::clone(other)));
            self.emit_shared(event, [key.clone(), other], emit)?;
        }
    }

    /// Emits an event of two lanes after all that was recorded before it in either of them.
    fn emit_shared(
        &mut self,
        event: EventKey,
        keys: [LaneKey; 2],
        emit: &mut Emit<'_>,
    ) -> Result<(), CommandError> {
        // Each is recorded before the one that waits for it.
        let mut waiting = vec![(event, keys)];
        while let Some((event, keys)) = waiting.pop() {
            let earlier = keys.iter().find_map(|key| {
                let (earlier, other) = self.lanes.get(key)?.shared_before(event)?;
                Some((earlier, [key.clone(), (key.0, Some(Arc::clone(other)))]))
            });
            if let Some(earlier) = earlier {
                waiting.extend([(event, keys), earlier]);
                continue;
            }
            for key in &keys {
                self.in_lane(key, |lane, device| lane.emit_before(device, event, emit))?;
            }
            for key in &keys {
                self.in_lane(key, |lane, _| lane.emit_shared(event, emit))?;
            }
        }
        Ok(())
    }

    /// Has a lane emit, if there is one, and removes it if nothing waits in it.
    fn in_lane(
        &mut self,
        key: &LaneKey,
        emit: impl FnOnce(&mut Lane, Option<&Arc<str>>) -> Result<usize, CommandError>,
    ) -> Result<(), CommandError> {
        if let Some(lane) = self.lanes.get_mut(key) {
            self.bytes -= emit(lane, key.1.as_ref())?;
            if lane.is_idle() {
                self.lanes.remove(key);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
