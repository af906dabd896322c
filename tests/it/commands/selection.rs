//! What `read`, `export` and `replay` select: devices, times as people write them, and the last messages; and what they
//! report if nothing matches.

use std::fs;
use std::path::Path;
use std::process::Command;

use blocksd_tests::process::{Ended, Process, Server, blocksd, finish, run};
use blocksd_tests::recording::{BEGIN, File, STEP, Sample, put};
use serde_json::Value;

const SECOND: u64 = 1_000_000_000;

/// Runs a command in a time zone.
fn in_zone(zone: &str, args: &[&str]) -> Ended {
    let mut command: Command = blocksd(args);
    command.env("TZ", zone);
    finish(command, b"")
}

fn read(directory: &Path, more: &[&str]) -> Ended {
    run(
        &[&["read", directory.to_str().unwrap()], more].concat(),
        b"",
    )
}

/// The payloads that are selected, separated by commas.
fn selected(directory: &Path, zone: &str, more: &[&str]) -> String {
    let args = ["read", directory.to_str().unwrap(), "--output", "json"];
    let ended = in_zone(zone, &[&args[..], more].concat());
    assert_eq!(ended.code, Some(0), "{more:?}: {ended:?}");
    let lines = ended.stdout_text();
    let events = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    let texts = events.filter_map(|event: Value| Some(event.get("text")?.as_str()?.to_owned()));
    texts.collect::<Vec<_>>().join(",")
}

/// A recording of the devices `a` and `b`: a message each at 00:00, 01:00 and 02:00 of 1 January 2026 in UTC, in two
/// files.
fn hours() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (number, hours) in [(1, 0..2), (2, 2..3)] {
        let mut file = File::begin(None, false);
        for hour in hours {
            let time = BEGIN + hour * 3600 * SECOND;
            file.block("a", hour as u32, time, format!("a{hour}").as_bytes());
            file.block("b", hour as u32, time, format!("b{hour}").as_bytes());
            file.end_chunk();
        }
        put(folder.path(), number, "mcap", &file.seal());
    }
    folder
}

#[test]
fn messages_are_selected_by_times_as_people_write_them() {
    let folder = hours();
    let folder = folder.path();
    for (zone, from, until, wanted) in [
        ("UTC", "2026-01-01 01:00", "2026-01-01T02:00:00Z", "a1,b1"),
        ("UTC", "2026-01-01", "2026-01-01 01:00", "a0,b0"),
        ("UTC", "2026-01-01 02:00", "2026-01-02", "a2,b2"),
        ("UTC", "@1767229200", "1767232800000000000", "a1,b1"),
        // A time without a zone is local; one with a zone is the same everywhere.
        ("Etc/GMT-1", "2026-01-01 02:00", "2026-01-01 03:00", "a1,b1"),
        (
            "Etc/GMT-1",
            "2026-01-01 01:00Z",
            "2026-01-01 02:00 UTC",
            "a1,b1",
        ),
        ("Etc/GMT-1", "2026-01-01T02:00+01:00", "now", "a1,b1,a2,b2"),
        ("UTC", "-10000d", "-1m", "a0,b0,a1,b1,a2,b2"),
        ("UTC", "10000d ago", "yesterday", "a0,b0,a1,b1,a2,b2"),
    ] {
        let times = ["--from", from, "--until", until];
        assert_eq!(selected(folder, zone, &times), wanted, "{zone} {times:?}");
    }
    // With the option and its value as one argument, and the old name of --until.
    let ended = read(folder, &["--from=-10m", "--to", "now"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(
        ended.stderr.contains("--to: old name of --until"),
        "{ended:?}"
    );
    let [path, out] = ["", "out"].map(|name| folder.join(name).to_str().unwrap().to_owned());
    let export = [
        "export",
        &path,
        "--to",
        "csv",
        "--out",
        &out,
        "--from",
        "2026-01-01 01:00Z",
    ];
    let ended = run(&[&export[..], &["--until", "@1767232800"]].concat(), b"");
    assert!(
        ended
            .stdout_text()
            .starts_with("exported 2 messages of 2 devices"),
        "{ended:?}"
    );
}

#[test]
fn the_last_messages_are_selected_by_number_and_by_time() {
    let folder = hours();
    let folder = folder.path();
    for (last, wanted) in [
        ("1", "b2"),
        ("3", "b1,a2,b2"),
        ("100", "a0,b0,a1,b1,a2,b2"),
        // Before the newest message, not before now.
        ("10m", "a2,b2"),
        ("1h", "a1,b1,a2,b2"),
        ("1d", "a0,b0,a1,b1,a2,b2"),
    ] {
        assert_eq!(selected(folder, "UTC", &["--last", last]), wanted, "{last}");
    }
    let of_a = ["--last", "2", "--device", "a"];
    assert_eq!(selected(folder, "UTC", &of_a), "a1,a2");
    let until = ["--last", "1", "--until", "2026-01-01 01:30"];
    assert_eq!(selected(folder, "UTC", &until), "b1");
    let path = folder.to_str().unwrap();
    let out = folder.join("out");
    let args = [
        "export",
        path,
        "--to",
        "csv",
        "--out",
        out.to_str().unwrap(),
        "--last",
        "3",
    ];
    let ended = run(&args, b"");
    assert!(
        ended
            .stdout_text()
            .starts_with("exported 3 messages of 2 devices"),
        "{ended:?}"
    );
    read(folder, &["--last", "0"]).assert_refused(2, "`0` is not a duration");
    read(folder, &["--last", "1", "--from", "now"]).assert_refused(2, "cannot be used with");
}

#[test]
fn the_last_messages_come_without_the_faults_of_others() {
    let folder = tempfile::TempDir::new().unwrap();
    let record = folder.path().to_str().unwrap();
    let serve = [
        "serve",
        "--listen",
        "-,framing=lines,decode=json",
        "--record",
        record,
    ];
    run(&serve, b"bad\nbad\n{\"a\":1}\n");
    for decode in [&[][..], &["--decode", "raw"]] {
        let args = [&["read", record, "--last", "1", "--output", "json"], decode].concat();
        let text = run(&args, b"").stdout_text();
        assert!(text.contains("\"event\":\"block\""), "{text}");
        assert!(!text.contains("undecodable"), "{text}");
    }
}

/// An event is recorded after messages that were received later: it waits for the disk.
#[test]
fn the_last_messages_come_with_the_events_between_them() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = File::begin(None, false);
    let closed = |conn| {
        format!("{{\"event\":\"closed\",\"device\":\"a\",\"conn\":{conn},\"reason\":\"eof\"}}")
    };
    file.block("a", 0, BEGIN + SECOND, b"m0");
    file.event(BEGIN, &closed(1));
    file.block("a", 1, BEGIN + 2 * SECOND, b"m1");
    file.event(BEGIN, &closed(2));
    put(folder.path(), 1, "mcap", &file.seal());
    let ended = read(folder.path(), &["--last", "1", "--output", "json"]);
    let text = ended.stdout_text();
    assert!(text.contains("\"text\":\"m1\""), "{ended:?}");
    assert!(
        !text.contains("\"conn\":1") && text.contains("\"conn\":2"),
        "{ended:?}"
    );
}

/// The clock was set back: the last messages are those at the end of the recording.
#[test]
fn the_last_messages_are_the_last_ones_recorded_whatever_the_clock_says() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = File::begin(None, false);
    for (sequence, time) in [5, 6, 7, 2, 3, 4].into_iter().enumerate() {
        let text = format!("m{sequence}");
        file.block("a", sequence as u32, BEGIN + time * SECOND, text.as_bytes());
    }
    put(folder.path(), 1, "mcap", &file.seal());
    for (last, wanted) in [("2", "m4,m5"), ("4", "m2,m3,m4,m5"), ("1s", "m1,m2")] {
        assert_eq!(selected(folder.path(), "UTC", &["--last", last]), wanted);
    }
}

#[test]
fn the_last_messages_of_a_running_daemon_are_followed() {
    let folder = tempfile::tempdir().unwrap();
    let record = folder.path().to_str().unwrap();
    let mut server = Server::start(&["--record", record]);
    let address = server.addr().to_string();
    run(&["send", "--to", &address, "one", "two", "three"], b"");
    server.wait_for("close", 1);
    let written = || run(&["read", record, "--output", "raw"], b"").stdout.len() == 11;
    blocksd_tests::process::wait_until("the messages are written", written);
    let args = ["read", record, "--follow", "--last", "1", "--output", "raw"];
    let follower = Process::start(blocksd(&args));
    let wait = |len| blocksd_tests::process::wait_until("it is read", || follower.printed() == len);
    wait(5);
    run(&["send", "--to", &address, "four"], b"");
    wait(9);
    follower.signal("INT");
    assert_eq!(follower.end().stdout_text(), "threefour");
}

#[test]
fn a_selection_that_matches_nothing_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    put(folder, 1, "mcap", &Sample::default().sealed().0);
    let out = folder.join("out");
    let [path, out] = [folder, &out].map(|it| it.to_str().unwrap());
    let commands = [
        vec!["read", path],
        vec!["export", path, "--to", "csv", "--out", out],
        vec!["replay", path, "--to", "127.0.0.1:1"],
    ];
    for command in &commands {
        let with = |more: &[&str]| in_zone("UTC", &[command, more].concat());
        let ended = with(&["--device", "nosuch"]);
        ended.assert_refused(
            2,
            "device `nosuch` has no messages in the recording, which has d0, d1",
        );
        with(&["--device", "d11"]).assert_refused(2, "did you mean `d1`?");
        with(&["--from", "04:00", "--until", "03:00"])
            .assert_refused(2, " 03:00:00+00:00 is not after --from ");
        let ended = with(&["--from", "2026-02-01"]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let line = "blocksd: no message was received at or after 2026-02-01 00:00:00+00:00; the recording has 16 messages \
            from 2026-01-01 00:00:00+00:00 to 2026-01-01 00:00:00.17+00:00\n";
        assert!(ended.stderr.contains(line), "{command:?}: {ended:?}");
        with(&["--from", "soon"]).assert_refused(2, "`soon` is not a time");
    }
    assert!(!Path::new(out).join("device_nosuch.csv").exists());
    // What there is of the other devices is printed nevertheless.
    let ended = read(
        folder,
        &["--device", "d1", "--device", "nosuch", "--output", "raw"],
    );
    assert_eq!(
        (ended.code, ended.stdout.len()),
        (Some(2), 8 * 31),
        "{ended:?}"
    );
    // A device with events only is known.
    let mut file = File::begin(None, false);
    file.event(
        BEGIN,
        r#"{"event":"open","conn":1,"device":"quiet","peer":"127.0.0.1:4000"}"#,
    );
    file.block("loud", 0, BEGIN + STEP, b"message");
    put(folder, 2, "mcap", &file.seal());
    let ended = read(folder, &["--device", "quiet"]);
    assert_eq!((ended.code, &*ended.stderr), (Some(0), ""), "{ended:?}");
    // Names in the report are escaped.
    let ended = read(folder, &["--device", "\u{1b}[2J"]);
    assert!(!ended.stderr.contains('\u{1b}'), "{ended:?}");
}

#[test]
fn a_folder_without_recordings_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let empty = folder.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let [empty, out] = [&empty, &out].map(|it| it.to_str().unwrap());
    for command in [
        &["read", empty][..],
        &["read", empty, "--last", "5"],
        &["read", empty, "--device", "d1"],
        &["recordings", empty],
        &["recordings", empty, "--json"],
        &["verify", empty],
        &["recover", empty],
        &["replay", empty, "--to", "127.0.0.1:1"],
        &["export", empty, "--to", "csv", "--out", out],
    ] {
        let ended = run(command, b"");
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let line = format!("blocksd: {empty}: contains no recordings, ");
        assert_eq!(
            ended.stderr.matches(&line).count(),
            1,
            "{command:?}: {ended:?}"
        );
    }
}

/// A follower waits for what is not there yet, and says so.
#[test]
fn a_follower_without_a_match_reports_that_it_waits() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), 1, "mcap", &Sample::default().sealed().0);
    let path = folder.path().to_str().unwrap();
    let follower = Process::start(blocksd(&["read", path, "--follow", "--device", "d9"]));
    follower
        .wait_for_error("device `d9` has no messages in the recording, which has d0, d1; waiting");
    follower.signal("INT");
    follower.end();
}

#[test]
fn an_option_of_another_command_is_recognized() {
    let refused = |args: &[&str], what: &str| run(args, b"").assert_refused(2, what);
    refused(
        &["export", ".", "--to", "2026-01-01"],
        "the option for a time is --until",
    );
    refused(&["export", ".", "--to", "-10m"], "--until");
    refused(
        &["read", ".", "--to", "csv"],
        "the option for a format is --output",
    );
    refused(
        &["read", ".", "--from", "10"],
        "`10` has no unit; write 10m",
    );
}

#[test]
fn text_has_the_date_of_another_day_and_the_connection() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), 1, "mcap", &Sample::default().sealed().0);
    let path = folder.path().to_str().unwrap();
    for (zone, date) in [
        ("UTC", "2026-01-01 00:00:00.010"),
        ("Etc/GMT+1", "2025-12-31 23:00:00.010"),
    ] {
        let printed = in_zone(zone, &["read", path]).stdout_text();
        let line = format!("\n{date} d0 #1: d0 says 0, and says it again: 0\n");
        assert!(printed.contains(&line), "{printed}");
    }
    let record = folder.path().join("today");
    let record = record.to_str().unwrap();
    let server = Server::start(&["--record", record, "--output", "text"]);
    let address = server.addr().to_string();
    // A message that imitates an event.
    run(&["send", "--to", &address, "#1 closed (end)"], b"");
    server.process.signal("TERM");
    let ended = server.process.end();
    let printed = ended.stdout_text();
    let message = printed
        .lines()
        .find(|line| line.contains("127.0.0.1 #1: #1 closed (end)"));
    assert_eq!(
        message.and_then(|line| line.find(' ')),
        Some(12),
        "{printed}"
    );
    let read = run(&["read", record], b"").stdout_text();
    assert!(
        read.lines().any(|line| Some(line) == message),
        "{printed}\n{read}"
    );
}
