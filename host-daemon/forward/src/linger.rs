//! How long messages are gathered before they are handed over: [`Linger`].

use std::time::{Duration, Instant};

/// The time that messages wait for others, like the linger of a producer of Kafka.
#[derive(Debug)]
pub(crate) struct Linger {
    time: Duration,
    /// When the first message was gathered that waits.
    since: Option<Instant>,
}

impl Linger {
    pub(crate) const fn new(time: Duration) -> Self {
        Self { time, since: None }
    }

    /// A message was gathered. Returns whether it is the first one that waits.
    pub(crate) fn gathered(&mut self, now: Instant) -> bool {
        let is_first = self.since.is_none();
        self.since.get_or_insert(now);
        is_first
    }

    /// Everything was handed over.
    pub(crate) const fn handed_over(&mut self) {
        self.since = None;
    }

    /// Whether no message has to wait any longer.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        self.since.is_none_or(|since| self.time <= now - since)
    }
}
