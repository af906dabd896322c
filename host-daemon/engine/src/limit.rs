//! Rate limits for events that peers cause: a token bucket for each [`Origin`], and one for all of them. Start with
//! [`Limiter`].
//!
//! The memory is fixed: origins share 4096 buckets by a keyed hash, so a flood of addresses cannot make the
//! table grow, and no origin can choose whose bucket it shares. Each bucket is one number, the time at which it is full
//! again (GCRA), so an idle bucket costs no work. `governor` keeps one entry for each key that it has seen and cannot
//! take from two buckets at once.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use crate::moment::nanos;
use crate::origin::Origin;

/// Buckets that origins share: 32 KiB.
const CELLS: usize = 4096;

/// The size of a bucket, and how fast it fills.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// Tokens of a full bucket.
    pub burst: u32,
    /// Time after which one token comes back.
    pub interval: Duration,
}

/// The bucket of an [`Origin`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cell(u16);

/// Token buckets, one for each [`Cell`] and one for all.
#[derive(Debug)]
pub struct Limiter {
    start: Instant,
    each: Bucket,
    all: Bucket,
    /// When the bucket of all is full again, in ns since the start; then the same of each origin.
    all_full_at: u64,
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
    /// With full buckets.
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

    /// The bucket of an origin.
    #[must_use]
    pub fn cell(&self, origin: &Origin) -> Cell {
        let cell = self.hasher.hash_one(origin) % CELLS as u64;
        Cell(u16::try_from(cell).unwrap_or_default())
    }

    /// Takes tokens from both buckets, or from none of them if one has too few.
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

    /// Gives back tokens that are not needed.
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

    /// When it is full again after these tokens, if it has them.
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
        // Idle for long, it has its burst again and no more.
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
        // A refusal takes nothing.
        assert!(limiter.take(one, 1, now + SECOND));
    }

    #[test]
    fn tokens_that_are_given_back_can_be_taken_again() {
        let mut limiter = Limiter::new(rate(3), rate(3));
        let (origin, now) = (limiter.cell(&Origin::of_device("10.0.0.1")), Instant::now());
        assert!(limiter.take(origin, 3, now) && !limiter.take(origin, 1, now));
        limiter.give_back(origin, 2);
        assert!(!limiter.take(origin, 3, now) && limiter.take(origin, 2, now));
        limiter.give_back(origin, 100);
        assert!(!limiter.take(origin, 4, now) && limiter.take(origin, 3, now));
    }
}
