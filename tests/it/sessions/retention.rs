//! Retention: a session outlives the files with its messages.

use std::fs;
use std::path::Path;

use blocksd_tests::process::{Server, wait_until};
use blocksd_tests::recording_daemon::recording_args;
use blocksd_tests::session_devices::{DevicePlan, SessionDevices, numbered_payload};
use blocksd_tests::session_oracle::SessionOracle;
use blocksd_tests::session_peer::SessionPeer;
use tempfile::TempDir;

/// Messages of the device that is silent afterwards.
const MESSAGES: u64 = 5;

fn start(folder: &Path) -> Server {
    let more = [
        "--ack-interval",
        "0",
        "--record-max-bytes",
        "16777216",
        "--record-rotate-size",
        "200000",
        "--record-compression",
        "none",
    ];
    Server::start(&recording_args(folder, &more))
}

fn files(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| name.contains(".mcap")).collect();
    names.sort();
    names
}

#[test]
fn a_session_outlives_the_files_with_its_messages() {
    for signal in ["TERM", "KILL"] {
        let folder = TempDir::new().unwrap();
        let server = start(folder.path());
        let (mut peer, welcome) = SessionPeer::open(server.addr(), "silent", 0, 0, 0);
        let session = welcome.session;
        peer.cont(session, 0);
        for number in 0..MESSAGES {
            peer.message(&numbered_payload("silent", number, 100));
        }
        peer.end();
        peer.wait_for_ack(MESSAGES);
        drop(peer);
        let first = files(folder.path()).swap_remove(0);
        let first = first.trim_end_matches(".part").to_owned();
        let plan = DevicePlan {
            ring_len: 256 << 10,
            message_len: 8000,
            ..DevicePlan::default()
        };
        let devices = SessionDevices::start("busy", 2, plan);
        devices.connect_to(server.addr());
        wait_until("the first files are deleted", || {
            let left = files(folder.path());
            !left.iter().any(|name| name.starts_with(&first))
        });
        server.process.signal(signal);
        drop(server.end());
        devices.leave();

        let server = start(folder.path());
        devices.connect_to(server.addr());
        // It has the last two messages still, since it has not heard all acknowledgements.
        let (_peer, welcome) = SessionPeer::open(server.addr(), "silent", session, 3, 2);
        assert_eq!((welcome.session, welcome.flags), (session, 0), "{signal}");
        assert_eq!((welcome.acked, welcome.resume), (MESSAGES, MESSAGES));
        let outcomes = devices.finish();
        let (ended, _) = server.stop();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let oracle = SessionOracle::of(folder.path());
        for outcome in &outcomes {
            oracle.assert_once(&outcome.id);
            // The last messages are left, without a hole.
            let left: Vec<_> = oracle.messages_of(&outcome.id).ranges().collect();
            assert!(
                matches!(left[..], [(_, end)] if end == outcome.pushed),
                "{left:?}"
            );
        }
    }
}
