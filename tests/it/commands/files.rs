//! Files of recordings as `recordings`, `verify` and `recover` take them: single ones, of other programs, with any path,
//! and beside a running daemon.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use blocksd_tests::foreign;
use blocksd_tests::process::{Ended, Server, blocksd, finish, run, wait_until};
use blocksd_tests::recording::{BEGIN, File, Sample, put};
use mcap::records::op;
use serde_json::{Value, json};

fn on(path: &Path, command: &str, more: &[&str]) -> Ended {
    let mut all = blocksd(&[command]);
    all.arg(path).args(more);
    finish(all, b"")
}

fn rows(ended: &Ended) -> Vec<Value> {
    let text = ended.stdout_text();
    let rows = text.lines().map(|line| serde_json::from_str(line).unwrap());
    rows.collect()
}

#[test]
fn a_single_file_is_listed() {
    let folder = tempfile::tempdir().unwrap();
    let path = put(folder.path(), 1, "mcap", &Sample::default().sealed().0);
    put(folder.path(), 2, "mcap", &Sample::default().sealed().0);
    let listed = on(&path, "recordings", &["--json"]);
    assert_eq!(listed.code, Some(0), "{listed:?}");
    let of_folder = rows(&on(folder.path(), "recordings", &["--json"]));
    assert_eq!(rows(&listed), of_folder[..1]);
    let both = on(
        &path,
        "recordings",
        &["--json", folder.path().to_str().unwrap()],
    );
    assert_eq!(rows(&both).len(), 3, "{both:?}");
    on(&folder.path().join("none"), "recordings", &[]).assert_refused(2, "none");
}

/// With the times of the list, `read` prints everything except the last message.
#[test]
fn the_times_of_the_list_are_exact() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = File::begin(None, false);
    for (sequence, nanoseconds) in [1, 1_999_999, 2_000_001].into_iter().enumerate() {
        file.block("d", sequence as u32, BEGIN + nanoseconds, b"x");
    }
    let path = put(folder.path(), 1, "mcap", &file.seal());
    let row = rows(&on(&path, "recordings", &["--json"])).remove(0);
    let [from, to] = ["from", "to"].map(|key| row[key].as_str().unwrap());
    assert_eq!(from, "2026-01-01T00:00:00.000000001Z");
    assert_eq!(to, "2026-01-01T00:00:00.002000001Z");
    let read = |more: &[&str]| {
        on(&path, "read", &[&["--output", "raw"], more].concat())
            .stdout
            .len()
    };
    assert_eq!(read(&["--from", from]), 3);
    assert_eq!(read(&["--from", to]), 1);
    assert_eq!(read(&["--until", to]), 2);
}

#[test]
fn messages_of_other_programs_are_counted_as_they_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let parts = [
        foreign::record(op::SCHEMA, &foreign::schema(1)),
        foreign::record(op::CHANNEL, &foreign::channel_body(1)),
        foreign::message(1, 0, BEGIN, b"one"),
        foreign::message(1, 1, BEGIN, b"two"),
    ];
    let path = folder.path().join("flight.mcap");
    fs::write(&path, foreign::torn("other", &parts)).unwrap();
    let read = on(&path, "read", &["--output", "csv"]).stdout_text();
    assert_eq!(read.matches(",/imu/1,").count(), 2, "{read}");
    let row = rows(&on(&path, "recordings", &["--json"])).remove(0);
    assert_eq!(
        (&row["blocks"], &row["devices"]),
        (&2.into(), &json!(["/imu/1"]))
    );
    let verified = on(&path, "verify", &[]);
    let sealed = folder.path().join("sealed.mcap");
    let recovered = on(&path, "recover", &["--output", sealed.to_str().unwrap()]);
    assert_eq!(recovered.code, Some(0), "{verified:?} {recovered:?}");
    let row = rows(&on(&sealed, "recordings", &["--json"])).remove(0);
    assert_eq!(
        (&row["blocks"], &row["devices"]),
        (&2.into(), &json!(["/imu/1"]))
    );
    let verified = on(&sealed, "verify", &[]);
    let line = ": ok: 2 blocks of 1 device, 2 messages, ";
    assert!(verified.stdout_text().contains(line), "{verified:?}");
}

#[test]
fn any_path_is_printed_on_one_line_and_json_stays_valid() {
    let folder = tempfile::tempdir().unwrap();
    let sealed = Sample::default().sealed().0;
    let (torn, _) = Sample::default().torn();
    for (index, name) in [
        &b"a\xff"[..],
        b"b\n",
        "c\u{1b}[31m\u{9b}".as_bytes(),
        "d\u{202e}é\"\\".as_bytes(),
    ]
    .into_iter()
    .enumerate()
    {
        let odd = folder.path().join(OsStr::from_bytes(name));
        fs::create_dir(&odd).unwrap();
        put(&odd, 1, "mcap", &sealed);
        let part = put(&odd, 2, "mcap.part", &torn[..torn.len() - 300]);
        let file = odd.join(OsStr::from_bytes(&[name, b".mcap"].concat()));
        fs::write(&file, &sealed).unwrap();
        for (path, command, more, code) in [
            (&odd, "recordings", &[][..], 0),
            (&odd, "verify", &[], 1),
            (&odd, "read", &[], 1),
            (&odd, "read", &["--last", "1"], 1),
            (&odd, "replay", &["--to", "127.0.0.1:1"], 75),
            (&file, "recordings", &[], 0),
            (&file, "verify", &[], 0),
            (&file, "read", &["--device", "none"], 2),
            (&part, "recover", &["--output", "/nonexistent/x"], 2),
            (&odd.join("none"), "read", &[], 2),
            (&odd.join("none"), "recordings", &["--json"], 2),
            (&odd.join("none"), "verify", &[], 2),
            (&odd.join("none"), "recover", &[], 2),
            (&odd.join("none"), "check-config", &[], 2),
        ] {
            let ended = on(path, command, more);
            assert_eq!(ended.code, Some(code), "{command}: {ended:?}");
            let printed = ended.stdout_text() + &ended.stderr;
            let is_shown = |letter: char| letter == '\n' || !letter.is_control();
            assert!(printed.chars().all(is_shown), "{command}: {printed:?}");
            assert!(!printed.contains("panicked"), "{command}: {printed:?}");
        }
        let listed = on(&odd, "recordings", &["--json"]);
        let rows = rows(&listed);
        assert_eq!((listed.code, rows.len()), (Some(0), 3), "{listed:?}");
        for row in rows {
            assert_eq!(row.get("path_base64").is_some(), index == 0, "{row}");
        }
        let out = odd.join("out.csv");
        let csv = out.as_os_str();
        let mut export = blocksd(&["export", "--to", "csv", "--device", "d0"]);
        export.arg(&file).arg("--out").arg(csv);
        let ended = finish(export, b"");
        assert_eq!((ended.code, out.exists()), (Some(0), true), "{ended:?}");
        assert_eq!(on(&odd, "recover", &[]).code, Some(0));
    }
}

/// A copy of what is complete, while the daemon goes on.
#[test]
fn a_file_that_is_being_written_is_copied() {
    let folder = tempfile::tempdir().unwrap();
    let record = folder.path().join("record");
    let mut server = Server::start(&["--record", record.to_str().unwrap()]);
    let address = server.addr().to_string();
    run(&["send", "--to", &address, "one", "two"], b"");
    server.wait_for("close", 1);
    let listed = || rows(&on(&record, "recordings", &["--json"]));
    wait_until("the messages are written", || listed()[0]["blocks"] == 2);
    let part = record.join(listed()[0]["name"].as_str().unwrap());
    on(&part, "recover", &[]).assert_refused(75, "a daemon is writing");
    on(&part, "recover", &[]).assert_refused(75, "--output FILE");
    let copy = folder.path().join("copy.mcap");
    let copied = on(&part, "recover", &["--output", copy.to_str().unwrap()]);
    assert_eq!(copied.code, Some(0), "{copied:?}");
    let verified = on(&copy, "verify", &[]);
    assert!(
        verified
            .stdout_text()
            .contains(": ok: 2 blocks of 1 device"),
        "{verified:?}"
    );
    run(&["send", "--to", &address, "three"], b"");
    server.wait_for("close", 2);
    assert_eq!(server.stop().0.code, Some(0));
    let verified = on(&record, "verify", &[]);
    assert!(
        verified
            .stdout_text()
            .contains(": ok: 3 blocks of 1 device"),
        "{verified:?}"
    );
}
