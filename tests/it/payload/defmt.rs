//! defmt logs of one ELF file: with and without a build id, in both encodings, and of another build.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use blocksd_tests::elf::{BUILD, Image, note, rzcobs};
use blocksd_tests::process::{Ended, Server, run};
use blocksd_tests::scrape::sample;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::engine::serve::payload;

/// Format strings of every image: the number of `n={=u32}` is 2.
pub(crate) const FORMATS: &[(&str, &str)] = &[
    ("timestamp", "{=u64:us}"),
    ("info", "n={=u32}"),
    ("println", "of another image"),
];

/// A frame of the statement `n={=u32}`.
pub(crate) fn frame(number: u32) -> Vec<u8> {
    let time = u64::from(number) * 1_000_000;
    [&[2, 0][..], &time.to_le_bytes(), &number.to_le_bytes()].concat()
}

/// Writes an ELF file.
pub(crate) fn write_elf(path: &Path, encoding: &str, build: Option<&[u8]>) {
    let image = Image {
        formats: FORMATS,
        encoding,
        build,
    };
    fs::write(path, image.elf()).unwrap();
}

/// Sends messages over a connection of its own, and waits for the close. Returns the events of the connection.
#[track_caller]
pub(crate) fn send(server: &mut Server, conn: usize, messages: &[Vec<u8>]) -> Vec<Value> {
    send_bytes(server, conn, &wire(messages))
}

/// A series of messages.
fn wire(messages: &[Vec<u8>]) -> Vec<u8> {
    let mut wire = Vec::new();
    for message in messages {
        wire.extend((message.len() as u32).to_be_bytes());
        wire.extend(message);
    }
    wire.extend([0; 4]);
    wire
}

#[track_caller]
pub(crate) fn send_bytes(server: &mut Server, conn: usize, wire: &[u8]) -> Vec<Value> {
    server.connect().write_all(wire).expect("the daemon reads");
    let events = server.wait_for("close", conn);
    let own = events.iter().filter(|event| event["conn"] == conn);
    own.cloned().collect()
}

/// The texts of the log lines.
pub(crate) fn lines(events: &[Value]) -> Vec<&str> {
    events
        .iter()
        .filter_map(|it| it["message"].as_str())
        .collect()
}

pub(crate) fn faults(events: &[Value]) -> Vec<&Value> {
    events.iter().filter(|it| it["event"] == "fault").collect()
}

pub(crate) fn count(ended: &Ended, text: &str) -> usize {
    ended.stderr.matches(text).count()
}

struct Elf {
    _folder: TempDir,
    path: PathBuf,
}

impl Elf {
    fn new(encoding: &str, build: Option<&[u8]>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("firmware.elf");
        write_elf(&path, encoding, build);
        Self {
            _folder: folder,
            path,
        }
    }

    fn serve(&self, more: &[&str]) -> Server {
        let decode = format!("defmt:{}", self.path.display());
        Server::start(&[&["--decode", &decode], more].concat())
    }
}

#[test]
fn firmware_that_sends_no_build_id_is_decoded_with_one_warning() {
    let elf = Elf::new("raw", Some(BUILD));
    let mut server = elf.serve(&[]);
    for conn in 1..=3 {
        let events = send(&mut server, conn, &[frame(1), frame(2), b"\x09\0".to_vec()]);
        assert_eq!(lines(&events), ["n=1", "n=2"]);
        assert_eq!(events[1]["timestamp"], "1.000000");
        // A message that is no frame is a fault of its own.
        assert_eq!(faults(&events).len(), 1, "{events:?}");
    }
    let (ended, _) = server.stop();
    let warning = "sends defmt frames without its build id first";
    assert_eq!(count(&ended, warning), 1, "{}", ended.stderr);
    assert_eq!(ended.totals()["fault"], 3);
}

#[test]
fn a_message_is_a_build_id_by_its_form_wherever_it_is() {
    let elf = Elf::new("raw", Some(BUILD));
    let mut server = elf.serve(&[]);
    // A restart on a line without connections, also with another firmware.
    let messages = [
        BUILD.to_vec(),
        frame(1),
        BUILD.to_vec(),
        frame(2),
        note(9),
        frame(3),
        frame(4),
        BUILD.to_vec(),
        frame(5),
    ];
    let events = send(&mut server, 1, &messages);
    assert_eq!(lines(&events), ["n=1", "n=2", "n=5"]);
    let builds = events.iter().filter(|it| it["build"].is_string());
    let known: Vec<_> = builds.map(|it| it["known"].clone()).collect();
    assert_eq!(known, [true, true, false, true]);
    assert_eq!(faults(&events).len(), 1);
    let (ended, _) = server.stop();
    assert_eq!(count(&ended, "without its build id"), 0, "{}", ended.stderr);
}

#[test]
fn an_elf_file_without_a_build_id_is_reported_at_the_start_and_used() {
    let elf = Elf::new("raw", None);
    let path = elf.path.to_str().unwrap();
    let config = elf.path.with_extension("toml");
    fs::write(&config, format!("decode = \"defmt:{path}\"\n")).unwrap();
    let warning = format!("{path} has no build id");
    let checked = run(&["check-config", config.to_str().unwrap()], b"");
    assert_eq!(count(&checked, &warning), 1, "{checked:?}");
    let mut server = elf.serve(&[]);
    server.process.wait_for_error(&warning);
    let events = send(&mut server, 1, &[frame(1)]);
    assert_eq!(lines(&events), ["n=1"]);
    let events = send(&mut server, 2, &[BUILD.to_vec(), frame(2)]);
    assert_eq!(lines(&events), ["n=2"]);
    // It cannot be compared.
    assert_eq!(events[1]["known"], Value::Null);
    let (ended, _) = server.stop();
    assert_eq!(ended.totals()["fault"], 0);
    assert_eq!(count(&ended, " WARN "), 1, "{}", ended.stderr);
}

#[test]
fn frames_of_another_build_are_one_fault_with_both_ids_and_are_kept() {
    let elf = Elf::new("raw", Some(BUILD));
    let mut messages = vec![note(7)];
    messages.extend((0..20).map(frame));
    let mut server = elf.serve(&["--metrics", "127.0.0.1:0"]);
    for conn in 1..=2 {
        let events = send(&mut server, conn, &messages);
        assert_eq!(lines(&events), [""; 0]);
        let faults = faults(&events);
        let [fault] = faults[..] else {
            panic!("{faults:?}");
        };
        assert_eq!(
            (&fault["fault"], &fault["seq"]),
            (&json!("undecodable"), &json!(1))
        );
        let reason = fault["reason"].as_str().unwrap();
        let own = "0102030405060708090a0b0c0d0e0f1011121314";
        let path = elf.path.to_str().unwrap();
        for part in [&*"07".repeat(20), own, path, "--decode"] {
            assert!(reason.contains(part), "{part}: {reason}");
        }
        let blocks = events.iter().filter(|it| it["event"] == "block");
        let kept: Vec<_> = blocks.skip(1).map(payload).collect();
        assert_eq!(kept, messages[1..]);
    }
    for (metric, value) in [
        ("blocksd_faults_total{fault=\"undecodable\"}", 2.0),
        ("blocksd_messages_undecoded_total", 38.0),
    ] {
        assert_eq!(sample(&server, metric), value, "{metric}");
    }
    let (ended, _) = server.stop();
    assert_eq!(ended.totals()["fault"], 2);

    let server = elf.serve(&["--output", "text", "--once"]);
    server.connect().write_all(&wire(&messages)).unwrap();
    let ended = server.process.end();
    let printed = ended.stdout_text();
    assert_eq!(printed.matches(" fault: ").count(), 1, "{printed}");
    let of_build = ", of which the ELF file is missing: its log is not decoded\n";
    assert!(printed.contains(of_build), "{printed}");
}

#[test]
fn rzcobs_frames_are_decoded_as_messages() {
    let elf = Elf::new("rzcobs", Some(BUILD));
    let mut server = elf.serve(&[]);
    let whole = rzcobs(&frame(1));
    let without_end = rzcobs(&frame(2));
    let without_end = without_end[..without_end.len() - 1].to_vec();
    // As the encoder begins: with a zero.
    let begun = [&[0][..], &rzcobs(&frame(3))].concat();
    let frames = [whole, without_end, begun];
    for (conn, build) in (1..).zip([Some(BUILD.to_vec()), Some(rzcobs(BUILD)), None]) {
        let messages: Vec<_> = build.clone().into_iter().chain(frames.clone()).collect();
        let events = send(&mut server, conn, &messages);
        assert_eq!(lines(&events), ["n=1", "n=2", "n=3"]);
        assert_eq!(faults(&events), [&Value::Null; 0]);
        let known = events.iter().find(|it| it["build"].is_string());
        assert_eq!(
            known.map(|it| &it["known"]),
            build.map(|_| &Value::Bool(true))
        );
    }
    // Without the encoding it is not a frame.
    let events = send(&mut server, 4, &[frame(1)]);
    assert_eq!(faults(&events).len(), 1);
    server.stop();
}

#[test]
fn a_stream_of_rzcobs_frames_is_decoded_from_any_place() {
    let elf = Elf::new("rzcobs", Some(BUILD));
    let mut server = elf.serve(&["--framing", "delimited:00"]);
    // The default logger over a UART: a zero, then frames, each with the zero that ends it.
    let stream: Vec<u8> = (1..=3).flat_map(|number| rzcobs(&frame(number))).collect();
    let begun = [&[0][..], &stream].concat();
    let events = send_bytes(&mut server, 1, &begun);
    assert_eq!(lines(&events), ["n=1", "n=2", "n=3"]);
    assert_eq!(faults(&events), [&Value::Null; 0]);
    // With its build id, also in the middle.
    let with_id = [&rzcobs(BUILD)[..], &stream, &[0], &rzcobs(BUILD), &stream].concat();
    let events = send_bytes(&mut server, 2, &with_id);
    assert_eq!(lines(&events).len(), 6);
    assert_eq!(faults(&events), [&Value::Null; 0]);
    // The rest of a frame costs only that frame.
    let events = send_bytes(&mut server, 3, &stream[3..]);
    assert_eq!(lines(&events), ["n=2", "n=3"]);
    let other = [&rzcobs(&note(7))[..], &stream].concat();
    let events = send_bytes(&mut server, 4, &other);
    assert_eq!(lines(&events), [""; 0]);
    assert_eq!(faults(&events).len(), 1);
    server.stop();
}

#[test]
fn a_framing_that_cuts_frames_is_reported_at_the_start() {
    let elf = Elf::new("raw", Some(BUILD));
    let server = elf.serve(&["--framing", "delimited:00"]);
    server.process.wait_for_error("delimited:00 cuts them");
    server.stop();
}

#[test]
fn a_reload_reads_the_file_again() {
    let elf = Elf::new("raw", Some(BUILD));
    let config = elf.path.with_extension("toml");
    let path = elf.path.display();
    fs::write(&config, format!("decode = \"defmt:{path}\"\n")).unwrap();
    let mut server = Server::start(&["--config", config.to_str().unwrap()]);
    let messages = [note(7), frame(1)];
    let events = send(&mut server, 1, &messages);
    assert_eq!(lines(&events), [""; 0]);
    write_elf(&elf.path, "raw", Some(&note(7)));
    server.process.signal("HUP");
    server.process.wait_for_error("SIGHUP: ");
    let events = send(&mut server, 2, &messages);
    assert_eq!(lines(&events), ["n=1"]);
    server.stop();
}
