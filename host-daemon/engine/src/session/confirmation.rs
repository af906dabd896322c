//! Which durable messages of a session may be acknowledged, if something else must have them, too: a [`Confirmation`].

/// Largest number of runs that are kept. Later ones are taken for holes.
const RUNS_MAX: usize = 64;

/// The messages of a session that are confirmed, such as by a cluster that they are forwarded to.
///
/// Confirmations come in the order of the recording. So a run that does not continue what is confirmed shows a hole: the messages
/// between were recorded, became unreadable, and are not in the cluster. Nothing after a hole is acknowledged, so the device still
/// has those messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Confirmation {
    /// The number after the last message that was written.
    messages: u64,
    /// All numbers below are confirmed, or have no message.
    confirmed: u64,
    /// The number after the last message of an earlier run.
    recovered: u64,
    /// Runs of numbers that are confirmed, or have no message, after a number that is not: in order, and apart from each other.
    runs: Vec<(u64, u64)>,
    /// The number after the last message that was confirmed: all before it come before it in the recording.
    reached: u64,
    /// What is confirmed of the numbers below the first run.
    begin: ConfirmedBegin,
    /// The recording is damaged, so messages of an earlier run may be missing although no run shows it.
    is_doubtful: bool,
    /// All messages of an earlier run that can be read are below this number, and whether the recording is damaged. Taken when they
    /// are confirmed.
    ending: Option<(u64, bool)>,
}

/// What is known of the numbers before the first run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ConfirmedBegin {
    /// Nothing: those before the first run are confirmed.
    Unknown,
    /// They are not confirmed.
    Known,
    /// They are taken from the device again. Runs of the messages before that can still come.
    Again,
}

/// Numbers that were recorded, are not confirmed, and cannot be read: from the first one to before the second one.
pub(super) type Hole = (u64, u64);

impl Confirmation {
    /// Of a session without messages.
    pub(super) const fn new(next: u64) -> Self {
        Self {
            messages: next,
            confirmed: next,
            recovered: next,
            runs: Vec::new(),
            reached: 0,
            begin: ConfirmedBegin::Known,
            is_doubtful: false,
            ending: None,
        }
    }

    /// Of this session, if its messages from `next` on are taken from the device again.
    pub(super) fn again(&self, next: u64) -> Self {
        Self {
            confirmed: self.confirmed.max(next),
            begin: ConfirmedBegin::Again,
            ..Self::new(next)
        }
    }

    /// Of a session of the recording. Which of its messages were confirmed is not known yet.
    pub(super) const fn recovered(next: u64) -> Self {
        let mut confirmation = Self::new(next);
        confirmation.confirmed = 0;
        confirmation.begin = ConfirmedBegin::Unknown;
        confirmation
    }

    /// Messages below this number were written.
    pub(super) fn written(&mut self, to: u64) {
        self.messages = self.messages.max(to);
    }

    /// The numbers from `from` to before `to` have no message: a gap was written.
    pub(super) fn gap(&mut self, from: u64, to: u64) {
        self.add(from, to);
    }

    /// Forgets messages that are not durable.
    pub(super) fn reset(&mut self, durable: u64) {
        self.messages = self.messages.min(durable);
        self.confirmed = self.confirmed.min(durable);
        self.reached = self.reached.min(durable);
        self.runs.retain_mut(|(from, to)| {
            *to = durable.min(*to);
            *from < *to
        });
    }

    /// The messages with numbers from `from` to before `next` are confirmed.
    pub(super) fn confirm(&mut self, from: u64, next: u64) {
        if self.begin == ConfirmedBegin::Unknown {
            self.confirmed = self.confirmed.max(from);
            self.begin = ConfirmedBegin::Known;
        }
        let before = self.confirmed;
        self.add(from, next);
        if self.begin == ConfirmedBegin::Again && before < self.confirmed {
            // The first of the messages that were taken again, since they come in order.
            self.begin = ConfirmedBegin::Known;
        }
        if self.begin == ConfirmedBegin::Known {
            self.reached = self.reached.max(next);
        }
        if let Some((end, is_damaged)) = self.ending.take_if(|(end, _)| *end <= next) {
            self.confirm_recovered(end, is_damaged);
        }
    }

    /// A host has acknowledged everything below `acked` to the device, which holds no message below `first`.
    pub(super) fn begin(&mut self, acked: u64, first: u64) {
        if self.begin == ConfirmedBegin::Unknown {
            self.begin = ConfirmedBegin::Known;
        }
        self.add(0, acked);
        if self.hole().is_some_and(|(from, _)| from < first) {
            // The device has given them up.
            self.add(0, first);
        }
    }

    /// All messages of earlier runs that can be read are confirmed once those below `end` are.
    pub(super) fn confirm_recovered(&mut self, end: u64, is_damaged: bool) {
        if self.reached < end {
            self.ending = Some((end, is_damaged));
            return;
        }
        if self.recovered <= self.confirmed {
            return;
        }
        self.is_doubtful = is_damaged;
        if !is_damaged && self.hole().is_none() {
            self.begin = ConfirmedBegin::Known;
            self.add(0, self.recovered);
        }
    }

    /// The number up to which a device may forget, if everything below `durable` is durable. Gaps need no confirmation.
    pub(super) fn acknowledged(&self, durable: u64) -> u64 {
        match self.messages <= self.confirmed {
            true => durable,
            false => durable.min(self.confirmed),
        }
    }

    /// The first hole, if there is one.
    pub(super) fn hole(&self) -> Option<Hole> {
        if self.begin != ConfirmedBegin::Known {
            return None;
        }
        match self.runs.first() {
            Some((from, _)) if self.confirmed < self.reached => Some((self.confirmed, *from)),
            _ if self.is_doubtful && self.confirmed < self.recovered => {
                Some((self.confirmed, self.recovered))
            }
            _ => None,
        }
    }

    /// Adds a run.
    fn add(&mut self, mut from: u64, mut to: u64) {
        if to <= self.confirmed || to <= from {
            return;
        }
        self.runs.retain(|&(begin, end)| {
            let touches = begin <= to && from <= end;
            if touches {
                (from, to) = (from.min(begin), to.max(end));
            }
            !touches
        });
        let index = self.runs.partition_point(|(begin, _)| *begin < from);
        self.runs.insert(index, (from, to));
        self.runs.truncate(RUNS_MAX);
        if self.begin == ConfirmedBegin::Unknown {
            return;
        }
        while let Some(&(from, to)) = self.runs.first()
            && from <= self.confirmed
        {
            self.confirmed = self.confirmed.max(to);
            self.runs.remove(0);
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
        confirmation.gap(3, 5);
        assert_eq!(confirmation.acknowledged(5), 5);
        confirmation.written(9);
        assert_eq!(confirmation.acknowledged(9), 5);
        confirmation.confirm(5, 7);
        assert_eq!(confirmation.acknowledged(9), 7);
        confirmation.confirm(7, 9);
        // A gap up to 12, after the last message.
        confirmation.gap(9, 12);
        assert_eq!(confirmation.acknowledged(12), 12);
        assert_eq!(confirmation.acknowledged(8), 8);
        assert_eq!(confirmation.hole(), None);
    }

    #[test]
    fn messages_of_an_earlier_run_are_confirmed_together() {
        let mut confirmation = Confirmation::recovered(9);
        assert_eq!(confirmation.acknowledged(9), 0);
        confirmation.written(12);
        confirmation.confirm_recovered(0, false);
        assert_eq!(confirmation.acknowledged(12), 9);
        confirmation.confirm(9, 12);
        assert_eq!(confirmation.acknowledged(12), 12);
    }

    #[test]
    fn messages_that_a_failed_sync_has_lost_need_none() {
        let mut confirmation = Confirmation::new(0);
        confirmation.written(9);
        confirmation.confirm(0, 4);
        confirmation.reset(4);
        assert_eq!(confirmation.acknowledged(6), 6);
        confirmation.gap(6, 8);
        confirmation.written(9);
        confirmation.reset(6);
        confirmation.written(8);
        confirmation.confirm(4, 6);
        assert_eq!(confirmation.acknowledged(8), 6);
    }

    #[test]
    fn a_gap_shows_no_hole_before_it() {
        let mut confirmation = Confirmation::new(0);
        confirmation.written(9);
        confirmation.gap(9, 12);
        confirmation.confirm(0, 4);
        assert_eq!(
            (confirmation.hole(), confirmation.acknowledged(12)),
            (None, 4)
        );
        confirmation.confirm(4, 9);
        assert_eq!(confirmation.acknowledged(12), 12);
    }

    #[test]
    fn nothing_after_a_hole_is_acknowledged() {
        let mut confirmation = Confirmation::new(0);
        confirmation.written(30);
        confirmation.confirm(0, 10);
        confirmation.gap(12, 15);
        confirmation.confirm(20, 30);
        assert_eq!(confirmation.acknowledged(30), 10);
        assert_eq!(confirmation.hole(), Some((10, 12)));
        confirmation.confirm(10, 12);
        assert_eq!(confirmation.hole(), Some((15, 20)));
        // The other daemon has forwarded them.
        confirmation.confirm(11, 25);
        assert_eq!(
            (confirmation.hole(), confirmation.acknowledged(30)),
            (None, 30)
        );
    }

    #[test]
    fn what_an_earlier_run_has_confirmed_is_no_hole() {
        let mut confirmation = Confirmation::recovered(40);
        // Before the first report, nothing is known. What the subject has comes first.
        confirmation.gap(40, 42);
        assert_eq!(confirmation.hole(), None);
        confirmation.confirm(10, 20);
        confirmation.confirm(30, 40);
        assert_eq!(confirmation.hole(), Some((20, 30)));
        confirmation.confirm_recovered(0, false);
        assert_eq!(confirmation.acknowledged(42), 20);
        // The device does not hold them.
        let mut given_up = confirmation.clone();
        given_up.begin(15, 30);
        assert_eq!((given_up.hole(), given_up.acknowledged(42)), (None, 42));
        confirmation.begin(15, 15);
        assert_eq!(confirmation.hole(), Some((20, 30)));
    }

    #[test]
    fn after_damage_the_messages_of_an_earlier_run_are_in_doubt() {
        let mut confirmation = Confirmation::recovered(40);
        confirmation.confirm_recovered(0, true);
        assert_eq!(
            (confirmation.hole(), confirmation.acknowledged(40)),
            (None, 0)
        );
        let mut acked = confirmation.clone();
        acked.begin(40, 40);
        assert_eq!((acked.hole(), acked.acknowledged(40)), (None, 40));
        confirmation.begin(30, 30);
        assert_eq!(confirmation.hole(), Some((30, 40)));
        confirmation.confirm(30, 40);
        assert_eq!(confirmation.hole(), None);
    }

    #[test]
    fn messages_that_wait_are_confirmed_before_those_of_an_earlier_run_are() {
        for is_damaged in [false, true] {
            let mut confirmation = Confirmation::recovered(40);
            confirmation.begin(10, 10);
            confirmation.confirm(10, 20);
            confirmation.confirm_recovered(30, is_damaged);
            assert_eq!(
                (confirmation.hole(), confirmation.acknowledged(40)),
                (None, 20)
            );
            confirmation.confirm(20, 25);
            assert_eq!(
                (confirmation.hole(), confirmation.acknowledged(40)),
                (None, 25)
            );
            // After them, there is nothing that can be read: a gap, or damage.
            confirmation.confirm(25, 30);
            let found = (confirmation.hole(), confirmation.acknowledged(40));
            match is_damaged {
                true => assert_eq!(found, (Some((30, 40)), 30)),
                false => assert_eq!(found, (None, 40)),
            }
        }
    }

    #[test]
    fn late_reports_of_messages_that_are_taken_again_show_no_hole() {
        let mut before = Confirmation::new(0);
        before.written(30);
        before.confirm(0, 10);
        before.confirm(20, 30);
        let mut confirmation = before.again(8);
        for (from, to) in [(0, 10), (20, 30), (30, 40)] {
            confirmation.confirm(from, to);
            assert_eq!(confirmation.hole(), None);
        }
        confirmation.written(40);
        assert_eq!(confirmation.acknowledged(40), 10);
        // Those that were taken again, and of which some are lost again.
        confirmation.confirm(10, 13);
        assert_eq!(confirmation.hole(), None);
        confirmation.confirm(15, 18);
        assert_eq!(confirmation.hole(), Some((13, 15)));
        confirmation.confirm(13, 20);
        assert_eq!(
            (confirmation.hole(), confirmation.acknowledged(40)),
            (None, 40)
        );
    }
}
