//! Bounds on the recording and the log: strangers cannot fill them, and the counts are complete.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use blocksd_tests::chaos::wire::connect_from;
use blocksd_tests::process::{DEADLINE, Ended, Server, run};
use blocksd_tests::recorded::sealed;
use mcap::MessageStream;
use serde_json::Value;
use socket2::SockRef;
use tempfile::TempDir;

/// The first bytes of TLS, HTTP and SSH.
const TLS: &[u8] = b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\x51\xa9\x13\x0c\x77\x2e\x90\xf4";
const HTTP: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
const SSH: &[u8] = b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n";

/// Bytes for the events in the burst of one address, and for the fixed parts of each file.
pub(crate) const CONSTANT: u64 = 48 << 10;
/// Bytes a second for further events, counts, and their chunks.
const A_SECOND: u64 = 4 << 10;

/// A daemon that records.
pub(crate) struct Recorder {
    folder: TempDir,
    pub(crate) server: Server,
    begun: Instant,
}

/// A recording, and the result of its daemon.
pub(crate) struct Recorded {
    pub(crate) folder: TempDir,
    ended: Ended,
    /// Total size of its files.
    bytes: u64,
    /// Run time of the daemon.
    took: Duration,
    /// Topic, sequence number and content of each message of a device.
    pub(crate) messages: Vec<(String, u32, Vec<u8>)>,
    pub(crate) events: Vec<Value>,
}

impl Recorder {
    pub(crate) fn start(args: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        let path = folder.path().to_str().unwrap();
        let args = [args, &["--record", path, "--output", "none"]].concat();
        Self {
            server: Server::start(&args),
            folder,
            begun: Instant::now(),
        }
    }

    pub(crate) fn end(self) -> Recorded {
        let (ended, _) = self.server.stop();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let took = self.begun.elapsed();
        let mut recorded = Recorded {
            ended,
            bytes: 0,
            took,
            messages: Vec::new(),
            events: Vec::new(),
            folder: self.folder,
        };
        let path = recorded.folder.path().to_owned();
        recorded.read(&path);
        recorded
    }
}

impl Recorded {
    fn read(&mut self, folder: &Path) {
        for file in sealed(folder) {
            let bytes = std::fs::read(file).unwrap();
            self.bytes += bytes.len() as u64;
            for message in MessageStream::new(&bytes).unwrap() {
                let message = message.unwrap();
                let topic = message.channel.topic.clone();
                if topic == "/blocksd/events" {
                    self.events
                        .push(serde_json::from_slice(&message.data).unwrap());
                } else {
                    let data = message.data.to_vec();
                    self.messages.push((topic, message.sequence, data));
                }
            }
        }
    }

    pub(crate) fn count(&self, kind: &str) -> u64 {
        let of = self.events.iter().filter(|event| event["event"] == kind);
        of.count() as u64
    }

    /// The sums over all `suppressed` events.
    pub(crate) fn suppressed(&self) -> BTreeMap<String, u64> {
        let mut sums = BTreeMap::new();
        for event in self.events.iter() {
            if event["event"] == "suppressed" {
                for (key, value) in event.as_object().unwrap() {
                    let is_count = !["conn", "seq"].contains(&key.as_str());
                    if let Some(count) = value.as_u64().filter(|_| is_count) {
                        *sums.entry(key.clone()).or_default() += count;
                    }
                }
            }
        }
        sums
    }

    /// Asserts that the recorded events and counts add up to the daemon's totals, and that `verify` finds no error.
    #[track_caller]
    pub(crate) fn assert_balanced(&self) {
        let (totals, sums) = (self.ended.totals(), self.suppressed());
        let sum = |words: &[&str]| -> u64 { words.iter().filter_map(|word| sums.get(*word)).sum() };
        let faults = [
            "too_long",
            "bad_length",
            "bad_ending",
            "bad_checksum",
            "truncated",
            "reset",
        ];
        let blocks = self.messages.iter();
        let blocks = blocks.filter(|(topic, ..)| topic.ends_with("/blocks"));
        for (what, recorded, total) in [
            (
                "opens",
                self.count("open") + sum(&["connections"]),
                "connection",
            ),
            (
                "closes",
                self.count("close") + sum(&["connections"]),
                "connection",
            ),
            ("series", self.count("end") + sum(&["ends"]), "serie"),
            ("faults", self.count("fault") + sum(&faults), "fault"),
            ("messages", blocks.count() as u64 + sum(&["empty"]), "block"),
        ] {
            assert_eq!(recorded, totals[total], "{what}: {sums:?}, {totals:?}");
        }
        let verified = run(&["verify", self.folder.path().to_str().unwrap()], b"");
        assert_eq!(verified.code, Some(0), "{verified:?}");
    }

    /// Asserts that the recording is bounded by a constant and a rate.
    #[track_caller]
    pub(crate) fn assert_bounded(&self, constant: u64, what: &str) {
        let most = constant + A_SECOND * (self.took.as_secs() + 1);
        let (bytes, took) = (self.bytes, self.took);
        eprintln!("{what}: {bytes} bytes recorded in {took:?}");
        assert!(bytes < most, "{what}: {bytes} bytes recorded in {took:?}");
    }

    /// Number of lines about peers on standard error.
    fn lines(&self) -> usize {
        let lines = self.ended.stderr.lines();
        lines.filter(|line| line.contains("WARN")).count()
    }
}

/// Connects, sends this, and waits until the daemon has read everything and closed.
pub(crate) fn visit(from: Ipv4Addr, to: SocketAddr, wire: &[u8]) {
    let Some(mut stream) = connect_from(from, to) else {
        panic!("it listens")
    };
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    // Fails if the daemon has already closed.
    stream.write_all(wire).ok();
    stream.shutdown(Shutdown::Write).ok();
    stream.read_to_end(&mut Vec::new()).ok();
    // A reset, so that no port stays in TIME_WAIT.
    SockRef::from(&stream)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
}

/// Makes this number of visits, on a few threads.
pub(crate) fn visits(
    count: u32,
    from: impl Fn(u32) -> Ipv4Addr + Sync,
    to: SocketAddr,
    wire: &[u8],
) {
    const THREADS: u32 = 8;
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let from = &from;
            scope.spawn(move || {
                for number in (thread..count).step_by(THREADS as usize) {
                    visit(from(number), to, wire);
                }
            });
        }
    });
}

pub(crate) fn localhost(_: u32) -> Ipv4Addr {
    Ipv4Addr::LOCALHOST
}

/// Loopback address `number` of 65,536.
fn elsewhere(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 99, 0, 0)) + number)
}

#[test]
fn a_flood_without_payload_is_recorded_as_counts() {
    for (args, unit) in [
        // Truncated groups, empty messages, empty series.
        (&["--framing", "cobs"][..], &b"\x05\0"[..]),
        (&["--framing", "cobs"], b"\x01\0"),
        (&["--framing", "lines"], b"\n"),
        (&["--framing", "delimited:0d0a"], b"\r\n"),
        (&["--framing", "length:u8"], b"\0"),
        (&["--framing", "netstring"], b"0:,"),
        (&["--after-end", "continue"], b"\0\0\0\0"),
        // Messages over the limit.
        (&["--framing", "length:u8", "--max-block", "1"], b"\x02xx"),
        (&["--framing", "lines", "--max-block", "1"], b"xx\n"),
    ] {
        let recorder = Recorder::start(args);
        let wire = unit.repeat(300_000 / unit.len());
        visit(Ipv4Addr::LOCALHOST, recorder.server.addr(), &wire);
        let recorded = recorder.end();
        recorded.assert_bounded(CONSTANT, &format!("{args:?} {unit:?}"));
        recorded.assert_balanced();
        assert_eq!((recorded.count("open"), recorded.count("close")), (1, 1));
    }
}

#[test]
fn small_segments_do_not_evade_the_budget() {
    for (framing, unit) in [("lines", &b"\n\n"[..]), ("cobs", b"\x05\0\x01\0")] {
        let recorder = Recorder::start(&["--framing", framing]);
        let mut stream = recorder.server.connect();
        for _ in 0..5_000 {
            stream.write_all(unit).unwrap();
        }
        stream.shutdown(Shutdown::Write).unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap();
        let recorded = recorder.end();
        recorded.assert_bounded(CONSTANT, framing);
        recorded.assert_balanced();
    }
}

#[test]
fn connections_without_payload_are_recorded_and_logged_within_limits() {
    for (what, wire) in [
        ("port scan", &b""[..]),
        ("one bad byte", b"\xff"),
        ("empty series", b"\0\0\0\0"),
        ("TLS", TLS),
        ("HTTP", HTTP),
        ("SSH", SSH),
        ("bytes after the end", b"\0\0\0\0x"),
        ("too long to skip", b"\xff\xff\xff\xff"),
    ] {
        let recorder = Recorder::start(&[]);
        let to = recorder.server.addr();
        visits(500, localhost, to, wire);
        // Meanwhile an honest device from another address, which is cut in its second message.
        visit(
            elsewhere(1),
            to,
            b"\0\0\0\x0bhonest data\0\0\0\x04data, cut"
                .get(..22)
                .unwrap(),
        );
        visits(500, localhost, to, wire);
        let recorded = recorder.end();
        recorded.assert_bounded(CONSTANT, what);
        recorded.assert_balanced();
        let honest = recorded.events.iter();
        let honest = honest.filter(|event| event["device"] == elsewhere(1).to_string());
        let honest: Vec<_> = honest
            .map(|event| event["event"].as_str().unwrap())
            .collect();
        assert_eq!(honest, ["open", "piece", "fault", "close"], "{what}");
        assert!(recorded.lines() < 100, "{what}: {} lines", recorded.lines());
        assert!(
            recorded.ended.stderr.contains(&elsewhere(1).to_string()),
            "{what}: the fault of the honest device is not logged"
        );
    }
}

#[test]
fn strangers_from_many_addresses_share_one_limit() {
    let recorder = Recorder::start(&[]);
    visits(3_000, elsewhere, recorder.server.addr(), b"\xff");
    // A device with payload is recorded completely: 44 bytes pay for an open, a close and an end.
    visits(
        20,
        |number| elsewhere(4_000 + number),
        recorder.server.addr(),
        &[&[0, 0, 0, 44][..], &[b'x'; 44], &[0; 4]].concat(),
    );
    let recorded = recorder.end();
    recorded.assert_bounded(320 << 10, "3000 addresses");
    recorded.assert_balanced();
    for number in 0..20 {
        let device = elsewhere(4_000 + number).to_string();
        let own = recorded
            .events
            .iter()
            .filter(|event| event["device"] == device);
        let own: Vec<_> = own.map(|event| event["event"].as_str().unwrap()).collect();
        assert_eq!(own, ["open", "end", "close"]);
    }
    assert!(recorded.lines() < 250, "{}", recorded.lines());
}

#[test]
fn ten_thousand_connections_with_a_bad_byte_give_few_lines_and_a_count() {
    let recorder = Recorder::start(&["--metrics", "127.0.0.1:0"]);
    let metrics = blocksd_tests::scrape::addr(&recorder.server);
    visits(10_000, localhost, recorder.server.addr(), b"\xff");
    let page = blocksd_tests::scrape::get(metrics, "/metrics").body;
    let samples = blocksd_tests::scrape::samples(&page);
    let recorded = recorder.end();
    recorded.assert_bounded(CONSTANT, "10000 connections");
    recorded.assert_balanced();
    let text = &recorded.ended.stderr;
    assert!(text.lines().count() < 200, "{} lines", text.lines().count());
    let suppressed: u64 = text.lines().filter_map(suppressed_lines).sum();
    assert_eq!(recorded.lines() as u64 + suppressed, 10_000, "{text}");
    let metric = samples["blocksd_log_suppressed_lines_total{kind=\"fault\"}"] as u64;
    assert_eq!(metric, suppressed);
    let metric = "blocksd_record_events_suppressed_total{kind=\"connection\"}";
    assert!(samples.contains_key(metric), "{page}");
}

/// The number in a log line that counts suppressed lines.
fn suppressed_lines(line: &str) -> Option<u64> {
    let (count, _) = line
        .strip_prefix("blocksd: ")?
        .split_once(" lines about peers")?;
    count.parse().ok()
}

#[test]
fn payload_pays_for_the_events_around_it() {
    // A series on each connection, and a connection with an end after each message: more than the tokens allow. 44 bytes of
    // payload pay for an open, a close and an end; 12 for an end.
    let recorder = Recorder::start(&["--after-end", "continue"]);
    let to = recorder.server.addr();
    let series = |len: u8| [&[0, 0, 0, len], vec![b'x'; len.into()].as_slice(), &[0; 4]].concat();
    visits(300, localhost, to, &series(44));
    let wire = [series(44), series(12).repeat(999)].concat();
    visit(Ipv4Addr::LOCALHOST, to, &wire);
    // They did not use the tokens of their address.
    visit(Ipv4Addr::LOCALHOST, to, b"\xff");
    let recorded = recorder.end();
    assert_eq!(recorded.suppressed(), BTreeMap::new());
    assert_eq!(
        (recorded.count("open"), recorded.count("end")),
        (302, 1_300)
    );
    assert_eq!(recorded.count("fault"), 1);
    recorded.assert_balanced();

    // A noisy device: a fault after each message.
    let recorder = Recorder::start(&["--framing", "cobs"]);
    let unit = b"\x14nineteen bytes long\0\x05\0";
    visit(
        Ipv4Addr::LOCALHOST,
        recorder.server.addr(),
        &unit.repeat(1_000),
    );
    let recorded = recorder.end();
    assert_eq!(recorded.suppressed(), BTreeMap::new());
    assert_eq!(
        (recorded.messages.len(), recorded.count("fault")),
        (1_000, 1_000)
    );
    recorded.assert_balanced();
}

#[test]
fn the_recorded_bytes_per_payload_byte_are_bounded() {
    for (framing, unit) in [
        ("lines", &b"x\n"[..]),
        ("lines", b"x\n\n"),
        ("lines", b"x\n\n\n\n\n"),
        ("lines", b"x\n\n\n\n\n\n"),
        ("cobs", b"\x02x\0\x05\0"),
        ("cobs", b"\x02x\0\x05\0\x01\0"),
        ("fixed:1", b"x"),
        ("length:u8", b"\x01x\0\0\0\0\0\0"),
    ] {
        let recorder = Recorder::start(&["--framing", framing]);
        let wire = unit.repeat(60_000 / unit.len());
        visit(Ipv4Addr::LOCALHOST, recorder.server.addr(), &wire);
        let recorded = recorder.end();
        let what = format!("{framing} {unit:?}");
        recorded.assert_bounded(CONSTANT + 48 * wire.len() as u64, &what);
        recorded.assert_balanced();
    }
}

#[test]
fn empty_messages_between_others_keep_their_position() {
    let recorder = Recorder::start(&["--framing", "lines"]);
    let mut wire = b"a\n".to_vec();
    wire.extend(b"\n".repeat(1_000));
    wire.extend(b"b\n\n\nc\n");
    visit(Ipv4Addr::LOCALHOST, recorder.server.addr(), &wire);
    let recorded = recorder.end();
    let messages = recorded.messages.iter();
    let messages: Vec<_> = messages
        .map(|(_, sequence, data)| (*sequence, data.as_slice()))
        .collect();
    // A few empty messages take less space one by one.
    assert_eq!(
        messages,
        [
            (0, &b"a"[..]),
            (1_001, b"b"),
            (1_002, b""),
            (1_003, b""),
            (1_004, b"c")
        ]
    );
    let note = recorded.events.iter();
    let note = note.filter(|event| event["event"] == "suppressed");
    let note: Vec<_> = note.collect();
    assert_eq!(
        (note.len(), &note[0]["seq"], &note[0]["empty"]),
        (1, &1.into(), &1_000.into())
    );
    recorded.assert_balanced();

    // `read` shows the counts, as JSON and as text.
    let path = recorded.folder.path().to_str().unwrap();
    let read = run(&["read", path, "--output", "json"], b"");
    let read: Vec<Value> = read
        .stdout_text()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(read.contains(note[0]), "{read:?}");
    let read = run(&["read", path], b"").stdout_text();
    assert!(
        read.contains("#1 recorded as counts only: 1000 empty"),
        "{read}"
    );
}

#[test]
fn an_open_without_tokens_is_recorded_once_there_are_tokens() {
    let recorder = Recorder::start(&[]);
    let to = recorder.server.addr();
    visits(50, localhost, to, b"");
    let mut silent = recorder.server.connect();
    // A connection needs two tokens; one returns every 2 s, and the daemon checks every 5 s.
    thread::sleep(Duration::from_secs(11));
    silent.write_all(b"\xff").unwrap();
    silent.shutdown(Shutdown::Write).unwrap();
    silent.read_to_end(&mut Vec::new()).unwrap();
    let recorded = recorder.end();
    recorded.assert_balanced();
    let own = recorded.events.iter().filter(|event| event["conn"] == 51);
    let own: Vec<_> = own.map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!(own.first(), Some(&"open"), "{own:?}");
    assert_eq!(own.last(), Some(&"close"), "{own:?}");
    assert!(recorded.suppressed()["connections"] < 50);
}

#[test]
fn counts_are_written_while_the_flood_goes_on() {
    let recorder = Recorder::start(&["--framing", "lines", "--metrics", "127.0.0.1:0"]);
    let metrics = blocksd_tests::scrape::addr(&recorder.server);
    let mut stream = recorder.server.connect();
    let until = Instant::now() + DEADLINE;
    let name = "blocksd_record_events_suppressed_total{kind=\"empty\"}";
    loop {
        stream.write_all(&b"\n".repeat(100)).unwrap();
        let samples =
            blocksd_tests::scrape::samples(&blocksd_tests::scrape::get(metrics, "/metrics").body);
        if samples[name] > 10_000.0 {
            break;
        }
        assert!(Instant::now() < until, "{samples:?}");
        thread::sleep(Duration::from_millis(10));
    }
    stream.shutdown(Shutdown::Write).unwrap();
    stream.read_to_end(&mut Vec::new()).unwrap();
    recorder.end().assert_balanced();
}
