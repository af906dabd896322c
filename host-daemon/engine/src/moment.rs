//! A point in time in 8 bytes, half the size of an `Instant`: `Moment`.

use std::num::NonZeroU64;
use std::sync::OnceLock;
use std::time::Duration;

use tokio::time::Instant;

/// Nanoseconds since [`origin`], plus one. An [`Instant`] takes twice as much memory, and each connection stores
/// several.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment(NonZeroU64);

impl Moment {
    pub(crate) fn now() -> Self {
        // At least 1, so that `Option<Moment>` takes 8 bytes too. Overflows after 500 years.
        let ns = nanos(origin().elapsed());
        Self(NonZeroU64::MIN.saturating_add(ns))
    }

    /// Nanoseconds since [`origin`].
    pub(crate) const fn nanos(self) -> u64 {
        self.0.get()
    }

    /// Whether `time` or more has passed between this moment and `now`.
    pub(crate) fn is_past(self, time: Duration, now: Self) -> bool {
        self.later(time).nanos() <= now.nanos()
    }

    /// Whole seconds from `earlier` to this moment.
    pub(crate) const fn seconds_since(self, earlier: Self) -> u64 {
        self.nanos().saturating_sub(earlier.nanos()) / 1_000_000_000
    }

    pub(crate) fn later(self, time: Duration) -> Self {
        let ns = nanos(time);
        Self(self.0.saturating_add(ns))
    }

    /// The instant `time` after this moment, or `None` if it cannot be represented.
    pub(crate) fn after(self, time: Duration) -> Option<Instant> {
        origin()
            .checked_add(Duration::from_nanos(self.0.get()))?
            .checked_add(time)
    }
}

/// A duration in nanoseconds, saturated at about 500 years.
pub(crate) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The instant that moments are measured from.
pub(crate) fn origin() -> Instant {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    *ORIGIN.get_or_init(Instant::now)
}
