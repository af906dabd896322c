//! Recordings of earlier versions, in `tests/golden`: every command that reads recordings reads them.

use std::fs;
use std::path::{Path, PathBuf};

use blocksd_tests::exported::exported;
use blocksd_tests::process::{Ended, Server, run};
use serde_json::Value;
use tempfile::TempDir;

/// The cases, with the number of lost bytes in each.
const CASES: [(&str, u64); 8] = [
    ("none", 0),
    ("lz4", 0),
    ("zstd", 0),
    ("rotated", 0),
    ("torn", 0),
    ("torn-zstd", 0),
    ("cut", 160),
    ("damaged", 514),
];

fn case(name: &str) -> PathBuf {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/9bf1462");
    golden.join(name)
}

/// A copy of the recordings of a case.
fn copy(name: &str) -> TempDir {
    let folder = TempDir::new().unwrap();
    for entry in fs::read_dir(case(name)).unwrap() {
        let path = entry.unwrap().path();
        if !path.to_string_lossy().contains("/read.") {
            fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
        }
    }
    folder
}

fn on(command: &str, folder: &Path, options: &[&str]) -> Ended {
    run(
        &[&[command, folder.to_str().unwrap()], options].concat(),
        b"",
    )
}

/// The JSON output of the version that wrote the recordings.
fn expected_json(name: &str) -> String {
    let text = fs::read_to_string(case(name).join("read.json")).unwrap();
    // The JSON parser was replaced since then, and words its errors differently.
    text.replace(
        "expected ident at line 1 column 2",
        "null expected at byte 0",
    )
}

/// The CSV output of that version, with the connection and the number of each message from its JSON output. Its CSV
/// output had no connection and no session, and another number for pieces.
fn expected_csv(name: &str) -> String {
    let text = fs::read_to_string(case(name).join("read.csv")).unwrap();
    let mut rows = text.lines();
    let mut expected = format!("{},conn,part,session\n", rows.next().unwrap());
    let events = events(name).into_iter();
    let mut messages = events.filter(|it| it["event"] == "block" || it["event"] == "piece");
    for row in rows {
        let message = messages.next().unwrap();
        let [time, device, seq, rest] = row.splitn(4, ',').collect::<Vec<_>>().try_into().unwrap();
        assert_eq!(
            (&message["time"], &message["device"]),
            (&time.into(), &device.into())
        );
        assert!(
            message["event"] == "piece" || message["seq"].as_u64() == seq.parse().ok(),
            "{row}"
        );
        let (seq, conn) = (&message["seq"], message.get("conn"));
        let conn = conn.map_or_else(String::new, Value::to_string);
        let part = match (&message["event"], &message["last"]) {
            (event, _) if event == "block" => "",
            (_, Value::Bool(true)) => "last",
            _ => "piece",
        };
        expected += &format!("{time},{device},{seq},{rest},{conn},{part},\n");
    }
    assert_eq!(messages.next(), None);
    expected
}

fn events(name: &str) -> Vec<Value> {
    let lines = expected_json(name);
    let parsed = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    parsed.collect()
}

/// Compares the events of devices with those that the version that wrote the files printed.
#[track_caller]
fn assert_reads(name: &str, folder: &Path, code: i32) {
    let is_of_daemon = |line: &&str| {
        let events = ["started", "repaired", "stopped"];
        events
            .iter()
            .any(|it| line.starts_with(&format!(r#"{{"event":"{it}""#)))
    };
    for (output, expected) in [("json", expected_json(name)), ("csv", expected_csv(name))] {
        let read = on("read", folder, &["--output", output]);
        let text = read.stdout_text();
        let lines = text.split_inclusive('\n').filter(|it| !is_of_daemon(it));
        assert_eq!(lines.collect::<String>(), expected, "{name}");
        assert_eq!(read.code, Some(code), "{name}: {read:?}");
    }
}

#[test]
fn read_prints_the_same_as_the_version_that_wrote_the_files() {
    for (name, lost) in CASES {
        assert_reads(name, copy(name).path(), i32::from(lost != 0));
    }
}

#[test]
fn recordings_lists_devices_blocks_and_losses() {
    for (name, lost) in CASES {
        let folder = copy(name);
        let listed = on("recordings", folder.path(), &["--json"]);
        assert_eq!(listed.code, Some(0), "{name}: {listed:?}");
        let rows = listed.stdout_text();
        let rows: Vec<Value> = rows
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(rows.len(), fs::read_dir(folder.path()).unwrap().count());
        let sum = |key: &str| {
            rows.iter()
                .map(|row| row[key].as_u64().unwrap())
                .sum::<u64>()
        };
        let blocks = events(name)
            .iter()
            .filter(|event| event["event"] == "block")
            .count();
        // A summary counts all messages, including the lost ones.
        let damaged = if name == "damaged" { (1, 0) } else { (0, lost) };
        assert_eq!(
            (sum("blocks"), sum("lost")),
            (blocks as u64 + damaged.0, damaged.1),
            "{name}: {rows:?}"
        );
        assert_eq!(rows[0]["devices"].as_array().unwrap().len(), 3, "{name}");
    }
}

#[test]
fn verify_accepts_the_sealed_files_and_refuses_the_others() {
    for (name, _) in CASES {
        let sound = ["none", "lz4", "zstd", "rotated"].contains(&name);
        let verified = on("verify", copy(name).path(), &[]);
        assert_eq!(verified.code, Some(i32::from(!sound)), "{verified:?}");
    }
}

#[test]
fn recover_keeps_everything_that_read_prints() {
    for (name, lost) in CASES {
        let folder = copy(name);
        let recovered = on("recover", folder.path(), &[]);
        assert_eq!(recovered.code, Some(0), "{name}: {recovered:?}");
        // Sealed files are not examined, so their damage stays.
        let is_left = name == "damaged";
        assert_reads(name, folder.path(), i32::from(is_left));
        let verified = on("verify", folder.path(), &[]);
        assert_eq!(verified.code, Some(i32::from(is_left)), "{verified:?}");
        if is_left {
            let file = blocksd_tests::recorded::sealed(folder.path()).remove(0);
            let saved = folder.path().join("saved.mcap");
            let recovered = on("recover", &file, &["--output", saved.to_str().unwrap()]);
            assert!(
                recovered
                    .stdout_text()
                    .contains(&format!("lost {lost} bytes")),
                "{recovered:?}"
            );
            assert_reads(name, &saved, 0);
            assert_eq!(on("verify", &saved, &[]).code, Some(0));
        }
    }
}

#[test]
fn a_daemon_that_starts_on_old_files_repairs_them_and_continues() {
    for name in ["rotated", "torn", "cut"] {
        let folder = copy(name);
        let path = folder.path().to_str().unwrap();
        Server::start(&["--record", path]).stop();
        assert_reads(name, folder.path(), 0);
        assert_eq!(on("verify", folder.path(), &[]).code, Some(0), "{name}");
    }
}

#[test]
fn replay_sends_every_complete_message() {
    for (name, lost) in CASES {
        let server = Server::start(&["--framing", "length:u32", "--output", "none"]);
        let to = server.addr().to_string();
        let options = ["--to", &to, "--framing", "length:u32", "--speed", "max"];
        let replayed = on("replay", copy(name).path(), &options);
        assert_eq!(replayed.code, Some(i32::from(lost != 0)), "{replayed:?}");
        let (ended, _) = server.stop();
        let events = events(name);
        let whole = events.iter().filter(|event| {
            // In another framing, each piece of a `stream` is a message.
            let is_stream = event["device"] == "127.0.0.3";
            let is_last = event["last"] == true || is_stream;
            event["event"] == "block" || (event["event"] == "piece" && is_last)
        });
        assert_eq!(ended.totals()["block"], whole.count() as u64, "{name}");
    }
}

#[test]
fn export_writes_every_message_that_read_decodes() {
    for (name, lost) in CASES {
        let (folder, other) = (copy(name), tempfile::tempdir().unwrap());
        let out = other.path().join("out.mcap");
        let options = ["--to", "foxglove", "--out", out.to_str().unwrap()];
        let ended = on("export", folder.path(), &options);
        let events = events(name);
        let count = |key: &str, value: &str| events.iter().filter(|it| it[key] == value).count();
        let undecodable = count("fault", "undecodable");
        let left_out = undecodable + count("event", "piece");
        let messages = exported(&out);
        let messages = messages.iter().filter(|it| it.topic != "/blocksd/events");
        let want = count("event", "block") - undecodable;
        assert_eq!(messages.count(), want, "{name}: {ended:?}");
        let is_whole = lost == 0 && left_out == 0;
        assert_eq!(ended.code, Some(i32::from(!is_whole)), "{name}: {ended:?}");
    }
}
