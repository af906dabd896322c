//! Devices with acknowledged sessions, the daemon's engine and a disk, in simulated time and driven by a seed: partitions,
//! kills, power failures, failed syncs, a proxy that accepts and closes, and devices that lose their ring. Start with
//! [`run`].

mod daemon;
mod device;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use turmoil::{Builder, Sim};

use crate::disk::Chance;

/// Number of devices.
const DEVICES: usize = 3;
/// Duration of one step of the simulation.
const TICK: Duration = Duration::from_millis(20);
/// Time after which no more trouble begins.
const CALM_MS: u64 = 25_000;
/// Time limit of the simulation.
const LIMIT: Duration = Duration::from_secs(240);

/// Kinds of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// All traffic of a device is delayed.
    Held(usize),
    /// All traffic of a device is lost; its connections never recover.
    Parted(usize),
    /// The traffic from the daemon to a device is lost.
    Unheard(usize),
    /// The daemon is killed. Everything that it has written survives.
    Killed,
    /// The power fails at the host: everything that is not synced is lost.
    PowerFailed,
    /// Syncs fail.
    SyncsFail,
    /// Syncs take this many milliseconds.
    SlowSyncs(u64),
    /// Connections are accepted and closed.
    Refused,
    /// A device restarts without its ring.
    Reboot(usize),
}

/// A message or a gap in the recording.
#[derive(Clone, Debug)]
struct Entry {
    device: String,
    session: u64,
    from: u64,
    to: u64,
    /// `None` for a gap.
    payload: Option<Vec<u8>>,
}

/// The recording.
#[derive(Debug, Default)]
struct Disk {
    entries: Vec<Entry>,
    /// How many of them are synced.
    synced: usize,
}

/// A message of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// In the ring.
    Held,
    /// It is acknowledged.
    Acknowledged,
    /// It was dropped by a full ring, or lost with it.
    GivenUp,
}

/// State shared by all hosts and the script.
#[derive(Default)]
struct Known {
    disk: Disk,
    lives: u64,
    syncs_fail: bool,
    sync_ms: u64,
    refuses: bool,
    chance: u64,
    /// Open connections, by device.
    links: Vec<Vec<CancellationToken>>,
    /// Asks a device to restart.
    reboots: Vec<u64>,
    /// The fate of each message of each device, by its value.
    fates: Vec<Vec<Fate>>,
    connections: u64,
    failed_syncs: u64,
}

type World = Arc<Mutex<Known>>;

/// Figures of a simulation.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Messages that were made.
    pub made: u64,
    /// Messages that were acknowledged.
    pub acknowledged: u64,
    /// Messages that were dropped, or lost with a ring.
    pub given_up: u64,
    /// Connections of all devices.
    pub connections: u64,
    /// Starts of the daemon.
    pub lives: u64,
    /// Syncs that failed.
    pub failed_syncs: u64,
}

/// Runs the simulation of a seed.
///
/// # Panics
/// If an acknowledged message is not recorded, a message or a number is recorded twice, or numbers are missing without a gap.
#[must_use]
pub fn run(seed: u64) -> Outcome {
    let mut chance = Chance(seed.wrapping_mul(0x9e6c_63d0_876a_9a47));
    let world = World::default();
    {
        let mut known = known(&world);
        known.chance = seed;
        known.links = vec![Vec::new(); DEVICES];
        known.reboots = vec![0; DEVICES];
        known.fates = vec![Vec::new(); DEVICES];
        known.sync_ms = 20;
    }
    let mut sim = Builder::new()
        .rng_seed(seed)
        .tick_duration(TICK)
        .simulation_duration(LIMIT)
        .max_message_latency(Duration::from_millis(chance.of(1..=200) as u64))
        .enable_random_order()
        .build();
    let of_daemon = Arc::clone(&world);
    sim.host("daemon", move || daemon::run(Arc::clone(&of_daemon)));
    for device in 0..DEVICES {
        let period_ms = chance.of(40..=300) as u64;
        let world = Arc::clone(&world);
        let seed = chance.of(1..=1 << 30) as u64;
        sim.client(name(device), device::run(world, device, period_ms, seed));
    }
    let mut script = Script::draw(&mut chance);
    while !sim
        .step()
        .unwrap_or_else(|error| panic!("the simulation hangs: {error}"))
    {
        script.play(&mut sim, &world);
    }
    drop(sim);
    audit(&known(&world))
}

/// Compares the fates of the messages with the recording.
fn audit(known: &Known) -> Outcome {
    let mut next: BTreeMap<(&str, u64), u64> = BTreeMap::new();
    let mut recorded: BTreeMap<(String, Vec<u8>), u64> = BTreeMap::new();
    for entry in &known.disk.entries {
        let key = (entry.device.as_str(), entry.session);
        let next = next.entry(key).or_insert(entry.from);
        assert_eq!(*next, entry.from, "a hole, or a number twice: {entry:?}");
        *next = entry.to;
        if let Some(payload) = &entry.payload {
            let key = (entry.device.clone(), payload.clone());
            *recorded.entry(key).or_default() += 1;
        }
    }
    let mut outcome = Outcome {
        connections: known.connections,
        lives: known.lives,
        failed_syncs: known.failed_syncs,
        ..Outcome::default()
    };
    for (device, fates) in known.fates.iter().enumerate() {
        let name = name(device);
        for (value, fate) in fates.iter().enumerate() {
            let times = recorded.remove(&(name.clone(), device::payload(value)));
            let times = times.unwrap_or_default();
            assert!(times <= 1, "{name}: {value} is recorded {times} times");
            outcome.made += 1;
            match fate {
                Fate::Held => panic!("{name}: {value} is neither acknowledged nor given up"),
                Fate::Acknowledged => {
                    assert_eq!(times, 1, "{name}: {value} is acknowledged, not recorded");
                    outcome.acknowledged += 1;
                }
                Fate::GivenUp => outcome.given_up += 1,
            }
        }
    }
    assert!(recorded.is_empty(), "nobody made {recorded:?}");
    outcome
}

fn name(device: usize) -> String {
    format!("device-{device}")
}

fn known(world: &World) -> MutexGuard<'_, Known> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A token for a new connection of a device, and a seed for it.
fn link(world: &World, device: usize) -> (CancellationToken, u64) {
    let token = CancellationToken::new();
    let mut known = known(world);
    known.links[device].push(token.clone());
    known.chance = known.chance.wrapping_add(1);
    (token, known.chance)
}

/// The trouble of a simulation, and its times.
struct Script {
    /// Start, end (both in milliseconds), kind, and whether it has begun and ended.
    troubles: Vec<(u64, u64, Trouble, bool, bool)>,
    /// Connections to give up, and when.
    given_up: Vec<(u64, CancellationToken)>,
    chance: Chance,
}

impl Script {
    fn draw(chance: &mut Chance) -> Self {
        let mut troubles: Vec<(u64, u64, Trouble, bool, bool)> = Vec::new();
        for _ in 0..chance.of(3..=12) {
            let device = chance.of(0..=DEVICES - 1);
            let trouble = match chance.of(0..=9) {
                0 => Trouble::Held(device),
                1 => Trouble::Parted(device),
                2 => Trouble::Unheard(device),
                3 | 4 => Trouble::Killed,
                5 => Trouble::PowerFailed,
                6 => Trouble::SyncsFail,
                7 => Trouble::SlowSyncs(chance.of(100..=2_000) as u64),
                8 => Trouble::Refused,
                _ => Trouble::Reboot(device),
            };
            let from = chance.of(100..=CALM_MS as usize - 100) as u64;
            let until = (from + chance.of(20..=5_000) as u64).min(CALM_MS);
            // The end of one trouble of the network, or of the host, would end the other.
            let group = |trouble| match trouble {
                Trouble::Held(_) | Trouble::Parted(_) | Trouble::Unheard(_) => 1,
                Trouble::Killed | Trouble::PowerFailed => 2,
                Trouble::SyncsFail => 3,
                Trouble::SlowSyncs(_) => 4,
                Trouble::Refused => 5,
                Trouble::Reboot(_) => 6,
            };
            let is_free = |(begun, ended, other, ..): &(u64, u64, Trouble, bool, bool)| {
                group(*other) != group(trouble) || *ended + 40 < from || until + 40 < *begun
            };
            if troubles.iter().all(is_free) {
                troubles.push((from, until, trouble, false, false));
            }
        }
        Self {
            troubles,
            given_up: Vec::new(),
            chance: Chance(chance.of(0..=usize::MAX - 1) as u64),
        }
    }

    fn play(&mut self, sim: &mut Sim<'_>, world: &World) {
        let now = sim.elapsed().as_millis() as u64;
        for index in 0..self.troubles.len() {
            let (from, until, trouble, has_begun, has_ended) = self.troubles[index];
            if from <= now && !has_begun {
                self.troubles[index].3 = true;
                begin(trouble, sim, world);
            }
            if until <= now && !has_ended {
                self.troubles[index].4 = true;
                self.end(now, trouble, sim, world);
            }
        }
        self.given_up.retain(|(at, link)| {
            if *at <= now {
                link.cancel();
            }
            now < *at
        });
    }

    fn end(&mut self, now: u64, trouble: Trouble, sim: &mut Sim<'_>, world: &World) {
        match trouble {
            Trouble::Held(device) => sim.release("daemon", name(device)),
            Trouble::Parted(device) | Trouble::Unheard(device) => {
                sim.repair("daemon", name(device));
                // Unlike TCP, the simulation does not retransmit: each side notices the loss at a random time.
                for link in std::mem::take(&mut known(world).links[device]) {
                    let at = now + self.chance.of(0..=6_000) as u64;
                    self.given_up.push((at, link));
                }
            }
            Trouble::Killed | Trouble::PowerFailed => sim.bounce("daemon"),
            Trouble::SyncsFail => known(world).syncs_fail = false,
            Trouble::SlowSyncs(_) => known(world).sync_ms = 20,
            Trouble::Refused => known(world).refuses = false,
            Trouble::Reboot(_) => {}
        }
    }
}

fn begin(trouble: Trouble, sim: &mut Sim<'_>, world: &World) {
    match trouble {
        Trouble::Held(device) => sim.hold("daemon", name(device)),
        Trouble::Parted(device) => sim.partition("daemon", name(device)),
        Trouble::Unheard(device) => sim.partition_oneway("daemon", name(device)),
        Trouble::Killed => sim.crash("daemon"),
        Trouble::PowerFailed => {
            sim.crash("daemon");
            let mut known = known(world);
            let synced = known.disk.synced;
            known.disk.entries.truncate(synced);
        }
        Trouble::SyncsFail => known(world).syncs_fail = true,
        Trouble::SlowSyncs(ms) => known(world).sync_ms = ms,
        Trouble::Refused => known(world).refuses = true,
        Trouble::Reboot(device) => known(world).reboots[device] += 1,
    }
}
