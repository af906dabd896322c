//! The daemon's sending side: open until the peer is done or the daemon closes, for peers that end a connection at EOF.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;

use blocksd_tests::framings::FRAMINGS;
use blocksd_tests::process::{DEADLINE, Process, Server, blocksd, connect, python};
use framing_core_testing::drive::wire_of;
use framing_core_testing::samples::Give;
use serde_json::Value;

use super::serve::SERIES;

/// A message that every framing can carry.
const MESSAGE: &[u8; 16] = b"16 bytes of text";
/// Number of messages on one connection.
const MESSAGES: usize = 5;

/// A peer that reads while it sends, over TCP or a unix socket.
enum Peer {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Peer {
    /// Connects to a listener by its name in the log.
    #[track_caller]
    fn connect(name: &str) -> Self {
        match name.strip_prefix("unix:") {
            Some(path) => {
                let stream = UnixStream::connect(path).expect("it listens");
                stream.set_read_timeout(Some(DEADLINE)).expect("not zero");
                Self::Unix(stream)
            }
            None => Self::Tcp(connect(name.parse().expect("an address"))),
        }
    }

    #[track_caller]
    fn send(&mut self, bytes: &[u8]) {
        match self {
            Self::Tcp(stream) => stream.write_all(bytes),
            Self::Unix(stream) => stream.write_all(bytes),
        }
        .expect("the daemon reads");
    }

    fn read(&mut self) -> std::io::Result<usize> {
        let mut byte = [0];
        match self {
            Self::Tcp(stream) => stream.read(&mut byte),
            Self::Unix(stream) => stream.read(&mut byte),
        }
    }

    /// Asserts that nothing can be read: neither a byte nor the end.
    #[track_caller]
    fn assert_open(&mut self, what: &str) {
        let nonblocking = |peer: &Self, on| match peer {
            Self::Tcp(stream) => stream.set_nonblocking(on),
            Self::Unix(stream) => stream.set_nonblocking(on),
        };
        nonblocking(self, true).expect("a live socket");
        let read = self.read().map_err(|error| error.kind());
        assert_eq!(read, Err(ErrorKind::WouldBlock), "{what}");
        nonblocking(self, false).expect("a live socket");
    }

    /// Waits for the end: an EOF, not a reset.
    #[track_caller]
    fn assert_ends(&mut self, what: &str) {
        let read = self.read().map_err(|error| error.kind());
        assert_eq!(read, Ok(0), "{what}");
    }

    fn close_write(&self) {
        match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Self::Unix(stream) => stream.shutdown(Shutdown::Write),
        }
        .expect("a live socket");
    }
}

/// Waits until this number of messages of a connection were received, whole or in pieces.
#[track_caller]
fn wait_for_messages(server: &mut Server, conn: usize, count: usize) {
    let is_message = |event: &&Value| {
        event["conn"] == conn && (event["event"] == "block" || event["event"] == "piece")
    };
    server.wait(|events| count <= events.iter().filter(is_message).count());
}

/// Sends messages in this framing on one connection of a peer that closes at EOF.
#[track_caller]
fn keeps_one_connection(server: &mut Server, conn: usize, name: &str, framing: &str) {
    let mut peer = Peer::connect(name);
    let wire = wire_of(
        framing.parse::<framing_core::AnyFraming>().expect(framing),
        &[Give::Message(MESSAGE.to_vec())],
    );
    for sent in 1..=MESSAGES {
        peer.send(&wire);
        wait_for_messages(server, conn, sent);
        peer.assert_open(&format!("{name}, {framing}: after message {sent}"));
    }
    peer.close_write();
    peer.assert_ends(framing);
}

#[test]
fn a_peer_that_ends_at_eof_keeps_one_connection_in_every_framing() {
    let folder = tempfile::tempdir().unwrap();
    for kind in ["tcp", "unix"] {
        let listeners = FRAMINGS.iter().enumerate().flat_map(|(number, framing)| {
            let path = folder.path().join(number.to_string());
            let address = match kind {
                "unix" => format!("unix:{}", path.display()),
                _ => "127.0.0.1:0".to_owned(),
            };
            [
                "--listen".to_owned(),
                format!("{address},framing={framing}"),
            ]
        });
        let listeners: Vec<_> = listeners.collect();
        let args: Vec<_> = listeners.iter().map(String::as_str).collect();
        let mut server = Server::start(&args);
        for (conn, framing) in (1..).zip(FRAMINGS.iter()) {
            let name = server.name_of(framing).to_owned();
            keeps_one_connection(&mut server, conn, &name, framing);
        }
        let (ended, events) = server.stop();
        let opened = events.iter().filter(|event| event["event"] == "open");
        assert_eq!(opened.count(), FRAMINGS.len(), "{kind}");
        assert_eq!(ended.totals()["connection"], FRAMINGS.len() as u64);
    }
}

#[test]
fn connections_of_passed_sockets_stay_open_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("passed.sock");
    let sockets = format!("a=tcp,b=unix:{}", path.display());
    let args = ["--listen", "systemd", "--output", "json"];
    let inner = blocksd(&["serve"]);
    let program = inner.get_program().to_str().expect("a path in UTF-8");
    let mut command = python("launcher.py", &[&sockets, program, "serve"]);
    command.args(args);
    let listeners = [&args[..2], &["--listen", "both"]].concat();
    let mut server = Server::of(Process::start(command), &listeners);
    let tcp = server.addr().to_string();
    keeps_one_connection(&mut server, 1, &tcp, "blocks");
    let unix = format!("unix:{}", path.display());
    keeps_one_connection(&mut server, 2, &unix, "blocks");
}

#[test]
fn a_peer_reads_the_end_only_when_the_daemon_closes() {
    let too_long = b"\0\0\0\x65 not sent";
    for (args, last, reason) in [
        (&["--reply", "receipt"][..], &b""[..], "shutdown"),
        (&["--after-end", "continue"], &SERIES[..34], "shutdown"),
        (&["--once"], b"\0\0\0\0", "end"),
        (&[], b"\0\0\0\0", "end"),
        (&["--idle-timeout", "3"], b"", "idle"),
        (
            &["--max-block", "100", "--oversize", "close"],
            too_long,
            "limit",
        ),
        (&["--header-timeout", "1"], b"\0\0", "header_timeout"),
    ] {
        let mut server = Server::start(args);
        let mut peer = Peer::Tcp(server.connect());
        peer.send(&SERIES[..34]);
        wait_for_messages(&mut server, 1, 1);
        peer.assert_open(reason);
        peer.send(last);
        if reason == "shutdown" {
            server.process.signal("TERM");
        }
        peer.assert_ends(&format!("{args:?}"));
        let story = server.story(1);
        let close = story.last().expect("it is closed");
        assert!(close.starts_with(&format!("close {reason} ")), "{close}");
    }
}

#[test]
fn a_close_with_bytes_unread_is_a_reset() {
    let server = Server::start(&[]);
    let mut device = server.connect();
    // More than the daemon reads at once after the end mark that closes the connection.
    let rest = [SERIES, &SERIES[..34].repeat(100_000)].concat();
    let sent = device.write_all(&rest);
    let read = sent.and_then(|()| device.read(&mut [0]));
    let read = read.map_err(|error| error.kind());
    let is_reset = matches!(
        read,
        Err(ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
    );
    assert!(is_reset, "{read:?}");
}
