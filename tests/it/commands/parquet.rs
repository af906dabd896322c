//! Parquet files of `blocksd`, read by DuckDB and Apache Arrow, and CSV of fields, read by pandas.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use blocksd_tests::exported::DecodableFile;
use blocksd_tests::process::{Server, blocksd, finish, python, run};
use blocksd_tests::recording::{BEGIN, STEP};
use blocksd_tests::skip::skipped;
use serde_json::{Value, json};

/// Address space of a command that reads a long recording: room for the program and a row group, not for all values.
const ADDRESSES_KIB: u64 = 140 << 10;

/// What a program finds in a file: a JSON line for each row.
fn peer(name: &str, program: &str, path: &Path) -> Option<Vec<Value>> {
    peer_with(name, program, path, &[])
}

/// The same, with further arguments.
fn peer_with(name: &str, program: &str, path: &Path, more: &[&str]) -> Option<Vec<Value>> {
    let packages = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/python");
    if !packages.join(program).is_dir() {
        let reason = format_args!("Python's package {program} is missing; `tests/run` installs it");
        skipped(name, reason);
        return None;
    }
    let args = [program, path.to_str().unwrap()];
    let mut command = python("table_peer.py", &[&args, more].concat());
    command.env("PYTHONPATH", packages);
    let ended = finish(command, b"");
    assert_eq!((ended.code, &*ended.stderr), (Some(0), ""), "{ended:?}");
    let text = ended.stdout_text();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    Some(lines.collect())
}

/// Writes the output of `read` to a file.
fn read(folder: &Path, output: &str, more: &[&str]) -> PathBuf {
    let out = folder.join(format!("out.{output}"));
    let recording = folder.join("rec");
    let args = ["read", recording.to_str().unwrap(), "--output", output];
    let ended = run(&[&args, more].concat(), b"");
    assert_eq!((ended.code, &*ended.stderr), (Some(0), ""), "{ended:?}");
    fs::write(&out, ended.stdout).unwrap();
    out
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("rec")).unwrap();
    folder
}

/// A recording with values of every type, and its rows.
fn every_type(folder: &Path) -> Vec<Value> {
    let mut file = DecodableFile::begin();
    file.open("imu", 4);
    let messages: [(&str, &str, &[u8], Value); 6] = [
        (
            "imu",
            "json",
            br#"{"int":-9223372036854775808,"big":18446744073709551615,"huge":123456789012345678901234567890,"x":1,"ok":true,"s":"=1+1 \"q\"\n\u0000\u00e9","seq":5,"pos":{"lat":[1.5]},"mixed":1,"wide":9007199254740993,"none":null}"#,
            json!({"int": i64::MIN, "big": u64::MAX, "huge": "123456789012345678901234567890", "x": 1.0, "ok": true,
                "s": "=1+1 \"q\"\n\u{0}é", "_seq": 5, "pos.lat.0": 1.5, "mixed": "1", "wide": "9007199254740993"}),
        ),
        (
            "imu",
            "json",
            br#"{"int":7,"big":0,"huge":2,"x":0.1,"ok":false,"s":"","mixed":"a","wide":0.5}"#,
            json!({"int": 7, "big": 0, "huge": "2", "x": 0.1, "ok": false, "s": "", "mixed": "a", "wide": "0.5"}),
        ),
        // {"x": NaN, "mixed": true}
        (
            "node",
            "cbor",
            b"\xa2\x61x\xf9\x7e\x00\x65mixed\xf5",
            json!({"x": "nan", "mixed": "true"}),
        ),
        // {"x": -inf}
        (
            "pack",
            "msgpack",
            b"\x81\xa1x\xca\xff\x80\x00\x00",
            json!({"x": "-inf"}),
        ),
        ("meter", "kv", b"x=2 s=on", json!({"x": 2.0, "s": "on"})),
        ("meter", "kv", b"x=-0.25", json!({"x": -0.25})),
    ];
    let names = [
        "int",
        "big",
        "huge",
        "x",
        "ok",
        "s",
        "_seq",
        "pos.lat.0",
        "mixed",
        "wide",
        "none",
    ];
    let mut sequences = std::collections::HashMap::new();
    let mut rows = Vec::new();
    for (number, (device, decode, payload, fields)) in (0..).zip(messages) {
        file.add(device, decode, payload);
        let seq = sequences.entry(device).or_insert(0);
        let conn = (device == "imu").then_some(4);
        let time = BEGIN + number * STEP;
        let mut row = json!({"time": time, "device": device, "conn": conn, "seq": *seq});
        *seq += 1;
        for name in names {
            row[name] = fields[name].clone();
        }
        rows.push(row);
    }
    file.seal(&folder.join("rec"));
    rows
}

#[test]
fn duckdb_and_arrow_read_every_type_with_equal_values() {
    let name = "duckdb_and_arrow_read_every_type_with_equal_values";
    let folder = folder();
    let want = every_type(folder.path());
    let out = folder.path().join("export.parquet");
    let recording = folder.path().join("rec");
    let args = [
        "export",
        recording.to_str().unwrap(),
        "--to",
        "parquet",
        "--out",
    ];
    let exported = run(&[&args[..], &[out.to_str().unwrap()]].concat(), b"");
    assert_eq!(exported.code, Some(0), "{exported:?}");
    let done = format!("exported 6 messages of 4 devices to {}\n", out.display());
    assert_eq!(exported.stdout_text(), done);
    let again = run(&[&args[..], &[out.to_str().unwrap()]].concat(), b"");
    again.assert_refused(
        2,
        "exists; choose another --out, or overwrite it with --force",
    );
    for path in [out, read(folder.path(), "parquet", &[])] {
        if let Some(rows) = peer(name, "duckdb", &path) {
            assert_eq!(rows, want);
        }
        let Some(mut rows) = peer(name, "pyarrow", &path) else {
            continue;
        };
        assert_eq!(
            rows.remove(0),
            json!({
                "types": {
                    "time": "timestamp[ns, tz=UTC]", "device": "string", "conn": "int64", "seq": "int64", "int": "int64",
                    "big": "uint64", "huge": "string", "x": "double", "ok": "bool", "s": "string", "_seq": "int64",
                    "pos.lat.0": "double", "mixed": "string", "wide": "string", "none": "string",
                },
                "groups": 1,
                "rows": 6,
            })
        );
        assert_eq!(rows, want);
    }
}

#[test]
fn pandas_reads_csv_of_fields() {
    let folder = folder();
    let want = every_type(folder.path());
    let path = read(
        folder.path(),
        "csv",
        &["--fields", "x,seq", "--where", "x>-1", "--device", "imu"],
    );
    let Some(rows) = peer("pandas_reads_csv_of_fields", "pandas", &path) else {
        return;
    };
    assert_eq!(rows.len(), 2);
    for (row, want) in rows.iter().zip(want) {
        for name in ["time", "device", "seq", "x"] {
            assert_eq!(row[name], want[name], "{name}");
        }
    }
    assert_eq!(
        (&rows[0]["_seq"], &rows[1]["_seq"]),
        (&json!(5.0), &json!(null))
    );
}

#[test]
fn selectors_and_a_time_field_apply_to_parquet() {
    let name = "selectors_and_a_time_field_apply_to_parquet";
    let folder = folder();
    let mut file = DecodableFile::begin();
    file.add("a", "kv", "t=1767225600.5 temp=30");
    file.add("a", "kv", "t=1767225601 temp=10");
    file.add("b", "kv", "t=1767225602 temp=40");
    file.seal(&folder.path().join("rec"));
    let more = [
        "--fields",
        "temp",
        "--time-field",
        "t",
        "--where",
        "temp>20",
        "--device",
        "a",
    ];
    let path = read(folder.path(), "parquet", &more);
    if let Some(mut rows) = peer(name, "pyarrow", &path) {
        rows.remove(0);
        let time = 1_767_225_600_500_000_000_u64;
        let want = json!({"time": time, "device": "a", "conn": null, "seq": 0, "received": BEGIN, "temp": 30});
        assert_eq!(rows, [want]);
    }
    // A table without rows is a file, too.
    let path = read(
        folder.path(),
        "parquet",
        &["--fields", "temp", "--where", "temp>99"],
    );
    if let Some(rows) = peer(name, "pyarrow", &path) {
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0]["rows"], 0);
    }
}

#[test]
fn the_messages_of_a_session_have_its_number() {
    let folder = tempfile::tempdir().unwrap();
    let record = folder.path().join("rec");
    let args = [
        "--record",
        record.to_str().unwrap(),
        "--decode",
        "kv",
        "--session",
        "auto",
    ];
    let server = Server::start(&args);
    let to = server.addr().to_string();
    let sent = [
        "send",
        "--to",
        &to,
        "--session",
        "--device",
        "board",
        "temp=1",
        "temp=2",
    ];
    assert_eq!(run(&sent, b"").code, Some(0));
    assert_eq!(run(&["send", "--to", &to, "temp=3"], b"").code, Some(0));
    server.stop();
    let sessions = run(&["sessions", record.to_str().unwrap(), "--json"], b"");
    let session: Value = serde_json::from_slice(&sessions.stdout).unwrap();
    let path = read(folder.path(), "parquet", &["--unique", "--fields", "temp"]);
    let name = "the_messages_of_a_session_have_its_number";
    let Some(mut rows) = peer(name, "pyarrow", &path) else {
        return;
    };
    rows.remove(0);
    let found: Vec<_> = rows
        .iter()
        .map(|row| json!([row["device"], row["session"], row["temp"]]))
        .collect();
    let number = &session["session"];
    assert!(number.is_string(), "{session}");
    assert_eq!(
        found,
        [
            json!(["board", number, 1]),
            json!(["board", number, 2]),
            json!(["127.0.0.1", null, 3])
        ]
    );
}

/// A long recording of many fields takes several row groups, and memory for one of them.
#[test]
fn a_long_recording_is_written_in_row_groups_with_bounded_memory() {
    const ROWS: usize = 8_000;
    const FIELDS: usize = 60;
    const TEXT_LEN: usize = 12_000;
    let name = "a_long_recording_is_written_in_row_groups_with_bounded_memory";
    let folder = folder();
    let mut file = DecodableFile::begin();
    for row in 0..ROWS {
        let members = (0..FIELDS).map(|field| format!("f{field}={row}.{field}"));
        let text = format!("text={row:0TEXT_LEN$}");
        let members: Vec<_> = members.chain([text]).collect();
        file.add("imu", "kv", members.join(" "));
        if row % 100 == 99 {
            file.file.end_chunk();
        }
    }
    file.seal(&folder.path().join("rec"));
    let out = folder.path().join("out.parquet");
    let plain = blocksd(&[]);
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg(format!("ulimit -v {ADDRESSES_KIB}; exec \"$0\" \"$@\""))
        .arg(plain.get_program())
        .args([
            "read",
            folder.path().join("rec").to_str().unwrap(),
            "--output",
            "parquet",
        ])
        .stdout(Stdio::from(fs::File::create(&out).unwrap()));
    let status = command.status().unwrap();
    assert_eq!(status.code(), Some(0));
    let Some(mut rows) = peer_with(name, "pyarrow", &out, &["100"]) else {
        return;
    };
    let about = rows.remove(0);
    assert!(
        2 <= about["groups"].as_u64().unwrap(),
        "{}",
        about["groups"]
    );
    assert_eq!(about["rows"], ROWS);
    assert!(ROWS / 100 <= rows.len(), "{}", rows.len());
    for found in rows {
        let row = found["seq"].as_u64().unwrap();
        for field in [0, 7, FIELDS - 1] {
            let want: f64 = format!("{row}.{field}").parse().unwrap();
            assert_eq!(found[format!("f{field}")], want, "row {row}");
        }
        let text = found["text"].as_str().unwrap();
        assert_eq!((text.len(), text.parse()), (TEXT_LEN, Ok(row)));
    }
}
