//! Which subject has the next turn: [`Turns`]. Those whose last call has failed wait for a while, and take few places of the others.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

/// Largest number of calls in progress of subjects whose last call has failed.
const RETRIES_MAX: usize = 64;
/// The first pause after a failure.
const PAUSE: Duration = Duration::from_millis(100);
/// The longest pause.
pub(super) const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Subjects that are ready for a call.
#[derive(Debug, Default)]
pub(super) struct Turns {
    ready: VecDeque<Arc<str>>,
    /// Those that were looked at, which are sent before others are looked at.
    found: VecDeque<Arc<str>>,
    /// Turns of subjects that must be looked at, while there is no room for that.
    held: VecDeque<Turn>,
    /// Those whose last call has failed, after their pauses.
    retries: VecDeque<Arc<str>>,
    /// Those whose pauses have not ended, by the end, and numbered.
    paused: BTreeMap<(Instant, u64), Arc<str>>,
    pauses: u64,
    /// Calls in progress of those whose last call has failed.
    retrying: usize,
}

/// The turn of a subject.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) subject: Arc<str>,
    pub(super) is_retry: bool,
}

impl Turns {
    /// A subject is ready.
    pub(super) fn add(&mut self, subject: Arc<str>) {
        self.ready.push_back(subject);
    }

    /// A subject is ready, and goes before the others: it was looked at.
    pub(super) fn add_found(&mut self, subject: Arc<str>) {
        self.found.push_back(subject);
    }

    /// A subject is ready again after this number of failures in a row, since the last one or since the pause after it.
    pub(super) fn retry(&mut self, subject: Arc<str>, failures: u32, has_paused: bool) {
        if has_paused {
            self.retries.push_back(subject);
            return;
        }
        self.pauses += 1;
        let at = Instant::now() + pause(failures);
        self.paused.insert((at, self.pauses), subject);
    }

    /// Ends all pauses: what had failed may work now.
    pub(super) fn end_pauses(&mut self) {
        let paused = std::mem::take(&mut self.paused);
        self.retries.extend(paused.into_values());
    }

    /// A turn waits until a subject may be looked at.
    pub(super) fn hold(&mut self, turn: Turn) {
        self.held.push_back(turn);
    }

    /// The next turn. It must be [ended](Self::end), or [held](Self::hold).
    pub(super) fn next(&mut self, may_look: bool) -> Option<Turn> {
        if let Some(subject) = self.found.pop_front() {
            return Some(Turn {
                subject,
                is_retry: false,
            });
        }
        if may_look && let Some(held) = self.held.pop_front() {
            return Some(held);
        }
        let now = Instant::now();
        while let Some(first) = self.paused.first_entry()
            && first.key().0 <= now
        {
            self.retries.push_back(first.remove());
        }
        if self.retrying < RETRIES_MAX
            && let Some(subject) = self.retries.pop_front()
        {
            self.retrying += 1;
            return Some(Turn {
                subject,
                is_retry: true,
            });
        }
        let subject = self.ready.pop_front()?;
        Some(Turn {
            subject,
            is_retry: false,
        })
    }

    /// The call of a turn has ended, or there was none.
    pub(super) const fn end(&mut self, is_retry: bool) {
        self.retrying -= is_retry as usize;
    }

    /// When the first pause ends.
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.paused.first_key_value().map(|((at, _), _)| *at)
    }
}

/// The pause after this number of failures in a row.
fn pause(failures: u32) -> Duration {
    match failures.checked_sub(1) {
        None => Duration::ZERO,
        Some(doublings) => (PAUSE * 2_u32.saturating_pow(doublings.min(16))).min(PAUSE_MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One call at a time is allowed: each subject is sent once it was looked at.
    #[tokio::test]
    async fn a_subject_that_was_looked_at_goes_before_those_that_wait_for_a_look() {
        let mut turns = Turns::default();
        for subject in ["a", "b", "c"] {
            turns.hold(Turn {
                subject: subject.into(),
                is_retry: false,
            });
        }
        let mut next = |found: Option<Arc<str>>| {
            found.into_iter().for_each(|it| turns.add_found(it));
            turns.next(true).expect("a turn").subject
        };
        let looked = next(None);
        assert_eq!(&*looked, "a");
        assert_eq!(&*next(Some(looked)), "a");
        assert_eq!(&*next(None), "b");
    }
}
