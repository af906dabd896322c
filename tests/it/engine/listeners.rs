//! All kinds of listeners, and the options of their sockets.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use blocksd_tests::process::{DEADLINE, Process, Server, blocksd, python, run};
use blocksd_tests::signals::spawn;
use blocksd_tests::skip::skipped;

/// A series of one block, `hello`.
const HELLO: &[u8] = b"\0\0\0\x05hello\0\0\0\0";
const HELLO_STORY: [&str; 4] = [
    "open",
    "block 0 len=5 \"hello\"",
    "end blocks=1",
    "close end blocks=1 bytes=5",
];
/// The receipt for it, in the same framing.
const RECEIPT: &[u8] = b"\0\0\0\x16{\"blocks\":1,\"bytes\":5}\0\0\0\0";

#[test]
fn a_unix_socket_replies_and_is_replaced_if_stale_and_removed_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("d.sock");
    // A stale socket file, on which no process listens.
    drop(UnixListener::bind(&path).unwrap());
    let listen = format!("unix:{}", path.display());
    let mut server = Server::start(&["--listen", &listen, "--reply", "receipt"]);
    assert_eq!(server.name_of("blocks"), listen);
    let mut device = UnixStream::connect(&path).unwrap();
    device.write_all(HELLO).unwrap();
    let mut answer = Vec::new();
    device.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, RECEIPT);
    assert_eq!(server.story(1), HELLO_STORY);
    assert_eq!(server.events()[0]["device"], listen.as_str());
    assert_eq!(server.events()[0]["peer"], listen.as_str());
    // Now a process listens.
    run(&["serve", "--listen", &listen], b"").assert_refused(75, "d.sock");
    let (ended, _) = server.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(!path.exists(), "the socket file is left");
}

#[test]
fn a_file_that_is_not_a_socket_is_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes");
    std::fs::write(&path, "keep me").unwrap();
    let listen = format!("unix:{}", path.display());
    run(&["serve", "--listen", &listen], b"").assert_refused(2, "not a socket");
    assert_eq!(std::fs::read(&path).unwrap(), b"keep me");
    run(&["serve", "--listen", "unix:"], b"").assert_refused(2, "a path is missing");
    run(&["serve", "--listen", "serial:/dev/x?speed=3"], b"").assert_refused(2, "speed=3");
}

#[test]
fn connections_of_one_local_listener_can_be_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let listen = format!("unix:{}", folder.path().join("d.sock").display());
    let mut server = Server::start(&["--listen", &listen, "--device-by", "peer"]);
    let path = listen.strip_prefix("unix:").unwrap();
    let _devices = [
        UnixStream::connect(path).unwrap(),
        UnixStream::connect(path).unwrap(),
    ];
    let events = server.wait_for("open", 2);
    let mut devices: Vec<_> = events
        .iter()
        .map(|event| event["device"].as_str().unwrap())
        .collect();
    devices.sort_unstable();
    assert_eq!(devices, [format!("{listen}#1"), format!("{listen}#2")]);
}

#[test]
fn standard_input_is_one_connection_and_its_end_ends_the_daemon() {
    let args = ["serve", "--listen", "-,framing=lines", "--output", "json"];
    let mut process = Process::start(blocksd(&args));
    process.write(b"one\ntwo\n");
    let ended = process.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("listening on - framing=lines"),
        "{}",
        ended.stderr
    );
    assert_eq!(ended.totals()["block"], 2);
    assert!(
        ended.stdout_text().contains(r#""device":"-""#),
        "{}",
        ended.stdout_text()
    );
    let asked = run(&["serve", "--listen", "-", "--reply", "echo"], b"");
    asked.assert_refused(2, "--listen -");
}

#[test]
fn a_file_on_standard_input_loses_nothing() {
    let mut file = tempfile::tempfile().unwrap();
    let line = [&[b'x'; 999][..], b"\n"].concat();
    file.write_all(&line.repeat(5000)).unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    let mut command = blocksd(&["serve", "--listen", "-,framing=lines", "--output", "none"]);
    command
        .stdin(file)
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let output = spawn(&mut command).wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        text.contains("5000 blocks, 4995000 bytes, 0 faults"),
        "{text}"
    );
}

#[test]
fn a_serial_line_continues_with_the_next_series_unless_configured_otherwise() {
    let series = [HELLO, HELLO].concat();
    // With `after-end=close` each series is a connection, and nothing is dropped.
    for (listen, connections) in [("-", 1), ("-,after-end=close", 2)] {
        let args = [
            "serve",
            "--listen",
            listen,
            "--output",
            "none",
            "--after-end",
            "close",
        ];
        let ended = run(&args, &series);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert_eq!(
            (ended.totals()["block"], ended.totals()["connection"]),
            (2, connections),
            "{ended:?}"
        );
    }
}

#[test]
fn ipv4_and_ipv6_reach_one_dual_stack_listener() {
    if TcpStream::connect("[::1]:1")
        .is_err_and(|error| error.kind() == std::io::ErrorKind::AddrNotAvailable)
    {
        skipped(
            "ipv4_and_ipv6_reach_one_dual_stack_listener",
            "this machine has no IPv6",
        );
        return;
    }
    let listen = ["--listen", "[::]:0", "--listen", "[::1]:0,framing=lines"];
    let mut server = Server::start(&listen);
    let port = server.addr_of("blocks").port();
    for (conn, host) in [(1, "127.0.0.1"), (2, "::1")] {
        let addr = std::net::SocketAddr::new(host.parse().unwrap(), port);
        blocksd_tests::process::connect(addr)
            .write_all(HELLO)
            .unwrap();
        assert_eq!(server.story(conn), HELLO_STORY);
        let events = server.events();
        let opened = events.iter().find(|event| event["conn"] == conn).unwrap();
        assert_eq!(opened["device"], host);
    }
    let mut device = blocksd_tests::process::connect(server.addr_of("lines"));
    device.write_all(b"hello\n").unwrap();
    drop(device);
    assert_eq!(
        server.story(3).last().unwrap(),
        "close eof blocks=1 bytes=5"
    );
}

#[test]
fn passed_sockets_are_used_by_name_or_all_together() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("passed.sock");
    let sockets = format!("a=tcp,b=unix:{},c=tcp", path.display());
    let args = [
        "--listen",
        "systemd:c,framing=lines",
        "--listen",
        "systemd",
        "--output",
        "json",
    ];
    let inner = blocksd(&["serve"]);
    let program = inner.get_program().to_str().unwrap();
    let mut command = python("launcher.py", &[&sockets, program, "serve"]);
    command.args(args);
    // Two of the sockets belong to one listener.
    let listeners = [&args[..4], &["--listen", "again"]].concat();
    let mut server = Server::of(Process::start(command), &listeners);
    let mut device = blocksd_tests::process::connect(server.addr_of("lines"));
    device.write_all(b"hello\n").unwrap();
    drop(device);
    assert_eq!(
        server.story(1).last().unwrap(),
        "close eof blocks=1 bytes=5"
    );
    blocksd_tests::process::connect(server.addr_of("blocks"))
        .write_all(HELLO)
        .unwrap();
    assert_eq!(server.story(2), HELLO_STORY);
    UnixStream::connect(&path)
        .unwrap()
        .write_all(HELLO)
        .unwrap();
    assert_eq!(server.story(3), HELLO_STORY);
    let (ended, _) = server.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(path.exists(), "a passed socket must not be removed");

    let nothing = run(&["serve", "--listen", "systemd"], b"");
    nothing.assert_refused(2, "did not pass a socket");
}

/// A simulated serial line.
pub(crate) struct Plug {
    process: Process,
    given: usize,
}

impl Plug {
    pub(crate) fn new(link: &Path) -> Self {
        let command = python("lines.py", &[link.to_str().unwrap()]);
        let process = Process::start(command);
        Self { process, given: 0 }
    }

    pub(crate) fn order(&mut self, order: &str) {
        self.process.write_part(format!("{order}\n").as_bytes());
        self.given += 1;
        self.process.line(&format!("done {} ", self.given));
    }

    /// The data that the line received, in hexadecimal.
    pub(crate) fn read(&mut self, len: usize) -> String {
        self.order(&format!("read {len}"));
        let begin = format!("read {} ", self.given);
        self.process.line(&begin)[begin.len()..].to_owned()
    }
}

#[test]
fn a_serial_line_may_appear_late_and_disappear_and_return() {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("ttyUSB0");
    let listen = format!("serial:{}?baud=115200&parity=none", link.display());
    let mut server = Server::start(&["--listen", &listen]);
    let mut plug = Plug::new(&link);
    plug.order("plug");
    server.wait_for("open", 1);
    let hello = "0000000568656c6c6f00000000";
    plug.order(&format!("send {hello}"));
    plug.order(&format!("send {hello}"));
    server.wait_for("end", 2);
    plug.order("unplug");
    assert_eq!(
        server.story(1).last().unwrap(),
        "close eof blocks=2 bytes=10"
    );
    plug.order("plug");
    server.wait_for("open", 2);
    plug.order(&format!("send {hello}"));
    server.wait_for("end", 3);
    let device = server.events()[0]["device"].as_str().unwrap().to_owned();
    assert_eq!(device, format!("serial:{}", link.display()));
    let (ended, _) = server.stop();
    let count = |text| ended.stderr.matches(text).count();
    // Missing at the start, and once later: each is logged once.
    assert_eq!(
        (count("is not available"), count("is open")),
        (2, 2),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_device_on_a_serial_line_gets_a_reply_and_may_start_again() {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("ttyUSB0");
    let mut plug = Plug::new(&link);
    plug.order("plug");
    let listen = format!("serial:{}", link.display());
    let mut server = Server::start(&["--listen", &listen, "--reply", "receipt"]);
    for conn in [1, 2] {
        server.wait_for("open", conn as usize);
        plug.order("send 0000000568656c6c6f00000000");
        let hex: String = RECEIPT.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(plug.read(RECEIPT.len()), hex);
        assert_eq!(server.story(conn), HELLO_STORY);
    }
}

#[test]
fn the_daemon_waits_when_descriptors_run_out() {
    let mut command = limited(40);
    command.args([
        "--max-connections",
        "1000",
        "--listen",
        "127.0.0.1:0",
        "--output",
        "json",
    ]);
    let mut server = Server::of(Process::start(command), &["--listen"]);
    let mut devices: Vec<_> = (0..60).map(|_| server.connect()).collect();
    server.process.wait_for_error("cannot accept");
    // Open connections continue, and waiting ones are accepted when descriptors are free.
    for device in &mut devices {
        device.write_all(HELLO).unwrap();
    }
    server.wait_for("close", 60);
    drop(devices);
    let (ended, _) = server.stop();
    assert_eq!(ended.totals()["block"], 60, "{}", ended.stderr);
    assert!(ended.stderr.contains("limit=40"), "{}", ended.stderr);
    assert!(
        ended
            .stderr
            .contains("too few descriptors for --max-connections 1000")
    );
}

#[test]
fn the_soft_limit_of_descriptors_is_raised_to_the_hard_limit() {
    let mut command = Command::new("sh");
    let inner = blocksd(&[]);
    let script = "ulimit -Sn 50 && ulimit -Hn 300 && exec \"$0\" serve \"$@\"";
    command.args(["-c", script]).arg(inner.get_program());
    command.args(["--listen", "127.0.0.1:0", "--max-connections", "100"]);
    let server = Server::of(Process::start(command), &["--listen"]);
    server.process.wait_for_error("limit=300");
    let (ended, _) = server.stop();
    assert!(!ended.stderr.contains("too few"), "{}", ended.stderr);
}

#[test]
fn keepalive_is_on_unless_configured_otherwise() {
    if !Path::new("/proc/net/tcp").exists() {
        skipped(
            "keepalive_is_on_unless_configured_otherwise",
            "there is no /proc/net/tcp",
        );
        return;
    }
    for (args, asked) in [(&[][..], true), (&["--keepalive", "off"], false)] {
        let mut server = Server::start(args);
        let device = server.connect();
        server.wait_for("open", 1);
        // A timer of kind 2 is the keepalive timer.
        let (ours, theirs) = (server.addr().port(), device.local_addr().unwrap().port());
        let until = Instant::now() + DEADLINE;
        let timer = loop {
            let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
            let ends = [format!(":{ours:04X}"), format!(":{theirs:04X}")];
            let line = table
                .lines()
                .map(|line| line.split_whitespace().collect::<Vec<_>>());
            let mut lines = line.filter(|fields| fields.len() > 6);
            let found = lines.find(|at| at[1].ends_with(&ends[0]) && at[2].ends_with(&ends[1]));
            let timer = found.map(|fields| fields[5][..2].to_owned());
            // Other timers are for data or a FIN in flight.
            match timer.as_deref() {
                Some("00" | "02") => break timer.unwrap(),
                _ if until < Instant::now() => panic!("{table}"),
                _ => sleep(Duration::from_millis(10)),
            }
        };
        assert_eq!(timer == "02", asked, "{args:?}");
    }
}

#[test]
fn a_receive_buffer_has_the_configured_length() {
    let mut server = Server::start(&["--receive-buffer", "65536"]);
    let mut device = server.connect();
    device.write_all(HELLO).unwrap();
    assert_eq!(server.story(1), HELLO_STORY);
    run(&["serve", "--receive-buffer", "x"], b"").assert_refused(2, "invalid number of bytes: `x`");
}

/// `blocksd serve` with this limit of descriptors.
fn limited(descriptors: usize) -> Command {
    let mut command = Command::new("sh");
    let inner = blocksd(&[]);
    let script = format!("ulimit -n {descriptors} && exec \"$0\" serve \"$@\"");
    command.arg("-c").arg(script).arg(inner.get_program());
    command
}
