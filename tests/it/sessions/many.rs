//! Many sessions in small files: the states of all sessions, at the beginning and at the end of each file, do not multiply files.

use std::fs;

use blocksd_tests::process::Server;
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
