//! `cobs-crc16` and `cobs-crc32`: Python's packages `cobs` and `crcmod` in both directions, and faults of a live daemon.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use blocksd_tests::process::{Process, Server, blocksd, finish, python, run};
use blocksd_tests::scrape;
use framing_core::{AnyFraming, Decode as _, Framing as _, Limits, Step, encode};
use framing_core_testing::sizes::wire_len;
use serde_json::{Value, json};

const SPECS: [&str; 2] = ["cobs-crc16", "cobs-crc32"];

/// The peer, with the packages that `tests/run` has installed.
fn peer(args: &[&str]) -> Command {
    let packages = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/python");
    assert!(
        packages.join("crcmod").is_dir(),
        "Python's package crcmod is missing; run `tests/run`, or in the top folder: \
         python3 -m pip install --target target/python --requirement tests/peers/requirements.txt"
    );
    let mut command = python("checked_peer.py", args);
    command.env("PYTHONPATH", packages);
    command
}

/// What the peer prints for these lines of hexadecimal digits.
fn answers(args: &[&str], lines: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let ended = finish(peer(args), hex(lines).as_bytes());
    assert_eq!((ended.code, &*ended.stderr), (Some(0), ""), "{args:?}");
    ended.stdout_text().lines().map(bytes_of).collect()
}

/// Messages of all lengths around a group, with and without zeros, from a fixed seed.
fn messages() -> Vec<Vec<u8>> {
    let mut seed = 7_u32;
    let mut next = move || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 24) as u8
    };
    let lens = (0..40).chain(245..265).chain(500..520).chain([5000]);
    let mut messages: Vec<Vec<u8>> = lens
        .flat_map(|len| [0, 1, 2, 255].map(|mask| (len, mask)))
        .map(|(len, mask)| (0..len).map(|_| next() & mask | !mask & 1).collect())
        .collect();
    messages.push(b"123456789".to_vec());
    messages.push(vec![0; 600]);
    messages
}

#[test]
fn python_encodes_and_decodes_the_same_frames() {
    for spec in SPECS {
        let framing: AnyFraming = spec.parse().unwrap();
        let messages = messages();
        let ours: Vec<Vec<u8>> = messages.iter().map(|it| encoded(framing, it)).collect();
        let theirs = answers(&["encode", spec], &messages);
        assert_eq!(theirs, ours, "{spec}");
        assert_eq!(answers(&["decode", spec], &ours), messages, "{spec}");
        for (frame, message) in theirs.into_iter().zip(&messages) {
            assert_eq!(
                decoded(framing, frame),
                std::slice::from_ref(message),
                "{spec}"
            );
        }
    }
}

#[test]
fn python_sends_to_the_daemon_and_receives_from_send() {
    for spec in SPECS {
        let messages = messages();
        let mut server = Server::start(&["--framing", spec, "--output", "json"]);
        let port = server.addr().port().to_string();
        let sent = finish(peer(&["send", &port, spec]), hex(&messages).as_bytes());
        assert_eq!((sent.code, &*sent.stderr), (Some(0), ""), "{spec}");
        server.wait_for("close", 1);
        let (ended, events) = server.stop();
        assert_eq!(ended.totals()["fault"], 0, "{spec}: {ended:?}");
        let lens = |events: &[Value]| -> Vec<u64> {
            let blocks = events.iter().filter(|it| it["event"] == "block");
            blocks.map(|it| it["len"].as_u64().unwrap()).collect()
        };
        let wanted: Vec<u64> = messages.iter().map(|it| it.len() as u64).collect();
        assert_eq!(lens(&events), wanted, "{spec}");

        // `send` reads lines.
        let mut lines = messages;
        lines.retain(|it| !it.is_empty() && !it.contains(&b'\n') && !it.contains(&b'\r'));
        let receiver = Process::start(peer(&["receive", spec]));
        let to = format!("127.0.0.1:{}", receiver.port());
        let stdin = [lines.join(&b'\n'), b"\n".to_vec()].concat();
        let sent = finish(blocksd(&["send", "--framing", spec, "--to", &to]), &stdin);
        assert_eq!((sent.code, &*sent.stderr), (Some(0), ""), "{spec}");
        let received = receiver.end();
        assert_eq!((received.code, &*received.stderr), (Some(0), ""), "{spec}");
        let text = received.stdout_text();
        let received: Vec<_> = text.lines().skip(1).map(bytes_of).collect();
        assert_eq!(received, lines, "{spec}");
    }
}

/// Counted in events, metrics, the log, the API and a recording, which a replay sends without the refused messages.
#[test]
fn a_wrong_checksum_is_a_fault_everywhere() {
    for spec in SPECS {
        let framing: AnyFraming = spec.parse().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let record = folder.path().to_str().unwrap();
        let (local, args) = ("127.0.0.1:0", ["--framing", spec, "--record", record]);
        let mut server =
            Server::start(&[&args[..], &["--http", local, "--metrics", local]].concat());
        let mut device = server.connect();
        let mut wire = encoded(framing, b"good");
        let bad = wire.len();
        wire.extend(encoded(framing, b"damaged"));
        wire[bad + 3] ^= 0x10;
        wire.extend(b"\x02x\0");
        wire.extend(encoded(framing, b"good again"));
        device.write_all(&wire).unwrap();
        server.wait_for("block", 2);
        let counted = "blocksd_faults_total{fault=\"bad_checksum\"}";
        scrape::wait_for(&server, counted, |count| count == 2.0);
        let devices = scrape::api(scrape::http_addr(&server), "devices");
        assert_eq!(
            devices["devices"][0]["faults"]["bad_checksum"], 2,
            "{devices}"
        );
        drop(device);
        server.wait_for("close", 1);
        let (ended, events) = server.stop();
        assert_eq!(ended.totals()["fault"], 2, "{spec}: {ended:?}");
        assert!(ended.stderr.contains("checksum 0x"), "{ended:?}");
        let read = run(&["read", "--output", "json", record], b"").stdout_text();
        let read: Vec<Value> = read
            .lines()
            .map(|it| serde_json::from_str(it).unwrap())
            .collect();
        for events in [&events, &read] {
            let faults: Vec<_> = events.iter().filter(|it| it["event"] == "fault").collect();
            assert_eq!(faults.len(), 2, "{spec}: {faults:?}");
            for fault in &faults {
                assert_eq!(fault["fault"], "bad_checksum", "{spec}");
            }
            assert_ne!(faults[0]["want"], faults[0]["found"], "{spec}");
            assert_eq!(
                (&faults[1]["want"], faults[1].get("found")),
                (&json!(0), None)
            );
        }
        let report = run(&["devices", record], b"").stdout_text();
        assert!(report.contains("bad_checksum"), "{report}");
        let mut again = Server::start(&["--framing", spec]);
        let to = again.addr().to_string();
        assert_eq!(run(&["replay", record, "--to", &to], b"").code, Some(0));
        again.wait_for("close", 1);
        let (ended, events) = again.stop();
        assert_eq!(ended.totals()["fault"], 0, "{spec}: {ended:?}");
        let blocks = events.iter().filter(|it| it["event"] == "block");
        let texts: Vec<_> = blocks.map(|it| it["text"].as_str().unwrap()).collect();
        assert_eq!(texts, ["good", "good again"], "{spec}");
    }
}

/// Messages that are longer than `--max-block` arrive in pieces, and a wrong one is refused at its end.
#[test]
fn long_messages_arrive_in_pieces_that_a_wrong_checksum_ends() {
    for spec in SPECS {
        let framing: AnyFraming = spec.parse().unwrap();
        let args = [
            "--framing",
            spec,
            "--max-block",
            "100",
            "--oversize",
            "pieces",
        ];
        let mut server = Server::start(&args);
        let message = b"a long message, ".repeat(200);
        let mut wire = encoded(framing, &message);
        let good = wire.len();
        wire.extend_from_within(..);
        wire[good + 500] ^= 1;
        wire.extend(encoded(framing, b"short"));
        server.connect().write_all(&wire).unwrap();
        server.wait_for("close", 1);
        let (ended, events) = server.stop();
        assert_eq!(ended.totals()["fault"], 1, "{spec}: {ended:?}");
        let mut whole = String::new();
        for piece in events.iter().filter(|it| it["event"] == "piece") {
            whole.push_str(piece["text"].as_str().unwrap_or_default());
            if piece["last"] == true {
                break;
            }
        }
        assert_eq!(whole.as_bytes(), message, "{spec}");
        let last = events
            .iter()
            .filter(|it| it["event"] == "piece" && it["last"] == true);
        assert_eq!(last.count(), 1, "{spec}");
        let blocks: Vec<_> = events.iter().filter(|it| it["event"] == "block").collect();
        assert_eq!(blocks.len(), 1, "{spec}");
        assert_eq!(blocks[0]["text"], "short", "{spec}");
    }
}

fn encoded(framing: AnyFraming, message: &[u8]) -> Vec<u8> {
    let mut out = vec![0; wire_len(framing, message.len())];
    let len = encode(&mut framing.encoder(), message, &mut out).unwrap();
    out.truncate(len);
    out
}

fn decoded(framing: AnyFraming, mut wire: Vec<u8>) -> Vec<Vec<u8>> {
    let limits = Limits {
        block_max: u32::MAX,
        skip_max: u32::MAX,
    };
    let mut found = vec![];
    framing
        .decoder()
        .scan_all::<false>(&mut wire, &limits, |at, step| {
            if let Step::Payload { start, end, .. } = step {
                found.push(at + start..at + end);
            }
            true
        });
    found.into_iter().map(|span| wire[span].to_vec()).collect()
}

fn hex(lines: &[Vec<u8>]) -> String {
    let line = |bytes: &Vec<u8>| {
        let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        digits + "\n"
    };
    lines.iter().map(line).collect()
}

fn bytes_of(hex: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(byte).collect()
}
