//! `blocksd replay`: recorded messages are sent again unchanged, over the connections that they came over.

use std::io::Read;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use blocksd_tests::process::{Ended, Process, Server, blocksd, finish, run};
use blocksd_tests::recording::{BEGIN, File, STEP, put};

const BLOCKS: (&str, &str) = ("blocks", "raw");
const MAX: [&str; 2] = ["--speed", "max"];

fn arguments<'a>(path: &'a Path, to: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec!["replay", path.to_str().unwrap(), "--to", to];
    args.extend(more);
    args
}

fn replay(path: &Path, to: &str, more: &[&str]) -> Ended {
    run(&arguments(path, to, more), b"")
}

/// A peer that reads each connection to its end.
struct Peer {
    address: String,
    /// Most connections that were open at the same time.
    most: Arc<AtomicUsize>,
    thread: JoinHandle<Vec<Vec<u8>>>,
}

impl Peer {
    /// Accepts `count` connections.
    fn start(count: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (open, most) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let here = Arc::clone(&most);
        let thread = thread::spawn(move || {
            let accept = |_| {
                let (mut stream, _) = listener.accept().unwrap();
                let now = 1 + open.fetch_add(1, Ordering::SeqCst);
                here.fetch_max(now, Ordering::SeqCst);
                let open = Arc::clone(&open);
                thread::spawn(move || {
                    let mut bytes = Vec::new();
                    stream.read_to_end(&mut bytes).unwrap();
                    open.fetch_sub(1, Ordering::SeqCst);
                    bytes
                })
            };
            let threads: Vec<_> = (0..count).map(accept).collect();
            threads.into_iter().map(|it| it.join().unwrap()).collect()
        });
        Self {
            address,
            most,
            thread,
        }
    }

    /// The bytes of each connection, in the order in which they were accepted.
    fn received(self) -> Vec<Vec<u8>> {
        self.thread.join().unwrap()
    }
}

/// A recording with events.
struct Story {
    file: File,
    time: u64,
}

impl Story {
    fn begin() -> Self {
        let file = File::begin(None, false);
        Self { file, time: BEGIN }
    }

    fn event(&mut self, event: &str, conn: u64, device: &str, more: &str) {
        let json = format!(r#"{{"event":"{event}","conn":{conn},"device":"{device}"{more}}}"#);
        self.file.event(self.time, &json);
    }

    fn open(&mut self, conn: u64, device: &str) {
        self.event("open", conn, device, r#","peer":"10.0.0.7:4000""#);
    }

    fn end(&mut self, conn: u64, device: &str) {
        self.event("end", conn, device, r#","blocks":1"#);
    }

    fn close(&mut self, conn: u64, device: &str, reason: &str) {
        let more = format!(r#","blocks":1,"bytes":1,"reason":"{reason}""#);
        self.event("close", conn, device, &more);
    }

    fn block(&mut self, device: &str, sequence: u32, data: &[u8]) {
        self.file
            .message(device, "blocks", BLOCKS, sequence, self.time, data);
    }

    fn piece(&mut self, conn: u64, device: &str, offset: usize, data: &[u8], ends: (bool, bool)) {
        let (first, last) = ends;
        self.file
            .message(device, "pieces", BLOCKS, offset as u32, self.time, data);
        let more = format!(
            r#","seq":0,"offset":{offset},"len":{},"first":{first},"last":{last}"#,
            data.len()
        );
        self.event("piece", conn, device, &more);
    }

    fn seal(self, directory: &Path) -> std::path::PathBuf {
        put(directory, 1, "mcap", &self.file.seal())
    }
}

/// The bytes of messages in `blocks`.
fn wire(messages: &[&[u8]]) -> Vec<u8> {
    let each = |message: &&[u8]| [&(message.len() as u32).to_be_bytes(), *message].concat();
    messages.iter().flat_map(each).collect()
}

#[test]
fn each_device_is_replayed_on_its_own_connection_in_its_framing() {
    let directory = tempfile::tempdir().unwrap();
    let mut file = File::begin(None, false);
    file.message("a", "blocks", ("lines", "raw"), 0, BEGIN, b"one");
    file.message("b", "blocks", BLOCKS, 0, BEGIN, b"two");
    file.end_chunk();
    file.message("a", "blocks", ("lines", "raw"), 1, BEGIN + STEP, b"three");
    file.message("c", "pieces", ("stream", "raw"), 0, BEGIN + STEP, b"fo");
    file.message("c", "pieces", ("stream", "raw"), 1, BEGIN + STEP, b"ur");
    let path = put(directory.path(), 1, "mcap", &file.seal());
    let peer = Peer::start(3);
    let ended = replay(directory.path(), &peer.address, &[]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(
        ended.stderr.contains("\nreplayed 5 messages, 15 bytes, "),
        "{ended:?}"
    );
    // No end of the series of `b` is recorded.
    let want: [&[u8]; 3] = [b"one\nthree\n", b"\0\0\0\x03two", b"four"];
    assert_eq!(peer.received(), want);
    // One device, in another framing, at a tenth of the speed: 100 ms.
    let peer = Peer::start(1);
    let begin = Instant::now();
    let more = ["--device", "a", "--framing", "netstring", "--speed", "0.1"];
    let ended = replay(&path, &peer.address, &more);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(peer.received(), [b"3:one,5:three,"]);
    assert!(begin.elapsed().as_millis() >= 100, "sent too early");
}

#[test]
fn series_and_connections_end_as_recorded() {
    let directory = tempfile::tempdir().unwrap();
    let mut story = Story::begin();
    // Two series and a torn one.
    story.open(1, "a");
    for (sequence, message) in [b"1", b"2"].into_iter().enumerate() {
        story.block("a", sequence as u32, message);
        story.end(1, "a");
    }
    story.block("a", 2, b"3");
    let torn = r#","fault":"truncated","have":0,"want":4,"where":"end""#;
    story.event("fault", 1, "a", torn);
    story.close(1, "a", "eof");
    // The device reconnects; its mark is recorded as a number, and as the reason of the close.
    story.open(2, "a");
    story.block("a", 3, b"4");
    story.close(2, "a", "end");
    // Nothing, and an empty series.
    story.open(3, "b");
    story.close(3, "b", "eof");
    story.open(4, "b");
    story.end(4, "b");
    story.close(4, "b", "end");
    // A reason of a later version, and no close at all: the daemon is killed and starts again.
    story.open(5, "c");
    story.block("c", 0, b"5");
    story.close(5, "c", "bored");
    story.open(6, "c");
    story.block("c", 1, b"6");
    let started = r#"{"event":"started","version":"0.1.0","config":"sha256:0"}"#;
    story.file.event(BEGIN, started);
    story.open(7, "c");
    story.block("c", 0, b"7");
    story.open(7, "d");
    story.block("d", 0, b"8");
    let path = story.seal(directory.path());
    let peer = Peer::start(8);
    let ended = replay(&path, &peer.address, &MAX);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let end: &[u8] = b"";
    let want = [
        wire(&[b"1", end, b"2", end, b"3"]),
        wire(&[b"4", end]),
        Vec::new(),
        wire(&[end]),
        wire(&[b"5"]),
        wire(&[b"6"]),
        wire(&[b"7"]),
        wire(&[b"8"]),
    ];
    assert_eq!(peer.received(), want);
}

#[test]
fn a_message_in_pieces_is_sent_whole() {
    let directory = tempfile::tempdir().unwrap();
    let mut story = Story::begin();
    story.open(1, "a");
    story.piece(1, "a", 0, b"a long ", (true, false));
    story.piece(1, "a", 7, b"message", (false, true));
    story.piece(1, "a", 0, b"cut", (true, false));
    let cut = r#","fault":"truncated","have":3,"want":9,"where":"payload""#;
    story.event("fault", 1, "a", cut);
    // Pieces are missing in the middle, and at the beginning.
    story.piece(1, "a", 0, b"x", (true, false));
    story.piece(1, "a", 2, b"z", (false, true));
    story.piece(1, "a", 9, b"end", (false, true));
    story.block("a", 0, b"b");
    story.end(1, "a");
    let path = story.seal(directory.path());
    let peer = Peer::start(1);
    let ended = replay(&path, &peer.address, &MAX);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let line = "blocksd: messages not sent, because the recording has only a part of each: 3\n";
    assert!(ended.stderr.contains(line), "{ended:?}");
    assert_eq!(peer.received(), [wire(&[b"a long message", b"b", b""])]);
}

#[test]
fn pieces_of_two_connections_of_a_device_are_not_mixed() {
    let directory = tempfile::tempdir().unwrap();
    let mut story = Story::begin();
    // Messages of this recording have no connection, but the events of their pieces have one.
    for conn in [1, 2] {
        story.open(conn, "a");
        story.piece(conn, "a", 0, format!("{conn}-").as_bytes(), (true, false));
    }
    for conn in [2, 1] {
        story.piece(conn, "a", 2, b"ok", (false, true));
    }
    // The rest of one is missing, and the other goes on.
    story.piece(1, "a", 0, b"1-", (true, false));
    story.close(1, "a", "reset");
    story.piece(2, "a", 0, b"2-", (true, false));
    story.piece(2, "a", 2, b"!!", (false, true));
    story.close(2, "a", "eof");
    let path = story.seal(directory.path());
    let peer = Peer::start(2);
    let ended = replay(&path, &peer.address, &MAX);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(
        ended.stderr.contains("only a part of each: 1\n"),
        "{ended:?}"
    );
    let want = [wire(&[b"1-ok"]), wire(&[b"2-ok", b"2-!!"])];
    assert_eq!(peer.received(), want);
}

#[test]
fn a_message_of_any_length_is_sent_whole() {
    let directory = tempfile::tempdir().unwrap();
    let mut story = Story::begin();
    let (pieces, len) = (70, 1 << 20);
    story.open(1, "a");
    for index in 0..pieces {
        let ends = (index == 0, index == pieces - 1);
        story.piece(1, "a", index * len, &vec![index as u8; len], ends);
        story.file.end_chunk();
    }
    story.end(1, "a");
    story.close(1, "a", "end");
    let path = story.seal(directory.path());
    for (framing, header, end) in [
        ("blocks", &b"\x04\x60\0\0"[..], &b"\0\0\0\0"[..]),
        ("netstring", b"73400320:", b","),
    ] {
        let peer = Peer::start(1);
        let more = ["--speed", "max", "--framing", framing];
        let ended = replay(&path, &peer.address, &more);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let text = "replayed 1 message, 73400320 bytes";
        assert!(ended.stderr.contains(text), "{ended:?}");
        let received = peer.received().remove(0);
        let body = received.strip_prefix(header).unwrap();
        let body = body.strip_suffix(end).unwrap();
        let same = |(index, part): (usize, &[u8])| part.iter().all(|it| *it == index as u8);
        assert_eq!(body.len(), pieces * len);
        assert!(body.chunks(len).enumerate().all(same), "{framing}");
    }
}

#[test]
fn a_message_that_cannot_be_stored_is_reported() {
    let directory = tempfile::tempdir().unwrap();
    let mut story = Story::begin();
    story.open(1, "a");
    story.piece(1, "a", 0, &[7; 100_000], (true, false));
    story.piece(1, "a", 100_000, b"!", (false, true));
    story.block("a", 0, b"b");
    let path = story.seal(directory.path());
    let peer = Peer::start(1);
    let mut command = blocksd(&arguments(&path, &peer.address, &MAX));
    command.env("TMPDIR", "/no/such/directory");
    let ended = finish(command, b"");
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let text = "blocksd: a, connection 1: a message is left out, since it cannot be stored in /no/such/directory: ";
    assert!(ended.stderr.starts_with(text), "{ended:?}");
    assert!(
        ended.stderr.contains("; sent 1 message, 1 byte, "),
        "{ended:?}"
    );
    assert_eq!(peer.received(), [wire(&[b"b"])]);
}

#[test]
fn a_message_that_the_framing_cannot_carry_is_reported() {
    let directory = tempfile::tempdir().unwrap();
    let mut story = Story::begin();
    story.open(1, "a");
    let long = [&[b'x'; 100_000][..], b"\n"].concat();
    story.block("a", 0, b"one");
    story.block("a", 1, b"two\nlines");
    story.piece(1, "a", 0, &long, (true, true));
    story.block("a", 2, b"three");
    story.end(1, "a");
    story.close(1, "a", "end");
    let path = story.seal(directory.path());
    let peer = Peer::start(1);
    let more = ["--speed", "max", "--framing", "lines"];
    let ended = replay(&path, &peer.address, &more);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let lines: Vec<_> = ended.stderr.lines().collect();
    let refused =
        "blocksd: a, connection 1: a message cannot be sent in this framing, and is left out: ";
    assert!(lines[0].starts_with(refused), "{ended:?}");
    let summary = "blocksd: recorded messages that were not sent: 2; sent 2 messages, 8 bytes, ";
    assert!(lines[1].starts_with(summary), "{ended:?}");
    assert_eq!(peer.received(), [b"one\nthree\n"]);
}

#[test]
fn connections_one_after_the_other_use_few_descriptors() {
    let directory = tempfile::tempdir().unwrap();
    let mut story = Story::begin();
    let count = 300;
    for conn in 1..=count {
        let device = format!("device-{conn}");
        story.open(conn, &device);
        story.block(&device, 0, device.as_bytes());
        story.end(conn, &device);
        story.close(conn, &device, "end");
    }
    let path = story.seal(directory.path());
    let peer = Peer::start(count as usize);
    let args = arguments(&path, &peer.address, &MAX);
    let ended = finish(limited(64, &args), b"");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    // Besides the one that is open, some wait for the peer to close.
    let most = peer.most.load(Ordering::SeqCst);
    assert!(most <= 40, "{most} connections at once");
    for (index, bytes) in peer.received().into_iter().enumerate() {
        let name = format!("device-{}", index + 1);
        assert_eq!(bytes, wire(&[name.as_bytes(), b""]));
    }
}

#[test]
fn too_many_connections_at_once_are_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let mut story = Story::begin();
    for conn in 1..=40 {
        story.open(conn, &format!("device-{conn}"));
        story.block(&format!("device-{conn}"), 0, b"x");
    }
    let path = story.seal(directory.path());
    let server = Server::start(&["--output", "none"]);
    let to = server.addr().to_string();
    let ended = finish(limited(64, &arguments(&path, &to, &MAX)), b"");
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let text = "blocksd: the recording has more than 32 connections open at once, and the system permits 64 open files";
    assert!(ended.stderr.starts_with(text), "{ended:?}");
    // Where opens are not recorded, connections that are idle make room. Messages may have a number or none.
    let directory = tempfile::tempdir().unwrap();
    let mut story = Story::begin();
    for conn in 1..=40 {
        story.block(&format!("device-{conn}"), 0, b"x");
        story.piece(conn, &format!("other-{conn}"), 0, b"y", (true, true));
    }
    // The open of the last one follows its first message.
    story.open(40, "other-40");
    story.piece(40, "other-40", 0, b"z", (true, true));
    let path = story.seal(directory.path());
    let ended = finish(limited(64, &arguments(&path, &to, &MAX)), b"");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let totals = server.stop().0.totals();
    assert_eq!((totals["connection"], totals["block"]), (32 + 80, 32 + 81));
}

/// The program with a hard limit on descriptors.
fn limited(descriptors: u32, args: &[&str]) -> Command {
    let program = blocksd(&[]);
    let mut command = Command::new("sh");
    let script = format!("ulimit -n {descriptors} && exec \"$0\" \"$@\"");
    command.args(["-c", &script]).arg(program.get_program());
    command.args(args);
    command
}

#[test]
fn long_pauses_and_jumps_of_the_clock_are_reported() {
    const SECOND: u64 = 1_000_000_000;
    let directory = tempfile::tempdir().unwrap();
    let mut story = Story::begin();
    // Without a clock at first, then with the right time, then set back by an hour.
    let times = [SECOND, BEGIN, BEGIN - 3600 * SECOND];
    for (sequence, time) in times.into_iter().enumerate() {
        story.time = time;
        story.block("a", sequence as u32, b"x");
    }
    let path = story.seal(directory.path());
    let peer = Peer::start(1);
    let begin = Instant::now();
    let ended = replay(&path, &peer.address, &["--max-gap", "200ms"]);
    assert!(begin.elapsed().as_millis() >= 200, "the pause was left out");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let lines: Vec<_> = ended.stderr.lines().collect();
    let expected = [
        "blocksd: the pause of 56 years after 1970-01-01T00:00:01Z is shortened; --max-gap sets the longest pause",
        "blocksd: the recorded time goes back by 60 minutes after 2026-01-01T00:00:00Z; continuing without a pause",
    ];
    assert_eq!(lines[..2], expected);
    assert_eq!(peer.received(), [wire(&[b"x", b"x", b"x"])]);
    // Without a limit, the pause is reported before it is slept; then Ctrl-C ends it.
    let peer = Peer::start(1);
    let args = arguments(&path, &peer.address, &["--max-gap", "off"]);
    let process = Process::start(blocksd(&args));
    process.wait_for_error("blocksd: nothing to send for 56 years after 1970-01-01T00:00:01Z;");
    process.signal("INT");
    let ended = process.end();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let last = ended.stderr.lines().last().unwrap();
    assert!(
        last.starts_with("blocksd: interrupted; sent 1 message, 1 byte, "),
        "{ended:?}"
    );
    assert_eq!(peer.received(), [wire(&[b"x"])]);
    replay(&path, "127.0.0.1:1", &["--max-gap", "0"]).assert_refused(2, "--max-gap");
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
    let ended = replay(directory.path(), &address, &MAX);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let events = server.wait_for("close", devices);
    let mut by_conn = std::collections::BTreeMap::<u64, Vec<String>>::new();
    for event in events.iter().filter(|it| it["event"] == "block") {
        let conn = event["conn"].as_u64().unwrap();
        let text = event["text"].as_str().unwrap().to_owned();
        by_conn.entry(conn).or_default().push(text);
    }
    assert_eq!(
        events.iter().filter(|it| it["event"] == "close").count(),
        devices
    );
    let mut seen = std::collections::BTreeSet::new();
    for texts in by_conn.into_values() {
        let (name, _) = texts[0].split_once(' ').unwrap();
        let want: Vec<_> = (0..5).map(|round| format!("{name} {round}")).collect();
        assert_eq!(texts, want);
        seen.insert(name.to_owned());
    }
    assert_eq!(seen.len(), devices);
}
