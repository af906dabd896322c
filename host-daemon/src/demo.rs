//! `blocksd demo`: a daemon and three simulated devices over real TCP, two of which misbehave.
//!
//! The devices speak through `framing-core` as firmware does, blocking, over the std adapter.

use std::collections::HashMap;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use embedded_io_adapters::std::FromStd;
use framing_core::{AnyFraming, Blocks, Limits, blocking};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::batch::{Item, StopAt, TooLong};
use crate::connection::{Policy, Shared};
use crate::counters::Counters;
use crate::decode::Decoding;
use crate::event::{Event, What};
use crate::failure::Failure;
use crate::output::{self, Format, Out, QUEUE_LEN, Text};
use crate::pool::Pool;
use crate::serve::{Admission, Listener, serve};

/// Longest block that the demo's daemon takes, in bytes.
const BLOCK_MAX: u32 = 4096;
/// Length of the block that is too long, in bytes.
const OVERSIZE: usize = 6000;

/// How a device behaves.
#[derive(Clone, Copy)]
struct Device {
    name: &'static str,
    period: Duration,
    sample: fn(u32) -> String,
    habit: Habit,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Habit {
    /// Ends its series.
    Good,
    /// Sends one block that is too long, half-way.
    Oversize,
    /// Is cut off inside a block, near the end.
    CutOff,
}

const DEVICES: [Device; 3] = [
    Device {
        name: "boiler",
        period: Duration::from_millis(500),
        sample: |n| format!("temp={:.1} setpoint=60.0 n={n}", 58.0 + wave(n, 7)),
        habit: Habit::Good,
    },
    Device {
        name: "pump",
        period: Duration::from_millis(200),
        sample: |n| {
            format!(
                "rpm={:.0} bar={:.2} n={n}",
                1450.0 + 40.0 * wave(n, 11),
                2.0 + wave(n, 5) / 10.0
            )
        },
        habit: Habit::Oversize,
    },
    Device {
        name: "rover",
        period: Duration::from_millis(350),
        sample: |n| {
            format!(
                "lat={:.5} lon={:.5} n={n}",
                42.85 + f64::from(n) / 1e4,
                -2.68
            )
        },
        habit: Habit::CutOff,
    },
];

/// What a device sent, or what arrived of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    blocks: u64,
    bytes: u64,
    too_long: u64,
    cut: u64,
    series: u64,
}

/// Which device is at which address.
type Names = Arc<Mutex<HashMap<SocketAddr, &'static str>>>;

/// Runs the demonstration for so long, and prints a table of totals.
///
/// # Errors
/// [`Failure::Unbalanced`] where what arrived is not what was sent; failures of the system.
pub async fn demo(duration: Duration) -> Result<(), Failure> {
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    let policy = Policy {
        framing: AnyFraming::Blocks(Blocks),
        limits: Limits {
            block_max: BLOCK_MAX,
            skip_max: Limits::SKIP_MAX,
        },
        stop_at: StopAt {
            end: true,
            too_long: TooLong::Skip,
        },
        decoding: Decoding::Raw,
        idle_timeout: None,
        reply: None,
    };
    let failure = |error| Failure::listen(address, error);
    let listener = Listener::bind(&address.to_string(), policy).map_err(failure)?;
    let daemon = listener.address().map_err(failure)?;
    writeln!(
        io::stdout(),
        "a daemon on {daemon}, three devices, {} seconds",
        duration.as_secs_f32()
    )
    .map_err(Failure::stdout)?;

    let stop = CancellationToken::new();
    let (events, queue) = mpsc::channel(QUEUE_LEN);
    let names = Names::default();
    let arrived = Arc::default();
    let format = Named {
        text: Text::new(false),
        names: Arc::clone(&names),
        at: HashMap::new(),
        arrived: Arc::clone(&arrived),
    };
    let counters = Arc::<Counters>::default();
    let stdout = Box::new(io::stdout());
    let output = output::spawn(format, stdout, queue, Arc::clone(&counters), stop.clone());
    let shared = Shared {
        pool: Pool::new(),
        counters,
        events: Some(events),
        stop: stop.clone(),
    };
    let admission = Admission {
        max_connections: DEVICES.len(),
        once: false,
    };
    let serving = tokio::spawn(serve(vec![listener], admission, Arc::new(shared)));

    let devices: Vec<_> = DEVICES
        .map(|device| {
            let names = Arc::clone(&names);
            tokio::task::spawn_blocking(move || device.run(daemon, duration, &names))
        })
        .into();
    let mut sent = Vec::new();
    for device in devices {
        sent.push(device.await.map_err(io::Error::other)??);
    }
    stop.cancel();
    serving.await.map_err(io::Error::other)?;
    match output.join() {
        Ok(written) => written.map_err(Failure::stdout)?,
        Err(panic) => std::panic::resume_unwind(panic),
    }
    let arrived = lock(&arrived).clone();
    let balanced = print_totals(&sent, &arrived).map_err(Failure::stdout)?;
    if balanced {
        Ok(())
    } else {
        Err(Failure::Unbalanced)
    }
}

impl Device {
    fn run(self, daemon: SocketAddr, duration: Duration, names: &Names) -> Result<Tally, Failure> {
        // Bound before it connects, so that the name is known when the daemon sees the address.
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
        if let Some(address) = socket.local_addr()?.as_socket() {
            lock(names).insert(address, self.name);
        }
        socket.connect(&daemon.into())?;
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        let mut writer = blocking::Writer::new(FromStd::new(&stream), Blocks);
        let mut sent = Tally::default();
        let begin = Instant::now();
        for n in 0.. {
            let due = self.period * n;
            if duration <= due {
                break;
            }
            thread::sleep(due.saturating_sub(begin.elapsed()));
            let sample = (self.sample)(n);
            let half_way = duration / 2 <= due && sent.too_long == 0;
            let last = duration <= due + self.period;
            if self.habit == Habit::CutOff && last {
                // Half of it, and then the power fails.
                writer.begin(u32::try_from(sample.len()).unwrap_or(u32::MAX))?;
                writer.send_piece(&sample.as_bytes()[..sample.len() / 2])?;
                sent.cut += 1;
                return Ok(sent);
            }
            writer.send(sample.as_bytes())?;
            sent.blocks += 1;
            sent.bytes += sample.len() as u64;
            if self.habit == Habit::Oversize && half_way {
                writer.send(&[b'x'; OVERSIZE])?;
                sent.too_long += 1;
            }
        }
        writer.finish()?;
        sent.series += 1;
        Ok(sent)
    }
}

/// Text with the names of the devices, counted by device.
struct Named {
    text: Text,
    names: Names,
    at: HashMap<u64, &'static str>,
    arrived: Arc<Mutex<HashMap<&'static str, Tally>>>,
}

impl Format for Named {
    fn event(&mut self, event: &Event, out: &mut Out) -> io::Result<()> {
        if let What::Opened { peer } = &event.what {
            let name = lock(&self.names).get(peer).copied().unwrap_or("stranger");
            self.at.insert(event.conn, name);
        }
        let name = self.at.get(&event.conn).copied().unwrap_or("stranger");
        if let What::Batch { batch, .. } = &event.what {
            let mut arrived = lock(&self.arrived);
            let arrived = arrived.entry(name).or_default();
            for item in batch.items() {
                arrived.count(&item);
            }
        }
        let event = Event {
            device: format!("{name:<6}").into(),
            ..event.clone()
        };
        self.text.event(&event, out)
    }
}

impl Tally {
    const fn count(&mut self, item: &Item<'_>) {
        match item {
            Item::Block(bytes) => {
                self.blocks += 1;
                self.bytes += bytes.len() as u64;
            }
            Item::End => self.series += 1,
            Item::Fault(framing_core::Fault::TooLong { .. }) => self.too_long += 1,
            Item::Fault(_) => self.cut += 1,
            Item::Piece { .. } => {}
        }
    }

    const fn add(&mut self, other: &Self) {
        self.blocks += other.blocks;
        self.bytes += other.bytes;
        self.too_long += other.too_long;
        self.cut += other.cut;
        self.series += other.series;
    }

    /// Blocks that were begun: the whole, the too long, and the cut off.
    const fn begun(&self) -> u64 {
        self.blocks + self.too_long + self.cut
    }
}

/// Prints the table; says whether everything that was sent is accounted for.
fn print_totals(sent: &[Tally], arrived: &HashMap<&'static str, Tally>) -> io::Result<bool> {
    let mut out = io::stdout().lock();
    writeln!(out)?;
    writeln!(
        out,
        "device   sent  arrived   bytes  too long  cut off  series"
    )?;
    let (mut all_sent, mut all) = (Tally::default(), Tally::default());
    for (device, sent) in DEVICES.iter().zip(sent) {
        let arrived = arrived.get(device.name).copied().unwrap_or_default();
        print_row(&mut out, device.name, sent, &arrived)?;
        all_sent.add(sent);
        all.add(&arrived);
    }
    print_row(&mut out, "total", &all_sent, &all)?;
    let balanced = DEVICES
        .iter()
        .zip(sent)
        .all(|(device, sent)| arrived.get(device.name) == Some(sent));
    let verdict = if balanced {
        "balanced, nothing was lost"
    } else {
        "NOT balanced"
    };
    let Tally {
        blocks,
        too_long,
        cut,
        ..
    } = all;
    let begun = all_sent.begun();
    writeln!(
        out,
        "{begun} sent = {blocks} arrived + {too_long} too long + {cut} cut off: {verdict}"
    )?;
    out.flush()?;
    Ok(balanced)
}

fn print_row(out: &mut impl Write, name: &str, sent: &Tally, arrived: &Tally) -> io::Result<()> {
    let Tally {
        blocks,
        bytes,
        too_long,
        cut,
        series,
    } = arrived;
    let begun = sent.begun();
    writeln!(
        out,
        "{name:<7} {begun:>5} {blocks:>8} {bytes:>7} {too_long:>9} {cut:>8} {series:>7}"
    )
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A slow wave from -1 to 1.
fn wave(n: u32, period: u32) -> f64 {
    (f64::from(n % (period * 2)) / f64::from(period) * std::f64::consts::PI).sin()
}
