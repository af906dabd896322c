//! `blocksd replay`: sends recorded messages again, with one connection per device and the original timing. Start with
//! [`replay`].

use std::collections::HashMap;
use std::io::{BufWriter, Error, ErrorKind, IsTerminal, Read, stderr};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use embedded_io_adapters::std::FromStd;
use framing_core::{AnyFraming, Blocks, blocking};
use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::Replay;
use crate::commands::read::{check_losses, report_lost, report_unreadable};
use crate::commands::send::connect;
use crate::error::CommandError;
use crate::output::{counted, printable};
use crate::payload::members;
use crate::service::log::print_status;
use blocksd_recording::topic::Kind;
use blocksd_recording::{Error as RecordingError, LostRange, Message, Reader, Visitor, Wanted};

/// Maximum number of messages in the queue of a connection. If it is full, all devices wait for this one.
const QUEUE_LEN: usize = 64;
/// Maximum length of a message that was recorded in pieces, in bytes. It is put together in memory, since most framings
/// send its length first.
const WHOLE_MAX: usize = 64 << 20;
/// How long to wait for the peer to close after everything was sent.
const LINGER: Duration = Duration::from_secs(1);
/// How long to retry a failed connection attempt.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Update interval of the progress bar.
const TICK: Duration = Duration::from_millis(100);

/// Sends the recorded messages.
///
/// # Errors
/// [`CommandError::Connect`], [`CommandError::CutOff`] if a peer did not accept everything, [`CommandError::NotWhole`]
/// if data of the recording is lost (the intact data is sent anyway), and [`CommandError::Recording`].
pub fn replay(arguments: &Replay) -> Result<(), CommandError> {
    let wanted = Wanted {
        devices: arguments.device.clone(),
        ..Wanted::default()
    };
    let bar = progress();
    let begin = Instant::now();
    let mut replayer = Replayer {
        to: &arguments.to,
        framing: arguments.framing,
        clock: Clock {
            speed: arguments.speed,
            begin: None,
        },
        senders: HashMap::new(),
        parts: HashMap::new(),
        sent: Arc::default(),
        bar: bar.clone(),
    };
    let visited = Reader::new(arguments.paths.clone(), wanted).visit(&mut replayer);
    let sent = Arc::clone(&replayer.sent);
    let total = replayer.senders.len();
    let devices = replayer.end();
    bar.finish_and_clear();
    let done = format!(
        "{}, {:.1} seconds",
        sent.text(),
        begin.elapsed().as_secs_f64()
    );
    let result = match (visited, devices) {
        (Err(failure), _) => Err(failure),
        (Ok(_), devices) if devices != 0 => Err(CommandError::CutOff { devices, of: total }),
        (Ok(losses), _) => check_losses(losses),
    };
    match result {
        Ok(()) => {
            print_status(format_args!("replayed {done}"));
            Ok(())
        }
        Err(failure) if sent.is_zero() => Err(failure),
        Err(failure) => Err(CommandError::Partly {
            failure: Box::new(failure),
            done: format!("sent {done}"),
        }),
    }
}

/// Totals of what all connections have sent.
#[derive(Debug, Default)]
struct Sent {
    blocks: AtomicU64,
    bytes: AtomicU64,
}

impl Sent {
    fn add(&self, bytes: usize) {
        self.blocks.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn is_zero(&self) -> bool {
        self.blocks.load(Ordering::Relaxed) == 0
    }

    fn text(&self) -> String {
        let blocks = counted(self.blocks.load(Ordering::Relaxed), "block");
        let bytes = counted(self.bytes.load(Ordering::Relaxed), "byte");
        format!("{blocks}, {bytes}")
    }
}

/// The schedule of the messages.
#[derive(Debug)]
struct Clock {
    speed: f64,
    /// When the first message was sent, and its time in the recording in nanoseconds.
    begin: Option<(Instant, u64)>,
}

impl Clock {
    fn wait(&mut self, time: u64) {
        if self.speed.is_infinite() {
            return;
        }
        let (begin, first) = *self.begin.get_or_insert_with(|| (Instant::now(), time));
        let since = Duration::from_nanos(time.saturating_sub(first));
        let since = Duration::try_from_secs_f64(since.as_secs_f64() / self.speed);
        let due = begin.checked_add(since.unwrap_or(Duration::MAX));
        // A time beyond the range of the clock is not waited for.
        if let Some(left) = due.map(|due| due.saturating_duration_since(Instant::now())) {
            std::thread::sleep(left);
        }
    }
}

/// Visits the recording, and passes each message to the connection of its device.
struct Replayer<'a> {
    to: &'a str,
    framing: Option<AnyFraming>,
    clock: Clock,
    senders: HashMap<Arc<str>, DeviceSender>,
    /// Messages in pieces that are not complete yet.
    parts: HashMap<Arc<str>, Vec<u8>>,
    sent: Arc<Sent>,
    bar: ProgressBar,
}

/// A connection, and the thread that writes to it.
struct DeviceSender {
    framing: AnyFraming,
    queue: SyncSender<Vec<u8>>,
    thread: JoinHandle<Result<(), (CommandError, u64)>>,
    /// The thread has ended early, with an error.
    failed: bool,
}

impl Visitor for Replayer<'_> {
    type Error = CommandError;

    fn message(&mut self, message: &Message<'_>) -> Result<(), CommandError> {
        let channel = message.channel;
        match channel.kind {
            Kind::Events => return self.note(message),
            Kind::Blocks | Kind::Pieces | Kind::Other => {}
        }
        self.clock.wait(message.time);
        if !self.bar.is_hidden() {
            self.bar.set_message(self.sent.text());
        }
        let device = &channel.device;
        if !self.senders.contains_key(device) {
            let recorded = channel.record.metadata.get("framing");
            let recorded = recorded.and_then(|spec| spec.parse().ok());
            let framing = self.framing.or(recorded);
            let framing = framing.unwrap_or(AnyFraming::Blocks(Blocks));
            let sender = DeviceSender::start(self.to, framing, Arc::clone(&self.sent));
            let sender = sender.map_err(|failure| match failure {
                // Only the first connection belongs to the start, whose errors have their own exit codes.
                CommandError::Connect { error, .. } if !self.senders.is_empty() => {
                    CommandError::Connection(error)
                }
                failure => failure,
            })?;
            self.senders.insert(Arc::clone(device), sender);
        }
        let Some(sender) = self.senders.get_mut(device) else {
            return Ok(());
        };
        let in_pieces = channel.kind == Kind::Pieces;
        if in_pieces && !matches!(sender.framing, AnyFraming::Stream(_)) {
            let whole = self.parts.entry(Arc::clone(device)).or_default();
            whole.extend_from_slice(message.data);
            if WHOLE_MAX < whole.len() {
                let len = u32::try_from(whole.len()).unwrap_or(u32::MAX);
                let max = u32::try_from(WHOLE_MAX).unwrap_or(u32::MAX);
                return Err(framing_core::Refusal::TooLong { len, max }.into());
            }
            return Ok(());
        }
        sender.send(message.data.to_vec());
        Ok(())
    }

    fn lost(&mut self, file: &Path, lost: &LostRange) -> Result<(), CommandError> {
        report_lost(file, lost);
        Ok(())
    }

    fn unreadable(&mut self, error: RecordingError) -> Result<(), CommandError> {
        report_unreadable(error);
        Ok(())
    }

    fn idle(&mut self) -> Result<(), CommandError> {
        Ok(())
    }
}

impl Replayer<'_> {
    /// Sends a message that was recorded in pieces, after its last piece.
    fn note(&mut self, message: &Message<'_>) -> Result<(), CommandError> {
        let json = members(message.data);
        let is = |key: &str| json.get(key).and_then(serde_json::Value::as_bool) == Some(true);
        let device = json.get("device").and_then(serde_json::Value::as_str);
        let cut = ["fault", "close"].map(Some);
        let kind = json.get("event").and_then(serde_json::Value::as_str);
        let Some(device) = device else {
            return Ok(());
        };
        if cut.contains(&kind) {
            // The rest of the message was never received.
            self.parts.remove(device);
        } else if is("last")
            && let Some(whole) = self.parts.remove(device)
            && let Some(sender) = self.senders.get_mut(device)
        {
            sender.send(whole);
        }
        Ok(())
    }

    /// Ends all connections; returns how many of them failed.
    fn end(self) -> usize {
        let mut cut = 0;
        // All queues are closed before the first thread is joined.
        let threads = self.senders.into_iter().map(|(device, sender)| {
            drop(sender.queue);
            (device, sender.thread)
        });
        let threads: Vec<_> = threads.collect();
        for (device, thread) in threads {
            match thread.join() {
                Ok(Ok(())) => {}
                Ok(Err((failure, blocks))) => {
                    cut += 1;
                    let blocks = counted(blocks, "block");
                    let device = printable(device);
                    print_status(format_args!("blocksd: {device}: {failure}, after {blocks}"));
                }
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        cut
    }
}

impl DeviceSender {
    fn start(to: &str, framing: AnyFraming, sent: Arc<Sent>) -> Result<Self, CommandError> {
        let stream = connect(to, CONNECT_TIMEOUT)?;
        let (queue, messages) = sync_channel(QUEUE_LEN);
        let name = std::thread::Builder::new().name("replay".to_owned());
        let thread = name.spawn(move || {
            let mut blocks = 0;
            let sent_all = send_all(&stream, framing, &messages, |bytes| {
                blocks += 1;
                sent.add(bytes);
            });
            sent_all.map_err(|failure| (failure, blocks))
        })?;
        Ok(Self {
            framing,
            queue,
            thread,
            failed: false,
        })
    }

    /// Queues a message; waits while the queue is full.
    fn send(&mut self, message: Vec<u8>) {
        // The error of the thread is reported at the end.
        self.failed = self.failed || self.queue.send(message).is_err();
    }
}

/// Writes the messages of the queue, then the end mark; then waits until the peer has received everything.
fn send_all(
    mut stream: &TcpStream,
    framing: AnyFraming,
    messages: &Receiver<Vec<u8>>,
    mut sent: impl FnMut(usize),
) -> Result<(), CommandError> {
    type Writer<W> = blocking::Writer<FromStd<W>, AnyFraming>;
    // A message that is due is sent at once.
    stream.set_nodelay(true).map_err(CommandError::Connection)?;
    let mut writer = Writer::new(FromStd::new(BufWriter::new(stream)), framing);
    loop {
        let message = match messages.try_recv() {
            Ok(message) => message,
            Err(TryRecvError::Disconnected) => break,
            Err(TryRecvError::Empty) => {
                writer.flush()?;
                match messages.recv() {
                    Ok(message) => message,
                    Err(_) => break,
                }
            }
        };
        writer.send(&message)?;
        sent(message.len());
    }
    writer.finish()?;
    let done = stream.shutdown(Shutdown::Write);
    done.and_then(|()| stream.set_read_timeout(Some(LINGER)))
        .map_err(CommandError::Connection)?;
    // The reply itself is ignored, but an error shows that the peer did not read everything.
    let mut reply = [0; 1024];
    let begin = Instant::now();
    while begin.elapsed() < LINGER {
        match stream.read(&mut reply) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if is_retryable(&error) => {}
            Err(error) => return Err(CommandError::Connection(error)),
        }
    }
    Ok(())
}

fn is_retryable(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
    )
}

fn progress() -> ProgressBar {
    if !stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{spinner} {elapsed} {msg}");
    let bar = ProgressBar::new_spinner();
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    bar.enable_steady_tick(TICK);
    bar
}
