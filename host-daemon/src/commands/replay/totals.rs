//! Counts of a replay, and its lines on standard error. Start with [`ReplayTotals`].

use std::fmt;
use std::io::{IsTerminal as _, stderr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::escape::printable;
use crate::output::counted;
use crate::service::log::print_status;

/// Update interval of the progress bar.
const TICK: Duration = Duration::from_millis(100);

/// Counts of all connections, shared by their tasks.
#[derive(Debug)]
pub(super) struct ReplayTotals {
    /// Messages that were written to a connection.
    messages: AtomicU64,
    /// Bytes of their payloads.
    bytes: AtomicU64,
    /// Messages that were recorded whole, but cannot be sent.
    unsent: AtomicU64,
    /// Messages of which the recording has only a part.
    incomplete: AtomicU64,
    /// Messages that were received in part, and sent in part.
    truncated: AtomicU64,
    /// Connections whose peer did not accept everything.
    cut_off: AtomicUsize,
    bar: ProgressBar,
}

impl ReplayTotals {
    /// Zero of each, with a progress bar if standard error is a terminal.
    pub(super) fn new() -> Self {
        Self {
            messages: AtomicU64::default(),
            bytes: AtomicU64::default(),
            unsent: AtomicU64::default(),
            incomplete: AtomicU64::default(),
            truncated: AtomicU64::default(),
            cut_off: AtomicUsize::default(),
            bar: progress(),
        }
    }

    /// Counts messages that were sent.
    pub(super) fn sent(&self, messages: u64, bytes: u64) {
        self.messages.fetch_add(messages, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts a message that was recorded whole, but cannot be sent.
    pub(super) fn unsent(&self) {
        self.unsent.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a message of which the recording has only a part.
    pub(super) fn incomplete(&self) {
        self.incomplete.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a message that was received in part, and sent in part.
    pub(super) fn truncated(&self) {
        self.truncated.fetch_add(1, Ordering::Relaxed);
    }

    /// Messages that were received in part, and sent in part.
    pub(super) fn truncated_count(&self) -> u64 {
        self.truncated.load(Ordering::Relaxed)
    }

    /// Counts a connection whose peer did not accept everything.
    pub(super) fn cut_off(&self) {
        self.cut_off.fetch_add(1, Ordering::Relaxed);
    }

    /// Connections whose peer did not accept everything.
    pub(super) fn cut_off_count(&self) -> usize {
        self.cut_off.load(Ordering::Relaxed)
    }

    /// Messages that were recorded whole, but not sent.
    pub(super) fn unsent_count(&self) -> u64 {
        self.unsent.load(Ordering::Relaxed)
    }

    /// Messages of which the recording has only a part.
    pub(super) fn incomplete_count(&self) -> u64 {
        self.incomplete.load(Ordering::Relaxed)
    }

    /// Whether nothing was sent.
    pub(super) fn is_zero(&self) -> bool {
        self.messages.load(Ordering::Relaxed) == 0
    }

    /// Shows the progress, on a terminal.
    pub(super) fn show(&self) {
        if !self.bar.is_hidden() {
            self.bar.set_message(self.to_string());
        }
    }

    /// Prints a line beside the progress bar.
    pub(super) fn print(&self, line: fmt::Arguments<'_>) {
        // Names of devices come from a file.
        let line = printable(line);
        self.bar.suspend(|| print_status(format_args!("{line}")));
    }

    /// Removes the progress bar.
    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// The messages and bytes that were sent.
impl fmt::Display for ReplayTotals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let messages = counted(self.messages.load(Ordering::Relaxed), "message");
        let bytes = counted(self.bytes.load(Ordering::Relaxed), "byte");
        write!(f, "{messages}, {bytes}")
    }
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
