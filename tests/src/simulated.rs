//! A network, its devices and the daemon, in simulated time and driven by a seed: the firmware's application on one side,
//! the daemon's own engine on the other, and partitions, delays and restarts between them. Start with [`run`].

mod account;
mod hosts;
pub(crate) mod wire;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use blocksd_engine::EngineHandle;
use blocksd_engine::reason::CloseReason;
use framing_uplink::SeriesReport;
use tokio_util::sync::CancellationToken;
use turmoil::{Builder, Sim};

use crate::disk::Chance;

/// Number of devices.
pub const DEVICES: usize = 3;
/// Duration of one step of the simulation.
const TICK: Duration = Duration::from_millis(20);
/// Time after which no more trouble begins.
const CALM_MS: u64 = 30_000;
/// Time for which the devices go on sampling after that: longer than any timeout plus any back-off.
const AFTER_MS: u64 = 40_000;
/// Time limit of the simulation.
const LIMIT: Duration = Duration::from_secs(180);
/// Time limit for the daemon to close all connections after the last device has ended: longer than its timeouts.
const RID_MS: u64 = 15_000;

/// Kinds of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// All traffic of a device is delayed; TCP recovers from that.
    Held(usize),
    /// The traffic of a device is lost in this direction; connections open at that time never recover.
    Parted(usize, Direction),
    /// The daemon is killed.
    Crash,
    /// The daemon is asked to stop.
    Stop,
    /// The sink is slow, so the daemon must apply backpressure to the devices.
    Slow,
    /// The latency of every message is up to this many milliseconds.
    Latency(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Both,
    ToDaemon,
    ToDevice,
}

/// The daemon's events of one connection.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Number and count of lost ones, of each sample.
    pub samples: Vec<(u64, u64)>,
    /// Whether the series was ended.
    pub ended: bool,
    /// Number of faults.
    pub faults: u64,
    /// Message count and reason of the close event; `None` if the daemon was killed before.
    pub closed: Option<(u64, CloseReason)>,
}

/// The daemon's connections, by device, and then by the daemon's life and the number in it.
pub type Story = BTreeMap<String, BTreeMap<(u64, u64), Observed>>;

/// State shared by all hosts and the script.
#[derive(Default)]
struct Known {
    story: Story,
    /// Number of starts of the daemon so far, and its current engine.
    lives: u64,
    engine: Option<EngineHandle>,
    /// Time for which the daemon stays down after it was stopped.
    away_ms: u64,
    /// Longest pause of the sink between two events.
    slow_ms: u64,
    chance: u64,
    /// Open connections, by device; the system gives up a connection that is cancelled.
    links: Vec<Vec<CancellationToken>>,
    reports: BTreeMap<usize, SeriesReport>,
}

type World = Arc<Mutex<Known>>;

/// The result of a simulation.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The daemon's events.
    pub story: Story,
    /// The report of each device.
    pub reports: Vec<SeriesReport>,
    /// Number of starts of the daemon.
    pub lives: u64,
    /// Number of blocks in the daemon's events.
    pub blocks: u64,
    /// Number of blocks that a connection took and that did not arrive.
    pub in_flight: u64,
    /// Simulated time.
    pub took: Duration,
}

/// Runs the simulation of a seed.
///
/// # Panics
/// If a property does not hold: see the module `account`.
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
        .unwrap_or_else(|error| panic!("the simulation hangs: {error}"))
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

/// Waits until the daemon has closed all connections and released all memory by itself.
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
            // One more step, so that the sink handles the last event.
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

/// The trouble of a simulation, and its times.
struct Script {
    /// Start, end (both in milliseconds), and kind.
    troubles: Vec<(u64, u64, Trouble)>,
    begun: Vec<bool>,
    ended: Vec<bool>,
    /// Connections to give up, and when.
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
                // One trouble at a time for each link, since the end of one would end the other.
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
                // Unlike TCP, the simulation does not retransmit: each side notices the loss at a random time.
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
