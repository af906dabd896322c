//! When to send what: the recorded times, at a speed, with long pauses shortened. Start with [`Schedule`].

use std::time::{Duration, Instant};

/// A message that is older than the one before it by this much is not late: the clock of the recording went back.
const BACK_MIN: Duration = Duration::from_secs(1);
/// A pause from this length is reported.
const LONG: Duration = Duration::from_secs(60);
/// A longer pause ends after this time, since the clock of the system cannot represent every time.
const LONGEST: Duration = Duration::from_secs(1000 * 365 * 86_400);

/// Turns recorded times into times of this process.
#[derive(Debug)]
pub(super) struct Schedule {
    speed: f64,
    max_gap: Option<Duration>,
    /// The last recorded time, in nanoseconds since 1970, and when it was due.
    last: Option<(u64, Instant)>,
}

/// The next time of the schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Due {
    /// When to send. `None` for now.
    pub(super) at: Option<Instant>,
    /// The recorded time before this one, in nanoseconds since 1970, and what is unusual about the step.
    pub(super) note: Option<(u64, PauseNote)>,
}

/// What is unusual about a step from one recorded time to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PauseNote {
    /// A pause of this length was shortened.
    Shortened(Duration),
    /// The pause is long, and is kept.
    Long(Duration),
    /// The recorded time goes back by this much.
    Back(Duration),
}

impl Schedule {
    /// A schedule at this speed. No pause is longer than `max_gap`.
    pub(super) const fn new(speed: f64, max_gap: Option<Duration>) -> Self {
        Self {
            speed,
            max_gap,
            last: None,
        }
    }

    /// Continues with a recorded time. If `may_be_late`, an earlier time than the last one says nothing about the clock
    /// of the recording.
    pub(super) fn next(&mut self, time: u64, may_be_late: bool, now: Instant) -> Due {
        let mut due = Due {
            at: None,
            note: None,
        };
        if self.speed.is_infinite() {
            return due;
        }
        let Some((last, at)) = self.last else {
            self.last = Some((time, now));
            return due;
        };
        if time < last {
            let back = Duration::from_nanos(last - time);
            if !may_be_late && BACK_MIN <= back {
                self.last = Some((time, at));
                due.note = Some((last, PauseNote::Back(back)));
            }
            return due;
        }
        let gap = Duration::from_nanos(time - last).as_secs_f64() / self.speed;
        let gap = Duration::try_from_secs_f64(gap).map_or(LONGEST, |gap| gap.min(LONGEST));
        let pause = self.max_gap.map_or(gap, |max| gap.min(max));
        if pause < gap {
            due.note = Some((last, PauseNote::Shortened(gap)));
        } else if LONG <= pause {
            due.note = Some((last, PauseNote::Long(gap)));
        }
        let at = at.checked_add(pause).unwrap_or(at);
        self.last = Some((time, at));
        due.at = Some(at);
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    /// The pauses and notes of these times, in seconds.
    fn steps(mut schedule: Schedule, times: &[u64]) -> Vec<(Duration, Option<PauseNote>)> {
        let begin = Instant::now();
        let mut before = begin;
        let mut step = |time: &u64| {
            let due = schedule.next(time * SECOND, false, begin);
            let at = due.at.unwrap_or(before);
            let pause = at - before;
            before = at;
            (pause, due.note.map(|(_, note)| note))
        };
        times.iter().map(&mut step).collect()
    }

    #[test]
    fn pauses_are_as_recorded_and_scaled_by_the_speed() {
        let pauses = steps(Schedule::new(1.0, None), &[5, 6, 6, 8]);
        let plain = [0, 1, 0, 2].map(|pause| (seconds(pause), None));
        assert_eq!(pauses, plain);
        let pauses = steps(Schedule::new(4.0, None), &[0, 8]);
        assert_eq!(pauses[1], (seconds(2), None));
        let pauses = steps(Schedule::new(f64::INFINITY, None), &[0, 1_000_000]);
        assert_eq!(pauses[1], (seconds(0), None));
    }

    #[test]
    fn a_long_pause_is_shortened_or_reported() {
        let year = 365 * 86_400;
        let pauses = steps(
            Schedule::new(1.0, Some(seconds(60))),
            &[0, 56 * year, 56 * year + 1],
        );
        let note = Some(PauseNote::Shortened(seconds(56 * year)));
        assert_eq!(pauses[1..], [(seconds(60), note), (seconds(1), None)]);
        let pauses = steps(Schedule::new(1.0, None), &[0, 100]);
        assert_eq!(
            pauses[1],
            (seconds(100), Some(PauseNote::Long(seconds(100))))
        );
        // No speed makes it overflow.
        let pauses = steps(Schedule::new(1e-300, None), &[0, 1]);
        assert_eq!(pauses[1].1, Some(PauseNote::Long(LONGEST)));
    }

    #[test]
    fn a_clock_that_goes_back_keeps_its_pace() {
        let pauses = steps(Schedule::new(1.0, None), &[100, 101, 50, 52]);
        let back = Some(PauseNote::Back(seconds(51)));
        assert_eq!(pauses[2..], [(seconds(0), back), (seconds(2), None)]);
        // A late event, or one by a little, does not move the clock.
        let now = Instant::now();
        let mut schedule = Schedule::new(1.0, None);
        schedule.next(100 * SECOND, false, now);
        assert_eq!(
            schedule.next(40 * SECOND, true, now),
            Due {
                at: None,
                note: None
            }
        );
        assert_eq!(
            schedule.next(100 * SECOND - 9, false, now),
            Due {
                at: None,
                note: None
            }
        );
        assert_eq!(
            schedule.next(101 * SECOND, false, now).at,
            Some(now + seconds(1))
        );
    }
}
