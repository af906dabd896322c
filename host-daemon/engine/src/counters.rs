//! What is counted, for the whole daemon.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::reason::{CloseReason, FaultKind, RefusedReason};

/// Counters that connections add to.
#[derive(Debug, Default)]
pub struct Counters {
    connections: AtomicU64,
    refused: [AtomicU64; RefusedReason::ALL.len()],
    messages: AtomicU64,
    bytes: AtomicU64,
    series: AtomicU64,
    faults: [AtomicU64; FaultKind::ALL.len()],
    output_lost: AtomicU64,
    closed: [AtomicU64; CloseReason::ALL.len()],
    torn: AtomicU64,
}

impl Counters {
    /// A connection was accepted.
    pub fn connection(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection was refused; returns how many that makes, for this reason.
    pub fn refused(&self, why: RefusedReason) -> u64 {
        let counter = self.refused.get(why as usize);
        counter.map_or(0, |counter| counter.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Blocks were received whole, or `bytes` in pieces.
    pub fn messages(&self, messages: u64, bytes: u64) {
        self.messages.fetch_add(messages, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// A series was ended by its mark.
    pub fn series(&self) {
        self.series.fetch_add(1, Ordering::Relaxed);
    }

    /// A message was refused.
    pub fn fault(&self, kind: FaultKind) {
        if let Some(counter) = self.faults.get(kind as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A connection has ended; `torn`, within a series.
    pub fn closed(&self, reason: CloseReason, torn: bool) {
        if let Some(counter) = self.closed.get(reason as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        self.torn.fetch_add(u64::from(torn), Ordering::Relaxed);
    }

    /// Connections that have ended so far, in the order of [`CloseReason::ALL`].
    #[must_use]
    pub fn closed_by_reason(&self) -> [u64; CloseReason::ALL.len()] {
        self.closed
            .each_ref()
            .map(|counter| counter.load(Ordering::Relaxed))
    }

    /// Connections that have ended within a series so far.
    #[must_use]
    pub fn torn(&self) -> u64 {
        self.torn.load(Ordering::Relaxed)
    }

    /// Blocks were not shown, since nobody reads the output fast enough. They are recorded.
    pub fn output_lost(&self, messages: u64) {
        self.output_lost.fetch_add(messages, Ordering::Relaxed);
    }

    /// Blocks that were not shown so far.
    #[must_use]
    pub fn blocks_not_shown(&self) -> u64 {
        self.output_lost.load(Ordering::Relaxed)
    }

    /// What was counted so far.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Totals {
            connections: read(&self.connections),
            refused: self.refused.each_ref().map(read),
            messages: read(&self.messages),
            bytes: read(&self.bytes),
            series: read(&self.series),
            faults: self.faults.each_ref().map(read),
        }
    }
}

/// What was counted until a certain moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Connections accepted.
    pub connections: u64,
    refused: [u64; RefusedReason::ALL.len()],
    /// Blocks received whole.
    pub messages: u64,
    /// Bytes of payload in them, and in pieces.
    pub bytes: u64,
    /// Series ended by their mark.
    pub series: u64,
    faults: [u64; FaultKind::ALL.len()],
}

impl Totals {
    /// Connections refused, for whatever reason.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.iter().sum()
    }

    /// Connections refused, by reason.
    pub fn refused_by(&self) -> impl Iterator<Item = (RefusedReason, u64)> {
        RefusedReason::ALL.into_iter().zip(self.refused)
    }

    /// Messages refused, of all kinds.
    #[must_use]
    pub fn faults(&self) -> u64 {
        self.faults.iter().sum()
    }

    /// The same, in the order of [`FaultKind::ALL`].
    #[must_use]
    pub const fn faults_by_kind(&self) -> [u64; FaultKind::ALL.len()] {
        self.faults
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = |count: u64| if count == 1 { "" } else { "s" };
        let Self {
            connections,
            messages,
            bytes,
            series,
            ..
        } = *self;
        let (faults, refused) = (self.faults(), self.refused());
        write!(
            f,
            "{connections} connection{}, {series} series, {messages} block{}, {bytes} byte{}, {faults} fault{}",
            plural(connections),
            plural(messages),
            plural(bytes),
            plural(faults),
        )?;
        let counts = FaultKind::ALL
            .into_iter()
            .zip(self.faults)
            .filter(|(_, count)| *count != 0);
        for (index, (kind, count)) in counts.enumerate() {
            write!(f, "{}{count} {kind}", if index == 0 { " (" } else { ", " })?;
        }
        write!(
            f,
            "{}, {refused} refused",
            if faults == 0 { "" } else { ")" }
        )
    }
}
