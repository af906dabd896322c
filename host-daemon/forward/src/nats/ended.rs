//! Whether a client connects no more: [`Nats::has_ended`].

use std::time::Duration;

use super::Nats;

/// Time within which a client that works has taken a command.
const TAKEN: Duration = Duration::from_millis(500);

impl Nats {
    /// Whether the client has ended, such as by a frame that it cannot parse. It never connects again: make another one.
    ///
    /// # Cancellation
    /// Dropping the future changes nothing.
    pub async fn has_ended(&self) -> bool {
        // One that is not connected takes the command, and has no answer.
        let flushed = tokio::time::timeout(TAKEN, self.client.flush()).await;
        matches!(flushed, Ok(Err(_)))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::connect::NatsOptions;

    /// Accepts a connection of a client, as a server does.
    pub(in crate::nats) async fn accept(listener: &TcpListener) -> TcpStream {
        let info = r#"INFO {"server_id":"A","version":"2.12.0","host":"127.0.0.1","port":4222,"headers":true,"max_payload":1048576}"#;
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let line = format!("{info}\r\n");
        stream.write_all(line.as_bytes()).await.expect("INFO");
        let mut lines = BufReader::new(&mut stream).lines();
        while let Some(line) = lines.next_line().await.expect("a line") {
            if line.starts_with("PING") {
                break;
            }
        }
        stream.write_all(b"PONG\r\n").await.expect("PONG");
        stream
    }

    #[tokio::test]
    async fn a_frame_that_cannot_be_parsed_ends_it() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let options = NatsOptions {
            servers: vec![format!("nats://{address}")],
            ..NatsOptions::default()
        };
        let (nats, mut server) = tokio::join!(Nats::connect(&options, "s"), accept(&listener));
        let nats = nats.expect("it connects");
        assert!(!nats.has_ended().await);
        // Not connected, it waits for a server.
        server.shutdown().await.expect("it ends");
        drop(server);
        assert!(!nats.has_ended().await);
        let mut server = accept(&listener).await;
        let frame = format!("MSG x 1 {}\r\n", u64::MAX);
        server.write_all(frame.as_bytes()).await.expect("a frame");
        let ended = async {
            while !nats.has_ended().await {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let limit = Duration::from_secs(60);
        assert!(tokio::time::timeout(limit, ended).await.is_ok());
    }
}
