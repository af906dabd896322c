//! A server that goes back to an older state of its disk, with kills of the daemon: each recorded message is in the stream once, in order.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use blocksd_forward::CURSOR_FILES;
use blocksd_tests::disk::Chance;
use blocksd_tests::process::{Server, run};

use super::stream::{OneServer, rounds};

/// Devices.
const DEVICES: usize = 3;
/// What the log says of a loss, and of the end of its repair.
const LOST: &str = "the stream has lost messages that it had acknowledged";
const REPAIRED: &str = "the stream has all messages again";

#[test]
fn a_server_that_goes_back_loses_and_doubles_nothing() {
    let name = "a_server_that_goes_back_loses_and_doubles_nothing";
    let Some(mut one) = OneServer::start(name) else {
        return;
    };
    let mut server = one.serve();
    let mut chance = Chance(rounds());
    // Older states, of which the later ones are gone when one is put back.
    let mut copies = Vec::new();
    for round in 0..rounds() {
        send(&server, round);
        thread::sleep(Duration::from_millis(chance.of(0..=600) as u64));
        if round == 0 || chance.of(0..=2) == 0 {
            let copy = one.folder(&format!("copy {round}"));
            one.nats.restart_and_copy(&copy);
            copies.push(copy);
            continue;
        }
        let kept = chance.of(1..=copies.len());
        copies.truncate(kept);
        let is_killed_first = chance.of(0..=1) == 0;
        if is_killed_first {
            server.process.signal("KILL");
        }
        one.nats.go_back(&copies[kept - 1]);
        thread::sleep(Duration::from_millis(chance.of(0..=400) as u64));
        if is_killed_first || chance.of(0..=1) == 0 {
            server.process.signal("KILL");
            drop(server);
            server = one.serve();
        }
    }
    one.wait_until_forwarded(&server);
    server.stop();
    one.assert_same();
}

#[test]
fn the_log_says_when_a_repair_begins_and_when_it_has_ended() {
    let name = "the_log_says_when_a_repair_begins_and_when_it_has_ended";
    let Some(mut one) = OneServer::start(name) else {
        return;
    };
    let mut server = one.serve();
    send(&server, 0);
    one.wait_until_forwarded(&server);
    let copy = one.folder("copy");
    one.nats.restart_and_copy(&copy);
    send(&server, 1);
    one.wait_until_forwarded(&server);
    one.nats.go_back(&copy);
    server.process.wait_for_error(LOST);
    server.process.wait_for_error(REPAIRED);
    one.wait_until_forwarded(&server);
    one.nats.go_back(&copy);
    server.process.wait_for_errors(LOST, 2);
    server.process.signal("KILL");
    server.end();
    // A restart goes on with the repair, unless that had ended before the kill.
    let is_repaired = !has_gone_back(&one.record());
    server = one.serve();
    if !is_repaired {
        server.process.wait_for_error(REPAIRED);
    }
    one.wait_until_forwarded(&server);
    server.stop();
    one.assert_same();
}

/// Whether the file of the place says that the stream has gone back.
fn has_gone_back(record: &Path) -> bool {
    let files = fs::read_dir(record).expect("the folder of the recording");
    files.flatten().any(|file| {
        let name = file.file_name();
        let is_place = name.to_string_lossy().starts_with(CURSOR_FILES);
        is_place && fs::read_to_string(file.path()).is_ok_and(|text| text.contains("gone-back"))
    })
}

/// Sends lines of each device over a session.
#[track_caller]
fn send(server: &Server, round: u64) {
    for device in 0..DEVICES {
        let lines: String = (0..50).map(|it| format!("{round} {it}\n")).collect();
        let (to, device) = (server.addr().to_string(), format!("device.{device}"));
        let sent = run(
            &["send", "--to", &to, "--session", "--device", &device],
            lines.as_bytes(),
        );
        assert_eq!(sent.code, Some(0), "{sent:?}");
    }
}
