//! What is counted, for the whole daemon.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use framing_core::Fault;

/// Counters that connections add to.
#[derive(Debug, Default)]
pub struct Counters {
    connections: AtomicU64,
    refused: AtomicU64,
    blocks: AtomicU64,
    bytes: AtomicU64,
    series: AtomicU64,
    faults: [AtomicU64; FAULTS.len()],
}

/// The kinds of fault, as they are named in the output.
const FAULTS: [&str; 4] = ["too_long", "bad_length", "bad_ending", "truncated"];

impl Counters {
    /// A connection was accepted.
    pub fn connection(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection was refused; returns how many that makes.
    pub fn refused(&self) -> u64 {
        self.refused.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Blocks were received whole, or `bytes` in pieces.
    pub fn blocks(&self, blocks: u64, bytes: u64) {
        self.blocks.fetch_add(blocks, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// A series was ended by its mark.
    pub fn series(&self) {
        self.series.fetch_add(1, Ordering::Relaxed);
    }

    /// A message was refused.
    pub fn fault(&self, fault: &Fault) {
        let kind = FAULTS.iter().position(|name| *name == fault_name(fault));
        if let Some(counter) = kind.and_then(|kind| self.faults.get(kind)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What was counted so far.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Totals {
            connections: read(&self.connections),
            refused: read(&self.refused),
            blocks: read(&self.blocks),
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
    /// Connections refused.
    pub refused: u64,
    /// Blocks received whole.
    pub blocks: u64,
    /// Bytes of payload in them, and in pieces.
    pub bytes: u64,
    /// Series ended by their mark.
    pub series: u64,
    faults: [u64; FAULTS.len()],
}

impl Totals {
    /// Messages refused, of all kinds.
    #[must_use]
    pub fn faults(&self) -> u64 {
        self.faults.iter().sum()
    }

    /// Messages refused of the kind named so in the output.
    #[must_use]
    pub fn faults_named(&self, name: &str) -> u64 {
        let kind = FAULTS.iter().position(|kind| *kind == name);
        kind.and_then(|kind| self.faults.get(kind))
            .copied()
            .unwrap_or_default()
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = |count: u64| if count == 1 { "" } else { "s" };
        let Self {
            connections,
            refused,
            blocks,
            bytes,
            series,
            ..
        } = *self;
        let faults = self.faults();
        write!(
            f,
            "{connections} connection{}, {series} series, {blocks} block{}, {bytes} byte{}, {faults} fault{}",
            plural(connections),
            plural(blocks),
            plural(bytes),
            plural(faults),
        )?;
        for (index, (name, count)) in FAULTS
            .iter()
            .zip(self.faults)
            .filter(|(_, count)| *count != 0)
            .enumerate()
        {
            write!(f, "{}{count} {name}", if index == 0 { " (" } else { ", " })?;
        }
        write!(
            f,
            "{}, {refused} refused",
            if faults == 0 { "" } else { ")" }
        )
    }
}

/// The word for a fault in the output.
#[must_use]
pub const fn fault_name(fault: &Fault) -> &'static str {
    match fault {
        Fault::BadLength { .. } => "bad_length",
        Fault::BadEnding { .. } | Fault::EarlyEnd { .. } => "bad_ending",
        Fault::Truncated { .. } => "truncated",
        _ => "too_long",
    }
}
