//! How long requests may take: a client for each of the [`TIMEOUTS`].

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::Context;
use async_nats::jetstream::context::ContextBuilder;
use async_nats::jetstream::stream::Stream as StreamHandle;

use crate::advice::text;
use crate::connect::ConnectError;
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
#[derive(Clone, Debug)]
pub(super) struct Patient {
    pub(super) context: Context,
    pub(super) stream: StreamHandle<()>,
    pub(super) timeout: Duration,
}

impl Patience {
    /// The clients for a stream.
    ///
    /// # Errors
    /// If the name of the stream cannot be used.
    pub(super) async fn new(client: &Client, stream: &str) -> Result<Self, ConnectError> {
        let [first, others @ ..] = TIMEOUTS;
        let mut patient = Vec::new();
        for timeout in others {
            patient.push(Patient::new(client, stream, timeout).await?);
        }
        Ok(Self {
            first: Patient::new(client, stream, first).await?,
            others: patient,
            used: AtomicUsize::new(0),
        })
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
    async fn new(client: &Client, stream: &str, timeout: Duration) -> Result<Self, ConnectError> {
        let context = ContextBuilder::new()
            .timeout(timeout)
            .ack_timeout(timeout)
            .max_ack_inflight(IN_FLIGHT_MAX)
            .build(client.clone());
        let stream = context.get_stream_no_info(stream).await;
        Ok(Self {
            context,
            stream: stream.map_err(|error| ConnectError::Options(text(&error)))?,
            timeout,
        })
    }
}
