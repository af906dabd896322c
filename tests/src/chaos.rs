//! The daemon under fire: attackers by a seed, honest devices beside them, and an account of everything at the end.

pub mod attack;
pub mod honest;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use framing_core::AnyFraming;
use mcap::MessageStream;
use mcap::read::Options;
use serde_json::Value;
use tempfile::TempDir;

use self::attack::{Attacks, Kind, Tally};
use self::honest::{Visits, message};
use crate::board::ports;
use crate::process::{DEADLINE, Server};
use crate::recorded::{number, sealed};
use crate::scrape;

/// The listeners; the last is like the first, and goes on behind the end of a series.
const LISTENERS: [&str; 16] = [
    "blocks",
    "stream",
    "fixed:16",
    "lines",
    "delimited:0d0a",
    "delimited:00",
    "cobs",
    "length:u8",
    "length:u16",
    "length:u16le",
    "length:u32",
    "length:u32le",
    "length:varint",
    "netstring",
    "octet-counted",
    "blocks,after-end=continue",
];
/// Longest message that the daemon takes, in bytes.
const BLOCK_MAX: usize = 65_536;
/// Connections of one attacker at once: more than a device may have.
const CROWD: usize = 60;
/// Devices that come again and again.
const VISITORS: u64 = 4;
/// Addresses of attackers; together they may have more connections than there are places.
const ATTACKER_ADDRESSES: u64 = 8;
/// Memory that may be taken and kept: the pool's 16 MiB, and what the allocator holds beside it, in kB.
const GROWTH_KB: u64 = 32 << 10;

/// How the daemon is started.
const ARGS: [&str; 28] = [
    "--output",
    "none",
    "--metrics",
    "127.0.0.1:0",
    "--record-compression",
    "none",
    "--record-sync-ms",
    "100",
    "--record-rotate-bytes",
    "4000000",
    "--max-block",
    "65536",
    "--max-skip",
    "200000",
    "--max-connections",
    "120",
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

/// How much of it there is to be.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Decides what every attacker does, and in which order.
    pub seed: u64,
    /// How long.
    pub time: Duration,
    /// How many attackers at once.
    pub attackers: u64,
}

/// What came of it. It is there only if nothing was wrong.
#[derive(Debug)]
pub struct Report {
    plan: Plan,
    attacks: Vec<(Kind, u64)>,
    connected: u64,
    refused: u64,
    refused_full: u64,
    accepted: u64,
    honest_blocks: u64,
    visits: u64,
    visits_refused: u64,
    blocks: u64,
    faults: u64,
    closed: Vec<(String, u64)>,
    files: usize,
    resident_kb: [u64; 3],
    descriptors: [usize; 3],
    stopped_in: Duration,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan {
            seed,
            time,
            attackers,
        } = self.plan;
        let count: u64 = self.attacks.iter().map(|(_, count)| count).sum();
        writeln!(
            f,
            "seed {seed}, {attackers} attackers for {} s: {count} attacks",
            time.as_secs()
        )?;
        for (kind, count) in &self.attacks {
            writeln!(f, "  {count:>8} {kind:?}")?;
        }
        let (connected, accepted, refused) = (self.connected, self.accepted, self.refused);
        writeln!(
            f,
            "connections: {connected} made = {accepted} accepted + {refused} refused ({} for want of a place); closed: {}",
            self.refused_full,
            self.closed
                .iter()
                .map(|(reason, count)| format!("{count} {reason}"))
                .collect::<Vec<_>>()
                .join(", ")
        )?;
        writeln!(
            f,
            "blocks: {} recorded, {} of honest devices, each once and in order; {} faults",
            self.blocks, self.honest_blocks, self.faults
        )?;
        writeln!(
            f,
            "visits: {} with a receipt, all recorded; {} without",
            self.visits, self.visits_refused
        )?;
        let [before, most, after] = self.resident_kb;
        writeln!(
            f,
            "resident: {before} kB before, {most} at most, {after} after"
        )?;
        let [before, most, after] = self.descriptors;
        writeln!(
            f,
            "descriptors: {before} before, {most} at most, {after} after"
        )?;
        write!(
            f,
            "stopped in {:.2} s; {} files of the recording",
            self.stopped_in.as_secs_f64(),
            self.files
        )
    }
}

/// Starts a daemon, attacks it, and looks whether anything is missing.
///
/// # Panics
/// Where anything is.
pub fn run(plan: Plan) -> Report {
    let folder = TempDir::new().expect("a folder");
    let listens = LISTENERS.map(|listener| format!("127.0.0.1:0,framing={listener}"));
    let mut args: Vec<&str> = listens
        .iter()
        .flat_map(|listen| ["--listen", listen])
        .collect();
    args.extend(ARGS);
    args.extend(["--record", folder.path().to_str().expect("a path")]);
    let daemon = Daemon::start(&args);
    let framings = LISTENERS.map(|listener| {
        let spec = listener.split(',').next().unwrap_or_default();
        spec.parse::<AnyFraming>().expect("a framing")
    });
    let (tally, attacked, done) = (
        Tally::default(),
        AtomicBool::new(false),
        AtomicBool::new(false),
    );
    let account = thread::scope(|scope| {
        let at = |index: usize| SocketAddr::from((Ipv4Addr::LOCALHOST, daemon.ports[index]));
        let done = &done;
        let devices: Vec<_> = (0..)
            .zip(framings)
            .map(|(index, framing)| {
                let (number, to) = (index as u64, at(index));
                scope.spawn(move || {
                    honest::device(framing, number, address(1, number), to, plan.seed, done)
                })
            })
            .collect();
        daemon.wait("blocksd_connections", devices.len() as u64);
        // A few group commits and rotations, so that what comes once has come.
        thread::sleep(Duration::from_secs(2));
        let before = (daemon.resident_kb(), daemon.descriptors());
        let (tally, attacked, framings, ports) = (&tally, &attacked, &framings, &daemon.ports);
        let visitors: Vec<_> = (0..VISITORS)
            .map(|visitor| {
                let number = 100 + visitor;
                let (from, to) = (address(2, visitor), at(0));
                scope.spawn(move || honest::visitor(number, from, to, plan.seed, attacked, tally))
            })
            .collect();
        let attackers: Vec<_> = (0..plan.attackers)
            .map(|attacker| {
                scope.spawn(move || {
                    let attacks = Attacks::new(plan.seed, attacker, framings, BLOCK_MAX, CROWD);
                    let from = address(3, attacker % ATTACKER_ADDRESSES);
                    for attack in attacks {
                        if attacked.load(Ordering::Relaxed) {
                            break;
                        }
                        attack.launch(from, ports, attacked, tally);
                    }
                })
            })
            .collect();
        let most = daemon.watch(plan.time);
        attacked.store(true, Ordering::Relaxed);
        let visits = join(visitors);
        join(attackers);
        // Only the honest are left, once the last of the others is timed out; then all is as it was.
        daemon.wait("blocksd_connections", devices.len() as u64);
        let after = daemon.settle(before);
        done.store(true, Ordering::Relaxed);
        Account {
            resident_kb: [before.0, most.0, after.0],
            descriptors: [before.1, most.1, after.1],
            sent: join(devices),
            visits,
        }
    });
    daemon.end(plan, &tally, &framings, account, folder.path())
}

/// Address number `host` of this kind of ours.
fn address(kind: u8, host: u64) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, kind, u8::try_from(host + 1).expect("few"))
}

fn join<T>(threads: Vec<ScopedJoinHandle<'_, T>>) -> Vec<T> {
    let joined = threads.into_iter().map(ScopedJoinHandle::join);
    joined.map(|ended| ended.expect("no panic")).collect()
}

/// What the clients say, and what was measured.
struct Account {
    resident_kb: [u64; 3],
    descriptors: [usize; 3],
    sent: Vec<u64>,
    visits: Vec<Visits>,
}

struct Daemon {
    server: Server,
    ports: Vec<u16>,
    metrics: SocketAddr,
}

impl Daemon {
    fn start(args: &[&str]) -> Self {
        let server = Server::start(args);
        Self {
            ports: ports(&server),
            metrics: scrape::addr(&server),
            server,
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

    /// Most memory and descriptors in this time.
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

    /// What is held when all attackers have gone.
    #[track_caller]
    fn settle(&self, before: (u64, usize)) -> (u64, usize) {
        let until = Instant::now() + DEADLINE;
        loop {
            let after = (self.resident_kb(), self.descriptors());
            // One more for the moment of a rotation.
            if after.0 <= before.0 + GROWTH_KB && after.1 <= before.1 {
                return after;
            }
            let state = format!("memory in kB and descriptors: {before:?} before, {after:?} after");
            assert!(Instant::now() < until, "{state}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn end(
        self,
        plan: Plan,
        tally: &Tally,
        framings: &[AnyFraming],
        account: Account,
        folder: &Path,
    ) -> Report {
        self.wait("blocksd_connections", 0);
        let samples = self.samples();
        let begun = Instant::now();
        let (ended, _) = self.server.stop();
        let stopped_in = begun.elapsed();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let totals = ended.totals();
        let sum = |name: &str| -> u64 {
            let of = samples.iter().filter(|(key, _)| key.starts_with(name));
            of.map(|(_, value)| *value as u64).sum()
        };
        let closed = samples.iter().filter_map(|(key, value)| {
            let reason = key.strip_prefix("blocksd_connections_closed_total{reason=\"")?;
            Some((reason.trim_end_matches("\"}").to_owned(), *value as u64))
        });
        let read = Recorded::read(folder, framings, &account);
        let report = Report {
            plan,
            attacks: Kind::ALL
                .into_iter()
                .zip(
                    tally
                        .attacks
                        .each_ref()
                        .map(|count| count.load(Ordering::Relaxed)),
                )
                .collect(),
            connected: tally.connected.load(Ordering::Relaxed) + account.sent.len() as u64,
            refused: totals["refused"],
            refused_full: sum("blocksd_connections_refused_total{reason=\"connections_full"),
            accepted: totals["connection"],
            honest_blocks: account.sent.iter().sum(),
            visits: account.visits.iter().map(|v| v.promised.len() as u64).sum(),
            visits_refused: account.visits.iter().map(|visits| visits.refused).sum(),
            blocks: totals["block"],
            faults: totals["fault"],
            closed: closed.filter(|(_, count)| *count != 0).collect(),
            files: sealed(folder).len(),
            resident_kb: account.resident_kb,
            descriptors: account.descriptors,
            stopped_in,
        };
        let context = format!("{report}\n{read:?}\n{totals:?}");
        assert_eq!(
            report.accepted,
            sum("blocksd_connections_closed_total"),
            "{context}"
        );
        assert_eq!(
            report.connected,
            report.accepted + report.refused,
            "{context}"
        );
        assert_eq!(read.events.get("open"), Some(&report.accepted), "{context}");
        assert_eq!(
            read.events.get("close"),
            Some(&report.accepted),
            "{context}"
        );
        let event = |name| read.events.get(name).copied().unwrap_or_default();
        assert_eq!(event("end"), totals["serie"], "{context}");
        assert_eq!(event("fault"), report.faults, "{context}");
        assert_eq!(read.blocks, report.blocks, "{context}");
        assert_eq!(
            sum("blocksd_record_blocks_synced_total"),
            report.blocks,
            "{context}"
        );
        report
    }
}

/// What stands in the recording.
#[derive(Debug, Default)]
struct Recorded {
    blocks: u64,
    events: BTreeMap<String, u64>,
}

impl Recorded {
    /// Reads it, and compares it with what the honest have sent: byte by byte, once, in order.
    fn read(folder: &Path, framings: &[AnyFraming], account: &Account) -> Self {
        let mut read = Self::default();
        // How far each device has come: in messages, or in bytes where there are none.
        let mut next = vec![0; framings.len()];
        let mut visits: Vec<Vec<u64>> = vec![Vec::new(); account.visits.len()];
        for file in sealed(folder) {
            let bytes = std::fs::read(&file).expect("a file");
            let options = Options::ValidateChunkCrcs.into();
            let messages = MessageStream::new_with_options(&bytes, options).expect("a recording");
            for found in messages {
                let found = found.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
                let topic = found.channel.topic.as_str();
                if topic == "/blocksd/events" {
                    let event: Value = serde_json::from_slice(&found.data).expect("JSON");
                    let kind = event["event"].as_str().expect("an event").to_owned();
                    *read.events.entry(kind).or_default() += 1;
                    continue;
                }
                read.blocks += u64::from(topic.ends_with("/blocks"));
                let address = topic.split('/').nth(2).expect("a device");
                let address: Ipv4Addr = address.parse().expect("an address");
                let [_, _, kind, host] = address.octets();
                let index = usize::from(host) - 1;
                match kind {
                    1 => match framings[index] {
                        AnyFraming::Stream(_) => {
                            same_bytes(framings[index], &found.data, index, &mut next[index])
                        }
                        framing => {
                            let wanted = message(framing, index as u64, next[index]);
                            let n = next[index];
                            assert!(
                                found.data == wanted,
                                "device {index}, message {n}: not this one"
                            );
                            next[index] += 1;
                        }
                    },
                    2 => visits[index].push(number_of(&found.data, 100 + index as u64)),
                    _ => {}
                }
            }
        }
        for (index, sent) in account.sent.iter().enumerate() {
            let unit = match framings[index] {
                AnyFraming::Stream(_) => 16,
                _ => 1,
            };
            assert_eq!(
                next[index],
                sent * unit,
                "device {index}: the last are missing"
            );
        }
        for (numbers, visits) in visits.iter().zip(&account.visits) {
            assert!(
                numbers.is_sorted_by(|one, other| one < other),
                "twice, or out of order"
            );
            for promised in &visits.promised {
                let from = numbers.partition_point(|number| *number < promised.start);
                let kept = numbers[from..]
                    .iter()
                    .take_while(|number| promised.contains(number));
                assert!(
                    kept.copied().eq(promised.clone()),
                    "promised, and not there: {promised:?}"
                );
            }
        }
        read
    }
}

/// A piece of what a device sends that knows no messages.
fn same_bytes(framing: AnyFraming, piece: &[u8], device: usize, next: &mut u64) {
    for byte in piece {
        let wanted = message(framing, device as u64, *next / 16)[(*next % 16) as usize];
        assert_eq!(*byte, wanted, "device {device}, byte {next}");
        *next += 1;
    }
}

/// The number of a visitor's block.
#[track_caller]
fn number_of(bytes: &[u8], visitor: u64) -> u64 {
    let full = u64::from_be_bytes(*bytes.first_chunk().expect("a number"));
    let n = full & ((1 << 40) - 1);
    let whole = number(bytes).is_some() || bytes.len() == 200;
    assert!(
        full >> 40 == visitor && whole,
        "a forged block of visitor {visitor}"
    );
    n
}
