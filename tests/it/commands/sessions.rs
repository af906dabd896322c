//! Recorded sessions as an operator sees them: `sessions`, `verify`, `read --unique`.

use std::path::Path;

use blocksd::recorded::journal::{GapCause, Snapshot};
use blocksd_tests::process::{Ended, run};
use blocksd_tests::sessions::SessionLog;
use serde_json::{Value, json};
use tempfile::TempDir;

fn on(command: &str, paths: &[&Path], more: &[&str]) -> Ended {
    let paths = paths.iter().map(|path| path.to_str().unwrap());
    let args: Vec<_> = [command].into_iter().chain(paths).collect();
    run(&[&args, more].concat(), b"")
}

fn objects(ended: &Ended) -> Vec<Value> {
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let text = ended.stdout_text();
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// A recording of two devices with sessions, and one without.
fn recorded() -> TempDir {
    let folder = TempDir::new().unwrap();
    let mut log = SessionLog::new(folder.path());
    log.snapshot(Snapshot::Head, &[("idle", 9, 70, 0)]);
    log.messages("a", 7, 0, &[b"a0", b"a1"]);
    log.plain("plain", b"p0");
    log.gap("a", 7, (2, 5), GapCause::Device);
    log.messages("b\u{1b}", 0x9f3a_5c77_11d2_e4b6, 1 << 40, &[b"b0"]);
    log.snapshot(
        Snapshot::End,
        &[
            ("a", 7, 5, 0),
            ("b\u{1b}", 0x9f3a_5c77_11d2_e4b6, (1 << 40) + 1, 0),
            ("idle", 9, 70, 0),
        ],
    );
    log.seal();
    log.messages("a", 7, 5, &[b"a5"]);
    log.seal();
    folder
}

#[test]
fn sessions_are_listed() {
    let folder = recorded();
    let listed = on("sessions", &[folder.path()], &[]);
    assert_eq!(listed.code, Some(0), "{listed:?}");
    let rows = [
        "DEVICE   SESSION                   FIRST           NEXT  MESSAGES  MISSING  GAPS      LAST",
        "a        0000000000000007              0              6         3        0  3 device  2027-01-15T08:00:11.000Z",
        "b\\u{1b}  9f3a5c7711d2e4b6  1099511627776  1099511627777         1        0  -         2027-01-15T08:00:06.000Z",
        "idle     0000000000000009              -             70         0        0  -         -",
        "",
    ];
    assert_eq!(listed.stdout_text(), rows.join("\n"));
    let listed = objects(&on("sessions", &[folder.path()], &["--json"]));
    let want = json!({
        "device": "a", "session": "0000000000000007", "first": 0, "next": 6, "messages": 3, "missing": 0, "twice": 0,
        "gaps": {"device": {"gaps": 1, "messages": 3}}, "last": "2027-01-15T08:00:11.000Z",
    });
    assert_eq!(listed[0], want);
    assert_eq!(listed[1]["device"], "b\u{1b}");
    assert_eq!(
        (&listed[2]["first"], &listed[2]["last"]),
        (&Value::Null, &Value::Null)
    );
}

#[test]
fn verify_audits_sessions() {
    let folder = recorded();
    let verified = on("verify", &[folder.path()], &[]);
    assert_eq!(verified.code, Some(0), "{verified:?}");
    let text = verified.stdout_text();
    let lines: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("session "))
        .collect();
    let want = [
        "session a 0000000000000007: 0 to 5, 1 gap of 3 messages (device), nothing missing, nothing twice",
        "session b\\u{1b} 9f3a5c7711d2e4b6: 1099511627776 to 1099511627776, nothing missing, nothing twice",
    ];
    assert_eq!(lines, want);

    let mut log = SessionLog::new(folder.path());
    log.messages("a", 7, 8, &[b"a8"]);
    log.json(br#"{"entry":"later"}"#);
    log.seal();
    let verified = on("verify", &[folder.path()], &[]);
    assert_eq!(verified.code, Some(1), "{verified:?}");
    let text = verified.stdout_text();
    assert!(text.contains(", 2 missing: 6 to 7, nothing twice\n"));
    assert!(text.contains("sessions: 1 entries or channels are malformed"));
    let error = verified.stderr.clone();
    assert!(error.contains("1 of 3 sessions are not sound"), "{error}");
}

#[test]
fn a_folder_that_is_given_twice_is_checked_once_and_a_copy_is_named() {
    let folder = recorded();
    let other = TempDir::new().unwrap();
    std::os::unix::fs::symlink(folder.path(), other.path().join("link")).unwrap();
    let once = on("verify", &[folder.path()], &[]).stdout_text();
    let again = [folder.path(), folder.path(), &other.path().join("link")];
    assert_eq!(on("verify", &again, &[]).stdout_text(), once);
    let listed = on("sessions", &again, &[]).stdout_text();
    assert_eq!(listed, on("sessions", &[folder.path()], &[]).stdout_text());
    let mut log = SessionLog::new(other.path());
    log.messages("a", 7, 0, &[b"a0", b"a1"]);
    log.seal();
    let verified = on("verify", &[folder.path(), other.path()], &[]);
    let line = "gap of 3 messages (device), nothing missing; 2 twice, in two folders: 0 to 1\n";
    assert!(verified.stdout_text().contains(line), "{verified:?}");
}

#[test]
fn a_message_of_a_session_has_its_number() {
    let folder = recorded();
    let shown = objects(&on("read", &[folder.path()], &["--output", "json"]));
    let shown = shown.iter().filter(|it| it["event"] == "block");
    let shown = shown.map(|it| (&it["session"], &it["seq"], it["text"].as_str().unwrap()));
    let (session, other) = (json!("0000000000000007"), json!("9f3a5c7711d2e4b6"));
    let numbers = [json!(0), json!(1), json!(5), json!(1_u64 << 40)];
    let want = [
        (&session, &numbers[0], "a0"),
        (&session, &numbers[1], "a1"),
        (&Value::Null, &numbers[0], "p0"),
        (&other, &numbers[3], "b0"),
        (&session, &numbers[2], "a5"),
    ];
    assert!(shown.clone().eq(want), "{:?}", shown.collect::<Vec<_>>());
}

#[test]
fn gaps_are_events_and_a_device_with_nothing_else_is_known() {
    let folder = recorded();
    let mut log = SessionLog::new(folder.path());
    log.gap("refused", 3, (0, 1), GapCause::Refused);
    log.seal();
    let gaps = |more: &[&str]| {
        let args = [&["--output", "json"], more].concat();
        let shown = objects(&on("read", &[folder.path()], &args));
        let mut gaps: Vec<_> = shown
            .into_iter()
            .filter(|it| it["event"] == "gap")
            .collect();
        for gap in &mut gaps {
            assert!(gap.as_object_mut().unwrap().remove("time").is_some());
        }
        gaps
    };
    let a = json!({
        "event": "gap", "device": "a", "session": "0000000000000007", "from": 2, "to": 5, "cause": "device",
    });
    let refused = json!({
        "event": "gap", "device": "refused", "session": "0000000000000003", "from": 0, "to": 1, "cause": "refused",
    });
    assert_eq!(gaps(&[]), [a.clone(), refused.clone()]);
    assert_eq!(gaps(&["--device", "a"]), [a]);
    assert_eq!(gaps(&["--device", "refused"]), [refused]);
    let shown = on("read", &[folder.path()], &["--device", "refused"]);
    assert_eq!(shown.code, Some(0), "{shown:?}");
    assert!(
        shown
            .stdout_text()
            .contains("gap: 1 block from 0 to 0: refused, because it is too long"),
        "{shown:?}"
    );
    for output in ["csv", "raw"] {
        let shown = on(
            "read",
            &[folder.path()],
            &["--device", "refused", "--output", output],
        );
        assert_eq!(shown.code, Some(0), "{shown:?}");
    }
}

#[test]
fn a_csv_row_has_the_session_of_its_message() {
    let folder = recorded();
    let shown = on("read", &[folder.path()], &["--output", "csv"]);
    let text = shown.stdout_text();
    let cells = |line: &str| line.split(',').map(str::to_owned).collect::<Vec<_>>();
    let rows: Vec<_> = text.lines().map(cells).collect();
    assert_eq!(rows[0].last().unwrap(), "session");
    let shown: Vec<_> = rows[1..]
        .iter()
        .map(|row| (&*row[2], &*row[4], &*row[8]))
        .collect();
    let want = [
        ("0", "a0", "0000000000000007"),
        ("1", "a1", "0000000000000007"),
        ("0", "p0", ""),
        ("1099511627776", "b0", "9f3a5c7711d2e4b6"),
        ("5", "a5", "0000000000000007"),
    ];
    assert_eq!(shown, want);
}

#[test]
fn a_message_is_unique_by_device_session_and_number() {
    let (folder, other) = (recorded(), TempDir::new().unwrap());
    let mut log = SessionLog::new(other.path());
    // The same numbers in another session, and in the same session of another device.
    log.messages("a", 8, 1, &[b"x1"]);
    log.messages("c", 7, 1, &[b"c1"]);
    log.plain("plain", b"p0");
    log.messages("a", 7, 1, &[b"again", b"a2"]);
    log.seal();
    let paths = [folder.path(), other.path()];
    let raw = |more: &[&str]| {
        let ended = on("read", &paths, &[&["--output", "raw"], more].concat());
        assert_eq!(ended.code, Some(0), "{ended:?}");
        ended.stdout_text()
    };
    assert_eq!(raw(&[]), "a0a1p0b0a5x1c1p0againa2");
    assert_eq!(raw(&["--unique"]), "a0a1p0b0a5x1c1p0a2");
    // Only printed messages count.
    let later = ["--unique", "--from", "2027-01-15T08:00:04Z"];
    assert_eq!(raw(&later), "p0b0a5againa2");
}
