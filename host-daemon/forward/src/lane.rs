//! One subject: a [`Lane`] decides which message is published next, and what an answer of the stream means. It does no I/O.
//!
//! ```text
//!  unknown ──look──► looking ──found──► idle ──send──► sending ──acked──► idle
//!     ▲                                                  │
//!     └─────────── wrong last sequence, no answer ───────┘
//! ```
//!
//! Each message names the sequence number of the one before it in its subject, so the stream stores it at its place or not at
//! all. What the last message of the subject says decides where the lane goes on, also after a crash.

mod done;
mod found;
mod tail;

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use blocksd_recording::FileNonce;

pub(crate) use self::done::Done;
pub(crate) use self::found::LastSeen;
use self::tail::Tail;
pub(crate) use self::tail::{Base, TailRead};
use crate::batch::{Batch, Channel};
use crate::cursor::Newest;
use crate::message::Head;
use crate::place::{Instance, Place, Seen};
use crate::stored::Stored;
use crate::stream::Outgoing;

/// What a lane does next.
#[derive(Debug)]
pub(crate) enum Step {
    /// Find the last message of the subject.
    Look {
        /// A message may be on its way to the stream, of this daemon or of the one before it.
        is_in_doubt: bool,
    },
    /// Publish a message.
    Send(Box<Outgoing>),
    /// Nothing: an answer is missing, or there are no messages.
    Wait,
}

/// The batches of one subject, and what is known of it.
#[derive(Debug)]
pub(crate) struct Lane {
    queue: VecDeque<Batch>,
    state: LaneState,
    /// The way to the stream was interrupted since the last look began.
    must_look: bool,
    /// A message may be on its way, whose answer was lost.
    is_in_doubt: bool,
    /// Where this recording has got to in the stream.
    place: Option<Place>,
    /// The message of the stream that says so.
    proof: Option<Newest>,
    /// The last message of the subject, if there is one.
    last: Option<Newest>,
    /// The message that says what follows.
    said: Option<Newest>,
    /// Where others have got to.
    seen: Seen,
    /// The numbers of sessions that the subject has.
    stored: Stored,
    /// How many messages of the first batch are sent.
    sent: u64,
    /// The nonce of the message that holds them.
    nonce: u64,
    /// What was read of the subject after the stream had gone back to an older state, until that is repaired.
    tail: Option<Box<Tail>>,
    /// Only the first batch is kept. What comes after it is read again once it is stored.
    is_parked: bool,
    /// What the messages were that are not kept.
    dropped: HashSet<Arc<Channel>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LaneState {
    /// The last message is not known.
    Unknown,
    Looking,
    Idle,
    Sending,
}

impl Default for Lane {
    fn default() -> Self {
        Self {
            queue: VecDeque::new(),
            state: LaneState::Unknown,
            must_look: false,
            is_in_doubt: true,
            place: None,
            proof: None,
            last: None,
            said: None,
            seen: Seen::default(),
            stored: Stored::default(),
            sent: 0,
            nonce: 0,
            tail: None,
            is_parked: false,
            dropped: HashSet::new(),
        }
    }
}

impl From<(Place, Newest)> for Lane {
    /// A lane of a subject in which the recording has got so far, as a message says.
    fn from((place, proof): (Place, Newest)) -> Self {
        Self {
            place: Some(place),
            proof: Some(proof),
            ..Self::default()
        }
    }
}

impl Lane {
    /// Adds a batch at the end, without what is already in the stream.
    pub(crate) fn push(&mut self, batch: Batch) -> Done {
        if self.is_parked {
            let mut done = Done::default();
            self.leave(&batch, &mut done);
            return done;
        }
        self.queue.push_back(batch);
        match self.queue.len() {
            1 => self.trim(),
            // The first one is not in the stream.
            _ => Done::default(),
        }
    }

    /// The files of the batches that wait, each with the number of its messages.
    pub(crate) fn files(&self) -> impl Iterator<Item = ((u64, FileNonce), u64)> {
        self.queue.iter().map(|it| (it.file, it.whole()))
    }

    /// Whether nothing waits, and no answer is missing.
    pub(crate) fn is_empty(&self) -> bool {
        !self.is_parked
            && self.queue.is_empty()
            && matches!(self.state, LaneState::Idle | LaneState::Unknown)
    }

    /// Keeps only the first batch, of a subject that the stream does not take at present. Returns those that are not kept.
    pub(crate) fn park(&mut self) -> Done {
        let mut done = Done::default();
        self.is_parked = true;
        let Some(mut first) = self.queue.pop_front() else {
            return done;
        };
        if self.state != LaneState::Sending {
            let (len, items) = (first.len(), first.items());
            first = first.head(1).into_owned();
            done.remove(len - first.len(), items - first.items());
            done.left += len - first.len();
            self.dropped.insert(Arc::clone(&first.channel));
        }
        for batch in std::mem::take(&mut self.queue) {
            self.leave(&batch, &mut done);
        }
        self.queue.push_back(first);
        done
    }

    /// Whether more than the first batch is kept.
    pub(crate) fn can_be_parked(&self) -> bool {
        !self.is_parked && !self.queue.is_empty()
    }

    /// Whether the stream takes a subject again of which only the first batch was kept: everything from there on must be read again.
    pub(crate) fn must_be_read_again(&self) -> bool {
        self.is_parked && self.queue.is_empty()
    }

    /// Does not keep a batch.
    fn leave(&mut self, batch: &Batch, done: &mut Done) {
        done.orders.push(batch.order);
        done.remove(batch.len(), batch.items());
        done.left += batch.len();
        self.dropped.insert(Arc::clone(&batch.channel));
    }

    /// Whether messages of a session wait, with numbers below `to`.
    pub(crate) fn waits_for(&self, device: &str, session: &str, to: u64) -> bool {
        let is_of = |channel: &Channel| {
            channel.session.as_deref() == Some(session) && &*channel.device == device
        };
        let mut queued = self.queue.iter();
        queued.any(|it| is_of(&it.channel) && it.first < to)
            || self.dropped.iter().any(|channel| is_of(channel))
    }

    /// Returns what to do next. The answer to a [`Look`](Step::Look) goes to [`found`](Self::found) or [`failed`](Self::failed), that to
    /// a [`Step::Send`] to [`acked`](Self::acked), [`refused`](Self::refused) or [`failed`](Self::failed).
    /// The next message has the identity of this number, and no body that is longer than `body_max` unless it has one message.
    pub(crate) fn step(
        &mut self,
        instance: Instance,
        body_max: usize,
        identity: u32,
    ) -> (Step, Done) {
        let mut done = Done::default();
        match self.state {
            _ if self.looks_next() => {
                self.must_look = false;
                self.state = LaneState::Looking;
                let is_in_doubt = self.is_in_doubt;
                (Step::Look { is_in_doubt }, done)
            }
            LaneState::Idle => {
                self.skip(&mut done);
                self.merge(body_max, &mut done);
                let count = self.skip(&mut done);
                let Some(batch) = self.queue.front() else {
                    return (Step::Wait, done);
                };
                self.sent = batch.count_within(body_max).min(count);
                debug_assert_ne!(self.sent, 0, "a message has content");
                let batch = batch.head(self.sent);
                self.state = LaneState::Sending;
                let head = Head::of(&batch, instance, self.seen.clone(), self.stored.clone());
                self.nonce = head.nonce;
                let outgoing = Outgoing {
                    head,
                    expected: self.expected(),
                    body: batch.body(),
                    identity,
                };
                (Step::Send(Box::new(outgoing)), done)
            }
            _ => (Step::Wait, done),
        }
    }

    /// Whether the next step is a look.
    pub(crate) fn looks_next(&self) -> bool {
        self.state == LaneState::Unknown && !self.queue.is_empty()
    }

    /// The sequence number that the next message expects: that of the last message of the subject, or 0.
    pub(crate) fn expected(&self) -> u64 {
        self.last.map_or(0, |it| it.sequence)
    }

    /// The message of this recording that the one in flight comes after, if no other recording is known in the subject: once that one
    /// is stored, this one is there, too.
    pub(crate) fn before(&self) -> Option<Newest> {
        self.last.filter(|_| self.seen.is_empty())
    }

    /// The message that says what is known of the subject.
    pub(crate) const fn said(&self) -> Option<Newest> {
        self.said
    }

    /// Where this recording has got to in the stream, and the message that says so.
    pub(crate) fn reached(&self) -> Option<(Place, Newest)> {
        self.place.zip(self.proof)
    }

    /// The stream has stored the message in flight, at this sequence number.
    pub(crate) fn acked(&mut self, sequence: u64) -> Done {
        self.state = self.next_state();
        let mut done = Done::default();
        let Some(batch) = self.queue.front_mut() else {
            return done;
        };
        let is_all = self.sent == batch.count();
        let sent = batch.head(self.sent);
        self.place = Some(sent.end());
        if let Some((session, from, to)) = sent.numbers() {
            self.stored.note(session, from, to);
        }
        if let Some(tail) = &mut self.tail {
            tail.acked(sequence);
        }
        self.last = Some(Newest {
            sequence,
            nonce: self.nonce,
        });
        (self.proof, self.said) = (self.last, self.last);
        match is_all {
            true => self.finish_front(&mut done),
            false => self.skip_front(self.sent, &mut done),
        }
        done
    }

    /// The stream has refused the message, since the last message is another one, or may be this one.
    pub(crate) const fn refused(&mut self) {
        self.state = LaneState::Unknown;
    }

    /// The way to the stream was interrupted, so the last message may be another one even if it has the same number: look before
    /// the next message.
    pub(crate) fn interrupted(&mut self) {
        (self.must_look, self.is_in_doubt) = (true, true);
        if self.state == LaneState::Idle {
            self.state = LaneState::Unknown;
        }
    }

    /// There was no answer. Whether the stream has stored the message is not known: look.
    pub(crate) const fn failed(&mut self) {
        (self.state, self.is_in_doubt) = (LaneState::Unknown, true);
    }

    /// The state after an answer.
    const fn next_state(&self) -> LaneState {
        match self.must_look {
            true => LaneState::Unknown,
            false => LaneState::Idle,
        }
    }

    /// Removes what is already in the stream.
    fn trim(&mut self) -> Done {
        let mut done = Done::default();
        let Some(place) = self.place else {
            return done;
        };
        while let Some(batch) = self.queue.front_mut() {
            let (since, len, items) = (batch.since(), batch.len(), batch.items());
            let (first, count) = (batch.first, batch.count());
            if batch.trim(place) {
                done.remove(len - batch.len(), items - batch.items());
                if since < batch.since() {
                    let numbers = (since, first, batch.first);
                    done.add_published(&self.stored, &batch.channel, numbers);
                }
                break;
            }
            let end = batch.numbers().map_or(since, |(.., to)| to);
            done.add_published(&self.stored, &batch.channel, (since, first, end));
            done.orders.push(batch.order);
            done.remove(len, items);
            done.messages += count;
            self.queue.pop_front();
        }
        done
    }

    /// Removes messages of sessions that are in the stream already, because another daemon has forwarded them, too. Returns how many
    /// messages of the first batch are not.
    fn skip_stored(&mut self, done: &mut Done) -> u64 {
        while let Some(batch) = self.queue.front() {
            let (first, count) = (batch.first, batch.count());
            let Some(session) = batch.channel.session.as_deref() else {
                return count;
            };
            let Some(end) = self.stored.end_of(session, first) else {
                let next = self.stored.next_after(session, first);
                return next.map_or(count, |next| count.min(next - first));
            };
            // If the stream loses the last message, it may have lost these, too.
            self.proof = self.last;
            if end - first < count {
                self.skip_front(end - first, done);
                self.place = self.queue.front().map(Batch::begin);
            } else {
                self.place = Some(batch.end());
                self.finish_front(done);
            }
        }
        0
    }

    /// The first batch is in the stream.
    fn finish_front(&mut self, done: &mut Done) {
        if let Some(batch) = self.queue.pop_front() {
            if let Some((.., to)) = batch.numbers() {
                done.add_numbers(&self.stored, &batch.channel, batch.since(), to);
            }
            done.orders.push(batch.order);
            done.remove(batch.len(), batch.items());
            done.messages += batch.count();
        }
    }

    /// The first messages of the first batch are in the stream.
    fn skip_front(&mut self, count: u64, done: &mut Done) {
        if let Some(batch) = self.queue.front_mut() {
            let (since, len, items) = (batch.since(), batch.len(), batch.items());
            batch.skip(count);
            done.remove(len - batch.len(), items - batch.items());
            done.messages += count;
            done.add_numbers(&self.stored, &batch.channel, since, batch.first);
        }
    }

    /// The first batch is a part, and is in the stream up to a place.
    fn trim_front(&mut self, place: Place, done: &mut Done) {
        if let Some(batch) = self.queue.front_mut() {
            let len = batch.len();
            batch.trim(place);
            done.remove(len - batch.len(), 0);
        }
    }

    /// Appends the batches that follow the first one to it.
    fn merge(&mut self, body_max: usize, done: &mut Done) {
        while 1 < self.queue.len()
            && let Some(mut first) = self.queue.pop_front()
            && let Some(next) = self.queue.pop_front()
        {
            let order = next.order;
            let rest = first.append(next, body_max);
            let is_full = rest.is_some();
            match rest {
                Some(next) => self.queue.push_front(next),
                None => done.orders.push(order),
            }
            self.queue.push_front(first);
            if is_full {
                return;
            }
        }
    }
}
