//! The live view: names and payloads that could break an answer, and floods that could fill the memory.

use std::io::Write;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use blocksd_tests::process::{Process, Server, connect, wait_until};
use blocksd_tests::session_peer::SessionPeer;
use blocksd_tests::viewer::{Viewer, encode};
use serde_json::Value;
use tempfile::TempDir;

use super::view::{start, wait_for_entries};
use crate::engine::admission::from;

/// Every answer with the data of a device. Each must be one line of JSON, without characters that a terminal acts on.
#[track_caller]
fn all_answers(viewer: &Viewer, name: &str, field: &str) -> Vec<Value> {
    let (name, field) = (encode(name), encode(field));
    let paths = [
        "devices?detail=true".to_owned(),
        format!("devices?filter={name}&device={name}"),
        format!("tail?hex=true&device={name}"),
        format!("faults?device={name}"),
        format!("events?device={name}"),
        format!("device?device={name}"),
        format!("plot?device={name}&field={field}"),
        "daemon".to_owned(),
    ];
    paths.iter().map(|path| viewer.get(path)).collect()
}

/// Payloads that are wrong as JSON, or odd.
fn payloads() -> Vec<Vec<u8>> {
    let long = "k".repeat(4000);
    vec![
        b"\x1b[31mred\x07".to_vec(),
        b"\xff\xfe\xfd".to_vec(),
        b"\"\\\"},{\"".to_vec(),
        "\u{202e}\u{2066}txet\u{2028}".as_bytes().to_vec(),
        b"{\"a\":1e999,\"b\":-1e999,\"c\":123456789012345678901234567890}".to_vec(),
        format!("{{\"{long}\":\"{long}\"}}").into_bytes(),
        format!("{{\"x\":{}1{}}}", "[".repeat(60), "]".repeat(60)).into_bytes(),
        "{\"q\\\"\\u001b\\u202e\":\"\\u0000\\u001b[2J\\u202e\\ud83d\\ude00\",\"\":null}"
            .as_bytes()
            .to_vec(),
        "{\"\u{202e}\":\"\u{1b}\"}"
            .replace('\u{1b}', "\\u001b")
            .into_bytes(),
        "[".repeat(20_000).into_bytes(),
        format!("\"{}\"", "\u{e9}".repeat(20_000)).into_bytes(),
        vec![0; 30_000],
        Vec::new(),
    ]
}

#[test]
fn no_name_and_no_payload_breaks_an_answer() {
    let folder = TempDir::new().unwrap();
    let path = folder
        .path()
        .join("a\"b\\c\u{202e}d\u{1b}[2J {e='f'}\n\u{2028}%<script>");
    let listen = format!("unix:{},decode=json", path.to_str().unwrap());
    let record = folder.path().join("recording");
    let args = [
        "--http",
        "127.0.0.1:0",
        "--output",
        "none",
        "--device-by",
        "listener",
        "--listen",
        &listen,
        "--listen",
        "127.0.0.1:0,decode=json",
        "--record",
        record.to_str().unwrap(),
    ];
    // The name of its listener breaks a line of its log, so it is no [`Server`].
    let process = Process::start(Server::command(&args));
    wait_until("it listens", || {
        path.exists() && process.error_text().contains("page on ")
    });
    let text = process.error_text();
    let page = text
        .lines()
        .find_map(|line| line.strip_prefix("page on http://"))
        .unwrap();
    let viewer = Viewer {
        addr: page.trim_end_matches('/').parse().unwrap(),
    };
    let mut device = UnixStream::connect(&path).unwrap();
    wait_for_entries(&viewer, "events", 1);
    let name = viewer.get("devices")["devices"][0]["device"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        name.contains('\u{202e}') && name.contains('\u{1b}') && name.contains('\n'),
        "{name:?}"
    );
    all_answers(&viewer, &name, "x");
    let mut follower = viewer.follow("tail?follow=true&hex=true");
    let payloads = payloads();
    for payload in &payloads {
        let len = u32::try_from(payload.len()).unwrap();
        // An empty message ends the series.
        let wire = [&len.to_be_bytes()[..], payload].concat();
        device.write_all(&wire).unwrap();
    }
    let sent = payloads.len() - 1;
    wait_for_entries(&viewer, "tail", sent);
    for payload in payloads.iter().take(sent) {
        let line = follower.line();
        assert_eq!(line["len"], payload.len(), "{line}");
        let is_long = 4096 < payload.len();
        assert_eq!(line["cut"] == true, is_long, "{line}");
        let hex = line["hex"].as_str().unwrap();
        assert_eq!(hex.len(), 2 * payload.len().min(1024));
        let more = line["hex_more"].as_u64().unwrap_or_default();
        assert_eq!(more, payload.len().saturating_sub(1024) as u64);
        if is_long {
            let text = line["text"].as_str().unwrap_or_else(|| panic!("{line}"));
            assert!(
                payload.starts_with(text.as_bytes()) && 4090 < text.len(),
                "{}",
                text.len()
            );
        }
    }
    for field in [
        "a",
        "c",
        "\"\"",
        "q\"\u{1b}\u{202e}",
        "\u{202e}",
        "nothing",
        &"k".repeat(1000),
    ] {
        let answers = all_answers(&viewer, &name, field);
        assert_eq!(answers[1]["matched"], 1);
        assert_eq!(answers[6]["series"][0]["field"], field);
    }
    let mut table = String::new();
    wait_until("the table has all rows", || {
        table = viewer.ask(&format!("csv?device={}", encode(&name))).body;
        let mut rows = csv::Reader::from_reader(table.as_bytes());
        rows.records()
            .filter(|row| row.as_ref().is_ok_and(|row| row.get(1) == Some(&name)))
            .count()
            >= 4
    });
    let answer = viewer.ask(&format!("csv?device={}", encode(&name)));
    let disposition = answer
        .header
        .lines()
        .find(|line| line.contains("filename"))
        .unwrap();
    assert!(
        disposition.is_ascii() && disposition.matches('"').count() == 2,
        "{disposition}"
    );
    let unknown = viewer.ask(&format!("device?device={}", encode("\u{1b}\u{202e}\nx")));
    assert_eq!((unknown.status, unknown.body.lines().count()), (404, 1));
    assert!(
        !unknown.body.contains(['\u{1b}', '\u{202e}']),
        "{unknown:?}"
    );
    // Sessions name their devices themselves.
    let port = process.error_text();
    let addr = port
        .lines()
        .find_map(|line| line.strip_prefix("listening on 127.0.0.1:"))
        .unwrap();
    let port: u16 = addr.split(' ').next().unwrap().parse().unwrap();
    let (mut boiler, welcome) =
        SessionPeer::open(([127, 0, 0, 1], port).into(), "boiler:1.2_3", 0, 0, 1);
    boiler.cont(welcome.session, 0);
    boiler.message(b"{\"t\":1}");
    let shown = |name: &str| viewer.get(&format!("device?device={}", encode(name)));
    wait_until("the session is shown", || {
        viewer
            .ask(&format!("device?device={}", encode("boiler:1.2_3")))
            .status
            == 200
    });
    boiler.message(b"{\"t\":2}");
    boiler.end();
    boiler.wait_for_ack(2);
    wait_until("the session is durable", || {
        let session = &shown("boiler:1.2_3")["session"];
        session["durable"] == 2 && session["received"] == 2
    });
    let number = format!("{:016x}", welcome.session);
    assert_eq!(shown("boiler:1.2_3")["session"]["session"], number);
    process.signal("TERM");
    process.end();
}

#[test]
fn a_flood_with_many_viewers_stays_within_its_memory() {
    /// What the view may add, in kB: its bounds, and those of 64 connections.
    const MORE_KB: u64 = 100 << 10;
    let (server, viewer) = start(&[]);
    let mut devices: Vec<TcpStream> = (1..5)
        .map(|host| from(&format!("127.0.0.{host}"), &server))
        .collect();
    wait_for_entries(&viewer, "events", 4);
    let before = server.process.memory_kb("VmRSS");
    let stalled: Vec<_> = (0..20)
        .map(|_| viewer.follow("tail?follow=true&hex=true&limit=1000"))
        .collect();
    let mut unread = Vec::new();
    // Clients that ask for large answers, and read nothing.
    for path in [
        "tail?limit=1000&hex=true",
        "csv?device=127.0.0.1",
        "devices?detail=true",
    ] {
        for _ in 0..5 {
            let mut stream = connect(viewer.addr);
            let host = viewer.addr;
            let request = format!("GET /api/v1/{path} HTTP/1.1\r\nHost: {host}\r\n\r\n").repeat(20);
            stream.write_all(request.as_bytes()).unwrap();
            unread.push(stream);
        }
    }
    let is_over = Arc::new(AtomicBool::default());
    let readers: Vec<_> = (0..10)
        .map(|_| {
            let is_over = Arc::clone(&is_over);
            let mut follower = viewer.follow("tail?follow=true");
            thread::spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    follower.line();
                }
            })
        })
        .collect();
    let mut fields: Vec<_> = (0..250).map(|it| format!("\"field-{it}\":{it}")).collect();
    fields.push(format!("\"pad\":\"{}\"", "\u{e9}".repeat(1000)));
    let line = format!("{{{}}}\n", fields.join(",")).repeat(8);
    for round in 0..300 {
        for device in &mut devices {
            device.write_all(line.as_bytes()).unwrap();
        }
        if round % 30 == 0 {
            for host in 1..5 {
                viewer.get(&format!("device?device=127.0.0.{host}"));
                viewer.get(&format!("plot?device=127.0.0.{host}&field=field-7"));
                viewer.get("devices?detail=true");
            }
        }
    }
    let most = server.process.memory_kb("VmHWM");
    assert!(
        most < before + MORE_KB,
        "{before} kB before, {most} kB at most"
    );
    let daemon = viewer.get("daemon");
    let kept = |name: &str| daemon["view"][name].as_u64().unwrap();
    assert!(kept("memory_bytes") <= kept("memory_max_bytes"), "{daemon}");
    assert!(
        (1 << 20) < kept("memory_bytes") && 0 < kept("not_shown"),
        "{daemon}"
    );
    is_over.store(true, Ordering::Relaxed);
    devices[0].write_all(b"{}\n").unwrap();
    for reader in readers {
        reader.join().unwrap();
    }
    drop((stalled, unread));
    server.stop();
}
