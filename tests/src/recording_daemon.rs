//! The daemon as a host of sessions: a [`RecordingDaemon`].

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Server, run, wait_until};
use crate::reserved_port::ReservedPort;
use crate::session_host::RecordingHost;

/// A daemon with a recording, which keeps its address.
#[derive(Debug)]
pub struct RecordingDaemon {
    server: Server,
    listen: String,
    port: ReservedPort,
    folder: TempDir,
}

/// Session, number and payload of a message.
pub type NumberedMessage = (u64, u64, Vec<u8>);

impl RecordingDaemon {
    /// Starts it.
    #[track_caller]
    pub fn start() -> Self {
        Self::listening(str::to_owned)
    }

    /// Starts it with the text for `--listen` that `listen` makes of the address.
    #[track_caller]
    pub fn listening(listen: impl FnOnce(&str) -> String) -> Self {
        let folder = TempDir::new().expect("a folder for temporary files");
        let port = ReservedPort::take();
        let listen = listen(&port.address().to_string());
        Self {
            server: start(&folder, &listen),
            listen,
            port,
            folder,
        }
    }

    /// Stops it, and asserts that its recording is sound. Returns the messages of all devices, in the order of the recording.
    #[track_caller]
    pub fn finish(self) -> Vec<NumberedMessage> {
        let (ended, _) = self.server.stop();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let verified = run(&["verify", text(self.folder.path())], b"");
        assert_eq!(verified.code, Some(0), "{verified:?}");
        messages(self.folder.path(), &[])
    }
}

impl RecordingHost for RecordingDaemon {
    fn address(&self) -> SocketAddr {
        self.port.address()
    }

    fn restart(&mut self) {
        self.server.process.signal("KILL");
        wait_until("the daemon is killed", || !self.server.process.runs());
        self.server = start(&self.folder, &self.listen);
    }

    fn recorded(&mut self, device: &str) -> Vec<Vec<u8>> {
        let messages = messages(self.folder.path(), &["--device", device]);
        let mut seen = BTreeSet::new();
        let payloads = messages.into_iter().map(|(session, number, payload)| {
            assert!(seen.insert((session, number)), "twice: {number}");
            payload
        });
        payloads.collect()
    }
}

/// The arguments of a daemon that records to a folder, commits every 10 ms and prints no events, and these.
#[must_use]
pub fn recording_args<'a>(folder: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    let folder = folder.to_str().expect("a path in UTF-8");
    let common = [
        "--record",
        folder,
        "--output",
        "none",
        "--record-sync",
        "10",
    ];
    [&common, more].concat()
}

/// Reads messages of sessions, whose payloads are texts.
#[track_caller]
fn messages(folder: &Path, more: &[&str]) -> Vec<NumberedMessage> {
    let args = [&["read", text(folder), "--output", "json"], more].concat();
    let read = run(&args, b"").stdout_text();
    let events = read.lines().map(serde_json::from_str);
    let events = events.map(|event| event.expect("an event"));
    let messages = events.filter(|event: &Value| event["event"] == "block");
    let numbered = messages.map(|event| {
        let session = event["session"].as_str().expect("a session");
        let session = u64::from_str_radix(session, 16).expect("a session");
        let number = event["seq"].as_u64().expect("a number");
        let payload = event["text"].as_str().expect("a text");
        (session, number, payload.as_bytes().to_vec())
    });
    numbered.collect()
}

#[track_caller]
fn start(folder: &TempDir, listen: &str) -> Server {
    let folder = text(folder.path());
    Server::start(&["--listen", listen, "--record", folder, "--output", "none"])
}

#[track_caller]
fn text(folder: &Path) -> &str {
    folder.to_str().expect("a path in UTF-8")
}
