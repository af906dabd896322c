//! What the daemon tells the rest: opened, a batch of blocks, closed; with device and time.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use framing_core::AnyFraming;

use crate::engine::batch::{Batch, Item, Stop};
use crate::engine::counters::FaultKind;
use crate::payload::Decoder;

/// Something that happened on a connection.
#[derive(Clone, Debug)]
pub struct Event {
    /// The connection.
    pub source: Arc<Source>,
    /// When it was received.
    pub time: SystemTime,
    /// What it was.
    pub what: What,
}

/// The connection that an event is of.
#[derive(Debug)]
pub struct Source {
    /// Its number, from 1; 0 where a recording does not tell.
    pub conn: u64,
    /// Where blocks come from: set by the daemon, never by the peer.
    pub device: Arc<str>,
    /// How its messages are framed.
    pub framing: AnyFraming,
    /// What reads its blocks.
    pub decoder: Decoder,
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
pub enum What {
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
        position: Position,
    },
    /// A connection has ended.
    Closed {
        /// Whole blocks that it sent.
        blocks: u64,
        /// Bytes of payload in them, and in pieces.
        bytes: u64,
        /// Why it ended.
        reason: Reason,
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
pub struct Position {
    /// Sequence number of the next block.
    pub seq: u64,
    /// Blocks in the present series.
    pub in_series: u64,
    /// Bytes of the present message that were handed out in pieces.
    pub offset: u64,
}

impl Position {
    /// Goes past one result.
    pub const fn pass(&mut self, item: &Item<'_>) {
        match item {
            Item::Block(_) => self.blocks(1),
            Item::Piece { bytes, last, .. } => {
                self.offset += bytes.len() as u64;
                if *last {
                    self.blocks(1);
                    self.offset = 0;
                }
            }
            Item::End => self.in_series = 0,
            Item::Fault(_) => self.offset = 0,
        }
    }

    const fn blocks(&mut self, count: u64) {
        self.seq += count;
        self.in_series += count;
    }

    /// Goes past all of a batch.
    pub fn pass_all(&mut self, batch: &Batch) {
        let mut passed = 0;
        for (before, mark) in batch.marks() {
            self.blocks(before - passed);
            passed = before;
            self.pass(&mark);
        }
        let (blocks, _) = batch.blocks();
        self.blocks(blocks - passed);
    }
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The peer ended its series.
    End,
    /// The peer closed, or closed its sending side.
    Eof,
    /// The peer was silent for longer than the idle time-out.
    Idle,
    /// The peer sent nothing at all within the first-byte timeout.
    FirstByteTimeout,
    /// The header of a message was not whole in time.
    HeaderTimeout,
    /// A message was not whole in time.
    BlockTimeout,
    /// The peer did not accept the reply in time.
    ReplyTimeout,
    /// The daemon could not keep or read the reply: its disk is full, or a file cannot be opened.
    ReplyFailed,
    /// All places were taken, and an origin or a device with fewer connections needed one.
    Evicted,
    /// Unfinished messages held too much memory.
    Memory,
    /// A message was over a limit that closes the connection.
    Limit,
    /// The framing was lost: no boundary can be found any more.
    Fault,
    /// The transport failed.
    Reset,
    /// The daemon is stopping.
    Shutdown,
}

impl Reason {
    /// All of them, in the order of their declaration.
    pub const ALL: [Self; 14] = [
        Self::End,
        Self::Eof,
        Self::Idle,
        Self::FirstByteTimeout,
        Self::HeaderTimeout,
        Self::BlockTimeout,
        Self::ReplyTimeout,
        Self::ReplyFailed,
        Self::Evicted,
        Self::Memory,
        Self::Limit,
        Self::Fault,
        Self::Reset,
        Self::Shutdown,
    ];

    /// The word for it in the output.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::End => "end",
            Self::Eof => "eof",
            Self::Idle => "idle",
            Self::FirstByteTimeout => "first_byte_timeout",
            Self::HeaderTimeout => "header_timeout",
            Self::BlockTimeout => "block_timeout",
            Self::ReplyTimeout => "reply_timeout",
            Self::ReplyFailed => "reply_failed",
            Self::Evicted => "evicted",
            Self::Memory => "memory",
            Self::Limit => "limit",
            Self::Fault => "fault",
            Self::Reset => "reset",
            Self::Shutdown => "shutdown",
        }
    }
}

impl From<Stop> for Reason {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::End => Self::End,
            Stop::TooLong => Self::Limit,
            Stop::Lost => Self::Fault,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
