//! Counters of all sessions: [`SessionCounters`], and [`SessionTotals`] as read at one moment.

use std::sync::atomic::{AtomicU64, Ordering};

use framing_core::session::wire::ClosingCode;

use crate::session::{GapCause, SessionGap};

/// The codes of CLOSING, with their names in metrics.
const CODES: [(ClosingCode, &str); 10] = [
    (ClosingCode::Version, "version"),
    (ClosingCode::BadHello, "bad_hello"),
    (ClosingCode::Forbidden, "forbidden"),
    (ClosingCode::Full, "full"),
    (ClosingCode::Superseded, "superseded"),
    (ClosingCode::Unsupported, "unsupported"),
    (ClosingCode::Again, "again"),
    (ClosingCode::Shutdown, "shutdown"),
    (ClosingCode::Protocol, "protocol"),
    (ClosingCode::NoSession, "no_session"),
];

/// Counters that sessions and their connections add to.
#[derive(Debug, Default)]
pub struct SessionCounters {
    opened: [AtomicU64; 4],
    acks: AtomicU64,
    closings: [AtomicU64; CODES.len()],
    gaps: [AtomicU64; GapCause::ALL.len()],
    repeated: AtomicU64,
    dropped: AtomicU64,
    resets: AtomicU64,
}

/// The values of [`SessionCounters`] at one moment, each with the value of its label.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionTotals {
    /// Connections that opened a session, by how it began.
    pub opened: Vec<(&'static str, u64)>,
    /// ACK frames that were sent.
    pub acks: u64,
    /// CLOSING frames that were sent, by code.
    pub closings: Vec<(&'static str, u64)>,
    /// Numbers without a message, by cause.
    pub gaps: Vec<(&'static str, u64)>,
    /// Messages that were received again, and skipped.
    pub repeated: u64,
    /// Messages that were dropped because messages before them were lost in a failed sync. Their senders send them again.
    pub dropped: u64,
    /// Connections that had to begin again, because a sync failed or the recording was damaged.
    pub resets: u64,
}

/// How a connection opened its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HelloKind {
    /// The sender had no session.
    Began,
    /// The session continues.
    Resumed,
    /// The session was not known here, and continues as it is.
    Adopted,
    /// The session has messages beyond those of the sender, so the sender got a new one.
    Replaced,
}

impl HelloKind {
    /// All kinds, in the order of their declaration.
    pub const ALL: [Self; 4] = [Self::Began, Self::Resumed, Self::Adopted, Self::Replaced];

    /// The name of the kind in output, recordings and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Began => "began",
            Self::Resumed => "resumed",
            Self::Adopted => "adopted",
            Self::Replaced => "replaced",
        }
    }

    /// Returns the kind with this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

impl SessionCounters {
    /// Counts messages that the sink has dropped, because messages before them were lost in a failed sync.
    pub fn dropped(&self, messages: u64) {
        self.dropped.fetch_add(messages, Ordering::Relaxed);
    }

    pub(crate) fn opened(&self, kind: HelloKind) {
        add(&self.opened, kind as usize, 1);
    }

    pub(crate) fn ack(&self) {
        self.acks.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn closing(&self, code: ClosingCode) {
        let index = CODES.iter().position(|(known, _)| *known == code);
        add(&self.closings, index.unwrap_or(usize::MAX), 1);
    }

    pub(crate) fn gap(&self, gap: &SessionGap) {
        add(&self.gaps, gap.cause as usize, gap.to - gap.from);
    }

    pub(crate) fn repeated(&self, messages: u64) {
        self.repeated.fetch_add(messages, Ordering::Relaxed);
    }

    pub(super) fn reset(&self) {
        self.resets.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the current totals.
    #[must_use]
    pub fn totals(&self) -> SessionTotals {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let named = |names: &[&'static str], counters: &[AtomicU64]| {
            let pairs = names.iter().copied().zip(counters);
            pairs.map(|(name, counter)| (name, read(counter))).collect()
        };
        SessionTotals {
            opened: named(&HelloKind::ALL.map(HelloKind::as_str), &self.opened),
            acks: read(&self.acks),
            closings: named(&CODES.map(|(_, name)| name), &self.closings),
            gaps: named(&GapCause::ALL.map(GapCause::as_str), &self.gaps),
            repeated: read(&self.repeated),
            dropped: read(&self.dropped),
            resets: read(&self.resets),
        }
    }
}

/// Adds to a counter, which stays at its greatest value: a device can name any gap of numbers.
pub(crate) fn add_saturating(counter: &AtomicU64, count: u64) {
    let sum = |value: u64| Some(value.saturating_add(count));
    // It always returns a sum.
    let _ = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, sum);
}

fn add(counters: &[AtomicU64], index: usize, count: u64) {
    if let Some(counter) = counters.get(index) {
        add_saturating(counter, count);
    }
}
