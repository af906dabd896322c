//! `--decode defmt:DIR`: the ELF file is found by the build id that a firmware sends.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use blocksd_tests::elf::{BUILD, note, rzcobs};
use blocksd_tests::process::{Server, blocksd, run};
use rustix::fs::inotify;
use serde_json::Value;

use crate::payload::defmt::{count, faults, frame, lines, send, write_elf};

fn serve(folder: &Path, more: &[&str]) -> Server {
    let decode = format!("defmt:{}", folder.display());
    Server::start(&[&["--decode", &decode], more].concat())
}

/// The log lines of a connection that sends a build id, if any, and three frames.
#[track_caller]
fn log(server: &mut Server, conn: usize, build: Option<&[u8]>, is_encoded: bool) -> Vec<Value> {
    let frames = (1..=3).map(frame);
    let frames = frames.map(|frame| if is_encoded { rzcobs(&frame) } else { frame });
    let messages: Vec<_> = build
        .map(<[u8]>::to_vec)
        .into_iter()
        .chain(frames)
        .collect();
    send(server, conn, &messages)
}

#[test]
fn each_connection_has_the_formats_of_its_build() {
    let folder = tempfile::tempdir().unwrap();
    let [plain, encoded] = [note(1), note(2)];
    write_elf(&folder.path().join("plain"), "raw", Some(&plain));
    write_elf(&folder.path().join("encoded.elf"), "rzcobs", Some(&encoded));
    let recording = folder.path().join("recording");
    let record = recording.to_str().unwrap();
    let mut server = serve(folder.path(), &["--record", record]);
    for (conn, (build, is_encoded)) in
        (1..).zip([(&plain, false), (&encoded, true), (&plain, false)])
    {
        let events = log(&mut server, conn, Some(build), is_encoded);
        assert_eq!(lines(&events), ["n=1", "n=2", "n=3"]);
        assert_eq!(events[1]["known"], true);
    }
    // The encoding is not known before the id, which may be encoded.
    let events = log(&mut server, 4, Some(&rzcobs(&encoded)), true);
    assert_eq!(lines(&events).len(), 3);
    let (ended, served) = server.stop();
    assert_eq!(ended.totals()["fault"], 0);

    // A recording is read and exported in the same way.
    let decode = format!("defmt:{}", folder.path().display());
    let read = run(
        &["read", record, "--output", "json", "--decode", &decode],
        b"",
    );
    let read: Vec<Value> = read
        .stdout_text()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|event: &Value| event["conn"].is_u64())
        .collect();
    assert_eq!(lines(&read), lines(&served));
    let out = folder.path().join("out.mcap");
    let out = out.to_str().unwrap();
    let exported = run(
        &[
            "export", record, "--to", "foxglove", "--out", out, "--decode", &decode,
        ],
        b"",
    );
    assert_eq!(exported.code, Some(0), "{exported:?}");
    assert!(
        exported.stdout_text().contains("exported 16 messages"),
        "{exported:?}"
    );
}

#[test]
fn new_and_replaced_files_are_found_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("firmware.elf");
    let mut server = serve(folder.path(), &[]);
    let warning = "has no ELF file with defmt formats yet";
    server.process.wait_for_error(warning);
    let [one, other] = [note(1), note(2)];
    let events = log(&mut server, 1, Some(&one), false);
    assert_eq!(lines(&events), [""; 0]);
    let [fault] = faults(&events)[..] else {
        panic!("{events:?}");
    };
    let reason = fault["reason"].as_str().unwrap();
    assert!(reason.contains(&"01".repeat(20)), "{reason}");
    assert!(reason.contains("copy it there"), "{reason}");
    let mut conn = 1;
    // A look may have been a moment ago.
    let mut until_found = |server: &mut Server, build: &[u8]| {
        for _ in 0..100 {
            conn += 1;
            if lines(&log(server, conn, Some(build), false)).len() == 3 {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("it is not found");
    };
    write_elf(&path, "raw", Some(&one));
    until_found(&mut server, &one);
    // Overwritten in place, then renamed over.
    write_elf(&path, "raw", Some(&other));
    until_found(&mut server, &other);
    // Devices with the earlier build are still decoded.
    until_found(&mut server, &one);
    let third = folder.path().join(".copy");
    write_elf(&third, "raw", Some(&note(3)));
    fs::rename(&third, &path).unwrap();
    until_found(&mut server, &note(3));
    server.stop();
}

#[test]
fn a_file_that_arrives_later_decodes_the_rest_of_a_connection() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = serve(folder.path(), &[]);
    let mut device = server.connect();
    let mut send = |message: &[u8]| {
        let wire = [&(message.len() as u32).to_be_bytes()[..], message].concat();
        device.write_all(&wire).expect("the daemon reads");
    };
    send(BUILD);
    send(&frame(0));
    server.wait_for("fault", 1);
    write_elf(&folder.path().join("firmware.elf"), "raw", Some(BUILD));
    let is_log = |events: &[Value]| !lines(events).is_empty();
    for number in 1..200 {
        send(&frame(number));
        if is_log(server.events()) {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let faults = faults(server.wait(is_log)).len();
    assert_eq!(faults, 1);
    server.stop();
}

#[test]
fn other_files_are_ignored_with_one_warning_and_never_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    write_elf(&path("firmware"), "raw", Some(BUILD));
    fs::write(path("README.txt"), "text").unwrap();
    fs::write(path("truncated.elf"), b"\x7fELF").unwrap();
    fs::copy(blocksd(&[]).get_program(), path("program")).unwrap();
    fs::create_dir(path("old")).unwrap();
    // Not looked at: it is in a subdirectory, or hidden.
    write_elf(&path("old/firmware"), "raw", Some(&note(5)));
    write_elf(&path(".hidden"), "raw", Some(&note(5)));
    let made = std::process::Command::new("mkfifo")
        .arg(path("pipe"))
        .status();
    assert!(made.unwrap().success());
    let opens = inotify::init(inotify::CreateFlags::NONBLOCK).unwrap();
    inotify::add_watch(&opens, path("pipe"), inotify::WatchFlags::OPEN).unwrap();
    symlink("/dev/zero", path("zero")).unwrap();
    symlink("pipe", path("link-to-pipe")).unwrap();
    symlink("nowhere", path("broken")).unwrap();
    symlink(".", path("loop")).unwrap();
    symlink("firmware", path("link-to-firmware")).unwrap();
    let mut server = serve(folder.path(), &[]);
    for conn in 1..=3 {
        let events = log(&mut server, conn, Some(BUILD), false);
        assert_eq!(lines(&events).len(), 3);
    }
    // The file and the link are one build, so it is used without an id too.
    let events = log(&mut server, 4, None, false);
    assert_eq!(lines(&events).len(), 3);
    let events = log(&mut server, 5, Some(&note(5)), false);
    assert_eq!((lines(&events).len(), faults(&events).len()), (0, 1));
    let (ended, _) = server.stop();
    assert_eq!(
        count(&ended, "not ELF files with defmt formats, so ignored"),
        1,
        "{}",
        ended.stderr
    );
    assert!(ended.stderr.contains("and 3 more"), "{}", ended.stderr);
    assert_eq!(count(&ended, "without its build id first"), 1);
    let opened = File::from(opens).read(&mut [0; 4096]);
    let none = opened.expect_err("the pipe was never opened");
    assert_eq!(none.kind(), ErrorKind::WouldBlock);
}

#[test]
fn without_a_build_id_the_only_build_is_used_and_several_are_reported() {
    let folder = tempfile::tempdir().unwrap();
    write_elf(&folder.path().join("one.elf"), "raw", Some(&note(1)));
    let mut server = serve(folder.path(), &[]);
    let events = log(&mut server, 1, None, false);
    assert_eq!(lines(&events).len(), 3);
    write_elf(&folder.path().join("two.elf"), "raw", Some(&note(2)));
    let mut conn = 1;
    let events = loop {
        conn += 1;
        assert!(conn < 100, "the second file is not noticed");
        let events = log(&mut server, conn, None, false);
        if lines(&events).is_empty() {
            break events;
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    let [fault] = faults(&events)[..] else {
        panic!("{events:?}");
    };
    let reason = fault["reason"].as_str().unwrap();
    assert!(reason.contains("ELF files of 2 builds"), "{reason}");
    assert!(reason.contains("send the build id first"), "{reason}");
    // With an id nothing has changed.
    let events = log(&mut server, conn + 1, Some(&note(1)), false);
    assert_eq!(lines(&events).len(), 3);
    server.stop();
}

#[test]
fn formats_in_memory_are_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let builds: Vec<_> = (1..=40).map(note).collect();
    for (number, build) in builds.iter().enumerate() {
        write_elf(&folder.path().join(number.to_string()), "raw", Some(build));
    }
    let mut server = serve(folder.path(), &[]);
    // One at a time, all can be used.
    for (conn, build) in (1..).zip(builds.iter().chain(&builds)) {
        let events = log(&mut server, conn, Some(build), false);
        assert_eq!(lines(&events).len(), 3, "connection {conn}");
    }
    server.stop();
    // At the same time, 32 can.
    let mut server = serve(folder.path(), &[]);
    let mut devices = Vec::new();
    for (conn, build) in (1..).zip(&builds[..33]) {
        let mut device = server.connect();
        for message in [build.clone(), frame(conn)] {
            let wire = [&(message.len() as u32).to_be_bytes()[..], &message].concat();
            device.write_all(&wire).expect("the daemon reads");
        }
        devices.push(device);
        server.wait_for("block", 2 * conn as usize);
    }
    let events = server.wait_for("fault", 1);
    assert_eq!(lines(events).len(), 32);
    let faults = faults(events);
    let reason = faults[0]["reason"].as_str().unwrap();
    assert!(reason.contains("32 other builds are in use"), "{reason}");
    server.stop();
}
