//! Log lines about peers: warnings, with a rate limit (`warn_peer!`), and opened and closed connections.
//!
//! Each origin has a token bucket, and all origins share another. A warning that gets no token is logged at level
//! `debug`. If that level is off, it is counted by kind, and the log thread reports the counts with [`summary`].

pub(crate) mod connections;

use std::fmt::{self, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::event::ConnectionInfo;
use crate::limit::{Limiter, Rate};
use crate::origin::Origin;
use crate::reason::assert_order;

/// Limit for each origin.
const EACH: Rate = Rate {
    burst: 20,
    interval: Duration::from_secs(5),
};
/// Limit for all origins together.
const ALL: Rate = Rate {
    burst: 100,
    interval: Duration::from_millis(500),
};
/// Delay from the first suppressed warning to the summary.
pub const SUMMARY_AFTER: Duration = Duration::from_secs(10);

static LIMITER: LazyLock<Mutex<Limiter>> = LazyLock::new(|| Mutex::new(Limiter::new(EACH, ALL)));
static SUPPRESSED: [AtomicU64; Kind::ALL.len()] = [const { AtomicU64::new(0) }; Kind::ALL.len()];

static ON_SUPPRESSED: OnceLock<fn()> = OnceLock::new();

/// What a warning is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A message was refused.
    Fault,
    /// Bytes arrived after the end of a series.
    AfterEnd,
    /// A reply was not sent, or not completely.
    Reply,
    /// A connection was refused.
    Refused,
    /// A connection could not be accepted.
    Accept,
    /// A session was refused, or is not what was expected.
    Session,
    /// A device is silent, or sends again.
    Silence,
}

impl Kind {
    /// All kinds, in the order of their declaration.
    pub const ALL: [Self; 7] = [
        Self::Fault,
        Self::AfterEnd,
        Self::Reply,
        Self::Refused,
        Self::Accept,
        Self::Session,
        Self::Silence,
    ];

    /// The name of the kind in the log and in the metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fault => "fault",
            Self::AfterEnd => "after_end",
            Self::Reply => "reply",
            Self::Refused => "refused",
            Self::Accept => "accept",
            Self::Session => "session",
            Self::Silence => "silence",
        }
    }
}

assert_order!(Kind);

/// Logs a warning that a peer caused: `warn_peer!(kind, peer, ...)`, with the arguments of `tracing::warn!`. The limit is
/// that of the peer, which must not be a name that the device gives itself.
macro_rules! warn_peer {
    ($kind:expr, $peer:expr, $($line:tt)+) => {
        if tracing::enabled!(tracing::Level::WARN) {
            if $crate::peer_log::is_within_limits($peer) {
                tracing::warn!($($line)+);
            } else if tracing::enabled!(tracing::Level::DEBUG) {
                tracing::debug!($($line)+);
            } else {
                $crate::peer_log::suppress($kind);
            }
        }
    };
}
pub(crate) use warn_peer;

/// Faults logged per connection. Further ones are only counted.
const FAULTS_LOGGED: u32 = 5;

/// Logs fault number `count` of a connection, counted from 1, within the rate limit: the first five of a connection.
pub fn log_fault(count: u32, source: &ConnectionInfo, fault: fmt::Arguments<'_>) {
    log_fault_of(count, source, &source.device, fault);
}

/// As [`log_fault`], within the limit of a peer with this name: the device may have chosen its own.
pub fn log_fault_of(count: u32, source: &ConnectionInfo, peer: &str, fault: fmt::Arguments<'_>) {
    let ConnectionInfo { conn, device, .. } = source;
    if FAULTS_LOGGED < count {
        return;
    }
    warn_peer!(Kind::Fault, peer, conn, %device, "{fault}");
    if count == FAULTS_LOGGED {
        warn_peer!(Kind::Fault, peer, conn, %device, "further faults of this connection are counted, not logged");
    }
}

/// Takes a token for one warning about this peer. Returns whether it may be logged.
pub(crate) fn is_within_limits(peer: &str) -> bool {
    let mut limiter = LIMITER.lock().unwrap_or_else(PoisonError::into_inner);
    let cell = limiter.cell(&Origin::of_device(peer));
    limiter.take(cell, 1, Instant::now())
}

/// Counts a suppressed warning.
pub(crate) fn suppress(kind: Kind) {
    if let Some(count) = SUPPRESSED.get(kind as usize) {
        count.fetch_add(1, Ordering::Relaxed);
    }
    if let Some(hook) = ON_SUPPRESSED.get() {
        hook();
    }
}

/// Registers a function to be called for each suppressed warning, so that it can schedule a [`summary`]. Only the first
/// registration has an effect.
pub fn on_suppressed(hook: fn()) {
    let _ = ON_SUPPRESSED.set(hook);
}

/// Returns the number of suppressed warnings so far, in the order of [`Kind::ALL`].
#[must_use]
pub fn suppressed() -> [u64; Kind::ALL.len()] {
    SUPPRESSED
        .each_ref()
        .map(|count| count.load(Ordering::Relaxed))
}

/// Returns a log line with the number of warnings suppressed since `before`, and updates `before`. Returns `None` if
/// there were none.
pub fn summary(before: &mut [u64; Kind::ALL.len()]) -> Option<String> {
    let now = suppressed();
    let fresh = now.iter().zip(*before).map(|(now, before)| now - before);
    let fresh: Vec<_> = Kind::ALL.into_iter().zip(fresh).collect();
    *before = now;
    let lines: u64 = fresh.iter().map(|(_, count)| count).sum();
    let mut text = format!("blocksd: {lines} lines about peers were suppressed by the rate limit:");
    let fresh = fresh.iter().filter(|(_, count)| *count != 0);
    for (index, (kind, count)) in fresh.enumerate() {
        let comma = if index == 0 { "" } else { "," };
        // Writing to a `String` cannot fail.
        let _ = write!(text, "{comma} {count} {}", kind.as_str());
    }
    (lines != 0).then_some(text)
}
