//! When the stream is checked for what it had acknowledged, and which messages prove it: [`Checks`].

use std::time::Duration;

use tokio::time::Instant;

use super::turns::PAUSE_MAX;
use crate::cursor::Newest;

/// How often the newest message is checked.
const INTERVAL: Duration = Duration::from_secs(10);
/// How often it is checked while messages are stored: files that the stream has can be deleted then.
const BUSY_INTERVAL: Duration = Duration::from_secs(2);
/// Time until it is checked after a failure.
const SOON: Duration = Duration::from_secs(1);

/// Messages that a whole stream has.
#[derive(Debug)]
pub(super) struct Checks {
    /// The newest message that the stream has acknowledged.
    newest: Option<Newest>,
    /// The newest messages when something went wrong, which are not checked yet: a stream that has lost messages since then
    /// may have given their numbers to others.
    pinned: Vec<Newest>,
    /// How often something went wrong, now and when the check in progress began.
    pins: u64,
    checking: Option<u64>,
    /// When the next check begins.
    at: Instant,
    /// When it begins if messages are stored.
    busy_at: Instant,
    /// The last one had no answer.
    has_failed: bool,
}

impl Checks {
    /// The stream had `newest` a moment ago. Whether it still has `pinned` is checked soon.
    pub(super) fn new(newest: Option<Newest>, pinned: Vec<Newest>) -> Self {
        let wait = if pinned.is_empty() { INTERVAL } else { SOON };
        let all = newest.iter().chain(&pinned);
        Self {
            newest: all.max_by_key(|it| it.sequence).copied(),
            pinned,
            pins: 0,
            checking: None,
            at: Instant::now() + wait,
            busy_at: Instant::now() + BUSY_INTERVAL,
            has_failed: false,
        }
    }

    /// The messages: the newest one is the last.
    pub(super) fn list(&self) -> Vec<Newest> {
        self.pinned.iter().copied().chain(self.newest).collect()
    }

    /// The newest message.
    pub(super) const fn newest(&self) -> Option<Newest> {
        self.newest
    }

    /// Notes a message that the stream has acknowledged.
    pub(super) fn note(&mut self, message: Newest) {
        if self.newest.is_none_or(|it| it.sequence < message.sequence) {
            self.newest = Some(message);
            self.at = self.at.min(self.busy_at);
        }
    }

    /// Something went wrong, so the newest message is checked soon: the stream may be another one, too.
    pub(super) fn pin(&mut self) {
        self.pins += 1;
        self.soon();
        if let Some(newest) = self.newest
            && !self.pinned.contains(&newest)
        {
            self.pinned.push(newest);
        }
    }

    /// The next check begins soon.
    pub(super) fn soon(&mut self) {
        self.at = self.at.min(Instant::now() + SOON);
    }

    /// Whether the last one had no answer.
    pub(super) const fn has_failed(&self) -> bool {
        self.has_failed
    }

    /// Begins a check if one is due, or at once unless the last one had no answer, and none is in progress. Returns whether it begins.
    pub(super) fn begin(&mut self, at_once: bool) -> bool {
        let is_due = (at_once && !self.has_failed) || self.at <= Instant::now();
        let begins = is_due && self.checking.is_none();
        if begins {
            self.checking = Some(self.pins);
        }
        begins
    }

    /// When the next check begins; `None` while one is in progress.
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.checking.is_none().then_some(self.at)
    }

    /// The stream has these messages.
    pub(super) fn passed(&mut self, checked: &[Newest]) {
        // What went wrong during the check may have come after the answers.
        if self.checking.take() == Some(self.pins) {
            self.pinned.retain(|it| !checked.contains(it));
        }
        self.at = Instant::now() + INTERVAL;
        self.busy_at = Instant::now() + BUSY_INTERVAL;
        self.has_failed = false;
    }

    /// There was no answer.
    pub(super) fn failed(&mut self) {
        self.checking = None;
        self.at = Instant::now() + PAUSE_MAX;
        self.busy_at = self.at;
        self.has_failed = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_goes_wrong_during_a_check_is_checked_again() {
        let [first, second] = [1, 2].map(|sequence| Newest { sequence, nonce: 7 });
        let mut checks = Checks::new(Some(first), Vec::new());
        checks.pin();
        assert!(checks.begin(true));
        let checked = checks.list();
        assert!(!checks.begin(true));
        checks.pin();
        checks.note(second);
        checks.passed(&checked);
        assert_eq!(checks.list(), [first, second]);
        assert!(checks.begin(true));
        let checked = checks.list();
        checks.passed(&checked);
        assert_eq!(checks.list(), [second]);
    }
}
