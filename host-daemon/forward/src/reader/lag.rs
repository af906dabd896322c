//! How long a reader waits for messages that the leader has and the server that delivers has not: a [`Lag`].

use std::time::{Duration, Instant};

use crate::fetched::LAG_MAX_S;

/// Pause until the server is asked again.
pub(super) const LAG_PAUSE: Duration = Duration::from_millis(100);
/// Time after which another server is tried.
const RENEWAL: Duration = Duration::from_secs(2);
/// Time without a message after which the reader gives up.
const LAG_MAX: Duration = Duration::from_secs(LAG_MAX_S);

/// Since when nothing was delivered, although the leader has more.
#[derive(Debug, Default)]
pub(super) struct Lag(Option<Since>);

#[derive(Clone, Copy, Debug)]
struct Since {
    begun: Instant,
    /// When another server was tried, or the beginning.
    renewed: Instant,
}

/// What to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LagStep {
    /// Ask the server again after [`LAG_PAUSE`].
    Wait,
    /// Make another consumer, perhaps on another server.
    Renew,
    /// Give up.
    GiveUp,
}

impl Lag {
    /// Notes that nothing is delivered at this time.
    pub(super) fn step(&mut self, now: Instant) -> LagStep {
        let since = self.0.get_or_insert(Since {
            begun: now,
            renewed: now,
        });
        if LAG_MAX <= now.duration_since(since.begun) {
            return LagStep::GiveUp;
        }
        if RENEWAL <= now.duration_since(since.renewed) {
            since.renewed = now;
            return LagStep::Renew;
        }
        LagStep::Wait
    }

    /// Notes that a message was delivered.
    pub(super) const fn end(&mut self) {
        self.0 = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_server_is_tried_until_it_takes_too_long() {
        let begun = Instant::now();
        let mut lag = Lag::default();
        let mut step = |ms| lag.step(begun + Duration::from_millis(ms));
        assert_eq!(step(0), LagStep::Wait);
        assert_eq!(step(1_900), LagStep::Wait);
        assert_eq!(step(2_000), LagStep::Renew);
        assert_eq!(step(3_900), LagStep::Wait);
        assert_eq!(step(4_100), LagStep::Renew);
        assert_eq!(step(30_000), LagStep::GiveUp);
        // A message came.
        lag.end();
        assert_eq!(lag.step(begun + LAG_MAX), LagStep::Wait);
    }
}
