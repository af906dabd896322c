//! Points in time in half the memory of an instant: a `Moment`.

use std::num::NonZeroU64;
use std::sync::OnceLock;
use std::time::Duration;

use tokio::time::Instant;

/// When something was, in half the room of an [`Instant`]: ten thousand connections keep some.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment(NonZeroU64);

impl Moment {
    pub(crate) fn now() -> Self {
        // At least 1, and enough for 500 years.
        let ns = nanos(origin().elapsed());
        Self(NonZeroU64::MIN.saturating_add(ns))
    }

    /// Nanoseconds from the [`origin`] on.
    pub(crate) const fn nanos(self) -> u64 {
        self.0.get()
    }

    /// Whether `now` is at least so long after it.
    pub(crate) fn is_past(self, time: Duration, now: Self) -> bool {
        self.later(time).nanos() <= now.nanos()
    }

    /// Whole seconds from `earlier` to this.
    pub(crate) const fn seconds_since(self, earlier: Self) -> u64 {
        self.nanos().saturating_sub(earlier.nanos()) / 1_000_000_000
    }

    pub(crate) fn later(self, time: Duration) -> Self {
        let ns = nanos(time);
        Self(self.0.saturating_add(ns))
    }

    /// So long after it; `None` if that is never.
    pub(crate) fn after(self, time: Duration) -> Option<Instant> {
        origin()
            .checked_add(Duration::from_nanos(self.0.get()))?
            .checked_add(time)
    }
}

/// A duration in nanoseconds; at most 500 years.
pub(crate) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// What moments are counted from.
pub(crate) fn origin() -> Instant {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    *ORIGIN.get_or_init(Instant::now)
}
