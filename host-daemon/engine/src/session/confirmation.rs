//! Which durable messages of a session may be acknowledged, if something else must have them, too: a [`Confirmation`].

/// The messages of a session that are confirmed, such as by a cluster that they are forwarded to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Confirmation {
    /// The number after the last message that was written.
    messages: u64,
    /// All messages below are confirmed.
    confirmed: u64,
    /// The number after the last message of an earlier run.
    recovered: u64,
}

impl Confirmation {
    /// Of a session without messages.
    pub(super) const fn new(next: u64) -> Self {
        Self {
            messages: next,
            confirmed: next,
            recovered: next,
        }
    }

    /// Of a session of the recording. Which of its messages were confirmed is not known yet.
    pub(super) const fn recovered(next: u64) -> Self {
        Self {
            messages: next,
            confirmed: 0,
            recovered: next,
        }
    }

    /// Messages below this number were written.
    pub(super) fn written(&mut self, to: u64) {
        self.messages = self.messages.max(to);
    }

    /// Forgets messages that are not durable.
    pub(super) fn reset(&mut self, durable: u64) {
        self.messages = self.messages.min(durable);
    }

    /// All messages below this number are confirmed.
    pub(super) fn confirm(&mut self, next: u64) {
        self.confirmed = self.confirmed.max(next);
    }

    /// All messages of earlier runs are confirmed.
    pub(super) fn confirm_recovered(&mut self) {
        self.confirm(self.recovered);
    }

    /// The number up to which a device may forget, if everything below `durable` is durable. Gaps need no confirmation.
    pub(super) fn acknowledged(&self, durable: u64) -> u64 {
        match self.messages <= self.confirmed {
            true => durable,
            false => durable.min(self.confirmed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_need_a_confirmation_and_gaps_do_not() {
        let mut confirmation = Confirmation::new(3);
        assert_eq!(confirmation.acknowledged(3), 3);
        // A gap up to 5.
        assert_eq!(confirmation.acknowledged(5), 5);
        confirmation.written(9);
        assert_eq!(confirmation.acknowledged(9), 3);
        confirmation.confirm(7);
        assert_eq!(confirmation.acknowledged(9), 7);
        confirmation.confirm(9);
        // A gap up to 12, after the last message.
        assert_eq!(confirmation.acknowledged(12), 12);
        assert_eq!(confirmation.acknowledged(8), 8);
    }

    #[test]
    fn messages_of_an_earlier_run_are_confirmed_together() {
        let mut confirmation = Confirmation::recovered(9);
        assert_eq!(confirmation.acknowledged(9), 0);
        confirmation.written(12);
        confirmation.confirm_recovered();
        assert_eq!(confirmation.acknowledged(12), 9);
        confirmation.confirm(12);
        assert_eq!(confirmation.acknowledged(12), 12);
    }

    #[test]
    fn messages_that_a_failed_sync_has_lost_need_none() {
        let mut confirmation = Confirmation::new(0);
        confirmation.written(9);
        confirmation.confirm(4);
        confirmation.reset(4);
        assert_eq!(confirmation.acknowledged(6), 6);
    }
}
