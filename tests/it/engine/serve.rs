//! `blocksd serve`: every framing from Python, every wire sample, and the events of connections.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use blocksd_tests::framings::{FRAMINGS, WITH_PYTHON};
use blocksd_tests::process::{Server, brief, finish, python, run};
use blocksd_tests::story::fault_text;
use framing_core::{Decode, Fault, Framing, Part, Step};
use framing_core_testing::messages::carries_empty;
use framing_core_testing::samples::{self, Event, Sample};
use serde_json::Value;

/// The three messages of the textbook as a series of blocks.
pub(crate) const SERIES: &[u8] = b"\0\0\0\x1eBeautiful is better than ugly.\
    \0\0\0\x21Explicit is better than implicit.\
    \0\0\0\x1eSimple is better than complex.\0\0\0\0";

/// Messages that the framing can carry: text, other alphabets, all bytes, none, and lengths around the limits.
pub(crate) fn messages(framing: &str, len_max: usize) -> Vec<Vec<u8>> {
    let mut messages = vec![
        b"Beautiful is better than ugly.".to_vec(),
        "žluťoučký kůň 🐎".into(),
        (0..=254).collect(),
        (0..=255).rev().collect(),
        Vec::new(),
        b"\xff\xfe".to_vec(),
        vec![b'x'; 300],
        vec![b'y'; 65_535],
        vec![b'z'; 70_000],
    ];
    if framing == "fixed:16" {
        messages
            .iter_mut()
            .for_each(|message| message.resize(16, b'.'));
    }
    messages.retain(|message| {
        let carried = match framing {
            _ if message.is_empty() => carries_empty(framing),
            "length:u8" => message.len() <= 255,
            "length:u16" | "length:u16le" => message.len() <= 65_535,
            "lines" => !message.contains(&b'\n'),
            "delimited:00" => !message.contains(&0),
            _ => true,
        };
        carried && message.len() <= len_max
    });
    assert!(3 < messages.len(), "{framing}");
    messages
}

/// The event of a block in the short form of `brief`.
pub(crate) fn brief_block(seq: usize, payload: &[u8]) -> String {
    let len = payload.len();
    match std::str::from_utf8(payload) {
        Ok(text) => format!("block {seq} len={len} {}", Value::from(text)),
        Err(_) => format!(
            "block {seq} len={len} base64=\"{}\"",
            BASE64_STANDARD.encode(payload)
        ),
    }
}

/// The payload of a block or piece.
pub(crate) fn payload(event: &Value) -> Vec<u8> {
    match (&event["text"], &event["base64"]) {
        (Value::String(text), Value::Null) => text.clone().into_bytes(),
        (Value::Null, Value::String(base64)) => BASE64_STANDARD.decode(base64).expect("base64"),
        _ => panic!("either text or base64 in {event}"),
    }
}

/// A daemon with a listener for each framing.
pub(crate) fn serve_every_framing(more: &[&str]) -> Server {
    let listens = FRAMINGS.iter();
    let listens = listens.map(|framing| format!("127.0.0.1:0,framing={framing}"));
    let listens: Vec<_> = listens.collect();
    let mut args: Vec<&str> = listens
        .iter()
        .flat_map(|listen| ["--listen", listen])
        .collect();
    args.extend(more);
    Server::start(&args)
}

#[test]
fn every_framing_arrives_from_python_at_any_split() {
    let mut server = serve_every_framing(&[]);
    let mut conn = 0;
    for framing in WITH_PYTHON {
        for (size, len_max) in [("0", usize::MAX), ("1", 300), ("7", 300)] {
            let messages = messages(framing, len_max);
            let port = server.addr_of(framing).port().to_string();
            let peer = finish(
                python("framed_peer.py", &["send", &port, framing, size]),
                &lines(&messages),
            );
            assert_eq!(
                (peer.code, peer.stdout_text().as_str()),
                (Some(0), ""),
                "{}",
                peer.stderr
            );
            conn += 1;
            let story = server.story(conn);
            if framing == "stream" {
                let pieces = server
                    .events()
                    .iter()
                    .filter(|event| event["conn"] == conn && event["event"] == "piece");
                assert_eq!(join(pieces), messages.concat());
                continue;
            }
            let bytes: usize = messages.iter().map(Vec::len).sum();
            let count = messages.len();
            let mut wanted = vec!["open".to_owned()];
            wanted.extend(
                messages
                    .iter()
                    .enumerate()
                    .map(|(seq, message)| brief_block(seq, message)),
            );
            if framing == "blocks" {
                wanted.push(format!("end blocks={count}"));
                wanted.push(format!("close end blocks={count} bytes={bytes}"));
            } else {
                wanted.push(format!("close eof blocks={count} bytes={bytes}"));
            }
            assert_eq!(story, wanted, "{framing}, {size} bytes at a time");
        }
    }
    let (ended, _) = server.stop();
    assert_eq!(ended.totals()["connection"], conn);
    assert_eq!(ended.totals()["fault"], 0);
}

/// Joins the payload of consecutive pieces, and asserts that there is no gap.
pub(crate) fn join<'a>(pieces: impl Iterator<Item = &'a Value>) -> Vec<u8> {
    let mut whole = Vec::new();
    for piece in pieces {
        let bytes = payload(piece);
        assert_eq!(piece["offset"], whole.len(), "{piece}");
        assert_eq!(piece["len"], bytes.len(), "{piece}");
        assert_eq!(piece["first"], whole.is_empty(), "{piece}");
        whole.extend(bytes);
    }
    whole
}

/// Messages in the input format of `framed_peer.py`.
pub(crate) fn lines(messages: &[Vec<u8>]) -> Vec<u8> {
    let line = |message: &Vec<u8>| {
        message
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
            + "\n"
    };
    messages.iter().map(line).collect::<String>().into_bytes()
}

#[test]
fn events_have_the_device_and_the_time() {
    let mut server = Server::start(&[]);
    let mut device = server.connect();
    device.write_all(SERIES).unwrap();
    server.story(1);
    for event in server.events() {
        assert_eq!(event["conn"], 1, "{event}");
        if ["open", "block"].contains(&event["event"].as_str().unwrap()) {
            assert_eq!(event["device"], "127.0.0.1", "{event}");
            // 2026-01-31T12:00:00.123456789Z
            let time = event["time"].as_str().unwrap();
            let fraction = time.split_once('.').unwrap().1;
            assert!(time.as_bytes()[10] == b'T' && time.is_ascii(), "{event}");
            assert!(fraction.len() == 10 && fraction.ends_with('Z'), "{event}");
        }
    }
    let opened = &server.events()[0];
    assert_eq!(opened["peer"], device.local_addr().unwrap().to_string());
}

#[test]
fn an_event_is_printed_while_the_connection_stays_open() {
    let mut server = Server::start(&[]);
    let mut device = server.connect();
    server.wait_for("open", 1);
    device.write_all(&SERIES[..34]).unwrap();
    server.wait_for("block", 1);
    device.write_all(&SERIES[34..71]).unwrap();
    assert_eq!(payload(&server.wait_for("block", 2)[2]), &SERIES[38..71]);
}

#[test]
fn the_end_mark_closes_or_another_series_follows() {
    let [mut close, mut go_on] =
        ["close", "continue"].map(|then| Server::start(&["--after-end", then]));
    let series = [SERIES, &SERIES[..34], b"\0\0\0\0"].concat();
    for server in [&close, &go_on] {
        let mut device = server.connect();
        device.write_all(&series).unwrap();
        device.shutdown(Shutdown::Write).unwrap();
        device.read_to_end(&mut Vec::new()).ok();
    }
    let story = close.story(1);
    let ends = [
        "end blocks=3",
        "after_end bytes=38",
        "close end blocks=3 bytes=93",
    ];
    assert_eq!(story[4..], ends);
    let story = go_on.story(1);
    let fourth = brief_block(3, b"Beautiful is better than ugly.");
    assert_eq!(
        story[4..],
        [
            "end blocks=3",
            &fourth,
            "end blocks=1",
            "close eof blocks=4 bytes=123"
        ]
    );
}

#[test]
fn once_ends_after_the_first_connection() {
    let server = Server::start(&["--once"]);
    let addr = server.addr();
    server.connect().write_all(SERIES).unwrap();
    let (ended, events) = server.end();
    assert_eq!(ended.code, Some(0));
    assert_eq!(events.last().unwrap()["event"], "close");
    assert_eq!(ended.totals()["block"], 3);
    TcpStream::connect(addr).expect_err("the port is closed");
}

#[test]
fn a_hundred_simultaneous_connections_are_kept_apart_and_balance() {
    let mut server = Server::start(&[]);
    let devices: Vec<TcpStream> = (0..100).map(|_| server.connect()).collect();
    server.wait_for("open", 100);
    let blocks = |device: usize| 1 + device % 7;
    thread::scope(|scope| {
        for (number, mut device) in devices.into_iter().enumerate() {
            scope.spawn(move || {
                let name = device.local_addr().unwrap().to_string();
                let block = [&(name.len() as u32).to_be_bytes(), name.as_bytes()].concat();
                // Cuts at places other than the boundaries.
                let wire = [block.repeat(blocks(number)).as_slice(), &[0; 4]].concat();
                wire.chunks(11)
                    .for_each(|part| device.write_all(part).unwrap());
            });
        }
    });
    server.wait_for("close", 100);
    let (ended, events) = server.stop();
    let mut bytes = 0;
    for conn in 1..=100 {
        let own: Vec<&Value> = events
            .iter()
            .filter(|event| event["conn"] == conn)
            .collect();
        let peer = own[0]["peer"].as_str().unwrap();
        let block_count = own.len() - 3;
        for (seq, block) in own[1..=block_count].iter().enumerate() {
            assert_eq!(
                (block["seq"].as_u64(), &block["text"]),
                (Some(seq as u64), &Value::from(peer))
            );
        }
        let close = own.last().unwrap();
        assert_eq!(
            (&close["reason"], &close["blocks"]),
            (&"end".into(), &block_count.into())
        );
        bytes += close["bytes"].as_u64().unwrap();
    }
    let blocks: usize = (0..100).map(blocks).sum();
    let totals = ended.totals();
    assert_eq!(
        (totals["connection"], totals["block"]),
        (100, blocks as u64)
    );
    assert_eq!(
        (totals["byte"], totals["fault"], totals["refused"]),
        (bytes, 0, 0)
    );
}

#[test]
fn ipv6_addresses_work() {
    if let Err(error) = TcpListener::bind("[::1]:0") {
        println!("this machine has no IPv6 ({error}): the daemon must report that");
        let refused = run(&["serve", "--listen", "[::1]:0"], b"");
        assert!(matches!(refused.code, Some(2 | 75)), "{refused:?}");
        return assert!(refused.stderr.contains("[::1]:0"), "{refused:?}");
    }
    let mut server = Server::start(&["--listen", "[::1]:0"]);
    assert!(server.addr().is_ipv6());
    let mut device = server.connect();
    device.write_all(SERIES).unwrap();
    server.story(1);
    let opened = &server.events()[0];
    assert_eq!(opened["device"], "::1");
    assert_eq!(opened["peer"], device.local_addr().unwrap().to_string());
}

#[test]
fn an_impossible_request_is_one_clear_line_and_exit_2() {
    for (args, what) in [
        (&["--framing", "morse"][..], "morse"),
        (&["--framing", "fixed:0"], "fixed:0"),
        (&["--framing", "delimited:"], "delimited:"),
        (&["--listen", "127.0.0.1:0,framing=length:u7"], "length:u7"),
        (&["--listen", "127.0.0.1:0,max-block=0"], "max-block"),
        (
            &["--listen", "127.0.0.1:0,max-block=4294967295"],
            "max-block",
        ),
        (&["--listen", "127.0.0.1:0,colour=red"], "colour"),
        (&["--max-block", "0"], "max-block"),
        (&["--max-connections", "0"], "max-connections"),
        (&["--idle-timeout=-1"], "idle-timeout"),
        (&["--listen", "nowhere"], "nowhere"),
        (
            &["--listen", "127.0.0.1:0", "--reply", "/no/such/file"],
            "/no/such/file",
        ),
    ] {
        let args = [&["serve"], args].concat();
        run(&args, b"").assert_refused(2, what);
    }
}

/// The event of a sample in the short form of `brief`; `seq` and `in_series` are counters.
fn brief_sample(event: &Event, seq: &mut usize, in_series: &mut usize) -> Option<String> {
    Some(match event {
        Event::Block(bytes) => {
            *seq += 1;
            *in_series += 1;
            brief_block(*seq - 1, bytes)
        }
        Event::End => format!("end blocks={}", std::mem::take(in_series)),
        Event::Fault(fault) => return fault_text(fault),
        // The bytes are compared separately.
        Event::Stream(_) | Event::Closed => return None,
    })
}

/// Whether messages received whole end in one that is too long to skip.
fn is_too_long_to_skip(sample: &Sample) -> bool {
    let (mut decoder, limits) = (sample.framing().decoder(), sample.limits());
    let mut window = sample.wire.clone();
    loop {
        let take = match decoder.scan::<false>(&mut window, &limits) {
            Step::NeedMore { .. } => return decoder.is_lost(),
            Step::Fault { fault, .. } if fault.is_lost() => return false,
            Step::Skip { take, .. }
            | Step::Payload { take, .. }
            | Step::End { take }
            | Step::Fault { take, .. } => take,
        };
        window.drain(..take);
    }
}

/// The events of a connection in short form, with the pieces of a message joined; and the bytes of an unfinished message.
fn joined_story(events: &[Value], conn: u64) -> (Vec<String>, Vec<u8>) {
    let (mut story, mut open) = (Vec::new(), Vec::new());
    for event in events.iter().filter(|event| event["conn"] == conn) {
        if event["event"] == "piece" {
            assert_eq!(
                (&event["offset"], &event["first"]),
                (&open.len().into(), &open.is_empty().into())
            );
            open.extend(payload(event));
            if event["last"] == true {
                let seq = event["seq"].as_u64().expect("a number");
                story.push(brief_block(seq as usize, &std::mem::take(&mut open)));
            }
        } else {
            if event["event"] == "fault" {
                open.clear();
            }
            story.push(brief(event));
        }
    }
    (story, open)
}

#[test]
fn every_sample_over_a_socket_gives_the_same_events() {
    for sample in samples::all() {
        let Sample {
            spec,
            block_max,
            skip_max,
            ..
        } = sample;
        let listen =
            format!("127.0.0.1:0,framing={spec},max-block={block_max},max-skip={skip_max}");
        for (oversize, wanted) in [
            ("skip", &sample.events),
            ("pieces", &sample.events_in_pieces),
        ] {
            let args = [
                "--listen",
                &listen,
                "--after-end",
                "continue",
                "--oversize",
                oversize,
            ];
            let mut server = Server::start(&args);
            let is_beyond = oversize == "skip" && is_too_long_to_skip(&sample);
            let is_lost = is_beyond
                || wanted
                    .iter()
                    .any(|event| matches!(event, Event::Fault(fault) if fault.is_lost()));
            let (mut seq, mut in_series) = (0, 0);
            let briefs = wanted
                .iter()
                .filter_map(|event| brief_sample(event, &mut seq, &mut in_series));
            let open = std::iter::once("open".to_owned());
            let mut wanted_story: Vec<_> = open.chain(briefs).collect();
            let too_long = |event: &Event| matches!(event, Event::Fault(Fault::TooLong { .. }));
            let why = match wanted
                .iter()
                .rfind(|event| matches!(event, Event::Fault(_)))
            {
                Some(fault) if is_lost && too_long(fault) => "limit",
                Some(_) if is_lost => "fault",
                _ => "eof",
            };
            let last = wanted.iter().rfind(|event| match event {
                Event::Fault(Fault::Truncated { part, .. }) => *part == Part::End,
                event => matches!(event, Event::Block(_) | Event::End),
            });
            let is_open = spec == "blocks" && last.is_some_and(|last| *last != Event::End);
            let series = if is_open { " series=\"open\"" } else { "" };
            wanted_story.push(format!("close {why}{series}"));
            let stream = wanted.iter().find_map(|event| match event {
                Event::Stream(bytes) => Some(bytes),
                _ => None,
            });
            for (conn, size) in [(1, sample.wire.len().max(1)), (2, 1)] {
                let title = format!("{}, {oversize}, {size} bytes at a time", sample.title());
                let mut device = server.connect();
                // If the framing is lost, the daemon closes before everything is sent.
                let sent = sample
                    .wire
                    .chunks(size)
                    .try_for_each(|part| device.write_all(part));
                assert!(sent.is_ok() || is_lost, "{title}: {sent:?}");
                device.shutdown(Shutdown::Write).ok();
                server.wait_for("close", conn);
                let (mut story, open) = joined_story(server.events(), conn as u64);
                // Another test checks the counts of complete messages.
                let close = story.last_mut().unwrap();
                let counts = close.find(" blocks").unwrap_or_default();
                let series = close.find(" series").unwrap_or(close.len());
                close.replace_range(counts..series, "");
                assert_eq!(story, wanted_story, "{title}");
                assert!(stream.is_none_or(|stream| *stream == open), "{title}");
            }
        }
    }
}
