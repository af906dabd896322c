//! Puts the parts of long messages together again: an [`Assembler`].

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;

use crate::batch::Kind;
use crate::fetched::{Fetched, Unreadable, UnreadableCause};
use crate::message::Head;
use crate::place::{Instance, Place, Seen};
use crate::stored::Stored;

/// What an unfinished message takes besides its subject and its parts, in bytes.
const ENTRY: usize = 1024;
/// Unfinished messages of a subject: one of each daemon that a message names.
const SUBJECT_MAX: usize = Seen::MAX;

/// Puts parts together. It holds at most `max` bytes, as far as they have arrived: a length in a header reserves nothing. If
/// they are exceeded, the messages whose last part came longest ago give way.
#[derive(Debug)]
pub(crate) struct Assembler {
    /// The unfinished messages of each subject, at most one of each recording.
    open: HashMap<Arc<str>, Vec<Open>>,
    /// The same, by the sequence number of the last part.
    by_age: BTreeSet<(u64, Arc<str>, Instance)>,
    bytes: usize,
    max: usize,
    /// Reading began within the stream, or anew there, so the first parts of a message may be before it.
    begins_within: bool,
}

/// An unfinished message.
#[derive(Debug)]
struct Open {
    instance: Instance,
    identity: Identity,
    /// The place after its last part.
    place: Place,
    /// `None` if a part is missing. The rest is passed over.
    body: Option<Vec<u8>>,
    /// The sequence number of its last part.
    sequence: u64,
}

/// What the parts of a message have in common.
#[derive(Debug, PartialEq, Eq)]
struct Identity {
    kind: Kind,
    connection: u64,
    session: Option<String>,
    number: u64,
    time: u64,
    len: u64,
}

/// What came of a message of the stream.
#[derive(Debug, Default)]
pub(crate) struct Assembled {
    /// Messages that cannot be read.
    pub unreadable: Vec<Unreadable>,
    /// A message that is whole.
    pub whole: Option<Fetched>,
}

impl Assembler {
    pub(crate) fn new(max: usize, begins_within: bool) -> Self {
        Self {
            open: HashMap::new(),
            by_age: BTreeSet::new(),
            bytes: 0,
            max,
            begins_within,
        }
    }

    /// Notes that the stream has gone back to an older state. The daemons send what it has lost again: parts, too, of messages
    /// that came whole before, and whose first parts it has kept.
    pub(crate) const fn note_gone_back(&mut self) {
        self.begins_within = true;
    }

    /// Takes the next message of the stream.
    pub(crate) fn add(&mut self, stored: Fetched) -> Assembled {
        let mut assembled = Assembled::default();
        let subject: Arc<str> = match self.open.get_key_value(&*stored.subject) {
            Some((subject, _)) => Arc::clone(subject),
            None if stored.head.part.is_none() => {
                assembled.whole = Some(stored);
                return assembled;
            }
            None => (&*stored.subject).into(),
        };
        let before = self.take(&subject, stored.head.instance);
        let part = stored.head.part;
        let identity = part.map(|(_, len)| Identity::of(&stored.head, len));
        let offset = part.map_or(0, |(offset, _)| offset);
        let (open, other) = match (before, &identity) {
            (Some(open), Some(next)) if open.is_before(next, offset) => (Some(open), None),
            (Some(open), Some(next)) if open.comes_again(next, &stored.head, offset) => {
                (Some(open.cut(offset)), None)
            }
            (other, _) => (None, other),
        };
        self.forget(&subject, &stored.head.stored);
        let is_same = other
            .as_ref()
            .map(|it| Some(&it.identity) == identity.as_ref());
        if let Some(other) = other
            && !other.is_in(&stored.head.stored)
            && !other.is_among(&stored)
        {
            assembled.unreadable.extend(other.incomplete(&subject));
        }
        let Some(identity) = identity else {
            assembled.whole = Some(stored);
            return assembled;
        };
        let body = match open {
            Some(open) => open.body,
            None if offset == 0 => Some(Vec::new()),
            None => {
                // Reported unless this was said of a part before, or the first parts are before the beginning.
                let is_new = is_same.map_or(!self.begins_within, |is_same| !is_same);
                let report = is_new.then(|| Unreadable {
                    sequence: stored.sequence,
                    subject: stored.subject.clone(),
                    cause: UnreadableCause::NoBeginning { offset },
                });
                assembled.unreadable.extend(report);
                None
            }
        };
        let open = Open {
            instance: stored.head.instance,
            identity,
            place: stored.head.place,
            body,
            sequence: stored.sequence,
        };
        self.go_on(&subject, open, stored, assembled)
    }

    /// Adds the body of a part to those before it.
    fn go_on(
        &mut self,
        subject: &Arc<str>,
        mut open: Open,
        mut stored: Fetched,
        mut assembled: Assembled,
    ) -> Assembled {
        let part = std::mem::take(&mut stored.body);
        let len = open.identity.len;
        let Some(body) = &mut open.body else {
            let (offset, _) = stored.head.part.unwrap_or_default();
            if offset.saturating_add(part.len() as u64) < len {
                self.keep(subject, open, &mut assembled);
            }
            return assembled;
        };
        let have = (body.len() + part.len()) as u64;
        let needed = usize::try_from(len).unwrap_or(usize::MAX);
        let cause = match () {
            () if len < have || part.is_empty() => Some(UnreadableCause::Parts { have, len }),
            () if self.max < needed.saturating_add(ENTRY + subject.len()) => {
                Some(UnreadableCause::TooLong { max: self.max })
            }
            () => None,
        };
        if let Some(cause) = cause {
            assembled.unreadable.push(Unreadable {
                sequence: stored.sequence,
                subject: stored.subject,
                cause,
            });
            open.body = None;
            self.keep(subject, open, &mut assembled);
            return assembled;
        }
        if body.capacity() < body.len() + part.len() {
            // A quarter more, and not twice as much, since this counts.
            let more = part.len().max(body.len() / 4).min(needed - body.len());
            let grown = ENTRY + subject.len() + body.len() + more;
            self.make_room(grown, &mut assembled);
            body.reserve_exact(more);
        }
        body.extend_from_slice(&part);
        if have < len {
            self.keep(subject, open, &mut assembled);
            return assembled;
        }
        stored.body = Bytes::from(std::mem::take(body));
        stored.head.part = Some((0, len));
        assembled.whole = Some(stored);
        assembled
    }

    fn keep(&mut self, subject: &Arc<str>, open: Open, assembled: &mut Assembled) {
        let of_subject = self.open.get(subject).into_iter().flatten();
        let full = of_subject.clone().nth(SUBJECT_MAX - 1).is_some();
        let oldest = of_subject.min_by_key(|it| it.sequence).filter(|_| full);
        if let Some(oldest) = oldest.map(|it| it.instance) {
            let oldest = self.take(subject, oldest);
            let report = oldest.and_then(|it| it.incomplete(subject));
            assembled.unreadable.extend(report);
        }
        let cost = open.cost(subject);
        self.make_room(cost, assembled);
        self.bytes += cost;
        let age = (open.sequence, Arc::clone(subject), open.instance);
        self.by_age.insert(age);
        let of_subject = self.open.entry(Arc::clone(subject));
        of_subject.or_default().push(open);
    }

    /// Removes messages until this number of bytes can be added: of each the parts, and then what passes over its rest.
    fn make_room(&mut self, bytes: usize, assembled: &mut Assembled) {
        while self.max < self.bytes.saturating_add(bytes)
            && let Some((sequence, subject, instance)) = self.by_age.first().cloned()
        {
            let Some(open) = self.take(&subject, instance) else {
                return;
            };
            if open.body.is_none() {
                continue;
            }
            let rest = Open { body: None, ..open };
            assembled.unreadable.push(Unreadable {
                sequence,
                subject: subject.to_string(),
                cause: UnreadableCause::TooLong { max: self.max },
            });
            self.bytes += rest.cost(&subject);
            self.by_age
                .insert((sequence, Arc::clone(&subject), instance));
            self.open.entry(subject).or_default().push(rest);
        }
    }

    fn take(&mut self, subject: &Arc<str>, instance: Instance) -> Option<Open> {
        let of_subject = self.open.get_mut(subject)?;
        let at = of_subject.iter().position(|it| it.instance == instance)?;
        let open = of_subject.swap_remove(at);
        if of_subject.is_empty() {
            self.open.remove(subject);
        }
        self.bytes -= open.cost(subject);
        self.by_age
            .remove(&(open.sequence, Arc::clone(subject), instance));
        Some(open)
    }

    /// Removes the unfinished messages of a subject that another daemon has stored: their rest does not come.
    fn forget(&mut self, subject: &Arc<str>, stored: &Stored) {
        let of_subject = self.open.get(subject).into_iter().flatten();
        let abandoned = of_subject.filter(|it| it.is_in(stored));
        let abandoned: Vec<_> = abandoned.map(|it| it.instance).collect();
        for instance in abandoned {
            self.take(subject, instance);
        }
    }

    /// The messages whose last parts did not come.
    pub(crate) fn finish(&mut self) -> Vec<Unreadable> {
        self.bytes = 0;
        self.by_age.clear();
        let mut left = Vec::new();
        for (subject, open) in self.open.drain() {
            for mut open in open.into_iter().filter_map(|it| it.incomplete(&subject)) {
                if let UnreadableCause::Parts { have, len } = open.cause {
                    open.cause = UnreadableCause::Unfinished { have, len };
                }
                left.push(open);
            }
        }
        left.sort_by_key(|it| it.sequence);
        left
    }
}

impl Identity {
    fn of(head: &Head, len: u64) -> Self {
        Self {
            kind: head.kind,
            connection: head.connection,
            session: head.session.clone(),
            number: head.first,
            time: head.time,
            len,
        }
    }
}

impl Open {
    /// Whether a part goes on where this message has got to.
    fn is_before(&self, next: &Identity, offset: u64) -> bool {
        let goes_on = match &self.body {
            Some(body) => body.len() as u64 == offset,
            // What is passed over goes on with any part but a first one.
            None => offset != 0,
        };
        goes_on && self.identity == *next
    }

    /// Whether a part of this message has bytes that are held already, since the daemon sends it again: the stream has lost the
    /// parts after them, or the daemon was restarted.
    fn comes_again(&self, next: &Identity, head: &Head, offset: u64) -> bool {
        let held = self.body.as_ref().map_or(0, Vec::len) as u64;
        // Pieces of a message may have all in common but their places.
        let file = |place: &Place| (place.number, place.nonce, place.messages);
        let is_it = self.identity.kind == Kind::Part || file(&self.place) == file(&head.place);
        is_it && self.identity == *next && offset <= held
    }

    /// The message up to this offset, which it has.
    fn cut(mut self, offset: u64) -> Self {
        let body = self.body.get_or_insert_default();
        body.truncate(usize::try_from(offset).unwrap_or(usize::MAX));
        self
    }

    /// Whether this message is among those that the daemon has sent whole, in place of the rest of its parts.
    fn is_among(&self, stored: &Fetched) -> bool {
        let (head, it) = (&stored.head, &self.identity);
        it.kind == Kind::Part
            && head.part.is_none()
            && (head.connection, &head.session) == (it.connection, &it.session)
            && stored.messages().flatten().any(|message| {
                (message.number, message.time) == (it.number, it.time)
                    && message.data.len() as u64 == it.len
            })
    }

    /// Whether the numbers of sessions that the subject has include that of this message. Pieces share their numbers.
    fn is_in(&self, stored: &Stored) -> bool {
        let Identity {
            kind,
            session,
            number,
            ..
        } = &self.identity;
        let session = session.as_deref().filter(|_| *kind == Kind::Part);
        session.is_some_and(|session| stored.end_of(session, *number).is_some())
    }

    /// Bytes that it takes.
    fn cost(&self, subject: &str) -> usize {
        ENTRY + subject.len() + self.body.as_ref().map_or(0, Vec::capacity)
    }

    /// Why the message cannot be read, unless that was reported.
    fn incomplete(self, subject: &str) -> Option<Unreadable> {
        let body = self.body?;
        Some(Unreadable {
            sequence: self.sequence,
            subject: subject.to_owned(),
            cause: UnreadableCause::Parts {
                have: body.len() as u64,
                len: self.identity.len,
            },
        })
    }
}

#[cfg(test)]
mod tests;
