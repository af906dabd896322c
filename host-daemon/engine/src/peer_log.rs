//! Rate limit for warnings that peers cause, over all connections. Log such a warning with `warn_peer!`.
//!
//! Each device has a token bucket, and so have all devices together. A warning without a token is logged at level
//! `debug`. If that level is off, it is counted by kind, and the log thread writes the counts.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::limit::{Limiter, Rate};
use crate::origin::Origin;
use crate::reason::assert_order;

/// Warnings about one device.
const EACH: Rate = Rate {
    burst: 20,
    interval: Duration::from_secs(5),
};
/// Warnings about all devices together.
const ALL: Rate = Rate {
    burst: 100,
    interval: Duration::from_millis(500),
};
/// Time from the first suppressed warning to the line with their number.
pub const SUMMARY_AFTER: Duration = Duration::from_secs(10);

static LIMITER: LazyLock<Mutex<Limiter>> = LazyLock::new(|| Mutex::new(Limiter::new(EACH, ALL)));
static SUPPRESSED: [AtomicU64; Kind::ALL.len()] = [const { AtomicU64::new(0) }; Kind::ALL.len()];

static ON_SUPPRESSED: OnceLock<fn()> = OnceLock::new();

/// The reason for a warning about a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A message was refused.
    Fault,
    /// There were bytes after the end of a series.
    AfterEnd,
    /// A reply was not sent, or not whole.
    Reply,
    /// A connection was refused.
    Refused,
    /// A connection could not be accepted.
    Accept,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Fault,
        Self::AfterEnd,
        Self::Reply,
        Self::Refused,
        Self::Accept,
    ];

    /// The word for it in the log and in the metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fault => "fault",
            Self::AfterEnd => "after_end",
            Self::Reply => "reply",
            Self::Refused => "refused",
            Self::Accept => "accept",
        }
    }
}

assert_order!(Kind);

/// Logs a warning that a peer has caused: `warn_peer!(kind, device, ...)`, with the arguments of `tracing::warn!`.
macro_rules! warn_peer {
    ($kind:expr, $device:expr, $($line:tt)+) => {
        if tracing::enabled!(tracing::Level::WARN) {
            if $crate::peer_log::is_within_limits($device) {
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

/// Whether one more warning about this device is written.
pub(crate) fn is_within_limits(device: &str) -> bool {
    let mut limiter = LIMITER.lock().unwrap_or_else(PoisonError::into_inner);
    let cell = limiter.cell(&Origin::of_device(device));
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

/// Calls `hook` for each warning that is suppressed from now on: it is to log a [`summary`] later. Only the first hook
/// is kept.
pub fn on_suppressed(hook: fn()) {
    let _ = ON_SUPPRESSED.set(hook);
}

/// Warnings that were suppressed so far, in the order of [`Kind::ALL`].
#[must_use]
pub fn suppressed() -> [u64; Kind::ALL.len()] {
    SUPPRESSED
        .each_ref()
        .map(|count| count.load(Ordering::Relaxed))
}

/// The line about warnings that were suppressed since `before`, if there are any.
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
        // Writing to a string cannot fail.
        let _ = write!(text, "{comma} {count} {}", kind.as_str());
    }
    (lines != 0).then_some(text)
}
