//! Decides when to connect again, and when to give up: [`Reconnect`]. Reads no clock.

use std::time::Duration;

use framing_core::session::wire::ClosingCode;
use tokio::time::Instant;

/// The first delay after a connection without progress. It doubles with each one.
const DELAY: Duration = Duration::from_millis(100);
/// The longest delay.
const DELAY_MAX: Duration = Duration::from_secs(5);
/// A connection that lasted this long counts as progress, even without an acknowledgement.
const LASTING: Duration = Duration::from_secs(10);

/// The attempts to connect.
#[derive(Debug)]
pub(super) struct Reconnect {
    /// How long there may be no connection.
    timeout: Duration,
    /// Since when there has been none.
    since: Instant,
    /// Connections and attempts without progress, one after the other.
    failures: u32,
}

/// The progress of a connection, or of an attempt to connect.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Achieved {
    /// How long it has lasted after the WELCOME.
    pub(super) lasted: Duration,
    /// Messages were acknowledged.
    pub(super) has_progress: bool,
    /// There was nothing to acknowledge after the WELCOME.
    pub(super) is_settled: bool,
    /// The code of CLOSING, and when to connect again at the earliest.
    pub(super) closing: Option<(u8, Duration)>,
}

impl Reconnect {
    /// No connection may last for `timeout`. The first attempt is made at once.
    pub(super) const fn new(timeout: Duration, now: Instant) -> Self {
        Self {
            timeout,
            since: now,
            failures: 0,
        }
    }

    /// How long there may still be no connection.
    pub(super) fn left(&self, now: Instant) -> Duration {
        self.timeout.saturating_sub(now.duration_since(self.since))
    }

    /// When to connect again after a connection or an attempt; `None` to give up. `jitter` is 0 to 1.
    pub(super) fn next(
        &mut self,
        now: Instant,
        achieved: Achieved,
        jitter: f64,
    ) -> Option<Instant> {
        let is_good = achieved.has_progress || LASTING <= achieved.lasted;
        if is_good || achieved.is_settled {
            self.since = now;
        }
        let delay = match self.failures {
            _ if is_good => Duration::ZERO,
            0 if matches!(achieved.closing, Some((AGAIN, _))) => Duration::ZERO,
            failures => {
                let delay = DELAY.saturating_mul(1 << failures.min(10)).min(DELAY_MAX);
                delay.mul_f64(1.0 - jitter / 4.0)
            }
        };
        self.failures = if is_good { 0 } else { self.failures + 1 };
        // Without an end, if the timeout is longer than the clock can express.
        let deadline = self.since.checked_add(self.timeout);
        let least = match achieved.closing {
            Some((code, retry)) if code == SUPERSEDED || code == FULL => {
                now + retry.max(Duration::from_secs(1))
            }
            Some((_, retry)) => now + retry,
            None => now,
        };
        let is_late = |at: Instant| deadline.is_some_and(|deadline| deadline < at);
        let is_over = !is_good && !achieved.is_settled;
        if is_late(least) || is_over && deadline.is_some_and(|deadline| deadline <= now) {
            return None;
        }
        // The last attempt is made at the deadline.
        let next = (now + delay).max(least);
        Some(deadline.filter(|deadline| *deadline < next).unwrap_or(next))
    }
}

const AGAIN: u8 = ClosingCode::Again as u8;
const FULL: u8 = ClosingCode::Full as u8;
const SUPERSEDED: u8 = ClosingCode::Superseded as u8;

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    const FAILED: Achieved = Achieved {
        lasted: Duration::ZERO,
        has_progress: false,
        is_settled: false,
        closing: None,
    };
    const GOOD: Achieved = Achieved {
        has_progress: true,
        ..FAILED
    };

    #[test]
    fn attempts_are_made_until_the_timeout_and_the_last_one_at_its_end() {
        let begin = Instant::now();
        let mut reconnect = Reconnect::new(8 * SECOND, begin);
        let (mut now, mut delays) = (begin, Vec::new());
        while let Some(next) = reconnect.next(now, FAILED, 0.0) {
            delays.push((next - now).as_millis());
            now = next;
        }
        assert_eq!(delays, [100, 200, 400, 800, 1600, 3200, 1700]);
        assert_eq!(now, begin + 8 * SECOND);
        // Progress begins it anew.
        assert_eq!(reconnect.next(now, GOOD, 0.0), Some(now));
        assert!(reconnect.next(now, FAILED, 0.0).is_some());
        assert_eq!(reconnect.left(now + SECOND), 7 * SECOND);
    }

    #[test]
    fn without_a_timeout_one_attempt_follows_each_good_connection() {
        let now = Instant::now();
        let mut reconnect = Reconnect::new(Duration::ZERO, now);
        assert_eq!(reconnect.next(now, FAILED, 0.0), None);
        for _ in 0..3 {
            assert_eq!(reconnect.next(now, GOOD, 0.0), Some(now));
        }
        assert_eq!(reconnect.next(now + SECOND, FAILED, 0.0), None);
    }

    #[test]
    fn a_host_that_welcomes_and_closes_is_given_up() {
        let begin = Instant::now();
        let mut reconnect = Reconnect::new(8 * SECOND, begin);
        let mut now = begin;
        let short = Achieved {
            lasted: SECOND,
            ..FAILED
        };
        let mut connections = 0;
        while let Some(next) = reconnect.next(now, short, 0.5) {
            now = next + SECOND;
            connections += 1;
        }
        assert!((2..8).contains(&connections), "{connections}");
        let lasting = Achieved {
            lasted: LASTING,
            ..FAILED
        };
        assert_eq!(reconnect.next(now, lasting, 0.0), Some(now));
        let idle = Achieved {
            is_settled: true,
            ..FAILED
        };
        for _ in 0..20 {
            now = reconnect
                .next(now, idle, 0.0)
                .expect("nothing is unacknowledged");
        }
    }

    #[test]
    fn the_wish_of_the_host_is_followed() {
        let now = Instant::now();
        let closing = |code: ClosingCode, retry_s| Achieved {
            closing: Some((code as u8, retry_s * SECOND)),
            ..FAILED
        };
        let next = |achieved| Reconnect::new(8 * SECOND, now).next(now, achieved, 0.0);
        assert_eq!(next(closing(ClosingCode::Again, 0)), Some(now));
        assert_eq!(next(closing(ClosingCode::Full, 3)), Some(now + 3 * SECOND));
        assert_eq!(
            next(closing(ClosingCode::Superseded, 0)),
            Some(now + SECOND)
        );
        assert_eq!(next(closing(ClosingCode::Shutdown, 0)), Some(now + DELAY));
        assert_eq!(next(closing(ClosingCode::Full, 60)), None);
        // A disk that never syncs.
        let mut reconnect = Reconnect::new(8 * SECOND, now);
        assert_eq!(
            reconnect.next(now, closing(ClosingCode::Again, 0), 0.0),
            Some(now)
        );
        assert!(reconnect.next(now, closing(ClosingCode::Again, 0), 0.0) > Some(now));
    }
}
