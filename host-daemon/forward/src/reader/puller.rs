//! Pulls the messages of a stream in their order: a [`Puller`]. It makes a new consumer where the old one has missed messages.

mod end;
mod failing;
mod removed;

use std::fmt;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_nats::jetstream::consumer::Consumer;
use async_nats::jetstream::consumer::pull::{BatchConfig, Config};
use futures_util::future::{join, join_all};

use self::removed::Removals;
pub(super) use self::removed::Removed;
use crate::advice::text;
use crate::cursor::Newest;
use crate::nats::Nats;
use crate::reader::arrivals::{Arrivals, no_answer};
use crate::reader::lag::Lag;
use crate::reader::pull::Pull;
use crate::reader::{Begin, ReadError, ReadSelection, leader};
use crate::stream::Stream as _;

/// Messages of a request.
const BATCH: usize = 500;
/// Bytes of a request.
const BATCH_BYTES: usize = 8 << 20;
/// Pause after which a reader that waits says so.
const IDLE: Duration = Duration::from_millis(100);
/// How long a request waits for messages.
const EXPIRES: Duration = Duration::from_secs(5);
/// How often the connection breaks in a row until a reader with an end gives up.
const BREAKS_MAX: u32 = 8;
/// Pause after that. The client has pauses of its own.
const BREAK_PAUSE: Duration = Duration::from_millis(20);
/// Longest time for the removal of consumers.
const CLOSING: Duration = Duration::from_secs(2);
/// Consumers that are removed at the end, at most. A server removes them after a minute.
const LEFT_MAX: usize = 16;

/// A message, or why there is none.
#[derive(Debug)]
pub(super) enum Pulled {
    /// A message.
    Message(Box<PulledMessage>),
    /// The sequence number of a message at which the connection breaks.
    Broken(u64),
    /// Messages were removed before they were read.
    Removed(Removed),
    /// There is none now.
    Waiting,
    /// The end is reached.
    End,
}

/// A message as the server has stored it.
#[derive(Debug)]
pub(super) struct PulledMessage {
    pub(super) message: async_nats::Message,
    /// Its sequence number.
    pub(super) sequence: u64,
    /// When the server stored it, in nanoseconds since 1970.
    pub(super) published: u64,
    /// How many messages come after it, as the server says.
    pending: u64,
}

/// Pulls messages.
pub(super) struct Puller {
    nats: Nats,
    filters: Vec<String>,
    begin: Begin,
    end: Option<u64>,
    /// The last forwarded message that was read. A stream that has another one there has lost messages.
    read: Option<Newest>,
    only_heads: bool,
    consumer: Option<Consumer<Config>>,
    /// The names of consumers before it that are not removed yet.
    left: Vec<String>,
    /// When the stream was created that the last consumer was of, in nanoseconds since 1970.
    created: Option<i128>,
    batch: Option<Pull>,
    /// Messages that the consumer has delivered.
    delivered: u64,
    /// Messages of the current request.
    in_batch: usize,
    /// The next message is longer than a request allows, so it is requested alone.
    is_long: bool,
    failures: u32,
    /// How often the connection broke while messages were on their way. They are then requested one by one.
    breaks: u32,
    /// How often the connection was interrupted when the consumer was made. What it delivers meanwhile is lost.
    disruptions: u64,
    /// The stream has gone back to an older state, and is read on from there.
    has_gone_back: bool,
    /// Everything was read that the stream had at some time since the beginning.
    has_caught_up: bool,
    /// When that was so last.
    compared: Option<Instant>,
    /// A message that was on its way alone when the connection broke, and how often it was.
    suspect: Option<(u64, u32)>,
    /// Messages that a consumer of the last message of each subject delivers first. They may be after the end.
    snapshot: u64,
    lag: Lag,
    removals: Removals,
    /// A message that was received after others that were removed.
    held: Option<Box<PulledMessage>>,
    has_ended: bool,
}

impl fmt::Debug for Puller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut f = f.debug_struct("Puller");
        f.field("begin", &self.begin).finish_non_exhaustive()
    }
}

/// What a request brought.
enum Received {
    Message(Box<PulledMessage>),
    /// No more messages for now.
    Empty,
    /// No more messages up to the end.
    End,
    /// No more messages for now, and the leader has more.
    Behind,
    /// The connection broke while messages were on their way.
    Interrupted,
    /// The consumer is not usable any more.
    Failed(ReadError),
}

impl Puller {
    pub(super) fn new(nats: Nats, selection: &ReadSelection) -> Self {
        Self {
            nats,
            filters: selection.filters(),
            begin: selection.begin,
            end: selection.end,
            read: None,
            only_heads: selection.only_heads,
            consumer: None,
            left: Vec::new(),
            created: None,
            batch: None,
            delivered: 0,
            in_batch: 0,
            is_long: false,
            failures: 0,
            breaks: 0,
            disruptions: 0,
            has_gone_back: false,
            has_caught_up: false,
            compared: None,
            suspect: None,
            snapshot: 0,
            lag: Lag::default(),
            removals: Removals::default(),
            held: None,
            has_ended: false,
        }
    }

    /// The next message.
    ///
    /// # Errors
    /// [`ReadError`]: without an end, only [`ReadError::Lost`].
    pub(super) async fn next(&mut self) -> Result<Pulled, ReadError> {
        if let Some(message) = self.held.take() {
            return Ok(Pulled::Message(message));
        }
        if self.has_ended {
            return Ok(Pulled::End);
        }
        loop {
            let mut received = self.receive().await;
            if matches!(received, Received::Empty) && self.end.is_some() {
                received = self.at_empty().await.unwrap_or_else(Received::Failed);
            }
            match received {
                Received::Message(message) => {
                    self.breaks = 0;
                    if self.is_beyond(message.sequence) {
                        return self.end().await;
                    }
                    self.begin_count(message.pending).await;
                    let removed = self.pass(message.sequence, Some(message.pending));
                    if let Some(removed) = removed
                        && let Some(removed) = self.overtaken(removed).await
                    {
                        self.held = Some(message);
                        return Ok(Pulled::Removed(removed));
                    }
                    return Ok(Pulled::Message(message));
                }
                Received::End => return self.end().await,
                Received::Behind => self.catch_up().await?,
                Received::Empty => {
                    match self.note_pause().await {
                        Ok(()) => self.failures = 0,
                        Err(error) => self.pause(error).await?,
                    }
                    return Ok(Pulled::Waiting);
                }
                Received::Interrupted => {
                    if let Some(sequence) = self.broken().await {
                        if self.is_beyond(sequence) {
                            return self.end().await;
                        }
                        self.pass(sequence, None);
                        return Ok(Pulled::Broken(sequence));
                    }
                    self.restart();
                    self.breaks += 1;
                    if BREAKS_MAX <= self.breaks && self.end.is_some() {
                        return Err(ReadError::NoAnswer("the connection breaks".to_owned()));
                    }
                    tokio::time::sleep(BREAK_PAUSE).await;
                }
                Received::Failed(error) => self.fail(error).await?,
            }
            if self.end.is_none() {
                return Ok(Pulled::Waiting);
            }
        }
    }

    /// Notes what the last message was.
    pub(super) const fn note_read(&mut self, read: Newest) {
        self.read = Some(read);
    }

    /// Whether a message is after the end.
    fn is_beyond(&self, sequence: u64) -> bool {
        self.snapshot < self.delivered && self.end.is_some_and(|end| end < sequence)
    }

    /// Goes on after a message. Returns those that were removed before it.
    fn pass(&mut self, sequence: u64, pending: Option<u64>) -> Option<Removed> {
        (self.failures, self.suspect) = (0, None);
        self.lag.end();
        self.begin = Begin::Sequence(sequence + 1);
        self.removals.pass(sequence, pending)
    }

    /// Removes the consumers. If that fails, the server does so after a minute.
    pub(super) async fn close(&mut self) {
        self.batch = None;
        let (consumer, left) = (self.consumer.take(), std::mem::take(&mut self.left));
        let left = left.iter().map(|it| self.nats.stream.delete_consumer(it));
        let removed = async {
            if let Some(consumer) = consumer {
                self.nats.remove_new(&consumer.cached_info().name).await;
            }
        };
        let removed = join(removed, join_all(left));
        let _ = tokio::time::timeout(CLOSING, removed).await;
    }

    fn restart(&mut self) {
        self.batch = None;
        if let Some(consumer) = self.consumer.take() {
            self.leave(&consumer);
        }
    }

    /// Notes that a consumer is not used any more.
    fn leave(&mut self, consumer: &Consumer<Config>) {
        if self.left.len() == LEFT_MAX {
            self.left.remove(0);
        }
        self.left.push(consumer.cached_info().name.clone());
    }

    pub(super) const fn has_caught_up(&self) -> bool {
        self.has_caught_up
    }

    /// Whether the stream has gone back to an older state since this was asked.
    pub(super) const fn take_gone_back(&mut self) -> bool {
        std::mem::replace(&mut self.has_gone_back, false)
    }

    /// The name of the stream.
    pub(super) fn stream(&self) -> &str {
        &self.nats.name
    }

    async fn receive(&mut self) -> Received {
        loop {
            match self.request().await {
                Ok(true) => {}
                Ok(false) => return Received::End,
                Err(error) => return Received::Failed(error),
            }
            let Some(batch) = &mut self.batch else {
                return Received::Empty;
            };
            let begun = Instant::now();
            let mut arrivals = Arrivals::of(self.nats.statistics());
            let next = loop {
                // What was received before the connection broke comes first.
                let next = tokio::time::timeout(IDLE, batch.next());
                match self.nats.asked(next).await {
                    Ok(Ok(next)) => break next,
                    Ok(Err(_)) => {}
                    Err(denied) => return Received::Failed(denied),
                }
                if self.disruptions != self.nats.disruptions() {
                    return Received::Interrupted;
                }
                if self.end.is_none() && IDLE < begun.elapsed() {
                    return Received::Empty;
                }
                if self.end.is_some() && arrivals.have_ended() {
                    if self.begin == Begin::LastOfEach && !self.nats.settling().is_zero() {
                        // nats-server 2.9 delivers nothing if the last message of a subject was removed.
                        self.begin = Begin::First;
                    }
                    return Received::Failed(no_answer());
                }
            };
            match next {
                Some(Ok(message)) => {
                    self.in_batch += 1;
                    self.is_long = false;
                    let info = message.info().map(|it| {
                        let published = SystemTime::from(it.published);
                        (
                            it.consumer_sequence,
                            it.stream_sequence,
                            published,
                            it.pending,
                        )
                    });
                    let Ok((number, sequence, published, pending)) = info else {
                        return Received::Failed(no_answer());
                    };
                    if number != self.delivered + 1 {
                        // Messages were lost on the way.
                        self.restart();
                        continue;
                    }
                    self.delivered = number;
                    let published = published.duration_since(UNIX_EPOCH).unwrap_or_default();
                    let published = u64::try_from(published.as_nanos()).unwrap_or(u64::MAX);
                    if self.begin.is_after(sequence, published) {
                        // A server that lags begins where it has got to.
                        continue;
                    }
                    return Received::Message(Box::new(PulledMessage {
                        message: message.message,
                        sequence,
                        published,
                        pending,
                    }));
                }
                None => {
                    self.batch = None;
                    if self.in_batch == 0 {
                        return Received::Empty;
                    }
                }
                Some(Err(error)) => {
                    self.batch = None;
                    if self.in_batch == 0 && std::mem::replace(&mut self.is_long, true) {
                        return Received::Failed(ReadError::NoAnswer(error));
                    }
                }
            }
        }
    }

    /// Requests messages, unless a request is open, and makes a missing consumer. Returns false if no messages are left up to the end.
    async fn request(&mut self) -> Result<bool, ReadError> {
        if self.batch.is_some() {
            return Ok(true);
        }
        if self.disruptions != self.nats.disruptions() {
            self.restart();
        }
        let consumer = match self.consumer.take() {
            Some(consumer) => consumer,
            None => {
                self.delivered = 0;
                self.is_long = false;
                self.disruptions = self.nats.disruptions();
                match self.consumer().await? {
                    Some(consumer) => consumer,
                    None => return Ok(false),
                }
            }
        };
        let (count, bytes) = match self.is_long || self.breaks != 0 {
            true => (1, 0),
            false => (BATCH, BATCH_BYTES),
        };
        let request = BatchConfig {
            batch: count,
            max_bytes: bytes,
            no_wait: self.end.is_some(),
            expires: self.end.is_none().then_some(EXPIRES),
            ..BatchConfig::default()
        };
        let asked = Pull::request(&self.nats.context, &consumer, request);
        let requested = self.nats.asked(asked).await;
        self.consumer = Some(consumer);
        let batch = requested??;
        (self.in_batch, self.batch) = (0, Some(batch));
        Ok(true)
    }

    /// Makes a consumer. `None` if there is nothing for it up to the end.
    async fn consumer(&mut self) -> Result<Option<Consumer<Config>>, ReadError> {
        let leader = self.compare().await?;
        if self.is_complete(&leader).await? {
            return Ok(None);
        }
        self.removals.begin(&leader.state);
        let config = leader::consumer(&self.filters, self.begin, self.only_heads);
        let created = self.nats.stream.create_consumer(config);
        let created = self.nats.asked(created).await?;
        let created = created.map_err(|error| ReadError::NoAnswer(text(&error)))?;
        // A login without the right to ask this, as is done at the end, learns it before the first message.
        let info = self.nats.asked(created.get_info()).await;
        let info = info.and_then(|info| info.map_err(|error| ReadError::NoAnswer(text(&error))));
        if let Err(error) = info {
            self.leave(&created);
            return Err(error);
        }
        self.snapshot = match self.begin {
            Begin::LastOfEach => created.cached_info().num_pending,
            _ => 0,
        };
        Ok(Some(created))
    }
}

#[cfg(test)]
mod tests;
