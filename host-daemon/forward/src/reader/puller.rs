//! Pulls the messages of a stream in their order: a [`Puller`]. It makes a new consumer where the old one has missed messages.

use std::fmt;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_nats::jetstream::consumer::pull::{Batch, Config};
use async_nats::jetstream::consumer::{AckPolicy, Consumer, DeliverPolicy};
use async_nats::jetstream::context::{GetStreamError, GetStreamErrorKind};
use futures_util::StreamExt as _;

use crate::check::is_not_enabled;
use crate::failure::{Unanswered, is_missing, text, unanswered};
use crate::nats::Nats;
use crate::reader::{Begin, ReadError, ReadSelection};
use crate::stream::Stream as _;

/// Messages of a request.
const BATCH: usize = 500;
/// Bytes of a request.
const BATCH_BYTES: usize = 8 << 20;
/// Longest time until an answer.
const ANSWER: Duration = Duration::from_secs(5);
/// Pause after which a reader that waits says so.
const IDLE: Duration = Duration::from_millis(100);
/// How long a request waits for messages.
const EXPIRES: Duration = Duration::from_secs(5);
/// How long a server keeps the consumer of a reader that is gone.
const INACTIVE: Duration = Duration::from_secs(60);
/// Failures in a row after which a reader with an end gives up.
const FAILURES_MAX: u32 = 4;
/// How often the connection breaks in a row until a reader with an end gives up.
const BREAKS_MAX: u32 = 8;
/// How often it breaks at a message that is passed over.
const BREAKS_AT_ONE: u32 = 2;
/// Pause after that. The client has pauses of its own.
const BREAK_PAUSE: Duration = Duration::from_millis(20);
/// Pause after a failure.
const PAUSE: Duration = Duration::from_millis(500);

/// A message, or why there is none.
#[derive(Debug)]
pub(super) enum Pulled {
    /// A message.
    Message(Box<PulledMessage>),
    /// The sequence number of a message at which the connection breaks.
    Broken(u64),
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
}

/// Pulls messages.
pub(super) struct Puller {
    nats: Nats,
    filters: Vec<String>,
    begin: Begin,
    end: Option<u64>,
    only_heads: bool,
    consumer: Option<Consumer<Config>>,
    /// When the stream was created that the last consumer was of, in nanoseconds since 1970.
    created: Option<i128>,
    batch: Option<Batch>,
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
    /// Everything was read that the stream had at some time since the beginning.
    has_caught_up: bool,
    /// A message that was on its way alone when the connection broke, and how often it was.
    suspect: Option<(u64, u32)>,
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
            only_heads: selection.only_heads,
            consumer: None,
            created: None,
            batch: None,
            delivered: 0,
            in_batch: 0,
            is_long: false,
            failures: 0,
            breaks: 0,
            disruptions: 0,
            has_caught_up: false,
            suspect: None,
        }
    }

    /// The next message.
    ///
    /// # Errors
    /// [`ReadError`], if there is an end.
    pub(super) async fn next(&mut self) -> Result<Pulled, ReadError> {
        loop {
            let mut received = self.receive().await;
            if matches!(received, Received::Empty) && self.end.is_some() {
                received = match self.has_all().await {
                    Ok(true) => {
                        self.note_deleted().await;
                        return Ok(Pulled::End);
                    }
                    Ok(false) => Received::Interrupted,
                    Err(error) => Received::Failed(error),
                };
            }
            match received {
                Received::Message(message) => {
                    let sequence = message.sequence;
                    self.breaks = 0;
                    return Ok(self.pass(sequence, Pulled::Message(message)));
                }
                Received::Empty => {
                    self.failures = 0;
                    self.has_caught_up = self.has_caught_up || self.is_at_end().await;
                    return Ok(Pulled::Waiting);
                }
                Received::Interrupted => {
                    if let Some(sequence) = self.broken().await {
                        return Ok(self.pass(sequence, Pulled::Broken(sequence)));
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

    /// Goes on after a message.
    fn pass(&mut self, sequence: u64, pulled: Pulled) -> Pulled {
        (self.failures, self.suspect) = (0, None);
        if self.end.is_some_and(|end| end < sequence) {
            return Pulled::End;
        }
        self.begin = Begin::Sequence(sequence + 1);
        pulled
    }

    /// Pauses after a failure, unless it is the last one.
    async fn fail(&mut self, error: ReadError) -> Result<(), ReadError> {
        self.restart();
        self.failures += 1;
        let is_final = matches!(
            error,
            ReadError::NoStream(_)
                | ReadError::Replaced(_)
                | ReadError::Refused(_)
                | ReadError::Denied(_)
        );
        let gives_up = is_final || FAILURES_MAX <= self.failures;
        if gives_up && self.end.is_some() {
            return Err(error);
        }
        tokio::time::sleep(PAUSE).await;
        if self.end.is_none() && self.failures == FAILURES_MAX {
            tracing::warn!("{error}; trying again");
        }
        Ok(())
    }

    /// The message at which the connection breaks whenever it is delivered, even alone. A client breaks it if it cannot parse
    /// the headers.
    async fn broken(&mut self) -> Option<u64> {
        let (consumer, batch) = (self.consumer.take()?, self.batch.take());
        if batch.is_some() && self.breaks == 0 {
            // One of many.
            return None;
        }
        let info = tokio::time::timeout(ANSWER, consumer.get_info());
        let delivered = info.await.ok()?.ok()?.delivered;
        if delivered.consumer_sequence != self.delivered + 1 {
            return None;
        }
        let sequence = delivered.stream_sequence;
        let times = match self.suspect {
            Some((suspect, times)) if suspect == sequence => times + 1,
            _ => 1,
        };
        self.suspect = Some((sequence, times));
        if times < BREAKS_AT_ONE {
            return None;
        }
        self.restart();
        Some(sequence)
    }

    /// Removes the consumer. If that fails, the server does so after a minute.
    pub(super) async fn close(&mut self) {
        self.batch = None;
        if let Some(consumer) = self.consumer.take() {
            let name = &consumer.cached_info().name;
            let removed = self.nats.asked(self.nats.stream.delete_consumer(name));
            let _ = tokio::time::timeout(ANSWER, removed).await;
        }
    }

    fn restart(&mut self) {
        self.batch = None;
        self.consumer = None;
    }

    pub(super) const fn has_caught_up(&self) -> bool {
        self.has_caught_up
    }

    /// The name of the stream.
    pub(super) fn stream(&self) -> &str {
        &self.nats.name
    }

    /// Whether the server has delivered all that there is, and nothing is on its way.
    async fn is_at_end(&self) -> bool {
        let Some(consumer) = &self.consumer else {
            return false;
        };
        let info = tokio::time::timeout(ANSWER, consumer.get_info()).await;
        matches!(info, Ok(Ok(info)) if info.num_pending == 0
            && info.delivered.consumer_sequence == self.delivered)
    }

    /// Whether nothing that the server has delivered was lost on the way.
    async fn has_all(&self) -> Result<bool, ReadError> {
        let Some(consumer) = &self.consumer else {
            return Ok(false);
        };
        let info = self.nats.asked(consumer.get_info()).await?;
        let info = info.map_err(|error| ReadError::NoAnswer(text(&error)))?;
        Ok(info.delivered.consumer_sequence == self.delivered)
    }

    async fn receive(&mut self) -> Received {
        loop {
            if let Err(error) = self.request().await {
                return Received::Failed(error);
            }
            let Some(batch) = &mut self.batch else {
                return Received::Empty;
            };
            let until = Instant::now() + if self.end.is_some() { ANSWER } else { IDLE };
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
                if until < Instant::now() {
                    return match self.end {
                        None => Received::Empty,
                        Some(_) => Received::Failed(ReadError::NoAnswer(no_answer())),
                    };
                }
            };
            match next {
                Some(Ok(message)) => {
                    self.in_batch += 1;
                    self.is_long = false;
                    let info = message.info().map(|it| {
                        let published = SystemTime::from(it.published);
                        (it.consumer_sequence, it.stream_sequence, published)
                    });
                    let Ok((number, sequence, published)) = info else {
                        return Received::Failed(ReadError::NoAnswer(no_answer()));
                    };
                    if number != self.delivered + 1 {
                        // Messages were lost on the way.
                        self.restart();
                        continue;
                    }
                    self.delivered = number;
                    let published = published.duration_since(UNIX_EPOCH).unwrap_or_default();
                    return Received::Message(Box::new(PulledMessage {
                        message: message.message,
                        sequence,
                        published: u64::try_from(published.as_nanos()).unwrap_or(u64::MAX),
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
                        return Received::Failed(ReadError::NoAnswer(error.to_string()));
                    }
                }
            }
        }
    }

    /// Requests messages, unless a request is open. Makes a consumer if there is none.
    async fn request(&mut self) -> Result<(), ReadError> {
        if self.batch.is_some() {
            return Ok(());
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
                self.consumer().await?
            }
        };
        let (count, bytes) = match self.is_long || self.breaks != 0 {
            true => (1, 0),
            false => (BATCH, BATCH_BYTES),
        };
        let asked = self.nats.asked(async {
            match self.end {
                Some(_) => {
                    let fetch = consumer.fetch().max_messages(count).max_bytes(bytes);
                    tokio::time::timeout(ANSWER, fetch.messages()).await
                }
                None => {
                    let batch = consumer.batch().max_messages(count).max_bytes(bytes);
                    tokio::time::timeout(ANSWER, batch.expires(EXPIRES).messages()).await
                }
            }
        });
        let requested = asked.await?;
        self.consumer = Some(consumer);
        match requested {
            Ok(Ok(batch)) => {
                self.in_batch = 0;
                self.batch = Some(batch);
                Ok(())
            }
            Ok(Err(error)) => Err(ReadError::NoAnswer(text(&error))),
            Err(_) => Err(ReadError::NoAnswer(no_answer())),
        }
    }

    /// Finds out whether the stream is still the one that was read.
    async fn compare(&mut self) -> Result<(), ReadError> {
        let name = &self.nats.name;
        let found = self.nats.asked(self.nats.context.get_stream(name)).await?;
        let found = found.map_err(|error| stream_error(&error, name))?;
        let info = found.cached_info();
        let created = info.created.unix_timestamp_nanos();
        let before = self.created.replace(created);
        if before.is_some_and(|it| it != created) {
            if self.end.is_some() {
                return Err(ReadError::Replaced(name.clone()));
            }
            tracing::warn!(
                "the stream {name} was deleted and made again: reading the new one from its beginning"
            );
            self.begin = Begin::First;
        }
        if let Begin::Sequence(next) = self.begin
            && before.is_some()
            && info.state.last_sequence < next.saturating_sub(1)
        {
            tracing::warn!(
                "the stream {name} has lost messages: reading what comes after message {}",
                info.state.last_sequence
            );
            self.begin = Begin::Sequence(info.state.last_sequence + 1);
        }
        Ok(())
    }

    /// Warns if messages were deleted that might have been read.
    async fn note_deleted(&self) {
        let name = &self.nats.name;
        let Begin::Sequence(next) = self.begin else {
            return;
        };
        let info = self.nats.asked(self.nats.context.get_stream(name)).await;
        let first = info.map(|it| it.map(|it| it.cached_info().state.first_sequence));
        if let Ok(Ok(first)) = first
            && next < first
            && self.end.is_some_and(|end| next <= end)
        {
            tracing::warn!(
                "messages of the stream {name} before {first} were deleted while it was read: those from {next} on may be missing here"
            );
        }
    }

    async fn consumer(&mut self) -> Result<Consumer<Config>, ReadError> {
        self.compare().await?;
        let (one, several) = match &self.filters[..] {
            // Servers before 2.10 know one filter only.
            [one] => (one.clone(), Vec::new()),
            several => (String::new(), several.to_vec()),
        };
        let config = Config {
            description: Some("blocksd read".to_owned()),
            deliver_policy: match self.begin {
                Begin::First => DeliverPolicy::All,
                Begin::Sequence(sequence) => DeliverPolicy::ByStartSequence {
                    start_sequence: sequence.max(1),
                },
                Begin::Stored(time) => {
                    let time = async_nats::datetime::from_nanos(time.into());
                    time.map_or(DeliverPolicy::All, |start_time| {
                        DeliverPolicy::ByStartTime { start_time }
                    })
                }
                Begin::LastOfEach => DeliverPolicy::LastPerSubject,
            },
            ack_policy: AckPolicy::None,
            filter_subject: one,
            filter_subjects: several,
            headers_only: self.only_heads,
            inactive_threshold: INACTIVE,
            num_replicas: 1,
            memory_storage: true,
            ..Config::default()
        };
        let created = self.nats.stream.create_consumer(config);
        let created = self.nats.asked(created).await?;
        created.map_err(|error| ReadError::NoAnswer(text(&error)))
    }
}

/// Why a stream is not found.
pub(super) fn stream_error(error: &GetStreamError, name: &str) -> ReadError {
    match error.kind() {
        kind if is_missing(&kind) => ReadError::NoStream(name.to_owned()),
        GetStreamErrorKind::JetStream(error) if is_not_enabled(&error) => ReadError::NoJetStream,
        GetStreamErrorKind::JetStream(_) => ReadError::Refused(text(error)),
        _ if unanswered(error) == Some(Unanswered::NoResponders) => ReadError::NoJetStream,
        _ => ReadError::NoAnswer(text(error)),
    }
}

fn no_answer() -> String {
    format!("no answer within {} ms", ANSWER.as_millis())
}
