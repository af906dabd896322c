//! Damage on the disk before messages are forwarded: a device that waits for the cluster sends them again.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use blocksd_recording::catalog::list_directory;
use blocksd_recording::scan::{Found, Scan};
use blocksd_tests::nats::NatsServer;
use blocksd_tests::process::{Process, run, wait_until};
use blocksd_tests::programs::blocksd;
use blocksd_tests::reserved_port::ReservedPort;
use blocksd_tests::skip::skipped;
use tempfile::TempDir;

use super::stream::{forwarded, serve};

/// Messages that are sent at once.
const ROUND: usize = 20;

#[test]
fn messages_that_a_sealed_file_loses_before_they_are_forwarded_come_again() {
    lose_before_forwarding(
        "messages_that_a_sealed_file_loses_before_they_are_forwarded_come_again",
        true,
    );
}

#[test]
fn messages_that_a_torn_file_loses_before_they_are_forwarded_come_again() {
    lose_before_forwarding(
        "messages_that_a_torn_file_loses_before_they_are_forwarded_come_again",
        false,
    );
}

fn lose_before_forwarding(name: &str, is_sealed: bool) {
    let nats = match NatsServer::start() {
        Ok(server) => server,
        Err(reason) => return skipped(name, &reason),
    };
    // Rounds that are not forwarded, and the last one. The first one is on its way to the cluster.
    for lost in [2, 4, 5] {
        let device = format!("pump-{lost}");
        let folder = TempDir::new().expect("a folder for temporary files");
        let record = folder.path().join("kept");
        let port = ReservedPort::take();
        let to = port.address().to_string();
        let forward = format!("{},durable=no,create=true,ack=forwarded", nats.url());
        let options = [
            "--listen",
            &to,
            "--record-sync",
            "20ms",
            "--record-compression",
            "none",
        ];
        let start = || serve(&record, &forward, &options);
        let stored = || {
            let mut messages = forwarded(&nats.url(), "blocksd");
            messages.remove(&device).unwrap_or_default()
        };
        let mut server = start();
        let mut command = blocksd(&["send", "--session", "--device", &device, "--to", &to]);
        command.args(["--connect-timeout", "60"]);
        let mut sender = Process::start(command);
        let mut send = |round: usize| {
            let lines: String = (0..ROUND).fold(String::new(), |mut lines, it| {
                writeln!(lines, "{device} {}", round * ROUND + it).expect("a string");
                lines
            });
            sender.write_part(lines.as_bytes());
        };
        send(0);
        wait_until("the first messages are stored", || stored().len() == ROUND);
        nats.signal("STOP");
        for round in 1..=5 {
            send(round);
            let last = format!("{device} {}", round * ROUND + ROUND - 1);
            wait_until("the messages are recorded", || {
                chunk_with(&record, &last).is_some()
            });
        }
        thread::sleep(Duration::from_millis(200));
        match is_sealed {
            true => drop(server.stop()),
            false => {
                server.process.signal("KILL");
                drop(server);
            }
        }
        // All chunks of the round.
        for number in lost * ROUND..(lost + 1) * ROUND {
            if let Some((path, offset, len)) = chunk_with(&record, &format!("{device} {number}")) {
                let mut bytes = fs::read(&path).expect("a file");
                bytes[offset..offset + len].fill(0);
                fs::write(&path, bytes).expect("a file");
            }
        }
        nats.signal("CONT");
        server = start();
        sender.write(b"");
        let ended = sender.end();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        // Everything was acknowledged, so it is in the cluster, once.
        let mut numbers: Vec<_> = stored().into_iter().map(|(_, number, _)| number).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..6 * ROUND as u64).collect::<Vec<_>>(), "{lost}");
        let (log, _) = server.stop();
        let is_reported = log.stderr.contains("cannot be read");
        assert!(is_reported || !is_sealed, "{lost}: {}", log.stderr);
        // Apart from the damage, the recording is sound.
        let verified = run(&["verify", record.to_str().expect("UTF-8")], b"");
        let sessions = verified.stdout_text();
        assert!(sessions.contains(", nothing missing"), "{sessions}");
        assert!(!sessions.contains(" twice: "), "{sessions}{}", log.stderr);
    }
}

/// The chunk of a recording with a message: its file, offset and length.
fn chunk_with(record: &Path, message: &str) -> Option<(PathBuf, usize, usize)> {
    let files = list_directory(record).ok()?;
    files.into_iter().find_map(|file| {
        let mut scan = Scan::open(&file.path, file.is_open).ok()?;
        while let Some(found) = scan.advance().ok()? {
            if let Found::Chunk(chunk) = found {
                let mut messages = chunk.records().filter_map(|(_, raw)| raw.message());
                if messages.any(|(_, data)| data == message.as_bytes()) {
                    let (offset, len) = (chunk.offset, chunk.bytes.len());
                    return Some((file.path, usize::try_from(offset).ok()?, len));
                }
            }
        }
        None
    })
}
