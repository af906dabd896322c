//! Standard descriptors that are full, closed or without a reader: lost output is a failure, and an opened file never takes
//! the number of a closed descriptor.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use blocksd_tests::process::{Ended, Server, blocksd, finish, run};
use tempfile::TempDir;

/// A folder with a recording, `rec`, and a configuration, `c.toml`.
fn folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    let record = folder.path().join("rec");
    let args = ["--record", record.to_str().unwrap()];
    let mut server = Server::start(&args);
    let mut device = server.connect();
    std::io::Write::write_all(&mut device, b"\0\0\0\x02hi\0\0\0\0").unwrap();
    server.wait_for("close", 1);
    server.stop();
    fs::write(folder.path().join("c.toml"), "listen = \"127.0.0.1:0\"").unwrap();
    folder
}

/// Commands that print something.
const PRINTING: &[&[&str]] = &[
    &["--help"],
    &["--version"],
    &["-V"],
    &["help"],
    &["help", "serve"],
    &["serve", "--help"],
    &["serve", "-h"],
    &["read", "--help"],
    &["man"],
    &["man", "serve"],
    &["completions", "bash"],
    &["completions", "zsh"],
    &["check-config", "c.toml"],
    &["recordings", "rec"],
    &["recordings", "--json", "rec"],
    &["verify", "rec"],
    &["read", "rec"],
    &["read", "--output", "json", "rec"],
    &["read", "--output", "hex", "rec"],
    &["read", "--output", "csv", "rec"],
    &["read", "--output", "raw", "rec"],
];

/// Runs a command in a folder, with this redirection of standard output.
fn redirected(folder: &Path, args: &[&str], redirect: &str) -> Ended {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("exec \"$0\" \"$@\" {redirect}")]);
    command.arg(blocksd(&[]).get_program()).args(args);
    command.current_dir(folder);
    finish(command, b"")
}

#[test]
fn every_command_fails_if_its_output_cannot_be_written() {
    let folder = folder();
    for args in PRINTING {
        let ended = redirected(folder.path(), args, ">/dev/full");
        assert_eq!(ended.code, Some(1), "{args:?}: {ended:?}");
        assert_eq!(
            ended.stderr,
            "blocksd: cannot write standard output: No space left on device (os error 28)\n",
            "{args:?}"
        );
    }
}

#[test]
fn a_reader_that_has_left_is_not_a_failure() {
    let folder = folder();
    for args in PRINTING {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = blocksd(args);
        command.current_dir(folder.path());
        let ended = command
            .stdin(Stdio::null())
            .stdout(writer)
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        assert_eq!(ended.status.code(), Some(0), "{args:?}: {ended:?}");
        assert!(ended.stderr.is_empty(), "{args:?}: {ended:?}");
    }
}

/// At the start, Rust opens `/dev/null` for each of the three descriptors that is closed.
#[test]
fn closed_standard_descriptors_are_opened_on_dev_null() {
    let folder = folder();
    let rec = folder.path().join("rec");
    let files = || {
        let mut files: Vec<_> = fs::read_dir(&rec)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| (path.clone(), fs::read(path).unwrap()))
            .collect();
        files.sort();
        files
    };
    let before = files();
    for args in PRINTING {
        for redirect in [">&-", "<&- >&-", "2>&-", "<&- >&- 2>&-"] {
            let ended = redirected(folder.path(), args, redirect);
            assert_eq!(ended.code, Some(0), "{args:?} {redirect}: {ended:?}");
            assert_eq!(ended.stderr, "", "{args:?} {redirect}");
        }
    }
    assert!(files() == before, "a recording has changed");
    // Otherwise the first files that a daemon opens would get these numbers: its sockets and the files of its recording.
    let args = [
        "serve", "--config", "c.toml", "--record", "new", "--output", "text", "--for", "200ms",
    ];
    let ended = redirected(folder.path(), &args, "<&- >&- 2>&-");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!((&*ended.stdout, &*ended.stderr), (&b""[..], ""));
    let lock = fs::read(folder.path().join("new/blocksd.lock")).unwrap();
    assert_eq!(lock, b"", "a line of text is in the lock");
    let new = folder.path().join("new");
    let ended = run(&["verify", new.to_str().unwrap()], b"");
    assert_eq!(ended.code, Some(0), "{ended:?}");
}
