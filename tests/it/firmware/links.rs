//! Firmware in QEMU, and links that break: where every sample that does not arrive is accounted for.

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

/// Time from one sample to the next: what fits the buffer of the board's connection is then sampled in 300 ms.
const PERIOD_MS: u64 = 30;

/// Bounds for the bytes of a sample, with the header of its block: figures of CBOR have one byte to five.
const SHORTEST: u64 = 80;
const LONGEST: u64 = 130;

/// The board's log, which tells what becomes of its links.
pub(crate) struct Log {
    image: PathBuf,
    server: Server,
}

impl Log {
    /// Starts a daemon for the log of the image. Reports that the test `name` is skipped where there is none.
    pub(crate) fn start(name: &str) -> Option<Self> {
        let image = image(name, "mps2-an386")?;
        let listen = format!("127.0.0.1:0,decode=defmt:{}", image.display());
        let server = Server::start(&["--listen", &listen]);
        Some(Self { image, server })
    }

    /// Waits until the telemetry had no connection so often, or lost one.
    #[track_caller]
    fn wait_down(&mut self, times: usize) {
        self.server.wait(|events| {
            let messages = events.iter().filter_map(|event| event["message"].as_str());
            let down = messages.filter(|message| message.starts_with("telemetry: link down"));
            times <= down.count()
        });
    }
}

/// Boots a board that sends so many samples to this port, and its log.
pub(crate) fn boot(telemetry: u16, log: &Log, samples: u64) -> Board {
    let words = [
        format!("telemetry={telemetry}"),
        format!("logs={}", ports(&log.server)[0]),
        format!("samples={samples}"),
        format!("period_ms={PERIOD_MS}"),
        // However long an outage was made by a slow machine.
        "stop_ms=20000".to_owned(),
    ];
    Board::start(&log.image, &words)
}

/// Checks the figures of the board's report; returns how many samples its dead connections had taken, each.
#[track_caller]
pub(crate) fn account(report: Report, samples: u64, connections: &[Vec<Value>]) -> Vec<u64> {
    let taken = in_flight(connections);
    let received: usize = connections.iter().map(Vec::len).sum();
    report.assert_agrees(samples, received as u64);
    let sent = received as u64 + taken.iter().sum::<u64>();
    assert_eq!(report.delivered + report.in_doubt, sent);
    let last = connections.last().and_then(|samples| samples.last());
    let last = last.expect("the last connection brings the rest");
    assert_eq!(figure(last, "n"), samples - 1);
    assert_eq!(figure(last, "lost"), report.lost);
    taken
}

/// Bytes that the system holds of connections to a port: not yet sent, and not yet read.
fn held(port: u16) -> u64 {
    let table = fs::read_to_string("/proc/net/tcp").expect("Linux tells of its sockets");
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
        // What a listener holds are connections.
        if local.ends_with(&port) && state != "0A" {
            held += bytes(unread);
        }
    }
    held
}

/// Waits until this is so.
#[track_caller]
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < until, "{what} in vain");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Asserts that so many samples are what the buffers held, and what the board had sent and not got acknowledged.
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
fn a_daemon_that_is_killed_and_restarted_misses_what_is_counted_or_was_in_flight() {
    const SAMPLES: u64 = 200;
    let Some(mut log) =
        Log::start("a_daemon_that_is_killed_and_restarted_misses_what_is_counted_or_was_in_flight")
    else {
        return;
    };
    let port = Port::reserve();
    let mut first = Server::start(&["--listen", &port.listen()]);
    let board = boot(port.number(), &log, SAMPLES);
    first.wait_for("block", 20);
    // It does not read any more: the buffers of the system fill.
    first.process.signal("STOP");
    until("bytes are waited for", || 1000 < held(port.number()));
    let held = held(port.number());
    first.process.signal("KILL");
    let (ended, before) = first.end();
    assert_eq!(ended.code, None);
    // By the fourth time more has been sampled than the queue of the board takes.
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
fn a_refused_connection_costs_only_what_the_queue_has_no_room_for() {
    const SAMPLES: u64 = 120;
    let Some(mut log) =
        Log::start("a_refused_connection_costs_only_what_the_queue_has_no_room_for")
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
fn a_connection_that_is_closed_at_once_is_tried_again() {
    const SAMPLES: u64 = 120;
    let Some(mut log) = Log::start("a_connection_that_is_closed_at_once_is_tried_again") else {
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
    // What the refused connections brought, nobody has seen.
    let taken = account(report, SAMPLES, &[Vec::new(), values(&events)]);
    let refused = ended.totals()["refused"];
    assert!(3 <= refused, "{refused}");
    assert!(report.connections <= refused + 1, "{report:?}");
    // Each took at most what the queue had for it, and what was sampled until it was known to be closed.
    let most = refused * (QUEUE_LEN + SEND_BUFFER_LEN / SHORTEST);
    assert!(taken[0] <= most, "{taken:?}, {refused} refused");
}

#[test]
fn a_half_open_connection_leaves_the_board_sampling_and_the_next_one_brings_the_rest() {
    const SAMPLES: u64 = 120;
    let Some(mut log) = Log::start(
        "a_half_open_connection_leaves_the_board_sampling_and_the_next_one_brings_the_rest",
    ) else {
        return;
    };
    let port = Port::reserve();
    let listener = TcpListener::bind(port.addr()).expect("it is ours");
    let board = boot(port.number(), &log, SAMPLES);
    let silent = accept(&listener);
    drop(listener);
    let mut bytes = [0; 8192];
    until("samples are waited for", || {
        3000 < silent.peek(&mut bytes).unwrap_or_default()
    });
    let len = silent.peek(&mut bytes).expect("bytes that nobody reads");
    let mut rest = &bytes[..len];
    let mut whole = 0;
    while let Some((header, behind)) = rest.split_first_chunk() {
        let len = u32::from_be_bytes(*header) as usize;
        let Some(behind) = behind.get(len..) else {
            break;
        };
        rest = behind;
        whole += 1;
    }
    // With bytes unread, this resets the connection.
    drop(silent);
    log.wait_down(1);
    let server = Server::start(&["--listen", &port.listen()]);
    let report = board.report();
    let (ended, events) = server.stop();
    assert_eq!(ended.totals()["fault"], 0);
    let connections = [Vec::new(), values(&events)];
    let taken = account(report, SAMPLES, &connections);
    assert!(whole <= taken[0], "{whole} came whole, {taken:?} are said");
    assert_in_buffers(taken[0], len as u64, &connections[1]);
}

#[test]
fn a_limit_below_its_samples_leaves_the_board_alive() {
    const SAMPLES: u64 = 90;
    let Some(mut log) = Log::start("a_limit_below_its_samples_leaves_the_board_alive") else {
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

    // Skipped, they cost nothing but themselves.
    let server = Server::start(&[&small[..], &["--reply", "receipt"]].concat());
    let report = boot(port.number(), &log, 10).report();
    // By the receipt, none of them arrived.
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

/// The next connection, in time.
#[track_caller]
fn accept(listener: &TcpListener) -> TcpStream {
    listener.set_nonblocking(true).expect("a live socket");
    let mut accepted = None;
    until("a connection is waited for", || {
        accepted = listener.accept().ok();
        accepted.is_some()
    });
    let (stream, _) = accepted.expect("waited for");
    stream.set_nonblocking(false).expect("a live socket");
    stream.set_read_timeout(Some(DEADLINE)).expect("not zero");
    stream
}

/// The next block, with its header.
fn read_block(stream: &mut TcpStream) -> Vec<u8> {
    let mut wire = vec![0; 4];
    stream.read_exact(&mut wire).expect("a header");
    let len = u32::from_be_bytes([wire[0], wire[1], wire[2], wire[3]]) as usize;
    assert!((1..1000).contains(&len), "{len} bytes");
    wire.resize(4 + len, 0);
    stream.read_exact(&mut wire[4..]).expect("a block");
    wire
}

/// Passes on three blocks, and of the next one so many bytes as `cut` says of its length. Returns both ends, and
/// how many bytes that were.
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
        daemon.write_all(&block).expect("it reads");
        bytes += block.len() - 4;
    }
    let block = read_block(&mut board);
    let cut = cut(block.len());
    daemon.write_all(&block[..cut]).expect("it reads");
    let fault = match cut {
        0 => "end have=0 want=4".to_owned(),
        1..4 => format!("header have={cut} want=4"),
        _ => format!("payload have={} want={}", cut - 4, block.len() - 4),
    };
    let told = format!("fault truncated {fault}; close eof blocks=3 bytes={bytes}");
    ([board, daemon], told)
}

/// The last two events of a connection.
#[track_caller]
fn ending(server: &mut Server, conn: u64) -> String {
    let story = server.story(conn);
    story[story.len() - 2..].join("; ")
}

#[test]
fn a_block_that_is_cut_is_told_with_its_figures_and_the_board_connects_again() {
    const SAMPLES: u64 = 120;
    let Some(log) =
        Log::start("a_block_that_is_cut_is_told_with_its_figures_and_the_board_connects_again")
    else {
        return;
    };
    let mut server = Server::start(&["--decode", "cbor"]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let board = boot(listener.local_addr().unwrap().port(), &log, SAMPLES);
    let cuts: [fn(usize) -> usize; 3] = [|_| 2, |len| len - 1, |_| 0];
    for (conn, cut) in (1..).zip(cuts) {
        let (both, told) = relay_in_part(&listener, server.addr(), cut);
        drop(both);
        assert_eq!(ending(&mut server, conn), told);
    }
    let (mut from, mut to) = (accept(&listener), server.connect());
    let relaying = thread::spawn(move || io::copy(&mut from, &mut to));
    let report = board.report();
    relaying.join().unwrap().expect("all is passed on");
    server.wait_for("close", 4);
    let (ended, events) = server.stop();
    let connections = [1, 2, 3, 4].map(|conn| {
        let own = events.iter().filter(|event| event["conn"] == conn);
        values(&own.cloned().collect::<Vec<_>>())
    });
    let taken = account(report, SAMPLES, &connections);
    // The one that was cut, at least.
    assert!(taken.iter().all(|&taken| 1 <= taken), "{taken:?}");
    assert_eq!(report.connections, 4);
    assert!(ended.stderr.contains("3 faults (3 truncated)"));
}

#[test]
fn a_board_that_is_killed_in_the_middle_of_a_block_leaves_a_truncation_with_its_figures() {
    let Some(log) = Log::start(
        "a_board_that_is_killed_in_the_middle_of_a_block_leaves_a_truncation_with_its_figures",
    ) else {
        return;
    };
    let mut server = Server::start(&["--decode", "cbor"]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let board = boot(listener.local_addr().unwrap().port(), &log, 1000);
    let ([mut from, to], told) = relay_in_part(&listener, server.addr(), |len| len / 2);
    server.wait_for("block", 3);
    board.process.signal("KILL");
    assert_eq!(board.end().code, None);
    // What it had sent by then is lost on the way.
    io::copy(&mut from, &mut io::sink()).ok();
    drop(to);
    assert_eq!(ending(&mut server, 1), told);
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
        let story = server.story(1);
        let [.., fault, close] = &story[..] else {
            panic!("{story:?}");
        };
        // Wherever that was: of a header, a block, or the end of the series.
        assert!(fault.starts_with("fault truncated "), "{fault}");
        assert!(close.starts_with("close eof blocks="), "{close}");
    }
    let (ended, events) = server.stop();
    assert_eq!(in_flight(&[values(&events)]), [0; 0]);
    let totals = ended.totals();
    assert_eq!((totals["serie"], totals["fault"]), (0, 1));
}
