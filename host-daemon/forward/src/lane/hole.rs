//! Messages that the stream has lost of a subject, although it has later ones: [`Hole`].

use std::sync::Arc;

use super::{Done, Lane};
use crate::batch::Batch;
use crate::cursor::Newest;
use crate::place::{Instance, Place};
use crate::recent::{Acked, Lost, Recent};
use crate::stream::Last;

/// Messages that the stream has lost, before others that it has.
#[derive(Debug)]
pub(super) struct Hole {
    /// The begins and the ends of those that it has.
    pub(super) known: Vec<(Place, Place)>,
    /// The numbers of sessions that are lost: the last messages of the subject may say otherwise.
    pub(super) lost: Vec<(Arc<str>, u64, u64)>,
    /// Places up to this one, in messages of the stream, are no proof.
    pub(super) end: Place,
    /// The messages before the loss was known.
    pub(super) recent: Recent,
}

impl Hole {
    /// Messages with these numbers are stored, or stored again.
    pub(super) fn filled(&mut self, session: &str, from: u64, to: u64) {
        let mut left = Vec::new();
        for (of, first, end) in std::mem::take(&mut self.lost) {
            let is_other = *of != *session || to <= first || end <= from;
            let rest = match is_other {
                true => [(first, end), (0, 0)],
                false => [(first, from), (to, end)],
            };
            let rest = rest.into_iter().filter(|(first, end)| first < end);
            left.extend(rest.map(|(first, end)| (Arc::clone(&of), first, end)));
        }
        self.lost = left;
    }
}

impl Lane {
    /// The stream has stored the message in flight. A check has proved those up to a sequence number.
    pub(super) fn note_sent(&mut self, sequence: u64, proved: u64) {
        let Some(batch) = self.queue.front() else {
            return;
        };
        let sent = batch.head(self.sent);
        let numbers = sent.numbers();
        let acked = Acked {
            message: Newest {
                sequence,
                nonce: self.nonce,
            },
            begin: sent.begin(),
            end: sent.end(),
            numbers: numbers.map(|(session, from, to)| (Arc::from(session), from, to)),
        };
        self.note_stored(acked, proved);
    }

    /// The stream has stored a message, after those that it was known to have.
    pub(super) fn note_stored(&mut self, acked: Acked, proved: u64) {
        if let Some((session, from, to)) = &acked.numbers {
            self.stored.note(session, *from, *to);
            if let Some(hole) = &mut self.hole {
                hole.filled(session, *from, *to);
            }
        }
        self.hole.take_if(|it| it.end <= acked.end);
        self.recent.note(acked, proved);
    }

    /// The stream has lost some of the recent messages: begins again at the first of them, or after what was left when their numbers were
    /// given again. The last message of the subject does not know that they are lost.
    pub(super) fn note_lost(&mut self, lost: &Lost, last: Option<&Last>, instance: Instance) {
        let is_lost = |it: &&Acked| lost.messages.contains(&it.message);
        let Some(first) = self.recent.all().find(is_lost) else {
            return;
        };
        let nothing = Place {
            number: 0,
            messages: 0,
            ..first.begin
        };
        let left = lost
            .before
            .as_ref()
            .map(|it| it.own(instance).unwrap_or(nothing));
        let begin = Place {
            bytes: 0,
            ..left.map_or(first.begin, |left| left.min(first.begin))
        };
        let end = self.recent.all().map(|it| it.end).max();
        let end = end.unwrap_or(begin);
        let (gone, here): (Vec<_>, Vec<_>) = self.recent.all().partition(is_lost);
        // A long message that lacks a part is sent again as a whole.
        let is_broken = |it: &&Acked| gone.iter().any(|gone| gone.is_part_with(it));
        let here: Vec<_> = here.into_iter().filter(|it| !is_broken(it)).collect();
        let mut known: Vec<_> = here.iter().map(|it| (it.begin, it.end)).collect();
        let found = last.and_then(|it| it.own(instance));
        let mut recent = self.recent.clone();
        if let (Some(last), Some(found)) = (last, found.filter(|it| end < *it)) {
            // One was stored after the last answer.
            known.push((end, found));
            recent.note(Acked::until(last, end, found), 0);
        }
        known.retain(|(from, _)| begin <= *from);
        known.dedup_by(|next, before| {
            let continues = before.1 == next.0;
            if continues {
                before.1 = next.1;
            }
            continues
        });
        known.retain(|(from, to)| (from.bytes, to.bytes) == (0, 0));
        let numbers = match (&lost.before, last) {
            (Some(_), Some(last)) => {
                let said = last.head.stored.all();
                said.map(|(session, from, to)| (session.into(), from, to))
                    .collect()
            }
            _ => gone.iter().filter_map(|it| it.numbers.clone()).collect(),
        };
        let mut hole = Hole {
            known,
            lost: numbers,
            end: found.map_or(end, |found| found.max(end)),
            recent,
        };
        for (session, from, to) in lost.before.iter().flat_map(|it| it.head.stored.all()) {
            hole.filled(session, from, to);
        }
        for (session, from, to) in here.iter().filter_map(|it| it.numbers.as_ref()) {
            hole.filled(session, *from, *to);
        }
        self.hole = Some(Box::new(hole));
        self.place = Some(begin);
        self.proof = last.map(Newest::of);
        self.recent = Recent::default();
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

    /// Removes messages that the stream has after those that it has lost. Returns how many messages of the first batch come before
    /// the next of them.
    fn skip_known(&mut self, done: &mut Done) -> u64 {
        let (Some(hole), Some(batch)) = (&self.hole, self.queue.front()) else {
            return u64::MAX;
        };
        let (begin, count) = (batch.begin(), batch.count());
        let mut known = hole.known.iter();
        if let Some((_, end)) = known.find(|(from, to)| *from <= begin && begin < *to) {
            let known = batch.count_before(*end).max(1);
            self.place = Some(*end);
            self.proof = self.last;
            match known < count {
                true => self.skip_front(known, done),
                false => self.finish_front(done),
            }
            return 0;
        }
        let after = hole.known.iter().filter(|(from, _)| begin < *from);
        let after = after.map(|(from, _)| batch.count_before(*from).max(1));
        after.min().unwrap_or(u64::MAX)
    }
}
