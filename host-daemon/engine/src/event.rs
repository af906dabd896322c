//! What the daemon tells the rest: opened, a batch of blocks, closed; with device and time.

use std::any::Any;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use framing_core::AnyFraming;

use crate::batch::{Batch, Item};
use crate::reason::{CloseReason, FaultKind};

/// Something that happened on a connection.
#[derive(Clone, Debug)]
pub struct Event {
    /// The connection.
    pub source: Arc<ConnectionInfo>,
    /// When it was received.
    pub time: SystemTime,
    /// What it was.
    pub kind: EventKind,
}

/// The connection that an event is of.
#[derive(Debug)]
pub struct ConnectionInfo {
    /// Its number, from 1; 0 where a recording does not tell.
    pub conn: u64,
    /// The device that sends on it: named by the engine, never by the peer.
    pub device: Arc<str>,
    /// How its messages are framed.
    pub framing: AnyFraming,
    /// How the payload of its messages is encoded.
    pub encoding: Encoding,
    /// Sequence number of its first message: 0, or what a recording begins with.
    pub first_seq: u64,
}

/// How the payload of messages is encoded. The engine passes it on and never looks at payload.
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
    /// The word for it, such as `json`.
    pub name: &'static str,
    schema: Option<Arc<dyn Any + Send + Sync>>,
}

impl Encoding {
    /// An encoding that its name defines.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self { name, schema: None }
    }

    /// An encoding that needs a schema to be decoded, such as the formats of one firmware.
    #[must_use]
    pub fn with_schema(name: &'static str, schema: Arc<dyn Any + Send + Sync>) -> Self {
        let schema = Some(schema);
        Self { name, schema }
    }

    /// The schema, if it is of this type.
    #[must_use]
    pub fn schema<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        self.schema.clone()?.downcast().ok()
    }
}

impl Default for Encoding {
    /// `raw`: bytes.
    fn default() -> Self {
        Self::new("raw")
    }
}

/// The other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Peer {
    /// Somewhere in the network.
    Network(SocketAddr),
    /// On this machine: the name of its listener, such as `unix:/run/blocksd.sock`.
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

/// What an [`Event`] tells.
#[derive(Clone, Debug)]
pub enum EventKind {
    /// A connection was accepted.
    Opened {
        /// The other end.
        peer: Peer,
    },
    /// Blocks, ends of series and faults, in order.
    Batch {
        /// The results.
        batch: Arc<Batch>,
        /// Where the connection stood before them.
        position: StreamPosition,
    },
    /// A connection has ended.
    Closed {
        /// Whole blocks that it sent.
        messages: u64,
        /// Bytes of payload in them, and in pieces.
        bytes: u64,
        /// Why it ended.
        reason: CloseReason,
    },
    /// Counts of events without payload that a recording does not keep one by one: of one connection, or of all
    /// connections that are not recorded. Only recordings have this event.
    Suppressed(Box<Suppressed>),
}

/// Counts of events that were not recorded one by one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suppressed {
    /// When the first of them was received.
    pub since: SystemTime,
    /// The sequence number of the first of the empty messages in the topic of the device, if they have numbers there.
    pub seq: Option<u64>,
    /// Connections that were opened and closed.
    pub connections: u64,
    /// Messages without a byte in them.
    pub empty: u64,
    /// Ends of series.
    pub ends: u64,
    /// Faults, in the order of [`FaultKind::ALL`].
    pub faults: [u64; FaultKind::ALL.len()],
}

impl Suppressed {
    /// No events yet, from this time on.
    #[must_use]
    pub const fn since(since: SystemTime) -> Self {
        Self {
            since,
            seq: None,
            connections: 0,
            empty: 0,
            ends: 0,
            faults: [0; FaultKind::ALL.len()],
        }
    }

    /// Whether all counts are zero.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.counts().all(|(_, count)| count == 0)
    }

    /// Each count with the word for it.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let faults = FaultKind::ALL.map(FaultKind::as_str).into_iter();
        let others = [
            ("connections", self.connections),
            ("empty", self.empty),
            ("ends", self.ends),
        ];
        others.into_iter().chain(faults.zip(self.faults))
    }

    /// Adds the counts of another.
    pub fn add(&mut self, other: &Self) {
        self.since = self.since.min(other.since);
        self.connections += other.connections;
        self.empty += other.empty;
        self.ends += other.ends;
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

/// How far a connection has come.
#[derive(Clone, Copy, Debug, Default)]
pub struct StreamPosition {
    /// Sequence number of the next block.
    pub seq: u64,
    /// Blocks in the present series.
    pub in_series: u64,
    /// Bytes of the present message that were handed out in pieces.
    pub offset: u64,
}

impl StreamPosition {
    /// Goes past one result.
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
        }
    }

    const fn messages(&mut self, count: u64) {
        self.seq += count;
        self.in_series += count;
    }

    /// Goes past all of a batch.
    pub fn pass_all(&mut self, batch: &Batch) {
        let mut passed = 0;
        for (before, mark) in batch.marks() {
            self.messages(before - passed);
            passed = before;
            self.pass(&mark);
        }
        let (messages, _) = batch.messages();
        self.messages(messages - passed);
    }
}
