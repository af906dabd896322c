//! One call of the stream, and its answer: a [`Call`].

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join, try_join_all};
use tokio::time::Instant;

use super::Dispatcher;
use super::checks::Listed;
use super::input::Asked;
use super::window::{Flight, REQUESTS_MAX, Window};
use crate::cursor::Newest;
use crate::lane::LastSeen;
use crate::place::{Instance, Place};
use crate::recent::{Lost, Recent};
use crate::stream::{At, Extent, Last, Outgoing, PublishError, Stream, StreamError};

/// How many messages are read back at a time after a loss.
const LOST_MAX: usize = 4;

/// A call of the stream.
pub(super) struct Call<S> {
    pub(super) stream: Arc<S>,
    pub(super) instance: Instance,
    pub(super) subject: Option<Arc<str>>,
    /// The last call of the subject has failed.
    pub(super) is_retry: bool,
    pub(super) created: i128,
    /// [`Stream::disruptions`] when it began.
    pub(super) disruptions: u64,
    /// The highest sequence number that the stream had acknowledged when it began, and when that was.
    pub(super) begun: (u64, Instant),
    pub(super) checks: Listed,
    /// The stream has lost messages since the daemon started.
    pub(super) has_gone_back: bool,
}

/// The end of a call.
pub(super) struct Answer {
    /// The subject; `None` if the answer is not for a lane.
    pub(super) subject: Option<Arc<str>>,
    pub(super) is_retry: bool,
    /// As in the [`Call`].
    pub(super) begun: (u64, Instant),
    /// How long its first request took.
    pub(super) took: Duration,
    /// Bytes of an answer with the published message.
    pub(super) answer_len: Option<usize>,
    /// The messages that were checked.
    pub(super) checks: Listed,
    pub(super) outcome: Outcome,
}

pub(super) enum Outcome {
    Found(Result<Found, StreamError>),
    Published(Result<u64, PublishError>),
    /// What the stream has of a session.
    Settled(Asked, Result<Vec<(u64, u64)>, StreamError>),
    /// A part of a check: the extent if the messages are there.
    Checked(Result<Option<Extent>, StreamError>),
    /// A short request has an answer: whether the stream is the same.
    Probed(Result<bool, StreamError>),
}

/// The last message of a subject.
pub(super) struct Found {
    pub(super) seen: LastSeen,
    /// False if the stream has lost what it had acknowledged.
    pub(super) is_intact: bool,
    /// This is certain. Otherwise a check must say so.
    pub(super) is_proved: bool,
}

/// What a lane knows of its subject.
#[derive(Clone, Debug)]
pub(super) struct Known {
    /// Where this recording has got to, and the message that says so.
    pub(super) reached: Option<(Place, Newest)>,
    /// The message that says the rest.
    pub(super) said: Option<Newest>,
    /// What the stream may have lost: nothing unless it has lost something.
    pub(super) recent: Recent,
}

impl Outcome {
    /// Whether the stream has answered, for a subject.
    pub(super) const fn is_answered(&self) -> bool {
        matches!(self, Self::Found(Ok(_)) | Self::Published(Ok(_)))
    }
}

impl Found {
    /// Length of the answer that shows it, in bytes.
    pub(super) fn answer_len(&self) -> usize {
        self.seen.last.as_ref().map_or(0, |it| it.answer_len)
    }
}

impl<S: Stream> Dispatcher<S> {
    /// A call that begins now.
    pub(super) fn new_call(&self, subject: Option<Arc<str>>, checks: Listed) -> Call<S> {
        Call {
            stream: Arc::clone(&self.stream),
            instance: self.instance,
            subject,
            is_retry: false,
            created: self.created,
            disruptions: self.disruptions,
            begun: (self.checks.last(), Instant::now()),
            checks,
            has_gone_back: self.has_gone_back,
        }
    }

    /// Begins a check of the newest message if one is due, or at once, or the next part of the one in progress.
    pub(super) fn check(&mut self, at_once: bool) {
        if !self.window.may_ask() {
            return;
        }
        if self.checks.begin(at_once, self.place()) {
            self.unproved.begin();
        }
        let (max, unknown) = (self.window.answers_max(), self.window.found());
        let Some((part, bytes)) = self.checks.next_part(max, unknown) else {
            return;
        };
        let flight = self.window.begin_part(bytes, part.messages.len());
        let call = self.new_call(None, part);
        self.begin(flight, call.check());
    }

    /// Begins a short request if the window is full and nothing is answered. Returns when to look again.
    pub(super) fn probe(&mut self) -> Option<Instant> {
        let at = self.window.stalled_at().filter(|_| !self.is_probing)?;
        if Instant::now() < at {
            return Some(at);
        }
        self.is_probing = true;
        let call = self.new_call(None, Listed::default());
        let flight = self.window.begin(Window::of_body(0));
        self.begin(flight, call.probe());
        None
    }

    /// Begins a call that is in the window.
    pub(super) fn begin(
        &mut self,
        flight: Flight,
        call: impl Future<Output = Answer> + Send + 'static,
    ) {
        self.calls
            .push(Box::pin(async move { (flight, call.await) }));
    }
}

impl<S: Stream> Call<S> {
    /// Finds the last message of the subject. With a message in doubt, it looks again after the leader has settled.
    pub(super) async fn look(self, known: Known, is_in_doubt: bool) -> Answer {
        let subject = self.subject.as_deref().unwrap_or_default();
        let last = self.stream.last(subject).await;
        let took = self.took();
        let found = match last {
            Ok(last) => self.find(last, known, is_in_doubt).await,
            Err(error) => Err(error),
        };
        self.answer(took, Outcome::Found(found))
    }

    async fn find(
        &self,
        mut last: Option<Last>,
        known: Known,
        is_in_doubt: bool,
    ) -> Result<Found, StreamError> {
        let settling = self.stream.settling();
        if is_in_doubt && !settling.is_zero() {
            tokio::time::sleep(settling).await;
            let subject = self.subject.as_deref().unwrap_or_default();
            last = self.stream.last(subject).await?;
        }
        let found = last.as_ref().and_then(|last| last.own(self.instance));
        let is_intact = match known.reached {
            Some((place, proof)) if found < Some(place) => self.is_intact(proof).await?,
            _ => true,
        };
        let sequence = last.as_ref().map_or(0, |it| it.sequence);
        let was_removed = match known.said {
            Some(said) if sequence < said.sequence => self.is_intact(said).await?,
            _ => false,
        };
        let lost = match found {
            Some(place) if known.recent.is_doubtful(place) => {
                self.lost(&known.recent, place).await?
            }
            _ => None,
        };
        Ok(Found {
            seen: LastSeen {
                last,
                was_removed,
                lost,
                has_gone_back: self.has_gone_back,
            },
            is_intact,
            is_proved: known.reached.is_some(),
        })
    }

    /// Which of these messages the stream has lost, where the subject has got to a place.
    async fn lost(&self, recent: &Recent, place: Place) -> Result<Option<Box<Lost>>, StreamError> {
        let extent = self.stream.extent().await?;
        let all: Vec<_> = recent.all().map(|it| it.message).collect();
        let mut lost = Vec::new();
        // Few at a time: they may be long.
        for some in all.chunks(LOST_MAX) {
            let asked = some.iter().map(|it| it.is_intact(&*self.stream, &extent));
            let are_intact = match try_join_all(asked).await {
                Ok(are_intact) => are_intact,
                Err(_) => self.each_is_intact(some, &extent).await?,
            };
            let all = some.iter().zip(are_intact);
            lost.extend(all.filter(|(_, is_intact)| !is_intact).map(|(it, _)| *it));
        }
        if !recent.is_overtaken(&lost, place) {
            return Ok(None);
        }
        let before = match recent.replaced(&lost, place) {
            Some(replaced) => self.stream.message_at(replaced.sequence).await?,
            None => None,
        };
        Ok(Some(Box::new(Lost {
            messages: lost,
            before,
        })))
    }

    /// Whether the stream still has messages, one after the other: over a slow way, all together may take too long.
    async fn each_is_intact(
        &self,
        messages: &[Newest],
        extent: &Extent,
    ) -> Result<Vec<bool>, StreamError> {
        let mut all = Vec::with_capacity(messages.len());
        for message in messages {
            all.push(message.is_intact(&*self.stream, extent).await?);
        }
        Ok(all)
    }

    /// Whether the stream still has a message, or has removed it on purpose.
    async fn is_intact(&self, message: Newest) -> Result<bool, StreamError> {
        let extent = self.stream.extent().await?;
        let is_same = extent.created == self.created;
        Ok(is_same && message.is_intact(&*self.stream, &extent).await?)
    }

    pub(super) async fn send(self, outgoing: Outgoing) -> Answer {
        let subject = self.subject.as_deref().unwrap_or_default();
        let published = match self.disruptions == self.stream.disruptions() {
            true => self.stream.publish(subject, &outgoing).await,
            // Another message may have the expected number now.
            false => Err(PublishError::WrongLast),
        };
        let took = self.took();
        let answer_len = Window::of_body(outgoing.body.len()) / 3 * 4;
        Answer {
            answer_len: Some(answer_len),
            ..self.answer(took, Outcome::Published(published))
        }
    }

    pub(super) async fn check(self) -> Answer {
        let mut took = Duration::ZERO;
        let extent = async {
            let extent = self.stream.extent().await;
            took = self.took();
            extent
        };
        let (extent, found) = join(extent, self.look_at_all()).await;
        let checked = match extent {
            Ok(extent) => self.compare(extent, found).await,
            Err(error) => Err(error),
        };
        self.answer(took, Outcome::Checked(checked))
    }

    /// The extent of the stream, if it is the same one and has all messages that are checked.
    async fn compare(
        &self,
        extent: Extent,
        found: Result<Vec<At>, StreamError>,
    ) -> Result<Option<Extent>, StreamError> {
        let messages = &self.checks.messages;
        let is_within = |it: &Newest| it.is_intact_with(&At::Nothing, &extent);
        if extent.created != self.created || !messages.iter().all(is_within) {
            return Ok(None);
        }
        for (message, at) in messages.iter().zip(found?) {
            let is_intact = match at {
                // Another message may have got the number before the extent was known.
                At::Nothing => message.is_intact(&*self.stream, &extent).await?,
                at => message.is_intact_with(&at, &extent),
            };
            if !is_intact {
                return Ok(None);
            }
        }
        Ok(Some(extent))
    }

    /// What the stream has at the numbers of the messages that are checked.
    async fn look_at_all(&self) -> Result<Vec<At>, StreamError> {
        let mut found = Vec::with_capacity(self.checks.messages.len());
        for some in self.checks.messages.chunks(REQUESTS_MAX) {
            let asked = some.iter().map(|it| self.stream.at(it.sequence));
            found.extend(try_join_all(asked).await?);
        }
        Ok(found)
    }

    pub(super) async fn probe(self) -> Answer {
        let extent = self.stream.extent().await;
        let is_same = extent.map(|extent| extent.created == self.created);
        let took = self.took();
        self.answer(took, Outcome::Probed(is_same))
    }

    /// Asks for the numbers of a session that its subject has.
    pub(super) async fn settle(self, asked: Asked) -> Answer {
        let last = self.stream.last(&asked.subject).await;
        let took = self.took();
        let session = &asked.unsettled.session;
        let runs = last.map(|last| {
            let stored = last.map(|it| it.head.stored).unwrap_or_default();
            // The limits have removed what the subject had before. Nothing seems lost here, so it has all that was recorded.
            if asked.is_whole && !stored.has_all(session) {
                return vec![(0, asked.unsettled.to)];
            }
            let runs = stored.before(session, u64::MAX);
            runs.chain(asked.gap).collect()
        });
        self.answer(took, Outcome::Settled(asked, runs))
    }

    /// The time since it began.
    fn took(&self) -> Duration {
        self.begun.1.elapsed()
    }

    fn answer(self, took: Duration, outcome: Outcome) -> Answer {
        Answer {
            subject: self.subject,
            is_retry: self.is_retry,
            begun: self.begun,
            checks: self.checks,
            took,
            answer_len: None,
            outcome,
        }
    }
}
