//! The uplink on a desktop, over two transports: a session outlives kills of the real daemon, and each message is recorded once.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use blocksd_tests::board::Port;
use blocksd_tests::process::{Server, run, wait_until};
use edge_nal_std::Stack;
use framing_uplink::edge::EdgeTcp;
use framing_uplink::os::{OsClock, OsTcp};
use framing_uplink::{
    BackoffBounds, Config, Device, Full, PushError, Ring, Session, SessionMemory, SessionReport,
    Split, Stop, blocking,
};
use serde_json::Value;
use tempfile::TempDir;

/// Messages that are pushed.
const MESSAGES: u32 = 3_000;

/// The uplink, until everything is acknowledged.
fn uplink(ring: &Ring<256>, mut connect: impl Split) -> SessionReport {
    let mut memory = SessionMemory::<4096>::new();
    let device = Device::new("gateway-7").expect("a device id");
    let mut session = Session::new(device, &mut memory, Full::Refuse, 7);
    let config = Config {
        stop_ms: 60_000,
        backoff: BackoffBounds {
            last_ms: 400,
            ..BackoffBounds::new()
        },
        ..Config::new()
    };
    let (clock, stop) = (OsClock::new(), Stop::new());
    let running = session.run(&config, ring, &stop, &clock, &mut connect);
    blocking::run(running, || thread::sleep(Duration::from_millis(1)))
}

#[test]
fn a_session_on_a_desktop_outlives_kills_of_the_daemon() {
    outlive_kills(|ring, to| uplink(ring, OsTcp::new(to.to_string())));
}

#[test]
fn a_session_over_edge_nal_outlives_kills_of_the_daemon() {
    outlive_kills(|ring, to| {
        let network = Stack::new();
        uplink(ring, EdgeTcp::new(&network, to, OsClock::new()))
    });
}

/// Kills the daemon while messages are pushed to the ring of an uplink.
#[track_caller]
fn outlive_kills(uplink: fn(&Ring<256>, SocketAddr) -> SessionReport) {
    let ring = Arc::new(Ring::<256>::new(Full::Refuse));
    let folder = TempDir::new().unwrap();
    let recording = folder.path().to_str().unwrap().to_owned();
    let port = Port::reserve();
    let listen = port.listen();
    let args = [
        "--listen",
        &listen,
        "--record",
        &recording,
        "--record-sync",
        "20ms",
    ];
    let mut server = Server::start(&args);
    let to = port.addr();
    let sent = Arc::clone(&ring);
    let running = thread::spawn(move || uplink(&sent, to));
    for number in 0..MESSAGES {
        // Three kills, each after messages were recorded.
        if number % 1_000 == 500 {
            server.process.signal("KILL");
            drop(server);
            server = Server::start(&args);
        }
        let message = format!("n={number}");
        while let Err(PushError::Full { .. }) = ring.push(message.as_bytes()) {
            thread::sleep(Duration::from_millis(1));
        }
    }
    ring.close();
    wait_until("everything is acknowledged", || running.is_finished());
    let report = running.join().expect("no panic");
    assert_eq!(
        (
            report.acknowledged,
            report.given_up,
            report.left,
            report.ended
        ),
        (MESSAGES, 0, 0, true),
        "{report:?}"
    );
    assert!(4 <= report.connections, "{report:?}");
    server.stop();
    let read = run(&["read", &recording, "--output", "json"], b"");
    assert_eq!(read.code, Some(0), "{read:?}");
    let text = read.stdout_text();
    let events = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let texts: Vec<_> = events
        .filter(|it| it["event"] == "block")
        .map(|it| it["text"].to_string())
        .collect();
    let wanted: Vec<_> = (0..MESSAGES)
        .map(|number| format!("\"n={number}\""))
        .collect();
    assert!(
        texts == wanted,
        "{} messages: {:?}",
        texts.len(),
        texts.iter().take(5).collect::<Vec<_>>()
    );
}
