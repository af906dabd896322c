//! A stream in memory that fails in every way.

mod faults;
mod held;

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

pub(super) use self::faults::Faults;
use super::BODY_MAX;
use super::chance::Chance;
use crate::check::CheckError;
use crate::message::Malformed;
use crate::place::Instance;
use crate::stream::{At, Extent, Last, Outgoing, PublishError, Stream, StreamError, Writers};

/// How long such a leader may do so.
const SETTLING: Duration = Duration::from_secs(1);

/// A stream in memory.
pub(super) struct FakeStream {
    faults: Faults,
    state: Arc<Mutex<State>>,
}

struct State {
    chance: Chance,
    messages: Vec<(u64, String, Outgoing)>,
    /// The numbers of those whose answers were lost. Nobody deletes these: nothing would say that they were there.
    unanswered: HashSet<u64>,
    /// Those that somebody has deleted.
    purged: Vec<(u64, String, Outgoing)>,
    next: u64,
    /// Until then, there is no leader.
    elected_at: Instant,
    /// What the leader before it had accepted, and when the new one stores it.
    accepted: Vec<(Instant, String, Outgoing)>,
    losses: u64,
    losses_max: u64,
    /// Losses that have interrupted the way.
    disruptions: u64,
    /// The identities in the window of duplicates, also those of messages that a leader has accepted and not stored.
    ids: HashSet<String>,
    /// The window does not end.
    keeps_ids: bool,
    /// When the stream was made.
    created: i128,
    remakes_max: u64,
    /// The beginning of the subjects whose last messages are of another program.
    foreign: Option<&'static str>,
    body_max: usize,
    /// Each message is refused.
    refuses: bool,
    /// The stream was changed, and is not fit any more.
    is_unfit: bool,
    /// Acknowledgements are held on the way until then.
    held_until: Instant,
}

impl State {
    fn writers(&self) -> Writers {
        let messages = self.messages.iter();
        messages.fold(Writers::None, |all, (.., it)| {
            all.and(Some(it.head.instance))
        })
    }

    fn last(&self, subject: &str) -> Option<&(u64, String, Outgoing)> {
        self.messages.iter().rfind(|(_, of, _)| of == subject)
    }

    /// Whether the last message of a subject is of another program.
    fn has_foreign(&self, subject: &str) -> bool {
        self.foreign.is_some_and(|it| subject.starts_with(it))
    }

    fn store(&mut self, subject: &str, message: &Outgoing) -> Result<u64, PublishError> {
        let id = message.id();
        if self.ids.contains(&id) {
            if self.chance.is(3) && !self.keeps_ids {
                self.ids.clear();
            }
            return Err(PublishError::Duplicate);
        }
        let last = self.last(subject).map_or(0, |(sequence, ..)| *sequence);
        if last != message.expected || self.has_foreign(subject) {
            return Err(PublishError::WrongLast);
        }
        let sequence = self.next;
        self.next += 1;
        self.messages
            .push((sequence, subject.to_owned(), message.clone()));
        self.ids.insert(id);
        if self.chance.is(20) && !self.keeps_ids {
            // The window has ended.
            self.ids.clear();
        }
        Ok(sequence)
    }

    /// Stores a message, if that is possible. The answer is lost.
    fn store_unanswered(&mut self, subject: &str, message: &Outgoing) {
        if let Ok(sequence) = self.store(subject, message) {
            self.unanswered.insert(sequence);
        }
    }

    /// The leader has accepted a message, and is lost. It is in the log of the next one, which stores it soon after it answers again.
    fn lose_leader(&mut self, subject: &str, message: &Outgoing) {
        let last = self.last(subject).map_or(0, |(sequence, ..)| *sequence);
        self.elected_at = Instant::now() + Duration::from_millis(self.chance.below(9000));
        if last == message.expected && !self.ids.contains(&message.id()) {
            let at = self.elected_at + Duration::from_millis(self.chance.below(600));
            self.accepted
                .push((at, subject.to_owned(), message.clone()));
        }
    }

    /// Stores what the leader before this one had accepted, without another check.
    fn settle(&mut self) {
        let now = Instant::now();
        let due: Vec<_> = self
            .accepted
            .extract_if(.., |(at, ..)| *at <= now)
            .collect();
        for (_, subject, message) in due {
            self.ids.insert(message.id());
            self.unanswered.insert(self.next);
            self.messages.push((self.next, subject, message));
            self.next += 1;
        }
    }

    /// Deletes the stream, and makes it again.
    fn remake(&mut self) {
        self.remakes_max -= 1;
        self.created += 1;
        self.messages.clear();
        self.ids.clear();
        // What is on its way to the old one must not fit: in a stream of some age, it would need the same number, of the same
        // subject, soon after.
        self.next += 1000;
    }

    /// Deletes the newest message of a subject, or all of it.
    fn purge(&mut self, subject: &str) {
        let is_all = self.chance.is(2);
        let last = self.last(subject).map_or(0, |(sequence, ..)| *sequence);
        let unanswered = &self.unanswered;
        let is_purged = |(sequence, of, _): &mut (u64, String, Outgoing)| {
            of == subject && (is_all || *sequence == last) && !unanswered.contains(sequence)
        };
        let purged = self.messages.extract_if(.., is_purged);
        self.purged.extend(purged);
    }

    /// Loses some of the newest messages, after a restart.
    fn lose(&mut self) {
        let lost = self.chance.below(4) as usize;
        self.lose_newest(lost);
        self.disruptions += 1;
    }

    /// Loses a number of the newest messages, after a restart.
    fn lose_newest(&mut self, lost: usize) {
        self.losses += 1;
        // The limit of the stream has not removed the others.
        let keep = self.messages.len().saturating_sub(lost).max(1);
        self.messages.truncate(keep);
        self.next = self
            .messages
            .last()
            .map_or(1, |(sequence, ..)| sequence + 1);
        self.ids.clear();
    }
}

impl FakeStream {
    pub(super) fn new(seed: u64, faults: Faults) -> Self {
        Self {
            faults,
            state: Arc::new(Mutex::new(State {
                chance: Chance(seed),
                messages: Vec::new(),
                unanswered: HashSet::new(),
                purged: Vec::new(),
                next: 1,
                elected_at: Instant::now(),
                accepted: Vec::new(),
                losses: 0,
                losses_max: 5,
                disruptions: 0,
                ids: HashSet::new(),
                keeps_ids: false,
                created: 1,
                remakes_max: 3,
                foreign: faults.is_foreign.then_some("device.0"),
                body_max: BODY_MAX,
                refuses: false,
                is_unfit: false,
                held_until: Instant::now(),
            })),
        }
    }

    pub(super) const fn is_faulty(&self) -> bool {
        self.faults.is_faulty
    }

    pub(super) const fn is_purged(&self) -> bool {
        self.faults.is_purged
    }

    /// Loses no messages from now on, and stays the same stream.
    pub(super) fn keep(&self) {
        self.with(|state| {
            state.losses_max = 0;
            state.remakes_max = 0;
        });
    }

    /// The messages of a subject, with those that somebody has deleted.
    pub(super) fn stored(&self, subject: &str) -> Vec<Outgoing> {
        self.with(|state| {
            let all = state.messages.iter().chain(&state.purged);
            let mut of: Vec<_> = all.filter(|(_, of, _)| of == subject).collect();
            of.sort_by_key(|(sequence, ..)| *sequence);
            of.into_iter().map(|(.., it)| it.clone()).collect()
        })
    }

    /// Has messages of another program at the ends of subjects that begin so.
    pub(super) fn set_foreign(&self, foreign: Option<&'static str>) {
        self.with(|state| state.foreign = foreign);
    }

    /// Takes bodies up to this length only.
    pub(super) fn set_body_max(&self, body_max: usize) {
        self.with(|state| state.body_max = body_max);
    }

    /// Has a window of duplicates without an end.
    pub(super) fn keep_ids(&self) {
        self.with(|state| state.keeps_ids = true);
    }

    /// Somebody deletes everything.
    pub(super) fn clear(&self) {
        self.with(|state| state.messages.clear());
    }

    /// Refuses each message.
    pub(super) fn set_refuses(&self, refuses: bool) {
        self.with(|state| state.refuses = refuses);
    }

    /// Loses a number of the newest messages, after a restart.
    pub(super) fn lose_newest(&self, lost: usize) {
        self.with(|state| {
            state.lose_newest(lost);
            state.disruptions += 1;
        });
    }

    /// Loses a number of the newest messages, after a restart of a server that the daemon is not connected to. Others then store some.
    pub(super) fn lose_elsewhere(&self, lost: usize, others: usize) {
        self.with(|state| {
            let (_, _, one) = state.messages.last().expect("a message").clone();
            state.lose_newest(lost);
            for _ in 0..others {
                let mut message = one.clone();
                message.head.nonce = state.chance.below(u64::MAX);
                state
                    .messages
                    .push((state.next, "other".to_owned(), message));
                state.next += 1;
            }
        });
    }

    /// Loses the newest messages, all of one subject, and gives their numbers to those of another recording in the same subject.
    pub(super) fn lose_to(&self, other: Instance, count: usize) {
        self.with(|state| {
            let kept = state.messages.len() - count;
            let left = state.messages[kept - 1].2.head.clone();
            for (.., message) in &mut state.messages[kept..] {
                let head = &mut message.head;
                (head.instance, head.nonce) = (other, state.chance.below(u64::MAX));
                (head.session, head.stored) = (None, left.stored.clone());
                head.seen.note(left.instance, left.place);
            }
        });
    }

    /// Acknowledgements are held on the way for this time.
    pub(super) fn hold(&self, time: Duration) {
        self.with(|state| state.held_until = Instant::now() + time);
    }

    /// Is not fit any more, or again.
    pub(super) fn set_unfit(&self, is_unfit: bool) {
        self.with(|state| state.is_unfit = is_unfit);
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock().expect("no panic");
        state.settle();
        work(&mut state)
    }
}

impl FakeStream {
    /// Without a leader, nobody answers.
    async fn leader(&self) -> Result<(), StreamError> {
        match self.with(|state| Instant::now() < state.elected_at) {
            true => Err(silence().await),
            false => Ok(()),
        }
    }

    /// A request that changes nothing, and may get no answer.
    async fn pass(&self) -> Result<(), StreamError> {
        if self.faults.goes_back {
            self.wait_until_back().await;
            return Ok(());
        }
        self.leader().await?;
        let fate = self.with(|state| state.chance.below(6));
        tokio::time::sleep(Duration::from_millis(5)).await;
        match self.faults.is_faulty && fate == 0 {
            true => Err(silence().await),
            false => Ok(()),
        }
    }
}

/// There is no answer.
async fn silence() -> StreamError {
    tokio::time::sleep(Duration::from_secs(5)).await;
    StreamError::Timeout(5000)
}

impl Stream for FakeStream {
    async fn publish(&self, subject: &str, message: &Outgoing) -> Result<u64, PublishError> {
        if self.faults.goes_back {
            return self.publish_held(subject, message).await;
        }
        let [fate, delay, late] = self.with(|it| [12, 50, 8000].map(|end| it.chance.below(end)));
        let losses = self.with(|state| state.losses);
        tokio::time::sleep(Duration::from_millis(delay)).await;
        if losses != self.with(|state| state.losses) {
            // The servers have restarted.
            return Err(silence().await.into());
        }
        self.leader().await?;
        if self.with(|state| state.refuses || state.body_max < message.body.len()) {
            return Err(StreamError::Refused("too long".to_owned()).into());
        }
        if self.faults.is_purged && self.with(|state| state.chance.is(10)) {
            self.with(|state| state.purge(subject));
        }
        let store = |state: &mut State| state.store(subject, message);
        if !self.faults.is_faulty {
            let (stored, until) = self.with(|state| (store(state), state.held_until));
            tokio::time::sleep_until(until).await;
            return stored;
        }
        match fate {
            // The request is lost.
            0 => Err(silence().await.into()),
            // The answer is lost.
            1 => {
                self.with(|state| state.store_unanswered(subject, message));
                Err(silence().await.into())
            }
            // The request is late: perhaps after the next try. After that one was deleted, it could be stored again.
            2 if !self.faults.is_purged && !self.faults.is_behind => {
                let (state, subject) = (Arc::clone(&self.state), subject.to_owned());
                let message = message.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(late)).await;
                    let mut state = state.lock().expect("no panic");
                    if state.losses == losses {
                        state.store_unanswered(&subject, &message);
                    }
                });
                Err(silence().await.into())
            }
            3 => Err(StreamError::NoStream.into()),
            4 if self.faults.loses && self.with(|state| state.losses < state.losses_max) => {
                self.with(State::lose);
                Err(silence().await.into())
            }
            5 => {
                self.with(|state| state.ids.insert(message.id()));
                Err(silence().await.into())
            }
            7 if self.faults.is_behind => {
                self.with(|state| state.lose_leader(subject, message));
                Err(silence().await.into())
            }
            6 if self.faults.is_remade && self.with(|state| 0 < state.remakes_max) => {
                self.with(State::remake);
                Err(StreamError::NoStream.into())
            }
            _ => self.with(store),
        }
    }

    async fn last(&self, subject: &str) -> Result<Option<Last>, StreamError> {
        if subject.starts_with("silent.") {
            return Err(silence().await);
        }
        self.pass().await?;
        if self.with(|state| state.has_foreign(subject)) {
            return Err(StreamError::Foreign {
                stream: "fake".to_owned(),
                subject: subject.to_owned(),
                sequence: 7,
                malformed: Malformed::Header("Blocksd-Kind"),
            });
        }
        self.with(|state| {
            let last = state.last(subject);
            Ok(last.map(|(sequence, _, message)| of(*sequence, message)))
        })
    }

    async fn at(&self, sequence: u64) -> Result<At, StreamError> {
        self.pass().await?;
        self.with(|state| {
            let found = state.messages.iter().find(|(it, ..)| *it == sequence);
            Ok(found.map_or(At::Nothing, |(.., it)| At::Message(it.head.nonce)))
        })
    }

    async fn next(&self, subject: &str, from: u64) -> Result<Option<Last>, StreamError> {
        self.pass().await?;
        self.with(|state| {
            let mut messages = state.messages.iter();
            let found = messages.find(|(it, of, _)| from <= *it && of == subject);
            Ok(found.map(|(sequence, _, message)| of(*sequence, message)))
        })
    }

    async fn message_at(&self, sequence: u64) -> Result<Option<Last>, StreamError> {
        self.pass().await?;
        self.with(|state| {
            let found = state.messages.iter().find(|(it, ..)| *it == sequence);
            Ok(found.map(|(.., message)| of(sequence, message)))
        })
    }

    fn settling(&self) -> Duration {
        match self.faults.is_behind {
            true => SETTLING,
            false => Duration::ZERO,
        }
    }

    fn set_timeout(&self, _: Duration) {}

    fn disruptions(&self) -> u64 {
        self.with(|state| state.disruptions)
    }

    async fn extent(&self) -> Result<Extent, StreamError> {
        self.pass().await?;
        self.with(|state| {
            if state.is_unfit {
                return Err(StreamError::Unfit(CheckError::NotDurable {
                    reasons: "it has less than three replicas".to_owned(),
                    remedy: "change it".to_owned(),
                }));
            }
            let first = state.messages.first();
            Ok(Extent {
                created: state.created,
                first: first.map_or(state.next, |(sequence, ..)| *sequence),
                last: state.next - 1,
                body_max: state.body_max,
                writers: state.writers(),
            })
        })
    }
}

fn of(sequence: u64, message: &Outgoing) -> Last {
    let head = message.head.clone();
    Last {
        sequence,
        head,
        expected: Some(message.expected),
        answer_len: 0,
    }
}
