//! Counters of the events that a recording keeps as counts only: [`SuppressedCounters`].

use std::sync::atomic::{AtomicU64, Ordering};

/// Kinds of events that may be recorded as counts only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SuppressedKind {
    /// A connection that sent no payload: its open and its close.
    Connection,
    /// An empty message.
    Empty,
    /// The end of a series without a message.
    End,
    /// A fault.
    Fault,
    /// Bytes after the end mark that closed a connection.
    AfterEnd,
}

impl SuppressedKind {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Connection,
        Self::Empty,
        Self::End,
        Self::Fault,
        Self::AfterEnd,
    ];

    /// Its label in the metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Empty => "empty",
            Self::End => "end",
            Self::Fault => "fault",
            Self::AfterEnd => "after_end",
        }
    }
}

/// Counts the events since the daemon started. An [`EventWriter`](crate::recorded::to_log::EventWriter) adds to them;
/// the metrics read them.
#[derive(Debug, Default)]
pub struct SuppressedCounters([AtomicU64; SuppressedKind::ALL.len()]);

impl SuppressedCounters {
    /// Adds events of a kind.
    pub fn add(&self, kind: SuppressedKind, count: u64) {
        if let Some(counter) = self.0.get(kind as usize) {
            counter.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// The counts, in the order of [`SuppressedKind::ALL`].
    #[must_use]
    pub fn read(&self) -> [u64; SuppressedKind::ALL.len()] {
        self.0.each_ref().map(|it| it.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_a_counter_of_its_own() {
        let counters = SuppressedCounters::default();
        for (kind, count) in SuppressedKind::ALL.into_iter().zip(1..) {
            counters.add(kind, count);
            counters.add(kind, 10);
        }
        assert_eq!(counters.read(), [11, 12, 13, 14, 15]);
    }
}
