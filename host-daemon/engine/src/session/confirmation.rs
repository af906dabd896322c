//! Which durable messages of a session may be acknowledged, if something else must have them, too: a [`Confirmation`].

/// Largest number of runs that are kept. Later ones are taken for a part of a hole: the device sends their messages again.
const RUNS_MAX: usize = 64;

/// The messages of a session that are confirmed, such as by a cluster that they are forwarded to.
///
/// Confirmations come in the order of the recording, each with the numbers right before it that have no message. So a run that does
/// not continue what is confirmed shows a hole: the messages between were recorded, became unreadable, and are not in the cluster.
/// Nothing after a hole is acknowledged, so the device still has those messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Confirmation {
    /// The number after the last message that was written.
    messages: u64,
    /// Where a gap after the last message ends. Other gaps are confirmed with the messages after them.
    gap_end: u64,
    /// All numbers below are confirmed, or have no message.
    confirmed: u64,
    /// The number after the last message of an earlier run.
    recovered: u64,
    /// The device holds no message below this number, and cannot send one again.
    held_from: u64,
    /// Runs of numbers that are confirmed, or have no message, after a hole: in order, and apart from each other.
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
            gap_end: next,
            confirmed: next,
            recovered: next,
            held_from: 0,
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
            held_from: self.held_from,
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

    /// A gap was written: the numbers after the last message have none, up to before `to`.
    pub(super) fn gap(&mut self, to: u64) {
        self.gap_end = self.gap_end.max(to);
        self.settle();
    }

    /// Forgets messages that are not durable.
    pub(super) fn reset(&mut self, durable: u64) {
        self.messages = self.messages.min(durable);
        self.gap_end = self.gap_end.min(durable);
        self.confirmed = self.confirmed.min(durable);
        self.reached = self.reached.min(durable);
        self.runs.retain_mut(|(from, to)| {
            *to = durable.min(*to);
            *from < *to
        });
    }

    /// The messages with numbers from `from` to before `next` are confirmed. The first numbers may have no message.
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
        self.settle();
        if let Some((end, is_damaged)) = self.ending.take_if(|(end, _)| *end <= next) {
            self.confirm_recovered(end, is_damaged);
        }
    }

    /// Nothing is confirmed but what is from now on.
    pub(super) fn begin_at_none(&mut self) {
        if self.begin == ConfirmedBegin::Unknown {
            self.begin = ConfirmedBegin::Known;
        }
    }

    /// A host has acknowledged everything below `acked` to the device, which holds no message below `first`.
    pub(super) fn begin(&mut self, acked: u64, first: u64) {
        if self.begin == ConfirmedBegin::Unknown {
            self.begin = ConfirmedBegin::Known;
        }
        self.held_from = first;
        self.add(0, acked);
        self.settle();
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
        self.settle();
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
        let to = match self.runs.first() {
            _ if self.reached <= self.confirmed => self.recovered,
            Some((from, _)) => *from,
            // A run that is not kept, or whose messages a failed sync has lost.
            None => self.reached,
        };
        let is_known = self.confirmed < self.reached || self.is_doubtful;
        (is_known && self.confirmed < to).then_some((self.confirmed, to))
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
        self.join();
    }

    /// Joins what is confirmed with the runs that continue it, and with a gap after the last message.
    fn join(&mut self) {
        if self.begin == ConfirmedBegin::Unknown {
            return;
        }
        while let Some(&(from, to)) = self.runs.first()
            && from <= self.confirmed
        {
            self.confirmed = self.confirmed.max(to);
            self.runs.remove(0);
        }
        if self.messages <= self.confirmed {
            self.confirmed = self.confirmed.max(self.gap_end);
        }
    }

    /// As [`join`](Self::join). Passes over holes whose messages the device does not hold any more.
    fn settle(&mut self) {
        self.join();
        while let Some((from, to)) = self.hole()
            && from < self.held_from
        {
            self.confirmed = to.min(self.held_from);
            self.join();
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
        confirmation.gap(5);
        assert_eq!(confirmation.acknowledged(5), 5);
        confirmation.written(9);
        assert_eq!(confirmation.acknowledged(9), 5);
        confirmation.confirm(5, 7);
        assert_eq!(confirmation.acknowledged(9), 7);
        confirmation.confirm(7, 9);
        // A gap up to 12, after the last message.
        confirmation.gap(12);
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
        confirmation.gap(8);
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
        confirmation.gap(12);
        confirmation.confirm(0, 4);
        assert_eq!(
            (confirmation.hole(), confirmation.acknowledged(12)),
            (None, 4)
        );
        confirmation.confirm(4, 9);
        assert_eq!(confirmation.acknowledged(12), 12);
    }

    #[test]
    fn gaps_without_a_number_of_them_show_no_hole() {
        let mut confirmation = Confirmation::new(0);
        let gaps = 0..1_000;
        for at in gaps.clone().map(|it| 10 * it) {
            confirmation.written(at + 5);
            confirmation.gap(at + 10);
        }
        assert_eq!(confirmation.acknowledged(10_000), 0);
        for at in gaps.map(|it| 10_u64 * it) {
            // With the gap before them.
            confirmation.confirm(at.saturating_sub(5), at + 5);
            assert_eq!(confirmation.hole(), None);
        }
        assert_eq!(confirmation.acknowledged(10_000), 10_000);
        confirmation.written(10_001);
        assert_eq!(confirmation.acknowledged(10_001), 10_000);
    }

    #[test]
    fn messages_after_more_holes_than_are_kept_are_taken_again() {
        let mut confirmation = Confirmation::new(0);
        confirmation.written(2_000);
        for at in (0..2 * RUNS_MAX as u64).map(|it| 10 * it) {
            confirmation.confirm(at + 5, at + 10);
        }
        assert_eq!(confirmation.hole(), Some((0, 5)));
        // The device holds a part of them only. It does not wait in vain for those whose confirmation is not kept.
        confirmation.begin(0, 1_275);
        assert_eq!(confirmation.hole(), Some((1_275, 1_280)));
        let mut again = confirmation.again(0);
        again.gap(1_275);
        again.written(1_280);
        again.confirm(1_270, 1_280);
        assert_eq!((again.hole(), again.acknowledged(1_280)), (None, 1_280));
    }

    #[test]
    fn what_the_device_does_not_hold_any_more_is_no_hole() {
        let mut confirmation = Confirmation::recovered(40);
        confirmation.begin(10, 25);
        for (from, to) in [(0, 12), (15, 18), (25, 30)] {
            confirmation.confirm(from, to);
            assert_eq!(confirmation.hole(), None);
        }
        assert_eq!(confirmation.acknowledged(40), 30);
        confirmation.confirm(33, 40);
        assert_eq!(confirmation.hole(), Some((30, 33)));
    }

    #[test]
    fn nothing_after_a_hole_is_acknowledged() {
        let mut confirmation = Confirmation::new(0);
        confirmation.written(30);
        confirmation.confirm(0, 10);
        // 15 to 20 have no message.
        confirmation.confirm(15, 30);
        assert_eq!(confirmation.acknowledged(30), 10);
        assert_eq!(confirmation.hole(), Some((10, 15)));
        confirmation.confirm(10, 12);
        assert_eq!(confirmation.hole(), Some((12, 15)));
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
        confirmation.gap(42);
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
    fn lost_messages_at_the_begin_of_a_session_are_a_hole() {
        for is_damaged in [false, true] {
            let mut confirmation = Confirmation::recovered(40);
            confirmation.begin_at_none();
            confirmation.confirm(30, 40);
            confirmation.confirm_recovered(40, is_damaged);
            assert_eq!(confirmation.acknowledged(40), 0);
            let mut forgotten = confirmation.clone();
            forgotten.begin(0, 30);
            assert_eq!((forgotten.hole(), forgotten.acknowledged(40)), (None, 40));
            confirmation.begin(5, 5);
            assert_eq!(confirmation.hole(), Some((5, 30)));
            assert_eq!(confirmation.acknowledged(40), 5);
        }
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
