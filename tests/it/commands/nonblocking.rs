//! Standard streams that another process has left non-blocking, with slow readers and writers: nothing is lost, and the
//! flag stays as it was found.

use std::fs;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use blocksd_recording::Compression;
use blocksd_tests::process::{Process, Server, blocksd, finish};
use blocksd_tests::recorded::record;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::pipe::fcntl_setpipe_size;

use crate::commands::send::send;

/// Capacity of the pipes, in bytes.
const PIPE_LEN: usize = 4096;

fn is_non_blocking(end: impl AsFd) -> bool {
    fcntl_getfl(end).unwrap().contains(OFlags::NONBLOCK)
}

/// A pipe whose writing end is non-blocking and full.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = io::pipe().unwrap();
    fcntl_setpipe_size(&writer, PIPE_LEN).unwrap();
    fcntl_setfl(&writer, OFlags::NONBLOCK).unwrap();
    writer.write_all(&[b'x'; PIPE_LEN]).unwrap();
    let refused = writer.write(b"x").unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
    (reader, writer)
}

/// Reads a full pipe slowly, beginning late. Returns what follows the bytes that filled it.
fn read_slowly(mut reader: PipeReader) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        thread::sleep(Duration::from_millis(150));
        let (mut all, mut buffer) = (Vec::new(), [0; 1500]);
        loop {
            match reader.read(&mut buffer).unwrap() {
                0 => return all.split_off(PIPE_LEN),
                len => all.extend_from_slice(&buffer[..len]),
            }
            thread::sleep(Duration::from_micros(100));
        }
    })
}

/// Runs a command with a full non-blocking standard output or standard error, and returns its exit code and what it wrote
/// there.
#[track_caller]
fn run_slowly(mut command: Command, is_stderr: bool) -> (Option<i32>, Vec<u8>) {
    let (reader, writer) = full_pipe();
    let kept = writer.try_clone().unwrap();
    command.stdin(Stdio::null());
    match is_stderr {
        true => command.stdout(Stdio::null()).stderr(writer),
        false => command.stdout(writer).stderr(Stdio::null()),
    };
    let mut child = command.spawn().unwrap();
    // Closes its copy of the pipe.
    drop(command);
    let reader = read_slowly(reader);
    let code = child.wait().unwrap().code();
    assert!(is_non_blocking(&kept));
    drop(kept);
    (code, reader.join().unwrap())
}

#[test]
fn every_command_writes_all_of_its_output() {
    let folder = tempfile::tempdir().unwrap();
    let chunks: Vec<Vec<_>> = (0..20)
        .map(|chunk| {
            let payload = |at: usize| format!("{chunk} {at} {}", "x".repeat(at)).into_bytes();
            (0..30).map(payload).collect()
        })
        .collect();
    record(folder.path(), "d", Compression::None, &chunks);
    let path = folder.path().to_str().unwrap();
    let config = folder.path().join("config.toml");
    fs::write(&config, "listen = [\"127.0.0.1:0\"]\n").unwrap();
    let config = config.to_str().unwrap();
    let commands: [&[&str]; 16] = [
        &["read", path],
        &["read", path, "--output", "json"],
        &["read", path, "--output", "hex"],
        &["read", path, "--output", "csv"],
        &["read", path, "--output", "raw"],
        &["recordings", path],
        &["recordings", path, "--json"],
        &["verify", path],
        &["recover", path],
        &["check-config", config],
        &["check-config", "--print", config],
        &["serve", "--help"],
        &["--help"],
        &["--version"],
        &["man", "serve"],
        &["completions", "bash"],
    ];
    for args in commands {
        let usual = finish(blocksd(args), b"");
        let (code, written) = run_slowly(blocksd(args), false);
        assert_eq!(code, usual.code, "{args:?}");
        assert!(written == usual.stdout, "{args:?}");
    }
    let mistakes: [&[&str]; 3] = [
        &["read", "/no/such/folder"],
        &["serve", "--no-such-option"],
        &["no-such-command"],
    ];
    for args in mistakes {
        let usual = finish(blocksd(args), b"");
        let (code, written) = run_slowly(blocksd(args), true);
        assert_eq!(code, usual.code, "{args:?}");
        assert_eq!(String::from_utf8_lossy(&written), usual.stderr, "{args:?}");
    }
}

#[test]
fn an_export_and_the_demo_write_all_of_their_output() {
    let folder = tempfile::tempdir().unwrap();
    record(
        folder.path(),
        "d",
        Compression::None,
        &[vec![b"{\"a\":1}".to_vec()]],
    );
    let path = folder.path().to_str().unwrap();
    let out = folder.path().join("out");
    let to = ["--to", "csv", "--out", out.to_str().unwrap(), "--force"];
    let args = [&["export", path][..], &to].concat();
    let usual = finish(blocksd(&args), b"");
    let (code, written) = run_slowly(blocksd(&args), false);
    assert_eq!((code, &written), (usual.code, &usual.stdout), "{usual:?}");
    let (code, written) = run_slowly(blocksd(&["demo", "--seconds", "1"]), false);
    let text = String::from_utf8_lossy(&written);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("balanced, nothing was lost"), "{text}");
}

#[test]
fn a_reply_and_the_textbook_commands_are_printed_completely() {
    let long = "x".repeat(200_000);
    let server = Server::start(&["--framing", "lines", "--reply", "echo", "--output", "none"]);
    let command = send(server.addr(), "lines", &["--wait-reply", &long[..100_000]]);
    let (code, written) = run_slowly(command, false);
    assert_eq!(code, Some(0));
    assert!(written == format!("{}\n", &long[..100_000]).into_bytes());
    for framing in ["blocks", "stream"] {
        let (reader, writer) = full_pipe();
        let mut command = blocksd(&["server", "", "--port", "0", "--framing", framing]);
        let mut child = command.stdout(writer).spawn().unwrap();
        drop(command);
        let mut reader = reader;
        let mut filled = [0; PIPE_LEN];
        reader.read_exact(&mut filled).unwrap();
        let mut line = Vec::new();
        while line.last() != Some(&b'\n') {
            let mut byte = [0];
            reader.read_exact(&mut byte).unwrap();
            line.push(byte[0]);
        }
        let line = String::from_utf8(line).unwrap();
        let port = line.rsplit_once(' ').unwrap().1;
        let port = port.trim_end_matches(")\n");
        let args = ["client", "127.0.0.1", "--port", port, "--framing", framing];
        let sent = finish(blocksd(&[&args[..], &[&long[..100_000]]].concat()), b"");
        assert_eq!(sent.code, Some(0), "{sent:?}");
        thread::sleep(Duration::from_millis(100));
        let mut rest = String::new();
        reader.read_to_string(&mut rest).unwrap();
        assert!(
            rest.contains(&long[..100_000]),
            "{framing}: {} bytes",
            rest.len()
        );
        assert_eq!(child.wait().unwrap().code(), Some(0), "{framing}");
    }
}

#[test]
fn a_daemon_shows_every_message_to_a_slow_reader() {
    for format in ["text", "json", "hex"] {
        let (reader, writer) = full_pipe();
        let kept = writer.try_clone().unwrap();
        let args = ["--output", format, "--once"];
        let mut command = Server::command(&args);
        command.stdout(writer);
        let server = Server::of(Process::start_unread(command), &args);
        let mut device = server.connect();
        let reader = read_slowly(reader);
        for at in 0..3000_u32 {
            let text = format!("message {at:08}");
            let block = [&16_u32.to_be_bytes()[..], text.as_bytes()].concat();
            device.write_all(&block).unwrap();
        }
        device.write_all(&[0; 4]).unwrap();
        drop(device);
        let ended = server.end().0;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(is_non_blocking(&kept));
        drop(kept);
        let text = String::from_utf8(reader.join().unwrap()).unwrap();
        assert_eq!(text.matches("message 0000").count(), 3000, "{format}");
    }
}

/// A non-blocking pipe, and a thread that writes lines to it slowly.
fn write_slowly(lines: u32) -> (PipeReader, JoinHandle<()>) {
    let (reader, mut writer) = io::pipe().unwrap();
    fcntl_setfl(&reader, OFlags::NONBLOCK).unwrap();
    let thread = thread::spawn(move || {
        thread::sleep(Duration::from_millis(150));
        for line in 0..lines {
            writeln!(writer, "line {line}").unwrap();
            if line % 50 == 0 {
                thread::sleep(Duration::from_millis(5));
            }
        }
    });
    (reader, thread)
}

#[test]
fn standard_input_is_read_to_its_end() {
    let (stdin, writer) = write_slowly(1000);
    let kept = stdin.try_clone().unwrap();
    let args = [
        "serve",
        "--listen",
        "-,framing=lines",
        "--output",
        "json",
        "--once",
    ];
    let mut command = blocksd(&args);
    command.stdin(stdin).stderr(Stdio::piped());
    let output = command.output().unwrap();
    writer.join().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.matches("\"event\":\"block\"").count(), 1000);
    assert!(is_non_blocking(&kept));

    let mut server = Server::start(&["--framing", "lines", "--once"]);
    let (stdin, writer) = write_slowly(1000);
    let kept = stdin.try_clone().unwrap();
    let mut command = send(server.addr(), "lines", &[]);
    command.stdin(stdin);
    let sent = command.output().unwrap();
    writer.join().unwrap();
    assert_eq!(sent.status.code(), Some(0), "{sent:?}");
    server.wait_for("block", 1000);
    assert!(is_non_blocking(&kept));
}
