//! Replies that end early because the daemon stops or its disk fails. The close reason says so.

use std::io::{Read, Write};
use std::net::TcpStream;

use blocksd_tests::process::{Process, Server, wait_until};
use tempfile::TempDir;

use super::admission::closed;

/// Length of a reply that is larger than the socket buffers.
const LARGE: usize = 12 << 20;

/// Creates a file that is sent as a reply; returns its name.
fn file(folder: &TempDir, len: usize) -> String {
    let file = folder.path().join("reply");
    std::fs::write(&file, vec![b'x'; len]).unwrap();
    file.to_str().unwrap().to_owned()
}

/// Sends a message and the end of its series.
fn ask(server: &Server) -> TcpStream {
    let mut device = server.connect();
    device.write_all(b"\0\0\0\x02hi\0\0\0\0").unwrap();
    device
}

#[test]
fn an_unread_reply_is_cut_when_the_daemon_stops_and_the_reason_is_reported() {
    let folder = TempDir::new().unwrap();
    let server = Server::start(&["--reply", &file(&folder, LARGE)]);
    let mut device = ask(&server);
    device.read_exact(&mut [0; 100]).unwrap();
    let (ended, events) = server.stop();
    assert!(
        ended.stderr.contains("reply cut short: shutdown"),
        "{}",
        ended.stderr
    );
    let close = events.iter().find(|event| event["event"] == "close");
    assert_eq!(close.unwrap()["reason"], "shutdown");
}

#[test]
fn a_receipt_that_was_read_completely_is_not_cut_when_the_daemon_stops() {
    let server = Server::start(&["--reply", "receipt"]);
    let mut device = ask(&server);
    let mut receipt = Vec::new();
    device.read_to_end(&mut receipt).unwrap();
    assert!(receipt.ends_with(&[0; 4]), "{receipt:?}");
    // The daemon still waits for the device to close.
    let (ended, events) = server.stop();
    assert!(!ended.stderr.contains("cut short"), "{}", ended.stderr);
    let close = events.iter().find(|event| event["event"] == "close");
    assert_eq!(close.unwrap()["reason"], "end");
}

#[test]
fn an_echo_that_cannot_be_stored_closes_with_the_reason_and_the_error() {
    let folder = TempDir::new().unwrap();
    let nowhere = folder.path().join("removed");
    let args = ["--reply", "echo", "--metrics", "127.0.0.1:0"];
    let mut command = Server::command(&args);
    command.env("TMPDIR", &nowhere);
    let mut server = Server::of(Process::start(command), &args);
    // An echo that fits into memory needs no file.
    let mut small = ask(&server);
    let mut echo = Vec::new();
    small.read_to_end(&mut echo).unwrap();
    assert_eq!(echo, b"\0\0\0\x02hi\0\0\0\0");
    let mut large = server.connect();
    let message = [&100_000_u32.to_be_bytes()[..], &[b'x'; 100_000]].concat();
    large.write_all(&message).unwrap();
    let story = server.story(2);
    let close = "close reply_failed blocks=1 bytes=100000 series=\"open\"";
    assert_eq!(story.last().unwrap(), close);
    wait_until("the close is counted", || {
        closed(&server, "reply_failed") == 1
    });
    let (ended, _) = server.stop();
    let line = format!("cannot write {}", nowhere.display());
    assert!(ended.stderr.contains(&line), "{}", ended.stderr);
}

#[test]
fn a_missing_reply_file_is_the_reason_of_the_close() {
    let folder = TempDir::new().unwrap();
    let reply = file(&folder, 10);
    let mut server = Server::start(&["--reply", &reply]);
    std::fs::remove_file(&reply).unwrap();
    let mut device = ask(&server);
    assert_eq!(device.read_to_end(&mut Vec::new()).unwrap(), 0);
    let close = "close reply_failed blocks=1 bytes=2";
    assert_eq!(server.story(1).last().unwrap(), close);
    let (ended, _) = server.stop();
    let line = format!("reply not sent: cannot read {reply}");
    assert!(ended.stderr.contains(&line), "{}", ended.stderr);
}
