//! How connections end: between messages, within one, by a reset, after the end mark. What was received is kept.

use std::io::Write;
use std::time::Duration;

use blocksd_tests::process::{Server, blocksd, finish, python, run};
use serde_json::{Value, json};
use socket2::SockRef;
use tempfile::TempDir;

use super::listeners::Plug;

/// Bytes of a message that is cut, in each framing where that is possible, with the payload and the declared length.
const CUT: [(&str, &[u8], &[u8], u32); 14] = [
    ("blocks", b"\0\0\0\x05hel", b"hel", 5),
    ("fixed:5", b"hel", b"hel", 5),
    ("lines", b"hel", b"hel", 4),
    ("lines", b"hel\r", b"hel\r", 5),
    ("delimited:0d0a", b"hel\r", b"hel\r", 5),
    ("cobs", b"\x06hel", b"hel", 6),
    // The last bytes may be the checksum.
    ("cobs-crc16", b"\x08hello", b"hel", 6),
    ("cobs-crc32", b"\x0ehelloxy", b"hel", 10),
    ("length:u8", b"\x05hel", b"hel", 5),
    ("length:u16le", b"\x05\0hel", b"hel", 5),
    ("length:varint", b"\x05hel", b"hel", 5),
    ("netstring", b"5:hel", b"hel", 5),
    ("netstring", b"3:hel", b"hel", 4),
    ("octet-counted", b"5 hel", b"hel", 5),
];

fn of_kind<'a>(events: &'a [Value], kind: &str) -> Vec<&'a Value> {
    let events = events.iter().filter(|event| event["event"] == kind);
    events.collect()
}

/// The truncated piece, if there is one, and the number of faults.
#[track_caller]
fn check_cut(events: &[Value], what: &str, payload: &[u8], want: u32) {
    let text = String::from_utf8_lossy(payload);
    let pieces = of_kind(events, "piece");
    let faults = of_kind(events, "fault");
    assert_eq!((pieces.len(), faults.len()), (1, 1), "{what}: {events:#?}");
    let expected = [
        ("text", json!(text)),
        ("offset", json!(0)),
        ("first", json!(true)),
        ("last", json!(false)),
        ("truncated", json!(true)),
    ];
    for (key, value) in expected {
        assert_eq!(pieces[0][key], value, "{what}: {}", pieces[0]);
    }
    let figures = json!([faults[0]["have"], faults[0]["want"], faults[0]["where"]]);
    let wanted = json!([payload.len(), want, "payload"]);
    assert_eq!(figures, wanted, "{what}: {}", faults[0]);
    assert_eq!(of_kind(events, "block").len(), 0, "{what}");
}

/// The events of a recording.
fn read(folder: &TempDir) -> Vec<Value> {
    let read = run(
        &["read", "--output", "json", folder.path().to_str().unwrap()],
        b"",
    );
    assert_eq!(read.code, Some(0), "{read:?}");
    let lines = read.stdout_text();
    lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn the_bytes_of_a_cut_message_are_kept_recorded_and_replayed_in_every_framing() {
    for (spec, wire, payload, want) in CUT {
        let folder = TempDir::new().unwrap();
        let record = folder.path().to_str().unwrap();
        let mut server = Server::start(&["--framing", spec, "--record", record]);
        let mut device = server.connect();
        device.write_all(wire).unwrap();
        drop(device);
        server.wait_for("close", 1);
        let (ended, events) = server.stop();
        check_cut(&events, spec, payload, want);
        let totals = ended.totals();
        assert_eq!((totals["block"], totals["fault"]), (0, 1), "{spec}");
        assert_eq!(of_kind(&events, "close")[0]["bytes"], 0, "{spec}");
        check_cut(&read(&folder), spec, payload, want);
        // A second daemon sees the same.
        let mut again = Server::start(&["--framing", spec]);
        let addr = again.addr().to_string();
        let replayed = run(&["replay", record, "--to", &addr], b"");
        assert_eq!(replayed.code, Some(0), "{spec}: {replayed:?}");
        again.wait_for("close", 1);
        // The length of a cut group of `cobs` is not recorded: it is replayed as a whole group without its end.
        let want = if spec.starts_with("cobs") { 4 } else { want };
        check_cut(&again.stop().1, &format!("{spec}, replayed"), payload, want);
    }
}

#[test]
fn a_message_that_is_cut_in_its_header_has_no_bytes_and_is_replayed_as_a_close() {
    for (spec, wire) in [
        ("blocks", &b"\0\0\0\x02hi\0\0"[..]),
        ("length:u16le", b"\x02\0hi\x05"),
        ("length:varint", b"\x02hi\x80"),
        ("netstring", b"2:hi,5"),
        ("octet-counted", b"2 hi5"),
    ] {
        let folder = TempDir::new().unwrap();
        let record = folder.path().to_str().unwrap();
        let mut server = Server::start(&["--framing", spec, "--record", record]);
        server.connect().write_all(wire).unwrap();
        server.wait_for("close", 1);
        let (_, events) = server.stop();
        for events in [&events, &read(&folder)] {
            assert_eq!(of_kind(events, "piece").len(), 0, "{spec}: {events:#?}");
            let faults = of_kind(events, "fault");
            assert_eq!(faults.len(), 1, "{spec}: {events:#?}");
            assert_eq!(faults[0]["where"], "header", "{spec}");
        }
        let mut again = Server::start(&["--framing", spec]);
        let addr = again.addr().to_string();
        let replayed = run(&["replay", record, "--to", &addr], b"");
        assert_eq!(replayed.code, Some(0), "{spec}: {replayed:?}");
        again.wait_for("close", 1);
        let (_, events) = again.stop();
        assert_eq!(of_kind(&events, "block")[0]["text"], "hi", "{spec}");
        assert_eq!(of_kind(&events, "fault").len(), 0, "{spec}: {events:#?}");
        assert_eq!(of_kind(&events, "close")[0]["reason"], "eof", "{spec}");
    }
}

#[test]
fn the_bytes_of_a_cut_message_are_in_csv_and_are_counted_by_an_export() {
    let folder = TempDir::new().unwrap();
    let record = folder.path().join("rec");
    let record = record.to_str().unwrap();
    let mut server = Server::start(&["--framing", "lines", "--record", record]);
    server.connect().write_all(b"whole\ncu").unwrap();
    server.wait_for("close", 1);
    server.stop();
    let csv = run(&["read", "--output", "csv", record], b"").stdout_text();
    let rows: Vec<Vec<_>> = csv
        .lines()
        .skip(1)
        .map(|row| row.split(',').skip(2).collect())
        .collect();
    assert_eq!(
        rows,
        [
            ["0", "5", "whole", "", "1", "", ""],
            ["1", "2", "cu", "", "1", "truncated", ""]
        ],
        "{csv}"
    );
    for (to, file) in [("foxglove", "out.mcap"), ("csv", "out.csv")] {
        let out = folder.path().join(file);
        let args = ["export", record, "--to", to, "--out", out.to_str().unwrap()];
        let ended = run(&args, b"");
        assert_eq!(ended.code, Some(1), "{ended:?}");
        for part in [
            "not exported: 1 message cut by the end of a connection",
            "exported 1 message of 1 device",
        ] {
            assert!(ended.stderr.contains(part), "{part}: {ended:?}");
        }
    }
}

#[test]
fn the_message_that_a_serial_line_cuts_is_kept() {
    let folder = TempDir::new().unwrap();
    let link = folder.path().join("ttyUSB0");
    let mut plug = Plug::new(&link);
    plug.order("plug");
    let listen = format!("serial:{},framing=lines", link.display());
    let mut server = Server::start(&["--listen", &listen]);
    server.wait_for("open", 1);
    plug.order("send 610a6375");
    server.wait_for("block", 1);
    let (_, events) = server.stop();
    let pieces = of_kind(&events, "piece");
    assert_eq!(pieces.len(), 1, "{events:#?}");
    let piece = [&pieces[0]["text"], &pieces[0]["truncated"]];
    assert_eq!(piece, [&json!("cu"), &json!(true)]);
    assert_eq!(of_kind(&events, "fault").len(), 1, "{events:#?}");
}

#[test]
fn the_last_line_of_standard_input_is_kept_without_a_line_end() {
    let ended = run(
        &[
            "serve",
            "--listen",
            "-",
            "--framing",
            "lines",
            "--output",
            "json",
        ],
        b"a\nlast",
    );
    let text = ended.stdout_text();
    let events: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let pieces = of_kind(&events, "piece");
    assert_eq!(pieces.len(), 1, "{text}");
    assert_eq!(
        (&pieces[0]["text"], &pieces[0]["seq"]),
        (&json!("last"), &json!(1))
    );
    let ended = run(
        &[
            "serve",
            "--listen",
            "-",
            "--framing",
            "lines",
            "--output",
            "text",
        ],
        b"a\nlast",
    );
    assert!(ended.stdout_text().contains("truncated: last"), "{ended:?}");
}

#[test]
fn the_bytes_are_kept_at_a_timeout_a_stop_and_a_reset() {
    let cut = |args: &[&str], reason: &str| {
        let mut server = Server::start(&[&["--framing", "length:u8"], args].concat());
        let mut device = server.connect();
        device.write_all(b"\x01a\x05hel").unwrap();
        server.wait_for("block", 1);
        if reason == "reset" {
            SockRef::from(&device)
                .set_linger(Some(Duration::ZERO))
                .unwrap();
            drop(device);
            server.wait_for("close", 1);
        } else if reason != "shutdown" {
            server.wait_for("close", 1);
        }
        let (_, events) = server.stop();
        let (pieces, faults) = (of_kind(&events, "piece"), of_kind(&events, "fault"));
        assert_eq!(
            (pieces.len(), faults.len()),
            (1, 1),
            "{reason}: {events:#?}"
        );
        assert_eq!(pieces[0]["text"], "hel", "{reason}");
        assert_eq!(faults[0]["fault"], "truncated", "{reason}");
        assert_eq!(of_kind(&events, "close")[0]["reason"], reason);
    };
    cut(&["--idle-timeout", "1"], "idle");
    cut(&["--block-timeout", "1"], "block_timeout");
    cut(&[], "shutdown");
    cut(&[], "reset");
}

#[test]
fn the_pieces_of_a_cut_message_end_with_the_bytes_that_were_held_back() {
    let mut server = Server::start(&[
        "--framing",
        "delimited:0d0a",
        "--max-block",
        "8",
        "--oversize",
        "pieces",
    ]);
    let mut device = server.connect();
    device.write_all(b"more than eight bytes\r").unwrap();
    drop(device);
    server.wait_for("close", 1);
    let (_, events) = server.stop();
    let pieces = of_kind(&events, "piece");
    let text: String = pieces.iter().filter_map(|it| it["text"].as_str()).collect();
    assert_eq!(text, "more than eight bytes\r");
    let last = pieces.last().unwrap();
    assert_eq!(
        (&last["truncated"], &last["offset"]),
        (&json!(true), &json!(21))
    );
    assert_eq!(of_kind(&events, "fault").len(), 1, "{events:#?}");
}

#[test]
fn a_series_without_an_end_mark_is_open_and_not_a_fault() {
    let folder = TempDir::new().unwrap();
    let record = folder.path().to_str().unwrap();
    let mut server = Server::start(&["--record", record]);
    let mut open = server.connect();
    open.write_all(b"\0\0\0\x02hi").unwrap();
    drop(open);
    server.wait_for("close", 1);
    let mut whole = server.connect();
    whole.write_all(b"\0\0\0\x02hi\0\0\0\0").unwrap();
    drop(whole);
    server.wait_for("close", 2);
    let (ended, events) = server.stop();
    assert_eq!(ended.totals()["fault"], 0, "{ended:?}");
    for events in [&events, &read(&folder)] {
        let closes = of_kind(events, "close");
        assert_eq!(closes[0]["series"], "open", "{}", closes[0]);
        assert_eq!(closes[1].get("series"), None, "{}", closes[1]);
    }
    let mut again = Server::start(&[]);
    let addr = again.addr().to_string();
    assert_eq!(run(&["replay", record, "--to", &addr], b"").code, Some(0));
    again.wait_for("close", 2);
    let (_, events) = again.stop();
    let open = of_kind(&events, "close").into_iter();
    assert_eq!(open.filter(|close| close["series"] == "open").count(), 1);
}

#[test]
fn a_reset_between_messages_is_one_fault_if_the_peer_had_sent_bytes() {
    for (spec, wire) in [
        ("blocks", &b"\0\0\0\x02hi"[..]),
        ("lines", b"hi\n"),
        ("netstring", b"2:hi,"),
        ("length:u16", b"\0\x02hi"),
        ("fixed:2", b"hi"),
        ("cobs", b"\x03hi\0"),
        ("cobs-crc16", b"\x05hi\x7f\x0c\0"),
        ("stream", b"hi"),
    ] {
        let folder = TempDir::new().unwrap();
        let record = folder.path().to_str().unwrap();
        let mut server = Server::start(&["--framing", spec, "--record", record]);
        for bytes in [&b""[..], wire] {
            let mut device = server.connect();
            device.write_all(bytes).unwrap();
            if !bytes.is_empty() {
                server.wait(|events| events.iter().any(|it| it["text"] == "hi"));
            }
            SockRef::from(&device)
                .set_linger(Some(Duration::ZERO))
                .unwrap();
            drop(device);
            server.wait_for("close", if bytes.is_empty() { 1 } else { 2 });
        }
        let (ended, events) = server.stop();
        assert_eq!(ended.totals()["fault"], 1, "{spec}: {ended:?}");
        assert!(
            ended.stderr.contains("reset between messages"),
            "{spec}: {ended:?}"
        );
        for events in [&events, &read(&folder)] {
            let faults = of_kind(events, "fault");
            assert_eq!(faults.len(), 1, "{spec}: {events:#?}");
            let fault = [&faults[0]["fault"], &faults[0]["conn"]];
            assert_eq!(fault, [&json!("reset"), &json!(2)], "{spec}");
        }
    }
}

#[test]
fn a_refused_message_that_a_reset_cuts_is_one_fault() {
    for (spec, wire) in [
        ("blocks", &b"\0\0\0\x32more than sixteen"[..]),
        ("lines", b"more than sixteen"),
        ("netstring", b"50:more than sixteen"),
        ("cobs", b"\x20more than sixteen"),
    ] {
        let mut server = Server::start(&["--framing", spec, "--max-block", "14"]);
        let mut device = server.connect();
        device.write_all(wire).unwrap();
        server.wait_for("fault", 1);
        let lingering = SockRef::from(&device);
        lingering.set_linger(Some(Duration::ZERO)).unwrap();
        drop(device);
        server.wait_for("close", 1);
        let (ended, events) = server.stop();
        assert_eq!(ended.totals()["fault"], 1, "{spec}: {ended:?}");
        assert_eq!(of_kind(&events, "close")[0]["reason"], "reset", "{spec}");
    }
}

#[test]
fn a_read_of_standard_input_that_fails_is_a_reset() {
    let daemon = blocksd(&["serve", "--listen", "-,framing=lines", "--output", "json"]);
    let words = std::iter::once(daemon.get_program()).chain(daemon.get_args());
    let words = words.map(|word| word.to_str().unwrap());
    let words: Vec<_> = std::iter::once("hi\n").chain(words).collect();
    let ended = finish(python("broken_input.py", &words), b"");
    let text = ended.stdout_text();
    let events: Vec<Value> = text
        .lines()
        .map(|it| serde_json::from_str(it).unwrap())
        .collect();
    assert_eq!(of_kind(&events, "close")[0]["reason"], "reset", "{ended:?}");
    assert_eq!(of_kind(&events, "fault")[0]["fault"], "reset", "{ended:?}");
    assert!(
        ended.stderr.contains("cannot read standard input"),
        "{ended:?}"
    );
}

#[test]
fn bytes_after_the_end_mark_are_an_event() {
    let folder = TempDir::new().unwrap();
    let record = folder.path().to_str().unwrap();
    let mut server = Server::start(&["--after-end", "close", "--record", record]);
    let mut device = server.connect();
    device.write_all(b"\0\0\0\x02hi\0\0\0\0more").unwrap();
    server.wait_for("close", 1);
    let (ended, events) = server.stop();
    assert_eq!(ended.totals()["fault"], 0);
    for events in [&events, &read(&folder)] {
        let after = of_kind(events, "after_end");
        assert_eq!(after.len(), 1, "{events:#?}");
        assert_eq!(
            (&after[0]["bytes"], &after[0]["conn"]),
            (&json!(4), &json!(1))
        );
        assert_eq!(of_kind(events, "close")[0].get("series"), None);
    }
}

#[test]
fn a_refused_message_is_one_fault_however_it_ends() {
    for (spec, wire, reason) in [
        // Longer than --max-skip, cut, and with a wrong ending.
        (
            "lines",
            &b"more than sixteen bytes, and more than that\n"[..],
            "limit",
        ),
        (
            "delimited:0d0a",
            b"more than sixteen bytes, and more than that\r\n",
            "limit",
        ),
        (
            "cobs",
            b"\x2cmore than sixteen bytes, and more than that.\0",
            "limit",
        ),
        ("lines", b"more than sixteen", "eof"),
        ("cobs", b"\x20more than sixteen", "eof"),
        ("cobs-crc32", b"\x20more than sixteen...", "eof"),
        ("cobs-crc16", b"\x16more than sixteen....\0", "eof"),
        ("blocks", b"\0\0\0\x12more than sixteen", "eof"),
        ("netstring", b"17:more than sixteen;", "limit"),
        ("netstring", b"17:more than sixteen", "eof"),
    ] {
        let args = ["--framing", spec, "--max-block", "14", "--max-skip", "24"];
        let mut server = Server::start(&args);
        let mut device = server.connect();
        device.write_all(wire).unwrap();
        drop(device);
        server.wait_for("close", 1);
        let (ended, events) = server.stop();
        assert_eq!(ended.totals()["fault"], 1, "{spec}: {ended:?}");
        let faults = of_kind(&events, "fault");
        assert_eq!(faults.len(), 1, "{spec}: {events:#?}");
        assert_eq!(faults[0]["fault"], "too_long", "{spec}");
        assert_eq!(
            of_kind(&events, "close")[0]["reason"],
            reason,
            "{spec} {wire:?}"
        );
        assert_eq!(of_kind(&events, "piece").len(), 0, "{spec}");
    }
}
