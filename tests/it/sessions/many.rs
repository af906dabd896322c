//! Many sessions: their states, at the beginning and at the end of each file, do not multiply files, and one that the host has
//! forgotten is not damage.

use std::fs;
use std::ops::Range;

use blocksd_tests::process::{Server, run};
use blocksd_tests::recording_daemon::recording_args;
use blocksd_tests::session_devices::numbered_payload;
use blocksd_tests::session_oracle::SessionOracle;
use blocksd_tests::session_peer::SessionPeer;
use tempfile::TempDir;

const SESSIONS: usize = 1000;
const MESSAGES: u64 = 20;

#[test]
fn states_that_exceed_the_size_of_a_file_do_not_begin_a_file_for_each_message() {
    let folder = TempDir::new().unwrap();
    let more = ["--ack-interval", "0", "--record-rotate-size", "50000"];
    let args = recording_args(folder.path(), &more);
    let server = Server::start(&args);
    for number in 0..SESSIONS {
        let id = format!("device-{number}");
        let (mut peer, welcome) = SessionPeer::open(server.addr(), &id, 0, 0, 1);
        peer.cont(welcome.session, 0);
        peer.message(&numbered_payload(&id, 0, 1));
    }
    let (mut peer, welcome) = SessionPeer::open(server.addr(), "last", 0, 0, 0);
    let session = welcome.session;
    for number in 0..MESSAGES {
        peer.cont(session, number);
        peer.message(&numbered_payload("last", number, 20));
        peer.end();
        peer.wait_for_ack(number + 1);
    }
    server.process.signal("KILL");
    drop(server.process.end());
    // The open of most connections is held back, and counted: their messages have numbers all the same.
    let server = Server::start(&args);
    let (_peer, welcome) = SessionPeer::open(server.addr(), "last", session, 0, 20);
    assert_eq!((welcome.session, welcome.acked), (session, MESSAGES));
    let (ended, _) = server.stop();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let oracle = SessionOracle::of(folder.path());
    oracle.assert_all("last", MESSAGES);
    for number in 0..SESSIONS {
        oracle.assert_once(&format!("device-{number}"));
    }
    assert_eq!(oracle.plain, 0);
    // The states of all sessions are some files of 50,000 bytes long, and are written twice for each file.
    let files = fs::read_dir(folder.path()).unwrap().count();
    assert!(files < MESSAGES as usize, "{files} files");
}

#[test]
fn a_session_that_was_forgotten_may_come_again_in_the_same_file() {
    let folder = TempDir::new().unwrap();
    let more = ["--ack-interval", "0", "--max-sessions", "2"];
    let args = recording_args(folder.path(), &more);
    let server = Server::start(&args);
    let send = |id: &str, session, numbers: Range<u64>| {
        let held = (numbers.end - numbers.start) as u32;
        let (mut peer, welcome) =
            SessionPeer::open(server.addr(), id, session, numbers.start, held);
        let session = welcome.session;
        peer.cont(session, welcome.acked);
        for number in welcome.acked..numbers.end {
            peer.message(&numbered_payload(id, number, 20));
        }
        peer.end();
        peer.wait_for_ack(numbers.end);
        (session, welcome.acked)
    };
    let (session, _) = send("boiler", 0, 0..10);
    for other in ["a", "b", "c"] {
        send(other, 0, 0..1);
    }
    // The device has not seen the acknowledgement.
    let (again, acked) = send("boiler", session, 0..12);
    assert_eq!((again, acked), (session, 0));
    server.process.signal("KILL");
    drop(server.process.end());
    let (ended, _) = Server::start(&args).stop();
    let log = ended.stderr;
    assert!(!log.contains("order") && !log.contains("kept"), "{log}");
    let files = fs::read_dir(folder.path()).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let lost: Vec<_> = names.filter(|name| name.ends_with(".lost")).collect();
    assert_eq!(lost, [""; 0]);
    let verified = run(&["verify", folder.path().to_str().unwrap()], b"");
    let text = verified.stdout_text();
    assert_eq!(verified.code, Some(0), "{text}");
    let again =
        "0 to 11, nothing missing; 10 twice, since the host had forgotten the session: 0 to 9";
    assert!(text.contains(again), "{text}");
}
