//! Recordings and Python's package `mcap`: it reads our recordings with all its checks, and we read its recordings.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use blocksd::recorded::ranges::CHECKER;
use blocksd_tests::process::{Ended, Server, finish, python, run};
use blocksd_tests::recording::{Sample, StoredMessage, put};
use mcap::Compression;
use serde_json::Value;

/// Runs the peer with the packages that `tests/run` has installed.
fn peer(args: &[&str]) -> Ended {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let packages: PathBuf = root.join("target/python");
    assert!(
        packages.join("mcap").is_dir(),
        "Python's package mcap is missing; run `tests/run`, or in the top folder: \
         python3 -m pip install --target target/python --requirement tests/peers/requirements.txt"
    );
    let mut command = python("mcap_peer.py", args);
    command.env("PYTHONPATH", packages);
    let ended = finish(command, b"");
    assert_eq!(
        (ended.code, ended.stderr.as_str()),
        (Some(0), ""),
        "{ended:?}"
    );
    ended
}

/// The messages that the peer reads, and its statistics.
fn read(path: &Path) -> (Vec<StoredMessage>, Value) {
    let text = peer(&["read", path.to_str().unwrap()]).stdout_text();
    let lines = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut lines: Vec<_> = lines.collect();
    let statistics = lines.pop().unwrap();
    let stored = lines.iter().map(|line| {
        assert_eq!(line["log_time"], line["publish_time"]);
        let topic = line["topic"].as_str().unwrap().to_owned();
        match topic
            .strip_prefix("/device/")
            .and_then(|it| it.strip_suffix("/blocks"))
        {
            Some(device) => assert_eq!(line["device"], device),
            None => assert_eq!(line["schema"], "blocksd.Event"),
        }
        StoredMessage {
            topic,
            sequence: line["sequence"].as_u64().unwrap().try_into().unwrap(),
            time: line["log_time"].as_u64().unwrap(),
            data: STANDARD.decode(line["data"].as_str().unwrap()).unwrap(),
        }
    });
    (stored.collect(), statistics)
}

fn counts(stored: &[StoredMessage]) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for stored in stored {
        *counts.entry(stored.topic.clone()).or_default() += 1;
    }
    counts
}

#[test]
fn python_reads_what_was_recorded_and_what_was_recovered() {
    let directory = tempfile::tempdir().unwrap();
    for compression in [None, Some(Compression::Lz4), Some(Compression::Zstd)] {
        let sample = Sample {
            compression,
            first: u32::MAX - 1,
            ..Sample::default()
        };
        let (bytes, stored) = sample.sealed();
        let (read_back, statistics) = read(&put(directory.path(), 1, "mcap", &bytes));
        assert_eq!(read_back, stored, "{compression:?}");
        let counts = serde_json::to_value(counts(&stored)).unwrap();
        assert_eq!(
            (&statistics["counts"], &statistics["chunks"]),
            (&counts, &4.into())
        );

        let (torn, _) = sample.torn();
        let from = put(directory.path(), 2, "mcap.part", &torn[..torn.len() - 10]);
        let to = from.with_extension("");
        let _ = std::fs::remove_file(&to);
        CHECKER.recover(&from, &to).unwrap();
        assert_eq!(read(&to), (stored, statistics), "{compression:?}");
    }
}

#[test]
fn python_reads_what_a_daemon_kept() {
    for compression in ["none", "lz4", "zstd"] {
        let directory = tempfile::tempdir().unwrap();
        let record = directory.path().to_str().unwrap();
        let args = ["--record", record, "--record-compression", compression];
        let mut server = Server::start(&args);
        let address = server.addr().to_string();
        let messages: Vec<_> = (0..50).map(|number| format!("message {number}")).collect();
        let mut args = vec!["send", "--to", &address];
        args.extend(messages.iter().map(String::as_str));
        assert_eq!(run(&args, b"").code, Some(0));
        server.wait_for("close", 1);
        server.stop();
        let files = std::fs::read_dir(directory.path()).unwrap();
        let mut files = files.map(|it| it.unwrap().path());
        let path = files.find(|it| it.extension().unwrap() == "mcap").unwrap();
        let (stored, statistics) = read(&path);
        let blocks = stored.iter().filter(|it| it.topic.ends_with("/blocks"));
        let blocks: Vec<_> = blocks.map(|it| (it.sequence, it.data.clone())).collect();
        let sent = messages.iter().map(|it| it.clone().into_bytes());
        assert_eq!(blocks, (0..).zip(sent).collect::<Vec<_>>(), "{compression}");
        let counts = serde_json::to_value(counts(&stored)).unwrap();
        assert_eq!(statistics["counts"], counts);
    }
}

#[test]
fn recordings_written_by_python_are_read_with_and_without_chunks() {
    let directory = tempfile::tempdir().unwrap();
    for how in ["none", "lz4", "zstd", "loose"] {
        let path = directory.path().join(format!("{how}.mcap"));
        let path = path.to_str().unwrap();
        peer(&["write", path, how]);
        let ended = run(&["verify", path], b"");
        assert_eq!(ended.code, Some(0), "{how}: {ended:?}");
        let ended = run(&["read", path, "--output", "raw"], b"");
        let want = "{\"number\":0}\n{\"number\":1}\n{\"number\":2}\n";
        assert_eq!(ended.stdout_text(), want, "{how}: {ended:?}");
        // Truncated, and its complete chunks are recovered.
        let bytes = std::fs::read(path).unwrap();
        let torn = format!("{path}.part");
        std::fs::write(&torn, &bytes[..bytes.len() - 20]).unwrap();
        std::fs::remove_file(path).unwrap();
        let ended = run(&["recover", &torn], b"");
        assert!(
            ended.stdout_text().contains("3 other messages"),
            "{how}: {ended:?}"
        );
        let ended = run(&["read", path, "--output", "raw"], b"");
        assert_eq!(
            (ended.code, ended.stdout_text().as_str()),
            (Some(0), want),
            "{how}"
        );
    }
}
