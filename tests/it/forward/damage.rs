//! Damage on the disk before messages are forwarded: a device that waits for the cluster sends them again.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime};

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
/// Long messages, of several files.
const LONG: usize = 300;
/// One of them that is not on its way to the cluster, of which a message has up to 256 KiB.
const LOST: usize = 200;
/// Earlier sessions.
const EARLIER: usize = 18;

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
        // The repair of a torn file keeps what comes after the lost part, and the session goes on before it: that is there
        // twice, and explained.
        assert!(!sessions.contains(" twice: "), "{sessions}{}", log.stderr);
    }
}

/// What is left of a file that is not forwarded.
#[derive(Clone, Copy, Debug)]
enum Left {
    /// The file is missing.
    Nothing,
    /// The file is empty.
    NoByte,
    /// It ends after a record, long before its end.
    SomeRecords,
}

#[test]
fn messages_of_a_file_that_is_lost_without_a_trace_come_again() {
    let name = "messages_of_a_file_that_is_lost_without_a_trace_come_again";
    let nats = match NatsServer::start() {
        Ok(server) => server,
        Err(reason) => return skipped(name, &reason),
    };
    for left in [Left::Nothing, Left::NoByte, Left::SomeRecords] {
        let device = format!("pump-{left:?}");
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
            "--record-rotate-size",
            "64KiB",
        ];
        let start = || serve(&record, &forward, &options);
        let stored = || {
            let mut messages = forwarded(&nats.url(), "blocksd");
            messages.remove(&device).unwrap_or_default()
        };
        let mut server = start();
        let send = || {
            let mut command = blocksd(&["send", "--session", "--device", &device, "--to", &to]);
            command.args(["--connect-timeout", "60"]);
            Process::start(command)
        };
        // More sessions of the device than a message of the stream names.
        for _ in 0..EARLIER {
            let mut earlier = send();
            earlier.write(b"earlier\n");
            assert_eq!(earlier.end().code, Some(0));
        }
        nats.signal("STOP");
        let mut sender = send();
        for number in 0..LONG {
            let message = long_message(&device, number);
            sender.write_part(message.as_bytes());
            if number % 50 == 49 {
                wait_until("the messages are recorded", || {
                    chunk_with(&record, message.trim_end()).is_some()
                });
            }
        }
        let files = list_directory(&record).expect("a folder").len();
        assert!(2 < files, "{files} files");
        server.process.signal("KILL");
        drop(server);
        let lost = long_message(&device, LOST);
        let (path, offset, _) = chunk_with(&record, lost.trim_end()).expect("it is recorded");
        let bytes = fs::read(&path).expect("a file");
        match left {
            Left::Nothing => fs::remove_file(&path).expect("a file"),
            Left::NoByte => fs::write(&path, b"").expect("a file"),
            Left::SomeRecords => fs::write(&path, &bytes[..offset]).expect("a file"),
        }
        if path.exists() {
            // A file that was changed a moment ago may be one that grows.
            let file = fs::File::open(&path).expect("a file");
            let old = SystemTime::now() - Duration::from_secs(60);
            file.set_modified(old).expect("a file");
        }
        nats.signal("CONT");
        server = start();
        sender.write(b"");
        let ended = sender.end();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        // Everything was acknowledged, so it is in the cluster, once.
        let texts = stored().into_iter();
        let mut texts: Vec<_> = texts.map(|(.., text)| text).collect();
        texts.retain(|it| it != b"earlier");
        texts.sort();
        let wanted = (0..LONG).map(|number| long_message(&device, number));
        let mut wanted: Vec<_> = wanted.map(|it| it.trim_end().as_bytes().to_vec()).collect();
        wanted.sort();
        assert_eq!(texts.len(), wanted.len(), "{left:?}");
        assert!(texts == wanted, "{left:?}");
        let (log, _) = server.stop();
        assert!(
            log.stderr.contains("cannot be read"),
            "{left:?}: {}",
            log.stderr
        );
    }
}

/// A line of 2 KiB.
fn long_message(device: &str, number: usize) -> String {
    format!("{device} {number:06} {:.>2000}\n", "")
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
