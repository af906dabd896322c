//! SIGTERM: devices get a last acknowledgement, and CLOSING.

use std::time::Duration;

use blocksd_tests::process::Server;
use blocksd_tests::recording_daemon::recording_args;
use blocksd_tests::scrape;
use blocksd_tests::session_devices::{DevicePlan, SessionDevices, numbered_payload};
use blocksd_tests::session_oracle::SessionOracle;
use blocksd_tests::session_peer::{HostFrame, SessionPeer};
use framing_core::session::wire::ClosingCode;
use tempfile::TempDir;

const SHUTDOWN: u8 = ClosingCode::Shutdown as u8;

#[test]
fn a_stop_under_load_is_announced_and_keeps_what_was_acknowledged() {
    let folder = TempDir::new().unwrap();
    let args = recording_args(folder.path(), &[]);
    let plan = DevicePlan {
        pause: Duration::from_micros(500),
        ..DevicePlan::default()
    };
    let devices = SessionDevices::start("boiler", 4, plan);
    for stops in 1..=3 {
        let server = Server::start(&args);
        devices.connect_to(server.addr());
        devices.wait_for_acks(100);
        let (ended, _) = server.stop();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        devices.leave();
        for seen in devices.seen() {
            assert_eq!(seen.closings(), vec![SHUTDOWN; stops], "{}", seen.id);
        }
        SessionOracle::of(folder.path()).assert_acked(&devices);
    }
    let server = Server::start(&args);
    devices.connect_to(server.addr());
    let outcomes = devices.finish();
    server.stop();
    SessionOracle::of(folder.path()).assert_outcomes(&outcomes);
}

#[test]
fn what_is_durable_at_a_stop_is_acknowledged_before_the_end() {
    let folder = TempDir::new().unwrap();
    // No acknowledgement is due until the stop.
    let silent = ["--ack-interval", "3600", "--heartbeat", "off"];
    let more = [&silent[..], &["--metrics", "127.0.0.1:0"]].concat();
    let server = Server::start(&recording_args(folder.path(), &more));
    let (mut peer, welcome) = SessionPeer::open(server.addr(), "boiler", 0, 0, 10);
    peer.cont(welcome.session, 0);
    // The answer to the ping of the CONT.
    peer.wait_for_ack(0);
    for number in 0..10 {
        peer.message(&numbered_payload("boiler", number, 20));
    }
    let synced = "blocksd_record_messages_synced_total";
    scrape::wait_for(&server, synced, |synced| synced == 10.0);
    server.process.signal("TERM");
    let mut frame = peer.read();
    // On a busy machine, the last of them is noted as durable only during the stop.
    while let HostFrame::Ack(..10) = frame {
        frame = peer.read();
    }
    assert_eq!(frame, HostFrame::Ack(10));
    assert_eq!(
        peer.read(),
        HostFrame::Closing(SHUTDOWN, "shutdown".to_owned())
    );
    assert_eq!(peer.read(), HostFrame::End);
    let (ended, _) = server.end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    SessionOracle::of(folder.path()).assert_all("boiler", 10);
}
