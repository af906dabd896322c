//! How long requests may take: a client for each of the [`TIMEOUTS`], or for those of a reader.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::Context;
use async_nats::jetstream::context::ContextBuilder;

use super::Nats;
use crate::advice::text;
use crate::fetched::ReadError;
use crate::stream::TIMEOUTS;

/// Largest number of messages in flight that the client allows.
const IN_FLIGHT_MAX: usize = 4096;

/// How long a request of a reader may take. The answer with a part of a long message needs it over 100 kbit/s.
const READING: Duration = Duration::from_secs(30);

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

impl Nats {
    /// With requests that may take [`READING`].
    ///
    /// # Errors
    /// [`ReadError::Connect`], if the name of the stream cannot be one.
    pub(super) async fn for_reader(mut self) -> Result<Self, ReadError> {
        let patience = Patience::new(&self.client, [READING; TIMEOUTS.len()]);
        self.context = patience.first().context.clone();
        let stream = self.context.get_stream_no_info(&self.name).await;
        self.stream = stream.map_err(|error| ReadError::Connect(text(&error)))?;
        self.patience = Arc::new(patience);
        Ok(self)
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
