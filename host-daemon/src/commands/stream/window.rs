//! Puts the events of a daemon back between the messages of the devices: a [`Window`].
//!
//! A stream has the messages of a device in their order, and the events of a daemon in theirs, but each has a subject of its
//! own. The messages of a device stay in the order of the stream. An event is moved to the place that it had in the
//! recording, within the messages that the window holds.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use blocksd_forward::message::Head;
use blocksd_forward::place::Instance;
use blocksd_forward::reader::{Fetched, Topic};

use crate::commands::stream::lane::{Lane, RecordedEvent};
use crate::error::CommandError;

/// Bytes that the window holds: as many as a forwarder has under way.
const BYTES_MAX: usize = 64 << 20;
/// What an entry takes besides its body, in bytes.
const ENTRY: usize = 512;

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
#[derive(Debug, Default)]
pub(super) struct Window {
    lanes: HashMap<LaneKey, Lane>,
    /// What was read, in the order of the stream.
    order: VecDeque<WindowEntry>,
    bytes: usize,
    serial: u64,
}

/// A place in the order of the stream.
#[derive(Debug)]
struct WindowEntry {
    key: LaneKey,
    /// The number of an event; `None` for the next messages of the lane.
    event: Option<u64>,
    bytes: usize,
}

impl Window {
    /// Adds the next message of the stream.
    pub(super) fn push(&mut self, stored: Fetched) {
        match &stored.topic {
            Topic::Device(device) => {
                let key = (stored.head.instance, Some(Arc::clone(device)));
                let bytes = ENTRY + stored.body.len();
                self.lanes.entry(key.clone()).or_default().push(stored);
                self.enter(key, None, bytes);
            }
            Topic::Events => {
                let instance = stored.head.instance;
                for event in RecordedEvent::all(stored) {
                    self.add(instance, event);
                }
            }
        }
    }

    fn add(&mut self, instance: Instance, mut event: RecordedEvent) {
        self.serial += 1;
        event.serial = self.serial;
        let key = (instance, event.device.clone());
        let bytes = ENTRY + event.data().len();
        if let Some(former) = &event.former {
            // The connection had another name when it was opened.
            let before = (instance, Some(Arc::clone(former)));
            let opened = self.lanes.get_mut(&before).map(|it| it.take_of(&event));
            let lane = self.lanes.entry(key.clone()).or_default();
            lane.push_events(opened.into_iter().flatten());
        }
        let lane = self.lanes.entry(key.clone()).or_default();
        lane.push_events([event]);
        self.enter(key, Some(self.serial), bytes);
    }

    fn enter(&mut self, key: LaneKey, event: Option<u64>, bytes: usize) {
        self.bytes += bytes;
        self.order.push_back(WindowEntry { key, event, bytes });
    }

    /// Whether the first entry must be taken.
    pub(super) const fn is_full(&self) -> bool {
        BYTES_MAX <= self.bytes
    }

    /// Number of entries.
    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    /// Emits the first entry, with the events that belong there. Returns whether there was one.
    ///
    /// # Errors
    /// Those of the function.
    pub(super) fn pop(&mut self, emit: &mut Emit<'_>) -> Result<bool, CommandError> {
        let Some(WindowEntry { key, event, bytes }) = self.order.pop_front() else {
            return Ok(false);
        };
        self.bytes -= bytes;
        if let Some(lane) = self.lanes.get_mut(&key) {
            match event {
                None => lane.emit_messages(key.1.as_ref(), emit)?,
                Some(serial) => lane.emit_events(serial, emit)?,
            }
            if lane.is_idle() {
                self.lanes.remove(&key);
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
