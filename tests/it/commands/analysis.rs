//! Exports and recordings in the readers of other projects: Python's `mcap` with `jsonschema`, and `@mcap/core`, which
//! Foxglove and Lichtblick use. `docs/analysis.md` names the programs that were tried by hand.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use blocksd_tests::elf::{BUILD, elf};
use blocksd_tests::exported::DecodableFile;
use blocksd_tests::process::{Server, finish, python, run};
use blocksd_tests::recorded::sealed;
use blocksd_tests::recording::BEGIN;
use blocksd_tests::skip::skipped;
use serde_json::{Value, json};

/// A message as a peer prints it.
type Line = (String, String, u64, Value);

/// A program that reads an MCAP file and prints its JSON messages.
fn peer(name: &str, mut command: Command, path: &Path) -> Vec<Line> {
    command.arg(path);
    let ended = finish(command, b"");
    assert_eq!(
        (ended.code, &*ended.stderr),
        (Some(0), ""),
        "{name}: {ended:?}"
    );
    let text = ended.stdout_text();
    let lines = text.lines().map(|line| {
        let line: Value = serde_json::from_str(line).unwrap();
        let text = |at: usize| line[at].as_str().unwrap().to_owned();
        // JavaScript has no integers of 64 bits.
        let time = line[2].as_u64().unwrap_or_else(|| text(2).parse().unwrap());
        (text(0), text(1), time, line[3].clone())
    });
    lines.collect()
}

fn target(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../target")
        .join(folder)
}

/// Python with the packages `mcap` and `jsonschema`. It checks every message with its schema.
fn python_peer(name: &str) -> Option<Command> {
    let packages = target("python");
    if !packages.join("jsonschema").is_dir() {
        skipped(
            name,
            "Python's package jsonschema is missing; `tests/run` installs it",
        );
        return None;
    }
    let mut command = python("mcap_peer.py", &["decode"]);
    command.env("PYTHONPATH", packages);
    Some(command)
}

/// Node.js with the packages `@mcap/core` and `@mcap/support`.
fn node_peer(name: &str) -> Option<Command> {
    let packages = target("node/node_modules");
    let has_node = Command::new("node").arg("--version").output().is_ok();
    if !has_node || !packages.join("@mcap/core").is_dir() {
        skipped(
            name,
            "Node.js or its package @mcap/core is missing; `tests/run` installs the package",
        );
        return None;
    }
    let mut command = Command::new("node");
    let peer = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/mcap_peer.cjs");
    command.arg(peer).env("NODE_PATH", packages);
    Some(command)
}

/// A recording with a device for JSON, CBOR, text and logs; and the arguments that export it.
fn recording(folder: &Path) -> Vec<String> {
    let path = folder.join("firmware.elf");
    let formats = [("timestamp", "{=u64:us}"), ("warn", "temp {=u8}")];
    fs::write(&path, elf(&formats)).unwrap();
    let recorded = folder.join("rec");
    fs::create_dir(&recorded).unwrap();
    let mut file = DecodableFile::begin();
    file.open("10.0.0.7", 4);
    for number in 0..20_u8 {
        let json = format!(r#"{{"temp":{number}.5,"acc":[{number},2],"note":"a\u0001b"}}"#);
        file.add("10.0.0.7", "json", json);
        file.add(
            "imu",
            "cbor",
            [b"\xa2\x61t\x18", &[100 + number][..], b"\x61n\xf9\x7e\x00"].concat(),
        );
        file.add("meter", "text", format!("v={number} unit=C"));
    }
    file.seal(&recorded);
    let mut args = ["export", recorded.to_str().unwrap(), "--out", "", "--to"].map(str::to_owned);
    args[3] = folder.join("out.mcap").to_str().unwrap().to_owned();
    args.to_vec()
}

#[track_caller]
fn export(args: &[String], more: &[&str]) {
    let args: Vec<_> = args.iter().map(|arg| &**arg).collect();
    let ended = run(&[&args, more].concat(), b"");
    assert_eq!((ended.code, &*ended.stderr), (Some(0), ""), "{ended:?}");
}

/// Runs both peers on the export of the recording. Each must find the fields of every device.
fn check(name: &str, of: impl Fn(&str) -> Option<Command>) {
    let folder = tempfile::tempdir().unwrap();
    let args = recording(folder.path());
    let out = folder.path().join("out.mcap");
    for to in ["foxglove", "plotjuggler"] {
        let Some(command) = of(name) else {
            return;
        };
        export(&args, &[to, "--force"]);
        let lines = peer(name, command, &out);
        assert_eq!(lines.len(), 61);
        let of_topic = |topic: &str| {
            let lines = lines.iter().filter(|line| line.0 == topic);
            lines.map(|line| line.3.clone()).collect::<Vec<_>>()
        };
        let own = |seq: u8, object: Value| {
            let mut all = json!({"_seq": seq});
            let members = all.as_object_mut().unwrap();
            members.extend(object.as_object().unwrap().clone());
            all
        };
        for (topic, object) in [
            (
                "/device_10_0_0_7",
                &(|number: u8| json!({"_conn": 4, "temp": f64::from(number) + 0.5, "acc": [number, 2], "note": "a\u{1}b"}))
                    as &dyn Fn(u8) -> Value,
            ),
            ("/device_imu", &|number| json!({"t": 100 + number})),
            ("/device_meter", &|number| json!({"v": number, "unit": "C"})),
        ] {
            let want: Vec<_> = (0..20).map(|number| own(number, object(number))).collect();
            assert_eq!(of_topic(topic), want, "{name}");
        }
        assert_eq!(of_topic("/blocksd/events")[0]["event"], "open");
    }
}

#[test]
fn python_reads_an_export_and_each_schema_holds() {
    check("python_reads_an_export_and_each_schema_holds", python_peer);
}

#[test]
fn the_reader_of_foxglove_reads_an_export() {
    check("the_reader_of_foxglove_reads_an_export", node_peer);
}

#[test]
fn both_read_an_exported_log() {
    let name = "both_read_an_exported_log";
    for command in [python_peer(name), node_peer(name)].into_iter().flatten() {
        let folder = tempfile::tempdir().unwrap();
        let args = recording(folder.path());
        let mut file = DecodableFile::begin();
        file.add("board", "defmt", BUILD);
        file.add("board", "defmt", b"\x02\0\x40\x42\x0f\0\0\0\0\0\x60");
        file.seal(&folder.path().join("rec"));
        let defmt = format!("defmt:{}", folder.path().join("firmware.elf").display());
        export(&args, &["foxglove", "--decode", &defmt]);
        let lines = peer(name, command, &folder.path().join("out.mcap"));
        let (topic, schema, time, log) = &lines[1];
        assert_eq!((&**topic, &**schema), ("/device_board/log", "foxglove.Log"));
        let second = 1_000_000_000;
        let want = json!({
            "_seq": 1, "timestamp": {"sec": time / second, "nsec": time % second}, "level": 3,
            "message": "temp 96", "name": "board", "file": "", "line": 0, "device_time": "1.000000",
        });
        assert_eq!(log, &want);
        assert!(BEGIN < *time);
    }
}

#[test]
fn both_read_the_fields_of_a_recording() {
    let name = "both_read_the_fields_of_a_recording";
    let folder = tempfile::tempdir().unwrap();
    let recorded = folder.path().join("rec");
    let record = ["--record", recorded.to_str().unwrap(), "--decode", "json"];
    let mut server = Server::start(&record);
    let mut device = server.connect();
    for number in 0..50 {
        let json = format!("{{\"temp\":{number},\"more\":{{\"x\":[{number}.5]}}}}");
        device
            .write_all(&(json.len() as u32).to_be_bytes())
            .unwrap();
        device.write_all(json.as_bytes()).unwrap();
    }
    device.write_all(&[0; 4]).unwrap();
    drop(device);
    server.wait_for("close", 1);
    server.stop();
    let file = sealed(&recorded).pop().unwrap();
    for command in [python_peer(name), node_peer(name)].into_iter().flatten() {
        let lines = peer(name, command, &file);
        let blocks: Vec<_> = lines
            .iter()
            .filter(|line| line.0.ends_with("/blocks"))
            .collect();
        assert_eq!(blocks.len(), 50);
        for (number, (_, schema, _, value)) in (0..).zip(&blocks) {
            assert!(schema.starts_with("blocksd.Message."), "{schema}");
            assert_eq!(
                value,
                &json!({"temp": number, "more": {"x": [f64::from(number) + 0.5]}})
            );
        }
    }
}
