//! The messages of a subject after those that are certain, as they were read one by one: [`Tail`].
//!
//! After a stream has gone back to an older state, a message can name lost ones: it was on its way meanwhile, or follows one that was. So
//! only the content of a message counts, and not its headers about others.

use std::collections::HashMap;

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
    /// The begins and the ends of the messages of this recording, after its place. The last one may end within a long message.
    known: Vec<(Place, Place)>,
    /// The ends of long messages, as far as their parts follow each other, by their recording.
    parts: HashMap<Instance, Place>,
}

impl Tail {
    /// The stream has stored a message of this lane. A long message that it interrupts is sent again from its first part.
    pub(super) fn acked(&mut self, sequence: u64) {
        self.read_to = self.read_to.max(sequence);
        self.known.retain(|(_, to)| to.bytes == 0);
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
            tail.known.retain(|(_, end)| place < *end);
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
                let head = last.head;
                (self.seen, self.stored) = (head.seen, head.stored);
                if head.instance != instance {
                    self.seen.note(head.instance, head.place);
                }
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
        let known = &mut tail.known;
        known.retain(|(_, to)| to.bytes == 0 || *to == begin);
        if let Some(place) = self.place.as_mut().filter(|it| **it != begin) {
            place.bytes = 0;
        }
        if self.place == Some(begin) {
            self.place = Some(end);
        } else if begin.bytes == 0 {
            known.push((begin, end));
        } else if let Some((_, to)) = known.last_mut().filter(|(_, to)| *to == begin) {
            *to = end;
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
        let (Some(tail), Some(batch)) = (&self.tail, self.queue.front()) else {
            return u64::MAX;
        };
        let begin = batch.begin();
        let mut known = tail.known.iter();
        if let Some((_, end)) = known.find(|(from, to)| *from <= begin && begin < *to) {
            let (end, known) = (*end, batch.count_before(*end));
            self.place = Some(end);
            self.proof = self.last;
            match batch.end() <= end {
                true => self.finish_front(done),
                false if batch.part().is_some() => self.trim_front(end, done),
                false => self.skip_front(known, done),
            }
            return 0;
        }
        let after = tail.known.iter().filter(|(from, _)| begin < *from);
        let after = after.map(|(from, _)| batch.count_before(*from).max(1));
        after.min().unwrap_or(u64::MAX)
    }
}
