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
use crate::lane::{Base, LastSeen, TailRead};
use crate::place::{Instance, Place};
use crate::stream::{At, Extent, Last, Outgoing, PublishError, Stream, StreamError};

/// How many messages of a subject a call reads.
const READ_MAX: usize = 64;
/// Why a subject must be read again.
const INTERRUPTED: &str = "the connection was interrupted while a subject was read";

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
    /// [`Start::since`](super::Start::since).
    pub(super) since: Option<u64>,
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

/// What a look shows of a subject.
pub(super) enum Looked {
    /// Its last message.
    Last(Box<LastSeen>),
    /// Its messages after a sequence number.
    Read(TailRead, u64),
}

/// The answer to a look.
pub(super) struct Found {
    pub(super) seen: Looked,
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
    /// Up to where the subject was read.
    pub(super) read_to: Option<u64>,
}

impl Outcome {
    /// Whether the stream has answered, for a subject.
    pub(super) const fn is_answered(&self) -> bool {
        matches!(self, Self::Found(Ok(_)) | Self::Published(Ok(_)))
    }
}

impl Found {
    /// The stream has lost what it had shown.
    const fn lost(since: u64) -> Self {
        let nothing = TailRead {
            base: None,
            messages: Vec::new(),
            last: None,
        };
        Self {
            seen: Looked::Read(nothing, since),
            is_intact: false,
            is_proved: true,
        }
    }

    /// The last message that it shows: the last one of the subject, or of those that were read.
    pub(super) fn last(&self) -> Option<&Last> {
        match &self.seen {
            Looked::Last(seen) => seen.last.as_ref(),
            Looked::Read(read, _) => read.messages.last(),
        }
    }

    /// Length of the answer that shows it, in bytes.
    pub(super) fn answer_len(&self) -> usize {
        self.last().map_or(0, |it| it.answer_len)
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
            since: self.repair.since(),
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
    /// Finds the last message of the subject, and reads those before it if the stream has gone back. With a message in doubt, it looks again after
    /// the leader has settled.
    pub(super) async fn look(self, known: Known, is_in_doubt: bool) -> Answer {
        let subject = self.subject.as_deref().unwrap_or_default();
        let mut last = self.stream.last(subject).await;
        let took = self.took();
        if last.is_ok() && self.settled(is_in_doubt).await {
            last = self.stream.last(subject).await;
        }
        let found = match (last, self.since) {
            (Ok(last), Some(since)) => {
                let since = known.read_to.unwrap_or(since);
                self.read(last, since, &known).await
            }
            (Ok(last), None) => self.find(last, known).await,
            (Err(error), _) => Err(error),
        };
        self.answer(took, Outcome::Found(found))
    }

    /// Waits until the leader has settled, if a message is in doubt.
    async fn settled(&self, is_in_doubt: bool) -> bool {
        let settling = self.stream.settling();
        let waits = is_in_doubt && !settling.is_zero();
        if waits {
            tokio::time::sleep(settling).await;
        }
        waits
    }

    async fn find(&self, last: Option<Last>, known: Known) -> Result<Found, StreamError> {
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
        Ok(Found {
            seen: Looked::Last(Box::new(LastSeen { last, was_removed })),
            is_intact,
            is_proved: known.reached.is_some(),
        })
    }

    /// Reads the next messages of the subject, after this sequence number, up to the last one. What was read before a failure is kept.
    async fn read(
        &self,
        mut last: Option<Last>,
        since: u64,
        known: &Known,
    ) -> Result<Found, StreamError> {
        let mut messages: Vec<Last> = Vec::new();
        let newest = last.as_ref().map(Newest::of);
        if let Some(said) = known.said.filter(|it| newest != Some(*it))
            && !self.is_intact(said).await?
        {
            return Ok(Found::lost(since));
        }
        let last = loop {
            let from = messages.last().map_or(since, |it| it.sequence);
            let Some(newest) = last.take_if(|it| from < it.sequence) else {
                break Some(last);
            };
            if READ_MAX <= messages.len() {
                break None;
            }
            // It was shown just now.
            if messages.is_empty() && newest.expected == Some(from) {
                messages.push(newest.clone());
                last = Some(newest);
                continue;
            }
            match self.next(from, newest).await {
                // The stream may have lost what was known or read before.
                Ok(_) if self.is_interrupted() => match messages.is_empty() {
                    true => return Err(StreamError::Other(INTERRUPTED.to_owned())),
                    false => break None,
                },
                Ok((next, newest)) => {
                    messages.extend(next);
                    last = newest;
                }
                Err(error) if messages.is_empty() => return Err(error),
                Err(_) => break None,
            }
        };
        let newest = last.as_ref().map(|last| last.as_ref().map(Newest::of));
        if let Some(newest) = newest {
            // What was known, or read just now, may be lost meanwhile, and others may have the numbers.
            let read = messages.last().map(Newest::of);
            for before in [known.said, read].into_iter().flatten() {
                if newest != Some(before) && !self.is_intact(before).await? {
                    return Ok(Found::lost(since));
                }
            }
        }
        let base = match known.read_to {
            Some(_) => None,
            None => Some(self.base(since, messages.first(), last.flatten()).await?),
        };
        let read = TailRead {
            base,
            messages,
            last: newest,
        };
        Ok(Found {
            seen: Looked::Read(read, since),
            is_intact: true,
            is_proved: known.reached.is_some() || newest.is_none(),
        })
    }

    /// The next message of the subject after a sequence number, if it has one by now, and its last one: this one, or that which it has by now.
    async fn next(
        &self,
        from: u64,
        last: Last,
    ) -> Result<(Option<Last>, Option<Last>), StreamError> {
        let subject = self.subject.as_deref().unwrap_or_default();
        let next = self.stream.next(subject, from.saturating_add(1)).await?;
        let is_old = next.as_ref().is_none_or(|next| {
            last.sequence <= next.sequence && Newest::of(next) != Newest::of(&last)
        });
        let last = match is_old {
            true => self.stream.last(subject).await?,
            false => Some(last),
        };
        Ok((next, last))
    }

    /// What is certain of the subject: before its first message after a sequence number, or its last one.
    async fn base(
        &self,
        since: u64,
        first: Option<&Last>,
        last: Option<Last>,
    ) -> Result<Base, StreamError> {
        let Some(first) = first else {
            return Ok(last.map_or(Base::Empty, |it| Base::After(Box::new(it))));
        };
        let before = match first.expected {
            Some(0) => return Ok(Base::Empty),
            Some(before) if before <= since => self.stream.message_at(before).await?,
            _ => None,
        };
        Ok(match before {
            Some(before) => Base::After(Box::new(before)),
            None => Base::Before(Box::new(first.clone())),
        })
    }

    /// Whether the stream still has a message, or has removed it on purpose.
    async fn is_intact(&self, message: Newest) -> Result<bool, StreamError> {
        let extent = self.stream.extent().await?;
        let is_same = extent.created == self.created;
        Ok(is_same && message.is_intact(&*self.stream, &extent).await?)
    }

    pub(super) async fn send(self, outgoing: Outgoing) -> Answer {
        let subject = self.subject.as_deref().unwrap_or_default();
        let published = match self.is_interrupted() {
            false => self.stream.publish(subject, &outgoing).await,
            // Another message may have the expected number now.
            true => Err(PublishError::WrongLast),
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

    /// Whether the servers may have restarted since it began.
    fn is_interrupted(&self) -> bool {
        self.disruptions != self.stream.disruptions()
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
