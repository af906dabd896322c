//! Third-party programs send to the daemon, configured as in `docs/peers.md`: each keeps one connection, and every message
//! arrives.

mod nat;
mod prefixed;
mod proxies;
mod serial;
mod syslog;
mod tools;

use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use blocksd_tests::process::{Process, Server, brief};
use serde_json::Value;

/// Messages that a peer sends.
const MESSAGES: usize = 3;

/// Silence before each message but the first. It is longer than the time for which socat, and the peers with the timeouts of
/// these tests, keep a half-closed connection.
const SILENCE: Duration = Duration::from_millis(700);

/// The daemon, and the expected number of connections.
struct Daemon {
    server: Server,
    connections: usize,
}

impl Daemon {
    /// Starts the daemon with a listener for each framing, and expects one connection to each.
    #[track_caller]
    fn start(framings: &[&str]) -> Self {
        let listen = framings
            .iter()
            .map(|it| format!("127.0.0.1:0,framing={it}"));
        let args: Vec<_> = listen.flat_map(|it| ["--listen".to_owned(), it]).collect();
        let args: Vec<_> = args.iter().map(String::as_str).collect();
        Self::of(Server::start(&args), framings.len())
    }

    /// Uses a running daemon.
    fn of(server: Server, connections: usize) -> Self {
        Self {
            server,
            connections,
        }
    }

    /// Sends the messages with `send`. Each must arrive on each connection before the next is sent.
    #[track_caller]
    fn receive(&mut self, mut send: impl FnMut(&str)) {
        for (number, message) in messages().iter().enumerate() {
            if number > 0 {
                sleep(SILENCE);
            }
            send(message);
            let blocks = self.connections * (number + 1);
            self.wait(|events| blocks <= count(events, "block"));
        }
    }

    /// Waits until the events satisfy `enough`. Fails at once if a connection was closed, or one too many opened.
    #[track_caller]
    fn wait(&mut self, enough: impl Fn(&[Value]) -> bool) {
        let connections = self.connections;
        let is_wrong =
            |events: &[Value]| connections < count(events, "open") || 0 < count(events, "close");
        let events = self
            .server
            .wait(|events| is_wrong(events) || enough(events));
        let story = || events.iter().map(brief).collect::<Vec<_>>();
        assert!(
            !is_wrong(events),
            "expected {connections} open connections: {:#?}",
            story()
        );
    }

    /// Waits until the peers have closed, and ends the daemon. Returns the messages of each connection.
    #[track_caller]
    fn end(mut self, reason: &str) -> Vec<Vec<String>> {
        let connections = self.connections;
        self.server.wait_for("close", connections);
        let (ended, events) = self.server.stop();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let totals = ended.totals();
        let totals = ["connection", "block", "fault"].map(|word| totals[word]);
        let (connections, blocks) = (connections as u64, (connections * MESSAGES) as u64);
        assert_eq!(totals, [connections, blocks, 0], "{ended:?}");
        let closed = events.iter().filter(|event| event["event"] == "close");
        for event in closed {
            assert_eq!(event["reason"], reason, "{event}");
        }
        let of = |conn| {
            let own = move |event: &&Value| event["event"] == "block" && event["conn"] == conn;
            let own = events.iter().filter(own);
            let text = |event: &Value| event["text"].as_str().expect("text").to_owned();
            own.map(text).collect()
        };
        (1..=connections).map(of).collect()
    }
}

/// The messages that each peer sends.
fn messages() -> Vec<String> {
    let numbers = 0..MESSAGES;
    numbers.map(|it| format!("message {it}")).collect()
}

/// Number of events of this kind.
fn count(events: &[Value], kind: &str) -> usize {
    let of_kind = events.iter().filter(|event| event["event"] == kind);
    of_kind.count()
}

/// Passes the messages to a program that sends each line of its standard input, and exits at its end.
#[track_caller]
fn send_lines(mut daemon: Daemon, command: Command, reason: &str) {
    let mut peer = Process::start(command);
    daemon.receive(|message| peer.write_part(format!("{message}\n").as_bytes()));
    peer.write(b"");
    let ended = peer.end();
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    assert_eq!(daemon.end(reason), [messages()]);
}

/// A configuration from `docs/peers.md`: block `number` of the section with this heading.
#[track_caller]
fn documented(heading: &str, number: usize) -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/peers.md");
    let page = std::fs::read_to_string(page).expect("a page");
    let mut sections = page.split("\n## ");
    let section = sections.find(|section| section.lines().next() == Some(heading));
    let section = section.unwrap_or_else(|| panic!("the page has no section {heading}"));
    // The blocks are at the odd places, and begin with the name of a language.
    let block = section.split("```").nth(2 * number + 1);
    let block = block.unwrap_or_else(|| panic!("{heading} has no block {number}"));
    block.split_once('\n').expect("a fence").1.to_owned()
}

/// Replaces text that must be present.
#[track_caller]
fn replace(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "{from} is not in:\n{text}");
    text.replace(from, to)
}
