//! Writes the log to standard error from a dedicated thread, so a blocked reader never blocks the daemon. Start with
//! [`start`], [`print_status`] and [`print_error`]. The journal gets a priority in place of time and level.
//!
//! `tracing-appender` is not used: a sender cannot wait for its queue, and it prints its own errors to standard output,
//! which belongs to the messages.

mod collector;
mod journal;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{LazyLock, Mutex, OnceLock};
use std::time::{Duration, Instant};

use blocksd_engine::{peer_log, stdio};
use tracing::{Metadata, warn};
use tracing_subscriber::fmt::format::DefaultFields;
use tracing_subscriber::fmt::{Formatter, MakeWriter};
use tracing_subscriber::{EnvFilter, reload};

pub use self::collector::LogCollector;
use self::journal::{EventFormat, Priority};
use crate::escape::readable_text;

/// Length of the queue, in lines. If it is full, a line is dropped and counted.
const LINES_MAX: usize = 4096;
/// How long [`print_status`] and [`finish`] each wait for a reader of standard error that reads nothing.
const STUCK: Duration = Duration::from_millis(500);
/// How long they each wait for a slow reader.
pub(crate) const SLOW: Duration = Duration::from_millis(1000);
/// How long they wait for the thread to be scheduled, on a busy machine.
const BUSY: Duration = Duration::from_secs(5);
/// Their polling interval.
const POLL_INTERVAL: Duration = Duration::from_millis(1);

static LOG: OnceLock<LogQueue> = OnceLock::new();
static FILTER: OnceLock<Filter> = OnceLock::new();
/// Whether the journal reads standard error.
static IS_JOURNAL: LazyLock<bool> = LazyLock::new(journal::is_reader);

/// Starts the thread, which also prints panics. A line that is printed before this call is written at once.
///
/// # Errors
/// If the system cannot start a thread.
pub fn start() -> io::Result<()> {
    let (lines, queue) = sync_channel(LINES_MAX);
    std::thread::Builder::new()
        .name("log".to_owned())
        .spawn(move || write(&queue))?;
    // If this is called twice, the second thread finds its queue closed and ends.
    let _ = LOG.set(LogQueue {
        lines,
        lost: AtomicU64::new(0),
        lost_unreported: AtomicU64::new(0),
        sent: AtomicU64::new(0),
        begun: AtomicU64::new(0),
        written: AtomicU64::new(0),
        summary_due: AtomicBool::new(false),
        summarized: Mutex::default(),
    });
    peer_log::on_suppressed(expect_summary);
    std::panic::set_hook(Box::new(|panic| {
        let trace = Backtrace::capture();
        match trace.status() {
            BacktraceStatus::Captured => {
                print(
                    Priority::Critical,
                    format_args!("blocksd: {panic}\n{trace}"),
                );
            }
            _ => print(Priority::Critical, format_args!("blocksd: {panic}")),
        }
    }));
    Ok(())
}

/// The environment variable that overrides `--log`.
pub const VARIABLE: &str = "RUST_LOG";

type Filter = reload::Handle<EnvFilter, Formatter<DefaultFields, EventFormat, Log>>;

/// Starts logging at the level of `RUST_LOG`, or at `level` if that is not set.
pub fn subscribe(level: &str) {
    let (filter, invalid) = filter(level);
    let builder = tracing_subscriber::fmt()
        .with_ansi(!*IS_JOURNAL && io::stderr().is_terminal())
        // A write error of the log must not cause a panic.
        .log_internal_errors(false)
        .event_format(EventFormat::of_reader(*IS_JOURNAL))
        .with_writer(Log)
        .with_env_filter(filter)
        .with_filter_reloading();
    let _ = FILTER.set(builder.reload_handle());
    builder.init();
    if let Some(invalid) = invalid {
        warn!("{VARIABLE} is ignored: {invalid}");
    }
}

/// A new log level that was checked.
#[derive(Debug)]
pub enum NewLevel {
    /// [`NewLevel::apply`] sets this level.
    Ready(Box<EnvFilter>),
    /// `RUST_LOG` is set and is used instead.
    Overridden,
}

/// Prepares a new log level, which `RUST_LOG` overrides. Changes nothing yet.
///
/// # Errors
/// If the level cannot be changed.
pub fn prepare(level: &str) -> Result<NewLevel, String> {
    if matches!(requested(), Some(Ok(_))) {
        return Ok(NewLevel::Overridden);
    }
    FILTER.get().ok_or("the log is not started")?;
    Ok(NewLevel::Ready(Box::new(of_level(level))))
}

impl NewLevel {
    /// Sets the level.
    pub fn apply(self) {
        if let (Self::Ready(filter), Some(handle)) = (self, FILTER.get())
            && let Err(error) = handle.reload(*filter)
        {
            warn!("cannot change the log level: {error}");
        }
    }

    /// Whether `RUST_LOG` is used instead.
    #[must_use]
    pub const fn is_overridden(&self) -> bool {
        matches!(self, Self::Overridden)
    }
}

/// The filter of `RUST_LOG`, or else of `level`; and the reason if `RUST_LOG` is invalid.
fn filter(level: &str) -> (EnvFilter, Option<String>) {
    match requested() {
        Some(Ok(filter)) => (filter, None),
        Some(Err(invalid)) => (of_level(level), Some(invalid)),
        None => (of_level(level), None),
    }
}

/// The filter of a level. The client of NATS says nothing that the daemon does not say itself, with the cluster and what to do.
fn of_level(level: &str) -> EnvFilter {
    match level {
        "error" | "warn" | "info" => EnvFilter::new(format!("{level},async_nats=off")),
        level => EnvFilter::new(level),
    }
}

/// The filter of `RUST_LOG`, if that is set; an error if it is invalid.
fn requested() -> Option<Result<EnvFilter, String>> {
    let text = std::env::var_os(VARIABLE).filter(|text| !text.is_empty())?;
    let Ok(text) = text.into_string() else {
        return Some(Err("not UTF-8".to_owned()));
    };
    let filter = EnvFilter::builder().parse(text);
    Some(filter.map_err(|invalid| invalid.to_string()))
}

/// Prints a text to standard error, after the lines that were logged before it. Special characters are escaped, except
/// newlines: use `printable` of the module `escape` for names and reasons. People and programs depend on these lines, so if the queue is
/// full, this waits up to a second before it drops the text.
pub fn print_status(line: std::fmt::Arguments<'_>) {
    print(Priority::Info, line);
}

/// Like [`print_status`], for a line about an error.
pub fn print_error(line: std::fmt::Arguments<'_>) {
    print(Priority::Error, line);
}

fn print(priority: Priority, line: std::fmt::Arguments<'_>) {
    let mut text = Vec::new();
    for line in line.to_string().split('\n') {
        readable_text(line, &mut text);
        text.push(b'\n');
    }
    let mut line = text;
    let Some(log) = LOG.get() else {
        let _ = write_line(priority, &line);
        return;
    };
    let mut timeout = DrainTimeout::new(log);
    while let Err(back) = log.try_send(priority, line) {
        if timeout.has_elapsed(log) {
            log.count_lost();
            return;
        }
        line = back;
        std::thread::sleep(POLL_INTERVAL);
    }
}

/// Prints the number of warnings about peers that were suppressed since the last such line.
pub fn print_suppressed() {
    if let Some(text) = LOG.get().and_then(LogQueue::summary) {
        print(Priority::Warning, format_args!("{text}"));
    }
}

/// Makes the log thread print the number of suppressed warnings after a delay.
fn expect_summary() {
    if let Some(log) = LOG.get()
        && !log.summary_due.swap(true, Ordering::AcqRel)
    {
        // Wakes the thread. If the queue is full, the thread is awake.
        let _ = log.try_send(Priority::Debug, Vec::new());
    }
}

/// Waits until all lines are written: up to a second, or half a second if the reader reads nothing.
pub fn finish() {
    let Some(log) = LOG.get() else {
        return;
    };
    let mut timeout = DrainTimeout::new(log);
    while log.written.load(Ordering::Acquire) < log.sent.load(Ordering::Acquire)
        && !timeout.has_elapsed(log)
    {
        std::thread::sleep(POLL_INTERVAL);
    }
}

/// Number of lines that were dropped so far because standard error was blocked.
#[must_use]
pub fn lost() -> u64 {
    LOG.get().map_or(0, |log| log.lost.load(Ordering::Relaxed))
}

/// The sending side of the queue, and its counts.
#[derive(Debug)]
struct LogQueue {
    lines: SyncSender<LogLine>,
    lost: AtomicU64,
    /// Dropped lines that the log has not reported yet.
    lost_unreported: AtomicU64,
    sent: AtomicU64,
    /// Lines that the thread has begun to write.
    begun: AtomicU64,
    /// Lines that it has written.
    written: AtomicU64,
    /// Warnings about peers were suppressed since the last summary.
    summary_due: AtomicBool,
    /// The number of suppressed warnings of each kind in the last summary.
    summarized: Mutex<[u64; peer_log::Kind::ALL.len()]>,
}

/// A line, and the number of lines that were dropped before it.
#[derive(Debug)]
struct LogLine {
    priority: Priority,
    text: Vec<u8>,
    lost: u64,
}

impl LogQueue {
    /// Queues a line, or returns it if the queue is full.
    fn try_send(&self, priority: Priority, text: Vec<u8>) -> Result<(), Vec<u8>> {
        let lost = self.lost_unreported.swap(0, Ordering::Relaxed);
        // Counted first, so that `written` never exceeds `sent`.
        self.sent.fetch_add(1, Ordering::AcqRel);
        let line = LogLine {
            priority,
            text,
            lost,
        };
        match self.lines.try_send(line) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(line) | TrySendError::Disconnected(line)) => {
                self.sent.fetch_sub(1, Ordering::AcqRel);
                self.lost_unreported.fetch_add(lost, Ordering::Relaxed);
                Err(line.text)
            }
        }
    }

    /// The summary of suppressed warnings, if there are any.
    fn summary(&self) -> Option<String> {
        self.summary_due.store(false, Ordering::Release);
        let mut summarized = self.summarized.lock();
        peer_log::summary(summarized.as_mut().ok()?)
    }

    /// Counts a dropped line.
    fn count_lost(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
        self.lost_unreported.fetch_add(1, Ordering::Relaxed);
    }
}

/// A timeout that is extended, up to a limit, while the reader of standard error makes progress.
#[derive(Debug)]
struct DrainTimeout {
    since: Instant,
    moved: Instant,
    begun: u64,
}

impl DrainTimeout {
    fn new(log: &LogQueue) -> Self {
        Self {
            since: Instant::now(),
            moved: Instant::now(),
            begun: log.begun.load(Ordering::Acquire),
        }
    }

    fn has_elapsed(&mut self, log: &LogQueue) -> bool {
        let begun = log.begun.load(Ordering::Acquire);
        if log.written.load(Ordering::Acquire) == begun {
            // The thread is waited for, and not the reader.
            self.moved = Instant::now();
            return BUSY < self.since.elapsed();
        }
        if begun != self.begun {
            (self.begun, self.moved) = (begun, Instant::now());
        }
        STUCK < self.moved.elapsed() || SLOW < self.since.elapsed()
    }
}

/// Runs the log thread.
fn write(queue: &Receiver<LogLine>) {
    let mut summary_at = None;
    loop {
        let line = match summary_at {
            None => queue.recv().map_err(RecvTimeoutError::from),
            Some(at) => queue.recv_timeout(Instant::saturating_duration_since(&at, Instant::now())),
        };
        match line {
            Ok(line) => write_next(&line),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let Some(log) = LOG.get() else {
            continue;
        };
        if summary_at.is_some_and(|at| at <= Instant::now()) {
            summary_at = None;
            if let Some(text) = log.summary()
                && write_line(Priority::Warning, format!("{text}\n").as_bytes()).is_err()
            {
                log.count_lost();
            }
        } else if log.summary_due.load(Ordering::Acquire) {
            summary_at.get_or_insert_with(|| Instant::now() + peer_log::SUMMARY_AFTER);
        }
    }
}

fn write_next(line: &LogLine) {
    let LogLine {
        priority,
        text,
        lost,
    } = line;
    if let Some(log) = LOG.get() {
        log.begun.fetch_add(1, Ordering::AcqRel);
    }
    if *lost != 0 {
        let note = format!("blocksd: standard error was blocked; log lines dropped here: {lost}\n");
        let _ = write_line(Priority::Warning, note.as_bytes());
    }
    let written = write_line(*priority, text);
    if let Some(log) = LOG.get() {
        if written.is_err() {
            log.count_lost();
        }
        log.written.fetch_add(1, Ordering::AcqRel);
    }
}

/// Writes a line. Another process that shares standard error may have made it non-blocking.
fn write_line(priority: Priority, line: &[u8]) -> io::Result<()> {
    let line = if *IS_JOURNAL {
        Cow::Owned(priority.mark(line))
    } else {
        Cow::Borrowed(line)
    };
    stdio::stderr().write_all(&line)
}

/// A line of the subscriber with special characters escaped, except its colours and the newline at its end. The
/// subscriber itself has escaped ESC in messages and values.
fn logged(line: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(line);
    let mut logged = Vec::with_capacity(line.len());
    let mut parts = text.strip_suffix('\n').unwrap_or(&text).split("\u{1b}[");
    readable_text(parts.next().unwrap_or_default(), &mut logged);
    for part in parts {
        let is_digit = |character: char| character.is_ascii_digit() || character == ';';
        let colour = part.len() - part.trim_start_matches(is_digit).len();
        match part.get(colour..).and_then(|rest| rest.strip_prefix('m')) {
            Some(rest) => {
                logged.extend_from_slice(b"\x1b[");
                logged.extend_from_slice(part.get(..=colour).unwrap_or_default().as_bytes());
                readable_text(rest, &mut logged);
            }
            None => readable_text(&format!("\u{1b}[{part}"), &mut logged),
        }
    }
    logged.push(b'\n');
    logged
}

/// Creates the writers of the subscriber.
#[derive(Clone, Copy, Debug)]
struct Log;

/// The writer of one event. Each call writes one line.
#[derive(Clone, Copy, Debug)]
struct LineWriter(Priority);

impl Write for LineWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Some(log) = LOG.get()
            && log.try_send(self.0, logged(line)).is_err()
        {
            log.count_lost();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = LineWriter;

    fn make_writer(&'a self) -> LineWriter {
        LineWriter(Priority::Info)
    }

    fn make_writer_for(&'a self, event: &Metadata<'_>) -> LineWriter {
        LineWriter((*event.level()).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_logged_line_keeps_its_colours_and_nothing_else_that_acts_on_a_terminal() {
        let line =
            "\u{1b}[33m WARN\u{1b}[0m a\u{202e}\u{9b}b\nc\u{1b}[2Jd\u{1b}]0;x\u{7} é\u{1b}[\n";
        let want = "\u{1b}[33m WARN\u{1b}[0m a\\u{202e}\\u{9b}b\\nc\\u{1b}[2Jd\\u{1b}]0;x\\u{7} é\\u{1b}[\n";
        assert_eq!(
            String::from_utf8(logged(line.as_bytes())).as_deref(),
            Ok(want)
        );
        assert_eq!(logged(b"a"), b"a\n");
    }
}
