//! What the last message of a subject says: [`LastSeen`].

use super::{Done, Lane};
use crate::batch::Batch;
use crate::cursor::Newest;
use crate::message::Head;
use crate::place::{Instance, Place};
use crate::recent::{Acked, Lost};
use crate::stream::Last;

/// What a look has found.
#[derive(Debug, Default)]
pub(crate) struct LastSeen {
    /// The last message of the subject, if there is one. If it says less than the stream had acknowledged, the stream removed the rest
    /// on purpose.
    pub last: Option<Last>,
    /// The last message that was known was removed on purpose: what it says is still true.
    pub was_removed: bool,
    /// What the stream has lost although it has later messages.
    pub lost: Option<Box<Lost>>,
    /// The stream has lost messages since the daemon started.
    pub has_gone_back: bool,
}

impl Lane {
    /// Takes the answer to a look.
    pub(crate) fn found(&mut self, shown: LastSeen, instance: Instance) -> Done {
        let LastSeen { last, lost, .. } = shown;
        let found = last.as_ref().and_then(|last| last.own(instance));
        let own = last.as_ref().filter(|it| it.head.instance == instance);
        // The first batch was stored, up to there. The answer was lost, or came too late.
        let attempt = own.filter(|it| lost.is_none() && self.is_attempt(it));
        let is_stale =
            shown.has_gone_back && attempt.is_none() && self.is_exceeded(found, own.is_some());
        if let Some(attempt) = attempt {
            self.note_attempt(attempt);
        }
        match lost {
            None => self.recent.end_at(found),
            Some(lost) => self.note_lost(&lost, last.as_ref(), instance),
        }
        let found = match &mut self.hole {
            _ if is_stale => self.place,
            Some(_) if attempt.is_some() => found,
            // The messages after the lost ones say nothing of these.
            Some(hole) => {
                if let (Some(own), Some(found)) = (own, found.filter(|it| hole.end < *it)) {
                    // It was sent before the loss was noticed.
                    hole.known.push((hole.end, found));
                    hole.recent.note(Acked::until(own, hole.end, found), 0);
                    hole.end = found;
                }
                self.place.min(found)
            }
            None => found,
        };
        self.last = last.as_ref().map(Newest::of);
        if self.place < found {
            (self.place, self.proof) = (found, self.last);
            self.attempts.clear();
        }
        if let (Some(own), None, false) = (own, &self.hole, is_stale) {
            self.note_shown(own);
        }
        if !shown.was_removed {
            self.said = self.last;
            self.learn(last.map(|it| it.head), instance, is_stale);
        }
        for (session, from, to) in self.hole.iter().flat_map(|it| &it.lost) {
            self.stored.remove(session, *from, *to);
        }
        self.state = self.next_state();
        self.is_in_doubt = self.must_look;
        self.trim()
    }

    /// Whether a place is more than the subject can have: the message was on its way when the stream went back, and was stored after those
    /// that took the place of the ones before it. Another daemon may know of a message in flight.
    fn is_exceeded(&self, found: Option<Place>, is_own: bool) -> bool {
        let (Some(place), Some(found), None) = (self.place, found, &self.hole) else {
            return false;
        };
        place < found && (is_own || !self.attempts.contains(&found))
    }

    /// Whether a message of this recording has the beginning of the first batch.
    fn is_attempt(&self, own: &Last) -> bool {
        let head = &own.head;
        let is_of = |batch: &Batch| {
            let offset = |part: Option<(u64, u64)>| part.map(|(offset, _)| offset);
            (batch.connection, batch.first) == (head.connection, head.first)
                && batch.channel.session == head.session
                && offset(batch.part()) == offset(head.part)
        };
        self.place.is_some()
            && self.expected() < own.sequence
            && self.queue.front().is_some_and(is_of)
    }

    fn note_attempt(&mut self, own: &Last) {
        let Some(begin) = self.queue.front().map(Batch::begin) else {
            return;
        };
        let numbers = own.head.numbers();
        let numbers = numbers.map(|(session, from, to)| (session.into(), from, to));
        let acked = Acked {
            message: Newest::of(own),
            begin,
            end: own.head.place,
            numbers,
        };
        self.note_stored(acked, 0);
    }

    /// The subject has a message that nothing is known of but its end: the stream may lose it before others.
    fn note_shown(&mut self, own: &Last) {
        let (message, end) = (Newest::of(own), own.head.place);
        // A long message is sent again as a whole.
        if end.bytes == 0 && self.recent.all().all(|it| it.message != message) {
            self.recent.note(Acked::until(own, end, end), 0);
        }
    }

    /// Takes what the last message of the subject says of others, and of sessions.
    fn learn(&mut self, head: Option<Head>, instance: Instance, is_stale: bool) {
        let Some(head) = head else {
            (self.seen, self.stored) = Default::default();
            return;
        };
        match (is_stale, head.numbers()) {
            (false, _) => self.stored = head.stored,
            // What it says of earlier ones was true before the loss.
            (true, Some((session, from, to))) => self.stored.note(session, from, to),
            (true, None) => {}
        }
        self.seen = head.seen;
        if head.instance != instance {
            self.seen.note(head.instance, head.place);
        }
    }
}
