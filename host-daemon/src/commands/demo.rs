//! `blocksd demo`: a daemon and three simulated devices over real TCP, two of which misbehave, and optionally an
//! emulated board with real firmware. Start with [`demo`].

mod board;
mod devices;
mod tally;

use std::collections::HashMap;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use blocksd_engine::batch::{ClosePolicy, OversizePolicy};
use blocksd_engine::connection::policy::{Policy, ReplyKind};
use blocksd_engine::event::{ConnectionInfo, Dropped, Event, EventKind, Peer};
use blocksd_engine::permit::Bounds;
use blocksd_engine::sink::Delivery;
use blocksd_engine::stdio;
use blocksd_engine::{Engine, Error, ListenerSpec};
use framing_core::{AnyFraming, Blocks, Limits};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::board::Board;
use self::devices::DEVICES;
use self::tally::Tally;
use crate::error::CommandError;
use crate::output::{Format, Out, Text};
use crate::payload::{Decoding, UndecodableReporter};
use crate::recorded::lifecycle::Lifecycle;
use crate::sinks::console::Console;

/// Longest message that the demo's daemon accepts, in bytes.
const BLOCK_MAX: u32 = 4096;
/// Name of the device at an address that is not of a simulated device.
const BOARD: &str = "board";
/// Interval between checks whether the board has failed to start.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The names of the devices, by address.
type Names = Arc<Mutex<HashMap<SocketAddr, &'static str>>>;

/// Runs the demo for `duration`, with an emulated board if `firmware` is set, and prints a table of totals.
///
/// # Errors
/// [`CommandError::Unbalanced`] if the counts of sent and received messages differ; [`CommandError::Board`]; errors of
/// the system.
pub async fn demo(duration: Duration, firmware: bool) -> Result<(), CommandError> {
    let stop = CancellationToken::new();
    let mut engine = Engine::builder()
        .bounds(Bounds {
            connections: DEVICES.len() + 1,
            per_device: None,
            unfinished: 16 << 20,
            longest: u64::from(BLOCK_MAX),
        })
        .stop(stop.clone())
        .build();
    let simulated = policy(Decoding::Raw, None);
    // The board learns from the receipt that everything has arrived.
    let emulated = policy(Decoding::Cbor, Some(ReplyKind::Receipt));
    let policies = [simulated, emulated];
    let specs = policies.map(|policy| ListenerSpec::new("127.0.0.1:0", policy));
    engine.listen(specs.into()).await?;
    let [daemon, board_daemon] = addresses(&engine)?;
    print_line(format_args!(
        "a daemon on {daemon}, three devices, {} seconds",
        duration.as_secs_f32()
    ))?;

    let names = Names::default();
    let arrived = Arc::default();
    let board_is_up = Arc::<Notify>::default();
    let format = Named {
        text: Text::new(false),
        names: Arc::clone(&names),
        at: HashMap::new(),
        arrived: Arc::clone(&arrived),
        board_is_up: Arc::clone(&board_is_up),
    };
    // The console waits for its reader without a limit.
    let never = CancellationToken::new();
    let counters = Arc::clone(engine.handle().counters());
    let reporter = UndecodableReporter::new(Arc::clone(&counters));
    let console = Console::new(Box::new(format), counters, Some(reporter), never)
        .map_err(CommandError::Start)?;
    engine.add_sink(Box::new(console), Delivery::BACKPRESSURE);
    let serving = tokio::spawn(engine.run());

    let mut board = None;
    if firmware {
        print_line(format_args!(
            "building and booting a Cortex-M4 in QEMU; the first time this takes minutes"
        ))?;
        board = Some(switch_on(board_daemon, duration, &board_is_up).await?);
    }
    let devices = DEVICES.map(|device| {
        let names = Arc::clone(&names);
        tokio::task::spawn_blocking(move || device.run(daemon, duration, &names))
    });
    let sent = all_sent(devices, board).await;
    stop.cancel();
    serving.await.map_err(io::Error::other)?.map_err(failure)?;
    let sent = sent?;
    let arrived = lock(&arrived).clone();
    let rows: Vec<_> = sent
        .into_iter()
        .map(|(name, sent)| row(name, sent, &arrived))
        .collect();
    let balanced = tally::print(&rows).map_err(CommandError::stdout)?;
    if balanced {
        Ok(())
    } else {
        Err(CommandError::Unbalanced)
    }
}

/// Converts an error of the engine, which is most likely one of the output.
fn failure(error: Error) -> CommandError {
    match error {
        Error::Sink { source, .. } => match source.downcast::<io::Error>() {
            Ok(error) => CommandError::stdout(*error),
            Err(source) => CommandError::Io(io::Error::other(source)),
        },
        error => error.into(),
    }
}

/// The addresses of the listeners for the simulated devices and for the board.
fn addresses(engine: &Engine) -> Result<[SocketAddr; 2], CommandError> {
    let listening = engine.handle().listening().into_iter();
    let addresses = listening.map(|listening| listening.name.parse());
    let addresses: Vec<_> = addresses
        .collect::<Result<_, _>>()
        .map_err(io::Error::other)?;
    let missing = |_| CommandError::Io(io::ErrorKind::AddrNotAvailable.into());
    addresses.try_into().map_err(missing)
}

type Sending = JoinHandle<Result<Tally, CommandError>>;

/// Waits until all devices have finished; returns what each has sent.
async fn all_sent(
    devices: [Sending; DEVICES.len()],
    board: Option<Board>,
) -> Result<Vec<(&'static str, Tally)>, CommandError> {
    let mut sent = Vec::new();
    for (device, sending) in DEVICES.iter().zip(devices) {
        sent.push((device.name, sending.await.map_err(io::Error::other)??));
    }
    if let Some(board) = board {
        let blocks = tokio::task::spawn_blocking(|| board.finish()).await;
        let blocks = blocks.map_err(io::Error::other)??;
        sent.push((
            BOARD,
            Tally {
                blocks,
                series: 1,
                ..Tally::default()
            },
        ));
    }
    Ok(sent)
}

fn policy(decoding: Decoding, reply: Option<ReplyKind>) -> Policy {
    Policy {
        encoding: decoding.into(),
        limits: Limits {
            block_max: BLOCK_MAX,
            skip_max: Limits::SKIP_MAX,
        },
        close: ClosePolicy {
            at_end: true,
            oversize: OversizePolicy::Skip,
        },
        reply,
        ..Policy::new(AnyFraming::Blocks(Blocks))
    }
}

/// Boots the board, and waits until it has connected.
async fn switch_on(
    daemon: SocketAddr,
    duration: Duration,
    is_up: &Notify,
) -> Result<Board, CommandError> {
    let mut board = Board::boot(daemon, duration)?;
    loop {
        tokio::select! {
            () = is_up.notified() => return Ok(board),
            () = tokio::time::sleep(POLL_INTERVAL) => if board.has_ended()? {
                return Err(CommandError::Board);
            },
        }
    }
}

/// A row of the table. The board does not report how many bytes it sent, so these are not compared.
fn row(name: &'static str, sent: Tally, arrived: &HashMap<&'static str, Tally>) -> tally::Row {
    let arrived = arrived.get(name).copied().unwrap_or_default();
    let bytes = if name == BOARD {
        arrived.bytes
    } else {
        sent.bytes
    };
    (name, Tally { bytes, ..sent }, arrived)
}

/// Formats events as text with the names of the devices, and counts them by device.
struct Named {
    text: Text,
    names: Names,
    at: HashMap<u64, &'static str>,
    arrived: Arc<Mutex<HashMap<&'static str, Tally>>>,
    board_is_up: Arc<Notify>,
}

impl Format for Named {
    fn event(&mut self, event: &Event, out: &mut Out) -> io::Result<()> {
        let conn = event.source.conn;
        if let EventKind::Opened { peer } = &event.kind {
            let names = lock(&self.names);
            let name = match peer {
                Peer::Network(address) => names.get(address).copied().unwrap_or(BOARD),
                Peer::Local(_) => BOARD,
            };
            drop(names);
            self.at.insert(conn, name);
            if name == BOARD {
                self.board_is_up.notify_one();
            }
        }
        let name = self.at.get(&conn).copied().unwrap_or(BOARD);
        if let EventKind::Batch { batch, .. } = &event.kind {
            let mut arrived = lock(&self.arrived);
            let arrived = arrived.entry(name).or_default();
            for item in batch.items() {
                arrived.count(&item);
            }
        }
        let source = ConnectionInfo {
            conn,
            device: format!("{name:<6}").into(),
            framing: event.source.framing,
            encoding: event.source.encoding.clone(),
            first_seq: event.source.first_seq,
            session: event.source.session.clone(),
        };
        let event = Event {
            source: Arc::new(source),
            ..event.clone()
        };
        self.text.event(&event, out)
    }

    fn lifecycle(&mut self, event: &Lifecycle<'_>, out: &mut Out) -> io::Result<()> {
        self.text.lifecycle(event, out)
    }

    fn lost(&mut self, dropped: Dropped, out: &mut Out) -> io::Result<()> {
        self.text.lost(dropped, out)
    }
}

/// Prints a line to standard output.
fn print_line(line: std::fmt::Arguments<'_>) -> Result<(), CommandError> {
    writeln!(stdio::stdout(), "{line}").map_err(CommandError::stdout)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
