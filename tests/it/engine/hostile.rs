//! Faulty devices and other protocols: they affect only their own connection.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use blocksd_tests::framings::FRAMINGS;
use blocksd_tests::process::{Server, connect, finish};
use serde_json::Value;
use socket2::SockRef;

use super::serve::{SERIES, join, serve_every_framing};
use crate::commands::send::send;

/// The first bytes of a TLS handshake.
const TLS_HELLO: &[u8] = b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\x51\xa9\x13\x0c\x77\x2e\x90\xf4\
    \x0b\x8d\x5a\x36\xc1\xe7\x44\x19\xdf\x62\x0a\xb8\x73\x2c\x95\xee\x01\x48\x9f\xd3\x26\x7b\xb0\x05\x20";

const HTTP_GET: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n";

/// Sends these bytes and half-closes.
fn send_all(addr: SocketAddr, wire: &[u8]) -> TcpStream {
    let mut device = connect(addr);
    // Fails if the daemon has already closed, which some tests expect.
    device.write_all(wire).ok();
    device.shutdown(Shutdown::Write).ok();
    device
}

/// Asserts that a correct client still works, and that its events are right.
#[track_caller]
fn assert_honest_client_works(server: &mut Server) {
    let seen = server.events().len();
    let device = send_all(server.addr(), SERIES);
    let peer = Value::from(device.local_addr().unwrap().to_string());
    let opened = |event: &&Value| event["event"] == "open" && event["peer"] == peer;
    let events = server.wait(|events| events[seen..].iter().any(|event| opened(&event)));
    let conn = events[seen..].iter().find(opened).unwrap()["conn"]
        .as_u64()
        .unwrap();
    assert_eq!(
        server.story(conn),
        [
            "open",
            "block 0 len=30 \"Beautiful is better than ugly.\"",
            "block 1 len=33 \"Explicit is better than implicit.\"",
            "block 2 len=30 \"Simple is better than complex.\"",
            "end blocks=3",
            "close end blocks=3 bytes=93",
        ]
    );
}

/// The events of one connection that sends this and closes, to a daemon started with these arguments.
#[track_caller]
fn story(args: &[&str], wire: &[u8]) -> Vec<String> {
    let mut server = Server::start(args);
    let _device = send_all(server.addr(), wire);
    let story = server.story(1);
    let faults = story
        .iter()
        .filter(|line| line.starts_with("fault"))
        .count();
    assert_eq!(story[0], "open");
    let (ended, _) = server.stop();
    assert_eq!(ended.code, Some(0));
    assert_eq!(ended.totals()["fault"], faults as u64, "{story:?}");
    // Counted faults are logged too.
    let log = ended.stderr.lines().filter(|line| line.contains("WARN"));
    assert_eq!(log.count(), faults, "{}", ended.stderr);
    story[1..].to_vec()
}

#[test]
fn a_truncation_is_reported_with_its_place_and_length() {
    let hello = "block 0 len=5 \"hello\"";
    for (framing, wire, fault, kept) in [
        ("blocks", &b"\0\0"[..], "header have=2 want=4", ""),
        (
            "blocks",
            b"\0\0\0\x1eBeaut",
            "payload have=5 want=30",
            "Beaut",
        ),
        ("blocks", b"\0\0\0\x1e", "payload have=0 want=30", ""),
        ("blocks", b"\0\0\0\x05hello\0", "header have=1 want=4", ""),
        (
            "length:u16le",
            b"\x05\0hello\x05",
            "header have=1 want=2",
            "",
        ),
        (
            "netstring",
            b"5:hello,7:wor",
            "payload have=3 want=7",
            "wor",
        ),
        ("fixed:5", b"hellowor", "payload have=3 want=5", "wor"),
        ("lines", b"hello\nwor", "payload have=3 want=4", "wor"),
    ] {
        let mut wanted = Vec::new();
        let is_second = wire.windows(5).any(|part| part == b"hello");
        if is_second {
            wanted.push(hello.to_owned());
        }
        if !kept.is_empty() {
            let len = kept.len();
            wanted.push(format!(
                "piece offset=0 len={len} first=true last=false truncated=true \"{kept}\""
            ));
        }
        wanted.push(format!("fault truncated {fault}"));
        let (blocks, bytes) = if is_second { (1, 5) } else { (0, 0) };
        let is_open = is_second && framing == "blocks";
        let series = if is_open { " series=\"open\"" } else { "" };
        wanted.push(format!("close eof blocks={blocks} bytes={bytes}{series}"));
        assert_eq!(story(&["--framing", framing], wire), wanted, "{framing}");
    }
    // Only the end mark of the series is missing.
    assert_eq!(
        story(&[], b"\0\0\0\x05hello"),
        [hello, "close eof blocks=1 bytes=5 series=\"open\""]
    );
}

#[test]
fn a_connection_without_data_is_not_a_fault() {
    assert_eq!(story(&[], b""), ["close eof blocks=0 bytes=0"]);
    assert_eq!(
        story(&[], b"\0\0\0\0"),
        ["end blocks=0", "close end blocks=0 bytes=0"]
    );
}

const OVERSIZE: &[u8] = b"\0\0\0\x02ok\0\0\0\x0btoo long \0\0\0\0\0\x03yes\0\0\0\0";

#[test]
fn an_oversize_block_is_skipped_or_closes_or_is_streamed() {
    let fault = "fault too_long declared=11 limit=10 lost=false";
    let ok = "block 0 len=2 \"ok\"";
    let skipped = [
        ok,
        fault,
        "block 1 len=3 \"yes\"",
        "end blocks=2",
        "close end blocks=2 bytes=5",
    ];
    assert_eq!(story(&["--max-block", "10"], OVERSIZE), skipped);
    assert_eq!(
        story(&["--max-block", "10", "--oversize", "skip"], OVERSIZE),
        skipped
    );
    let closed = [ok, fault, "close limit blocks=1 bytes=2 series=\"open\""];
    assert_eq!(
        story(&["--max-block", "10", "--oversize", "close"], OVERSIZE),
        closed
    );

    let mut server = Server::start(&["--max-block", "10", "--oversize", "pieces"]);
    let _device = send_all(server.addr(), OVERSIZE);
    let story = server.story(1);
    assert!(
        !story.iter().any(|line| line.starts_with("fault")),
        "{story:?}"
    );
    let (_, events) = server.stop();
    let pieces: Vec<&Value> = events
        .iter()
        .filter(|event| event["event"] == "piece")
        .collect();
    assert_eq!(join(pieces.iter().copied()), b"too long \0\0");
    assert_eq!(pieces.last().unwrap()["last"], true);
    let texts = events.iter().filter(|event| event["event"] == "block");
    assert!(texts.map(|event| &event["text"]).eq(["ok", "yes"]));
}

#[test]
fn a_block_that_is_too_long_to_skip_is_reported_and_closes() {
    let wire = b"\0\0\0\x65 \0\0\0\x03yes\0\0\0\0";
    let limits = ["--max-block", "10", "--max-skip", "100"];
    let fault = "fault too_long declared=101 limit=10 lost=true";
    assert_eq!(
        story(&limits, wire),
        [fault, "close limit blocks=0 bytes=0"]
    );
    let lines = [&limits[..], &["--framing", "lines"]].concat();
    let begun = "fault too_long limit=10 lost=false";
    assert_eq!(
        story(&lines, &[b'x'; 200]),
        [begun, "close limit blocks=0 bytes=0"]
    );
}

#[test]
fn bytes_that_violate_the_framing_are_reported_and_close() {
    for (framing, wire, fault, close) in [
        (
            "netstring",
            &b"2:ok,05:hello,"[..],
            "bad_length found=53 offset=1",
            "fault blocks=1 bytes=2",
        ),
        (
            "netstring",
            b"2:ok,5:hello;",
            "bad_ending want=44 found=59",
            "fault blocks=1 bytes=2",
        ),
        (
            "octet-counted",
            b"2 ok-1 x",
            "bad_length found=45 offset=0",
            "fault blocks=1 bytes=2",
        ),
        (
            "length:varint",
            b"\x02ok\xff\xff\xff\xff\x7f",
            "bad_length found=127 offset=4",
            "fault blocks=1 bytes=2",
        ),
        (
            "cobs",
            b"\x03ok\0\x09abc\0",
            "bad_ending missing=5",
            "eof blocks=1 bytes=2",
        ),
    ] {
        let wanted = [
            "block 0 len=2 \"ok\"".to_owned(),
            format!("fault {fault}"),
            format!("close {close}"),
        ];
        assert_eq!(story(&["--framing", framing], wire), wanted, "{framing}");
    }
}

#[test]
fn other_protocols_at_the_port_are_a_clear_fault() {
    for (wire, fault) in [
        (
            TLS_HELLO,
            "fault too_long declared=369295618 limit=1048576 lost=true",
        ),
        (
            HTTP_GET,
            "fault too_long declared=1195725856 limit=1048576 lost=true",
        ),
        (
            b"\xff\xff\xff\xff",
            "fault too_long declared=4294967295 limit=1048576 lost=true",
        ),
    ] {
        assert_eq!(story(&[], wire), [fault, "close limit blocks=0 bytes=0"]);
    }
}

#[test]
fn random_bytes_do_no_harm_in_any_framing() {
    let mut server = serve_every_framing(&[]);
    // Xorshift, so that the garbage is the same in every run.
    let mut state: u32 = 0x1234_5678;
    let garbage: Vec<u8> = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[0]
    })
    .take(50_000)
    .collect();
    let strangers: [&[u8]; 6] = [
        &garbage,
        TLS_HELLO,
        HTTP_GET,
        &[0; 5000],
        &[0xff; 5000],
        b"\r\n",
    ];
    for framing in FRAMINGS.iter() {
        let addr = server.addr_of(framing);
        let devices = strangers.map(|wire| send_all(addr, wire));
        // The daemon closes each of them, with or without a fault.
        for mut device in devices {
            device.read_to_end(&mut Vec::new()).ok();
        }
    }
    server.wait_for("close", FRAMINGS.len() * strangers.len());
    let conns = FRAMINGS.len() * strangers.len();
    for (framing, conn) in FRAMINGS.iter().zip(conns as u64 + 1..) {
        let sent = finish(
            send(server.addr_of(framing), framing, &["Hi there, server"]),
            b"",
        );
        assert_eq!(sent.code, Some(0), "{framing}: {}", sent.stderr);
        let story = server.story(conn);
        let hello = "\"Hi there, server\"";
        assert!(story[1].ends_with(hello), "{framing}: {story:?}");
    }
    let (ended, _) = server.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}

#[test]
fn an_unfinished_header_disturbs_no_other_and_ends_by_the_idle_timeout() {
    let mut server = Server::start(&["--idle-timeout", "3"]);
    let mut stranger = server.connect();
    stranger.write_all(b"\0\0").unwrap();
    server.wait_for("open", 1);
    assert_honest_client_works(&mut server);
    let cut = "fault truncated header have=2 want=4";
    assert_eq!(
        server.story(1),
        ["open", cut, "close idle blocks=0 bytes=0"]
    );
    let (ended, _) = server.stop();
    assert_eq!(ended.totals()["fault"], 1);
}

#[test]
fn a_reset_is_reported_as_a_reset() {
    let mut server = Server::start(&[]);
    let mut device = server.connect();
    device.write_all(&SERIES[..34]).unwrap();
    server.wait_for("block", 1);
    SockRef::from(&device)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(device);
    assert_eq!(
        server.story(1).last().unwrap(),
        "close reset blocks=1 bytes=30 series=\"open\""
    );
    assert_honest_client_works(&mut server);
}

#[test]
fn a_connection_over_the_limit_is_refused_and_counted() {
    let mut server = Server::start(&["--max-connections", "2", "--reply", "receipt"]);
    // Whether the series gets its reply; not if the connection is closed or reset.
    let ask = |mut device: TcpStream| {
        device.write_all(SERIES).ok();
        let mut answer = Vec::new();
        device.read_to_end(&mut answer).ok();
        String::from_utf8_lossy(&answer).contains("{\"blocks\":3,\"bytes\":93}")
    };
    let [first, second] = [server.connect(), server.connect()];
    server.wait_for("open", 2);
    assert!(!ask(server.connect()), "the limit is reached");
    assert!(ask(first) && ask(second));
    // A place is free soon after its connection has ended.
    let mut refused = 1;
    while !ask(server.connect()) {
        refused += 1;
    }
    let (ended, _) = server.stop();
    assert!(ended.stderr.contains("refused: "), "{}", ended.stderr);
    assert_eq!(
        (ended.totals()["refused"], ended.totals()["block"]),
        (refused, 9)
    );
}

#[test]
fn two_thousand_silent_connections_are_only_counted() {
    let mut server = Server::start(&[]);
    for _ in 0..2000 {
        drop(server.connect());
    }
    assert_honest_client_works(&mut server);
    server.wait_for("close", 2001);
    let (ended, events) = server.stop();
    let silent = events
        .iter()
        .filter(|event| event["reason"] == "eof" && event["blocks"] == 0);
    assert_eq!(silent.count(), 2000);
    let totals = ended.totals();
    assert_eq!(
        (totals["connection"], totals["fault"], totals["block"]),
        (2001, 0, 3)
    );
}

#[test]
fn a_declared_length_takes_no_memory() {
    for (args, header, closes) in [
        (&[][..], [0xff; 4], true),
        (&["--max-skip", "4294967295"], [0xff; 4], false),
        (&["--oversize", "pieces"], [0xff; 4], false),
        // The longest allowed length.
        (&[], [0, 0x10, 0, 0], false),
    ] {
        let mut server = Server::start(args);
        let mut devices: Vec<TcpStream> = (0..200).map(|_| server.connect()).collect();
        for device in &mut devices {
            device
                .write_all(&[&header[..], b"and a little payload"].concat())
                .unwrap();
        }
        server.wait_for(if closes { "close" } else { "open" }, 200);
        assert_honest_client_works(&mut server);
        let most = server.process.memory_kb("VmRSS");
        assert!(most < 64 << 10, "{most} kB after {header:?} and {args:?}");
        drop(devices);
        server.wait_for("close", 201);
        let (ended, _) = server.stop();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    }
}

#[test]
fn payload_of_nul_bytes_is_payload() {
    let nul = "block 0 len=3 \"\\u0000\\u0000\\u0000\"";
    let wire = b"\0\0\0\x03\0\0\0\0\0\0\0";
    assert_eq!(
        story(&[], wire),
        [nul, "end blocks=1", "close end blocks=1 bytes=3"]
    );
}
