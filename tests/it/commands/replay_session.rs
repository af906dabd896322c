//! `blocksd replay --session`: each recorded message is recorded once again, under its device; and without `--session`, no
//! recorded HELLO opens a session.

use std::io::Read as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::thread;

use blocksd_tests::process::{Ended, Process, Server, blocksd, run};
use blocksd_tests::recording::{BEGIN, File, STEP, put};
use blocksd_tests::reserved_port::ReservedPort;
use blocksd_tests::session_host::{ConnectionPlan, RecordingHost, SessionHost};
use blocksd_tests::session_peer::SessionPeer;
use framing_core::session::wire::{ClosingCode, MAGIC};
use tempfile::TempDir;

const BLOCKS: (&str, &str) = ("blocks", "raw");

/// Recorded names of devices, and their device ids.
const DEVICES: [(&str, &str); 4] = [
    ("127.0.0.1", "127.0.0.1"),
    ("[::1]:4000", "-::1-:4000"),
    ("pump 7/ü", "pump-7--"),
    ("boiler-7", "boiler-7"),
];

fn replay(path: &Path, to: &str, more: &[&str]) -> Ended {
    let path = path.to_str().unwrap();
    let args = ["replay", path, "--to", to, "--speed", "max"];
    run(&[&args[..], more].concat(), b"")
}

fn over_session(path: &Path, host: &SessionHost) -> Ended {
    replay(path, &host.address().to_string(), &["--session"])
}

fn message(device: &str, number: usize) -> Vec<u8> {
    format!("{device} says {number}").into_bytes()
}

/// A recording of `count` messages of each device, in three connections one after the other; the open of the last one is not
/// recorded.
fn recording(count: usize) -> (TempDir, PathBuf) {
    let mut file = File::begin(None, false);
    let mut time = BEGIN;
    let mut event = |file: &mut File, event: &str, conn: usize, device: &str, more: &str| {
        let json = format!(r#"{{"event":"{event}","conn":{conn},"device":"{device}"{more}}}"#);
        time += STEP;
        file.event(time, &json);
        time
    };
    for part in 0..3 {
        for (index, (device, _)) in DEVICES.iter().enumerate() {
            let conn = 1 + 3 * index + part;
            if part < 2 {
                event(
                    &mut file,
                    "open",
                    conn,
                    device,
                    r#","peer":"127.0.0.1:4000""#,
                );
            }
        }
        for number in part * count / 3..(part + 1) * count / 3 {
            for (device, _) in DEVICES {
                file.block(
                    device,
                    number as u32,
                    BEGIN + STEP,
                    &message(device, number),
                );
            }
        }
        for (index, (device, _)) in DEVICES.iter().enumerate() {
            let conn = 1 + 3 * index + part;
            event(&mut file, "end", conn, device, r#","blocks":1"#);
            let more = r#","blocks":1,"bytes":1,"reason":"eof""#;
            event(&mut file, "close", conn, device, more);
        }
    }
    seal(file)
}

fn seal(file: File) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = put(folder.path(), 1, "mcap", &file.seal());
    (folder, path)
}

#[track_caller]
fn assert_recorded(host: &mut dyn RecordingHost, count: usize) {
    for (device, id) in DEVICES {
        let wanted: Vec<_> = (0..count).map(|number| message(device, number)).collect();
        let recorded = host.recorded(id);
        assert!(recorded == wanted, "{device}: {} messages", recorded.len());
    }
}

#[test]
fn every_message_is_recorded_once_under_its_device() {
    let (_folder, path) = recording(60);
    let cut = |after, loses_acks| ConnectionPlan {
        loses_acks,
        ..ConnectionPlan::cut(after)
    };
    let again = ConnectionPlan::close(3, ClosingCode::Again);
    for plans in [
        Vec::new(),
        vec![
            cut(0, false),
            cut(7, false),
            cut(9, true),
            again.clone(),
            again,
            cut(1, false),
        ],
    ] {
        let mut host = SessionHost::start(4, plans);
        let ended = over_session(&path, &host);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(ended.stderr.contains("replayed 240 messages"), "{ended:?}");
        assert_recorded(&mut host, 60);
    }
}

#[test]
fn a_refused_or_interrupted_session_ends_the_replay_with_an_error() {
    let (_folder, path) = recording(60);
    let refusing = ConnectionPlan::close(0, ClosingCode::NoSession);
    let host = SessionHost::start(4, vec![refusing; 20]);
    let ended = over_session(&path, &host);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    let last = ended.stderr.lines().last().unwrap();
    assert!(last.contains("it has no sessions here"), "{ended:?}");
    // Nothing listens there.
    let closed = ReservedPort::take();
    let address = closed.address().to_string();
    let ended = replay(&path, &address, &["--session"]);
    assert_eq!(ended.code, Some(75), "{ended:?}");
    let both = ["--session", "--framing", "blocks"];
    replay(&path, &address, &both).assert_refused(2, "--framing");
}

#[test]
fn an_interrupt_ends_a_replay_to_a_host_that_acknowledges_nothing() {
    let (_folder, path) = recording(60);
    let host = SessionHost::start(9, vec![ConnectionPlan::stall(1); 20]);
    let address = host.address().to_string();
    let path = path.to_str().unwrap();
    let args = [
        "replay",
        path,
        "--to",
        &address,
        "--speed",
        "max",
        "--session",
    ];
    let replaying = Process::start(blocksd(&args));
    host.wait_for_messages(DEVICES.len());
    replaying.signal("TERM");
    let ended = replaying.end();
    assert_eq!(ended.code, Some(1), "{ended:?}");
}

#[test]
fn messages_of_any_length_and_framing_are_sent_or_reported() {
    let long = vec![b'x'; 300_000];
    let mut file = File::begin(None, false);
    file.message("d", "blocks", ("lines", "raw"), 0, BEGIN, b"a line");
    file.message("d", "blocks", ("lines", "raw"), 1, BEGIN, b"");
    for (offset, len) in [(0, 200_000), (200_000, 100_000)] {
        let data = &long[offset..][..len];
        file.message("d", "pieces", ("lines", "raw"), offset as u32, BEGIN, data);
        let json = format!(
            r#"{{"event":"piece","conn":0,"device":"d","seq":2,"offset":{offset},"len":{len},"first":{},"last":{}}}"#,
            offset == 0,
            offset != 0
        );
        file.event(BEGIN, &json);
    }
    file.message("d", "blocks", BLOCKS, 3, BEGIN, &vec![b'y'; 400_000]);
    file.message("d", "blocks", BLOCKS, 4, BEGIN, b"the last");
    let (_folder, path) = seal(file);
    let mut host = SessionHost::start(1, []);
    host.set_block_max(350_000);
    let ended = over_session(&path, &host);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(
        ended
            .stderr
            .contains("recorded messages that were not sent: 2"),
        "{ended:?}"
    );
    assert!(
        ended
            .stderr
            .contains("messages left out: 2; the first has 0 bytes"),
        "{ended:?}"
    );
    let lens: Vec<_> = host.recorded("d").iter().map(Vec::len).collect();
    assert_eq!(lens, [6, long.len(), 8]);
}

#[test]
fn a_recorded_hello_opens_no_session() {
    let hello = [&MAGIC[..], &[7; 50]].concat();
    let mut file = File::begin(None, false);
    file.event(
        BEGIN,
        r#"{"event":"open","conn":1,"device":"d","peer":"127.0.0.1:4000"}"#,
    );
    for (sequence, data) in (0..).zip([&hello[..], &hello, b"one", &hello]) {
        file.block("d", sequence, BEGIN, data);
    }
    let (_folder, path) = seal(file);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let peer = thread::spawn(move || {
        let mut bytes = Vec::new();
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_to_end(&mut bytes).unwrap();
        bytes
    });
    let ended = replay(&path, &address, &[]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(
        ended
            .stderr
            .matches("the HELLO of an acknowledged session")
            .count(),
        2,
        "{ended:?}"
    );
    assert!(
        ended
            .stderr
            .contains("recorded messages that were not sent: 2"),
        "{ended:?}"
    );
    let wanted = [&b"\0\0\0\x03one\0\0\0\x3a"[..], &hello].concat();
    assert_eq!(peer.join().unwrap(), wanted);
    // Over a session, it is a message like any other.
    let mut host = SessionHost::start(1, []);
    let ended = over_session(&path, &host);
    assert_eq!(
        (ended.code, host.recorded("d").len()),
        (Some(0), 4),
        "{ended:?}"
    );
}

#[test]
fn every_series_of_a_recorded_session_is_sent_to_a_daemon_that_closes_after_one() {
    let record = |folder: &TempDir| {
        let folder = folder.path().to_str().unwrap();
        Server::start(&["--record", folder, "--output", "none"])
    };
    let (source, copy) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let server = record(&source);
    let (mut peer, welcome) = SessionPeer::open(server.addr(), "boiler", 0, 0, 0);
    for number in 0..5 {
        peer.cont(welcome.session, number);
        peer.message(&message("boiler", number as usize));
        peer.end();
        peer.wait_for_ack(number + 1);
    }
    drop(peer);
    server.stop();
    let server = record(&copy);
    let path = source.path();
    let ended = replay(path, &server.addr().to_string(), &[]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    server.stop();
    let read = run(
        &["read", copy.path().to_str().unwrap(), "--output", "raw"],
        b"",
    );
    let text = read.stdout_text();
    for number in 0..5 {
        let wanted = format!("boiler says {number}");
        assert_eq!(text.matches(&wanted).count(), 1, "{text}");
    }
}
