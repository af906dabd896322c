//! Firmware in QEMU and the real daemon: samples, the log, and a panic.

use std::fs;
use std::path::{Path, PathBuf};

use blocksd_tests::board::{Board, QUEUE_LEN, Report, figure, firmware, image, ports, values};
use blocksd_tests::process::Server;
use firmware_example::{KEYS, pressure_simulated_hpa, temperature_simulated_c};
use object::{Object, ObjectSection};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::engine::serve::payload;

const BUILD_ID: &str = ".note.gnu.build-id";

/// A daemon as in the README: telemetry on its first port, the log on its second.
fn serve(elf: &Path, more: &[&str]) -> Server {
    let log = format!("127.0.0.1:0,decode=defmt:{}", elf.display());
    let args = ["--listen", "127.0.0.1:0,decode=cbor", "--listen", &log];
    Server::start(&[&args, more].concat())
}

/// Boots `mps2-an386`, which sends samples and log to this daemon.
fn boot(image: &Path, server: &Server, words: &[&str]) -> Board {
    let [telemetry, logs] = ports(server)[..] else {
        panic!("two listeners");
    };
    let mut all = vec![format!("telemetry={telemetry}"), format!("logs={logs}")];
    all.extend(words.iter().copied().map(str::to_owned));
    Board::start(image, &all)
}

/// The events of the connection that has a matching event.
fn connection_of(events: &[Value], matches: impl Fn(&Value) -> bool) -> Vec<&Value> {
    let found = events.iter().find(|event| matches(event));
    let conn = &found.unwrap_or_else(|| panic!("no such event in {events:?}"))["conn"];
    events
        .iter()
        .filter(|event| event["conn"] == *conn)
        .collect()
}

/// Asserts that the connection with samples has `count` of them, from the first, and the end of their series.
#[track_caller]
fn assert_series(events: &[Value], count: u64, period_ms: u64) {
    let own = connection_of(events, |event| event["value"].is_object());
    let samples = values(events);
    let mut before: Option<&Value> = None;
    for (number, sample) in (0..).zip(&samples) {
        let keys: Vec<_> = sample.as_object().expect("a map").keys().collect();
        assert_eq!(keys, KEYS);
        assert_eq!(figure(sample, "n"), u64::from(number), "{sample}");
        assert_eq!(figure(sample, "lost"), 0, "{sample}");
        let simulated = [
            ("temp_sim", temperature_simulated_c(number)),
            ("press_sim", pressure_simulated_hpa(number)),
        ];
        for (key, value) in simulated {
            assert_eq!(sample[key].as_f64(), Some(value.into()), "{sample}");
        }
        // A sample is never early.
        let due_ms = period_ms * u64::from(number);
        assert!(due_ms <= figure(sample, "t"), "{sample}");
        assert!(
            figure(sample, "loop_us") <= figure(sample, "loop_max_us"),
            "{sample}"
        );
        assert!(
            (256..=6144).contains(&figure(sample, "stack")),
            "{sample}: the stack has 6 KiB"
        );
        assert!(figure(sample, "queue") <= QUEUE_LEN, "{sample}");
        for key in ["t", "loop_max_us", "stack", "rx", "tx"] {
            let grown = before.is_none_or(|before| figure(before, key) <= figure(sample, key));
            assert!(grown, "{key} has shrunk in {sample}");
        }
        before = Some(sample);
    }
    assert_eq!(samples.len() as u64, count);
    let grown = |key| figure(&samples[0], key) < figure(&samples[samples.len() - 1], key);
    // A short series can be over before the first frame that it causes is sent.
    let is_short = count <= QUEUE_LEN;
    assert!(
        is_short || (grown("rx") && grown("tx")),
        "frames are counted"
    );
    let [.., end, close] = &own[..] else {
        panic!("the series has no end");
    };
    assert_eq!(
        (&end["event"], &end["blocks"]),
        (&json!("end"), &json!(count))
    );
    assert_eq!(
        (&close["reason"], &close["blocks"]),
        (&json!("end"), &json!(count))
    );
}

#[test]
fn samples_arrive_in_order_by_dhcp_and_from_a_static_address() {
    let Some(image) = image(
        "samples_arrive_in_order_by_dhcp_and_from_a_static_address",
        "mps2-an386",
    ) else {
        return;
    };
    let static_address = ["address=10.0.2.77/24", "gateway=10.0.2.2"];
    for (words, address) in [
        (&[][..], "address [10, 0, 2, 15]"),
        (&static_address, "address [10, 0, 2, 77]"),
    ] {
        let server = serve(&image, &[]);
        let words = [&["samples=40", "period_ms=20"], words].concat();
        let report = boot(&image, &server, &words).report();
        let (ended, events) = server.stop();
        assert_series(&events, 40, 20);
        assert!(
            events.iter().any(|event| event["message"] == address),
            "no {address} in {events:?}"
        );
        let wanted = Report {
            delivered: 0,
            in_doubt: 40,
            lost: 0,
            connections: 1,
            answered: false,
        };
        assert_eq!(report, wanted);
        let totals = ended.totals();
        assert_eq!(
            (totals["connection"], totals["serie"], totals["fault"]),
            (2, 2, 0)
        );
    }
}

#[test]
fn an_isolated_board_reaches_only_the_daemon_and_gets_a_reply() {
    let Some(image) = image(
        "an_isolated_board_reaches_only_the_daemon_and_gets_a_reply",
        "mps2-an386",
    ) else {
        return;
    };
    let mut server = serve(&image, &["--reply", "receipt"]);
    let words = ["net=isolated", "samples=40", "period_ms=10"];
    let report = boot(&image, &server, &words).report();
    let wanted = Report {
        delivered: 40,
        in_doubt: 0,
        lost: 0,
        connections: 1,
        answered: true,
    };
    assert_eq!(report, wanted);
    server.wait_for("close", 2);
    let (_, events) = server.stop();
    assert_series(&events, 40, 10);
    let bytes: u64 = events
        .iter()
        .filter(|event| event["value"].is_object())
        .map(|event| figure(event, "len"))
        .sum();
    let receipt = format!(
        "answered: {:?}",
        format!(r#"{{"blocks":40,"bytes":{bytes}}}"#)
    );
    let receipt = receipt.replacen('"', "b\"", 1);
    assert!(
        events.iter().any(|event| event["message"] == *receipt),
        "no {receipt} in {events:?}"
    );
}

/// The place of this text in the source of the firmware: file and line.
fn place(file: &str, text: &str) -> String {
    let source = fs::read_to_string(firmware().join(file)).expect(file);
    let line = source.lines().position(|line| line.contains(text));
    format!("{file}:{}", 1 + line.expect(text))
}

#[test]
fn the_log_arrives_after_the_build_id_with_level_time_and_place() {
    let Some(image) = image(
        "the_log_arrives_after_the_build_id_with_level_time_and_place",
        "mps2-an386",
    ) else {
        return;
    };
    let server = serve(&image, &[]);
    boot(&image, &server, &["samples=3", "period_ms=50"]).report();
    let (_, events) = server.stop();
    let own = connection_of(&events, |event| event["build"].is_string());
    let [open, build, lines @ .., end, close] = &own[..] else {
        panic!("no log in {own:?}");
    };
    assert_eq!(open["event"], "open");
    let (at, len) = build_id(&fs::read(&image).unwrap());
    let note = &fs::read(&image).unwrap()[at..at + len];
    let id: String = note[16..]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(
        (&build["seq"], &build["build"], &build["known"]),
        (&json!(0), &json!(id), &json!(true))
    );
    let log = "mps2-an386/src/log.rs";
    for (line, (message, place)) in lines.iter().zip([
        (
            "mps2-an386, 6144 bytes of stack",
            place(log, "bytes of stack"),
        ),
        ("address [10, 0, 2, 15]", place(log, "address {=[u8; 4]}")),
    ]) {
        assert_eq!(
            (&line["level"], &line["message"]),
            (&json!("info"), &json!(message))
        );
        let location = line["location"].as_str().expect("a place");
        assert!(location.ends_with(&place), "{location} is not {place}");
    }
    let mut before = 0.0;
    for line in lines {
        let seconds: f64 = line["timestamp"].as_str().unwrap().parse().unwrap();
        assert!((before..60.0).contains(&seconds), "{line}");
        before = seconds;
    }
    // On a slow machine, the connection of the log comes up after the application has ended.
    let words = "the application has ended: SeriesReport { delivered: 0, in_doubt: 3, lost: 0,";
    let is_report = |line: &&Value| line["message"].as_str().unwrap().starts_with(words);
    assert!(lines.iter().any(is_report), "{lines:?}");
    assert_eq!(end["blocks"], 1 + lines.len());
    assert_eq!(close["reason"], "end");
}

/// Offset and length of the note with the build id in an ELF file.
fn build_id(elf: &[u8]) -> (usize, usize) {
    let file = object::File::parse(elf).expect("an ELF file");
    let section = file.section_by_name(BUILD_ID).expect(BUILD_ID);
    let (at, len) = section.file_range().expect("a section with data");
    (at as usize, len as usize)
}

/// A copy of the image with another build id.
fn of_another_build(image: &Path, folder: &TempDir) -> PathBuf {
    let mut elf = fs::read(image).unwrap();
    let (at, len) = build_id(&elf);
    elf[at + len - 1] ^= 1;
    let path = folder.path().join("other.elf");
    fs::write(&path, elf).unwrap();
    path
}

#[test]
fn the_log_of_another_build_is_kept_and_not_decoded() {
    let Some(image) = image(
        "the_log_of_another_build_is_kept_and_not_decoded",
        "mps2-an386",
    ) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let server = serve(&of_another_build(&image, &folder), &[]);
    boot(&image, &server, &["samples=3", "period_ms=50"]).report();
    let (ended, events) = server.stop();
    // The samples are not affected.
    assert_series(&events, 3, 50);
    let own = connection_of(&events, |event| event["build"].is_string());
    assert_eq!(own[1]["known"], false);
    let [_, _, lines @ .., end, close] = &own[..] else {
        panic!("no log in {own:?}");
    };
    let (faults, blocks): (Vec<&Value>, Vec<&Value>) =
        lines.iter().partition(|event| event["event"] == "fault");
    for (seq, block) in (1..).zip(&blocks) {
        assert_eq!(payload(block).len() as u64, figure(block, "len"));
        assert_eq!(
            (&block["message"], &block["seq"]),
            (&Value::Null, &json!(seq))
        );
    }
    let count = blocks.len();
    let [fault] = faults[..] else {
        panic!("one fault for the connection: {faults:?}");
    };
    assert_eq!(
        (&fault["fault"], &fault["as"], &fault["seq"]),
        (&json!("undecodable"), &json!("defmt"), &json!(1))
    );
    let sent = own[1]["build"].as_str().expect("an id");
    let reason = fault["reason"].as_str().expect("a reason");
    assert!(reason.contains(sent), "{reason}");
    assert!(count >= 3, "{own:?}");
    assert_eq!(end["blocks"], 1 + count);
    assert_eq!(close["reason"], "end");
    assert_eq!(ended.totals()["fault"], 1);
    assert!(ended.stderr.contains("(1 undecodable)"));
}

#[test]
fn the_text_output_shows_fields_levels_places_and_a_foreign_build() {
    let Some(image) = image(
        "the_text_output_shows_fields_levels_places_and_a_foreign_build",
        "mps2-an386",
    ) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    for (elf, known) in [
        (image.clone(), true),
        (of_another_build(&image, &folder), false),
    ] {
        let server = serve(&elf, &["--output", "text"]);
        boot(&image, &server, &["samples=3", "period_ms=50"]).report();
        server.process.signal("TERM");
        let ended = server.process.end();
        let printed = ended.stdout_text();
        let wanted = [
            ": t=",
            "temp_sim=20.125 press_sim=1000.25 lost=0\n",
            "series of 3 blocks ended",
        ];
        let address = " address [10, 0, 2, 15] (";
        let place = place("mps2-an386/src/log.rs", "address {=[u8; 4]}") + ")\n";
        let of_known = [" firmware build ", " INFO  ", address, &place];
        let of_other = [
            ", of which the ELF file is missing: its log is not decoded\n",
            " fault: message cannot be decoded as defmt: the firmware is build ",
        ];
        let of_log = if known { &of_known[..] } else { &of_other };
        for wanted in wanted.iter().chain(of_log) {
            assert!(printed.contains(wanted), "{wanted:?} is not in\n{printed}");
        }
        assert_eq!(printed.contains(address), known, "{printed}");
    }
}

#[test]
fn a_panic_ends_the_run_with_its_message_and_place() {
    let Some(image) = image(
        "a_panic_ends_the_run_with_its_message_and_place",
        "mps2-an386",
    ) else {
        return;
    };
    let server = serve(&image, &[]);
    let main = "mps2-an386/src/main.rs";
    for (word, file, text, message) in [
        (
            "panic=now",
            main,
            "panic!(\"as the command",
            "as the command line asked for",
        ),
        (
            "colour=red",
            main,
            "Err(error) => panic!",
            "argument `colour=red` is not understood",
        ),
    ] {
        let ended = boot(&image, &server, &[word]).end();
        assert_eq!(ended.code, Some(1), "{ended:?}");
        let place = place(file, text);
        let wanted = format!("panicked at {place}:");
        assert!(ended.stdout_text().contains(&wanted), "{wanted}: {ended:?}");
        assert!(ended.stdout_text().contains(message), "{ended:?}");
    }
}
