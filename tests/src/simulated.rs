//! A network, its devices and the daemon, all in simulated time and drawn by a seed: the firmware's application at one
//! end, the daemon's own `serve` at the other, and partitions, delays and restarts between them.

mod account;
mod hosts;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use blocksd_engine::EngineHandle;
use blocksd_engine::reason::CloseReason;
use firmware_example::Report;
use tokio_util::sync::CancellationToken;
use turmoil::{Builder, Sim};

use crate::disk::Chance;

/// How many devices there are.
pub const DEVICES: usize = 3;
/// One step of the simulation.
const TICK: Duration = Duration::from_millis(20);
/// From then on nothing goes wrong any more.
const CALM_MS: u64 = 30_000;
/// How long after it the devices go on sampling: longer than any time-out and any back-off, one after the other.
const AFTER_MS: u64 = 40_000;
/// What takes longer than this hangs.
const LIMIT: Duration = Duration::from_secs(180);
/// How long the daemon may take, after the last device, to be rid of all connections: longer than its time-outs.
const RID_MS: u64 = 15_000;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// What a device and the daemon send each other comes later, by so long: TCP bridges it.
    Held(usize),
    /// It is lost, in both directions, or in one; the connections of that time never recover.
    Parted(usize, Direction),
    /// The daemon is killed.
    Crash,
    /// The daemon is told to stop.
    Stop,
    /// Whoever takes the daemon's events is slow: it must hold the devices back.
    Slow,
    /// Every message takes up to so many milliseconds.
    Latency(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Both,
    ToDaemon,
    ToDevice,
}

/// What the daemon has told of one connection.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Number and count of lost ones, of each sample.
    pub samples: Vec<(u64, u64)>,
    /// Whether the series was ended.
    pub ended: bool,
    /// Faults.
    pub faults: u64,
    /// Blocks by the daemon's own count, and why it was closed; none where the daemon was killed before.
    pub closed: Option<(u64, CloseReason)>,
}

/// The daemon's connections, by device, and then by the daemon's life and number in it.
pub type Story = BTreeMap<String, BTreeMap<(u64, u64), Told>>;

/// What is known from outside of all hosts.
#[derive(Default)]
struct Known {
    story: Story,
    /// The daemon's lives so far, and the engine of the present one.
    lives: u64,
    engine: Option<EngineHandle>,
    /// How long the daemon is to stay away when it was stopped.
    away_ms: u64,
    /// How long who takes the events may sleep between two of them.
    slow_ms: u64,
    chance: u64,
    /// Connections, by device: cancelled, the system gives them up.
    links: Vec<Vec<CancellationToken>>,
    reports: BTreeMap<usize, Report>,
}

type World = Arc<Mutex<Known>>;

/// What became of a simulation.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What the daemon told.
    pub story: Story,
    /// What each device reports.
    pub reports: Vec<Report>,
    /// How often the daemon was started.
    pub lives: u64,
    /// Blocks that the daemon has told.
    pub blocks: u64,
    /// Blocks that a connection took and that never came.
    pub in_flight: u64,
    /// Simulated time.
    pub took: Duration,
}

/// Runs the simulation of a seed.
///
/// # Panics
/// Where a property does not hold: see the module `account`.
pub fn run(seed: u64) -> Outcome {
    let mut chance = Chance(seed.wrapping_mul(0x9e6c_63d0_876a_9a47));
    let world = World::default();
    known(&world).chance = seed;
    known(&world).links = vec![Vec::new(); DEVICES];
    let mut sim = Builder::new()
        .rng_seed(seed)
        .tick_duration(TICK)
        .simulation_duration(LIMIT)
        .max_message_latency(Duration::from_millis(chance.of(1..=200) as u64))
        .enable_random_order()
        .build();
    let of_daemon = Arc::clone(&world);
    sim.host("daemon", move || hosts::daemon(Arc::clone(&of_daemon)));
    let mut planned = Vec::new();
    for device in 0..DEVICES {
        let period_ms = chance.of(40..=300) as u64;
        let samples = (CALM_MS + AFTER_MS) / period_ms;
        planned.push(samples);
        let (world, seed) = (Arc::clone(&world), chance.of(1..=1 << 30) as u32);
        sim.client(
            name(device),
            hosts::device(world, device, period_ms as u32, samples as u32, seed),
        );
    }
    let mut script = Script::draw(&mut chance);
    while !sim
        .step()
        .unwrap_or_else(|error| panic!("it hangs: {error}"))
    {
        script.play(&mut sim, &world);
    }
    let took = sim.elapsed();
    rid(&mut sim, &world);
    let addresses: Vec<IpAddr> = (0..DEVICES)
        .map(|device| sim.lookup(name(device)))
        .collect();
    drop(sim);
    account::settle(&world, &planned, &addresses, took)
}

/// The daemon must be rid of everything by itself.
fn rid(sim: &mut Sim<'_>, world: &World) {
    let until = sim.elapsed() + Duration::from_millis(RID_MS);
    loop {
        sim.step()
            .unwrap_or_else(|error| panic!("the daemon failed: {error}"));
        let engine = known(world).engine.clone().expect("a daemon");
        let open = engine.counters().totals().connections
            - engine.counters().closed_by_reason().iter().sum::<u64>();
        let context = engine.context().expect("it runs");
        let waiting: usize = context.fanout.depths().map(|depth| depth.events).sum();
        let lent = engine.pool().used_bytes();
        if (open, waiting, lent) == (0, 0, 0) {
            // What was taken from the queue last is told by then.
            sim.step().expect("the daemon runs");
            return;
        }
        assert!(
            sim.elapsed() < until,
            "{open} connections are left, {waiting} events, {lent} bytes"
        );
    }
}

fn name(device: usize) -> String {
    format!("device-{device}")
}

fn known(world: &World) -> MutexGuard<'_, Known> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What goes wrong, and when.
struct Script {
    /// From, until (both in milliseconds), what.
    troubles: Vec<(u64, u64, Trouble)>,
    begun: Vec<bool>,
    ended: Vec<bool>,
    /// When which connections are given up.
    given_up: Vec<(u64, CancellationToken)>,
    chance: Chance,
}

impl Script {
    fn draw(chance: &mut Chance) -> Self {
        let count = chance.of(2..=10);
        let mut busy: Vec<(usize, u64, u64)> = Vec::new();
        let troubles: Vec<_> = (0..count)
            .map(|_| {
                let device = chance.of(0..=DEVICES - 1);
                let trouble = match chance.of(0..=9) {
                    0..=2 => Trouble::Held(device),
                    3 => Trouble::Parted(device, Direction::Both),
                    4 => Trouble::Parted(device, Direction::ToDaemon),
                    5 => Trouble::Parted(device, Direction::ToDevice),
                    6 => Trouble::Crash,
                    7 => Trouble::Stop,
                    8 => Trouble::Slow,
                    _ => Trouble::Latency(chance.of(1..=2_000) as u64),
                };
                let from = chance.of(100..=CALM_MS as usize - 100) as u64;
                let until = (from + chance.of(20..=8_000) as u64).min(CALM_MS);
                // One thing at a time for one link: two would end with the first.
                let (Trouble::Held(device) | Trouble::Parted(device, _)) = trouble else {
                    return (from, until, trouble);
                };
                let is_free = |(other, begun, ended): &(usize, u64, u64)| {
                    *other != device || *ended + 40 < from || until + 40 < *begun
                };
                if !busy.iter().all(is_free) {
                    return (from, until, Trouble::Slow);
                }
                busy.push((device, from, until));
                (from, until, trouble)
            })
            .collect();
        Self {
            begun: vec![false; count],
            ended: vec![false; count],
            troubles,
            given_up: Vec::new(),
            chance: Chance(chance.of(0..=usize::MAX - 1) as u64),
        }
    }

    fn play(&mut self, sim: &mut Sim<'_>, world: &World) {
        let now = sim.elapsed().as_millis() as u64;
        for index in 0..self.troubles.len() {
            let (from, until, trouble) = self.troubles[index];
            if from <= now && !self.begun[index] {
                self.begun[index] = true;
                self.begin(now, until, trouble, sim, world);
            }
            if until <= now && !self.ended[index] {
                self.ended[index] = true;
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

    fn begin(&mut self, now: u64, until: u64, trouble: Trouble, sim: &mut Sim<'_>, world: &World) {
        match trouble {
            Trouble::Held(device) => sim.hold("daemon", name(device)),
            Trouble::Parted(device, direction) => match direction {
                Direction::Both => sim.partition("daemon", name(device)),
                Direction::ToDaemon => sim.partition_oneway(name(device), "daemon"),
                Direction::ToDevice => sim.partition_oneway("daemon", name(device)),
            },
            Trouble::Crash => sim.crash("daemon"),
            Trouble::Stop => {
                let mut known = known(world);
                known.away_ms = until - now;
                if let Some(engine) = &known.engine {
                    engine.stop();
                }
            }
            Trouble::Slow => known(world).slow_ms = self.chance.of(10..=1_500) as u64,
            Trouble::Latency(ms) => sim.set_max_message_latency(Duration::from_millis(ms)),
        }
    }

    fn end(&mut self, now: u64, trouble: Trouble, sim: &mut Sim<'_>, world: &World) {
        match trouble {
            Trouble::Held(device) => sim.release("daemon", name(device)),
            Trouble::Parted(device, _) => {
                sim.repair("daemon", name(device));
                // What was lost is not sent again, as it would be by TCP: each side finds that out in its own time.
                for link in std::mem::take(&mut known(world).links[device]) {
                    let at = now + self.chance.of(0..=6_000) as u64;
                    self.given_up.push((at, link));
                }
            }
            Trouble::Crash => sim.bounce("daemon"),
            Trouble::Stop => {}
            Trouble::Slow => known(world).slow_ms = 0,
            Trouble::Latency(_) => sim.set_max_message_latency(Duration::from_millis(100)),
        }
    }
}
