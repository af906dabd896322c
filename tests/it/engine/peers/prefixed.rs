//! Libraries that send a length of 4 bytes before each message, and no end mark: their series is open, and not a fault.

use std::path::{Path, PathBuf};
use std::process::Command;

use blocksd_tests::process::{Process, python};
use blocksd_tests::programs::Program;
use blocksd_tests::skip::skipped;
use futures::SinkExt as _;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio_util::bytes::Bytes;
use tokio_util::codec::{FramedWrite, LengthDelimitedCodec};

use super::{Daemon, messages};

#[test]
fn tokio_util_sends_an_open_series() {
    let mut daemon = Daemon::start(&["blocks"]);
    let runtime = Runtime::new().unwrap();
    let connected = runtime.block_on(TcpStream::connect(daemon.server.addr()));
    let mut peer = FramedWrite::new(connected.unwrap(), LengthDelimitedCodec::new());
    daemon.receive(|message| {
        let message = Bytes::copy_from_slice(message.as_bytes());
        runtime.block_on(peer.send(message)).unwrap();
    });
    drop(peer);
    is_open(daemon);
}

#[test]
fn twisted_sends_an_open_series() {
    let packages = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/python");
    if !packages.join("twisted").is_dir() {
        let reason = "Python's package twisted is missing; `tests/run` installs it";
        return skipped("twisted_sends_an_open_series", reason);
    }
    send_lines(|port| {
        let mut peer = python("twisted_peer.py", &[port]);
        peer.env("PYTHONPATH", packages);
        peer
    });
}

#[test]
fn erlang_sends_an_open_series() {
    let Some(erlang) = Program::find("erlang_sends_an_open_series", "escript") else {
        return;
    };
    // Debian's scripts expect an installed package, so this starts the emulator as `escript` does.
    let root = erlang.file("/usr/lib/erlang");
    let entries = std::fs::read_dir(&root).expect("a folder").flatten();
    let is_runtime = |path: &PathBuf| path.join("bin/erlexec").is_file();
    let runtime = entries.map(|entry| entry.path()).find(is_runtime);
    let programs = runtime.expect("a runtime").join("bin");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/erlang_peer.erl");
    send_lines(|port| {
        let mut peer = Command::new(programs.join("erlexec"));
        let options = "-boot no_dot_erlang -noshell -run escript start -extra";
        peer.args(options.split(' ')).arg(&script).arg(port);
        peer.env("ROOTDIR", &root).env("BINDIR", &programs);
        peer.env("EMU", "beam").env("PROGNAME", "erl");
        peer
    });
}

/// Passes the messages to the program for this port, which sends each line, and exits at the end of its input.
#[track_caller]
fn send_lines(program: impl FnOnce(&str) -> Command) {
    let mut daemon = Daemon::start(&["blocks"]);
    let port = daemon.server.addr().port().to_string();
    let mut peer = Process::start(program(&port));
    daemon.receive(|message| peer.write_part(format!("{message}\n").as_bytes()));
    peer.write(b"");
    let ended = peer.end();
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    is_open(daemon);
}

/// The messages arrived, the series is open, and nothing is a fault.
#[track_caller]
fn is_open(mut daemon: Daemon) {
    let events = daemon.server.wait_for("close", 1);
    let close = events.iter().find(|event| event["event"] == "close");
    assert_eq!(close.expect("a close")["series"], "open");
    assert_eq!(daemon.end("eof"), [messages()]);
}
