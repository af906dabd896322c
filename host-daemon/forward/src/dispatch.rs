//! Publishes batches: a [`Dispatcher`] has a [`Lane`] for each subject, and one message of it in flight.

mod answered;
mod call;
mod checks;
mod given;
mod input;
mod repair;
mod settling;
mod subject;
mod turns;
mod waiting;
mod window;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc::Receiver;
use tokio::time::Instant;

use self::answered::Unproved;
use self::call::{Answer, Call, Known, Outcome};
use self::checks::{Checks, Listed};
pub(crate) use self::input::{Again, Asked, End, Input, Reached, Start};
use self::repair::Repair;
use self::settling::Settling;
use self::subject::Subject;
use self::turns::{PAUSE_MAX, Turns};
use self::waiting::Waiting;
use self::window::{Flight, Window};
use crate::batch::Batch;
use crate::confirm::Confirm;
use crate::cursor::{Cursor, Newest};
use crate::files::KnownFiles;
use crate::lane::{Done, Lane, Step};
use crate::place::{Instance, Place};
use crate::progress::{Progress, Unread};
use crate::stream::{Stream, StreamError, Writers};

/// Largest number of messages in flight.
const CALLS_MAX: usize = 512;
/// Number of lanes from which on the idle ones are forgotten.
const LANES_MAX: usize = 1 << 17;
/// How long the recording is read, unless all of it was, before it is read again: lanes that were parked share a reading.
const READ_MIN: Duration = Duration::from_secs(60);

/// Publishes batches.
pub(crate) struct Dispatcher<S> {
    stream: Arc<S>,
    instance: Instance,
    body_max: usize,
    progress: Arc<Progress>,
    confirm: Option<Arc<dyn Confirm>>,
    files: KnownFiles,
    lanes: HashMap<Arc<str>, Subject>,
    repair: Repair,
    turns: Turns,
    calls: FuturesUnordered<BoxFuture<'static, (Flight, Answer)>>,
    waiting: Waiting,
    /// What was read.
    reached: Option<Place>,
    /// The end of what was handed over, and whether that is everything that was recorded before the start.
    read_to: Option<Place>,
    has_caught_up: bool,
    /// Lanes whose last call has failed.
    failing: usize,
    /// Calls that have not failed.
    successes: u64,
    /// A lane that was parked must be read again, and from when on it may be.
    must_read_again: bool,
    read_again_at: Instant,
    /// The stream cannot be used as it is.
    is_unfit: bool,
    /// When lanes are parked next, if too much waits.
    park_at: Instant,
    window: Window,
    /// A short request is on the way.
    is_probing: bool,
    unproved: Unproved,
    writers: Writers,
    /// When the stream was created.
    created: i128,
    checks: Checks,
    /// [`Stream::disruptions`] so far.
    disruptions: u64,
    settling: Settling,
}

impl<S: Stream> Dispatcher<S> {
    pub(crate) fn new(stream: Arc<S>, progress: Arc<Progress>, start: Start) -> Self {
        let Start {
            instance,
            files,
            extent,
            newest,
            reached,
            since,
        } = start;
        // Another stream has none of it.
        let is_same = reached.created == extent.created;
        let reached = if is_same { reached } else { Reached::default() };
        let known = reached.subjects.into_iter();
        let lanes = known.map(|(subject, reached)| (subject, Subject::from(Lane::from(reached))));
        let lanes = lanes.collect();
        Self {
            disruptions: stream.disruptions(),
            stream,
            instance,
            body_max: extent.body_max,
            progress,
            confirm: None,
            files,
            lanes,
            repair: Repair::from(since),
            turns: Turns::default(),
            calls: FuturesUnordered::new(),
            waiting: Waiting::default(),
            reached: None,
            read_to: None,
            has_caught_up: false,
            failing: 0,
            successes: 0,
            must_read_again: false,
            read_again_at: Instant::now() + READ_MIN,
            is_unfit: false,
            park_at: Instant::now(),
            window: Window::default(),
            is_probing: false,
            unproved: Unproved::default(),
            writers: extent.writers,
            created: extent.created,
            checks: Checks::new(newest, reached.proofs),
            settling: Settling::default(),
        }
    }

    /// Confirms what is stored.
    pub(crate) fn confirming(self, confirm: Option<Arc<dyn Confirm>>) -> Self {
        Self { confirm, ..self }
    }

    /// Publishes what arrives, until the input ends and everything is stored. Dropping the future stops at once. Passes cursors to
    /// `save`, each after the stream has proved that it still has the newest message.
    pub(crate) async fn run(mut self, input: Receiver<Input>, save: impl FnMut(&Cursor)) -> End {
        let end = self.publish(input, save).await;
        self.drop_waiting();
        end
    }

    async fn publish(&mut self, mut input: Receiver<Input>, mut save: impl FnMut(&Cursor)) -> End {
        let mut has_ended = false;
        // A part of a check has just ended.
        let mut has_asked = false;
        loop {
            self.notice_disruption();
            self.park();
            // If there is one call at a time, a check has its turn before others, and they have theirs between its parts.
            if !has_asked {
                self.check(self.unproved.waits());
            }
            self.settle();
            if let Err(end) = self.call() {
                return end;
            }
            let again_at = Some(self.read_again_at).filter(|_| self.must_read_again);
            if again_at.is_some_and(|at| has_ended || at <= Instant::now()) {
                return End::Again(self.known(), Again::Parked);
            }
            let is_done = has_ended && self.waiting.is_empty() && !self.settling.has_more();
            if is_done && self.calls.is_empty() && self.checks.newest().is_none() {
                return End::Finished;
            }
            self.check(is_done || self.unproved.waits());
            let stalled_at = self.probe();
            let can_read = !has_ended && !self.waiting.is_full();
            let next_turn = self.turns.next_at().filter(|_| self.can_call());
            let settle_at = self.settling.next_at().filter(|_| self.can_settle());
            let may_check = self.window.may_ask();
            let check_at = self.checks.next_at().filter(|_| may_check);
            let next_at = [check_at, next_turn, again_at, settle_at, stalled_at];
            let next_at = next_at.into_iter().flatten().min();
            let (flight, answer) = tokio::select! {
                Some(answered) = self.calls.next(), if !self.calls.is_empty() => answered,
                read = input.recv(), if can_read => {
                    match read {
                        Some(Input::Batches(batches, unread)) => self.add(batches, unread),
                        Some(Input::Reached(place)) => self.reached = Some(place),
                        Some(Input::CaughtUp { is_damaged }) => self.caught_up(is_damaged),
                        Some(Input::Unsettled(sessions)) => self.settling.add(sessions),
                        None => has_ended = true,
                    }
                    self.report();
                    continue;
                }
                () = until(next_at) => continue,
            };
            self.notice_disruption();
            has_asked = false;
            let Answer {
                checks, outcome, ..
            } = match self.answered(flight, answer) {
                Ok(Some(check)) => check,
                Ok(None) => {
                    self.report();
                    continue;
                }
                Err(end) => return end,
            };
            let checked = match outcome {
                Outcome::Checked(checked) => checked,
                Outcome::Settled(asked, runs) => {
                    self.settled(asked, runs);
                    continue;
                }
                Outcome::Probed(Ok(false)) => return End::Lost,
                Outcome::Probed(_) | Outcome::Found(_) | Outcome::Published(_) => continue,
            };
            match checked {
                Ok(None) => return End::Lost,
                Ok(Some(extent)) if extent.body_max != self.body_max => {
                    let (before, now) = (self.body_max, extent.body_max);
                    return End::Again(self.known(), Again::BodyMax { before, now });
                }
                Ok(Some(extent)) => {
                    self.is_unfit = false;
                    self.writers = extent.writers;
                    has_asked = checks.has_more;
                    if checks.has_more {
                        self.checks.proved(&checks, self.window.fastest());
                        continue;
                    }
                    let is_only = extent.writers.are_only(self.instance);
                    let is_proved = self.checks.passed(&checks, is_only, self.window.fastest());
                    if !is_proved {
                        self.unproved.failed();
                    }
                    if let Err(end) = self.proved() {
                        return end;
                    }
                    self.works();
                    // Messages that are read again are not stored, and hold no place.
                    let before = checks.before.filter(|place| {
                        is_proved && !self.must_read_again && self.repair.has_repaired(*place)
                    });
                    if let (Some(place), Some(newest)) = (before, checks.newest()) {
                        let created = self.created;
                        if self.repair.since().is_some() {
                            self.repair = Repair::None;
                            self.progress.repaired();
                        }
                        save(&Cursor {
                            created,
                            place,
                            newest,
                        });
                    }
                    if is_done && self.checks.are_proved_by(&checks) {
                        return End::Finished;
                    }
                }
                Err(error) => {
                    self.is_unfit |= matches!(error, StreamError::Unfit(_));
                    self.progress.failed(&error);
                    self.checks.failed();
                    self.unproved.failed();
                }
            }
            self.report();
        }
    }

    fn add(&mut self, batches: Vec<Batch>, unread: Option<Unread>) {
        self.progress.unread(unread);
        for batch in batches {
            self.waiting.add(&batch);
            self.read_to = self.read_to.max(Some(batch.end()));
            let subject = Arc::clone(&batch.subject);
            let of = self.lanes.entry(Arc::clone(&subject)).or_default();
            let done = of.lane.push(batch);
            if !std::mem::replace(&mut of.is_busy, true) {
                self.turns.add(subject);
            }
            self.finish(&done);
        }
        if LANES_MAX < self.lanes.len() {
            self.lanes.retain(|_, it| it.is_busy || !it.lane.is_empty());
        }
    }

    /// Keeps only the first batch of each subject that the stream does not take while it takes others, if half of what may wait does.
    fn park(&mut self) {
        let now = Instant::now();
        if !self.waiting.is_half_full() || now < self.park_at {
            return;
        }
        self.park_at = now + PAUSE_MAX;
        let stopped = self.lanes.values_mut().filter(|it| it.can_be_parked());
        let parked: Vec<_> = stopped.map(|it| it.lane.park()).collect();
        for done in parked {
            self.finish(&done);
        }
    }

    fn can_call(&self) -> bool {
        let has_room = self.calls.len() < CALLS_MAX && self.window.has_room();
        has_room && !self.is_unfit && !self.checks.is_full()
    }

    /// Begins calls for lanes whose turn it is.
    ///
    /// # Errors
    /// Why nothing more can be published.
    fn call(&mut self) -> Result<(), End> {
        while self.can_call()
            && let Some(turn) = self.turns.next(self.window.has_room_to_ask())
        {
            let Some(of) = self.lanes.get_mut(&turn.subject) else {
                self.turns.end(turn.is_retry);
                continue;
            };
            if of.lane.looks_next() && !self.window.has_room_to_ask() {
                self.turns.hold(turn);
                continue;
            }
            let body_max = self.body_max.min(self.window.body_max());
            let (step, done) = of.step(self.instance, body_max);
            of.is_busy = !matches!(step, Step::Wait);
            let has_recovered = !of.is_busy && of.recover();
            self.must_read_again |= of.lane.must_be_read_again();
            let reached = of.lane.reached();
            let known = Known {
                reached,
                said: of.lane.said(),
                read_to: of.lane.read_to(),
            };
            if let Some((_, proof)) = reached
                && !self.note(proof, None)
            {
                return Err(End::Lost);
            }
            self.finish(&done);
            if has_recovered {
                self.failing -= 1;
                self.works();
            }
            let call = Call {
                is_retry: turn.is_retry,
                ..self.new_call(Some(turn.subject), Listed::default())
            };
            match step {
                Step::Wait => self.turns.end(turn.is_retry),
                Step::Look { is_in_doubt } => {
                    let flight = self.window.begin_request();
                    self.begin(flight, call.look(known, is_in_doubt));
                }
                Step::Send(outgoing) => {
                    let bytes = Window::of_body(outgoing.body.len());
                    let flight = self.window.begin(bytes);
                    self.begin(flight, call.send(*outgoing));
                }
            }
        }
        Ok(())
    }

    /// Where this recording has got to in all subjects, in whole messages: the parts of one are of one identity. A stream that has gone back is
    /// read again.
    fn known(&self) -> Reached {
        let lanes = self.lanes.iter().filter(|_| self.repair.since().is_none());
        let known = lanes.filter_map(|(subject, of)| {
            let (place, proof) = of.lane.reached()?;
            let place = Place { bytes: 0, ..place };
            Some((Arc::clone(subject), (place, proof)))
        });
        Reached {
            subjects: known.collect(),
            proofs: self.checks.unproved(),
            created: self.created,
        }
    }

    /// Counts the messages that waited and that the recording has deleted: they cannot be read again.
    fn drop_waiting(&mut self) {
        let waiting: Vec<_> = self.lanes.values().flat_map(|it| it.lane.files()).collect();
        let first = waiting.iter().map(|((number, _), _)| *number).min();
        let (Some(first), Some(taken), Some(here)) = (first, self.read_to, self.files.now()) else {
            return;
        };
        let here: HashSet<_> = here.into_iter().collect();
        let deleted = waiting.iter().filter(|(file, _)| !here.contains(file));
        let (files, counts): (HashSet<_>, Vec<u64>) = deleted.copied().unzip();
        let messages = counts.iter().sum();
        let files = files.len() as u64;
        self.progress.dropped(first, taken, files, messages);
    }

    /// Whether a place that the identity of this recording has reached in the stream is one of this recording.
    fn is_ours(&mut self, place: &Place) -> bool {
        // What was published was read before.
        let is_read = !self.has_caught_up || Some(*place) <= self.read_to.max(self.reached);
        is_read && self.files.have(place)
    }

    /// Notes a message, as a call has shown that began then. Returns false if the stream has lost another one.
    fn note(&mut self, proof: Newest, begun: Option<Instant>) -> bool {
        let is_only = self.writers.are_only(self.instance);
        self.checks.note(proof, begun, is_only)
    }

    /// Looks at everything again if the servers may have restarted.
    fn notice_disruption(&mut self) {
        let disruptions = self.stream.disruptions();
        if std::mem::replace(&mut self.disruptions, disruptions) != disruptions {
            self.checks.pin();
            self.window.interrupted();
            self.turns.end_pauses();
            self.settling.end_pauses();
            for of in self.lanes.values_mut() {
                of.lane.interrupted();
            }
        }
    }

    fn finish(&mut self, done: &Done) {
        self.waiting.remove(done);
        if let Some(confirm) = &self.confirm {
            for (channel, from, next) in &done.sessions {
                let session = channel.session.as_deref().unwrap_or_default();
                confirm.stored(&channel.device, session, *from, *next);
            }
        }
    }

    /// The last call has not failed.
    fn works(&mut self) {
        if self.checks.has_failed() {
            // Until the stream is checked again, no place is saved.
            self.checks.soon();
        } else if self.failing == 0 && !self.is_unfit && !self.settling.is_failing() {
            self.progress.works();
        }
    }

    fn caught_up(&mut self, is_damaged: bool) {
        self.read_again_at = Instant::now();
        self.repair.caught_up(self.read_to.max(self.reached));
        // In a damaged recording, what was published may not be readable any more.
        self.has_caught_up = !is_damaged;
    }

    /// Everything before this place is stored.
    fn place(&self) -> Option<Place> {
        let first = self.waiting.first();
        first.map(|(place, _)| place).or(self.reached)
    }

    fn report(&self) {
        let oldest = self.waiting.first().map_or(0, |(_, time)| time);
        self.progress.queued(self.waiting.bytes(), oldest);
        if let Some(place) = self.place() {
            self.progress.reached(place);
        }
    }
}

/// Waits until a moment, if there is one.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
