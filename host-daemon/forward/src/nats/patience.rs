//! How long requests may take: a client for each of the [`TIMEOUTS`].

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
    /// The client of the first of the [`TIMEOUTS`], and those of the others.
    first: Patient,
    others: Vec<Patient>,
    /// The number of the one that is used: 0 for the first one.
    used: AtomicUsize,
}

/// A client that waits for an answer up to a time.
#[derive(Debug)]
pub(super) struct Patient {
    pub(super) context: Context,
    pub(super) timeout: Duration,
}

impl Patience {
    pub(super) fn new(client: &Client) -> Self {
        let [first, others @ ..] = TIMEOUTS.map(|timeout| Patient::new(client, timeout));
        Self {
            first,
            others: others.into(),
            used: AtomicUsize::new(0),
        }
    }

    /// The one that has the first of the [`TIMEOUTS`].
    pub(super) const fn first(&self) -> &Patient {
        &self.first
    }

    /// The one that is used.
    pub(super) fn used(&self) -> &Patient {
        let used = self.used.load(Ordering::Relaxed).checked_sub(1);
        used.and_then(|it| self.others.get(it))
            .unwrap_or(&self.first)
    }

    /// Uses the one that waits that long.
    pub(super) fn set(&self, timeout: Duration) {
        let used = self.others.iter().position(|it| it.timeout == timeout);
        let used = used.map_or(0, |it| it + 1);
        self.used.store(used, Ordering::Relaxed);
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
