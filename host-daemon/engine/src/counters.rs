//! Counters for the whole engine: [`Counters`], and [`Totals`] as read at one moment.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::event::Dropped;
use crate::reason::{CloseReason, FaultKind, HandshakeRefusal, RefusedReason};

/// Counters that connections add to. All methods may be called from any thread.
///
/// # Examples
/// ```
/// use blocksd_engine::counters::Counters;
///
/// let counters = Counters::default();
/// counters.connection();
/// counters.messages(2, 100);
/// let totals = counters.totals();
/// assert_eq!((totals.connections, totals.messages, totals.bytes), (1, 2, 100));
/// ```
#[derive(Debug, Default)]
pub struct Counters {
    connections: AtomicU64,
    refused: [AtomicU64; RefusedReason::ALL.len()],
    handshakes: AtomicU64,
    handshakes_refused: [AtomicU64; HandshakeRefusal::ALL.len()],
    messages: AtomicU64,
    bytes: AtomicU64,
    series: AtomicU64,
    faults: [AtomicU64; FaultKind::ALL.len()],
    undecoded: AtomicU64,
    output_lost: AtomicU64,
    output_lost_others: AtomicU64,
    view_missed: AtomicU64,
    view_missed_others: AtomicU64,
    closed: [AtomicU64; CloseReason::ALL.len()],
    series_open: AtomicU64,
    after_end: AtomicU64,
    truncated_bytes: AtomicU64,
    reply_echoes: AtomicU64,
}

impl Counters {
    /// Counts an accepted connection.
    pub fn connection(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a refused connection. Returns how many were refused for this reason so far.
    pub fn refused(&self, why: RefusedReason) -> u64 {
        let counter = self.refused.get(why as usize);
        counter.map_or(0, |counter| counter.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Counts a connection whose handshake succeeded.
    pub fn handshake(&self) {
        self.handshakes.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a connection that is refused because of its handshake. Returns how many were refused for this reason so far.
    pub fn handshake_refused(&self, why: HandshakeRefusal) -> u64 {
        self.refused(RefusedReason::Handshake);
        let counter = self.handshakes_refused.get(why as usize);
        counter.map_or(0, |counter| counter.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Returns the number of handshakes that succeeded, and of those that failed, in the order of
    /// [`HandshakeRefusal::ALL`].
    #[must_use]
    pub fn handshakes(&self) -> (u64, [u64; HandshakeRefusal::ALL.len()]) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let refused = self.handshakes_refused.each_ref().map(read);
        (read(&self.handshakes), refused)
    }

    /// Counts complete messages, and payload bytes including those of pieces.
    pub fn messages(&self, messages: u64, bytes: u64) {
        self.messages.fetch_add(messages, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts a series that ended with its end mark.
    pub fn series(&self) {
        self.series.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a fault.
    pub fn fault(&self, kind: FaultKind) {
        if let Some(counter) = self.faults.get(kind as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts a message that is not decoded for the reason of an earlier fault of its connection, which is no further
    /// fault.
    pub fn undecoded(&self) {
        self.undecoded.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the number of messages that were not decoded for the reason of an earlier fault.
    #[must_use]
    pub fn undecoded_messages(&self) -> u64 {
        self.undecoded.load(Ordering::Relaxed)
    }

    /// Counts a connection that sent bytes after the end mark that closes it.
    pub fn after_end(&self) {
        self.after_end.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts the bytes of a truncated message that were kept.
    pub fn truncated_bytes(&self, bytes: u64) {
        self.truncated_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts a closed connection, and whether it left a series open.
    pub fn closed(&self, reason: CloseReason, series_open: bool) {
        if let Some(counter) = self.closed.get(reason as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        self.series_open
            .fetch_add(u64::from(series_open), Ordering::Relaxed);
    }

    /// Returns the number of closed connections, in the order of [`CloseReason::ALL`].
    #[must_use]
    pub fn closed_by_reason(&self) -> [u64; CloseReason::ALL.len()] {
        self.closed
            .each_ref()
            .map(|counter| counter.load(Ordering::Relaxed))
    }

    /// Counts a series that is a reply of the daemon, which came back over a line. It is not answered.
    pub fn reply_echo(&self) {
        self.reply_echoes.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the number of series that were replies of the daemon.
    #[must_use]
    pub fn reply_echoes(&self) -> u64 {
        self.reply_echoes.load(Ordering::Relaxed)
    }

    /// Returns the number of connections that left a series open.
    #[must_use]
    pub fn series_left_open(&self) -> u64 {
        self.series_open.load(Ordering::Relaxed)
    }

    /// Returns the number of connections that sent bytes after the end mark that closed them.
    #[must_use]
    pub fn after_ends(&self) -> u64 {
        self.after_end.load(Ordering::Relaxed)
    }

    /// Returns the bytes of truncated messages that were kept.
    #[must_use]
    pub fn truncated_bytes_total(&self) -> u64 {
        self.truncated_bytes.load(Ordering::Relaxed)
    }

    /// Counts what lossy sinks, such as the output of a daemon that records, have dropped because they were too slow.
    pub fn output_lost(&self, dropped: Dropped) {
        if dropped.is_empty() {
            return;
        }
        let Dropped { messages, others } = dropped;
        self.output_lost.fetch_add(messages, Ordering::Relaxed);
        self.output_lost_others.fetch_add(others, Ordering::Relaxed);
    }

    /// Returns the number of messages that were dropped from the output.
    #[must_use]
    pub fn blocks_not_shown(&self) -> u64 {
        self.output_lost.load(Ordering::Relaxed)
    }

    /// Returns the number of other events that were dropped from the output: opened and closed connections, end marks,
    /// faults and pieces.
    #[must_use]
    pub fn events_not_shown(&self) -> u64 {
        self.output_lost_others.load(Ordering::Relaxed)
    }

    /// Counts what live views did not get: messages of watched devices beyond the budget or the queue, and other events beyond
    /// the queue.
    pub(crate) fn view_missed(&self, missed: Dropped) {
        if missed.is_empty() {
            return;
        }
        let Dropped { messages, others } = missed;
        self.view_missed.fetch_add(messages, Ordering::Relaxed);
        self.view_missed_others.fetch_add(others, Ordering::Relaxed);
    }

    /// Returns what live views did not get.
    #[must_use]
    pub fn missed_by_views(&self) -> Dropped {
        Dropped {
            messages: self.view_missed.load(Ordering::Relaxed),
            others: self.view_missed_others.load(Ordering::Relaxed),
        }
    }

    /// Returns the current totals.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Totals {
            connections: read(&self.connections),
            refused: self.refused.each_ref().map(read),
            messages: read(&self.messages),
            bytes: read(&self.bytes),
            series: read(&self.series),
            faults: self.faults.each_ref().map(read),
            sessions_refused: self.closed_by_reason()[CloseReason::SessionRefused as usize],
        }
    }
}

/// The values of [`Counters`] at one moment. Its `Display` is the summary line that the daemon prints at its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Accepted connections.
    pub connections: u64,
    refused: [u64; RefusedReason::ALL.len()],
    /// Complete messages.
    pub messages: u64,
    /// Payload bytes, including those of pieces.
    pub bytes: u64,
    /// Series that ended with their end mark.
    pub series: u64,
    faults: [u64; FaultKind::ALL.len()],
    sessions_refused: u64,
}

impl Totals {
    /// Returns the number of connections that were closed because a session was refused, or is required.
    #[must_use]
    pub const fn sessions_refused(&self) -> u64 {
        self.sessions_refused
    }

    /// Returns the number of refused connections.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.iter().sum()
    }

    /// Returns the number of refused connections by reason.
    pub fn refused_by(&self) -> impl Iterator<Item = (RefusedReason, u64)> {
        RefusedReason::ALL.into_iter().zip(self.refused)
    }

    /// Returns the number of faults.
    #[must_use]
    pub fn faults(&self) -> u64 {
        self.faults.iter().sum()
    }

    /// Returns the number of faults in the order of [`FaultKind::ALL`].
    #[must_use]
    pub const fn faults_by_kind(&self) -> [u64; FaultKind::ALL.len()] {
        self.faults
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = |count: u64| if count == 1 { "" } else { "s" };
        let Self {
            connections,
            messages,
            bytes,
            series,
            ..
        } = *self;
        let (faults, refused) = (self.faults(), self.refused());
        write!(
            f,
            "{connections} connection{}, {series} series, {messages} block{}, {bytes} byte{}, {faults} fault{}",
            plural(connections),
            plural(messages),
            plural(bytes),
            plural(faults),
        )?;
        let counts = FaultKind::ALL
            .into_iter()
            .zip(self.faults)
            .filter(|(_, count)| *count != 0);
        for (index, (kind, count)) in counts.enumerate() {
            write!(f, "{}{count} {kind}", if index == 0 { " (" } else { ", " })?;
        }
        write!(
            f,
            "{}, {refused} refused",
            if faults == 0 { "" } else { ")" }
        )?;
        match self.sessions_refused {
            0 => Ok(()),
            sessions => write!(f, ", {sessions} session{} refused", plural(sessions)),
        }
    }
}
