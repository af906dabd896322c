//! Which durable messages of a session may be acknowledged, if something else must have them, too: a [`Confirmation`].

/// Largest number of runs that are kept. Later ones are taken for a part of a hole: the device sends their messages again.
const RUNS_MAX: usize = 64;

/// The messages of a session that are confirmed, such as by a cluster that they are forwarded to. A message is acknowledged only if
/// it is confirmed itself: that others are, before or after it, proves nothing.
///
/// A hole is messages that were recorded, became unreadable, and are not confirmed. It shows in two ways. Confirmations come in the
/// order of the recording, so one that does not continue those before it comes after a hole. And once all that can be read is
/// [settled](Self::settle), the rest is one. Nothing after a hole is acknowledged, so the device still has those messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Confirmation {
    /// The number after the last message that was written.
    messages: u64,
    /// All numbers below are confirmed, or have no message.
    confirmed: u64,
    /// The device holds no message below this number, and cannot send one again. `None` before its first HELLO.
    held_from: Option<u64>,
    /// Runs of numbers that are confirmed, or have no message, after others: in order, and apart from each other.
    runs: Vec<(u64, u64)>,
    /// The number after the last message that was confirmed in the order of the recording.
    reached: u64,
    /// All messages below this number that can be read are confirmed.
    settled: u64,
    /// A confirmation that does not continue those before it shows a hole. Not so of messages that were recorded earlier, before one
    /// of them is confirmed: what comes before it may have been confirmed to an earlier run.
    is_ordered: bool,
    /// What was confirmed when it was looked at last, and up to which number it was asked then what can be read.
    looked: Option<u64>,
    asked: u64,
}

/// Numbers that were recorded, are not confirmed, and cannot be read: from the first one to before the second one.
pub(super) type Hole = (u64, u64);

impl Confirmation {
    /// Of a session without messages.
    pub(super) const fn new(next: u64) -> Self {
        Self {
            messages: next,
            confirmed: next,
            held_from: None,
            runs: Vec::new(),
            reached: 0,
            settled: 0,
            is_ordered: true,
            looked: None,
            asked: 0,
        }
    }

    /// Of this session, if its messages from `next` on are taken from the device again.
    pub(super) fn again(&self, next: u64) -> Self {
        Self {
            confirmed: self.confirmed.max(next),
            held_from: self.held_from,
            is_ordered: false,
            ..Self::new(next)
        }
    }

    /// Of a session of the recording. Which of its messages were confirmed is not known yet.
    pub(super) const fn recovered(next: u64) -> Self {
        let mut confirmation = Self::new(next);
        confirmation.confirmed = 0;
        confirmation.is_ordered = false;
        confirmation
    }

    /// Messages below this number were written.
    pub(super) fn written(&mut self, to: u64) {
        self.messages = self.messages.max(to);
    }

    /// A gap was written: the numbers from `from` to before `to` have no message.
    pub(super) fn gap(&mut self, from: u64, to: u64) {
        self.add(from, to);
        self.pass_holes();
    }

    /// Forgets messages that are not durable.
    pub(super) fn reset(&mut self, durable: u64) {
        for number in [
            &mut self.messages,
            &mut self.confirmed,
            &mut self.reached,
            &mut self.settled,
        ] {
            *number = durable.min(*number);
        }
        self.asked = 0;
        self.runs.retain_mut(|(from, to)| {
            *to = durable.min(*to);
            *from < *to
        });
    }

    /// The messages with numbers from `from` to before `next` are confirmed. The first numbers may have no message.
    pub(super) fn confirm(&mut self, from: u64, next: u64) {
        let before = self.confirmed;
        self.add(from, next);
        // The first of those that were taken again, or recorded earlier.
        self.is_ordered |= before < self.confirmed;
        if self.is_ordered {
            self.reached = self.reached.max(next);
        }
        self.pass_holes();
    }

    /// Of the messages below `to`, all that can be read are confirmed by now, and those of these runs. Unless it was
    /// [asked](Self::unsettled), the answer is for messages that are taken again meanwhile.
    pub(super) fn settle(&mut self, to: u64, runs: &[(u64, u64)]) {
        if self.asked < to {
            return;
        }
        for &(from, to) in runs {
            self.add(from, to);
        }
        self.settled = self.settled.max(to);
        self.is_ordered = true;
        self.pass_holes();
    }

    /// The device begins a connection. A host has acknowledged everything below `acked`, and the device holds no message below
    /// `first`.
    pub(super) fn begin(&mut self, acked: u64, first: u64) {
        self.held_from = Some(first);
        self.add(0, acked);
        self.pass_holes();
    }

    /// Whether a device has begun a connection since the start.
    pub(super) const fn has_begun(&self) -> bool {
        self.held_from.is_some()
    }

    /// The number up to which a device may forget, if everything below `durable` is durable. Gaps need no confirmation.
    pub(super) fn acknowledged(&self, durable: u64) -> u64 {
        match self.messages <= self.confirmed {
            true => durable,
            false => durable.min(self.confirmed),
        }
    }

    /// Returns once the number below which messages must be [settled](Self::settle): those that are durable, if some of them are not
    /// confirmed, and none was since the last look. `is_regular` is false between the looks that are apart from each other. Then only
    /// a session of which nothing is confirmed yet has one.
    pub(super) fn unsettled(&mut self, durable: u64, is_regular: bool) -> Option<u64> {
        let is_stalled = match is_regular {
            true => self.looked.replace(self.confirmed) == Some(self.confirmed),
            false => false,
        };
        let is_waiting = self.acknowledged(durable) < durable && self.asked < durable;
        let is_unsettled = is_waiting && (is_stalled || !self.is_ordered);
        is_unsettled.then(|| {
            self.asked = durable;
            durable
        })
    }

    /// Forgets what was [unsettled](Self::unsettled), so that it is returned again.
    pub(super) const fn ask_again(&mut self) {
        self.asked = 0;
    }

    /// The first hole, if there is one and the device could fill it.
    pub(super) fn hole(&self) -> Option<Hole> {
        let end = self.reached.max(self.settled);
        let is_known = self.is_ordered && self.held_from.is_some();
        if !is_known || end <= self.confirmed {
            return None;
        }
        // Without a run, it is one that is not kept, or whose messages a failed sync has lost.
        let next = self.runs.first().map_or(end, |(from, _)| *from);
        Some((self.confirmed, next.min(end)))
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
        if from <= self.confirmed {
            self.confirmed = to;
            return;
        }
        let index = self.runs.partition_point(|(begin, _)| *begin < from);
        self.runs.insert(index, (from, to));
        self.runs.truncate(RUNS_MAX);
    }

    /// Passes over holes whose messages the device does not hold any more.
    fn pass_holes(&mut self) {
        while let Some((from, to)) = self.hole()
            && let Some(held_from) = self.held_from.filter(|held_from| from < *held_from)
        {
            self.add(from, to.min(held_from));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a session without messages, with a connection of a device that holds all of them.
    fn connected(next: u64) -> Confirmation {
        let mut confirmation = Confirmation::new(next);
        confirmation.begin(next, next);
        confirmation
    }

    /// Asks for unsettled messages, and answers that no others can be read than these runs.
    fn settle(confirmation: &mut Confirmation, to: u64, runs: &[(u64, u64)]) {
        confirmation.ask_again();
        for _ in 0..2 {
            let asked = confirmation.unsettled(to, true);
            assert!(asked.is_none_or(|asked| asked == to));
        }
        confirmation.settle(to, runs);
    }

    #[test]
    fn messages_need_a_confirmation_and_gaps_do_not() {
        let mut confirmation = connected(3);
        assert_eq!(confirmation.acknowledged(3), 3);
        confirmation.gap(3, 5);
        assert_eq!(confirmation.acknowledged(5), 5);
        confirmation.written(9);
        assert_eq!(confirmation.acknowledged(9), 5);
        confirmation.confirm(5, 7);
        assert_eq!(confirmation.acknowledged(9), 7);
        confirmation.confirm(7, 9);
        confirmation.gap(9, 12);
        assert_eq!(confirmation.acknowledged(12), 12);
        assert_eq!(confirmation.acknowledged(8), 8);
        assert_eq!(confirmation.hole(), None);
    }

    #[test]
    fn messages_of_an_earlier_run_are_acknowledged_if_each_is_confirmed() {
        let mut confirmation = Confirmation::recovered(9);
        confirmation.begin(2, 2);
        assert_eq!(confirmation.acknowledged(9), 2);
        confirmation.written(12);
        // Those before them may have been confirmed to the earlier run.
        confirmation.confirm(9, 12);
        assert_eq!(
            (confirmation.hole(), confirmation.acknowledged(12)),
            (None, 2)
        );
        settle(&mut confirmation, 12, &[(0, 9)]);
        assert_eq!(confirmation.acknowledged(12), 12);
    }

    #[test]
    fn what_is_not_confirmed_when_everything_is_read_is_a_hole() {
        for runs in [&[][..], &[(0, 30)], &[(0, 30), (35, 40)]] {
            let mut confirmation = Confirmation::recovered(40);
            settle(&mut confirmation, 40, runs);
            // No device could fill it.
            assert_eq!(confirmation.hole(), None);
            let mut acked = confirmation.clone();
            acked.begin(40, 40);
            assert_eq!((acked.hole(), acked.acknowledged(40)), (None, 40));
            confirmation.begin(5, 5);
            let hole = match runs.len() {
                0 => (5, 40),
                1 => (30, 40),
                _ => (30, 35),
            };
            assert_eq!(confirmation.hole(), Some(hole));
            assert_eq!(confirmation.acknowledged(40), hole.0);
            confirmation.confirm(hole.0, 40);
            assert_eq!(
                (confirmation.hole(), confirmation.acknowledged(40)),
                (None, 40)
            );
        }
    }

    #[test]
    fn messages_are_asked_for_once_they_are_not_confirmed_for_a_while() {
        let mut confirmation = connected(0);
        confirmation.written(9);
        assert_eq!(confirmation.unsettled(6, true), None);
        assert_eq!(confirmation.unsettled(6, false), None);
        confirmation.confirm(0, 1);
        assert_eq!(confirmation.unsettled(6, true), None);
        assert_eq!(confirmation.unsettled(6, true), Some(6));
        assert_eq!(confirmation.unsettled(6, true), None);
        confirmation.ask_again();
        assert_eq!(confirmation.unsettled(6, true), Some(6));
        // More messages, and all are confirmed.
        assert_eq!(confirmation.unsettled(9, true), Some(9));
        confirmation.ask_again();
        confirmation.confirm(1, 9);
        for _ in 0..2 {
            assert_eq!(confirmation.unsettled(9, true), None);
        }
        // Those of an earlier run are asked for at once.
        assert_eq!(Confirmation::recovered(9).unsettled(9, false), Some(9));
    }

    #[test]
    fn an_answer_for_messages_that_are_taken_again_meanwhile_is_ignored() {
        let mut confirmation = Confirmation::recovered(9);
        assert_eq!(confirmation.unsettled(9, false), Some(9));
        confirmation.begin(2, 2);
        let mut again = confirmation.again(2);
        again.written(9);
        let before = again.clone();
        again.settle(9, &[]);
        assert_eq!(again, before);
        let mut failed = confirmation.clone();
        failed.reset(9);
        failed.settle(9, &[]);
        assert_eq!((failed.hole(), failed.unsettled(9, false)), (None, Some(9)));
        confirmation.settle(9, &[]);
        assert_eq!(confirmation.hole(), Some((2, 9)));
    }

    #[test]
    fn messages_that_a_failed_sync_has_lost_need_none() {
        let mut confirmation = connected(0);
        confirmation.written(9);
        confirmation.confirm(0, 4);
        confirmation.reset(4);
        assert_eq!(confirmation.acknowledged(6), 6);
        confirmation.gap(4, 8);
        confirmation.written(9);
        confirmation.reset(6);
        confirmation.written(8);
        confirmation.confirm(4, 6);
        assert_eq!(confirmation.acknowledged(8), 6);
    }

    #[test]
    fn a_gap_shows_no_hole_before_it() {
        let mut confirmation = connected(0);
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
    fn gaps_without_a_number_of_them_show_no_hole() {
        let mut confirmation = connected(0);
        let gaps = 0..1_000;
        for at in gaps.clone().map(|it| 10 * it) {
            confirmation.written(at + 5);
            confirmation.gap(at + 5, at + 10);
        }
        assert_eq!(confirmation.acknowledged(10_000), 0);
        for at in gaps.map(|it| 10_u64 * it) {
            // With the gap before them.
            confirmation.confirm(at.saturating_sub(5), at + 5);
            assert_eq!(confirmation.hole(), None);
        }
        assert_eq!(confirmation.acknowledged(10_000), 10_000);
        confirmation.written(10_001);
        assert!(confirmation.acknowledged(10_001) <= 10_000);
    }

    #[test]
    fn messages_after_more_holes_than_are_kept_are_taken_again() {
        let mut confirmation = connected(0);
        confirmation.written(2_000);
        for at in (0..2 * RUNS_MAX as u64).map(|it| 10 * it) {
            confirmation.confirm(at + 5, at + 10);
        }
        settle(&mut confirmation, 2_000, &[]);
        assert_eq!(confirmation.hole(), Some((0, 5)));
        // The device holds a part of them only. It does not wait in vain for those whose confirmation is not kept.
        confirmation.begin(0, 1_275);
        assert_eq!(confirmation.hole(), Some((1_275, 2_000)));
        let mut again = confirmation.again(0);
        again.gap(0, 1_275);
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
        let mut confirmation = connected(0);
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
    fn late_reports_of_messages_that_are_taken_again_show_no_hole() {
        let mut before = connected(0);
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
