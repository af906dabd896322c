//! `blocksd read` of a stream of which messages were removed: it prints all others, and reports those that it had yet to read.

use std::io::Read as _;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, SystemTime};

use blocksd_tests::nats::{NatsServer, NatsVersion};
use blocksd_tests::nats_wire::{NatsWire, forwarded_head};
use blocksd_tests::process::{Process, blocksd, run, wait_until};
use blocksd_tests::skip::skipped;

/// The devices.
const DEVICES: [&str; 2] = ["imu", "gps"];
/// Messages of each.
const MESSAGES: usize = 10;
/// Messages of 0.9 MB: more than a reader has under way.
const LONG_MESSAGES: usize = 140;

#[test]
fn removed_messages_hide_no_others() {
    read_the_rest("removed_messages_hide_no_others", NatsVersion::Current);
}

#[test]
fn removed_messages_hide_no_others_from_the_server_of_debian() {
    read_the_rest(
        "removed_messages_hide_no_others_from_the_server_of_debian",
        NatsVersion::Debian,
    );
}

/// Removes the last message of the stream, as for one that another program has published, and then the last one of each device.
fn read_the_rest(name: &str, version: NatsVersion) {
    let nats = match NatsServer::start_version(version) {
        Ok(started) => started,
        Err(reason) => return skipped(name, reason),
    };
    let url = nats.url();
    let mut wire = NatsWire::connect(&url);
    let config = r#"{"name":"blocksd","subjects":["blocksd.main.>"],"storage":"file"}"#;
    let made = wire.request("$JS.API.STREAM.CREATE.blocksd", config);
    assert!(made["error"].is_null(), "{made}");
    let mut last = Vec::new();
    for number in 0..MESSAGES {
        last = DEVICES.map(|it| publish(&mut wire, it, number)).to_vec();
    }
    // A message for each device, of another program.
    for device in DEVICES {
        let foreign = wire.publish(&format!("blocksd.main.dev.{device}"), &[], b"foreign");
        remove(&mut wire, foreign);
    }
    assert_read(&url, MESSAGES);
    for sequence in last {
        remove(&mut wire, sequence);
    }
    assert_read(&url, MESSAGES - 1);
}

/// The output is not read until most messages are removed: more than a reader holds.
#[test]
fn messages_that_are_removed_before_they_are_read_are_reported() {
    let name = "messages_that_are_removed_before_they_are_read_are_reported";
    let nats = match NatsServer::start_version(NatsVersion::Current) {
        Ok(started) => started,
        Err(reason) => return skipped(name, reason),
    };
    let mut wire = NatsWire::connect(&nats.url());
    let config = r#"{"name":"blocksd","subjects":["blocksd.main.>"],"storage":"file"}"#;
    let made = wire.request("$JS.API.STREAM.CREATE.blocksd", config);
    assert!(made["error"].is_null(), "{made}");
    let long = "x".repeat(900_000);
    for number in 0..LONG_MESSAGES {
        publish_text(
            &mut wire,
            "imu",
            number,
            &format!("message-{number}-{long}"),
        );
    }
    let mut command = blocksd(&["read", &nats.url(), "--output", "raw", "--device", "imu"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut read = command.spawn().unwrap();
    // The first bytes show that the window is full.
    let mut first = [0];
    read.stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut first)
        .unwrap();
    let purge = format!("{{\"seq\":{LONG_MESSAGES}}}");
    let purged = wire.request("$JS.API.STREAM.PURGE.blocksd", &purge);
    assert_eq!(purged["success"], true, "{purged}");
    let ended = read.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{text}");
    let printed = String::from_utf8_lossy(&ended.stdout).matches("-x").count();
    assert!(printed < LONG_MESSAGES, "{printed}");
    let missing = LONG_MESSAGES - printed;
    let report = format!("at least {missing} were removed before they were read");
    assert!(text.contains(&report), "{printed} {text}");
}

#[track_caller]
fn assert_read(url: &str, messages: usize) {
    for devices in [&[][..], &["--device", "imu"]] {
        let wanted = messages * if devices.is_empty() { 2 } else { 1 };
        for options in [
            &[][..],
            &["--from", "10m"],
            &["--last", "10m"],
            &["--from", "10m", "--until", "2400-01-01"],
            &["--last", "10m", "--until", "2400-01-01"],
        ] {
            let args = [&["read", url, "--output", "csv"], devices, options].concat();
            let read = run(&args, b"");
            assert_eq!((read.code, &*read.stderr), (Some(0), ""), "{args:?}");
            let text = read.stdout_text();
            assert_eq!(text.matches(",message-").count(), wanted, "{args:?} {text}");
        }
    }
    let args = ["read", url, "--output", "csv", "--follow", "--from", "10m"];
    let follow = Process::start(blocksd(&args));
    wait_until("all is printed", || {
        follow.printed_text().matches(",message-").count() == 2 * messages
    });
}

/// Publishes a message that was received now. Returns its sequence number.
fn publish(wire: &mut NatsWire, device: &str, number: usize) -> u64 {
    publish_text(wire, device, number, &format!("message-{number}"))
}

fn publish_text(wire: &mut NatsWire, device: &str, number: usize, text: &str) -> u64 {
    thread::sleep(Duration::from_millis(1));
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos();
    let (first, time) = (number.to_string(), now.to_string());
    let head = forwarded_head(&[("Blocksd-First", &first), ("Blocksd-Time", &time)]);
    let len = u32::try_from(text.len()).unwrap();
    let body = [&len.to_be_bytes(), text.as_bytes()].concat();
    wire.publish(&format!("blocksd.main.dev.{device}"), &head, &body)
}

/// Removes a message, as `nats stream rmm` does.
#[track_caller]
fn remove(wire: &mut NatsWire, sequence: u64) {
    let request = format!("{{\"seq\":{sequence}}}");
    let removed = wire.request("$JS.API.STREAM.MSG.DELETE.blocksd", &request);
    assert_eq!(removed["success"], true, "{removed}");
}
