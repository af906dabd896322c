//! A subject: its lane, and how its calls have ended: [`Subject`].

use super::call::{Looked, Outcome};
use crate::lane::{Done, Lane, Step};
use crate::place::Instance;
use crate::stream::{PublishError, StreamError};

/// Failures in a row, with calls of others in between that did not fail, after which a lane may be parked.
const PARK_FAILURES: u32 = 3;

/// How often the stream may take a message for a duplicate, and not have it, before the message gets a new identity. Either it was
/// deleted, or a leader had accepted it and has lost its place: after some seconds, no earlier attempt is on its way any more.
const DUPLICATES: u32 = 6;

/// How often the stream may say that another message is the last of a subject, and show none: an interrupted call is taken for such
/// an answer, too.
const REFUSALS: u32 = 3;
/// How often it may say so after that, with a pause each time: the message of another daemon may be accepted and not be there yet.
const PAUSED_REFUSALS: u32 = 5;

/// A lane, and its calls.
#[derive(Debug, Default)]
pub(super) struct Subject {
    pub(super) lane: Lane,
    /// It waits for its turn, or a call is in progress.
    pub(super) is_busy: bool,
    /// Failures in a row, of looks and of messages.
    failed_looks: u32,
    failed_sends: u32,
    /// How often in a row the stream has said that the last message is not this one, although it is.
    refusals: u32,
    refused_after: Option<u64>,
    /// How often the stream has taken the next message for a duplicate.
    duplicates: u32,
    /// How often messages have got a new identity. Those after them keep it: the stream has lost the others, too.
    identities: u32,
    /// Failures before which calls of others had not failed.
    alone: u32,
    /// The last failure says that it is this subject, or its next message, that the stream does not take.
    is_refused: bool,
    /// How many calls had not failed at the last failure.
    successes: u64,
}

/// What an answer has changed.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) done: Done,
    pub(super) reply: Reply,
    /// The next call must not be made at once.
    pub(super) needs_pause: bool,
    /// The stream does not take this subject or this message, as before: nothing else is wrong.
    pub(super) is_refused_again: bool,
}

/// What an answer says.
#[derive(Debug)]
pub(super) enum Reply {
    /// A message is stored.
    Stored,
    /// Another daemon has written to the subject.
    Moved,
    /// Anything else that is no failure.
    Other,
    Failed(StreamError),
}

impl From<Lane> for Subject {
    fn from(lane: Lane) -> Self {
        Self {
            lane,
            ..Self::default()
        }
    }
}

impl Subject {
    /// Failures in a row.
    pub(super) fn failures(&self) -> u32 {
        let failures = self.failed_looks.max(self.failed_sends);
        failures.max(self.duplicates).max(self.needless_refusals())
    }

    /// How often the stream has refused the next message without a reason.
    const fn needless_refusals(&self) -> u32 {
        self.refusals.saturating_sub(REFUSALS)
    }

    /// Whether the last call has failed, or the last message.
    pub(super) const fn is_failing(&self) -> bool {
        let is_refused = PAUSED_REFUSALS < self.needless_refusals();
        self.failed_looks != 0 || self.failed_sends != 0 || is_refused
    }

    /// What to do next.
    pub(super) fn step(&mut self, instance: Instance, body_max: usize) -> (Step, Done) {
        self.lane.step(instance, body_max, self.identities)
    }

    /// Whether the stream takes others and not this one, so that nothing but its first batch needs to be kept.
    pub(super) fn can_be_parked(&self) -> bool {
        (self.is_refused || PARK_FAILURES <= self.alone) && self.lane.can_be_parked()
    }

    /// Nothing waits any more: what had failed was stored, or need not be. Returns whether something had.
    pub(super) fn recover(&mut self) -> bool {
        let was_failing = self.is_failing();
        (self.failed_looks, self.failed_sends, self.alone) = (0, 0, 0);
        self.is_refused = false;
        (self.refusals, self.refused_after) = (0, None);
        was_failing
    }

    /// Takes the answer to a call. So many calls have not failed.
    pub(super) fn take(&mut self, outcome: Outcome, instance: Instance, successes: u64) -> Taken {
        let mut taken = Taken {
            done: Done::default(),
            reply: Reply::Other,
            needs_pause: false,
            is_refused_again: false,
        };
        match outcome {
            Outcome::Found(Ok(found)) => {
                taken.done = match found.seen {
                    Looked::Last(seen) => self.lane.found(*seen, instance),
                    Looked::Read(read, since) => self.lane.read(read, since, instance),
                };
                self.failed_looks = 0;
            }
            Outcome::Published(Ok(sequence)) => {
                taken.done = self.lane.acked(sequence);
                taken.reply = Reply::Stored;
                self.recover();
                self.duplicates = 0;
            }
            Outcome::Published(Err(PublishError::WrongLast)) => {
                taken.reply = Reply::Moved;
                let after = self.lane.expected();
                self.refusals = match self.refused_after.replace(after) == Some(after) {
                    true => self.refusals.saturating_add(1),
                    false => 0,
                };
                match self.needless_refusals() {
                    0 => self.lane.refused(),
                    1..=PAUSED_REFUSALS => {
                        self.lane.refused();
                        taken.needs_pause = true;
                    }
                    _ => {
                        let reason = "it says that another message is the last of the subject, and shows none";
                        self.fail(
                            &mut taken,
                            StreamError::Refused(reason.to_owned()),
                            successes,
                        );
                    }
                }
            }
            Outcome::Published(Err(PublishError::Duplicate)) => {
                // Until its window ends, the stream may answer the same again.
                self.duplicates = self.duplicates.saturating_add(1);
                self.identities += u32::from(DUPLICATES < self.duplicates);
                taken.needs_pause = true;
                self.lane.refused();
            }
            Outcome::Found(Err(error)) => {
                self.failed_looks = self.failed_looks.saturating_add(1);
                self.fail(&mut taken, error, successes);
            }
            Outcome::Published(Err(PublishError::Stream(error))) => {
                self.failed_sends = self.failed_sends.saturating_add(1);
                self.fail(&mut taken, error, successes);
            }
            Outcome::Settled(..) | Outcome::Checked(..) | Outcome::Probed(_) => {}
        }
        taken
    }

    fn fail(&mut self, taken: &mut Taken, error: StreamError, successes: u64) {
        let is_alone = std::mem::replace(&mut self.successes, successes) < successes;
        self.alone = self.alone.saturating_add(u32::from(is_alone));
        let is_refused = matches!(error, StreamError::Foreign { .. } | StreamError::Refused(_));
        taken.is_refused_again = self.is_refused && is_refused;
        self.is_refused = is_refused;
        self.lane.failed();
        taken.needs_pause = true;
        taken.reply = Reply::Failed(error);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_without_a_reason_become_a_failure_with_pauses() {
        let (mut subject, instance) = (Subject::default(), Instance::random());
        let mut take = |outcome| subject.take(Outcome::Published(outcome), instance, 0);
        for refusals in 0..=REFUSALS + PAUSED_REFUSALS {
            let taken = take(Err(PublishError::WrongLast));
            assert!(matches!(taken.reply, Reply::Moved));
            assert_eq!(taken.needs_pause, REFUSALS < refusals);
        }
        for is_again in [false, true] {
            let taken = take(Err(PublishError::WrongLast));
            assert_eq!(taken.is_refused_again, is_again);
            let Reply::Failed(StreamError::Refused(reason)) = taken.reply else {
                panic!("no failure");
            };
            assert!(reason.contains("shows none") && taken.needs_pause);
        }
        assert!(matches!(take(Ok(8)).reply, Reply::Stored));
        assert!(!subject.is_failing());
        assert_eq!(subject.failures(), 0);
        // After another message, it is a new beginning.
        let taken = subject.take(
            Outcome::Published(Err(PublishError::WrongLast)),
            instance,
            0,
        );
        assert!(matches!(taken.reply, Reply::Moved));
    }
}
