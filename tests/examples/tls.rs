//! Measures TLS: `cargo run --release -p blocksd-tests --example tls -- WHAT`. Build the daemon first: `cargo build --release`.
//!
//! `idle [N]`: resident memory for each of 10,000 idle connections. `opens [SECONDS] [A_SECOND]`: a thousand handshakes a
//! second. `stampede [N]`: 10,000 devices that connect at once. `rate [SECONDS]`: processor time of the daemon for a message,
//! plain, with TLS, and behind stunnel (`STUNNEL=PATH`). `BLOCKSD=PATH` measures another binary. The results are in
//! `docs/measurements/tls.md`.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use blocksd_tests::pki::{Fleet, secure};
use blocksd_tests::process::{Process, Server, blocksd};
use rustls::ClientConfig;

/// Connections from one loopback address, which has about 28,000 ports.
const AN_ADDRESS: usize = 10_000;
/// Pause before the daemon is measured.
const SETTLE: Duration = Duration::from_secs(2);
const BLOCK: &[u8] = b"\0\0\0\x05hello";

fn main() {
    rlimit::increase_nofile_limit(u64::MAX).expect("the limit of descriptors can be raised");
    let words: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default: usize| {
        words
            .get(at)
            .map_or(default, |word| word.parse().expect("a number"))
    };
    match words.first().map(String::as_str) {
        Some("idle") => idle(number(1, 10_000)),
        Some("opens") => opens(number(1, 30), number(2, 1000)),
        Some("stampede") => stampede(number(1, 10_000)),
        Some("rate") => rate(number(1, 5)),
        _ => println!("idle [N] | opens [SECONDS] [A_SECOND] | stampede [N] | rate [SECONDS]"),
    }
}

/// Measures memory for a connection.
fn idle(count: usize) {
    let fleet = Fleet::new();
    for state in ["just opened", "after a block", "after half a record"] {
        let daemon = Daemon::start(&fleet);
        // The first connection makes what all share.
        let first = daemon.open(0);
        thread::sleep(SETTLE);
        let before = daemon.server.process.memory_kb("VmRSS");
        let mut devices = Vec::with_capacity(count);
        for number in 0..count {
            let mut device = daemon.open(number);
            match state {
                "after a block" => {
                    device.write_all(BLOCK).expect("room");
                    device.flush().expect("room");
                }
                "after half a record" => {
                    device.conn.writer().write_all(BLOCK).expect("room");
                    let mut record = Vec::new();
                    device.conn.write_tls(&mut record).expect("memory");
                    device
                        .sock
                        .write_all(&record[..record.len() / 2])
                        .expect("room");
                }
                _ => {}
            }
            devices.push(device);
        }
        thread::sleep(SETTLE);
        let bytes = daemon
            .server
            .process
            .memory_kb("VmRSS")
            .saturating_sub(before)
            * 1024;
        println!(
            "{state}: {} bytes a connection ({count} of them, {before} kB before)",
            bytes / count as u64
        );
        drop((first, devices));
    }
}

/// Opens `a_second` connections a second on one thread, each of which sends one series of one block.
fn opens(seconds: usize, a_second: usize) {
    let fleet = Fleet::new();
    let daemon = Daemon::start(&fleet);
    let (before, begun) = (daemon.ticks(), Instant::now());
    let (count, mut latest) = (seconds * a_second, Duration::ZERO);
    for number in 0..count {
        let due = Duration::from_secs_f64(number as f64 / a_second as f64);
        thread::sleep(due.saturating_sub(begun.elapsed()));
        latest = latest.max(begun.elapsed().saturating_sub(due));
        let mut device = daemon.open(number);
        device.write_all(BLOCK).expect("room");
        device.write_all(&[0; 4]).expect("room");
        device.flush().expect("room");
    }
    let took = begun.elapsed();
    thread::sleep(SETTLE);
    println!(
        "{count} handshakes in {:.1} s, at most {:.0} ms late, {:.0} µs of the daemon's processor time each",
        took.as_secs_f64(),
        latest.as_secs_f64() * 1e3,
        (daemon.ticks() - before) as f64 * 1e4 / count as f64,
    );
    println!("{}", daemon.stop());
}

/// Connects `count` devices at once, and waits until each has its connection.
fn stampede(count: usize) {
    let fleet = Fleet::new();
    let daemon = Daemon::start(&fleet);
    let sockets: Vec<_> = (0..count).map(|number| daemon.connect(number)).collect();
    thread::sleep(SETTLE);
    let (before, begun) = (daemon.ticks(), Instant::now());
    let resident = daemon.server.process.memory_kb("VmRSS");
    let done = AtomicUsize::new(0);
    let failed = AtomicUsize::new(0);
    let mut sockets = sockets;
    let many: Vec<Vec<TcpStream>> = std::iter::from_fn(|| {
        let rest = sockets.len().saturating_sub(count / 64 + 1);
        (!sockets.is_empty()).then(|| sockets.split_off(rest))
    })
    .collect();
    let mut devices = Vec::new();
    thread::scope(|scope| {
        let threads: Vec<_> = many
            .into_iter()
            .map(|sockets| {
                let (daemon, done, failed) = (&daemon, &done, &failed);
                scope.spawn(move || {
                    let mut open = Vec::new();
                    for socket in sockets {
                        match secure(&daemon.client, socket) {
                            Ok(mut device) => {
                                // In TLS 1.3, the answer shows that the daemon has accepted the certificate.
                                device.write_all(BLOCK).expect("room");
                                device.flush().expect("room");
                                done.fetch_add(1, Ordering::Relaxed);
                                open.push(device);
                            }
                            Err(_) => {
                                failed.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                    }
                    open
                })
            })
            .collect();
        for thread in threads {
            devices.extend(thread.join().expect("no panic"));
        }
    });
    let took = begun.elapsed();
    thread::sleep(SETTLE);
    println!(
        "{} of {count} devices connected in {:.1} s, {} failed; {:.1} s of the daemon's processor time; at most {} kB resident, {resident} before",
        done.load(Ordering::Relaxed),
        took.as_secs_f64(),
        failed.load(Ordering::Relaxed),
        (daemon.ticks() - before) as f64 / 100.0,
        daemon.server.process.memory_kb("VmHWM"),
    );
    drop(devices);
    println!("{}", daemon.stop());
}

/// Measures the processor time for a message.
fn rate(seconds: usize) {
    let fleet = Fleet::new();
    let stunnel = std::env::var("STUNNEL").ok();
    for bytes in [64, 1024] {
        for record in [bytes + 4, 16 << 10] {
            let title = match record {
                16384 => "records of 16 KiB",
                _ => "a record a message",
            };
            println!("{bytes} bytes, {title}:");
            for way in ["plain", "TLS", "stunnel"] {
                let through = (way == "stunnel").then(|| stunnel.clone());
                if through == Some(None) {
                    continue;
                }
                let daemon = match way {
                    "TLS" => Daemon::start(&fleet),
                    _ => Daemon::plain(&fleet),
                };
                let proxy = through
                    .flatten()
                    .map(|path| Stunnel::start(&path, &fleet, &daemon));
                flood(&daemon, proxy.as_ref(), (bytes, record), seconds, way);
            }
        }
    }
}

fn flood(
    daemon: &Daemon,
    proxy: Option<&Stunnel>,
    (bytes, record): (usize, usize),
    seconds: usize,
    way: &str,
) {
    let header = u32::try_from(bytes).expect("short").to_be_bytes();
    let message = [&header[..], &vec![b'x'; bytes]].concat();
    let wire = message.repeat((16 << 10) / message.len() * 64);
    let enough = AtomicBool::new(false);
    let sent = AtomicUsize::new(0);
    let ticks = || daemon.ticks() + proxy.map_or(0, |proxy| ticks_of(proxy.process.id()));
    let (before, begun) = (ticks(), Instant::now());
    thread::scope(|scope| {
        scope.spawn(|| {
            let address = proxy.map_or_else(|| daemon.server.addr(), |proxy| proxy.address);
            let socket = TcpStream::connect(address).expect("it listens");
            let mut device: Box<dyn Write> = match way {
                "plain" => Box::new(socket),
                _ => Box::new(secure(&daemon.client, socket).expect("a handshake")),
            };
            while !enough.load(Ordering::Relaxed) {
                for part in wire.chunks(record) {
                    if device.write_all(part).is_err() {
                        return;
                    }
                }
                sent.fetch_add(wire.len() / message.len(), Ordering::Relaxed);
            }
        });
        thread::sleep(Duration::from_secs(seconds as u64));
        enough.store(true, Ordering::Relaxed);
    });
    let took = begun.elapsed();
    thread::sleep(Duration::from_millis(500));
    let (used, count) = (ticks() - before, sent.load(Ordering::Relaxed) as f64);
    println!(
        "  {way:8} {:9.0} messages a second, {:7.1} ns of processor time a message",
        count / took.as_secs_f64(),
        used as f64 * 1e7 / count
    );
}

/// stunnel in front of a plain daemon.
struct Stunnel {
    process: Process,
    address: SocketAddr,
}

impl Stunnel {
    fn start(path: &str, fleet: &Fleet, daemon: &Daemon) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr());
        let address = port.expect("a free port");
        let file = |name: &str| fleet.path(name).display().to_string();
        let text = format!(
            "foreground = yes\npid =\n[blocks]\naccept = {address}\nconnect = {}\ncert = {}\nkey = {}\nCAfile = {}\nverifyChain = yes\n",
            daemon.server.addr(),
            file("server.pem"),
            file("server.key"),
            file("ca.pem"),
        );
        fleet.write("stunnel.conf", &text);
        let mut command = Command::new(path);
        command.arg(fleet.path("stunnel.conf"));
        let process = Process::start(command);
        while TcpStream::connect(address).is_err() {
            thread::sleep(Duration::from_millis(10));
        }
        Self { process, address }
    }
}

/// The measured daemon.
struct Daemon {
    server: Server,
    client: Arc<ClientConfig>,
}

impl Daemon {
    fn start(fleet: &Fleet) -> Self {
        Self::of(fleet, &fleet.listen("0.0.0.0:0", ""))
    }

    fn plain(fleet: &Fleet) -> Self {
        Self::of(fleet, "0.0.0.0:0")
    }

    fn of(fleet: &Fleet, listen: &str) -> Self {
        fleet.device("pump-7");
        let mut client = Arc::unwrap_or_clone(fleet.client(Some("pump-7")));
        // Each handshake is a full one.
        client.resumption = rustls::client::Resumption::disabled();
        let args = ["--listen", listen, "--output", "none"];
        let mut command = blocksd(&["serve", "--max-connections", "100000"]);
        command.args(args);
        let server = Server::of(Process::start(command), &args);
        let client = Arc::new(client);
        Self { server, client }
    }

    fn connect(&self, number: usize) -> TcpStream {
        let host = 1 + u8::try_from(number / AN_ADDRESS % 100).unwrap_or(0);
        let host = Ipv4Addr::new(127, 0, 0, host);
        let address = SocketAddr::from((host, self.server.addr().port()));
        TcpStream::connect(address).expect("the daemon listens")
    }

    fn open(&self, number: usize) -> blocksd_tests::pki::TlsDevice {
        secure(&self.client, self.connect(number)).expect("a handshake")
    }

    fn ticks(&self) -> u64 {
        ticks_of(self.server.process.id())
    }

    fn stop(self) -> String {
        self.server.process.signal("TERM");
        let ended = self.server.process.end();
        let totals = ended.stderr.lines().find(|line| line.starts_with("totals"));
        totals.expect("totals").replace("totals: ", "")
    }
}

/// The processor time of a process so far, in hundredths of a second.
fn ticks_of(id: u32) -> u64 {
    let mut stat = String::new();
    let mut file = std::fs::File::open(format!("/proc/{id}/stat")).expect("it runs");
    file.read_to_string(&mut stat).expect("it runs");
    let fields: Vec<_> = stat.split_whitespace().collect();
    let [user, system] = [13, 14].map(|at| fields[at].parse::<u64>().expect("ticks"));
    user + system
}
