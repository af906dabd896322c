//! `--decode`: the decoding of blocks, for all listeners and for one, and undecodable blocks.

use std::io::{BufRead, BufReader, Read, Write};
use std::sync::mpsc;
use std::time::Duration;

use blocksd_tests::board::ports;
use blocksd_tests::process::{Process, Server, connect, run};
use serde_json::{Value, json};

use crate::engine::serve::payload;

/// A map of a temperature and its unit, in CBOR.
const CBOR: &[u8] = b"\xa2\x64temp\xf9\x4d\x60\x64unit\x63\xc2\xb0C";
const JSON: &[u8] = br#" {"temp": 21.5, "unit": "\u00b0C"} "#;
const TEXT: &[u8] = "teplota 21,5 °C".as_bytes();
/// Neither text, nor JSON, nor CBOR.
const NONE: &[u8] = b"\xff\xfe\0";

/// Sends these blocks as a series, and waits for the reply, if any.
fn send(port: u16, blocks: &[&[u8]]) {
    let mut wire = Vec::new();
    for block in blocks {
        wire.extend((block.len() as u32).to_be_bytes());
        wire.extend(*block);
    }
    wire.extend([0; 4]);
    let mut device = connect(([127, 0, 0, 1], port).into());
    device.write_all(&wire).expect("it listens");
    device.read_to_end(&mut Vec::new()).expect("an end");
}

/// A daemon with listeners that decode `text`, `json` and `cbor`, and one without a decoding.
fn serve(more: &[&str]) -> Server {
    let listens = ["decode=text", "decode=json", "decode=cbor", "oversize=skip"];
    let listens = listens.map(|own| format!("127.0.0.1:0,{own}"));
    let listens = listens.iter().flat_map(|listen| ["--listen", listen]);
    Server::start(&listens.chain(more.iter().copied()).collect::<Vec<_>>())
}

#[test]
fn each_listener_has_its_own_decoding() {
    let mut server = serve(&[]);
    let value = json!({"temp": 21.5, "unit": "°C"});
    let text = std::str::from_utf8(TEXT).unwrap();
    let meanings = [
        (TEXT, "text", json!(text)),
        (JSON, "value", value.clone()),
        (CBOR, "value", value),
        // The default is raw bytes.
        (TEXT, "text", json!(text)),
    ];
    for (conn, (port, (block, key, meaning))) in (1..).zip(ports(&server).into_iter().zip(meanings))
    {
        send(port, &[block, block]);
        server.wait_for("close", conn);
        let events = server.events().iter();
        let own: Vec<_> = events.filter(|event| event["conn"] == conn).collect();
        let [_, first, second, end, close] = own[..] else {
            panic!("two blocks in {own:?}");
        };
        for (seq, event) in [first, second].into_iter().enumerate() {
            assert_eq!(
                (&event["event"], &event["seq"], &event["len"]),
                (&json!("block"), &json!(seq), &json!(block.len()))
            );
            assert_eq!(event[key], meaning, "{event}");
            let keys = ["text", "base64", "value"];
            let keys = keys.iter().filter(|&&key| !event[key].is_null());
            assert_eq!(keys.count(), 1, "the payload has one form: {event}");
        }
        assert_eq!(
            (&end["blocks"], &close["reason"]),
            (&json!(2), &json!("end"))
        );
    }
    assert_eq!(server.stop().0.totals()["fault"], 0);
}

#[test]
fn messagepack_and_pairs_are_decoded_for_a_device_of_the_configuration_and_for_a_listener() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("blocksd.toml");
    let text = "[device.\"127.0.0.1\"]\ndecode = \"kv\"\n";
    std::fs::write(&config, text).unwrap();
    let config = config.to_str().unwrap();
    let checked = run(&["check-config", config], b"");
    assert_eq!(checked.code, Some(0), "{checked:?}");
    let pairs: &[u8] = b"temp=21.5,unit=\"\xc2\xb0C\"\n";
    let packed: &[u8] = b"\x82\xa4temp\xca\x41\xac\x00\x00\xa4unit\xa3\xc2\xb0C";
    let value = json!({"temp": 21.5, "unit": "°C"});
    for (args, block) in [
        (["--config", config], pairs),
        (["--decode", "kv"], pairs),
        (["--decode", "msgpack"], packed),
    ] {
        let mut server = Server::start(&args);
        send(server.addr().port(), &[block, NONE, block]);
        server.wait_for("close", 1);
        let blocks = server
            .events()
            .iter()
            .filter(|event| event["event"] == "block");
        let values: Vec<_> = blocks.map(|block| block["value"].clone()).collect();
        assert_eq!(
            values,
            [value.clone(), Value::Null, value.clone()],
            "{args:?}"
        );
        assert_eq!(server.stop().0.totals()["fault"], 1, "{args:?}");
    }
}

#[test]
fn an_undecodable_block_is_counted_and_kept_and_the_next_one_is_decoded() {
    let mut server = serve(&[]);
    for (conn, (port, (block, what))) in
        (1..).zip(
            ports(&server)
                .into_iter()
                .zip([(TEXT, "text"), (JSON, "json"), (CBOR, "cbor")]),
        )
    {
        // A valid value followed by more bytes.
        let trailing = [block, NONE].concat();
        send(port, &[NONE, &trailing, &block[..block.len() / 2], block]);
        server.wait_for("close", conn);
        let events = server.events().iter();
        let own: Vec<_> = events.filter(|event| event["conn"] == conn).collect();
        let faults = own.iter().filter(|event| event["event"] == "fault");
        let faults: Vec<_> = faults.collect();
        // A part of a text is a text.
        let wanted: &[u64] = if what == "text" { &[0, 1] } else { &[0, 1, 2] };
        let seqs: Vec<_> = faults.iter().map(|fault| &fault["seq"]).collect();
        assert_eq!(seqs, wanted.iter().collect::<Vec<_>>(), "{what}");
        for fault in faults {
            assert_eq!(
                (&fault["fault"], &fault["as"]),
                (&json!("undecodable"), &json!(what))
            );
            let reason = fault["reason"].as_str().expect("a reason");
            assert!(!reason.is_empty() && !reason.contains('\n'), "{reason:?}");
        }
        let blocks = own.iter().filter(|event| event["event"] == "block");
        let blocks: Vec<_> = blocks.collect();
        assert_eq!(payload(blocks[0]), NONE);
        assert_eq!(payload(blocks[1]), trailing);
        assert_eq!(figure_len(blocks[3]), block.len());
        assert_eq!(blocks[3]["value"].is_object(), what != "text");
        let [.., end, close] = &own[..] else {
            panic!("the series has no end");
        };
        assert_eq!(
            (&end["blocks"], &close["reason"]),
            (&json!(4), &json!("end"))
        );
    }
    let (ended, _) = server.stop();
    assert_eq!(ended.totals()["fault"], 8);
    assert!(
        ended.stderr.contains("8 faults (8 undecodable), 0 refused"),
        "{}",
        ended.stderr
    );
}

#[test]
fn an_undecodable_block_is_counted_once_logged_and_recorded_whatever_is_shown() {
    for output in ["json", "text", "hex", "none"] {
        for recorded in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().to_str().unwrap();
            let mut args = vec!["--once", "--decode", "json", "--output", output];
            if recorded {
                args.extend(["--record", path]);
            }
            let server = Server::start(&args);
            let wire = [
                &b"\0\0\0\x02no\0\0\0\x011"[..],
                &b"\0\0\0\x02no".repeat(6),
                &[0; 4],
            ];
            server.connect().write_all(&wire.concat()).unwrap();
            let ended = server.process.end();
            let about = format!("--output {output}, recorded: {recorded}: {ended:?}");
            assert_eq!(ended.totals()["fault"], 7, "{about}");
            let logged = ended.stderr.matches(" is not valid json: ").count();
            assert_eq!(logged, 5, "{about}");
            assert!(
                ended.stderr.contains("message 0 is not valid json"),
                "{about}"
            );
            let shown = ended.stdout_text();
            let shown =
                shown.matches("undecodable").count() + shown.matches(" is not valid json").count();
            assert_eq!(shown, if output == "none" { 0 } else { 7 }, "{about}");
            if !recorded {
                continue;
            }
            // What is recorded, and what a reader finds that decodes itself.
            for decode in [&["--decode", "raw"][..], &[]] {
                let read = run(&[&["read", path, "--output", "json"], decode].concat(), b"");
                let read = read.stdout_text();
                let events = read
                    .lines()
                    .map(|line| serde_json::from_str::<Value>(line).unwrap());
                let faults = events.filter(|event| event["event"] == "fault");
                let faults: Vec<_> = faults.collect();
                let seqs: Vec<_> = faults.iter().map(|fault| fault["seq"].as_u64()).collect();
                let wanted = [0, 2, 3, 4, 5, 6, 7].map(Some);
                assert_eq!(seqs, wanted, "{read}");
                for fault in faults {
                    assert_eq!(
                        (&fault["fault"], &fault["as"]),
                        (&json!("undecodable"), &json!("json"))
                    );
                }
            }
        }
    }
}

#[test]
fn undecodable_blocks_that_the_output_drops_are_counted_logged_and_recorded() {
    const COUNT: usize = 300;
    const LEN: usize = 40_000;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let args = ["--decode", "json", "--record", path, "--reply", "receipt"];
    let mut command = Server::command(&args);
    command.stdout(std::process::Stdio::piped());
    let mut server = Server::of(Process::start_unread(command), &args);
    let stdout = server.process.take_stdout().unwrap();
    let block = [&(LEN as u32).to_be_bytes()[..], &[b'x'; LEN]].concat();
    let mut device = server.connect();
    for _ in 0..COUNT {
        device.write_all(&block).unwrap();
    }
    device.write_all(&[0; 4]).unwrap();
    // The receipt shows that all blocks were received, although none was read from the output.
    device.read_to_end(&mut Vec::new()).unwrap();
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines() {
            sender.send(line.unwrap()).ok();
        }
    });
    // From now on the output is read. Once a later connection is shown, the daemon waits for nothing when it stops.
    let mut shown: Vec<Value> = Vec::new();
    let is_late = |event: &Value| event["event"] == "close" && event["conn"] != 1;
    for _ in 0..100 {
        server.connect().write_all(&[0; 4]).unwrap();
        while let Ok(line) = lines.recv_timeout(Duration::from_millis(300)) {
            shown.push(serde_json::from_str(&line).unwrap());
            if shown.last().is_some_and(is_late) {
                break;
            }
        }
        if shown.last().is_some_and(is_late) {
            break;
        }
    }
    let (ended, _) = server.stop();
    shown.extend(
        lines
            .iter()
            .map(|line| serde_json::from_str::<Value>(&line).unwrap()),
    );
    let lost = shown.iter().filter(|event| event["event"] == "lost");
    let lost: u64 = lost.map(|event| event["blocks"].as_u64().unwrap()).sum();
    let blocks = shown.iter().filter(|event| event["event"] == "block");
    let blocks = blocks.count() as u64;
    assert!(0 < lost, "the output drops blocks");
    assert_eq!(blocks + lost, COUNT as u64);
    assert_eq!(ended.totals()["fault"], COUNT as u64, "{ended:?}");
    let logged = ended.stderr.matches(" is not valid json: ").count();
    assert_eq!(logged, 5, "{ended:?}");
    let read = run(&["read", path, "--output", "json", "--decode", "raw"], b"");
    let read = read.stdout_text();
    let events = read
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let faults = events.filter(|event| event["event"] == "fault");
    let seqs: Vec<_> = faults.map(|fault| fault["seq"].as_u64()).collect();
    assert_eq!(seqs, (0..COUNT as u64).map(Some).collect::<Vec<_>>());
}

fn figure_len(block: &Value) -> usize {
    block["len"].as_u64().expect("a length") as usize
}

#[test]
fn the_text_output_shows_fields_and_escapes_undecodable_blocks() {
    let server = serve(&["--output", "text", "--decode", "json", "--reply", "receipt"]);
    let spiteful = b"\xa1\x61\x1b\x64\x1b[2J";
    let ports = ports(&server);
    send(ports[0], &[TEXT, NONE]);
    send(ports[1], &[JSON, b"[1, 2]", b"{"]);
    send(ports[2], &[CBOR, spiteful]);
    send(ports[3], &[JSON, NONE]);
    server.process.signal("TERM");
    let ended = server.process.end();
    let printed = ended.stdout_text();
    let lines: Vec<_> = printed
        .lines()
        // After the time, the address and the connection.
        .filter_map(|line| line.splitn(4, ' ').nth(3))
        .collect();
    for (line, count) in [
        ("teplota 21,5 °C", 1),
        ("temp=21.5 unit=\"°C\"", 3),
        ("[1,2]", 1),
        ("\"\\u001b\"=\"\\u001b[2J\"", 1),
    ] {
        let found = lines.iter().filter(|&&shown| shown == line).count();
        assert_eq!(found, count, "{line} in\n{printed}");
    }
    for (what, bytes) in [
        ("text", ": \\xff\\xfe\\x00"),
        ("json", ": {"),
        ("json", ": \\xff\\xfe\\x00"),
    ] {
        let begin = format!("fault: message is not valid {what}: ");
        assert!(
            lines
                .iter()
                .any(|line| line.starts_with(&begin) && line.ends_with(bytes)),
            "{begin}…{bytes} in\n{printed}"
        );
    }
    assert!(!printed.contains('\u{1b}'), "{printed:?}");
    assert_eq!(ended.totals()["fault"], 3);
}

#[test]
fn the_global_option_applies_to_listeners_without_their_own() {
    let args = ["127.0.0.1:0", "127.0.0.1:0,decode=raw", "127.0.0.1:0"];
    let args = args.iter().flat_map(|listen| ["--listen", listen]);
    let args: Vec<_> = args.chain(["--decode", "cbor"]).collect();
    let mut server = Server::start(&args);
    for (conn, (port, decoded)) in (1..).zip(ports(&server).into_iter().zip([true, false, true])) {
        send(port, &[CBOR]);
        server.wait_for("close", conn);
        let mut events = server.events().iter().rev();
        let block = events.find(|event| event["event"] == "block");
        let block = block.expect("a block");
        assert_eq!(block["value"].is_object(), decoded, "{block}");
        assert!(decoded || payload(block) == CBOR, "{block}");
    }
}

#[test]
fn pieces_and_dumps_stay_bytes() {
    let listen = "127.0.0.1:0,decode=json,oversize=pieces,max-block=5";
    let mut server = Server::start(&["--listen", listen]);
    send(server.addr().port(), &[JSON, b"[1]"]);
    server.wait_for("close", 1);
    let events = server.events();
    let pieces = events.iter().filter(|event| event["event"] == "piece");
    assert_eq!(crate::engine::serve::join(pieces), JSON);
    let block = events.iter().find(|event| event["event"] == "block");
    assert_eq!(block.expect("a block")["value"], json!([1]));
    assert_eq!(server.stop().0.totals()["fault"], 0);

    let server = Server::start(&["--decode", "json", "--output", "hex", "--once"]);
    send(server.addr().port(), &[b"{"]);
    let ended = server.process.end();
    assert!(ended.stdout_text().contains("00000000  7b "), "{ended:?}");
    assert_eq!(ended.totals()["fault"], 1);
}

#[test]
fn an_impossible_decoding_is_one_clear_line_and_exit_2() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text.elf");
    std::fs::write(&text, "\u{7f}ELF it is not").unwrap();
    // A small program without defmt formats. That of the daemon has debug information, and may be too long.
    let other = "/bin/true";
    let text = text.to_str().unwrap();
    for (decoding, what) in [
        (
            "morse",
            "raw, text, json, cbor, msgpack, kv, defmt:ELF, defmt:DIR",
        ),
        ("defmt", "defmt:ELF"),
        ("defmt:", "a path is missing, as in defmt:firmware.elf"),
        ("defmt:/no/such.elf", "cannot read /no/such.elf"),
        ("defmt:/dev/zero", "it is not a regular file"),
        (
            &format!("defmt:{text}"),
            &format!("{text} has no defmt formats: "),
        ),
        (&format!("defmt:{other}"), "it has no section .defmt"),
    ] {
        let listen = format!("127.0.0.1:0,decode={decoding}");
        for args in [["--listen", &listen], ["--decode", decoding]] {
            run(&[&["serve"], &args[..]].concat(), b"").assert_refused(2, what);
        }
    }
}
