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

    /// A message was gathered.
    pub(crate) fn gathered(&mut self, now: Instant) {
        self.since.get_or_insert(now);
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
