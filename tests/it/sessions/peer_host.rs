//! Hosts of sessions for these tests: [`PythonHost`], which can misbehave, and the daemon, both as a [`PeerHost`].

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;

use blocksd_tests::process::{Process, wait_until};
use blocksd_tests::programs::python;
use blocksd_tests::recording_daemon::{NumberedMessage, RecordingDaemon};
use blocksd_tests::reserved_port::ReservedPort;
use blocksd_tests::session_host::RecordingHost;
use serde_json::Value;
use tempfile::TempDir;

/// The file of the host in Python.
const RECORDS: &str = "records";

/// A host that records sessions, in a process.
pub(super) trait PeerHost {
    /// Its address.
    fn address(&self) -> SocketAddr;

    /// Kills it, and starts it again with its disk and its address.
    fn restart(&mut self);

    /// Ends it. Returns its records.
    fn end(self) -> Recorded;
}

/// The records of a host, in their order.
#[derive(Debug, Default)]
pub(super) struct Recorded {
    pub(super) messages: Vec<NumberedMessage>,
    /// Session, and the range of numbers: gaps.
    pub(super) gaps: Vec<(u64, u64, u64)>,
    /// Session and number of messages that were longer than the host takes.
    pub(super) refused: Vec<(u64, u64)>,
}

impl Recorded {
    /// Reads the records of the host in Python.
    fn read(folder: &TempDir) -> Self {
        let mut recorded = Self::default();
        let records = fs::read_to_string(folder.path().join(RECORDS)).expect("records");
        for line in records.lines() {
            let record: Value = serde_json::from_str(line).expect("a record");
            let session = record["session"].as_str().expect("a session");
            let session = u64::from_str_radix(session, 16).expect("a session");
            let end = record["end"].as_u64().expect("a number");
            if let Some(payload) = record["payload"].as_str() {
                recorded.messages.push((session, end - 1, unhex(payload)));
            } else if let Some(begin) = record["gap"].as_u64() {
                recorded.gaps.push((session, begin, end));
            } else {
                recorded.refused.push((session, end - 1));
            }
        }
        recorded
    }

    /// The payloads.
    pub(super) fn payloads(&self) -> Vec<&[u8]> {
        self.messages
            .iter()
            .map(|(.., payload)| &**payload)
            .collect()
    }

    /// The sessions of messages.
    pub(super) fn sessions(&self) -> BTreeSet<u64> {
        self.messages.iter().map(|(session, ..)| *session).collect()
    }

    /// Asserts that these messages were recorded, each once and in order, under the numbers from 0, in one session.
    #[track_caller]
    pub(super) fn assert_once(&self, messages: &[String]) {
        let expected: Vec<_> = messages.iter().map(|it| it.as_bytes()).collect();
        assert_eq!(self.payloads(), expected);
        let numbers = self.messages.iter().map(|(_, number, _)| *number);
        assert!(numbers.eq(0..messages.len() as u64), "{self:?}");
        assert_eq!(self.sessions().len(), 1, "{self:?}");
        assert!(self.gaps.is_empty() && self.refused.is_empty(), "{self:?}");
    }
}

/// `tests/peers/session_host.py`, with a plan of its failures.
#[derive(Debug)]
pub(super) struct PythonHost {
    process: Process,
    port: ReservedPort,
    folder: TempDir,
}

impl PythonHost {
    /// Starts a host that does this to its first connections, one action for each.
    #[track_caller]
    pub(super) fn start(plan: &[&str]) -> Self {
        Self::with(&["--plan", &plan.join(",")])
    }

    /// Starts a host with these arguments.
    #[track_caller]
    pub(super) fn with(args: &[&str]) -> Self {
        let folder = TempDir::new().expect("a folder for temporary files");
        let port = ReservedPort::take();
        Self {
            process: start(&folder, &port, args),
            port,
            folder,
        }
    }

    /// Ends it. Returns its records, and the session of each HELLO.
    #[track_caller]
    pub(super) fn finish(self) -> (Recorded, Vec<String>) {
        self.process.signal("TERM");
        let ended = self.process.end();
        assert_eq!(ended.stderr, "");
        let text = ended.stdout_text();
        let events = text.lines().filter(|line| line.starts_with('{'));
        let events = events.map(|line| serde_json::from_str::<Value>(line).expect("an object"));
        let hellos = events.filter(|event| event["event"] == "hello");
        let session = |hello: Value| hello["session"].as_str().expect("a session").to_owned();
        (Recorded::read(&self.folder), hellos.map(session).collect())
    }
}

impl PeerHost for PythonHost {
    fn address(&self) -> SocketAddr {
        self.port.address()
    }

    fn restart(&mut self) {
        self.process.signal("KILL");
        wait_until("the host is killed", || !self.process.runs());
        self.process = start(&self.folder, &self.port, &[]);
    }

    fn end(self) -> Recorded {
        self.finish().0
    }
}

/// A daemon, whose gaps and refused messages are not read.
impl PeerHost for RecordingDaemon {
    fn address(&self) -> SocketAddr {
        RecordingHost::address(self)
    }

    fn restart(&mut self) {
        RecordingHost::restart(self);
    }

    fn end(self) -> Recorded {
        Recorded {
            messages: self.finish(),
            ..Recorded::default()
        }
    }
}

/// Bytes from hexadecimal digits.
fn unhex(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes().chunks(2);
    let byte = |digits| u8::from_str_radix(str::from_utf8(digits).expect("digits"), 16);
    bytes.map(|it| byte(it).expect("two digits")).collect()
}

#[track_caller]
fn start(folder: &TempDir, port: &ReservedPort, args: &[&str]) -> Process {
    let path = folder.path().join(RECORDS);
    let path = path.to_str().expect("a path in UTF-8");
    let address = port.address().to_string();
    let args = [&["--record", path, "--listen", &address], args].concat();
    let process = Process::start(python("session_host.py", &args));
    process.line(&address);
    process
}
