//! A connection to read a stream with: [`Nats::open`].

use std::sync::Arc;
use std::time::Duration;

use async_nats::Statistics;

use super::Nats;
use crate::connect::{ConnectError, NatsOptions};
use crate::fetched::ReadError;
use crate::stream::TIMEOUTS;

/// How long a request may take. The answer with a part of a long message needs it over 100 kbit/s.
const READING: Duration = Duration::from_secs(30);

impl Nats {
    /// Connects to a server, to read the stream.
    ///
    /// # Errors
    /// [`ReadError`], if no server accepts the connection.
    pub async fn open(options: &NatsOptions, stream: &str) -> Result<Self, ReadError> {
        let connected = Self::with_timeouts(options, stream, [READING; TIMEOUTS.len()]).await;
        connected.map_err(|error| match error {
            ConnectError::Login(_) => ReadError::Login(error.reason().to_owned()),
            ConnectError::Silent(_) | ConnectError::Unreachable(_) => {
                ReadError::Unreachable(error.reason().to_owned())
            }
            _ => ReadError::Connect(error.to_string()),
        })
    }

    /// What the client has sent and received.
    pub(crate) fn statistics(&self) -> Arc<Statistics> {
        self.client.statistics()
    }

    /// Waits for the refusal of a permission that a reader lacks.
    pub(crate) async fn denied(&self) -> ReadError {
        ReadError::Denied(self.state.next_denied().await)
    }
}
