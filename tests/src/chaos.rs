//! The daemon under attack: attackers driven by a seed, honest devices among them, and a check of everything at the end.

mod account;
pub mod attack;
pub mod honest;
pub mod replies;
pub mod wire;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use framing_core::AnyFraming;
use tempfile::TempDir;

pub use self::account::Report;
use self::account::{Clients, Recorded};
use self::attack::{Attacks, Tally};
use self::wire::Route;
use crate::board::ports;
use crate::framings::FRAMINGS;
use crate::pki::Fleet;
use crate::process::{DEADLINE, Server};
use crate::scrape;

/// The listener after those of [`FRAMINGS`]: like the first, but it keeps connections open after the end of a series.
const CONTINUES: &str = "blocks,after-end=continue";
/// Length of the longest message that the daemon accepts, in bytes.
const BLOCK_MAX: usize = 65_536;
/// Simultaneous connections of one attacker: more than a device may have.
const CROWD: usize = 60;
/// Number of the first device that connects again and again, and how many of these devices there are.
const VISITOR: u64 = 100;
const VISITORS: u64 = 4;
/// Number of source addresses of attackers. Their limits together exceed the limit of all connections.
const ATTACKER_ADDRESSES: u64 = 8;
/// Allowed growth of memory besides the free buffers of the pool, in kB: memory that the allocator keeps.
const GROWTH_KB: u64 = 12 << 10;
/// Lines that the daemon may log besides those at its start: in total, and for each second of the run.
const LOG_LINES: u64 = 200;
const LOG_LINES_A_SECOND: u64 = 3;

/// Arguments of the daemon.
const ARGS: [&str; 30] = [
    "--output",
    "none",
    "--metrics",
    "127.0.0.1:0",
    "--record-compression",
    "none",
    "--record-sync",
    "100",
    "--record-rotate-size",
    "4000000",
    "--max-block",
    "65536",
    "--max-skip",
    "200000",
    "--max-connections",
    "120",
    "--max-unfinished",
    "1048576",
    "--max-connections-per-device",
    "40",
    "--idle-timeout",
    "6",
    "--header-timeout",
    "3",
    "--block-timeout",
    "5",
    "--reply",
    "receipt",
    "--keepalive",
    "off",
];

/// Size of an attack.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Determines what every attacker does, and in which order.
    pub seed: u64,
    /// Duration of the attack.
    pub time: Duration,
    /// Number of simultaneous attackers.
    pub attackers: u64,
    /// Whether all listeners have TLS. Then every other attacker connects within TLS.
    pub tls: bool,
}

/// Starts a daemon, attacks it, and checks that nothing is missing.
///
/// # Panics
/// If anything is missing or wrong.
pub fn run(plan: Plan) -> Report {
    let folder = TempDir::new().expect("a folder");
    let fleet = plan.tls.then(Fleet::new);
    // Devices are known by their addresses.
    let tls = fleet.as_ref().map(|fleet| {
        let path = |name| fleet.path(name).display().to_string();
        let (cert, key) = (path("server.pem"), path("server.key"));
        format!(",tls-clients=none,tls-cert={cert},tls-key={key}")
    });
    let tls = tls.unwrap_or_default();
    let route = Route(fleet.as_ref().map(|fleet| fleet.client(None)));
    let listens = FRAMINGS.iter().copied().chain([CONTINUES]);
    let listens: Vec<_> = listens
        .map(|listener| format!("127.0.0.1:0,framing={listener}{tls}"))
        .collect();
    let mut args: Vec<&str> = listens
        .iter()
        .flat_map(|listen| ["--listen", listen])
        .collect();
    args.extend(ARGS);
    args.extend(["--record", folder.path().to_str().expect("a path")]);
    let daemon = Daemon::start(&args);
    let framings = FRAMINGS.iter().chain(FRAMINGS.first());
    let framings = framings.map(|spec| spec.parse().expect("a framing"));
    let clients = attack(plan, &route, &daemon, framings.collect());
    daemon.end(plan, &clients, folder.path())
}

/// Starts all clients, and waits until they have ended.
fn attack(plan: Plan, route: &Route, daemon: &Daemon, framings: Vec<AnyFraming>) -> Clients {
    let (attacked, done) = (&AtomicBool::new(false), &AtomicBool::new(false));
    let (tally, ports) = (&Tally::default(), &daemon.ports);
    let at = |index: usize| SocketAddr::from((Ipv4Addr::LOCALHOST, ports[index]));
    thread::scope(|scope| {
        // Ends all threads if anything fails.
        let _enough = [Raised(attacked), Raised(done)];
        let device = |(index, framing): (usize, &AnyFraming)| {
            let (framing, number, to) = (*framing, index as u64, at(index));
            let from = address(1, number);
            scope.spawn(move || honest::device(framing, number, from, (to, route), plan.seed, done))
        };
        let devices: Vec<_> = framings.iter().enumerate().map(device).collect();
        daemon.wait("blocksd_connections", devices.len() as u64);
        // Time for a few group commits and rotations, so that one-time allocations have happened.
        thread::sleep(Duration::from_secs(2));
        let before = daemon.held();
        let visitor = |visitor| {
            let (from, to) = (address(2, visitor), at(0));
            let number = VISITOR + visitor;
            scope.spawn(move || {
                honest::visitor(number, from, (to, route), plan.seed, attacked, tally)
            })
        };
        let visitors: Vec<_> = (0..VISITORS).map(visitor).collect();
        let attacker = |attacker| {
            let attacks = Attacks::new(plan.seed, attacker, &framings, BLOCK_MAX, CROWD);
            let from = address(3, attacker % ATTACKER_ADDRESSES);
            let plain = Route::default();
            let route = if attacker % 2 == 0 {
                plain
            } else {
                route.clone()
            };
            scope.spawn(move || {
                for attack in attacks {
                    if attacked.load(Ordering::Relaxed) {
                        break;
                    }
                    attack.launch((from, &route), ports, attacked, tally);
                }
            })
        };
        let attackers: Vec<_> = (0..plan.attackers).map(attacker).collect();
        let most = daemon.watch(plan.time);
        attacked.store(true, Ordering::Relaxed);
        let visits = join(visitors);
        join(attackers);
        // Once the last attacker has timed out, only honest devices are left, and the state is as before.
        daemon.wait("blocksd_connections", devices.len() as u64);
        let after = daemon.settle(before);
        done.store(true, Ordering::Relaxed);
        let sent = join(devices);
        Clients {
            framings: framings.clone(),
            attacks: tally.attacks(),
            connected: tally.connected.load(Ordering::Relaxed) + sent.len() as u64,
            sent,
            visits,
            resident_kb: [before.resident_kb, most.0, after.resident_kb],
            kept_kb: [before.kept_kb, after.kept_kb],
            descriptors: [before.descriptors, most.1, after.descriptors],
        }
    })
}

/// Sets a flag when it is dropped.
struct Raised<'a>(&'a AtomicBool);

impl Drop for Raised<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Loopback address number `host` of this kind of client.
fn address(kind: u8, host: u64) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, kind, u8::try_from(host + 1).expect("few"))
}

fn join<T>(threads: Vec<ScopedJoinHandle<'_, T>>) -> Vec<T> {
    let joined = threads.into_iter().map(ScopedJoinHandle::join);
    joined.map(|ended| ended.expect("no panic")).collect()
}

/// Resources that the daemon holds.
#[derive(Clone, Copy, Debug)]
struct Held {
    resident_kb: u64,
    /// Memory in free buffers of the pool, a part of `resident_kb`.
    kept_kb: u64,
    descriptors: usize,
}

struct Daemon {
    server: Server,
    ports: Vec<u16>,
    metrics: SocketAddr,
    begun: Instant,
}

impl Daemon {
    fn start(args: &[&str]) -> Self {
        let server = Server::start(args);
        Self {
            ports: ports(&server),
            metrics: scrape::addr(&server),
            server,
            begun: Instant::now(),
        }
    }

    fn samples(&self) -> BTreeMap<String, f64> {
        scrape::samples(&scrape::get(self.metrics, "/metrics").body)
    }

    #[track_caller]
    fn wait(&self, metric: &str, value: u64) {
        let until = Instant::now() + DEADLINE;
        loop {
            let now = self.samples()[metric] as u64;
            if now == value {
                return;
            }
            assert!(Instant::now() < until, "{metric} is {now}, not {value}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn resident_kb(&self) -> u64 {
        self.server.process.memory_kb("VmRSS")
    }

    fn descriptors(&self) -> usize {
        let entries = std::fs::read_dir(format!("/proc/{}/fd", self.server.process.id()));
        entries.expect("the daemon runs").count()
    }

    /// Highest use of memory and descriptors during this time.
    fn watch(&self, time: Duration) -> (u64, usize) {
        let until = Instant::now() + time;
        let mut most = (0, 0);
        while Instant::now() < until {
            most.0 = most.0.max(self.resident_kb());
            most.1 = most.1.max(self.descriptors());
            thread::sleep(Duration::from_millis(100));
        }
        most
    }

    fn held(&self) -> Held {
        Held {
            resident_kb: self.resident_kb(),
            kept_kb: self.samples()["blocksd_pool_idle_bytes"] as u64 >> 10,
            descriptors: self.descriptors(),
        }
    }

    /// Waits until the resources are back to `before`, after all attackers have gone.
    #[track_caller]
    fn settle(&self, before: Held) -> Held {
        let until = Instant::now() + DEADLINE;
        loop {
            let after = self.held();
            let kept_kb = after.kept_kb.saturating_sub(before.kept_kb);
            // Retried, since a rotation holds two files open for a moment.
            if after.resident_kb <= before.resident_kb + kept_kb + GROWTH_KB
                && after.descriptors <= before.descriptors
            {
                return after;
            }
            let state = format!("{before:?} before, {after:?} after");
            assert!(Instant::now() < until, "{state}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Stops the daemon, and compares the counts of all parties.
    fn end(self, plan: Plan, clients: &Clients, folder: &Path) -> Report {
        self.wait("blocksd_connections", 0);
        // Waits until the recording has caught up.
        let blocks = self.samples()["blocksd_blocks_total"] as u64;
        self.wait("blocksd_record_messages_synced_total", blocks);
        let samples = self.samples();
        let begun = Instant::now();
        let (ended, _) = self.server.stop();
        let stopped_in = begun.elapsed();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let lines = ended.stderr.lines().count() as u64;
        let most = LOG_LINES + LOG_LINES_A_SECOND * self.begun.elapsed().as_secs();
        assert!(lines <= most, "{lines} log lines: {}", ended.stderr);
        let recorded = Recorded::read(folder, clients);
        let totals = ended.totals();
        account::settle(plan, &samples, &totals, clients, &recorded, stopped_in)
    }
}
