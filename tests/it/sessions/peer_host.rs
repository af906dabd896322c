//! Hosts of sessions for these tests. Start with [`SessionHost`]; [`PythonHost`] is one that can misbehave, and [`DaemonHost`]
//! the daemon.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;

use blocksd_tests::process::{Process, Server, run, wait_until};
use blocksd_tests::programs::python;
use serde_json::Value;
use tempfile::TempDir;

/// The file of the host in Python.
const RECORDS: &str = "records";

/// A host that records sessions, in a process.
pub(super) trait SessionHost {
    /// Its address: another one after a restart.
    fn addr(&self) -> SocketAddr;

    /// Kills it, and starts it again with its disk.
    fn restart(&mut self);

    /// Ends it. Returns its records.
    fn end(self) -> Recorded;
}

/// The records of a host, in their order.
#[derive(Debug, Default)]
pub(super) struct Recorded {
    /// Session, number and payload.
    pub(super) messages: Vec<(u64, u64, Vec<u8>)>,
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
    addr: SocketAddr,
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
        let (process, addr) = start(&folder, args);
        Self {
            process,
            addr,
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

impl SessionHost for PythonHost {
    fn addr(&self) -> SocketAddr {
        self.addr
    }

    fn restart(&mut self) {
        self.process.signal("KILL");
        wait_until("the host is killed", || !self.process.runs());
        (self.process, self.addr) = start(&self.folder, &[]);
    }

    fn end(self) -> Recorded {
        self.finish().0
    }
}

/// The daemon, with a recording.
#[derive(Debug)]
pub(super) struct DaemonHost {
    server: Server,
    folder: TempDir,
}

impl DaemonHost {
    #[track_caller]
    pub(super) fn start() -> Self {
        let folder = TempDir::new().expect("a folder for temporary files");
        let server = Self::server(&folder);
        Self { server, folder }
    }

    #[track_caller]
    fn server(folder: &TempDir) -> Server {
        let folder = folder.path().to_str().expect("a path in UTF-8");
        Server::start(&["--record", folder, "--output", "none"])
    }
}

impl SessionHost for DaemonHost {
    fn addr(&self) -> SocketAddr {
        self.server.addr()
    }

    fn restart(&mut self) {
        self.server.process.signal("KILL");
        wait_until("the daemon is killed", || !self.server.process.runs());
        self.server = Self::server(&self.folder);
    }

    fn end(self) -> Recorded {
        let (ended, _) = self.server.stop();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let folder = self.folder.path().to_str().expect("a path in UTF-8");
        let verified = run(&["verify", folder], b"");
        assert_eq!(verified.code, Some(0), "{verified:?}");
        let read = run(&["read", folder, "--output", "json"], b"");
        let mut recorded = Recorded::default();
        for line in read.stdout_text().lines() {
            let event: Value = serde_json::from_str(line).expect("an event");
            if event["event"] == "block" {
                let session = event["session"].as_str().expect("a session");
                let session = u64::from_str_radix(session, 16).expect("a session");
                let number = event["seq"].as_u64().expect("a number");
                let payload = event["text"].as_str().expect("a text");
                recorded
                    .messages
                    .push((session, number, payload.as_bytes().to_vec()));
            }
        }
        recorded
    }
}

/// Bytes from hexadecimal digits.
fn unhex(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes().chunks(2);
    let byte = |digits| u8::from_str_radix(str::from_utf8(digits).expect("digits"), 16);
    bytes.map(|it| byte(it).expect("two digits")).collect()
}

#[track_caller]
fn start(folder: &TempDir, args: &[&str]) -> (Process, SocketAddr) {
    let path = folder.path().join(RECORDS);
    let path = path.to_str().expect("a path in UTF-8");
    let args = [&["--record", path], args].concat();
    let process = Process::start(python("session_host.py", &args));
    let addr = process.line("127.0.0.1:").parse().expect("an address");
    (process, addr)
}
