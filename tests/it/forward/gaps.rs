//! Numbers of sessions without a message, given up or refused while the cluster is away: they are no damage.

use std::collections::BTreeSet;
use std::path::Path;

use blocksd_tests::nats::NatsServer;
use blocksd_tests::process::{Server, run, wait_until};
use blocksd_tests::session_peer::SessionPeer;
use blocksd_tests::skip::skipped;
use tempfile::TempDir;

use super::stream::{forwarded, recorded, serve};

const DEVICE: &str = "pump";
/// More than are kept anywhere.
const GAPS: u64 = 200;
/// Numbers from one gap to the next: two messages, one that is too long, and perhaps two that the device gives up.
const STEPS: [u64; 2] = [5, 3];

#[test]
fn gaps_while_the_cluster_is_away_are_acknowledged() {
    run_away("gaps_while_the_cluster_is_away_are_acknowledged", false);
}

#[test]
fn gaps_of_an_earlier_run_of_the_daemon_are_acknowledged() {
    run_away(
        "gaps_of_an_earlier_run_of_the_daemon_are_acknowledged",
        true,
    );
}

fn run_away(name: &str, restarts: bool) {
    let nats = match NatsServer::start() {
        Ok(server) => server,
        Err(reason) => return skipped(name, &reason),
    };
    for step in STEPS {
        let folder = TempDir::new().expect("a folder for temporary files");
        let record = folder.path().join("kept");
        let stream = format!("step-{step}");
        let forward = format!(
            "{},stream={stream},site={stream},durable=no,create=true,ack=forwarded",
            nats.url()
        );
        let options = ["--record-sync", "20ms", "--max-block", "1KiB"];
        let mut server = serve(&record, &forward, &options);
        let (mut peer, welcome) = SessionPeer::open(server.addr(), DEVICE, 0, 0, 0);
        let session = welcome.session;
        peer.cont(session, 0);
        peer.message(b"first");
        peer.end();
        peer.wait_for_ack(1);
        nats.signal("STOP");
        let end = 1 + GAPS * step;
        let mut wanted = BTreeSet::from([0]);
        for number in (1..end).step_by(usize::try_from(step).expect("few")) {
            peer.cont(session, number);
            peer.message(format!("message {number}").as_bytes());
            peer.message(format!("message {}", number + 1).as_bytes());
            peer.message(&[b'.'; 2000]);
            peer.end();
            wanted.extend([number, number + 1]);
        }
        peer.cont(session, end);
        peer.end();
        // The number after the last one that is decided is that of a message.
        wait_until("everything is recorded", || decided(&record) == end);
        if restarts {
            server.process.signal("KILL");
            drop(server);
            nats.signal("CONT");
            server = serve(&record, &forward, &options);
            // All that can be in the ring of a device that has given messages up.
            let first = if step == STEPS[0] { end } else { 1 };
            let few = |count: u64| u32::try_from(count).expect("few");
            peer = SessionPeer::connect(server.addr());
            peer.hello_after(DEVICE, session, first, few(end - first), few(first - 1));
            peer.read();
            peer.cont(session, end);
            peer.end();
        } else {
            nats.signal("CONT");
        }
        peer.wait_for_last_ack(end);
        let numbers: Vec<_> = forwarded(&nats.url(), &stream)[DEVICE]
            .iter()
            .map(|(_, number, _)| *number)
            .collect();
        assert_eq!(numbers, wanted.into_iter().collect::<Vec<_>>());
        assert_sound(server, &record);
    }
}

/// The number after the last one that the recording decides.
fn decided(record: &Path) -> u64 {
    let path = record.to_str().expect("UTF-8");
    let read = run(&["read", path, "--output", "json"], b"");
    let events = read.stdout_text();
    let ends = events.lines().filter_map(|line| {
        let event: serde_json::Value = serde_json::from_str(line).ok()?;
        match event["event"].as_str()? {
            "gap" => event["to"].as_u64(),
            "block" => Some(event["seq"].as_u64()? + 1),
            _ => None,
        }
    });
    ends.max().unwrap_or_default()
}

/// No message was received twice, and no damage is reported.
#[track_caller]
fn assert_sound(server: Server, record: &Path) {
    let (log, _) = server.stop();
    assert!(!log.stderr.contains("cannot be read"), "{}", log.stderr);
    let numbers: Vec<_> = recorded(record)[DEVICE].iter().map(|it| it.1).collect();
    assert!(numbers.is_sorted_by(|one, other| one < other));
}
