//! The daemon as a host of sessions: a [`RecordingDaemon`].

use std::net::SocketAddr;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Server, run, wait_until};
use crate::session_host::RecordingHost;

/// A daemon with a recording, which keeps its address.
#[derive(Debug)]
pub struct RecordingDaemon {
    server: Server,
    address: SocketAddr,
    folder: TempDir,
}

impl RecordingDaemon {
    /// Starts it.
    #[track_caller]
    pub fn start() -> Self {
        let folder = TempDir::new().expect("a folder for temporary files");
        let server = start(&folder, "127.0.0.1:0");
        let address = server.addr();
        Self {
            server,
            address,
            folder,
        }
    }
}

impl RecordingHost for RecordingDaemon {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn restart(&mut self) {
        self.server.process.signal("KILL");
        wait_until("the daemon is killed", || !self.server.process.runs());
        self.server = start(&self.folder, &self.address.to_string());
    }

    fn recorded(&mut self, device: &str) -> Vec<Vec<u8>> {
        let folder = self.folder.path().to_str().expect("a path in UTF-8");
        let read = run(
            &["read", folder, "--output", "json", "--device", device],
            b"",
        );
        let mut messages = Vec::new();
        let mut seen = std::collections::BTreeSet::new();
        for line in read.stdout_text().lines() {
            let event: Value = serde_json::from_str(line).expect("an event");
            if event["event"] == "block" {
                let number = (event["session"].to_string(), event["seq"].as_u64());
                assert!(seen.insert(number), "twice: {line}");
                let text = event["text"].as_str().expect("a text");
                messages.push(text.as_bytes().to_vec());
            }
        }
        messages
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

#[track_caller]
fn start(folder: &TempDir, address: &str) -> Server {
    let folder = folder.path().to_str().expect("a path in UTF-8");
    let args = ["--listen", address, "--record", folder, "--output", "none"];
    Server::start(&args)
}
