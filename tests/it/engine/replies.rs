//! Replies that end before their time: the daemon stops, or its disk fails. The reason says so.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread::sleep;
use std::time::Duration;

use blocksd_tests::process::{Process, Server, wait_until};
use tempfile::TempDir;

use super::admission::closed;

/// Bytes of a reply: more than the sockets hold.
const LARGE: usize = 12 << 20;

/// The name of a file that is sent as a reply.
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
fn a_reply_in_progress_is_finished_when_the_daemon_stops() {
    let folder = TempDir::new().unwrap();
    let server = Server::start(&["--reply", &file(&folder, LARGE)]);
    let mut device = ask(&server);
    let mut begun = vec![0; 1 << 20];
    device.read_exact(&mut begun).unwrap();
    server.process.signal("TERM");
    // Slowly, but steadily.
    let mut len = begun.len();
    let mut part = vec![0; 2 << 20];
    loop {
        match device.read(&mut part) {
            Ok(0) => break,
            Ok(read) => len += read,
            Err(error) => panic!("after {len} bytes: {error}"),
        }
        sleep(Duration::from_millis(5));
    }
    // With the header of the message, and the end of the series.
    assert_eq!(len, LARGE + 8);
    let (ended, events) = server.end();
    assert!(!ended.stderr.contains("cut short"), "{}", ended.stderr);
    let close = events.iter().find(|event| event["event"] == "close");
    assert_eq!(close.unwrap()["reason"], "end");
}

#[test]
fn a_reply_that_is_not_read_is_cut_when_the_daemon_stops_and_the_reason_says_so() {
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
    assert!(
        !ended.stderr.contains("did not close in time"),
        "it closed in time: {}",
        ended.stderr
    );
    let close = events.iter().find(|event| event["event"] == "close");
    assert_eq!(close.unwrap()["reason"], "shutdown");
}

#[test]
fn a_receipt_that_was_read_whole_is_not_cut_when_the_daemon_stops() {
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
fn an_echo_that_the_disk_does_not_take_closes_with_the_reason_and_the_error() {
    let folder = TempDir::new().unwrap();
    let nowhere = folder.path().join("removed");
    let args = ["--reply", "echo", "--metrics", "127.0.0.1:0"];
    let mut command = Server::command(&args);
    command.env("TMPDIR", &nowhere);
    let mut server = Server::of(Process::start(command), &args);
    // What fits into memory needs no file.
    let mut small = ask(&server);
    let mut echo = Vec::new();
    small.read_to_end(&mut echo).unwrap();
    assert_eq!(echo, b"\0\0\0\x02hi\0\0\0\0");
    let mut large = server.connect();
    let message = [&100_000_u32.to_be_bytes()[..], &[b'x'; 100_000]].concat();
    large.write_all(&message).unwrap();
    let told = server.story(2);
    let close = "close reply_failed blocks=1 bytes=100000";
    assert_eq!(told.last().unwrap(), close);
    wait_until("it is counted", || closed(&server, "reply_failed") == 1);
    let (ended, _) = server.stop();
    let line = format!("cannot write {}", nowhere.display());
    assert!(ended.stderr.contains(&line), "{}", ended.stderr);
}

#[test]
fn a_file_that_is_gone_when_it_is_to_be_the_reply_is_the_reason() {
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
