//! Runs the recipes for NATS in `docs/recipes.md` on a stream, and compares their files with the recording.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::Path;

use blocksd_tests::code_blocks::replace;
use blocksd_tests::nats::{NatsServer, read_stream};
use blocksd_tests::process::{Server, connect, run};
use blocksd_tests::recorded::sealed;
use blocksd_tests::scrape;
use blocksd_tests::skip::skipped;
use blocksd_tests::workplace::Workplace;
use mcap::MessageStream;
use serde_json::{Value, json};

use crate::commands::recipes::{python_with, recipe};

/// The section of the recipes.
const HEADING: &str = "NATS JetStream";
/// The address in the recipes.
const URL: &str = "nats://127.0.0.1:4222";

/// The messages of each topic: number, receive time in nanoseconds since 1970, and payload.
type Messages = BTreeMap<String, Vec<(u64, u64, Vec<u8>)>>;

#[test]
fn the_mcap_file_has_the_messages_of_the_recording() {
    let name = "the_mcap_file_has_the_messages_of_the_recording";
    let Some((kitchen, nats)) = start_kitchen(name) else {
        return;
    };
    let script = replace(&recipe(HEADING, 1), URL, nats.url());
    let Some(ended) = python_with(&kitchen, name, "mcap", &script) else {
        return;
    };
    assert_eq!((ended.code, &*ended.stderr), (Some(0), ""), "{ended:?}");
    let wanted = recorded(&kitchen.path().join("kept"));
    let bytes = fs::read(kitchen.path().join("telemetry.mcap")).unwrap();
    let mut found = Messages::new();
    for message in MessageStream::new(&bytes).unwrap() {
        let message = message.unwrap();
        let topic = &message.channel.topic;
        let (_, kind) = topic.rsplit_once('/').unwrap();
        let encoding = if kind == "blocks" { "json" } else { "raw" };
        assert_eq!(message.channel.message_encoding, encoding, "{topic}");
        let of = found.entry(topic.clone()).or_default();
        of.push((
            message.sequence.into(),
            message.log_time,
            message.data.to_vec(),
        ));
    }
    let counts = |of: &Messages| {
        let counts = of.iter().map(|(topic, all)| (topic.clone(), all.len()));
        counts.collect::<Vec<_>>()
    };
    assert_eq!(counts(&found), counts(&wanted));
    assert!(found.contains_key("/device/127.0.0.1/pieces"));
    // Not printed: they are long.
    assert!(found == wanted, "a number, a time or a payload differs");
}

#[test]
fn the_table_of_pandas_has_the_rows_of_the_recording() {
    let name = "the_table_of_pandas_has_the_rows_of_the_recording";
    let Some((kitchen, nats)) = start_kitchen(name) else {
        return;
    };
    let script = replace(&recipe(HEADING, 2), URL, nats.url());
    let Some(ended) = python_with(&kitchen, name, "pandas", &script) else {
        return;
    };
    let means = r#"{"127.0.0.1":4.0,"a.b:c":14.5}"#;
    assert_eq!(ended.stdout_text(), format!("{means}\n"), "{ended:?}");
    assert_eq!((ended.code, &*ended.stderr), (Some(0), ""), "{ended:?}");
    let kept = kitchen.path().join("kept");
    let read = [
        "read",
        kept.to_str().unwrap(),
        "--output",
        "csv",
        "--fields",
        "temp,pos.lat",
    ];
    let wanted = rows(&run(&read, b"").stdout, "seq");
    let found = fs::read(kitchen.path().join("telemetry.csv")).unwrap();
    assert_eq!(rows(&found, "number"), wanted);
}

#[test]
fn a_long_message_without_its_beginning_is_named() {
    let name = "a_long_message_without_its_beginning_is_named";
    let Some((kitchen, nats)) = start_kitchen(name) else {
        return;
    };
    let is_part = |message: &Value| message["headers"]["Blocksd-Kind"] == "part";
    let stream = read_stream(&nats.url(), "blocksd");
    let first = stream.into_iter().find(is_part).unwrap();
    assert!(
        first["headers"]["Blocksd-Part"]
            .as_str()
            .unwrap()
            .starts_with("0/")
    );
    let removal = format!(
        "import asyncio, nats\n\
         async def main():\n    async with await nats.connect('{}') as client:\n        \
         await client.jetstream().delete_msg('blocksd', {})\n\
         asyncio.run(main())",
        nats.url(),
        first["sequence"]
    );
    let removed = python_with(&kitchen, name, "nats", &removal).unwrap();
    assert_eq!(removed.code, Some(0), "{removed:?}");
    let script = replace(&recipe(HEADING, 1), URL, nats.url());
    let Some(ended) = python_with(&kitchen, name, "mcap", &script) else {
        return;
    };
    assert_eq!(ended.code, Some(0), "{ended:?}");
    // Two more parts.
    let named = "a.b:c: the beginning of message 3 is not in the stream\n";
    assert_eq!(ended.stderr, named.repeat(2));
    let bytes = fs::read(kitchen.path().join("telemetry.mcap")).unwrap();
    for message in MessageStream::new(&bytes).unwrap() {
        let message = message.unwrap();
        let is_whole = message.channel.topic.ends_with("/blocks");
        assert!(!is_whole || message.data.len() < 1_000, "a part is left");
    }
}

/// A stream of a daemon that has recorded to `kept` below the folder, and the reader of the recipes there.
fn start_kitchen(name: &str) -> Option<(Workplace, NatsServer)> {
    let nats = match NatsServer::start() {
        Ok(server) => server,
        Err(reason) => {
            skipped(name, &reason);
            return None;
        }
    };
    let kitchen = Workplace::new(name, &[])?;
    let reader = kitchen.path().join("forwarded.py");
    fs::write(reader, recipe(HEADING, 0)).unwrap();
    let kept = kitchen.path().join("kept");
    record(&kept);
    // All is recorded, so messages that were received at different times are forwarded together.
    let forward = format!("{},durable=no,create=true", nats.url());
    let server = Server::start(&[
        "--record",
        kept.to_str().unwrap(),
        "--metrics",
        "127.0.0.1:0",
        "--forward",
        &forward,
    ]);
    let backlog = format!("blocksd_forward_backlog_bytes{{to=\"{}\"}}", nats.url());
    scrape::wait_for(&server, &backlog, |bytes| bytes == 0.0);
    // It forwards the rest before it ends.
    server.stop();
    let steps = read_stream(&nats.url(), "blocksd");
    let steps = steps
        .iter()
        .filter_map(|it| it["headers"]["Blocksd-Steps"].as_str());
    assert!(1 < steps.count(), "no message has several times");
    Some((kitchen, nats))
}

/// Records messages of two devices: objects, other JSON, one that is longer than a message of the stream, one that is longer
/// than the daemon accepts, and one that cannot be decoded.
fn record(kept: &Path) {
    let mut server = Server::start(&[
        "--listen",
        "127.0.0.1:0",
        "--listen",
        "127.0.0.1:0,framing=lines,oversize=pieces",
        "--decode",
        "json",
        "--record",
        kept.to_str().unwrap(),
    ]);
    let to = server.addr().to_string();
    let long = json!({"temp": 29, "long": "\u{1F980}".repeat(150_000)});
    let lines = format!("{{\"temp\":0}}\n[1]\n{{\"pos\":{{\"lat\":50.1}}}}\n{long}\n");
    let device = ["send", "--to", &to, "--session", "--device", "a.b:c"];
    let sent = run(&device, lines.as_bytes());
    assert_eq!(sent.code, Some(0), "{sent:?}");
    let mut plain = connect(server.addr_of("lines"));
    let mut count = 4;
    for temp in [2, 4, 6] {
        // Two at one time, then a later one.
        let lines = format!("{{\"temp\":{temp},\"pos\":{{\"lat\":-{temp}.5}}}}\n\"text\"\n");
        plain.write_all(lines.as_bytes()).unwrap();
        count += 2;
        server.wait_for("block", count);
    }
    let oversize = [&[b'x'; 1_500_000][..], b"\nnot JSON\n"].concat();
    plain.write_all(&oversize).unwrap();
    drop(plain);
    server.wait_for("close", 2);
    server.stop();
}

/// The messages of a recording, and the pieces: numbers from `blocksd read`, times and payloads from the files.
#[track_caller]
fn recorded(kept: &Path) -> Messages {
    let mut messages = Messages::new();
    for file in sealed(kept) {
        let bytes = fs::read(file).unwrap();
        for message in MessageStream::new(&bytes).unwrap() {
            let message = message.unwrap();
            let topic = &message.channel.topic;
            if topic.ends_with("/blocks") || topic.ends_with("/pieces") {
                let of = messages.entry(topic.clone()).or_default();
                of.push((0, message.log_time, message.data.to_vec()));
            }
        }
    }
    let read = run(&["read", kept.to_str().unwrap(), "--output", "json"], b"");
    let mut read_so_far = BTreeMap::<String, usize>::new();
    for line in read.stdout_text().lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        let kind = match event["event"].as_str() {
            Some("block") => "blocks",
            Some("piece") => "pieces",
            _ => continue,
        };
        let topic = format!("/device/{}/{kind}", event["device"].as_str().unwrap());
        let at = read_so_far.entry(topic.clone()).or_default();
        messages.get_mut(&topic).unwrap()[*at].0 = event["seq"].as_u64().unwrap();
        *at += 1;
    }
    messages
}

/// The rows of a table as text, by device and time.
fn rows(table: &[u8], number: &str) -> Vec<[String; 5]> {
    let mut reader = csv::Reader::from_reader(table);
    let header = reader.headers().unwrap().clone();
    let place = |name: &str| header.iter().position(|it| it == name).unwrap();
    let places = ["device", "time", number, "temp", "pos.lat"].map(place);
    let rows = reader.records().map(|row| {
        let row = row.unwrap();
        let [device, time, number, temp, lat] = places.map(|place| row[place].to_owned());
        [
            device,
            normal_time(&time),
            number,
            normal(&temp),
            normal(&lat),
        ]
    });
    let mut rows: Vec<_> = rows.collect();
    rows.sort();
    rows
}

/// A time with nine digits, in the spelling of `blocksd`.
fn normal_time(time: &str) -> String {
    let time = time.replace(' ', "T").replace("+00:00", "");
    let time = time.trim_end_matches('Z');
    let (seconds, fraction) = time.split_once('.').unwrap_or((time, ""));
    format!("{seconds}.{fraction:0<9}")
}

/// A number without a fraction of zero; a column of pandas with empty cells has fractions.
fn normal(number: &str) -> String {
    number.strip_suffix(".0").unwrap_or(number).to_owned()
}
