//! `blocksd send`, and the replies of `blocksd serve --reply`.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::process::Command;

use blocksd_tests::framings::{FRAMINGS, WITH_PYTHON};
use blocksd_tests::process::{DEADLINE, Process, Server, blocksd, finish, python, run};
use socket2::{Domain, Socket, Type};

use crate::engine::serve::{SERIES, brief_block, lines, messages, serve_every_framing};

/// `blocksd send`.
pub(crate) fn send(to: SocketAddr, framing: &str, more: &[&str]) -> Command {
    let mut command = blocksd(&["send", "--to", &to.to_string(), "--framing", framing]);
    command.args(more);
    command
}

fn to(receiver: &Process) -> SocketAddr {
    ([127, 0, 0, 1], receiver.port()).into()
}

/// Sends to the Python peer, and asserts that it received these messages.
#[track_caller]
fn assert_received(framing: &str, more: &[&str], stdin: &[u8], messages: &[Vec<u8>]) {
    let receiver = Process::start(python("framed_peer.py", &["receive", framing]));
    let sent = finish(send(to(&receiver), framing, more), stdin);
    assert_eq!(
        (sent.code, sent.stderr.as_str(), sent.stdout_text().as_str()),
        (Some(0), "", ""),
        "{framing}"
    );
    let received = receiver.end();
    let messages = match framing {
        "stream" => &[messages.concat()],
        _ => messages,
    };
    let received_lines: String = received
        .stdout_text()
        .lines()
        .skip(1)
        .map(|line| format!("{line}\n"))
        .collect();
    let lines = String::from_utf8(lines(messages)).unwrap();
    let wanted: String = lines
        .lines()
        .map(|line| format!("message {line}\n"))
        .collect();
    assert!(
        received_lines == wanted,
        "{framing}: {received_lines:.900} is not {wanted:.900} {}",
        received.stderr
    );
    assert_eq!(received.code, Some(0), "{}", received.stderr);
}

#[test]
fn python_reads_what_is_sent_in_every_framing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("message");
    let path = file.to_str().unwrap();
    for framing in WITH_PYTHON {
        let messages = messages(framing, usize::MAX);
        // Binary data from a file.
        let binary = messages
            .iter()
            .find(|message| std::str::from_utf8(message).is_err());
        fs::write(&file, binary.unwrap()).unwrap();
        assert_received(
            framing,
            &["--file", path],
            b"",
            std::slice::from_ref(binary.unwrap()),
        );
        // Messages that are text, as arguments and as lines of standard input.
        let texts: Vec<Vec<u8>> = messages
            .into_iter()
            .filter(|message| {
                !message.is_empty() && !message.contains(&b'\n') && !message.contains(&0)
            })
            .filter(|message| std::str::from_utf8(message).is_ok())
            .collect();
        let args: Vec<&str> = texts
            .iter()
            .map(|text| std::str::from_utf8(text).unwrap())
            .collect();
        assert_received(framing, &args, b"", &texts);
        let stdin = args.join("\n") + "\n";
        let texts = if framing == "stream" {
            vec![stdin.clone().into()]
        } else {
            texts
        };
        assert_received(framing, &[], stdin.as_bytes(), &texts);
    }
}

#[test]
fn the_daemon_reads_what_is_sent_in_every_framing() {
    let mut server = serve_every_framing(&[]);
    for (conn, &framing) in (1..).zip(FRAMINGS.iter()) {
        let sent = finish(
            send(
                server.addr_of(framing),
                framing,
                &["Hi there, server", "Farewell, client"],
            ),
            b"",
        );
        assert_eq!(
            (sent.code, sent.stderr.as_str()),
            (Some(0), ""),
            "{framing}"
        );
        let story = server.story(conn);
        let close = story.last().unwrap();
        assert!(close.ends_with("bytes=32"), "{framing}: {close}");
        if framing != "stream" {
            let wanted = [
                brief_block(0, b"Hi there, server"),
                brief_block(1, b"Farewell, client"),
            ];
            assert_eq!(story[1..3], wanted, "{framing}");
        }
    }
}

#[test]
fn blocks_is_the_default_framing_of_both() {
    let mut server = Server::start(&[]);
    let addr = server.addr().to_string();
    let sent = run(&["send", "--to", &addr, "hello"], b"");
    assert_eq!(sent.code, Some(0), "{sent:?}");
    let wanted = [
        "open",
        "block 0 len=5 \"hello\"",
        "end blocks=1",
        "close end blocks=1 bytes=5",
    ];
    assert_eq!(server.story(1), wanted);
}

#[test]
fn an_empty_standard_input_is_an_empty_series() {
    assert_received("blocks", &[], b"", &[]);
}

#[test]
fn a_file_of_any_size_is_sent_in_little_memory() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("large");
    let len: u32 = 256 << 20;
    File::create(&file).unwrap().set_len(len.into()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let mut sender = Process::start(send(addr, "blocks", &["--file", file.to_str().unwrap()]));
    sender.write(b"");
    let (mut device, _) = listener.accept().unwrap();
    device.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut header = [0; 4];
    device.read_exact(&mut header).unwrap();
    assert_eq!(u32::from_be_bytes(header), len);
    let mut rest = device.take(u64::from(len) + 4);
    let mut begin = (&mut rest).take(u64::from(len) - (8 << 20));
    std::io::copy(&mut begin, &mut std::io::sink()).unwrap();
    // The rest is still to be sent.
    let most = sender.memory_kb("VmHWM");
    assert!(most < 64 << 10, "{most} kB");
    assert_eq!(
        std::io::copy(&mut rest, &mut std::io::sink()).unwrap(),
        (8 << 20) + 4
    );
    let ended = sender.end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    // Without a terminal there is no progress bar.
    assert_eq!(ended.stderr, "");
}

#[test]
fn a_long_file_has_a_progress_bar_on_a_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("large");
    File::create(&file).unwrap().set_len(128 << 20).unwrap();
    let server = Server::start(&["--framing", "stream", "--output", "none"]);
    let more = ["--file", file.to_str().unwrap()];
    let command = send(server.addr(), "stream", &more);
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<&str> = words.map(|word| word.to_str().unwrap()).collect();
    let shown = finish(python("terminal.py", &words), b"");
    assert_eq!(shown.code, Some(0), "{shown:?}");
    assert!(shown.stdout_text().contains("128.00 MiB"), "{shown:?}");
}

#[test]
fn a_reply_is_printed_line_by_line_or_raw() {
    for framing in WITH_PYTHON {
        let replies = ["Farewell, client", "It is 21 °C now"];
        let mut args = vec!["receive", framing];
        let hex = replies.map(|reply| String::from_utf8(lines(&[reply.into()])).unwrap());
        args.extend(hex.iter().map(|line| line.trim_end()));
        let receiver = Process::start(python("framed_peer.py", &args));
        let sent = finish(
            send(
                to(&receiver),
                framing,
                &["--wait-reply", "Hi there, server"],
            ),
            b"",
        );
        assert_eq!(
            (sent.code, sent.stderr.as_str()),
            (Some(0), ""),
            "{framing}"
        );
        let end = if framing == "stream" { "" } else { "\n" };
        assert_eq!(
            sent.stdout_text(),
            replies.map(|reply| format!("{reply}{end}")).concat(),
            "{framing}"
        );
        assert_eq!(receiver.end().code, Some(0), "{framing}");
    }
}

#[test]
fn the_receipt_counts_complete_messages_in_every_framing() {
    let server = serve_every_framing(&["--reply", "receipt"]);
    for framing in WITH_PYTHON {
        let port = server.addr_of(framing).port().to_string();
        let messages = messages(framing, 300);
        let bytes: usize = messages.iter().map(Vec::len).sum();
        let peer = finish(
            python("framed_peer.py", &["send", &port, framing]),
            &lines(&messages),
        );
        assert_eq!(peer.code, Some(0), "{framing}: {}", peer.stderr);
        let text = peer.stdout_text();
        let replies = text
            .lines()
            .map(|line| line.strip_prefix("message ").unwrap());
        let reply = replies.map(|line| String::from_utf8(unhex(line)).unwrap());
        let receipt: serde_json::Value = serde_json::from_str(&reply.collect::<String>()).unwrap();
        assert_eq!(receipt["bytes"], bytes, "{framing}");
        if framing != "stream" {
            assert_eq!(receipt["blocks"], messages.len(), "{framing}");
        }
        let single = !["fixed:16", "stream"].contains(&framing);
        assert!(!single || text.lines().count() == 1, "{framing}: {text}");
    }
}

#[test]
fn the_receipt_comes_as_one_message_and_the_end_mark_and_then_the_close() {
    let server = Server::start(&["--reply", "receipt"]);
    let mut device = server.connect();
    device.write_all(SERIES).unwrap();
    // The series has ended, so the client need not half-close.
    let mut reply = Vec::new();
    device.read_to_end(&mut reply).unwrap();
    let receipt = b"\0\0\0\x17{\"blocks\":3,\"bytes\":93}\0\0\0\0";
    assert_eq!(
        String::from_utf8_lossy(&reply),
        String::from_utf8_lossy(receipt)
    );
}

#[test]
fn a_receipt_for_a_truncated_series_counts_its_complete_blocks() {
    let server = Server::start(&["--reply", "receipt"]);
    let mut device = server.connect();
    device.write_all(&SERIES[..34 + 9]).unwrap();
    device.shutdown(Shutdown::Write).unwrap();
    let mut reply = String::new();
    device.read_to_string(&mut reply).unwrap();
    assert!(reply.contains("{\"blocks\":1,\"bytes\":30}"), "{reply:?}");
}

#[test]
fn echo_returns_every_complete_block() {
    let server = serve_every_framing(&["--reply", "echo"]);
    for framing in WITH_PYTHON.iter().filter(|&&framing| framing != "stream") {
        let messages = messages(framing, usize::MAX);
        let port = server.addr_of(framing).port().to_string();
        let peer = finish(
            python("framed_peer.py", &["send", &port, framing]),
            &lines(&messages),
        );
        assert_eq!(peer.code, Some(0), "{framing}: {}", peer.stderr);
        let echoed: Vec<Vec<u8>> = peer
            .stdout_text()
            .lines()
            .map(|line| unhex(line.strip_prefix("message ").unwrap()))
            .collect();
        assert!(echoed == messages, "{framing}: {:.900}", peer.stdout_text());
    }
}

#[test]
fn a_file_is_replied_as_one_message() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("answer");
    fs::write(&file, "Farewell, clientFarewell, client").unwrap();
    let server = serve_every_framing(&["--reply", file.to_str().unwrap()]);
    for &framing in FRAMINGS.iter() {
        let command = send(
            server.addr_of(framing),
            framing,
            &["--wait-reply", "Hi there, server"],
        );
        let sent = finish(command, b"");
        assert_eq!(
            (sent.code, sent.stderr.as_str()),
            (Some(0), ""),
            "{framing}"
        );
        let wanted = match framing {
            "stream" => "Farewell, clientFarewell, client",
            "fixed:16" => "Farewell, client\nFarewell, client\n",
            _ => "Farewell, clientFarewell, client\n",
        };
        assert_eq!(sent.stdout_text(), wanted, "{framing}");
    }
}

#[test]
fn a_refused_connection_is_one_clear_line() {
    let (_closed, addr) = closed_port();
    finish(send(addr, "blocks", &["hello"]), b"").assert_refused(75, &addr.to_string());
}

#[test]
fn a_peer_that_does_not_read_everything_is_an_error() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();
    let sending = Process::start(send(to, "blocks", &[&"x".repeat(5000)]));
    let (mut peer, _) = listener.accept().unwrap();
    peer.read_exact(&mut [0; 1000]).unwrap();
    drop(peer);
    let ended = sending.end();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("reset"), "{ended:?}");
}

#[test]
fn connecting_is_retried_until_the_peer_listens() {
    let (closed, addr) = closed_port();
    let before = refused_connects();
    let mut sender = Process::start(send(addr, "blocks", &["--connect-timeout", "15", "hello"]));
    while refused_connects() == before && sender.runs() {
        std::thread::yield_now();
    }
    closed.listen(1).unwrap();
    let (mut device, _) = closed.accept().unwrap();
    device.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut wire = Vec::new();
    device.read_to_end(&mut wire).unwrap();
    assert_eq!(wire, b"\0\0\0\x05hello\0\0\0\0");
    assert_eq!(sender.end().code, Some(0));
}

#[test]
fn a_message_that_cannot_be_sent_is_one_clear_line() {
    let server = serve_every_framing(&[]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("long");
    fs::write(&file, vec![b'x'; 300]).unwrap();
    let path = file.to_str().unwrap();
    for (framing, args, what) in [
        ("blocks", &[""][..], "empty"),
        ("lines", &["one\ntwo"], "byte 3"),
        ("fixed:16", &["too short"], "16"),
        ("length:u8", &["--file", path], "255"),
    ] {
        let sent = finish(send(server.addr_of(framing), framing, args), b"");
        assert!(!matches!(sent.code, Some(0) | None), "{sent:?}");
        assert_eq!(sent.stderr.lines().count(), 1, "{sent:?}");
        assert!(sent.stderr.contains(what), "{sent:?}");
    }
    // A file that no message of a framing can hold, of which nothing is sent.
    let huge = folder.path().join("huge");
    File::create(&huge).unwrap().set_len(5 << 30).unwrap();
    let more = ["--file", huge.to_str().unwrap()];
    for (framing, max) in [
        ("blocks", "4294967295"),
        ("netstring", "4294967295"),
        ("length:u16", "65535"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let sent = finish(send(listener.local_addr().unwrap(), framing, &more), b"");
        let mut received = Vec::new();
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_to_end(&mut received).unwrap();
        assert_eq!(received, [0; 0], "{framing}");
        sent.assert_refused(2, "has 5368709120 bytes");
        assert!(sent.stderr.contains(max), "{sent:?}");
    }
    finish(send(server.addr(), "blocks", &["--file", "/"]), b"").assert_refused(2, "not a regular");
    let addr = server.addr();
    let sent = finish(send(addr, "blocks", &[]), b"one\n\nthree\n");
    let words =
        "blocksd: line 2 of standard input: an empty message cannot be sent in this framing";
    assert_eq!((sent.code, sent.stderr.trim_end()), (Some(1), words));
    let command = send(addr, "blocks", &["--file", "/no/such/file"]);
    finish(command, b"").assert_refused(2, "/no/such/file");
    finish(send(addr, "morse", &["hello"]), b"").assert_refused(2, "morse");
    run(&["send", "--to", "nowhere", "hello"], b"").assert_refused(2, "nowhere");
    let sent = finish(
        send(addr, "blocks", &["--connect-timeout", "1e19", "hello"]),
        b"",
    );
    assert!(
        matches!(sent.code, Some(0 | 2)),
        "slow, but not a bug: {sent:?}"
    );
}

#[test]
fn files_whose_stated_length_is_wrong_are_sent_with_their_content() {
    // A short one and a long one that state 0 bytes.
    for path in ["/proc/version", "/proc/kallsyms"] {
        let content = fs::read(path).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let sender = Process::start(send(addr, "blocks", &["--file", path]));
        let (mut device, _) = listener.accept().unwrap();
        device.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut wire = Vec::new();
        device.read_to_end(&mut wire).unwrap();
        let len = u32::from_be_bytes(*wire.first_chunk().unwrap()) as usize;
        assert_eq!(wire.len(), 4 + len + 4, "{path}");
        assert!(!content.is_empty() && len == content.len(), "{path}: {len}");
        assert!(wire[4..4 + len] == content, "{path}");
        assert_eq!(sender.end().code, Some(0), "{path}");
    }
}

#[test]
fn the_content_of_a_pipe_is_one_message() {
    let long = vec![b'x'; 200_000];
    for (content, file) in [
        (&long[..], "/dev/stdin"),
        (b"short\n", "/dev/stdin"),
        (b"-", "-"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let mut sender = Process::start(send(addr, "blocks", &["--file", file]));
        sender.write(content);
        let (mut device, _) = listener.accept().unwrap();
        device.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut wire = Vec::new();
        device.read_to_end(&mut wire).unwrap();
        let len = u32::try_from(content.len()).unwrap().to_be_bytes();
        assert!(wire == [&len[..], content, &[0; 4]].concat());
        assert_eq!(sender.end().code, Some(0));
    }
}

/// A port that is in use, and on which no program listens.
pub(crate) fn closed_port() -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    socket.bind(&any.into()).unwrap();
    let addr = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, addr)
}

/// Number of refused connection attempts on this machine so far.
fn refused_connects() -> u64 {
    let counters = fs::read_to_string("/proc/net/snmp").unwrap();
    let mut tcp = counters
        .lines()
        .filter_map(|line| line.strip_prefix("Tcp: "));
    let names = tcp.next().unwrap().split(' ');
    let found = names
        .zip(tcp.next().unwrap().split(' '))
        .find(|(name, _)| *name == "AttemptFails");
    found.unwrap().1.parse().unwrap()
}

fn unhex(line: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&line[at..at + 2], 16).unwrap();
    (0..line.len()).step_by(2).map(byte).collect()
}
