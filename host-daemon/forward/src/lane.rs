//! One subject: a [`Lane`] decides which message is published next, and what an answer of the stream means. It does no I/O.
//!
//! ```text
//!  unknown ──look──► looking ──found──► idle ──send──► sending ──acked──► idle
//!     ▲                                                  │ │
//!     └───────────── wrong last sequence ────────────────┘ └─ no answer: send the same again
//! ```
//!
//! Each message names the sequence number of the one before it in its subject, so the stream stores it at its place or not at
//! all. What the last message of the subject says decides where the lane goes on, also after a crash.

use std::collections::VecDeque;

use crate::batch::Batch;
use crate::cursor::Newest;
use crate::message::Head;
use crate::place::{Instance, Place, Seen};
use crate::stream::{Last, Outgoing};

/// What a lane does next.
#[derive(Debug)]
pub(crate) enum Step {
    /// Find the last message of the subject.
    Look,
    /// Publish a message.
    Send(Box<Outgoing>),
    /// Nothing: an answer is missing, or there are no messages.
    Wait,
}

/// Batches that are done, by their order, and the sum of their lengths.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Done {
    /// The orders of batches that need no place any more.
    pub orders: Vec<u64>,
    /// Messages that are in the stream by them.
    pub messages: u64,
    /// Bytes that they took.
    pub bytes: usize,
}

/// The batches of one subject, and what is known of it.
#[derive(Debug)]
pub(crate) struct Lane {
    queue: VecDeque<Batch>,
    state: State,
    /// The way to the stream was interrupted since the last look began.
    must_look: bool,
    /// The sequence number of the last message; 0 if there is none.
    last: u64,
    /// Where this recording has got to in the stream.
    place: Option<Place>,
    /// The message of the stream that says so.
    proof: Option<Newest>,
    /// Where others have got to.
    seen: Seen,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
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
            state: State::Unknown,
            must_look: false,
            last: 0,
            place: None,
            proof: None,
            seen: Seen::default(),
        }
    }
}

impl Lane {
    /// Adds a batch at the end, without what is already in the stream.
    pub(crate) fn push(&mut self, batch: Batch) -> Done {
        self.queue.push_back(batch);
        match self.queue.len() {
            1 => self.trim(),
            // The first one is not in the stream.
            _ => Done::default(),
        }
    }

    /// Whether nothing waits, and no answer is missing.
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty() && matches!(self.state, State::Idle | State::Unknown)
    }

    /// Returns what to do next. The answer to a [`Step::Look`] goes to [`found`](Self::found) or [`failed`](Self::failed), that to
    /// a [`Step::Send`] to [`acked`](Self::acked), [`refused`](Self::refused) or [`failed`](Self::failed).
    pub(crate) fn step(&mut self, instance: Instance, body_max: usize) -> (Step, Done) {
        let mut done = Done::default();
        match self.state {
            State::Unknown if !self.queue.is_empty() => {
                self.must_look = false;
                self.state = State::Looking;
                (Step::Look, done)
            }
            State::Idle => {
                self.merge(body_max, &mut done);
                let Some(batch) = self.queue.front() else {
                    return (Step::Wait, done);
                };
                self.state = State::Sending;
                let outgoing = Outgoing {
                    head: Head::of(batch, instance, self.seen.clone()),
                    expected: self.last,
                    body: batch.body(),
                };
                (Step::Send(Box::new(outgoing)), done)
            }
            _ => (Step::Wait, done),
        }
    }

    /// Where this recording has got to in the stream, and the message that says so.
    pub(crate) fn reached(&self) -> Option<(Place, Newest)> {
        self.place.zip(self.proof)
    }

    /// The last message of the subject was found, or there is none. If the stream says less than it had acknowledged, the
    /// caller has found out that it removed those messages on purpose.
    pub(crate) fn found(&mut self, last: Option<Last>, instance: Instance) -> Done {
        let found = last.as_ref().and_then(|last| last.own(instance));
        self.last = last.as_ref().map_or(0, |last| last.sequence);
        if self.place < found {
            self.place = found;
            self.proof = last.as_ref().map(Newest::of);
        }
        self.seen = Seen::default();
        if let Some(Last { head, .. }) = last {
            self.seen = head.seen;
            if head.instance != instance {
                self.seen.note(head.instance, head.place);
            }
        }
        self.state = self.next_state();
        self.trim()
    }

    /// The stream has stored the message that was sent, at this sequence number.
    pub(crate) fn acked(&mut self, sequence: u64, instance: Instance) -> Done {
        self.state = self.next_state();
        self.last = sequence;
        let Some(batch) = self.queue.pop_front() else {
            return Done::default();
        };
        let place = batch.end();
        self.place = Some(place);
        self.proof = Some(Newest {
            sequence,
            instance,
            place,
        });
        Done {
            orders: vec![batch.order],
            messages: batch.count(),
            bytes: batch.len(),
        }
    }

    /// The stream has refused the message, since the last message is another one.
    pub(crate) const fn refused(&mut self) {
        self.state = State::Unknown;
    }

    /// The way to the stream was interrupted, so the last message may be another one even if it has the same number: look before
    /// the next message.
    pub(crate) fn interrupted(&mut self) {
        self.must_look = true;
        if self.state == State::Idle {
            self.state = State::Unknown;
        }
    }

    /// There was no answer. Whether the stream has stored the message is not known: look.
    pub(crate) const fn failed(&mut self) {
        self.state = State::Unknown;
    }

    /// The state after an answer.
    const fn next_state(&self) -> State {
        match self.must_look {
            true => State::Unknown,
            false => State::Idle,
        }
    }

    /// Removes what is already in the stream.
    fn trim(&mut self) -> Done {
        let mut done = Done::default();
        let Some(place) = self.place else {
            return done;
        };
        while let Some(batch) = self.queue.front_mut() {
            let (len, count) = (batch.len(), batch.count());
            if batch.trim(place) {
                done.bytes += len - batch.len();
                break;
            }
            done.orders.push(batch.order);
            done.bytes += len;
            done.messages += count;
            self.queue.pop_front();
        }
        done
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
