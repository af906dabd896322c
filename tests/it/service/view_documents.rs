//! The live view: docs/http-api.md has every path and member of the API, and its examples work.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use blocksd_tests::process::{Process, wait_until};
use blocksd_tests::skip;
use serde_json::Value;
use tempfile::TempDir;

use super::view::{keys, start, wait_for_entries};

fn document() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/http-api.md");
    fs::read_to_string(path).unwrap()
}

/// The text of a section, up to the next heading of the same level.
#[track_caller]
fn section<'a>(document: &'a str, heading: &str) -> &'a str {
    let begin = format!("\n## {heading}\n");
    let (_, rest) = document
        .split_once(&begin)
        .unwrap_or_else(|| panic!("no {heading}"));
    rest.split("\n## ").next().unwrap()
}

/// The names of all members of objects in a value, except those below members that have names of devices or payloads.
fn names<'a>(value: &'a Value, to: &mut BTreeSet<&'a str>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                to.insert(name);
                if !["value", "faults", "states"].contains(&&**name) || value.is_array() {
                    names(value, to);
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| names(item, to)),
        _ => {}
    }
}

#[test]
fn the_example_has_the_members_of_the_answer() {
    let document = document();
    let (_, rest) = section(&document, "Devices")
        .split_once("```json\n")
        .unwrap();
    let example: Value = serde_json::from_str(rest.split("```").next().unwrap()).unwrap();
    let (server, viewer) = start(&[]);
    let mut device = server.connect();
    device.write_all(b"no json\n").unwrap();
    let mut answer = Value::Null;
    wait_until("there is a fault", || {
        answer = viewer.get("devices");
        answer["faults"][0]["device"] == "127.0.0.1"
    });
    assert_eq!(keys(&example), keys(&answer));
    for (list, nested) in [("devices", Some("faults")), ("faults", None)] {
        let (example, answer) = (&example[list][0], &answer[list][0]);
        assert_eq!(keys(example), keys(answer), "{list}");
        if let Some(nested) = nested {
            assert_eq!(keys(&example[nested]), keys(&answer[nested]));
        }
    }
    assert_eq!(keys(&example["states"]), keys(&answer["states"]));
    server.stop();
}

#[test]
fn every_member_is_in_the_section_of_its_path() {
    let document = document();
    let folder = TempDir::new().unwrap();
    let (server, viewer) = start(&["--record", folder.path().to_str().unwrap()]);
    let mut device = server.connect();
    wait_for_entries(&viewer, "events", 1);
    viewer.get("tail");
    viewer.get("device?device=127.0.0.1");
    device.write_all(b"{\"a\":1}\nno json\n").unwrap();
    wait_for_entries(&viewer, "tail", 2);
    wait_for_entries(&viewer, "faults", 1);
    // The members of a device are in the section of the list.
    let devices = section(&document, "Devices");
    for (path, heading) in [
        ("devices?detail=true", "Devices"),
        ("device?device=127.0.0.1", "A device"),
        ("plot?device=127.0.0.1&field=a", "Plots"),
        ("tail?limit=1", "Messages"),
        ("daemon", "The daemon"),
    ] {
        let answer = viewer.get(path);
        let mut all = BTreeSet::new();
        names(&answer, &mut all);
        assert!(2 < all.len(), "{path}");
        let section = section(&document, heading);
        // Those of an event are in docs/events.md.
        let of_event = ["event", "conn", "device", "seq", "len", "time", "id"];
        for name in all {
            let is_there = |text: &str| text.contains(&format!("`{name}`"));
            let is_known = is_there(section)
                || heading == "A device" && is_there(devices)
                || heading == "Messages" && of_event.contains(&name);
            assert!(is_known, "{path}: {name} is not in {heading}");
        }
    }
    // The table has every path.
    for path in [
        "devices", "device", "plot", "csv", "tail", "faults", "events", "daemon",
    ] {
        assert!(document.contains(&format!("[`/api/v1/{path}`]")), "{path}");
    }
    server.stop();
}

#[test]
fn the_command_of_the_document_prints_lines_as_they_come() {
    let document = document();
    let command = document
        .lines()
        .find_map(|line| line.strip_prefix("    curl -N "));
    let (server, viewer) = start(&[]);
    let mut device = server.connect();
    wait_for_entries(&viewer, "events", 1);
    viewer.get("tail");
    device.write_all(b"{\"a\":1}\n").unwrap();
    wait_for_entries(&viewer, "tail", 1);
    let url = command.expect("a command").trim_matches('\'');
    let url = url
        .replace("127.0.0.1:9107", &viewer.addr.to_string())
        .replace("boiler*", "127.*");
    if Command::new("curl").arg("--version").output().is_err() {
        let name = "the_command_of_the_document_prints_lines_as_they_come";
        return skip::skipped(name, "no curl");
    }
    let mut curl = Command::new("curl");
    curl.args(["-sN", &url]);
    let curl = Process::start(curl);
    let line: Value = serde_json::from_str(&curl.line("{")).unwrap();
    assert_eq!(
        (&line["event"], &line["value"]["a"]),
        (&"block".into(), &1.into())
    );
    server.stop();
}
