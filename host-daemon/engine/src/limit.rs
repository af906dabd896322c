//! Rate limits for events that peers cause: a token bucket for each [`Origin`], and one for all origins together. Start
//! with [`Limiter`].
//!
//! Memory is fixed: origins are mapped to 4096 buckets by a keyed hash. A flood of addresses cannot grow the table, and
//! an origin cannot choose with whom it shares a bucket. A bucket is one number, the time at which it is full again
//! (GCRA), so idle buckets need no maintenance. The crate `governor` was not used because it stores an entry for each
//! key and cannot take tokens from two buckets atomically.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use crate::moment::nanos;
use crate::origin::Origin;

/// Buckets in the table: 32 KiB.
const CELLS: usize = 4096;

/// The size of a token bucket, and how fast it refills.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// Tokens in a full bucket.
    pub burst: u32,
    /// Time until one token is added.
    pub interval: Duration,
}

/// The index of a bucket in the table of a [`Limiter`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cell(u16);

/// Token buckets: one for each [`Cell`], and one for all.
///
/// # Examples
/// ```
/// use std::time::{Duration, Instant};
/// use blocksd_engine::limit::{Limiter, Rate};
/// use blocksd_engine::origin::Origin;
///
/// let each = Rate { burst: 2, interval: Duration::from_secs(1) };
/// let all = Rate { burst: 100, interval: Duration::from_millis(10) };
/// let mut limiter = Limiter::new(each, all);
/// let cell = limiter.cell(&Origin::of_device("10.0.0.7"));
/// let now = Instant::now();
/// assert!(limiter.take(cell, 2, now));
/// assert!(!limiter.take(cell, 1, now));
/// assert!(limiter.take(cell, 1, now + Duration::from_secs(1)));
/// ```
#[derive(Debug)]
pub struct Limiter {
    start: Instant,
    each: Bucket,
    all: Bucket,
    /// When the shared bucket is full again, in nanoseconds since `start`.
    all_full_at: u64,
    /// The same for the bucket of each cell.
    full_at: Box<[u64]>,
    hasher: RandomState,
}

/// A [`Rate`] in nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    interval: u64,
    len: u64,
}

impl Limiter {
    /// Creates a limiter with full buckets.
    #[must_use]
    pub fn new(each: Rate, all: Rate) -> Self {
        Self {
            start: Instant::now(),
            each: Bucket::new(each),
            all: Bucket::new(all),
            all_full_at: 0,
            full_at: vec![0; CELLS].into(),
            hasher: RandomState::new(),
        }
    }

    /// Returns the bucket of an origin.
    #[must_use]
    pub fn cell(&self, origin: &Origin) -> Cell {
        let cell = self.hasher.hash_one(origin) % CELLS as u64;
        Cell(u16::try_from(cell).unwrap_or_default())
    }

    /// Takes tokens from both buckets and returns `true`. Takes nothing if one bucket has too few.
    pub fn take(&mut self, cell: Cell, tokens: u32, now: Instant) -> bool {
        let now = nanos(now.saturating_duration_since(self.start));
        let Some(full_at) = self.full_at.get_mut(usize::from(cell.0)) else {
            return false;
        };
        let each = self.each.take(*full_at, tokens, now);
        let all = self.all.take(self.all_full_at, tokens, now);
        let (Some(each), Some(all)) = (each, all) else {
            return false;
        };
        (*full_at, self.all_full_at) = (each, all);
        true
    }

    /// Whether the bucket of all has this many tokens.
    #[must_use]
    pub fn has_tokens(&self, tokens: u32, now: Instant) -> bool {
        let now = nanos(now.saturating_duration_since(self.start));
        self.all.take(self.all_full_at, tokens, now).is_some()
    }

    /// Returns unused tokens to both buckets.
    pub fn give_back(&mut self, cell: Cell, tokens: u32) {
        if let Some(full_at) = self.full_at.get_mut(usize::from(cell.0)) {
            *full_at = full_at.saturating_sub(self.each.cost(tokens));
        }
        self.all_full_at = self.all_full_at.saturating_sub(self.all.cost(tokens));
    }
}

impl Bucket {
    fn new(rate: Rate) -> Self {
        let interval = nanos(rate.interval);
        Self {
            interval,
            len: interval.saturating_mul(rate.burst.into()),
        }
    }

    const fn cost(&self, tokens: u32) -> u64 {
        self.interval.saturating_mul(tokens as u64)
    }

    /// Returns when the bucket is full again after these tokens are taken, or `None` if it has too few.
    fn take(&self, full_at: u64, tokens: u32, now: u64) -> Option<u64> {
        let full_at = full_at.max(now).saturating_add(self.cost(tokens));
        (full_at <= now.saturating_add(self.len)).then_some(full_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn rate(burst: u32) -> Rate {
        Rate {
            burst,
            interval: SECOND,
        }
    }

    #[test]
    fn an_address_gets_its_burst_and_then_its_rate() {
        let mut limiter = Limiter::new(rate(3), rate(100));
        let origin = limiter.cell(&Origin::of_device("10.0.0.1"));
        let now = Instant::now();
        assert!(limiter.take(origin, 2, now) && limiter.take(origin, 1, now));
        assert!(!limiter.take(origin, 1, now));
        assert!(!limiter.take(origin, 1, now + SECOND / 2));
        assert!(limiter.take(origin, 1, now + SECOND));
        assert!(!limiter.take(origin, 2, now + SECOND * 2));
        // After a long idle time it has its burst again, and not more.
        let later = now + SECOND * 1000;
        assert!(!limiter.take(origin, 4, later) && limiter.take(origin, 3, later));
    }

    #[test]
    fn one_address_leaves_the_tokens_of_others_and_all_have_a_bound() {
        let mut limiter = Limiter::new(rate(3), rate(10));
        let now = Instant::now();
        let one = limiter.cell(&Origin::of_device("10.0.0.1"));
        let taken = (0..100).filter(|_| limiter.take(one, 1, now)).count();
        assert_eq!(taken, 3);
        let others =
            (0..1000).map(|host| limiter.cell(&Origin::of_device(&format!("10.1.{host}.1:9"))));
        let others: Vec<_> = others.collect();
        let taken = others
            .into_iter()
            .filter(|other| limiter.take(*other, 1, now));
        assert_eq!(taken.count(), 7);
        // A refusal takes no tokens.
        assert!(limiter.take(one, 1, now + SECOND));
    }

    #[test]
    fn tokens_that_are_given_back_can_be_taken_again() {
        let mut limiter = Limiter::new(rate(3), rate(3));
        let (origin, now) = (limiter.cell(&Origin::of_device("10.0.0.1")), Instant::now());
        assert!(limiter.take(origin, 3, now) && !limiter.take(origin, 1, now));
        assert!(!limiter.has_tokens(1, now) && limiter.has_tokens(1, now + SECOND));
        limiter.give_back(origin, 2);
        assert!(!limiter.take(origin, 3, now) && limiter.take(origin, 2, now));
        limiter.give_back(origin, 100);
        assert!(!limiter.take(origin, 4, now) && limiter.take(origin, 3, now));
    }
}
