//! Events: an [`Event`] says that a connection opened, received a batch of messages, or closed.

use std::any::Any;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use framing_core::AnyFraming;

use crate::batch::{Batch, Item};
use crate::certificate::PeerCertificate;
use crate::device::DeviceStats;
use crate::reason::{CloseReason, FaultKind};
use crate::session::{HelloKind, Session, SessionGap};

/// An event of one connection. Cloning it copies two `Arc`s at most.
///
/// # Examples
/// ```
/// use std::sync::Arc;
/// use std::time::SystemTime;
/// use blocksd_engine::batch::Batch;
/// use blocksd_engine::event::{ConnectionInfo, Encoding, Event, EventKind, StreamPosition};
/// use blocksd_engine::pool::Span;
/// use framing_core::{AnyFraming, Lines};
///
/// // Two messages, as the engine emits them.
/// let batch = Batch::of_messages(b"onetwo".to_vec(), vec![Span::new(0, 3), Span::new(3, 6)]);
/// let event = Event {
///     source: Arc::new(ConnectionInfo {
///         conn: 1,
///         device: "10.0.0.7".into(),
///         framing: AnyFraming::Lines(Lines),
///         encoding: Encoding::new("text"),
///         first_seq: 0,
///         session: None,
///         certificate: None,
///         stats: None,
///     }),
///     time: SystemTime::now(),
///     kind: EventKind::Batch { batch: Arc::new(batch), position: StreamPosition::default() },
/// };
/// let EventKind::Batch { batch, .. } = &event.kind else { unreachable!() };
/// assert_eq!(batch.messages(), (2, 6));
/// ```
#[derive(Clone, Debug)]
pub struct Event {
    /// The connection.
    pub source: Arc<ConnectionInfo>,
    /// Time of reception.
    pub time: SystemTime,
    /// What happened.
    pub kind: EventKind,
}

/// The connection that an event belongs to.
#[derive(Debug)]
pub struct ConnectionInfo {
    /// Number of the connection, from 1. 0 if a recording does not have it, or if the event is one of the device.
    pub conn: u64,
    /// Name of the device. The engine chooses it; the peer cannot.
    pub device: Arc<str>,
    /// Framing of the messages.
    pub framing: AnyFraming,
    /// Encoding of the payload.
    pub encoding: Encoding,
    /// Sequence number of the first message: 0, or that of the first message in a recording.
    pub first_seq: u64,
    /// The session of the connection: the sequence numbers of its messages are those of the session.
    pub session: Option<Arc<Session>>,
    /// The certificate of the peer, if it has one. Its name identifies the device.
    pub certificate: Option<Arc<PeerCertificate>>,
    /// The counters of the device. `None` if the event is not one of an engine.
    pub stats: Option<Arc<DeviceStats>>,
}

/// The encoding of the payload. The engine hands it to the sinks and does not decode payload itself.
///
/// # Examples
/// ```
/// use std::sync::Arc;
/// use blocksd_engine::event::Encoding;
///
/// let json = Encoding::new("json");
/// let counter = Encoding::with_schema("counter", Arc::new(4_u32));
/// assert_eq!(json.name, "json");
/// assert_eq!(counter.schema::<u32>().as_deref(), Some(&4));
/// ```
#[derive(Clone, Debug)]
pub struct Encoding {
    /// Name of the encoding, such as `json`.
    pub name: &'static str,
    schema: Option<Arc<dyn Any + Send + Sync>>,
}

impl Encoding {
    /// Creates an encoding that needs no schema.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self { name, schema: None }
    }

    /// Creates an encoding that needs a schema to decode, such as the format strings of a firmware image.
    #[must_use]
    pub fn with_schema(name: &'static str, schema: Arc<dyn Any + Send + Sync>) -> Self {
        let schema = Some(schema);
        Self { name, schema }
    }

    /// Returns whether the payload is uninterpreted bytes.
    #[must_use]
    pub fn is_raw(&self) -> bool {
        self.name == RAW
    }

    /// Returns the schema if it has the type `T`.
    #[must_use]
    pub fn schema<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        self.schema.clone()?.downcast().ok()
    }
}

/// Name of the encoding of uninterpreted bytes.
const RAW: &str = "raw";

impl Default for Encoding {
    /// `raw`: uninterpreted bytes.
    fn default() -> Self {
        Self::new(RAW)
    }
}

/// The other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Peer {
    /// The address of a peer on the network.
    Network(SocketAddr),
    /// A local peer: the name of its listener, such as `unix:/run/blocksd.sock`.
    Local(Arc<str>),
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(address) => address.fmt(f),
            Self::Local(name) => f.write_str(name),
        }
    }
}

/// What happened on a connection.
#[derive(Clone, Debug)]
pub enum EventKind {
    /// A connection was accepted.
    Opened {
        /// The other end of the connection.
        peer: Peer,
    },
    /// Messages, end marks and faults, in the order of the stream.
    Batch {
        /// The messages, end marks and faults.
        batch: Arc<Batch>,
        /// Position in the stream before the batch.
        position: StreamPosition,
    },
    /// A device opened a session. From now on, the connection has the name that the device gives itself.
    Session(Box<SessionOpened>),
    /// Numbers of a session without a message.
    Gap(SessionGap),
    /// A connected device is [silent](crate::device::DeviceState::Silent). Emitted once a silence, within a second; the
    /// event has no connection number.
    Silent {
        /// When its last batch was received.
        since: SystemTime,
        /// The median interval between its batches.
        interval: Duration,
    },
    /// A device that was emitted as silent has sent again. The event has no connection number.
    Back {
        /// From the last byte before the silence to the last one before this event.
        silence: Duration,
    },
    /// A connection was closed.
    Closed {
        /// Number of complete messages that were received.
        messages: u64,
        /// Payload bytes of the messages, including pieces.
        bytes: u64,
        /// Why it was closed.
        reason: CloseReason,
        /// A series was left open: messages came, and no end mark after them. Only in framings with end marks.
        series_open: bool,
    },
    /// Counts of events that a recording does not store one by one: the events without payload of one connection, or
    /// all events of connections that are not recorded. Only recordings contain this event; the engine does not emit
    /// it.
    Suppressed(Box<Suppressed>),
    /// A message that is invalid in the encoding of the connection. Only recordings contain this event; the engine does
    /// not emit it, since it decodes no payload.
    Undecodable(Box<UndecodableMessage>),
}

/// How a device opened a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionOpened {
    /// The name of the connection so far.
    pub former: Arc<str>,
    /// Whether the session is new.
    pub kind: HelloKind,
    /// Number of the first message that is not received yet.
    pub resume: u64,
    /// Number of messages in the ring of the device.
    pub held: u32,
    /// Number of messages before those that the device has given up.
    pub lost: u32,
    /// Length of the ring in bytes; 0 if unknown.
    pub room: u32,
    /// The clock of the device in microseconds; 0 if unknown.
    pub uptime_us: u64,
}

/// A message that is invalid in its encoding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UndecodableMessage {
    /// Number of the message in the connection.
    pub seq: u64,
    /// Name of the encoding.
    pub encoding: Box<str>,
    /// The reason in words.
    pub reason: Box<str>,
}

/// Counts of events that were not recorded one by one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suppressed {
    /// When the first of these events was received.
    pub since: SystemTime,
    /// Number of the first empty message in its connection, if the empty messages are of one connection. The others follow
    /// it.
    pub seq: Option<u64>,
    /// Connections that opened and closed.
    pub connections: u64,
    /// Messages with an empty payload.
    pub empty: u64,
    /// End marks.
    pub ends: u64,
    /// Connections that sent bytes after the end mark that closed them.
    pub after_end: u64,
    /// Faults by kind, in the order of [`FaultKind::ALL`].
    pub faults: [u64; FaultKind::ALL.len()],
}

impl Suppressed {
    /// Creates counts of zero. `since` is the time of the first event to be counted.
    #[must_use]
    pub const fn since(since: SystemTime) -> Self {
        Self {
            since,
            seq: None,
            connections: 0,
            empty: 0,
            ends: 0,
            after_end: 0,
            faults: [0; FaultKind::ALL.len()],
        }
    }

    /// Returns whether all counts are zero.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.counts().all(|(_, count)| count == 0)
    }

    /// Returns each count with its name.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let faults = FaultKind::ALL.map(FaultKind::as_str).into_iter();
        let others = [
            ("connections", self.connections),
            ("empty", self.empty),
            ("ends", self.ends),
            ("after_end", self.after_end),
        ];
        others.into_iter().chain(faults.zip(self.faults))
    }

    /// Adds the counts of `other`. The earlier `since` is kept.
    pub fn add(&mut self, other: &Self) {
        self.since = self.since.min(other.since);
        self.connections += other.connections;
        self.empty += other.empty;
        self.ends += other.ends;
        self.after_end += other.after_end;
        for (sum, count) in self.faults.iter_mut().zip(other.faults) {
            *sum += count;
        }
    }

    /// Counts a fault.
    pub fn fault(&mut self, kind: FaultKind) {
        if let Some(count) = self.faults.get_mut(kind as usize) {
            *count += 1;
        }
    }
}

/// What a queue has dropped because its receiver was too slow.
///
/// # Examples
/// ```
/// use blocksd_engine::event::Dropped;
///
/// let mut dropped = Dropped { messages: 3, others: 1 };
/// dropped.add(Dropped { messages: 2, others: 0 });
/// assert_eq!((dropped.messages, dropped.others), (5, 1));
/// assert!(!dropped.is_empty());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Complete messages.
    pub messages: u64,
    /// Opened and closed connections, end marks, faults and pieces.
    pub others: u64,
}

impl Dropped {
    /// Returns what is dropped with one event.
    #[must_use]
    pub fn of(event: &Event) -> Self {
        match &event.kind {
            EventKind::Batch { batch, .. } => Self {
                messages: batch.messages().0,
                others: batch.marks().count() as u64,
            },
            _ => Self {
                messages: 0,
                others: 1,
            },
        }
    }

    /// Adds what another event, or another queue, has dropped.
    pub const fn add(&mut self, other: Self) {
        self.messages += other.messages;
        self.others += other.others;
    }

    /// Returns whether nothing was dropped.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.messages == 0 && self.others == 0
    }
}

/// A position in the stream of one connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct StreamPosition {
    /// Sequence number of the next message.
    pub seq: u64,
    /// Messages received in the current series.
    pub in_series: u64,
    /// Bytes of the current message that were already emitted as pieces.
    pub offset: u64,
}

impl StreamPosition {
    /// Advances past one item.
    pub const fn pass(&mut self, item: &Item<'_>) {
        match item {
            Item::Message(_) => self.messages(1),
            Item::Piece { bytes, last, .. } => {
                self.offset += bytes.len() as u64;
                if *last {
                    self.messages(1);
                    self.offset = 0;
                }
            }
            Item::End => self.in_series = 0,
            Item::Fault(_) => self.offset = 0,
            Item::Reset | Item::AfterEnd { .. } => {}
        }
    }

    const fn messages(&mut self, count: u64) {
        self.seq += count;
        self.in_series += count;
    }

    /// Advances past all items of a batch.
    pub fn pass_all(&mut self, batch: &Batch) {
        self.pass_some(batch, batch.messages().0, usize::MAX);
    }

    /// Advances past the first `messages` complete messages of a batch, and the first `marks` of its other items.
    pub(crate) fn pass_some(&mut self, batch: &Batch, messages: u64, marks: usize) {
        let mut passed = 0;
        for (before, mark) in batch.marks().take(marks) {
            self.messages(before - passed);
            passed = before;
            self.pass(&mark);
        }
        self.messages(messages - passed);
    }
}
