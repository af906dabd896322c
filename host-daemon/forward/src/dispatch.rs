//! Publishes batches: a [`Dispatcher`] has a [`Lane`] for each subject, and one message of it in flight.

mod call;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc::Receiver;
use tokio::time::Instant;

use self::call::Call;
use crate::batch::Batch;
use crate::confirm::Confirm;
use crate::cursor::{Cursor, Newest};
use crate::lane::{Done, Lane, Step};
use crate::place::{Instance, Place};
use crate::progress::Progress;
use crate::stream::{Last, PublishError, Stream, StreamError};

/// Largest number of bytes that wait in lanes.
const QUEUED_MAX: usize = 64 << 20;
/// Largest number of bytes in flight.
const FLYING_MAX: usize = 16 << 20;
/// Largest number of messages in flight.
const CALLS_MAX: usize = 512;
/// Number of lanes from which on the idle ones are forgotten.
const LANES_MAX: usize = 1 << 17;
/// The first pause after a failure.
const PAUSE: Duration = Duration::from_millis(100);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// How often the newest message is checked.
const CHECK: Duration = Duration::from_secs(10);
/// Time until it is checked after a failure.
const CHECK_SOON: Duration = Duration::from_secs(1);

/// What was read of the recording.
#[derive(Debug)]
pub(crate) enum Input {
    /// Batches, in their order.
    Batches(Vec<Batch>),
    /// Everything before this place was read.
    Reached(Place),
    /// Everything that was recorded before the start was read.
    CaughtUp {
        /// Except for a part that could not be read.
        is_damaged: bool,
    },
}

/// Why a dispatcher has ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The input has ended, and everything is stored.
    Finished,
    /// The stream has lost messages that it had acknowledged: begin again at the beginning.
    Lost,
}

/// Publishes batches.
pub(crate) struct Dispatcher<S> {
    stream: Arc<S>,
    instance: Instance,
    body_max: usize,
    progress: Arc<Progress>,
    confirm: Option<Arc<dyn Confirm>>,
    lanes: HashMap<Arc<str>, Subject>,
    ready: VecDeque<Arc<str>>,
    calls: FuturesUnordered<BoxFuture<'static, Answer>>,
    /// The batches that are not stored, by their order: where they begin, and when their first message was received.
    waiting: BTreeMap<u64, (Place, u64)>,
    /// What was read.
    reached: Option<Place>,
    /// Lanes whose last call has failed.
    failing: usize,
    queued: usize,
    flying: usize,
    /// When the stream was created.
    created: i128,
    /// The newest message that the stream has acknowledged.
    newest: Option<Newest>,
    /// The newest messages when something went wrong, which are not checked yet: a stream that has lost messages since then
    /// may have given their numbers to others.
    pinned: Vec<Newest>,
    /// [`Stream::disruptions`] so far.
    disruptions: u64,
    /// When the newest message is checked next.
    check_at: Instant,
}

/// A lane, and its calls.
#[derive(Debug, Default)]
struct Subject {
    lane: Lane,
    /// It is in the list of those that are ready, or a call is in progress.
    is_busy: bool,
    /// Failures in a row.
    failures: u32,
    /// How often the stream has taken the next message for a duplicate.
    duplicates: u32,
}

/// The end of a call.
struct Answer {
    /// The subject; `None` for a check.
    subject: Option<Arc<str>>,
    /// The messages that were checked.
    checks: Vec<Newest>,
    flown: usize,
    outcome: Outcome,
}

enum Outcome {
    Found(Result<Found, StreamError>),
    Published(Result<u64, PublishError>),
    /// A check of the newest message: where everything was stored before it, and whether the message is there.
    Checked(Option<Place>, Result<bool, StreamError>),
}

/// The last message of a subject.
struct Found {
    last: Option<Last>,
    /// False if the stream has lost what it had acknowledged.
    is_intact: bool,
}

impl<S: Stream> Dispatcher<S> {
    pub(crate) fn new(
        stream: Arc<S>,
        instance: Instance,
        body_max: usize,
        progress: Arc<Progress>,
        (created, newest): (i128, Option<Newest>),
    ) -> Self {
        Self {
            disruptions: stream.disruptions(),
            stream,
            instance,
            body_max,
            progress,
            confirm: None,
            lanes: HashMap::new(),
            ready: VecDeque::new(),
            calls: FuturesUnordered::new(),
            waiting: BTreeMap::new(),
            reached: None,
            failing: 0,
            queued: 0,
            flying: 0,
            created,
            newest,
            pinned: Vec::new(),
            check_at: Instant::now() + CHECK,
        }
    }

    /// Confirms what is stored.
    pub(crate) fn confirming(self, confirm: Option<Arc<dyn Confirm>>) -> Self {
        Self { confirm, ..self }
    }

    /// Publishes what arrives, until the input ends and everything is stored. Dropping the future stops at once. Passes cursors to
    /// `save`, each after the stream has proved that it still has the newest message, and `None` where the last one must not be used
    /// any more.
    pub(crate) async fn run(
        mut self,
        mut input: Receiver<Input>,
        mut save: impl FnMut(Option<&Cursor>),
    ) -> End {
        let mut has_ended = false;
        let mut is_checking = false;
        loop {
            if self.notice_disruption() {
                save(None);
            }
            self.call();
            let is_done = has_ended && self.waiting.is_empty();
            if is_done && self.calls.is_empty() && self.newest.is_none() {
                return End::Finished;
            }
            let is_due = is_done || self.check_at <= Instant::now();
            if is_due && !std::mem::replace(&mut is_checking, true) {
                self.check();
            }
            let can_read = !has_ended && self.queued < QUEUED_MAX;
            let answer = tokio::select! {
                Some(answer) = self.calls.next(), if !self.calls.is_empty() => answer,
                read = input.recv(), if can_read => {
                    match read {
                        Some(Input::Batches(batches)) => self.add(batches),
                        Some(Input::Reached(place)) => self.reached = Some(place),
                        Some(Input::CaughtUp { is_damaged }) => self.caught_up(is_damaged),
                        None => has_ended = true,
                    }
                    self.report();
                    continue;
                }
                () = tokio::time::sleep_until(self.check_at), if !is_checking => continue,
            };
            if self.notice_disruption() {
                save(None);
            }
            if let Outcome::Checked(before, checked) = answer.outcome {
                is_checking = false;
                self.check_at = Instant::now() + CHECK;
                match checked {
                    Ok(false) => return End::Lost,
                    Ok(true) => {
                        self.works();
                        self.pinned.retain(|it| !answer.checks.contains(it));
                        if let (Some(place), Some(newest)) = (before, answer.checks.last().copied())
                        {
                            let created = self.created;
                            save(Some(&Cursor {
                                created,
                                place,
                                newest,
                            }));
                        }
                        if is_done && self.newest == answer.checks.last().copied() {
                            return End::Finished;
                        }
                    }
                    Err(error) => {
                        self.progress.failed(&error);
                        self.check_at = Instant::now() + PAUSE_MAX;
                    }
                }
            } else if !self.answered(answer) {
                return End::Lost;
            }
            self.report();
        }
    }

    fn add(&mut self, batches: Vec<Batch>) {
        for batch in batches {
            self.queued += batch.len();
            self.waiting
                .insert(batch.order, (batch.begin(), batch.time()));
            let subject = Arc::clone(&batch.subject);
            let of = self.lanes.entry(Arc::clone(&subject)).or_default();
            let done = of.lane.push(batch);
            if !std::mem::replace(&mut of.is_busy, true) {
                self.ready.push_back(subject);
            }
            self.finish(&done);
        }
        if LANES_MAX < self.lanes.len() {
            self.lanes.retain(|_, it| it.is_busy || !it.lane.is_empty());
        }
    }

    /// Begins calls for lanes that are ready.
    fn call(&mut self) {
        while self.calls.len() < CALLS_MAX
            && self.flying < FLYING_MAX
            && let Some(subject) = self.ready.pop_front()
        {
            let Some(of) = self.lanes.get_mut(&subject) else {
                continue;
            };
            let (step, done) = of.lane.step(self.instance, self.body_max);
            let pause = pause(of.failures.max(of.duplicates));
            of.is_busy = !matches!(step, Step::Wait);
            let reached = of.lane.reached();
            // Nothing is known of the subject: what is before its first batch is stored if the stream is whole.
            let checks = match (&step, reached) {
                (Step::Look, None) => self.checks(),
                _ => Vec::new(),
            };
            self.note(reached);
            self.finish(&done);
            let call = Call {
                stream: Arc::clone(&self.stream),
                instance: self.instance,
                subject: Some(subject),
                pause,
                created: self.created,
                disruptions: self.disruptions,
                checks,
            };
            self.calls.push(match step {
                Step::Wait => continue,
                Step::Look => Box::pin(call.look(reached)),
                Step::Send(outgoing) => {
                    self.flying += outgoing.body.len();
                    Box::pin(call.send(*outgoing))
                }
            });
        }
    }

    /// The messages that a whole stream has.
    fn checks(&self) -> Vec<Newest> {
        self.pinned.iter().copied().chain(self.newest).collect()
    }

    /// Begins a check of the newest message.
    fn check(&self) {
        let call = Call {
            stream: Arc::clone(&self.stream),
            instance: self.instance,
            subject: None,
            pause: Duration::ZERO,
            created: self.created,
            disruptions: self.disruptions,
            checks: self.checks(),
        };
        self.calls.push(Box::pin(call.check(self.place())));
    }

    /// Takes the answer for a lane. Returns false if the stream has lost what it had acknowledged.
    fn answered(&mut self, answer: Answer) -> bool {
        let Answer {
            subject,
            flown,
            outcome,
            ..
        } = answer;
        self.flying -= flown;
        let Some(subject) = subject else {
            return true;
        };
        let Some(of) = self.lanes.get_mut(&subject) else {
            return true;
        };
        let mut done = Done::default();
        let mut has_failed = false;
        match outcome {
            Outcome::Found(Ok(found)) => {
                if !found.is_intact {
                    return false;
                }
                done = of.lane.found(found.last, self.instance);
                self.failing -= usize::from(std::mem::take(&mut of.failures) != 0);
            }
            Outcome::Published(Ok(sequence)) => {
                done = of.lane.acked(sequence);
                self.progress.stored(done.messages, done.bytes);
                self.failing -= usize::from(std::mem::take(&mut of.failures) != 0);
                of.duplicates = 0;
            }
            Outcome::Published(Err(PublishError::WrongLast)) => {
                self.progress.moved();
                of.lane.refused();
            }
            Outcome::Published(Err(PublishError::Duplicate)) => {
                // Not before a pause: until its window ends, the stream may answer the same again.
                of.duplicates = of.duplicates.saturating_add(1);
                of.lane.refused();
            }
            Outcome::Found(Err(error)) | Outcome::Published(Err(PublishError::Stream(error))) => {
                self.progress.failed(&error);
                self.failing += usize::from(of.failures == 0);
                of.failures = of.failures.saturating_add(1);
                of.lane.failed();
                has_failed = true;
            }
            Outcome::Checked(..) => {}
        }
        let reached = of.lane.reached();
        self.note(reached);
        self.ready.push_back(subject);
        self.finish(&done);
        match has_failed {
            true => self.pin(),
            false => self.works(),
        }
        true
    }

    /// Notes the newest message.
    fn note(&mut self, reached: Option<(Place, Newest)>) {
        if let Some((_, proof)) = reached
            && self.newest.is_none_or(|it| it.sequence < proof.sequence)
        {
            self.newest = Some(proof);
        }
    }

    /// Looks at everything again if the servers may have restarted. Returns whether that is so.
    fn notice_disruption(&mut self) -> bool {
        let disruptions = self.stream.disruptions();
        let is_new = std::mem::replace(&mut self.disruptions, disruptions) != disruptions;
        if is_new {
            self.pin();
            for of in self.lanes.values_mut() {
                of.lane.interrupted();
            }
        }
        is_new
    }

    /// Has the newest message checked soon, since something went wrong: the stream may be another one, too.
    fn pin(&mut self) {
        self.check_at = self.check_at.min(Instant::now() + CHECK_SOON);
        if let Some(newest) = self.newest
            && !self.pinned.contains(&newest)
        {
            self.pinned.push(newest);
        }
    }

    fn finish(&mut self, done: &Done) {
        self.queued -= done.bytes;
        for order in &done.orders {
            self.waiting.remove(order);
        }
        if let Some(confirm) = &self.confirm {
            for (channel, from, next) in &done.sessions {
                let session = channel.session.as_deref().unwrap_or_default();
                confirm.stored(&channel.device, session, *from, *next);
            }
        }
    }

    /// The last call has not failed.
    fn works(&self) {
        if self.failing == 0 {
            self.progress.works();
        }
    }

    fn caught_up(&self, is_damaged: bool) {
        if let Some(confirm) = &self.confirm {
            let mut waiting = HashMap::new();
            for (session, end) in self.lanes.values().flat_map(|it| it.lane.sessions()) {
                let last = waiting.entry(session).or_default();
                *last = end.max(*last);
            }
            confirm.caught_up(&waiting, is_damaged);
        }
    }

    /// Everything before this place is stored.
    fn place(&self) -> Option<Place> {
        let first = self.waiting.first_key_value().map(|(_, (place, _))| *place);
        first.or(self.reached)
    }

    fn report(&self) {
        let first = self.waiting.first_key_value().map(|(_, (_, time))| *time);
        self.progress.queued(self.queued, first.unwrap_or(0));
        if let Some(place) = self.place() {
            self.progress.reached(place);
        }
    }
}

/// The pause after this number of failures in a row.
fn pause(failures: u32) -> Duration {
    match failures.checked_sub(1) {
        None => Duration::ZERO,
        Some(doublings) => (PAUSE * 2_u32.saturating_pow(doublings.min(16))).min(PAUSE_MAX),
    }
}

#[cfg(test)]
mod tests;
