//! The intervals between the batches of a device: [`Intervals`] remembers the last ones, and returns their median.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::device::{SILENT_INTERVALS, SILENT_MIN};
use crate::moment::nanos;

/// Number of intervals that are remembered. Their median is exact. The median of all intervals that the device ever had
/// is estimated by it: in 24 of 25 cases, the estimate is between the quartiles of all intervals.
pub const REMEMBERED: usize = 16;
/// Number of intervals from which on the median is known.
pub const KNOWN_MIN: usize = 4;
/// A batch that arrives sooner than this after the beginning of the last burst belongs to that burst. An interval is the
/// time between the beginnings of two bursts, so a device that sends three batches every ten seconds has an interval of ten
/// seconds.
pub const BURST: Duration = Duration::from_millis(100);

/// A multiple of [`REMEMBERED`].
const TURN: u32 = 1 << 16;
const COUNT_MAX: u32 = 2 * TURN;

/// The last intervals of a device.
#[derive(Debug, Default)]
pub(super) struct Intervals {
    /// Time at which the last burst began, in nanoseconds; 0 if the next interval cannot be measured from it.
    burst: AtomicU64,
    /// Number of intervals so far.
    count: AtomicU32,
    /// The last intervals, in nanoseconds: an even number, plus 1 if the device was silent.
    last: [AtomicU64; REMEMBERED],
}

/// The usual intervals of a device.
#[derive(Clone, Copy, Debug)]
pub(super) struct Usual {
    pub(super) median: Duration,
    /// The longest interval, without a single one in which the device was silent. A device that sends several batches and
    /// then pauses has a short median and this longer one.
    longest: Duration,
}

impl Usual {
    /// The time after which the device is silent, unless it is below [`SILENT_MIN`].
    pub(super) fn silent_after(&self) -> Duration {
        let long = self.longest.saturating_mul(3) / 2;
        self.median.saturating_mul(SILENT_INTERVALS).max(long)
    }
}

impl Intervals {
    /// Takes a batch that arrives now. Two connections of a device may do so at the same time: an interval can get lost.
    pub(super) fn batch(&self, now: u64) {
        let burst = self.burst.load(Ordering::Relaxed);
        let interval = now.saturating_sub(burst);
        if burst != 0 && interval < nanos(BURST) {
            return;
        }
        self.burst.store(now, Ordering::Relaxed);
        if burst == 0 {
            return;
        }
        let count = self.count.load(Ordering::Relaxed);
        let was_silent = nanos(SILENT_MIN) <= interval
            && self
                .usual()
                .is_some_and(|usual| nanos(usual.silent_after()) <= interval);
        if let Some(slot) = self.last.get(count as usize % REMEMBERED) {
            slot.store((interval & !1) | u64::from(was_silent), Ordering::Relaxed);
        }
        // A turn more or less keeps the next place.
        let next = match count + 1 {
            next if next < COUNT_MAX => next,
            next => next - TURN,
        };
        self.count.store(next, Ordering::Relaxed);
    }

    /// Does not count the time up to the next batch: the device was not connected.
    pub(super) fn interrupt(&self) {
        self.burst.store(0, Ordering::Relaxed);
    }

    /// The median; `None` if fewer than [`KNOWN_MIN`] intervals are known.
    pub(super) fn median(&self) -> Option<Duration> {
        self.usual().map(|usual| usual.median)
    }

    /// The median and the longest; `None` if fewer than [`KNOWN_MIN`] intervals are known.
    pub(super) fn usual(&self) -> Option<Usual> {
        let count = (self.count.load(Ordering::Relaxed) as usize).min(REMEMBERED);
        if count < KNOWN_MIN {
            return None;
        }
        let mut last = self
            .last
            .each_ref()
            .map(|interval| interval.load(Ordering::Relaxed));
        let last = last.get_mut(..count)?;
        last.sort_unstable();
        let (low, high) = (last.get((count - 1) / 2)?, last.get(count / 2)?);
        let normal = last.iter().filter(|interval| **interval & 1 == 0).max();
        // A silence that comes twice is a rhythm.
        let longest = normal.max(last.get(count - 2))?;
        Some(Usual {
            median: Duration::from_nanos((low & !1).midpoint(high & !1)),
            longest: Duration::from_nanos(longest & !1),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// Takes batches with these intervals, in milliseconds.
    fn take(intervals: &Intervals, start: u64, each: impl IntoIterator<Item = u64>) -> u64 {
        let mut now = start;
        intervals.batch(now);
        for interval in each {
            now += interval * MS;
            intervals.batch(now);
        }
        now
    }

    fn median_ms(intervals: &Intervals) -> Option<f64> {
        intervals.median().map(|it| it.as_micros() as f64 / 1e3)
    }

    #[test]
    fn the_median_is_known_from_the_fourth_interval() {
        let intervals = Intervals::default();
        let now = take(&intervals, MS, [200, 400, 300]);
        assert_eq!(median_ms(&intervals), None);
        take(&intervals, now, [900]);
        assert_eq!(median_ms(&intervals), Some(350.0));
    }

    #[test]
    fn the_median_of_the_last_intervals_is_exact() {
        let mut random = 1_u64;
        let mut next = || {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            100 + (random >> 33) % 5000
        };
        let intervals = Intervals::default();
        let mut now = take(&intervals, MS, []);
        let mut all = Vec::new();
        for _ in 0..1000 {
            let interval = next();
            all.push(interval);
            now += interval * MS;
            intervals.batch(now);
            let from = all.len().saturating_sub(REMEMBERED);
            let mut last = all[from..].to_vec();
            last.sort_unstable();
            let middle = last[(last.len() - 1) / 2] + last[last.len() / 2];
            let known = (KNOWN_MIN <= all.len()).then_some(middle as f64 / 2.0);
            assert_eq!(median_ms(&intervals), known);
        }
    }

    /// The documented error: in 24 of 25 cases between the quartiles, for intervals of very different kinds.
    #[test]
    fn the_median_estimates_that_of_all_intervals() {
        let mut random = 7_u64;
        let mut uniform = move || {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            ((random >> 11) as f64) / ((1_u64 << 53) as f64)
        };
        type Draw = fn(f64) -> f64;
        let kinds: [(&str, Draw); 3] = [
            ("uniform", |x| 100.0 + 900.0 * x),
            ("exponential", |x| 100.0 - 2000.0 * (1.0 - x).ln()),
            ("heavy tail", |x| 100.0 / (1.0 - x)),
        ];
        for (name, draw) in kinds {
            let intervals = Intervals::default();
            let mut now = take(&intervals, MS, []);
            let (mut within, mut all) = (0, 0);
            for _ in 0..20_000 {
                now += (draw(uniform()) * MS as f64) as u64;
                intervals.batch(now);
                let Some(median) = median_ms(&intervals) else {
                    continue;
                };
                all += 1;
                within += u32::from((draw(0.25)..=draw(0.75)).contains(&median));
            }
            let share = f64::from(within) / f64::from(all);
            assert!((0.96..=0.99).contains(&share), "{name}: {share}");
        }
    }

    #[test]
    fn a_burst_counts_once() {
        let intervals = Intervals::default();
        let ten_seconds = [1, 30, 60, 9909].repeat(5);
        take(&intervals, MS, ten_seconds);
        assert_eq!(median_ms(&intervals), Some(10_000.0));
        // A device that never pauses has the shortest interval.
        let intervals = Intervals::default();
        take(&intervals, MS, [1].repeat(1000));
        assert_eq!(median_ms(&intervals), Some(100.0));
    }

    #[test]
    fn the_time_without_a_connection_is_no_interval() {
        let intervals = Intervals::default();
        let now = take(&intervals, MS, [200; 3]);
        intervals.interrupt();
        let now = take(&intervals, now + 3_600_000 * MS, []);
        assert_eq!(median_ms(&intervals), None);
        take(&intervals, now, [200]);
        assert_eq!(median_ms(&intervals), Some(200.0));
    }

    #[test]
    fn the_count_of_intervals_does_not_overflow() {
        let intervals = Intervals::default();
        intervals.count.store(COUNT_MAX - 10, Ordering::Relaxed);
        take(&intervals, MS, [300].repeat(2 * REMEMBERED));
        assert_eq!(median_ms(&intervals), Some(300.0));
    }
}
