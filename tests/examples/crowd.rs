//! Measures the daemon with many devices at once: `cargo run --release -p blocksd-tests --example crowd -- WHAT`.
//! Build the daemon first: `cargo build --release`.
//!
//! `idle`: resident memory per connection, for 10,000 idle ones. `opens`: a thousand new connections a second for a minute.
//! `flood`: processor time per block. `fair`: delays of the blocks of a thousand slow devices, with a fast one at the same time.
//! `BLOCKSD=PATH` in the environment measures another binary than the one built from this source. The results are in
//! `docs/measurements/connections.md`.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use blocksd_tests::process::{Process, Server, blocksd};

/// Number of idle connections.
const CROWD: usize = 10_000;
/// Connections from one loopback address, which has about 28,000 ports.
const AN_ADDRESS: usize = 10_000;
/// Pause before the daemon is measured.
const SETTLE: Duration = Duration::from_secs(2);

fn main() {
    rlimit::increase_nofile_limit(u64::MAX).expect("the limit of descriptors can be raised");
    let words: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default: usize| {
        words
            .get(at)
            .map_or(default, |word| word.parse().expect("a number"))
    };
    match words.first().map(String::as_str) {
        Some("idle") => idle(number(1, CROWD)),
        Some("opens") => opens(number(1, 60), number(2, 1000)),
        Some("flood") => flood(number(1, 1), number(2, 64), number(3, 10)),
        Some("fair") => fair(number(1, 1000), number(2, 20)),
        _ => println!(
            "idle [CONNECTIONS] | opens [SECONDS] [A_SECOND] | flood [CONNECTIONS] [BYTES] [SECONDS] | fair [SLOW] [SECONDS]"
        ),
    }
}

/// Measures memory per connection, in each state in which a connection can wait.
fn idle(count: usize) {
    let timeouts = ["--idle-timeout", "3600"];
    let block = b"\0\0\0\x05hello".as_slice();
    for (state, args, sent) in [
        ("just opened", &[][..], &b""[..]),
        ("after a block", &[], block),
        ("after half a header", &[], &block[..2]),
        ("after half a block", &[], &block[..6]),
        ("just opened, with --idle-timeout", &timeouts, b""),
        ("after a block, with --idle-timeout", &timeouts, block),
    ] {
        let daemon = Daemon::start(args);
        thread::sleep(SETTLE);
        let before = daemon.resident();
        let mut devices = Vec::with_capacity(count);
        for number in 0..count {
            let mut device = daemon.connect(number);
            device
                .write_all(sent)
                .expect("the socket takes a few bytes");
            devices.push(device);
        }
        daemon.wait_for_descriptors(count);
        thread::sleep(SETTLE);
        let bytes = daemon.resident().saturating_sub(before) * 1024;
        println!(
            "{state}: {} bytes a connection ({count} of them, {before} kB before)",
            bytes / count as u64
        );
    }
}

/// Opens `a_second` connections a second, each of which sends one series of one block.
fn opens(seconds: usize, a_second: usize) {
    let daemon = Daemon::start(&[]);
    let (descriptors, resident) = (daemon.descriptors(), daemon.resident());
    let begun = Instant::now();
    let count = seconds * a_second;
    let mut latest = Duration::ZERO;
    for number in 0..count {
        let due = Duration::from_secs_f64(number as f64 / a_second as f64);
        thread::sleep(due.saturating_sub(begun.elapsed()));
        latest = latest.max(begun.elapsed().saturating_sub(due));
        let mut device = daemon.connect(number);
        device
            .write_all(b"\0\0\0\x05hello\0\0\0\0")
            .expect("the socket takes a few bytes");
    }
    let took = begun.elapsed();
    thread::sleep(SETTLE);
    println!(
        "{count} opened in {:.1} s, at most {:.0} ms late; descriptors {descriptors} before, {} after; kB resident {resident} before, {} after",
        took.as_secs_f64(),
        latest.as_secs_f64() * 1e3,
        daemon.descriptors(),
        daemon.resident(),
    );
    println!("{}", daemon.stop());
}

/// Sends blocks of `bytes` bytes on each connection as fast as the daemon reads them.
fn flood(connections: usize, bytes: usize, seconds: usize) {
    let daemon = Daemon::start(&[]);
    let enough = AtomicBool::new(false);
    let wire = blocks(bytes);
    let begun = Instant::now();
    thread::scope(|scope| {
        for number in 0..connections {
            let (daemon, wire, enough) = (&daemon, &wire, &enough);
            scope.spawn(move || {
                let mut device = daemon.connect(number);
                while !enough.load(Ordering::Relaxed) {
                    device.write_all(wire).expect("the daemon reads");
                }
            });
        }
        thread::sleep(Duration::from_secs(seconds as u64));
        enough.store(true, Ordering::Relaxed);
    });
    thread::sleep(SETTLE);
    let (took, ticks) = (begun.elapsed() - SETTLE, daemon.ticks());
    let totals = daemon.stop();
    let blocks = totals
        .split(", ")
        .find_map(|part| part.strip_suffix(" blocks"));
    let blocks: f64 = blocks
        .expect("blocks in the totals")
        .parse()
        .expect("a number");
    println!(
        "{connections} connections, {bytes} bytes a block: {:.0} blocks a second, {:.1} ns of processor time a block",
        blocks / took.as_secs_f64(),
        // A clock tick is a hundredth of a second.
        ticks as f64 * 1e7 / blocks,
    );
}

/// Measures the delay from sending a block to the daemon's time of receipt, for slow devices with and without a fast one.
fn fair(slow: usize, seconds: usize) {
    for (title, fast) in [("alone", false), ("beside a fast one", true)] {
        let mut delays = fair_run(slow, seconds, fast);
        delays.sort_unstable();
        let at = |percent: f64| {
            let index = (delays.len() as f64 * percent / 100.0) as usize;
            delays[index.min(delays.len() - 1)] as f64 / 1e6
        };
        println!(
            "{slow} slow devices {title}: {} blocks, delay in ms: median {:.2}, 90 % {:.2}, 99 % {:.2}, 99.9 % {:.2}, most {:.2}",
            delays.len(),
            at(50.0),
            at(90.0),
            at(99.0),
            at(99.9),
            at(100.0)
        );
    }
}

/// Returns the delays in nanoseconds.
fn fair_run(slow: usize, seconds: usize, fast: bool) -> Vec<u64> {
    // The slow devices send their time of sending, which distinguishes their blocks from those of the fast one.
    let args = [
        "--listen",
        "0.0.0.0:0,framing=lines",
        "--listen",
        "127.0.0.1:0",
    ];
    let daemon = Daemon::of(&args, "json");
    let enough = AtomicBool::new(false);
    let (addr, wire) = (daemon.server.addr_of("blocks"), blocks(1024));
    thread::scope(|scope| {
        if fast {
            scope.spawn(|| {
                let mut device = TcpStream::connect(addr).expect("the daemon listens");
                while !enough.load(Ordering::Relaxed) {
                    device.write_all(&wire).expect("the daemon reads");
                }
            });
        }
        let mut devices: Vec<_> = (0..slow).map(|number| daemon.connect(number)).collect();
        let begun = Instant::now();
        for number in 0..slow * seconds {
            let due = Duration::from_secs_f64(number as f64 / slow as f64);
            thread::sleep(due.saturating_sub(begun.elapsed()));
            let line = format!("sent {}\n", now_ns());
            devices[number % slow]
                .write_all(line.as_bytes())
                .expect("room");
        }
        enough.store(true, Ordering::Relaxed);
    });
    daemon.stop_and_read_delays()
}

/// A megabyte of blocks.
fn blocks(bytes: usize) -> Vec<u8> {
    let header = u32::try_from(bytes).expect("a short block").to_be_bytes();
    let block = [&header[..], &vec![b'x'; bytes]].concat();
    block.repeat((1 << 20) / block.len() + 1)
}

fn now_ns() -> u128 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.expect("a clock").as_nanos()
}

/// The measured daemon.
struct Daemon {
    server: Server,
    json: Option<thread::JoinHandle<Vec<u64>>>,
}

impl Daemon {
    fn start(args: &[&str]) -> Self {
        let listen = ["--listen", "0.0.0.0:0", "--max-connections", "100000"];
        Self::of(&[&listen, args].concat(), "none")
    }

    fn of(args: &[&str], output: &str) -> Self {
        let mut command = blocksd(&[]);
        command.arg("serve").args(args).args(["--output", output]);
        command.stdout(std::process::Stdio::piped());
        let mut process = Process::start_unread(command);
        let stdout = process.take_stdout().expect("piped");
        let json = (output == "json").then(|| thread::spawn(move || delays(stdout)));
        let server = Server::of(process, args);
        Self { server, json }
    }

    fn connect(&self, number: usize) -> TcpStream {
        let host = Ipv4Addr::new(
            127,
            0,
            0,
            1 + u8::try_from(number / AN_ADDRESS % 100).unwrap_or(0),
        );
        let addr = SocketAddr::from((host, self.server.addr().port()));
        TcpStream::connect(addr).expect("the daemon listens")
    }

    fn proc(&self, file: &str) -> String {
        format!("/proc/{}/{file}", self.server.process.id())
    }

    fn resident(&self) -> u64 {
        self.server.process.memory_kb("VmRSS")
    }

    fn descriptors(&self) -> usize {
        let entries = std::fs::read_dir(self.proc("fd"));
        entries.expect("the daemon runs").count()
    }

    fn wait_for_descriptors(&self, count: usize) {
        while self.descriptors() < count {
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Its processor time so far.
    fn ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(self.proc("stat")).expect("the daemon runs");
        let fields: Vec<_> = stat.split_whitespace().collect();
        let [user, system] = [13, 14].map(|at| fields[at].parse::<u64>().expect("ticks"));
        user + system
    }

    /// Stops it, and returns its standard error.
    fn stop(self) -> String {
        let Self { server, .. } = self;
        server.process.signal("TERM");
        let ended = server.process.end();
        let totals = ended.stderr.lines().find(|line| line.starts_with("totals"));
        totals.expect("totals").replace("totals: ", "")
    }

    fn stop_and_read_delays(mut self) -> Vec<u64> {
        let json = self.json.take().expect("JSON output was requested");
        thread::sleep(SETTLE);
        println!("{}", self.stop());
        json.join().expect("readable output")
    }
}

/// The delays of the lines of slow devices: from the time in the line to the time of its event, in nanoseconds.
fn delays(stdout: impl std::io::Read) -> Vec<u64> {
    let mut found = Vec::new();
    for line in std::io::BufRead::split(std::io::BufReader::with_capacity(1 << 20, stdout), b'\n') {
        let line = line.expect("the daemon runs");
        if !line.ends_with(b"\"}") || line.len() > 300 {
            continue;
        }
        let event: serde_json::Value = serde_json::from_slice(&line).expect("json");
        let sent = event["text"]
            .as_str()
            .and_then(|text| text.strip_prefix("sent "));
        let (Some(sent), Some(time)) = (sent, event["time"].as_str()) else {
            continue;
        };
        // Only the time of day is needed: 2026-11-23T07:52:59.042172623Z.
        let part = |from: usize, to: usize| time[from..to].parse::<u64>().expect("digits");
        let seconds = part(11, 13) * 3600 + part(14, 16) * 60 + part(17, 19);
        let fraction = format!("{:0<9}", time[20..].trim_end_matches('Z'));
        let received = seconds * 1_000_000_000 + fraction.parse::<u64>().expect("digits");
        let sent = sent.parse::<u128>().expect("digits") % 86_400_000_000_000;
        found.push(received.saturating_sub(u64::try_from(sent).expect("less than a day")));
    }
    found
}
