//! `blocksd server` and `blocksd client`: equivalents of the textbook scripts, line for line, in both roles, against Python.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Command;

use blocksd_tests::process::{DEADLINE, Process, blocksd, connect, finish, python, run};

use super::send::closed_port;

const SEED: [&str; 3] = [
    "Beautiful is better than ugly.",
    "Explicit is better than implicit.",
    "Simple is better than complex.",
];

/// Textbook script, framing of the equivalent command, and the output of server and client without addresses.
const SCRIPTS: [(&str, &str, &str, &str); 3] = [
    (
        "blocks_peer.py",
        "blocks",
        "Listening at ADDRESS\n\
         Accepted connection from ADDRESS\n\
         Message says: 'Beautiful is better than ugly.'\n\
         Message says: 'Explicit is better than implicit.'\n\
         Message says: 'Simple is better than complex.'\n",
        "",
    ),
    (
        "streamer_peer.py",
        "stream",
        "Listening at ADDRESS\n\
         Accepted connection from ADDRESS\n\
         Done receiving the message; it says:\n\
         Beautiful is better than ugly.\n\
         Explicit is better than implicit.\n\
         Simple is better than complex.\n\
         \n",
        "",
    ),
    (
        "sixteen_peer.py",
        "fixed:16",
        "Listening at ADDRESS\n\
         Accepted connection from ADDRESS\n\
         Message says: 'Hi there, server'\n",
        "Message says: 'Farewell, client'\n",
    ),
];

fn server(framing: &str) -> Process {
    let args = ["server", "--port", "0", "--framing", framing];
    Process::start(blocksd(&args))
}

fn client(port: u16, framing: &str) -> Command {
    let port = port.to_string();
    blocksd(&["client", "--port", &port, "--framing", framing])
}

fn header(len: u32) -> Vec<u8> {
    len.to_be_bytes().to_vec()
}

/// Removes addresses such as `('127.0.0.1', 40123)`, so that two runs can be compared.
fn without_addresses(text: &str) -> String {
    text.split_inclusive('\n')
        .map(|line| match line.split_once("('127.0.0.1', ") {
            Some((begin, port)) if port.trim_end_matches(")\n").parse::<u16>().is_ok() => {
                format!("{begin}ADDRESS\n")
            }
            _ => line.to_owned(),
        })
        .collect()
}

/// Runs both until they end; returns their output.
#[track_caller]
fn exchange(server: Process, client: impl Fn(u16) -> Command) -> (String, String) {
    let client = finish(client(server.port()), b"");
    let server = server.end();
    assert_eq!((client.code, client.stderr.as_str()), (Some(0), ""));
    assert_eq!((server.code, server.stderr.as_str()), (Some(0), ""));
    (
        without_addresses(&server.stdout_text()),
        client.stdout_text(),
    )
}

#[test]
fn commands_and_python_scripts_print_the_same_in_every_pairing() {
    for (peer, framing, server_says, client_says) in SCRIPTS {
        let says = (server_says.to_owned(), client_says.to_owned());
        let python_server = || Process::start(python(peer, &["server"]));
        let python_client = |port: u16| python(peer, &["client", &port.to_string()]);
        let our_client = |port| client(port, framing);
        assert_eq!(exchange(python_server(), python_client), says, "{framing}");
        assert_eq!(exchange(server(framing), python_client), says, "{framing}");
        assert_eq!(exchange(python_server(), our_client), says, "{framing}");
        assert_eq!(exchange(server(framing), our_client), says, "{framing}");
    }
}

#[test]
fn blocks_is_the_default_framing_of_both_commands() {
    let server = Process::start(blocksd(&["server", "--port", "0"]));
    let client = |port: u16| blocksd(&["client", "--port", &port.to_string()]);
    assert_eq!(exchange(server, client).0, SCRIPTS[0].2);
}

#[test]
fn messages_are_shown_as_python_2_shows_a_byte_string() {
    let all: Vec<u8> = (0..=255).collect();
    let samples: [&[u8]; 7] = [
        &all,
        b"it's",
        b"say \"hi\"",
        b"it's \"both\"",
        b"tab\t line\n return\r back\\slash",
        "žluťoučký kůň 🐎".as_bytes(),
        b"\x1b[31m\x7f\0",
    ];
    let hex: Vec<String> = samples.iter().map(|sample| hex(sample)).collect();
    let python_client = |port: u16| {
        let port = port.to_string();
        let mut args = vec!["client", &port];
        args.extend(hex.iter().map(String::as_str));
        python("blocks_peer.py", &args)
    };
    let oracle = Process::start(python("blocks_peer.py", &["server"]));
    let (oracle, _) = exchange(oracle, python_client);
    assert!(oracle.contains("Message says: \"it's\"\n"), "{oracle}");
    assert!(
        oracle.contains("Message says: 'it\\'s \"both\"'\n"),
        "{oracle}"
    );
    assert_eq!(exchange(server("blocks"), python_client).0, oracle);
}

#[test]
fn a_stream_is_printed_raw_when_it_has_ended() {
    let server = server("stream");
    let mut device = connect(([127, 0, 0, 1], server.port()).into());
    server.line("Accepted connection from ('127.0.0.1', ");
    device.write_all(b"no line end, \0 and \xff").unwrap();
    device.shutdown(Shutdown::Write).unwrap();
    let ended = server.end();
    assert_eq!(ended.code, Some(0));
    let wanted = b"Done receiving the message; it says:\nno line end, \0 and \xff\n";
    assert!(ended.stdout.ends_with(wanted), "{}", ended.stdout_text());
}

#[test]
fn sending_one_byte_at_a_time_makes_no_difference() {
    for (_, framing, says, _) in SCRIPTS {
        let wire: Vec<u8> = match framing {
            "blocks" => SEED
                .iter()
                .flat_map(|message| [&header(message.len() as u32), message.as_bytes()].concat())
                .chain(header(0))
                .collect(),
            "stream" => SEED.map(|message| format!("{message}\n")).concat().into(),
            _ => b"Hi there, server".into(),
        };
        let server = server(framing);
        let mut device = connect(([127, 0, 0, 1], server.port()).into());
        for byte in wire {
            device.write_all(&[byte]).unwrap();
        }
        device.shutdown(Shutdown::Write).unwrap();
        assert_eq!(without_addresses(&server.end().stdout_text()), says);
    }
}

#[test]
fn each_line_is_printed_while_the_connection_is_open() {
    let server = server("blocks");
    let mut device = connect(([127, 0, 0, 1], server.port()).into());
    let accepted = server.line("Accepted connection from ");
    let port = device.local_addr().unwrap().port();
    assert_eq!(
        accepted,
        format!("Accepted connection from ('127.0.0.1', {port})")
    );
    device.write_all(b"\0\0\0\x05hello").unwrap();
    server.line("Message says: 'hello'");
    // The end mark ends it, although the client has not closed.
    device.write_all(&header(0)).unwrap();
    assert_eq!(server.end().code, Some(0));
}

#[test]
fn the_server_of_a_one_way_framing_half_closes_at_once() {
    for framing in ["blocks", "stream"] {
        let server = server(framing);
        let mut device = connect(([127, 0, 0, 1], server.port()).into());
        assert_eq!(device.read(&mut [0]).unwrap(), 0, "{framing}");
        // The other direction stays open.
        let wire = b"\0\0\0\x02ok\0\0\0\0";
        device.write_all(wire).unwrap();
        device.shutdown(Shutdown::Write).unwrap();
        let ended = server.end();
        assert!(
            ended.code == Some(0) && ended.stdout_text().contains("ok"),
            "{ended:?}"
        );
    }
}

#[test]
fn the_server_accepts_only_one_connection() {
    let server = server("blocks");
    let addr = ([127, 0, 0, 1], server.port()).into();
    let device = connect(addr);
    server.line("Accepted connection from ");
    drop(device);
    let ended = server.end();
    assert_eq!(ended.code, Some(1));
    let error = TcpStream::connect(addr).expect_err("the port is closed");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
}

#[test]
fn the_server_reports_a_truncated_message_as_the_textbook_does_and_fails() {
    let short = b"\0\0\0\x1eBeaut".as_slice();
    let endless = b"\0\0\0\x02ok".as_slice();
    let huge = b"\xff\xff\xff\xffabc".as_slice();
    for (framing, wire, error) in [
        (
            "blocks",
            short,
            "socket closed 5 bytes into a 30-byte message",
        ),
        (
            "blocks",
            &short[..4],
            "socket closed 0 bytes into a 30-byte message",
        ),
        (
            "blocks",
            &short[..2],
            "socket closed 2 bytes into a 4-byte message",
        ),
        (
            "blocks",
            endless,
            "socket closed 0 bytes into a 4-byte message",
        ),
        ("blocks", b"", "socket closed 0 bytes into a 4-byte message"),
        (
            "blocks",
            huge,
            "socket closed 3 bytes into a 4294967295-byte message",
        ),
        (
            "fixed:16",
            b"Hi th",
            "socket closed 5 bytes into a 16-byte message",
        ),
        (
            "fixed:16",
            b"",
            "socket closed 0 bytes into a 16-byte message",
        ),
    ] {
        let server = server(framing);
        let mut device = connect(([127, 0, 0, 1], server.port()).into());
        device.write_all(wire).unwrap();
        device.shutdown(Shutdown::Write).unwrap();
        let ended = server.end();
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stderr.contains(error), "no {error:?} in {ended:?}");
        assert_eq!(
            ended.stdout_text().contains("'ok'"),
            wire == endless,
            "{ended:?}"
        );
    }
}

#[test]
fn the_client_reports_a_truncated_reply_as_the_textbook_does_and_fails() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = Process::start(client(listener.local_addr().unwrap().port(), "fixed:16"));
    let (mut device, _) = listener.accept().unwrap();
    device.set_read_timeout(Some(DEADLINE)).unwrap();
    device.read_exact(&mut [0; 16]).unwrap();
    device.write_all(b"Farew").unwrap();
    device.shutdown(Shutdown::Write).unwrap();
    let ended = client.end();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let error = "socket closed 5 bytes into a 16-byte message";
    assert!(ended.stderr.contains(error), "{ended:?}");
}

#[test]
fn the_server_prints_a_message_of_any_size() {
    let server = server("blocks");
    let mut device = connect(([127, 0, 0, 1], server.port()).into());
    let message = vec![b'x'; 3 << 20];
    device.write_all(&header(3 << 20)).unwrap();
    device.write_all(&message).unwrap();
    device.write_all(&header(0)).unwrap();
    let ended = server.end();
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    let shown = ended.stdout_text().lines().map(str::len).max();
    assert_eq!(shown, Some("Message says: ''".len() + (3 << 20)));
}

#[test]
fn host_and_messages_can_be_chosen() {
    let args = ["server", "127.0.0.2", "--port", "0"];
    let server = Process::start(blocksd(&args));
    server.line("Listening at ('127.0.0.2', ");
    let port = server.port().to_string();
    let args = ["client", "127.0.0.2", "one", "it's two", "--port", &port];
    let ended = run(&args, b"");
    assert_eq!((ended.code, ended.stdout_text().as_str()), (Some(0), ""));
    let shown = server.end().stdout_text();
    let wanted = "Message says: 'one'\nMessage says: \"it's two\"\n";
    assert!(shown.ends_with(wanted), "{shown}");
}

#[test]
fn other_framings_are_refused() {
    for role in ["server", "client"] {
        for framing in ["lines", "netstring", "fixed:8", "morse"] {
            run(&[role, "--framing", framing], b"").assert_refused(2, framing);
        }
    }
}

#[test]
fn an_address_in_use_and_a_refused_connection_are_one_clear_line() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    run(&["server", "--port", &port], b"").assert_refused(75, &port);
    let (_closed, addr) = closed_port();
    let port = addr.port().to_string();
    run(&["client", "--port", &port], b"").assert_refused(75, &port);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
