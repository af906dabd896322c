//! Peers of `blocksd replay` that refuse, hang up, answer or stall.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;

use blocksd_tests::process::{Ended, Process, blocksd, run};
use blocksd_tests::recording::{BEGIN, File, put};

fn arguments<'a>(path: &'a Path, to: &'a str) -> [&'a str; 6] {
    [
        "replay",
        path.to_str().unwrap(),
        "--to",
        to,
        "--speed",
        "max",
    ]
}

fn replay(path: &Path, to: &str) -> Ended {
    run(&arguments(path, to), b"")
}

/// A recording of one device.
fn recording(directory: &Path, messages: u32, len: usize) -> PathBuf {
    let mut file = File::begin(None, false);
    for sequence in 0..messages {
        file.block("a", sequence, BEGIN, &vec![7; len]);
        file.end_chunk();
    }
    put(directory, 1, "mcap", &file.seal())
}

/// Accepts one connection, and gives it to `serve`.
fn peer<T: Send + 'static>(
    serve: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> (String, thread::JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    // Auto-tuned, the buffer could hold the whole file while a test waits for a processor.
    let listening = socket2::SockRef::from(&listener);
    listening.set_recv_buffer_size(1 << 16).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let thread = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        drop(listener);
        serve(stream)
    });
    (address, thread)
}

fn assert_cut_off(ended: &Ended) {
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let text = "blocksd: a: connection failed: ";
    assert!(ended.stderr.contains(text), "{ended:?}");
    // The summary follows the errors, and must not read like a success.
    let last = ended.stderr.lines().last().unwrap();
    let words = "blocksd: the peer did not accept all messages of 1 of 1 connections";
    assert!(last.starts_with(words), "{ended:?}");
    assert!(!ended.stderr.contains("replayed"), "{ended:?}");
}

#[test]
fn a_peer_that_hangs_up_is_reported_with_the_progress() {
    let directory = tempfile::tempdir().unwrap();
    let path = recording(directory.path(), 200, 100_000);
    let (address, peer) = peer(|mut stream| stream.read_exact(&mut [0; 1000]).unwrap());
    let ended = replay(&path, &address);
    peer.join().unwrap();
    assert_cut_off(&ended);
    assert!(ended.stderr.contains("connections; sent "), "{ended:?}");
}

#[test]
fn a_peer_that_closes_at_once_is_reported_even_for_one_message() {
    let directory = tempfile::tempdir().unwrap();
    let path = recording(directory.path(), 1, 10);
    let (address, peer) = peer(drop);
    let ended = replay(&path, &address);
    peer.join().unwrap();
    assert_cut_off(&ended);
}

#[test]
fn an_address_without_a_peer_is_an_error_of_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let path = recording(directory.path(), 1, 10);
    let address = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let ended = replay(&path, &address.to_string());
    assert_eq!(ended.code, Some(75), "{ended:?}");
    assert!(
        ended.stderr.starts_with("blocksd: cannot connect to"),
        "{ended:?}"
    );
    let ended = replay(Path::new("/no/such/recording"), "127.0.0.1:1");
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(
        ended.stderr.starts_with("blocksd: cannot read /no/such"),
        "{ended:?}"
    );
    let mut args = arguments(&path, "127.0.0.1:1");
    args[5] = "0";
    run(&args, b"").assert_refused(2, "--speed");
}

#[test]
fn a_peer_that_is_gone_at_a_later_connection_is_reported() {
    let directory = tempfile::tempdir().unwrap();
    let mut file = File::begin(None, false);
    file.block("a", 0, BEGIN, b"one");
    file.block("b", 0, BEGIN + 1_000_000_000, b"two");
    let path = put(directory.path(), 1, "mcap", &file.seal());
    // It listens no more when the second message is due.
    let (address, peer) = peer(|mut stream| {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        bytes
    });
    let mut args = arguments(&path, &address).to_vec();
    args[5] = "1";
    let ended = run(&args, b"");
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let text = format!("blocksd: cannot connect to {address} again: ");
    let last = ended.stderr.lines().last().unwrap();
    assert!(last.starts_with(&text), "{ended:?}");
    assert!(last.contains("; sent 1 message, 3 bytes, "), "{ended:?}");
    assert_eq!(peer.join().unwrap(), b"\0\0\0\x03one");
}

#[test]
fn a_peer_that_answers_everything_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = recording(directory.path(), 100, 100_000);
    // It would wait forever if its answers were not read.
    let (address, peer) = peer(|mut stream| {
        let mut echo = stream.try_clone().unwrap();
        std::io::copy(&mut stream, &mut echo).unwrap()
    });
    let ended = replay(&path, &address);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(peer.join().unwrap(), 100 * 100_004);
}

#[test]
fn an_interrupt_ends_a_replay_to_a_peer_that_stalls() {
    let directory = tempfile::tempdir().unwrap();
    let path = recording(directory.path(), 200, 100_000);
    let (sender, receiver) = std::sync::mpsc::channel();
    let (address, peer) = peer(move |mut stream| {
        stream.read_exact(&mut [0; 1000]).unwrap();
        sender.send(()).unwrap();
        // Reads no more until the process has closed the connection.
        while stream.write_all(b"x").is_ok() {
            thread::sleep(std::time::Duration::from_millis(10));
        }
    });
    let process = Process::start(blocksd(&arguments(&path, &address)));
    receiver.recv().unwrap();
    process.signal("TERM");
    let ended = process.end();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let last = ended.stderr.lines().last().unwrap();
    assert!(last.starts_with("blocksd: interrupted"), "{ended:?}");
    peer.join().unwrap();
}

#[test]
fn several_framings_to_one_address_are_reported_and_can_be_selected() {
    let directory = tempfile::tempdir().unwrap();
    let mut file = File::begin(None, false);
    file.event(
        BEGIN,
        r#"{"event":"open","conn":1,"device":"a","peer":"127.0.0.1:4000"}"#,
    );
    file.block("a", 0, BEGIN, b"one");
    file.message("b", "blocks", ("lines", "raw"), 0, BEGIN, b"two");
    file.message("b", "blocks", ("lines", "raw"), 1, BEGIN, b"three");
    let path = put(directory.path(), 1, "mcap", &file.seal());
    for (more, connections, hint) in [
        (&[][..], 2, true),
        (&["--framing", "lines"], 2, false),
        (&["--recorded-framing", "lines"], 1, false),
        (&["--device", "b"], 1, false),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let peer = thread::spawn(move || {
            let read = |_| {
                let mut bytes = Vec::new();
                let (mut stream, _) = listener.accept().unwrap();
                stream.read_to_end(&mut bytes).unwrap();
                String::from_utf8(bytes).unwrap()
            };
            (0..connections).map(read).collect::<Vec<_>>()
        });
        let ended = run(&[&arguments(&path, &address), more].concat(), b"");
        assert_eq!(ended.code, Some(0), "{more:?}: {ended:?}");
        let received = peer.join().unwrap();
        assert!(
            received.contains(&"two\nthree\n".to_owned()),
            "{received:?}"
        );
        let text = format!("such as blocks and lines, are sent to {address}, each in its own; ");
        assert_eq!(
            ended.stderr.matches(&text).count(),
            usize::from(hint),
            "{ended:?}"
        );
    }
}
