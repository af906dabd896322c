//! Takes the answers of the stream. Looks at subjects of which nothing is known wait for a check: [`Unproved`].

use super::Dispatcher;
use super::call::{Answer, Outcome};
use super::input::End;
use super::subject::Reply;
use super::window::Flight;
use crate::cursor::Newest;
use crate::stream::Stream;

/// Looks at subjects of which nothing was known: what is before their first batches is stored if the stream is whole, as one check
/// finds out for all of them.
#[derive(Default)]
pub(super) struct Unproved {
    /// Those that no check has begun for.
    waiting: Vec<Answer>,
    /// Those that were there when the check in progress began.
    checked: Vec<Answer>,
}

impl Unproved {
    /// Whether a check must begin.
    pub(super) const fn waits(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// A check begins.
    pub(super) fn begin(&mut self) {
        self.checked.append(&mut self.waiting);
    }

    /// It had no answer.
    pub(super) fn failed(&mut self) {
        self.waiting.append(&mut self.checked);
    }
}

impl<S: Stream> Dispatcher<S> {
    /// Takes the answer for a lane. Returns one that is not for a lane.
    ///
    /// # Errors
    /// Why nothing more can be published.
    pub(super) fn answered(
        &mut self,
        flight: Flight,
        answer: Answer,
    ) -> Result<Option<Answer>, End> {
        self.window.end(flight, answer.took, &answer.outcome);
        self.is_probing &= !matches!(answer.outcome, Outcome::Probed(_));
        self.stream.set_timeout(self.window.timeout());
        if answer.subject.is_none() {
            return Ok(Some(answer));
        }
        self.turns.end(answer.is_retry);
        if answer.outcome.is_answered() {
            self.progress.answered();
        }
        if let Outcome::Found(Ok(found)) = &answer.outcome {
            let shown = found.last().map(Newest::of);
            if !found.is_intact || shown.is_some_and(|it| !self.checks.shown(it)) {
                return Err(End::Lost);
            }
            if let Some(last) = shown {
                self.checks.measure(last.sequence, found.answer_len());
            }
            let place = found.last().and_then(|it| it.own(self.instance));
            if place.is_some_and(|it| !self.is_ours(&it)) {
                return Err(End::Copied(self.known()));
            }
            if !found.is_proved && self.checks.newest().is_some() {
                // The stream may lose this message, too, until the check begins.
                if let Some(last) = shown.filter(|_| place.is_some()) {
                    self.note(last, Some(answer.begun.1));
                }
                self.unproved.waiting.push(answer);
                return Ok(None);
            }
        }
        self.take(answer)?;
        Ok(None)
    }

    /// A check has passed: takes the answers that waited for it.
    ///
    /// # Errors
    /// Why nothing more can be published.
    pub(super) fn proved(&mut self) -> Result<(), End> {
        let checked = std::mem::take(&mut self.unproved.checked);
        checked.into_iter().try_for_each(|it| self.take(it))
    }

    fn take(&mut self, answer: Answer) -> Result<(), End> {
        let (known, begun) = answer.begun;
        match &answer.outcome {
            // The stream has gone back.
            Outcome::Published(Ok(sequence)) if *sequence <= known => return Err(End::Lost),
            Outcome::Published(Ok(sequence)) => self.checks.acked(*sequence),
            _ => {}
        }
        let subject = answer.subject.unwrap_or_default();
        let Some(of) = self.lanes.get_mut(&subject) else {
            return Ok(());
        };
        let was_failing = of.is_failing();
        let is_found = matches!(answer.outcome, Outcome::Found(Ok(_)));
        let is_stored = matches!(answer.outcome, Outcome::Published(Ok(_)));
        let before = match &answer.outcome {
            // Another one could have given its number to a message of its own.
            Outcome::Published(Ok(_)) if self.writers.are_only(self.instance) => of.lane.before(),
            _ => None,
        };
        let taken = of.take(answer.outcome, self.instance, self.successes);
        self.must_read_again |= of.lane.must_be_read_again();
        match (was_failing, of.is_failing()) {
            (false, true) => self.failing += 1,
            (true, false) => self.failing -= 1,
            _ => {}
        }
        let reached = of.lane.reached();
        match of.failures() {
            0 if is_found => self.turns.add_found(subject),
            0 => self.turns.add(subject),
            failures => self.turns.retry(subject, failures, !taken.needs_pause),
        }
        if let Some((_, proof)) = reached {
            if !self.note(proof, Some(begun)) {
                return Err(End::Lost);
            }
            if let (true, Some(answer_len)) = (is_stored, answer.answer_len) {
                self.checks.measure(proof.sequence, answer_len);
            }
        }
        if let Some(before) = before {
            self.checks.succeeded(before);
        }
        self.finish(&taken.done);
        match taken.reply {
            Reply::Stored => self.progress.stored(taken.done.messages, taken.done.bytes),
            Reply::Moved => self.progress.moved(),
            Reply::Other => {}
            Reply::Failed(error) => {
                self.progress.failed(&error);
                if !taken.is_refused_again {
                    self.checks.doubt();
                }
                return Ok(());
            }
        }
        self.successes += 1;
        self.works();
        Ok(())
    }
}
