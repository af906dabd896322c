//! Firmware in QEMU, and links that break: every sample that does not arrive is accounted for.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use blocksd_tests::board::{
    Board, Port, QUEUE_LEN, Report, SEND_BUFFER_LEN, figure, image, in_flight, ports, values,
};
use blocksd_tests::process::{DEADLINE, Server, connect};
use serde_json::Value;

/// Sample period: the samples that fit the board's send buffer then take 300 ms.
const PERIOD_MS: u64 = 30;

/// Bounds of the length of a sample with its header, since CBOR numbers take one to five bytes.
const SHORTEST: u64 = 80;
const LONGEST: u64 = 130;

/// A daemon for the board's log, which reports the state of its links.
pub(crate) struct Log {
    image: PathBuf,
    server: Server,
}

impl Log {
    /// Starts a daemon for the log of the image. Reports that the test `name` is skipped if there is no image.
    pub(crate) fn start(name: &str) -> Option<Self> {
        let image = image(name, "mps2-an386")?;
        let listen = format!("127.0.0.1:0,decode=defmt:{}", image.display());
        let server = Server::start(&["--listen", &listen]);
        Some(Self { image, server })
    }

    /// Waits until the telemetry failed to connect, or lost a connection, this many times.
    #[track_caller]
    fn wait_down(&mut self, times: usize) {
        self.server.wait(|events| {
            let messages = events.iter().filter_map(|event| event["message"].as_str());
            let down = messages.filter(|message| message.starts_with("telemetry: link down"));
            times <= down.count()
        });
    }
}

/// Boots a board that sends this number of samples to this port, and its log.
pub(crate) fn boot(telemetry: u16, log: &Log, samples: u64) -> Board {
    let words = [
        format!("telemetry={telemetry}"),
        format!("logs={}", ports(&log.server)[0]),
        format!("samples={samples}"),
        format!("period_ms={PERIOD_MS}"),
        // Long enough for an outage on a slow machine.
        "stop_ms=20000".to_owned(),
    ];
    Board::start(&log.image, &words)
}

/// Checks the counts of the board's report; returns the number of samples that each of its failed connections had taken.
#[track_caller]
pub(crate) fn account(report: Report, samples: u64, connections: &[Vec<Value>]) -> Vec<u64> {
    let taken = in_flight(connections);
    let received: usize = connections.iter().map(Vec::len).sum();
    report.assert_agrees(samples, received as u64);
    let sent = received as u64 + taken.iter().sum::<u64>();
    assert_eq!(report.delivered + report.in_doubt, sent);
    let last = connections.last().and_then(|samples| samples.last());
    let last = last.expect("the last connection has samples");
    assert_eq!(figure(last, "n"), samples - 1);
    assert_eq!(figure(last, "lost"), report.lost);
    taken
}

/// Bytes in the system's buffers of connections to a port: not yet sent, or not yet read.
fn held(port: u16) -> u64 {
    let table = fs::read_to_string("/proc/net/tcp").expect("Linux lists its sockets");
    let port = format!(":{port:04X}");
    let mut held = 0;
    for line in table.lines().skip(1) {
        let words: Vec<_> = line.split_whitespace().collect();
        let [_, local, remote, state, queues, ..] = words[..] else {
            panic!("{line}");
        };
        let (unsent, unread) = queues.split_once(':').expect("two figures");
        let bytes = |figure| u64::from_str_radix(figure, 16).expect("a figure");
        if remote.ends_with(&port) {
            held += bytes(unsent);
        }
        // The queues of a listener count connections.
        if local.ends_with(&port) && state != "0A" {
            held += bytes(unread);
        }
    }
    held
}

/// Waits until `is_so` returns true.
#[track_caller]
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < until, "timed out waiting until {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Asserts that this number of samples fits the buffers of the system and the board's unacknowledged data.
#[track_caller]
fn assert_in_buffers(taken: u64, held: u64, samples: &[Value]) {
    assert!(!samples.is_empty());
    let (least, most) = (held / LONGEST, (held + SEND_BUFFER_LEN) / SHORTEST);
    assert!(
        (least..=most).contains(&taken),
        "{taken} in flight, while {held} bytes were held"
    );
}

#[test]
fn a_killed_daemon_misses_only_samples_that_are_counted_or_were_in_flight() {
    const SAMPLES: u64 = 200;
    let Some(mut log) =
        Log::start("a_killed_daemon_misses_only_samples_that_are_counted_or_were_in_flight")
    else {
        return;
    };
    let port = Port::reserve();
    let mut first = Server::start(&["--listen", &port.listen()]);
    let board = boot(port.number(), &log, SAMPLES);
    first.wait_for("block", 20);
    // The daemon stops reading, and the buffers of the system fill.
    first.process.signal("STOP");
    until("unread bytes are held", || 1000 < held(port.number()));
    let held = held(port.number());
    first.process.signal("KILL");
    let (ended, before) = first.end();
    assert_eq!(ended.code, None);
    // By the fourth attempt, more was sampled than the board's queue holds.
    log.wait_down(4);
    let second = Server::start(&["--listen", &port.listen()]);
    let report = board.report();
    let (ended, after) = second.stop();
    let totals = ended.totals();
    assert_eq!((totals["serie"], totals["fault"]), (1, 0));
    let connections = [values(&before), values(&after)];
    let taken = account(report, SAMPLES, &connections);
    assert_in_buffers(taken[0], held, &connections[0]);
    assert!(0 < report.lost, "{report:?}");
    assert_eq!(report.connections, 2);
}

#[test]
fn a_refused_connection_loses_only_samples_that_the_queue_drops() {
    const SAMPLES: u64 = 120;
    let Some(mut log) = Log::start("a_refused_connection_loses_only_samples_that_the_queue_drops")
    else {
        return;
    };
    let port = Port::reserve();
    let board = boot(port.number(), &log, SAMPLES);
    log.wait_down(4);
    let server = Server::start(&["--listen", &port.listen()]);
    let report = board.report();
    let (ended, events) = server.stop();
    assert_eq!(ended.totals()["fault"], 0);
    assert_eq!(account(report, SAMPLES, &[values(&events)]), [0; 0]);
    assert!(0 < report.lost, "{report:?}");
    assert_eq!(report.connections, 1);
}

#[test]
fn a_connection_that_is_closed_at_once_is_retried() {
    const SAMPLES: u64 = 120;
    let Some(mut log) = Log::start("a_connection_that_is_closed_at_once_is_retried") else {
        return;
    };
    let args = ["--max-connections", "1", "--decode", "cbor"];
    let mut server = Server::start(&args);
    let other = server.connect();
    server.wait_for("open", 1);
    let board = boot(server.addr().port(), &log, SAMPLES);
    log.wait_down(3);
    drop(other);
    let report = board.report();
    let (ended, events) = server.stop();
    // The data of the refused connections was not recorded.
    let taken = account(report, SAMPLES, &[Vec::new(), values(&events)]);
    let refused = ended.totals()["refused"];
    assert!(3 <= refused, "{refused}");
    assert!(report.connections <= refused + 1, "{report:?}");
    // Each took at most the contents of the queue, and the samples until the close was noticed.
    let most = refused * (QUEUE_LEN + SEND_BUFFER_LEN / SHORTEST);
    assert!(taken[0] <= most, "{taken:?}, {refused} refused");
}

#[test]
fn a_board_keeps_sampling_on_a_half_open_connection_and_sends_the_rest_later() {
    const SAMPLES: u64 = 120;
    let Some(mut log) =
        Log::start("a_board_keeps_sampling_on_a_half_open_connection_and_sends_the_rest_later")
    else {
        return;
    };
    let port = Port::reserve();
    let listener = TcpListener::bind(port.addr()).expect("the port is reserved");
    let board = boot(port.number(), &log, SAMPLES);
    let silent = accept(&listener);
    drop(listener);
    let mut bytes = [0; 8192];
    until("samples have arrived", || {
        3000 < silent.peek(&mut bytes).unwrap_or_default()
    });
    let len = silent.peek(&mut bytes).expect("unread bytes");
    let mut rest = &bytes[..len];
    let mut whole = 0;
    while let Some((header, tail)) = rest.split_first_chunk() {
        let len = u32::from_be_bytes(*header) as usize;
        let Some(tail) = tail.get(len..) else {
            break;
        };
        rest = tail;
        whole += 1;
    }
    // Dropping a connection with unread bytes resets it.
    drop(silent);
    log.wait_down(1);
    let server = Server::start(&["--listen", &port.listen()]);
    let report = board.report();
    let (ended, events) = server.stop();
    assert_eq!(ended.totals()["fault"], 0);
    let connections = [Vec::new(), values(&events)];
    let taken = account(report, SAMPLES, &connections);
    assert!(
        whole <= taken[0],
        "{whole} arrived completely, {taken:?} were reported"
    );
    assert_in_buffers(taken[0], len as u64, &connections[1]);
}

#[test]
fn a_board_survives_a_limit_below_the_length_of_its_samples() {
    const SAMPLES: u64 = 90;
    let Some(mut log) = Log::start("a_board_survives_a_limit_below_the_length_of_its_samples")
    else {
        return;
    };
    let port = Port::reserve();
    let listen = port.listen();
    let small = ["--listen", &listen, "--max-block", "50"];
    let first = Server::start(&[&small[..], &["--oversize", "close"]].concat());
    let board = boot(port.number(), &log, SAMPLES);
    log.wait_down(2);
    let (ended, events) = first.stop();
    let closed = events.iter().filter(|event| event["event"] == "close");
    let reasons: Vec<_> = closed.map(|event| &event["reason"]).collect();
    assert!(2 <= reasons.len() && reasons.iter().all(|&reason| reason == "limit"));
    assert_eq!(ended.totals()["fault"], reasons.len() as u64);
    let second = Server::start(&["--listen", &listen]);
    let report = board.report();
    let (_, events) = second.stop();
    account(report, SAMPLES, &[Vec::new(), values(&events)]);

    // Skipping costs only the samples themselves.
    let server = Server::start(&[&small[..], &["--reply", "receipt"]].concat());
    let report = boot(port.number(), &log, 10).report();
    // According to the receipt, none of them arrived.
    assert_eq!(
        (report.lost, report.in_doubt, report.connections),
        (10, 0, 1)
    );
    let (ended, events) = server.stop();
    let faults = events.iter().filter(|event| event["fault"] == "too_long");
    let in_limit = |fault: &Value| figure(fault, "limit") == 50 && 50 < figure(fault, "declared");
    assert_eq!(faults.filter(|fault| in_limit(fault)).count(), 10);
    assert_eq!((ended.totals()["serie"], ended.totals()["block"]), (1, 0));
}

/// Accepts the next connection, with a deadline.
#[track_caller]
fn accept(listener: &TcpListener) -> TcpStream {
    listener.set_nonblocking(true).expect("a live socket");
    let mut accepted = None;
    until("a connection is accepted", || {
        accepted = listener.accept().ok();
        accepted.is_some()
    });
    let (stream, _) = accepted.expect("a connection within the deadline");
    stream.set_nonblocking(false).expect("a live socket");
    stream.set_read_timeout(Some(DEADLINE)).expect("not zero");
    stream
}

/// Reads the next block, with its header.
fn read_block(stream: &mut TcpStream) -> Vec<u8> {
    let mut wire = vec![0; 4];
    stream.read_exact(&mut wire).expect("a header");
    let len = u32::from_be_bytes([wire[0], wire[1], wire[2], wire[3]]) as usize;
    assert!((1..1000).contains(&len), "{len} bytes");
    wire.resize(4 + len, 0);
    stream.read_exact(&mut wire[4..]).expect("a block");
    wire
}

/// Forwards three blocks, and of the next one the number of bytes that `cut` returns for its length. Returns both ends, and
/// the expected faults and close of the connection.
fn relay_in_part(
    listener: &TcpListener,
    daemon: SocketAddr,
    cut: impl Fn(usize) -> usize,
) -> ([TcpStream; 2], String) {
    let mut board = accept(listener);
    let mut daemon = connect(daemon);
    let mut bytes = 0;
    for _ in 0..3 {
        let block = read_block(&mut board);
        daemon.write_all(&block).expect("the daemon reads");
        bytes += block.len() - 4;
    }
    let block = read_block(&mut board);
    let cut = cut(block.len());
    daemon.write_all(&block[..cut]).expect("the daemon reads");
    let fault = match cut {
        // Between two blocks, the series is left open.
        0 => String::new(),
        1..4 => format!("fault truncated header have={cut} want=4; "),
        _ => {
            let (have, want) = (cut - 4, block.len() - 4);
            format!("fault truncated payload have={have} want={want}; ")
        }
    };
    let wanted = format!("{fault}close eof blocks=3 bytes={bytes} series=\"open\"");
    ([board, daemon], wanted)
}

/// The faults and the close of a connection.
#[track_caller]
fn ending(server: &mut Server, conn: u64) -> String {
    let mut story = server.story(conn);
    story.retain(|event| event.starts_with("fault") || event.starts_with("close"));
    story.join("; ")
}

#[test]
fn a_truncated_block_is_reported_with_its_figures_and_the_board_reconnects() {
    const SAMPLES: u64 = 120;
    let Some(log) =
        Log::start("a_truncated_block_is_reported_with_its_figures_and_the_board_reconnects")
    else {
        return;
    };
    let mut server = Server::start(&["--decode", "cbor"]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let board = boot(listener.local_addr().unwrap().port(), &log, SAMPLES);
    let cuts: [fn(usize) -> usize; 3] = [|_| 2, |len| len - 1, |_| 0];
    for (conn, cut) in (1..).zip(cuts) {
        let (both, wanted) = relay_in_part(&listener, server.addr(), cut);
        drop(both);
        assert_eq!(ending(&mut server, conn), wanted);
    }
    let (mut from, mut to) = (accept(&listener), server.connect());
    let relaying = thread::spawn(move || io::copy(&mut from, &mut to));
    let report = board.report();
    relaying.join().unwrap().expect("the data is forwarded");
    server.wait_for("close", 4);
    let (ended, events) = server.stop();
    let connections = [1, 2, 3, 4].map(|conn| {
        let own = events.iter().filter(|event| event["conn"] == conn);
        values(&own.cloned().collect::<Vec<_>>())
    });
    let taken = account(report, SAMPLES, &connections);
    // At least the one that was cut.
    assert!(taken.iter().all(|&taken| 1 <= taken), "{taken:?}");
    assert_eq!(report.connections, 4);
    assert!(ended.stderr.contains("2 faults (2 truncated)"));
    let closes: Vec<_> = events
        .iter()
        .filter(|event| event["event"] == "close")
        .collect();
    let cut_between_blocks = closes.iter().find(|close| close["conn"] == 3);
    assert_eq!(cut_between_blocks.expect("it is closed")["series"], "open");
}

#[test]
fn a_board_killed_in_the_middle_of_a_block_is_a_truncation_with_its_figures() {
    let Some(log) =
        Log::start("a_board_killed_in_the_middle_of_a_block_is_a_truncation_with_its_figures")
    else {
        return;
    };
    let mut server = Server::start(&["--decode", "cbor"]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let board = boot(listener.local_addr().unwrap().port(), &log, 1000);
    let ([mut from, to], wanted) = relay_in_part(&listener, server.addr(), |len| len / 2);
    server.wait_for("block", 3);
    board.process.signal("KILL");
    assert_eq!(board.end().code, None);
    // Data that it had sent by then is lost on the way.
    io::copy(&mut from, &mut io::sink()).ok();
    drop(to);
    assert_eq!(ending(&mut server, 1), wanted);
    assert!(server.stop().0.stderr.contains("1 fault (1 truncated)"));
}

#[test]
fn a_board_that_is_killed_leaves_series_without_an_end() {
    let Some(log) = Log::start("a_board_that_is_killed_leaves_series_without_an_end") else {
        return;
    };
    let mut server = Server::start(&["--decode", "cbor"]);
    let board = boot(server.addr().port(), &log, 1000);
    server.wait_for("block", 10);
    board.process.signal("KILL");
    assert_eq!(board.end().code, None);
    let mut log = log.server;
    for server in [&mut server, &mut log] {
        server.wait_for("close", 1);
    }
    let (_, events) = log.stop();
    assert_left_open(&events);
    let (ended, events) = server.stop();
    assert_eq!(in_flight(&[values(&events)]), [0; 0]);
    assert_left_open(&events);
    assert_eq!(ended.totals()["serie"], 0);
}

/// Asserts that the first connection ended without the end of its series: in a block, or between two.
#[track_caller]
fn assert_left_open(events: &[Value]) {
    let of_kind = |kind: &str| events.iter().find(|event| event["event"] == kind).cloned();
    let close = of_kind("close").expect("it is closed");
    assert_eq!(close["reason"], "eof");
    match of_kind("fault") {
        Some(fault) => assert_eq!(fault["fault"], "truncated"),
        None => assert_eq!(close["series"], "open"),
    }
}
