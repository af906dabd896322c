//! The messages of a subject after those that are certain, as they were read one by one: [`Tail`].
//!
//! After a stream has gone back to an older state, a message can name lost ones: it was on its way meanwhile, or follows one that was. So
//! only the content of a message counts, and not its headers about others.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use super::{Done, Lane, LaneState};
use crate::batch::Batch;
use crate::cursor::Newest;
use crate::place::{Instance, Place};
use crate::stream::Last;

/// Messages of a subject that were read.
#[derive(Debug)]
pub(crate) struct TailRead {
    /// The state before the first message that was ever read: for a lane that knew nothing.
    pub base: Option<Base>,
    /// The next messages, in their order.
    pub messages: Vec<Last>,
    /// The last message of the subject, if these are all. Otherwise, the rest must be read.
    pub last: Option<Option<Newest>>,
}

/// The state of a subject that is certain.
#[derive(Debug)]
pub(crate) enum Base {
    /// It had no messages.
    Empty,
    /// This was its last message. The headers about those before it are true.
    After(Box<Last>),
    /// Its last message was deleted. The headers of this one, the next of them, are believed.
    Before(Box<Last>),
}

/// The knowledge of a lane that has read its subject.
#[derive(Debug, Default)]
pub(super) struct Tail {
    /// Messages up to this number were read.
    read_to: u64,
    /// Whole messages of this recording after its place, by where they begin: where they end. None touches another.
    known: BTreeMap<Place, Place>,
    /// Where a long message of this recording begins whose first parts are the last ones of it in the subject, and where these end.
    begun: Option<(Place, Place)>,
    /// The ends of long messages, as far as their parts follow each other, by their recording.
    parts: HashMap<Instance, Place>,
}

impl Tail {
    /// The stream has stored a message of this lane. A long message that it interrupts is sent again from its first part.
    pub(super) fn acked(&mut self, sequence: u64) {
        self.read_to = self.read_to.max(sequence);
        self.begun = None;
    }

    /// The stream has whole messages.
    fn note(&mut self, mut from: Place, mut to: Place) {
        if let Some((begin, end)) = self.known.range(..=from).next_back()
            && from <= *end
        {
            (from, to) = (*begin, to.max(*end));
        }
        while let Some((begin, end)) = self.known.range(from..=to).next() {
            let begin = *begin;
            to = to.max(*end);
            self.known.remove(&begin);
        }
        self.known.insert(from, to);
    }

    /// Forgets what is before a place.
    fn reached(&mut self, place: Place) {
        while let Some(first) = self.known.first_entry()
            && *first.get() <= place
        {
            first.remove();
        }
    }

    /// Where messages end that the stream has, and that the first message of a batch is one of.
    fn end_of(&self, batch: &Batch) -> Option<Place> {
        let begin = batch.begin();
        let whole = self.known.range(..=begin).next_back();
        let whole = whole.map(|(_, to)| *to).filter(|to| begin < *to);
        // A message that is not sent in parts now is sent as a whole.
        let begun = self.begun.filter(|_| batch.part().is_some());
        let begun = begun.filter(|(from, to)| *from <= begin && begin < *to);
        whole.or_else(|| begun.map(|(_, to)| to))
    }

    /// Where the next messages begin that the stream has, after a place.
    fn next_after(&self, place: Place) -> Option<Place> {
        let after = (Bound::Excluded(place), Bound::Unbounded);
        let whole = self.known.range(after).next().map(|(from, _)| *from);
        let begun = self.begun.map(|(from, _)| from).filter(|it| place < *it);
        whole.into_iter().chain(begun).min()
    }

    /// Whether a message ends here of which nothing is missing. Notes its parts. Its recording had got to a place.
    fn completes(&mut self, message: &Last, before: Option<Place>) -> bool {
        let head = &message.head;
        let known = self.parts.remove(&head.instance);
        let Some((offset, _)) = head.part else {
            return true;
        };
        let follows = offset == 0 || [known, before].contains(&Some(head.begin()));
        if follows && head.place.bytes != 0 {
            self.parts.insert(head.instance, head.place);
        }
        follows && head.place.bytes == 0
    }
}

impl Lane {
    /// The highest sequence number up to which the subject was read; `None` if it never was.
    pub(crate) fn read_to(&self) -> Option<u64> {
        self.tail.as_ref().map(|it| it.read_to)
    }

    /// Takes messages of the subject that were read.
    pub(crate) fn read(&mut self, read: TailRead, since: u64, instance: Instance) -> Done {
        let mut tail = self.tail.take().map_or_else(Tail::default, |it| *it);
        tail.read_to = tail.read_to.max(since);
        if let Some(base) = read.base {
            self.begin(base, instance);
        }
        for message in &read.messages {
            self.add(message, &mut tail, instance);
        }
        if let Some(place) = self.place {
            tail.reached(place);
        }
        self.tail = Some(Box::new(tail));
        let Some(last) = read.last else {
            // The next look finds out whether it is still there.
            (self.said, self.state) = (self.last, LaneState::Unknown);
            return Done::default();
        };
        (self.last, self.said) = (last, last);
        self.state = self.next_state();
        self.is_in_doubt = self.must_look;
        self.trim()
    }

    /// Takes the state that is certain.
    fn begin(&mut self, base: Base, instance: Instance) {
        (self.place, self.proof, self.last) = (None, None, None);
        (self.seen, self.stored) = Default::default();
        match base {
            Base::Empty => {}
            Base::After(last) => {
                self.place = last.own(instance);
                self.last = Some(Newest::of(&last));
                self.learn(Some(*last), instance);
            }
            Base::Before(next) => {
                let head = next.head;
                self.place = match head.instance == instance {
                    true => Some(head.begin()),
                    false => head.seen.of(instance),
                };
                (self.seen, self.stored) = (head.seen, head.stored);
            }
        }
        self.proof = self.last;
    }

    /// Takes the content of a message.
    fn add(&mut self, message: &Last, tail: &mut Tail, instance: Instance) {
        let head = &message.head;
        let (begin, end) = (head.begin(), head.place);
        let before = match head.instance == instance {
            true => self.place,
            false => self.seen.of(head.instance),
        };
        let is_whole = tail.completes(message, before);
        tail.read_to = tail.read_to.max(message.sequence);
        self.last = Some(Newest::of(message));
        self.proof = self.last;
        match head.instance == instance {
            true => self.add_own(begin, end, tail),
            false if self.seen.of(head.instance) < Some(end) => self.seen.note(head.instance, end),
            false => {}
        }
        if let (true, Some((session, from, to))) = (is_whole, head.numbers()) {
            self.stored.note(session, from, to);
        }
    }

    /// Takes a message of this recording. Parts that do not follow each other are sent again.
    fn add_own(&mut self, begin: Place, end: Place, tail: &mut Tail) {
        let begun = tail.begun.take().filter(|(_, to)| *to == begin);
        if let Some(place) = self.place.as_mut().filter(|it| **it != begin) {
            place.bytes = 0;
        }
        if self.place == Some(begin) {
            self.place = Some(end);
            return;
        }
        let is_first = begin.bytes == 0;
        let from = begun.map(|(from, _)| from);
        let from = from.or_else(|| is_first.then_some(begin));
        match from {
            Some(from) if end.bytes == 0 => tail.note(from, end),
            Some(from) => tail.begun = Some((from, end)),
            None => {}
        }
    }

    /// Removes messages that are in the stream already. Returns how many messages of the first batch are not.
    pub(super) fn skip(&mut self, done: &mut Done) -> u64 {
        loop {
            let count = self.skip_stored(done);
            let begin = self.queue.front().map(Batch::begin);
            let known = self.skip_known(done);
            if begin == self.queue.front().map(Batch::begin) {
                return count.min(known);
            }
        }
    }

    /// Removes messages that the stream has after others that it has lost. Returns how many messages of the first batch come before
    /// the next of them.
    fn skip_known(&mut self, done: &mut Done) -> u64 {
        let (Some(tail), Some(batch)) = (&mut self.tail, self.queue.front()) else {
            return u64::MAX;
        };
        let Some(end) = tail.end_of(batch) else {
            let next = tail.next_after(batch.begin());
            return next.map_or(u64::MAX, |next| batch.count_before(next).max(1));
        };
        let end = end.min(batch.end());
        tail.reached(end);
        let known = batch.count_before(end);
        self.place = Some(end);
        self.proof = self.last;
        match batch.end() == end {
            true => self.finish_front(done),
            false if batch.part().is_some() => self.trim_front(end, done),
            false => self.skip_front(known, done),
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use blocksd_recording::FileNonce;

    use super::*;

    #[test]
    fn messages_that_overlap_or_touch_are_one_run() {
        let nonce = FileNonce::new();
        let place = |messages| Place {
            number: 1,
            nonce,
            messages,
            bytes: 0,
        };
        let mut tail = Tail::default();
        let mut note = |from, to| {
            tail.note(place(from), place(to));
            let known = tail.known.iter();
            let runs: Vec<_> = known
                .map(|(from, to)| (from.messages, to.messages))
                .collect();
            runs
        };
        assert_eq!(note(4, 6), [(4, 6)]);
        assert_eq!(note(1, 2), [(1, 2), (4, 6)]);
        assert_eq!(note(8, 9), [(1, 2), (4, 6), (8, 9)]);
        assert_eq!(note(5, 6), [(1, 2), (4, 6), (8, 9)]);
        assert_eq!(note(2, 3), [(1, 3), (4, 6), (8, 9)]);
        assert_eq!(note(4, 7), [(1, 3), (4, 7), (8, 9)]);
        assert_eq!(note(2, 8), [(1, 9)]);
        assert_eq!(note(0, 10), [(0, 10)]);
    }
}
