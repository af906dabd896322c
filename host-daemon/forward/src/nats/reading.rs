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

    /// Waits for the refusal of a permission that a reader lacks, from this call on: the future need not be polled before.
    pub(crate) fn denied(&self) -> impl Future<Output = ReadError> {
        let denied = self.state.next_denied();
        async { ReadError::Denied(denied.await) }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    use super::*;
    use crate::nats::ended::tests::accept;

    #[tokio::test]
    async fn a_refusal_is_noticed_that_arrives_before_it_is_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let options = NatsOptions {
            servers: vec![format!("nats://{address}")],
            ..NatsOptions::default()
        };
        let (nats, mut server) = tokio::join!(Nats::open(&options, "s"), accept(&listener));
        let nats = nats.expect("it connects");
        let (denied, arrived) = (nats.denied(), nats.state.next_denied());
        let text = "Permissions Violation for Publish to \"$JS.API.STREAM.INFO.s\"";
        let line = format!("-ERR '{text}'\r\n");
        server.write_all(line.as_bytes()).await.expect("an error");
        arrived.await;
        let denied = tokio::time::timeout(Duration::from_secs(5), denied).await;
        assert!(matches!(denied, Ok(ReadError::Denied(it)) if it == text));
    }
}
