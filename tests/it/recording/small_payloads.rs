//! Connections and series with one byte of payload each: every message is recorded, and events only as far as payload pays
//! for them.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};

use blocksd_tests::process::{Server, run, wait_until};
use blocksd_tests::scrape::sample;
use serde_json::Value;

use super::budgets::{CONSTANT, Recorded, Recorder, localhost, visit, visits};

/// Documented bound: recorded bytes for each byte on the wire.
const FACTOR: u64 = 48;

/// The events that `read` prints.
fn read(recorded: &Recorded) -> Vec<Value> {
    let path = recorded.folder.path().to_str().unwrap();
    let read = run(&["read", path, "--output", "json"], b"");
    assert_eq!(read.code, Some(0), "{}", read.stderr);
    let text = read.stdout_text();
    let events = text.lines().map(serde_json::from_str);
    events.collect::<Result<_, _>>().unwrap()
}

/// The number of an event's connection; 0 if it is unknown.
fn conn(event: &Value) -> u64 {
    event.get("conn").map_or(0, |conn| conn.as_u64().unwrap())
}

fn is(event: &Value, kind: &str) -> bool {
    event["event"] == kind
}

#[test]
fn connections_of_one_byte_are_counted_and_their_messages_are_recorded() {
    const COUNT: u32 = 2_000;
    let wire = b"\0\0\0\x01x";
    let recorder = Recorder::start(&[]);
    visits(COUNT, localhost, recorder.server.addr(), wire);
    let recorded = recorder.end();
    assert_eq!(recorded.messages.len(), COUNT as usize);
    let sent = u64::from(COUNT) * wire.len() as u64;
    recorded.assert_bounded(CONSTANT + FACTOR * sent, "a byte a connection");
    // As many as there are tokens for: an open, a close, and the fault of the truncated series.
    let opens = recorded.count("open");
    assert!((10..100).contains(&opens), "{opens}");
    recorded.assert_balanced();

    // Each is the first message of its connection, whether the open is recorded or not.
    let events = read(&recorded);
    let messages = events.iter().filter(|event| is(event, "block"));
    let mut conns: Vec<_> = messages
        .inspect(|message| assert_eq!(message["seq"], 0, "{message}"))
        .map(conn)
        .collect();
    conns.sort_unstable();
    assert!(conns.into_iter().eq(1..=u64::from(COUNT)));

    // `replay` sends all of them again.
    let server = Server::start(&[]);
    let (path, to) = (recorded.folder.path(), server.addr().to_string());
    let args = [
        "replay",
        path.to_str().unwrap(),
        "--to",
        &to,
        "--speed",
        "max",
    ];
    let replayed = run(&args, b"");
    assert_eq!(replayed.code, Some(0), "{}", replayed.stderr);
    assert_eq!(server.stop().0.totals()["block"], u64::from(COUNT));
}

#[test]
fn series_of_one_byte_are_counted_and_their_messages_are_recorded() {
    const COUNT: usize = 10_000;
    let wire = b"\0\0\0\x01x\0\0\0\0".repeat(COUNT);
    let recorder = Recorder::start(&["--after-end", "continue"]);
    visit(Ipv4Addr::LOCALHOST, recorder.server.addr(), &wire);
    let recorded = recorder.end();
    assert_eq!(recorded.messages.len(), COUNT);
    assert!(recorded.suppressed()["ends"] > 9_000);
    // One byte of payload pays for 16 recorded bytes, and a message takes 48.
    recorded.assert_bounded(CONSTANT + 65 * COUNT as u64, "a byte a series");
    recorded.assert_balanced();
}

#[test]
fn lines_of_devices_that_reconnect_for_each_line_are_all_recorded() {
    // More than there are tokens for, at full speed.
    let line = b"t=21.5 rh=40.2 p=1013.2 u=3.3\n";
    let recorder = Recorder::start(&["--framing", "lines"]);
    visits(3_000, localhost, recorder.server.addr(), line);
    let recorded = recorder.end();
    assert_eq!(recorded.messages.len(), 3_000);
    let words = recorded.suppressed();
    assert_eq!(words.keys().collect::<Vec<_>>(), ["connections"]);
    // A device with 32 bytes of payload is recorded event by event.
    let recorder = Recorder::start(&["--framing", "lines"]);
    let line = b"t=21.5 rh=40.2 p=1013.2 u=3.3 n=1\n";
    visits(1_000, localhost, recorder.server.addr(), line);
    let recorded = recorder.end();
    assert!(recorded.suppressed().is_empty());
    assert_eq!(recorded.count("open"), 1_000);
    recorded.assert_balanced();
}

#[test]
fn a_message_without_a_recorded_open_has_its_own_connection() {
    let recorder = Recorder::start(&["--metrics", "127.0.0.1:0"]);
    let to = recorder.server.addr();
    let connect = || TcpStream::connect(to).unwrap();
    let send = |stream: &mut TcpStream, payload: &[u8], count: f64| {
        let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
        stream.write_all(&[&len[..], payload].concat()).unwrap();
        wait_until("the message is received", || {
            sample(&recorder.server, "blocksd_blocks_total") == count
        });
    };
    let mut first = connect();
    send(&mut first, b"a", 1.0);
    // All tokens are used.
    visits(100, localhost, to, b"");
    let mut second = connect();
    send(&mut second, b"b", 2.0);
    // Its payload pays for its open later.
    send(&mut second, &[b'c'; 40], 3.0);
    for stream in [&second, &first] {
        stream.shutdown(Shutdown::Write).unwrap();
        let mut stream = stream;
        stream.read_to_end(&mut Vec::new()).unwrap();
    }
    let recorded = recorder.end();
    recorded.assert_balanced();
    let events = read(&recorded);
    let messages = events.iter().filter(|event| is(event, "block"));
    let origins: Vec<_> = messages.map(|it| (conn(it), &it["seq"])).collect();
    assert_eq!(
        origins,
        [(1, &0.into()), (102, &0.into()), (102, &1.into())]
    );
    let own = events.iter().filter(|event| conn(event) == 102);
    let own: Vec<_> = own.map(|event| event["event"].as_str().unwrap()).collect();
    assert!(own.contains(&"open") && own.contains(&"close"), "{own:?}");
}
