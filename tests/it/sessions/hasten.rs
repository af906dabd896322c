//! A device that waits gets its commit long before the interval of commits has passed.

use blocksd_tests::process::Server;
use blocksd_tests::session_devices::{DevicePlan, SessionDevices, numbered_payload};
use blocksd_tests::session_oracle::SessionOracle;
use blocksd_tests::session_peer::SessionPeer;
use tempfile::TempDir;

use super::senders::{Language, Setup, messages};

/// Starts a daemon that commits only every 30 s, longer than anything here may take.
fn start(folder: &TempDir) -> Server {
    let folder = folder.path().to_str().unwrap();
    let args = ["--record", folder, "--output", "none"];
    let intervals = ["--record-sync", "30s", "--ack-interval", "30s"];
    Server::start(&[&args[..], &intervals].concat())
}

#[test]
fn the_end_of_a_series_hastens_its_commit() {
    let folder = TempDir::new().unwrap();
    let server = start(&folder);
    let (mut peer, welcome) = SessionPeer::open(server.addr(), "boiler", 0, 0, 1);
    peer.cont(welcome.session, 0);
    peer.message(&numbered_payload("boiler", 0, 20));
    peer.end();
    peer.wait_for_ack(1);
}

#[test]
fn the_end_of_the_messages_hastens_their_commit_in_each_language() {
    let name = "the_end_of_the_messages_hastens_their_commit_in_each_language";
    let folder = TempDir::new().unwrap();
    let server = start(&folder);
    Language::each(name, |language| {
        // Less than the intervals, and than the heartbeat of 30 s.
        let setup = Setup {
            timeout_s: 20,
            ..Setup::default()
        };
        let sending = language.start(server.addr(), &messages(3), setup);
        assert_eq!(sending.end(), 0, "{language:?}");
    });
}

#[test]
fn a_ring_that_is_half_full_hastens_a_commit() {
    let folder = TempDir::new().unwrap();
    let server = start(&folder);
    let plan = DevicePlan {
        ring_len: 1024,
        ..DevicePlan::default()
    };
    let devices = SessionDevices::start("boiler", 2, plan);
    devices.connect_to(server.addr());
    devices.wait_for_acks(15);
    let outcomes = devices.finish();
    drop(server.stop());
    SessionOracle::of(folder.path()).assert_outcomes(&outcomes);
}
