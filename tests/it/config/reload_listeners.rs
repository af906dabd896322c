//! SIGHUP and listeners: removed and added again at once, serial lines with other settings, sockets that were passed.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};

use blocksd_tests::process::{connect, python};

use super::reload::{Daemon, assert_lines};
use crate::engine::listeners::Plug;

const APPLIED: &str = "was read again: 1 applied, 0 need a restart, 0 overridden";

#[track_caller]
fn is_refused(said: &str) -> bool {
    let last = said.lines().rfind(|line| line.contains("SIGHUP: "));
    last.unwrap_or_default().contains("configuration refused")
}

#[test]
fn an_address_that_was_removed_can_be_added_again_at_once() {
    let listen = |others: &str| format!("framing = 'lines'\nlisten = ['127.0.0.1:0'{others}]");
    let mut daemon = Daemon::start(&listen(""));
    // The system never chooses such a port by itself.
    let first = 15_000 + std::process::id() as u16 % 10_000;
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let port = (first..32_768).find(is_free).unwrap();
    let socket = format!("unix:{}", daemon.folder.path().join("s").display());
    let (one, all) = (format!("127.0.0.1:{port}"), format!("0.0.0.0:{port}"));
    for _ in 0..5 {
        for address in [&one, &all] {
            let said = daemon.reload(&listen(&format!(", '{address}', '{socket}'")));
            assert!(!is_refused(&said), "{said}");
            let said = daemon.reload(&listen(""));
            assert!(TcpStream::connect(&*one).is_err(), "{said}");
            assert!(!daemon.folder.path().join("s").exists(), "{said}");
        }
    }
    assert_eq!(daemon.server.stop().0.code, Some(0));
}

#[test]
fn a_socket_of_the_daemon_in_another_spelling_is_refused_without_a_connection() {
    let folder = tempfile::tempdir().unwrap();
    let listen = |path: &str| {
        let folder = folder.path().display();
        format!("framing = 'lines'\nlisten = ['127.0.0.1:0', 'unix:{folder}/{path}']")
    };
    let mut daemon = Daemon::listening(2, &listen("s"), |_, _| {});
    let said = daemon.reload(&listen("./s"));
    assert!(is_refused(&said), "{said}");
    daemon.connect().write_all(b"one\n").unwrap();
    daemon.assert_last(1, "one");
    let (ended, events) = daemon.server.stop();
    assert_eq!(ended.code, Some(0));
    let opened = events.iter().filter(|event| event["event"] == "open");
    assert_eq!(opened.count(), 1, "{events:?}");
}

#[test]
fn a_serial_line_is_closed_before_it_is_opened_with_another_setting() {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("ttyUSB0");
    let line = |settings: &str| format!("serial:{}{settings}", link.display());
    let listen = |others: &str| format!("framing = 'lines'\nlisten = ['127.0.0.1:0'{others}]");
    let mut plug = Plug::new(&link);
    plug.order("plug");
    let slow = line("?baud=9600");
    let mut daemon = Daemon::listening(2, &listen(&format!(", '{slow}'")), |_, _| {});
    plug.order("send 6f6e650a");
    daemon.assert_last(1, "one");
    let fast = line("?baud=115200");
    let said = daemon.reload(&listen(&format!(", '{fast}'")));
    assert_lines(
        &said,
        &[
            &format!("listener {fast}: added"),
            &format!("listener {slow}: removed; the line is closed"),
            "was read again: 2 applied, 0 need a restart, 0 overridden",
        ],
    );
    assert_eq!(
        daemon.server.story(1).last().unwrap(),
        "close eof blocks=1 bytes=3"
    );
    daemon.server.wait_for("open", 2);
    plug.order("send 74776f0a");
    daemon.assert_last(2, "two");
    // Removed, and added again.
    let said = daemon.reload(&listen(""));
    assert_lines(
        &said,
        &[
            &format!("listener {fast}: removed; the line is closed"),
            APPLIED,
        ],
    );
    daemon.reload(&listen(&format!(", '{slow}'")));
    daemon.server.wait_for("open", 3);
    plug.order("send 74687265650a");
    daemon.assert_last(3, "three");
    let (ended, _) = daemon.server.stop();
    let count = |text| ended.stderr.matches(text).count();
    assert_eq!(
        (count("is not available"), count("is open")),
        (0, 3),
        "{}",
        ended.stderr
    );
}

/// The addresses that the daemon listens on, in the order of the log.
fn names(daemon: &Daemon) -> Vec<SocketAddr> {
    let said = daemon.server.process.error_text();
    let names = said
        .lines()
        .filter_map(|line| line.split_once("listening on "));
    let names = names.filter_map(|(_, name)| name.split(' ').next()?.parse().ok());
    names.collect()
}

#[test]
fn sockets_that_were_passed_can_be_removed_and_added_again_and_survive_a_refusal() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = format!(", '{}'", taken.local_addr().unwrap());
    let listen = |others: &str| format!("framing = 'lines'\nlisten = ['127.0.0.1:0'{others}]");
    let mut daemon = Daemon::with(&listen(""), |command, _| {
        let inner = std::mem::replace(command, std::process::Command::new(""));
        let program = inner.get_program().to_str().unwrap().to_owned();
        let mut launched = python("launcher.py", &["a=tcp,b=tcp", &program]);
        launched.args(inner.get_args());
        *command = launched;
    });
    let send = |addr: SocketAddr, daemon: &mut Daemon, count: usize| {
        connect(addr).write_all(b"it\n").unwrap();
        daemon.assert_last(count, "it");
    };
    // The socket is taken, and then another listener cannot be opened.
    let said = daemon.reload(&listen(&format!(", 'systemd:a'{taken}")));
    assert!(is_refused(&said), "{said}");
    let said = daemon.reload(&listen(", 'systemd:a'"));
    assert!(!is_refused(&said), "{said}");
    let [_, a] = names(&daemon)[..] else {
        panic!("{said}");
    };
    send(a, &mut daemon, 1);
    // A peer of a socket that is not listened on waits.
    daemon.reload(&listen(""));
    let mut waiting = connect(a);
    waiting.write_all(b"it\n").unwrap();
    let said = daemon.reload(&listen(", 'systemd:a'"));
    assert!(!is_refused(&said), "{said}");
    daemon.assert_last(2, "it");
    // All, which includes the one that had a listener of its own.
    let said = daemon.reload(&listen(", 'systemd'"));
    assert!(!is_refused(&said), "{said}");
    let all = names(&daemon);
    let [.., one, other] = all[..] else {
        panic!("{said}");
    };
    assert_eq!(one, a);
    send(one, &mut daemon, 3);
    send(other, &mut daemon, 4);
    // One of them has a listener of its own again: the first of all has the other one only.
    let said = daemon.reload(&listen(", 'systemd', 'systemd:a'"));
    assert!(!is_refused(&said), "{said}");
    send(one, &mut daemon, 5);
    send(other, &mut daemon, 6);
    let said = daemon.reload(&listen(", 'systemd'"));
    assert!(!is_refused(&said), "{said}");
    send(one, &mut daemon, 7);
    send(other, &mut daemon, 8);
    drop(waiting);
    assert_eq!(daemon.server.stop().0.code, Some(0));
}
