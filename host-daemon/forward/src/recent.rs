//! The messages of a subject that the stream has acknowledged last: [`Recent`].
//!
//! A stream that has gone back can give the number of a lost message to one of another daemon in the same subject. Then it takes the
//! next message of this daemon, although those before it are lost.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::cursor::Newest;
use crate::place::Place;
use crate::stream::Last;

/// Largest number that are remembered of a subject.
const RECENT_MAX: usize = 1 << 12;

/// Messages that the stream has lost although it has later ones of the subject.
#[derive(Debug)]
pub(crate) struct Lost {
    pub messages: Vec<Newest>,
    /// The message that has the number of the last one of these: it says what was there before it.
    pub before: Option<Last>,
}

/// Those of all subjects, for the next dispatcher.
#[derive(Debug, Default)]
pub(crate) struct AllRecent {
    /// When the stream was created.
    created: i128,
    subjects: HashMap<Arc<str>, Recent>,
}

/// Messages that no check has proved yet, in their order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recent {
    messages: VecDeque<Acked>,
    /// Some of them are lost, and were not all stored again.
    is_repairing: bool,
}

/// A message that the stream has acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Acked {
    /// The message.
    pub message: Newest,
    /// The places before it and after it.
    pub begin: Place,
    pub end: Place,
    /// Its numbers, if it is of a session: the first one, and the one after the last.
    pub numbers: Option<(Arc<str>, u64, u64)>,
}

impl Acked {
    /// What the subject has between two places, as its last message shows.
    pub(crate) fn until(last: &Last, begin: Place, end: Place) -> Self {
        Self {
            message: Newest::of(last),
            begin,
            end,
            numbers: None,
        }
    }

    /// Whether both are parts of one message.
    pub(crate) fn is_part_with(&self, other: &Self) -> bool {
        let of = |it: &Self| (it.begin.number, it.begin.nonce, it.begin.messages);
        let is_part = |it: &Self| (it.begin.bytes, it.end.bytes) != (0, 0);
        is_part(self) && is_part(other) && of(self) == of(other)
    }
}

impl AllRecent {
    /// Those of the stream that was created then.
    pub(crate) fn of(
        created: i128,
        subjects: impl IntoIterator<Item = (Arc<str>, Recent)>,
    ) -> Self {
        let subjects = subjects.into_iter();
        Self {
            created,
            subjects: subjects.filter(|(_, it)| !it.messages.is_empty()).collect(),
        }
    }

    /// Takes them, if they are of the stream that was created then.
    pub(crate) fn take(&mut self, created: i128) -> HashMap<Arc<str>, Recent> {
        let all = std::mem::take(self);
        match all.created == created {
            true => all.subjects,
            false => HashMap::new(),
        }
    }
}

#[cfg(test)]
impl AllRecent {
    /// Forgets the last message of each subject, as if its answer was lost.
    pub(crate) fn forget_last(&mut self) {
        for recent in self.subjects.values_mut() {
            recent.messages.pop_back();
        }
    }
}

impl Recent {
    /// Adds the next message. A check has proved those up to a sequence number: they are forgotten, except the one before the first of
    /// the others.
    pub(crate) fn note(&mut self, acked: Acked, proved: u64) {
        let is_proved = |it: &Acked| it.message.sequence <= proved;
        while self.messages.get(1).is_some_and(is_proved) {
            self.messages.pop_front();
        }
        if self.messages.len() == RECENT_MAX {
            self.messages.pop_front();
        }
        self.messages.push_back(acked);
    }

    /// The subject has nothing of this recording after a place.
    pub(crate) fn end_at(&mut self, place: Option<Place>) {
        self.messages.retain(|it| Some(it.end) <= place);
        self.is_repairing = false;
    }

    /// The messages.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Acked> {
        self.messages.iter()
    }

    /// The lost message whose number another one has, which the next message, that is there, was taken to come after.
    /// The subject has got to a place: it may have a message after all of these.
    pub(crate) fn replaced(&self, lost: &[Newest], place: Place) -> Option<Newest> {
        let is_lost = |it: &Acked| lost.contains(&it.message);
        let is_here = |it: Option<&Acked>| it.is_some_and(|it| !is_lost(it));
        let mut pairs = (0..).zip(&self.messages);
        let found = pairs.find(|(index, first)| {
            let next = self.messages.get(index + 1);
            let is_before = is_here(next) || next.is_none() && first.end < place;
            is_lost(first) && is_before
        });
        found.map(|(_, first)| first.message)
    }

    /// Those of a subject whose loss is being repaired, with those that were stored since it was noticed.
    pub(crate) fn of_repair(mut self, mut since: Self) -> Self {
        self.messages.append(&mut since.messages);
        self.is_repairing = true;
        self
    }

    /// Whether the stream can have later messages than one that is lost, in a subject that has got to a place.
    pub(crate) fn is_doubtful(&self, place: Place) -> bool {
        self.is_repairing || self.messages.front().is_some_and(|it| it.begin < place)
    }

    /// Whether the stream has messages after lost ones, in a subject that has got to a place. Otherwise the subject goes on after that
    /// place.
    pub(crate) fn is_overtaken(&self, lost: &[Newest], place: Place) -> bool {
        let is_overtaken = |it: &Acked| match lost.contains(&it.message) {
            true => it.begin < place,
            false => place < it.end,
        };
        !lost.is_empty() && self.messages.iter().any(is_overtaken)
    }
}
