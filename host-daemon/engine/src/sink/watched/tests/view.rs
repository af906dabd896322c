//! A live view and a device, as the tests use them: [`View`].

use std::sync::Arc;
use std::time::SystemTime;

use framing_core::{AnyFraming, Blocks, Framing, Limits};

use crate::batch::{Batch, ClosePolicy, Item, OversizePolicy, WholeMessages};
use crate::counters::Counters;
use crate::device::{DeviceRegistry, DeviceStats};
use crate::event::{ConnectionInfo, Dropped, Encoding, Event, EventKind, StreamPosition};
use crate::pool::{Buffer, Span};
use crate::sink::queue::{Next, Receiver};
use crate::sink::watched::{WatchedSender, queue, show};

/// A device with one connection, and a live view.
pub(super) struct View {
    pub(super) sender: WatchedSender,
    pub(super) events: Receiver,
    pub(super) device: Arc<DeviceStats>,
    pub(super) source: Arc<ConnectionInfo>,
    pub(super) position: StreamPosition,
    counters: Counters,
}

impl View {
    pub(super) fn new(max_bytes: usize) -> Self {
        let counters = Counters::default();
        let (sender, events) = queue(max_bytes);
        let (device, source) = device("imu");
        Self {
            sender,
            events,
            device,
            source,
            position: StreamPosition::default(),
            counters,
        }
    }

    /// Messages and other items that were dropped, because the queue was full.
    pub(super) fn missed(&self) -> (u64, u64) {
        let missed = self.counters.missed_by_views();
        (missed.messages, missed.others)
    }

    pub(super) fn send(&mut self, kind: EventKind) {
        let (source, time) = (Arc::clone(&self.source), SystemTime::now());
        let event = Event { source, time, kind };
        show(std::iter::once(&self.sender), &event, &self.counters);
    }

    /// Sends a batch of blocks of these lengths.
    pub(super) fn blocks(&mut self, lens: &[usize], longest: usize, beyond: OversizePolicy) {
        self.batch(decode(lens, longest, beyond, WholeMessages::Kept));
    }

    pub(super) fn batch(&mut self, batch: Batch) {
        let position = self.position;
        self.position.pass_all(&batch);
        let batch = Arc::new(batch);
        self.send(EventKind::Batch { batch, position });
    }

    /// Sends this many messages of `len` bytes in one batch.
    pub(super) fn messages(&mut self, count: usize, len: usize) {
        let spans = (0..count).map(|at| Span::new(at * len, (at + 1) * len));
        self.batch(Batch::of_messages(vec![7; count * len], spans.collect()));
    }

    /// What has arrived: one word for each item.
    pub(super) fn seen(&mut self) -> Vec<Seen> {
        let mut seen = Vec::new();
        loop {
            match self.events.receive(false) {
                Next::Event(event) => seen.extend(Seen::of(&event)),
                Next::Lost(Dropped { messages, others }) => seen.push(Seen::Lost(messages, others)),
                Next::Empty | Next::End => return seen,
            }
        }
    }

    /// The numbers of the messages that have arrived.
    pub(super) fn numbers(&mut self) -> Vec<u64> {
        let seen = self.seen().into_iter();
        let numbers = seen.filter_map(|seen| match seen {
            Seen::Message(seq, _) => Some(seq),
            _ => None,
        });
        numbers.collect()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    Opened,
    Closed,
    /// With its number and length.
    Message(u64, usize),
    /// With the number of the next message, its offset and length, and whether it is the last one.
    Piece(u64, u64, usize, bool),
    /// With the number of the next message.
    Fault(u64),
    Reset,
    AfterEnd,
    End,
    Lost(u64, u64),
}

impl Seen {
    pub(super) fn of(event: &Event) -> Vec<Self> {
        match &event.kind {
            EventKind::Opened { .. } => vec![Self::Opened],
            EventKind::Closed { .. } => vec![Self::Closed],
            EventKind::Batch { batch, position } => {
                let mut position = *position;
                let each = batch.items().map(|item| {
                    let at = position;
                    position.pass(&item);
                    match item {
                        Item::Message(bytes) => Self::Message(at.seq, bytes.len()),
                        Item::Piece { bytes, last, .. } => {
                            Self::Piece(at.seq, at.offset, bytes.len(), last)
                        }
                        Item::Fault(_) => Self::Fault(at.seq),
                        Item::Reset => Self::Reset,
                        Item::AfterEnd { .. } => Self::AfterEnd,
                        Item::End => Self::End,
                    }
                });
                each.collect()
            }
            other => panic!("{other:?}"),
        }
    }
}

pub(super) fn device(name: &str) -> (Arc<DeviceStats>, Arc<ConnectionInfo>) {
    let name = name.into();
    let device = DeviceRegistry::new(1).open(&name, SystemTime::now());
    let source = Arc::new(ConnectionInfo {
        conn: 1,
        device: name,
        framing: AnyFraming::Blocks(Blocks),
        encoding: Encoding::default(),
        first_seq: 0,
        session: None,
        certificate: None,
        stats: Some(Arc::clone(&device)),
    });
    (device, source)
}

/// A batch of blocks of these lengths, with end marks for those of length 0. Those that are too long are faults or pieces.
pub(super) fn decode(
    lens: &[usize],
    longest: usize,
    oversize: OversizePolicy,
    messages: WholeMessages,
) -> Batch {
    let blocks = lens
        .iter()
        .map(|len| [&(*len as u32).to_be_bytes()[..], &vec![7; *len]].concat());
    let limits = Limits {
        block_max: longest as u32,
        skip_max: u32::MAX,
    };
    let policy = ClosePolicy {
        at_end: false,
        oversize,
    };
    let mut decoder = AnyFraming::Blocks(Blocks).decoder();
    let buffer = Buffer::own(blocks.collect::<Vec<_>>().concat());
    Batch::decode(buffer, &mut decoder, &limits, policy, messages, &mut false).batch
}
