//! Tests of the timeouts of a client, on a paused clock.

use std::cell::Cell;

use framing_core::session::wire::Welcome;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::*;

const WELCOME: Welcome = Welcome {
    acked: 0,
    resume: 0,
    session: 9,
    time_ns: 0,
    block_max: 100,
    heartbeat_s: 7,
    flags: 0,
    check: 0,
};

thread_local! {
    static CONNECTIONS: Cell<usize> = const { Cell::new(0) };
}

/// Sends a message to a host that answers each HELLO with these bytes, and nothing else. Returns the error.
async fn deliver(answer: &[u8]) -> SessionError {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let host = async {
        let mut streams = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.read_exact(&mut [0; 60]).await.unwrap();
            stream.write_all(answer).await.unwrap();
            streams.push(stream);
            CONNECTIONS.set(streams.len());
        }
    };
    let (to, input) = mpsc::channel(1);
    to.try_send(vec![b"message".to_vec()]).unwrap();
    drop(to);
    let mut client = SessionClient::new(
        &address,
        Connector::default(),
        Duration::from_secs(60),
        1000,
    );
    let device = Device::new("boiler-7").unwrap();
    let mut queue = Queue::new(input);
    tokio::select! {
        delivered = client.deliver(&device, &mut queue) => delivered.unwrap_err(),
        () = host => unreachable!(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_host_that_does_not_answer_is_given_up() {
    let begin = Instant::now();
    let error = deliver(b"").await;
    let text = error.to_string();
    assert!(text.contains("no answer within 10 s"), "{text}");
    // Ten seconds each, and the delays between them.
    let (connections, took) = (CONNECTIONS.get(), begin.elapsed().as_secs());
    assert!((5..=7).contains(&connections), "{connections}");
    assert!((60..=75).contains(&took), "{took} s");
}

#[tokio::test(start_paused = true)]
async fn a_host_that_falls_silent_is_left_after_three_heartbeats() {
    // A connection that lasts is one, so the client goes on.
    let welcome = WELCOME.encode();
    let delivering = timeout(Duration::from_secs(2000), deliver(&welcome));
    assert!(delivering.await.is_err());
    let connections = CONNECTIONS.get();
    assert!((85..=96).contains(&connections), "{connections}");
}
