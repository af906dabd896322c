//! `blocksd demo`: a daemon and simulated devices over real TCP, some of which misbehave or are interrupted, and
//! optionally an emulated board with real firmware. Start with [`demo`].

mod board;
mod cable;
mod counted_text;
mod devices;
mod kept;
mod meter;
mod page;
mod recorder;
mod tally;

use std::collections::HashMap;
use std::fs;
use std::future::Future;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use blocksd_engine::admission::identity::{DeviceTable, Match};
use blocksd_engine::batch::{ClosePolicy, OversizePolicy};
use blocksd_engine::connection::policy::{Policy, ReplyKind};
use blocksd_engine::permit::Bounds;
use blocksd_engine::sink::Delivery;
use blocksd_engine::stdio;
use blocksd_engine::{Engine, Error, ListenerSpec};
use framing_core::{AnyFraming, Blocks, Limits};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use self::board::Board;
use self::counted_text::{CountedText, Received};
use self::devices::DEVICES;
use self::kept::{Compared, Messages};
use self::meter::METER;
use self::page::DemoPage;
use self::tally::Tally;
use crate::error::CommandError;
use crate::payload::{Decoding, UndecodableReporter};
use crate::sinks::console::Console;

/// Longest message that the demo's daemon accepts, in bytes.
const BLOCK_MAX: u32 = 4096;
/// Name of the device at [`BOARD_ADDRESS`].
const BOARD: &str = "board";
/// Where the emulator connects from, as a stranger does.
const BOARD_ADDRESS: Ipv4Addr = Ipv4Addr::LOCALHOST;
/// Interval between checks whether a process has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// How long a signal waits for the end of the daemon. Its output may have a reader that reads nothing.
const STOP_WAIT: Duration = Duration::from_secs(2);

/// Runs the demo for `duration`, with an emulated board if `firmware` is set, and prints a table of totals. What the devices
/// send is recorded in a temporary folder, and counted there at the end. The daemon has a page, which stays after the table
/// until a signal ends it if `keep` is set.
///
/// # Errors
/// [`CommandError::Unbalanced`] if the counts of sent and kept messages differ; [`CommandError::Board`];
/// [`CommandError::Recorder`]; errors of the system.
pub async fn demo(duration: Duration, firmware: bool, keep: bool) -> Result<(), CommandError> {
    let mut signal = pin!(exit_signal().map_err(CommandError::Start)?);
    let folder = tempfile::Builder::new().prefix("blocksd-demo-").tempdir()?;
    let [plain, session] = ["daemon", METER].map(|name| folder.path().join(name));
    fs::create_dir(&plain)?;

    let stop = CancellationToken::new();
    let (mut engine, page) = engine(&stop, &plain).await?;
    let [daemon, board_daemon] = addresses(&engine)?;
    let received = Arc::<Mutex<Received>>::default();
    let board_is_up = Arc::<Notify>::default();
    let text = CountedText::new(&received, &board_is_up);
    // The console waits for its reader without a limit.
    let never = CancellationToken::new();
    let counters = Arc::clone(engine.handle().counters());
    let observer = Some(page.undecoded().observer());
    let reporter = UndecodableReporter::new(Arc::clone(&counters)).observed_by(observer);
    let console = Console::new(Box::new(text), counters, Some(reporter), never)
        .map_err(CommandError::Start)?;
    engine.add_sink(Box::new(console), Delivery::BACKPRESSURE);
    let mut serving = tokio::spawn(engine.run());

    let send = async {
        print_line(format!(
            "a daemon on {daemon}, four devices, {} seconds",
            duration.as_secs_f32()
        ))
        .await?;
        page.announce().await?;
        let mut board = None;
        if firmware {
            let line =
                "building and booting a Cortex-M4 in QEMU; the first time this takes minutes";
            print_line(line.to_owned()).await?;
            board = Some(switch_on(board_daemon, duration, &board_is_up).await?);
        }
        let devices = plain_devices(daemon, duration, board);
        tokio::try_join!(devices, meter::run(&session, duration))
    };
    let show = async {
        let sent = tokio::select! {
            sent = send => Some(sent),
            // The output or the recording has failed.
            () = stop.cancelled() => None,
        };
        stop.cancel();
        (&mut serving)
            .await
            .map_err(io::Error::other)?
            .map_err(failure)?;
        let (sent, metered) = sent.ok_or(CommandError::Unbalanced)??;
        let received = received.lock();
        let received = received.unwrap_or_else(PoisonError::into_inner).clone();
        let kept = sums(kept::read(plain)?);
        let rows = sent.into_iter();
        let mut rows: Vec<_> = rows
            .map(|(name, sent)| row(name, sent, &received, &kept))
            .collect();
        let recorded = kept::read(session.clone())?;
        let recorded = recorded.get(METER).map(Vec::as_slice).unwrap_or_default();
        let compared = kept::compare(&metered, recorded);
        rows.push(metered_row(&metered, compared));
        let print = move || tally::print(&rows, compared.twice);
        match blocking(print).await?.map_err(CommandError::stdout)? {
            true => Ok(()),
            false => Err(CommandError::Unbalanced),
        }
    };
    tokio::select! {
        shown = show => shown?,
        code = &mut signal => {
            stop.cancel();
            if !serving.is_finished() {
                let _ = timeout(STOP_WAIT, serving).await;
            }
            drop(folder);
            std::process::exit(code);
        }
    }
    if !keep {
        return Ok(());
    }
    tokio::select! {
        stayed = page.stay() => stayed,
        _ = signal => {
            drop(folder);
            std::process::exit(0);
        }
    }
}

/// The demo's daemon, which records to `folder`, with a listener for the simulated devices and one for the board; and its page.
async fn engine(
    stop: &CancellationToken,
    folder: &Path,
) -> Result<(Engine, DemoPage), CommandError> {
    let names = DEVICES.map(|device| (device.name, device.address));
    let names = names.into_iter().chain([(BOARD, BOARD_ADDRESS)]);
    let names = names.map(|(name, address)| (name.into(), vec![Match::Address(address.into())]));
    let mut engine = Engine::builder()
        .bounds(Bounds {
            connections: DEVICES.len() + 1,
            per_device: None,
            unfinished: 16 << 20,
            longest: u64::from(BLOCK_MAX),
            ..Bounds::default()
        })
        .devices(DeviceTable::new(names.collect()))
        .stop(stop.clone())
        .build();
    let simulated = policy(Decoding::Kv, None);
    // The board learns from the receipt that everything has arrived.
    let emulated = policy(Decoding::Cbor, Some(ReplyKind::Receipt));
    let policies = [simulated, emulated];
    let specs = policies.map(|policy| ListenerSpec::new("127.0.0.1:0", policy));
    engine.listen(specs.into()).await?;
    let (recording, source) = kept::recording(folder)?;
    engine.add_sink(Box::new(recording), Delivery::BACKPRESSURE);
    let page = DemoPage::open(&mut engine, source, stop.clone()).await?;
    Ok((engine, page))
}

/// Waits for a signal that ends the demo; returns the exit code. Without it, the recorder would outlive the demo, and the
/// temporary folder would remain.
fn exit_signal() -> io::Result<impl Future<Output = i32>> {
    let mut hangup = signal(SignalKind::hangup())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = hangup.recv() => 128 + libc::SIGHUP,
            _ = interrupt.recv() => 128 + libc::SIGINT,
            _ = terminate.recv() => 128 + libc::SIGTERM,
        }
    })
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

/// Runs the devices without a session; returns what each has sent.
async fn plain_devices(
    daemon: SocketAddr,
    duration: Duration,
    board: Option<Board>,
) -> Result<Vec<(&'static str, Tally)>, CommandError> {
    let devices =
        DEVICES.map(|device| tokio::task::spawn_blocking(move || device.run(daemon, duration)));
    let mut sent = Vec::new();
    for (device, sending) in DEVICES.iter().zip(devices) {
        sent.push((device.name, sending.await.map_err(io::Error::other)??));
    }
    if let Some(board) = board {
        let blocks = blocking(|| board.finish()).await??;
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

/// Number and bytes of the messages of each device.
fn sums(recorded: Messages) -> HashMap<Arc<str>, (u64, u64)> {
    let devices = recorded.into_iter().map(|(device, messages)| {
        let bytes = messages.iter().map(|message| message.len() as u64).sum();
        (device, (messages.len() as u64, bytes))
    });
    devices.collect()
}

/// A row of the table. The board does not report how many bytes it sent, so these are not compared.
fn row(
    name: &'static str,
    sent: Tally,
    received: &Received,
    kept: &HashMap<Arc<str>, (u64, u64)>,
) -> tally::Row {
    let (blocks, bytes) = kept.get(name).copied().unwrap_or_default();
    let kept = Tally {
        blocks,
        bytes,
        ..received.get(name).copied().unwrap_or_default()
    };
    let bytes = if name == BOARD { bytes } else { sent.bytes };
    (name, Tally { bytes, ..sent }, kept)
}

/// The row of the device with a session, which sends whole messages only and ends no series.
fn metered_row(sent: &[Vec<u8>], compared: Compared) -> tally::Row {
    let bytes = sent.iter().map(|message| message.len() as u64).sum();
    let whole = |blocks, bytes| Tally {
        blocks,
        bytes,
        ..Tally::default()
    };
    let kept = whole(compared.kept, compared.bytes);
    (METER, whole(sent.len() as u64, bytes), kept)
}

/// Prints a line to standard output. Its reader may block the line, and not the demo.
async fn print_line(line: String) -> Result<(), CommandError> {
    let print = move || writeln!(stdio::stdout(), "{line}");
    blocking(print).await?.map_err(CommandError::stdout)
}

/// Runs what may block on a separate thread.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, CommandError> {
    let done = tokio::task::spawn_blocking(work).await;
    Ok(done.map_err(io::Error::other)?)
}
