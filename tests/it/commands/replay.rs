//! `blocksd replay`: recorded messages are sent again unchanged.

use std::io::Read;
use std::net::TcpListener;
use std::path::Path;
use std::thread;

use blocksd_tests::process::{Server, run};
use blocksd_tests::recording::{BEGIN, File, STEP, put};
use serde_json::Value;

fn replay(path: &Path, to: &str, more: &[&str]) -> blocksd_tests::process::Ended {
    let mut args = vec!["replay", path.to_str().unwrap(), "--to", to];
    args.extend(more);
    run(&args, b"")
}

/// Accepts `count` connections one after the other, and returns the data of each.
fn receive(count: usize) -> (String, thread::JoinHandle<Vec<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let thread = thread::spawn(move || {
        let streams: Vec<_> = (0..count).map(|_| listener.accept().unwrap().0).collect();
        let read = streams.into_iter().map(|mut stream| {
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).unwrap();
            bytes
        });
        read.collect()
    });
    (address, thread)
}

#[test]
fn each_device_is_replayed_on_its_own_connection_in_its_framing() {
    let directory = tempfile::tempdir().unwrap();
    let mut file = File::begin(None, false);
    file.message("a", "blocks", ("lines", "raw"), 0, BEGIN, b"one");
    file.message("b", "blocks", ("blocks", "raw"), 0, BEGIN, b"two");
    file.end_chunk();
    file.message("a", "blocks", ("lines", "raw"), 1, BEGIN + STEP, b"three");
    file.message("c", "pieces", ("stream", "raw"), 0, BEGIN + STEP, b"fo");
    file.message("c", "pieces", ("stream", "raw"), 1, BEGIN + STEP, b"ur");
    let path = put(directory.path(), 1, "mcap", &file.seal());
    let (address, received) = receive(3);
    let ended = replay(directory.path(), &address, &[]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(
        ended.stderr.starts_with("replayed 5 blocks, 15 bytes, "),
        "{ended:?}"
    );
    let want: [&[u8]; 3] = [b"one\nthree\n", b"\0\0\0\x03two\0\0\0\0", b"four"];
    assert_eq!(received.join().unwrap(), want);
    // One device, in another framing, at a tenth of the speed: 100 ms.
    let (address, received) = receive(1);
    let begin = std::time::Instant::now();
    let more = ["--device", "a", "--framing", "netstring", "--speed", "0.1"];
    let ended = replay(&path, &address, &more);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(received.join().unwrap(), [b"3:one,5:three,"]);
    assert!(begin.elapsed().as_millis() >= 100, "sent too early");
}

#[test]
fn a_message_in_pieces_is_sent_whole() {
    let directory = tempfile::tempdir().unwrap();
    let mut file = File::begin(None, false);
    let framed = ("blocks", "raw");
    let note = |len: usize, first: bool, last: bool| {
        format!(
            r#"{{"event":"piece","conn":1,"device":"a","seq":0,"offset":0,"len":{len},"first":{first},"last":{last}}}"#
        )
    };
    file.message("a", "pieces", framed, 0, BEGIN, b"a long ");
    file.event(BEGIN, &note(7, true, false));
    file.message("a", "pieces", framed, 1, BEGIN, b"message");
    file.event(BEGIN, &note(7, false, true));
    file.message("a", "pieces", framed, 2, BEGIN, b"cut");
    file.event(BEGIN, &note(3, true, false));
    file.event(
        BEGIN,
        r#"{"event":"fault","conn":1,"device":"a","fault":"truncated"}"#,
    );
    file.message("a", "blocks", framed, 0, BEGIN, b"b");
    let path = put(directory.path(), 1, "mcap", &file.seal());
    let (address, received) = receive(1);
    let ended = replay(&path, &address, &["--speed", "max"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(
        received.join().unwrap(),
        [b"\0\0\0\x0ea long message\0\0\0\x01b\0\0\0\0"]
    );
}

#[test]
fn hundreds_of_devices_are_replayed_unchanged() {
    let directory = tempfile::tempdir().unwrap();
    let mut file = File::begin(Some(mcap::Compression::Lz4), false);
    let devices = 300;
    for round in 0..5 {
        for device in 0..devices {
            let name = format!("device-{device}");
            file.block(&name, round, BEGIN, format!("{name} {round}").as_bytes());
        }
        file.end_chunk();
    }
    put(directory.path(), 1, "mcap", &file.seal());
    let mut server = Server::start(&[]);
    let address = server.addr().to_string();
    let ended = replay(directory.path(), &address, &["--speed", "max"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let events = server.wait_for("close", devices);
    let mut by_conn = std::collections::BTreeMap::<u64, Vec<String>>::new();
    for event in events.iter().filter(|it| it["event"] == "block") {
        let conn = event["conn"].as_u64().unwrap();
        let text = event["text"].as_str().unwrap().to_owned();
        by_conn.entry(conn).or_default().push(text);
    }
    let ends = |it: &&Value| it["event"] == "close" && it["reason"] == "end";
    assert_eq!(events.iter().filter(ends).count(), devices);
    let mut seen = std::collections::BTreeSet::new();
    for texts in by_conn.into_values() {
        let (name, _) = texts[0].split_once(' ').unwrap();
        let want: Vec<_> = (0..5).map(|round| format!("{name} {round}")).collect();
        assert_eq!(texts, want);
        seen.insert(name.to_owned());
    }
    assert_eq!(seen.len(), devices);
}

#[test]
fn a_peer_that_hangs_up_is_reported_with_the_progress() {
    let directory = tempfile::tempdir().unwrap();
    let mut file = File::begin(None, false);
    for sequence in 0..200 {
        file.block("a", sequence, BEGIN, &[7; 100_000]);
        file.end_chunk();
    }
    let path = put(directory.path(), 1, "mcap", &file.seal());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    // Auto-tuned, the buffer could hold the whole file while this test waits for a processor.
    let listening = socket2::SockRef::from(&listener);
    listening.set_recv_buffer_size(1 << 16).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let peer = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_exact(&mut [0; 1000]).unwrap();
    });
    let ended = replay(&path, &address, &["--speed", "max"]);
    peer.join().unwrap();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(
        ended.stderr.contains("blocksd: a: connection failed: "),
        "{ended:?}"
    );
    // The summary follows the errors, and must not read like a success.
    let last = ended.stderr.lines().last().unwrap();
    let words = "blocksd: the peer did not accept all messages of 1 of 1 devices; sent ";
    assert!(last.starts_with(words), "{ended:?}");
    assert!(!ended.stderr.contains("replayed"), "{ended:?}");
    // No program listens there.
    let address = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let ended = replay(&path, &address.to_string(), &["--speed", "max"]);
    assert_eq!(ended.code, Some(75), "{ended:?}");
    assert!(
        ended.stderr.starts_with("blocksd: cannot connect to"),
        "{ended:?}"
    );
    let ended = replay(Path::new("/no/such/recording"), "127.0.0.1:1", &[]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(
        ended.stderr.starts_with("blocksd: cannot read /no/such"),
        "{ended:?}"
    );
    replay(&path, "127.0.0.1:1", &["--speed", "0"]).assert_refused(2, "--speed");
}
