//! Only regular files with names of exactly the form of the daemon are changed, and names from a recording are neither
//! opened nor printed raw.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use blocksd_recording::{
    Channel, ChannelSpec, Compression, Log, LogContext, LogOptions, Packer, Retention,
};
use blocksd_tests::elf::elf;
use blocksd_tests::foreign::{channel_body, channel_with, message, record, schema, torn};
use blocksd_tests::process::{Ended, Server, finish, run};
use blocksd_tests::story::acts_on_a_terminal;
use mcap::records::op;
use tempfile::TempDir;

/// The form of the daemon's names.
const OURS: &str = "00000003-20260101T000000Z-0123456789abcdef.mcap";

/// Names of other programs.
fn names() -> Vec<OsString> {
    let mut names: Vec<OsString> = [
        "flight.mcap.part",
        "flight.mcap.new",
        "flight.mcap.lost",
        "00000001-backup.mcap",
        "00000001-backup.mcap.part",
        "00000001.mcap.part",
        "1-20260101T000000Z.mcap.part",
        "00000001-20260101T000000.mcap.part",
        "00000001-20260101.mcap.lost",
        "00000001-20260101T000000Z-0123.mcap.part",
        "00000001-20260101T000000Z-0123456789ABCDEF.mcap.part",
        " 00000001-20260101T000000Z.mcap.part",
        "00000001-20260101T000000Z.mcap.part ",
        "00000001-20260101T000000Z.mcap.part\n",
        "00000001-20260101T000000Z.mcap.PART",
        "00000001-20260101T000000Z.MCAP.part",
        "00000001-20260101T000000Z.mcap.part.new",
        "00000001-20260101T000000Z.mcap.new.new",
        "00000001-20260101T000000Z.mcap.new~",
        ".00000001-20260101T000000Z.mcap.part",
        "\u{ff10}0000001-20260101T000000Z.mcap.part",
        "00000001-20260101T000000Z.mcap.part.\u{1b}[2J",
        "99999999999999999999-20260101T000000Z.mcap.part",
    ]
    .map(OsString::from)
    .into();
    names.push(OsStr::from_bytes(b"00000001-20260101T000000Z.mcap.part\xff").to_owned());
    names.push(OsStr::from_bytes(b"\xff0000001-20260101T000000Z.mcap.part").to_owned());
    names
}

fn mkfifo(path: &Path) {
    let made = Command::new("mkfifo").arg(path).status().unwrap();
    assert!(made.success());
}

/// Everything in a folder: name, and content of a regular file.
fn content(folder: &Path, names: &[OsString]) -> Vec<Option<Vec<u8>>> {
    let read = |name: &OsString| {
        let path = folder.join(name);
        let is_file = path.symlink_metadata().is_ok_and(|it| it.is_file());
        is_file.then(|| fs::read(&path).unwrap())
    };
    names.iter().map(read).collect()
}

/// Starts and stops a daemon, recovers the folder, and writes more than a retention of 60 kB allows.
fn do_everything(folder: &Path) -> Ended {
    let record = folder.to_str().unwrap();
    let mut server = Server::start(&["--record", record, "--record-max-bytes", "16MiB"]);
    let address = server.addr().to_string();
    assert_eq!(
        run(&["send", "--to", &address, "message"], b"").code,
        Some(0)
    );
    server.wait_for("close", 1);
    let (ended, _) = server.stop();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let recovered = run(&["recover", record], b"");
    let context = LogContext::open(folder, Arc::default(), Retention::new(Some(60_000)));
    let context = Arc::new(context.unwrap());
    let packer = Packer::start(&context, Compression::Auto);
    let options = LogOptions {
        rotate_bytes: 10_000,
        compression: Compression::None,
        ..LogOptions::default()
    };
    let mut log = Log::after_others(options, context).unwrap();
    let mut known = Channel::default();
    for sequence in 0..1000 {
        let channel = log.channel(&mut known, ChannelSpec::default).unwrap();
        log.append(channel, sequence, 1, &[0; 200]).unwrap();
        if sequence % 10 == 0 {
            log.commit().unwrap();
            while log.is_syncing() {
                std::thread::sleep(Duration::from_millis(1));
            }
            log.rotate_if_due().unwrap();
        }
    }
    log.finish().unwrap();
    packer.finish(Duration::from_secs(10));
    recovered
}

#[test]
fn files_with_other_names_are_never_changed() {
    let folder = TempDir::new().unwrap();
    let names = names();
    // One is torn, one is whole, one is empty, one is not a recording at all.
    let parts = [message(1, 0, 0, b"message")];
    let contents = [
        torn("other", &parts),
        torn("blocksd 0.1.0", &[]),
        vec![],
        vec![7; 9000],
    ];
    for (index, name) in names.iter().enumerate() {
        fs::write(folder.path().join(name), &contents[index % contents.len()]).unwrap();
    }
    let before = content(folder.path(), &names);
    let recovered = do_everything(folder.path());
    assert_eq!(content(folder.path(), &names), before);
    assert_eq!((recovered.code, &*recovered.stdout_text()), (Some(0), ""));
    // They are neither listed nor read, and hide no file of the daemon.
    let path = folder.path().to_str().unwrap();
    let listed = run(&["recordings", "--json", path], b"").stdout_text();
    let of_ours = listed
        .lines()
        .filter(|line| line.contains("\"state\":\"sealed\""));
    let others = listed.lines().filter(|line| line.contains("backup.mcap\""));
    assert_eq!(
        (of_ours.count(), others.count()),
        (listed.lines().count() - 1, 1),
        "{listed}"
    );
    assert!(
        listed
            .lines()
            .last()
            .unwrap()
            .contains("00000001-backup.mcap"),
        "{listed}"
    );
}

#[test]
fn entries_that_are_not_regular_files_are_never_changed() {
    let (folder, outside) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let target = outside.path().join("target");
    let parts = [message(1, 0, 0, b"message")];
    fs::write(&target, torn("other", &parts)).unwrap();
    let path = |number: u32, ending: &str| {
        let name = OURS.replace("00000003", &format!("{number:08}"));
        folder.path().join(name + ending)
    };
    for (number, ending) in (10..).zip(["", ".lost", ".new"]) {
        fs::create_dir(path(number, ending)).unwrap();
        mkfifo(&path(number + 10, ending));
        symlink(&target, path(number + 20, ending)).unwrap();
        symlink(outside.path().join("missing"), path(number + 30, ending)).unwrap();
    }
    let count = || fs::read_dir(folder.path()).unwrap().count();
    let before = count();
    let recovered = do_everything(folder.path());
    assert_eq!(recovered.code, Some(0), "{recovered:?}");
    for (number, ending) in (10..).zip(["", ".lost", ".new"]) {
        assert!(path(number, ending).is_dir());
        for kind in [10, 20, 30] {
            let path = path(number + kind, ending);
            assert!(path.symlink_metadata().is_ok(), "{}", path.display());
        }
    }
    assert!(before < count());
    assert_eq!(fs::read(&target).unwrap(), torn("other", &parts));
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
}

#[test]
fn a_link_to_a_torn_file_is_repaired_and_its_target_is_unchanged() {
    for is_hard in [false, true] {
        let (folder, outside) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let target = outside.path().join("target");
        let definitions = [
            record(op::SCHEMA, &schema(1)),
            record(op::CHANNEL, &channel_body(1)),
        ];
        let parts = [definitions.concat(), message(1, 0, 0, b"message")];
        fs::write(&target, torn("other", &parts)).unwrap();
        let link = folder.path().join("00000001-20260101T000000Z.mcap.part");
        match is_hard {
            true => fs::hard_link(&target, &link).unwrap(),
            false => symlink(&target, &link).unwrap(),
        }
        let ended = run(&["recover", folder.path().to_str().unwrap()], b"");
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(link.symlink_metadata().is_err());
        assert_eq!(fs::read(&target).unwrap(), torn("other", &parts));
        let path = link.with_extension("");
        let ended = run(&["read", "--output", "raw", path.to_str().unwrap()], b"");
        assert_eq!(ended.stdout_text(), "message", "{ended:?}");
    }
}

/// A recording whose channel has this metadata.
fn recording(folder: &TempDir, topic: &str, metadata: &[(&str, &str)]) -> PathBuf {
    let channel = record(op::CHANNEL, &channel_with(1, topic, metadata));
    let path = folder.path().join("foreign.mcap");
    fs::write(&path, torn("other", &[channel, message(1, 0, 0, b"frame")])).unwrap();
    path
}

#[test]
fn a_file_that_a_recording_names_is_not_opened() {
    let folder = TempDir::new().unwrap();
    let pipe = folder.path().join("pipe");
    mkfifo(&pipe);
    let pipe = pipe.to_str().unwrap();
    let named = folder.path().join("firmware.elf");
    fs::write(&named, elf(&[("defmt_info", "frame")])).unwrap();
    for file in [pipe, "/dev/zero", "/dev/tty", named.to_str().unwrap(), ""] {
        for key in ["decode", "framing", "device"] {
            let spec = format!("defmt:{file}");
            let mut metadata = vec![
                ("device", "10.0.0.7"),
                ("framing", "blocks"),
                ("decode", "raw"),
            ];
            metadata
                .iter_mut()
                .filter(|it| it.0 == key)
                .for_each(|it| it.1 = &spec);
            let path = recording(&folder, "/device/10.0.0.7/blocks", &metadata);
            let path = path.to_str().unwrap();
            for output in ["text", "json", "hex", "csv", "raw"] {
                let ended = run(&["read", "--output", output, path], b"");
                assert_eq!(ended.code, Some(0), "{ended:?}");
                assert!(!ended.stdout.is_empty(), "{ended:?}");
                let is_decoded = key == "decode" && !["csv", "raw"].contains(&output);
                let notes = ended.stderr.matches("--decode defmt:ELF").count();
                assert_eq!(notes, usize::from(is_decoded), "{ended:?}");
            }
        }
    }
}

#[test]
fn texts_of_a_recording_are_escaped_on_a_terminal() {
    let folder = TempDir::new().unwrap();
    let evil = "a\u{1b}[2J\n\u{9b}31m\u{7f}\r\u{202e}\u{2066}\u{61c}\u{2028}\u{200b}";
    let metadata = [("device", evil), ("framing", evil), ("decode", evil)];
    let topic = format!("/device/{evil}/blocks");
    let path = recording(&folder, &topic, &metadata);
    let renamed = folder.path().join(format!("{evil}.mcap"));
    fs::rename(path, &renamed).unwrap();
    let twice = folder.path().join("recovered.mcap");
    let (path, folder) = (renamed.to_str().unwrap(), folder.path().to_str().unwrap());
    let commands: [&[&str]; 11] = [
        &["read", path],
        &["read", "--output", "json", path],
        &["recordings", "--json", folder],
        &["read", "missing\u{202e}\u{9b}"],
        &["read", "--output", "hex", path],
        &["recordings", folder],
        &["verify", path],
        &["recover", path, "--output", twice.to_str().unwrap()],
        &["recover", path, "--output", twice.to_str().unwrap()],
        &["verify", path, path],
        &["replay", path, "--to", "127.0.0.1:1"],
    ];
    for command in commands {
        let ended = run(command, b"");
        for text in [ended.stdout_text(), ended.stderr.clone()] {
            let is_raw = |letter: char| acts_on_a_terminal(letter) && letter != '\n';
            assert!(!text.contains(is_raw), "{command:?}: {text:?}");
            assert!(!text.contains("[2J\n"), "{command:?}: {text:?}");
        }
        assert!(matches!(ended.code, Some(0..=2 | 75)), "{ended:?}");
    }
}

#[test]
fn a_path_that_is_not_utf8_is_listed_and_read() {
    let folder = TempDir::new().unwrap();
    let inner = folder.path().join(OsStr::from_bytes(b"caf\xe9"));
    fs::create_dir(&inner).unwrap();
    let from = recording(&folder, "/imu", &[]);
    fs::rename(from, inner.join(OsStr::from_bytes(b"\xff.mcap"))).unwrap();
    for args in [
        &["recordings", "--json"][..],
        &["recordings"],
        &["verify"],
        &["read"],
    ] {
        let mut command = Command::new(Server::command(&[]).get_program());
        command.args(args).arg(&inner);
        let ended = finish(command, b"");
        assert!(matches!(ended.code, Some(0 | 1)), "{args:?}: {ended:?}");
        assert!(!ended.stdout.is_empty());
    }
}
