//! Stored events of the daemon itself: start, reload, repair, stop.

use std::fs;
use std::path::Path;

use blocksd_tests::process::{Server, run, wait_until};
use blocksd_tests::recording::{Sample, name, put};
use serde_json::Value;
use tempfile::TempDir;

/// The stored events of the daemon itself, in order.
fn lifecycle(folder: &Path) -> Vec<Value> {
    let events = run(&["read", folder.to_str().unwrap(), "--output", "json"], b"");
    assert_eq!(events.code, Some(0), "{events:?}");
    let output = events.stdout_text();
    let events = output
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    let events = events.filter(|event: &Value| event.get("device").is_none());
    events.collect()
}

fn names(events: &[Value]) -> Vec<&str> {
    let names = events.iter().map(|event| event["event"].as_str().unwrap());
    names.collect()
}

#[test]
fn a_start_a_repair_and_a_stop_without_a_connection_are_recorded() {
    let folder = TempDir::new().unwrap();
    let (torn, _) = Sample::default().torn();
    let whole = put(folder.path(), 1, "mcap.part", &torn);
    let damaged = {
        let mut bytes = torn.clone();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        put(folder.path(), 2, "mcap.part", &bytes)
    };
    let hopeless = put(folder.path(), 3, "mcap.part", &torn);
    fs::create_dir(name(folder.path(), 3, "mcap")).unwrap();
    let record = folder.path().to_str().unwrap();
    let server = Server::start(&["--record", record]);
    let (ended, _) = server.stop();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let events = lifecycle(folder.path());
    assert_eq!(
        names(&events),
        ["started", "repaired", "repaired", "unrepaired", "stopped"]
    );
    let file_of = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    assert_eq!(events[0]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(events[1]["file"], *file_of(&whole));
    assert_eq!(events[1]["blocks"], 16);
    assert_eq!(events[1]["original"], Value::Null);
    assert_eq!(events[2]["file"], *file_of(&damaged));
    let original = file_of(&damaged).replace(".part", ".lost");
    assert_eq!(events[2]["original"], *original);
    assert!(
        events[2]["lost_bytes"]
            .as_u64()
            .is_some_and(|lost| lost != 0)
    );
    assert_eq!(events[3]["file"], *file_of(&hopeless));
    assert!(
        events[3]["error"]
            .as_str()
            .is_some_and(|text| !text.is_empty())
    );
    assert_eq!(events[4]["blocks"], 0);
    let text = run(&["read", record], b"").stdout_text();
    for want in [
        "daemon started: version ",
        &format!("daemon repaired {}: ", file_of(&whole)),
        &format!("; original kept as {original}"),
        "daemon cannot repair ",
        "daemon stopped: 0 blocks",
    ] {
        assert!(text.contains(want), "{want}: {text}");
    }
}

#[test]
fn the_digest_of_the_configuration_is_recorded_and_printed() {
    let folder = TempDir::new().unwrap();
    let record = folder.path().join("recording");
    let file = folder.path().join("blocksd.toml");
    let write = |limit: &str| {
        let text =
            format!("listen = \"127.0.0.1:0\"\nrecord = {record:?}\nmax-connections = {limit}\n");
        fs::write(&file, text).unwrap();
        let printed = run(&["check-config", file.to_str().unwrap(), "--print"], b"");
        let printed = printed.stdout_text();
        let digest = printed.lines().last().unwrap().strip_prefix("# digest ");
        digest.unwrap().to_owned()
    };
    let first = write("100");
    let server = Server::start(&["--config", file.to_str().unwrap(), "--output", "json"]);
    let second = write("200");
    server.process.signal("HUP");
    server.process.wait_for_error("was read again");
    // The event of the reload may be written after the line of the log.
    wait_until("the reload is recorded", || {
        names(&lifecycle(&record)) == ["started", "reloaded"]
    });
    let (ended, _) = server.stop();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let events = lifecycle(&record);
    assert_eq!(names(&events), ["started", "reloaded", "stopped"]);
    let digests = [&events[0]["config"], &events[1]["config"]];
    assert_ne!(digests[0], digests[1]);
    assert_ne!(first, second);
    // The output is an option, too: the file alone has another digest than the file with `--output json`.
    let with_output = |digest: &str| {
        let printed = run(
            &[
                "check-config",
                file.to_str().unwrap(),
                "--print",
                "--",
                "--output",
                "json",
            ],
            b"",
        );
        assert_ne!(
            printed.stdout_text().lines().last(),
            Some(&*format!("# digest {digest}"))
        );
        printed.stdout_text()
    };
    let printed = with_output(&second);
    let want = format!("# digest {}", digests[1].as_str().unwrap());
    assert_eq!(printed.lines().last(), Some(&*want), "{printed}");
}

#[test]
fn a_daemon_that_is_killed_records_no_stop() {
    let folder = TempDir::new().unwrap();
    let record = folder.path().to_str().unwrap();
    let server = Server::start(&["--record", record]);
    wait_until("the start is recorded", || {
        names(&lifecycle(folder.path())) == ["started"]
    });
    server.process.signal("KILL");
    server.end();
    let (ended, _) = Server::start(&["--record", record]).stop();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let events = lifecycle(folder.path());
    assert_eq!(
        names(&events),
        ["started", "started", "repaired", "stopped"]
    );
}
