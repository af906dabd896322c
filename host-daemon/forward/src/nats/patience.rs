//! How long requests may take: a client for each of the [`TIMEOUTS`], or for those of a reader.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::Context;
use async_nats::jetstream::context::ContextBuilder;

use crate::stream::TIMEOUTS;

/// Largest number of messages in flight that the client allows.
const IN_FLIGHT_MAX: usize = 4096;

/// Clients that wait for an answer up to a time, of which one is used.
#[derive(Debug)]
pub(super) struct Patience {
    /// One for each of these times.
    clients: [Patient; TIMEOUTS.len()],
    /// The number of the one that is used.
    used: AtomicUsize,
}

/// A client that waits for an answer up to a time.
#[derive(Debug)]
pub(super) struct Patient {
    pub(super) context: Context,
    pub(super) timeout: Duration,
}

impl Patience {
    pub(super) fn new(client: &Client, timeouts: [Duration; TIMEOUTS.len()]) -> Self {
        Self {
            clients: timeouts.map(|timeout| Patient::new(client, timeout)),
            used: AtomicUsize::new(0),
        }
    }

    /// The one that has the first of the times.
    pub(super) const fn first(&self) -> &Patient {
        let [first, ..] = &self.clients;
        first
    }

    /// The one that is used.
    pub(super) fn used(&self) -> &Patient {
        let used = self.clients.get(self.used.load(Ordering::Relaxed));
        used.unwrap_or_else(|| self.first())
    }

    /// Uses the one that waits that long.
    pub(super) fn set(&self, timeout: Duration) {
        let used = self.clients.iter().position(|it| it.timeout == timeout);
        self.used.store(used.unwrap_or_default(), Ordering::Relaxed);
    }
}

impl Patient {
    fn new(client: &Client, timeout: Duration) -> Self {
        let context = ContextBuilder::new()
            .timeout(timeout)
            .ack_timeout(timeout)
            .max_ack_inflight(IN_FLIGHT_MAX)
            .build(client.clone());
        Self { context, timeout }
    }
}
