//! What the leader of a stream says of it, for a reader whose replica may lag: [`Nats::awaits`].

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_nats::datetime::{from_nanos, parse_rfc3339};
use async_nats::jetstream::consumer::pull::Config;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy};
use async_nats::jetstream::context::{GetStreamError, GetStreamErrorKind};
use async_nats::jetstream::stream::{ConsumerErrorKind, Info};
use async_nats::jetstream::{self, ErrorCode};
use serde_json::{Value, json};

use crate::advice::text;
use crate::check::is_not_enabled;
use crate::failure::{Unanswered, is_missing, unanswered};
use crate::nats::Nats;
use crate::reader::{Begin, ReadError};

/// How long a server keeps the consumer of a reader that is gone.
const INACTIVE: Duration = Duration::from_secs(60);
/// Pause until a consumer is removed again of which the cluster has not heard yet.
const REMOVAL_PAUSE: Duration = Duration::from_millis(50);

/// What servers answer that cannot do it at present.
const UNAVAILABLE: usize = 503;

/// A message of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct StoredAt {
    sequence: u64,
    /// When it was stored, in nanoseconds since 1970.
    published: u64,
}

impl Nats {
    /// The stream, as its leader sees it.
    pub(super) async fn led(&self) -> Result<Info, ReadError> {
        let found = self.asked(self.context.get_stream(&self.name)).await?;
        match found {
            Ok(stream) => Ok(stream.cached_info().clone()),
            Err(error) => Err(stream_error(&error, &self.name)),
        }
    }

    /// Whether the leader has messages of these subjects that a reader has not read which has got here.
    pub(super) async fn awaits(&self, filters: &[String], begin: Begin) -> Result<bool, ReadError> {
        for filter in filters {
            let last = self.stored(&json!({ "last_by_subj": filter })).await?;
            let awaits = match last {
                Some(it) => !begin.is_after(it.sequence, it.published),
                // nats-server 2.9 finds none after the last message of a subject was removed.
                None => self.has_from(filter, begin).await?,
            };
            if awaits {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether the leader has a message of a subject from there on. Searches for it, since the messages are in the order of their times.
    async fn has_from(&self, filter: &str, begin: Begin) -> Result<bool, ReadError> {
        let mut from = match begin {
            Begin::First | Begin::LastOfEach | Begin::Stored(_) => 1,
            Begin::Sequence(first) => first,
        };
        // No message has this number or a later one.
        let mut none = None;
        let mut at = from;
        loop {
            let next = json!({ "seq": at, "next_by_subj": filter });
            match self.stored(&next).await? {
                Some(it) if !begin.is_after(it.sequence, it.published) => return Ok(true),
                Some(it) => from = it.sequence.saturating_add(1),
                None => none = Some(at),
            }
            let end = match none {
                Some(end) => end,
                None => self.led().await?.state.last_sequence.saturating_add(1),
            };
            if end <= from {
                return Ok(false);
            }
            none = Some(end);
            at = from + (end - from) / 2;
        }
    }

    /// A message of a subject, which may have wildcards. Only the leader answers.
    async fn stored(&self, request: &Value) -> Result<Option<StoredAt>, ReadError> {
        let subject = format!("STREAM.MSG.GET.{}", self.name);
        let answer = self.context.request(subject, request);
        let answer: Value = match self.asked(answer).await? {
            Ok(answer) => answer,
            Err(error) if unanswered(&error) == Some(Unanswered::NoResponders) => {
                return Err(ReadError::NoJetStream);
            }
            Err(error) => return Err(ReadError::NoAnswer(text(&error))),
        };
        parse(&answer, &self.name)
    }

    /// Removes a consumer that was there a short time ago.
    ///
    /// # Cancellation
    /// It may be removed or not.
    pub(super) async fn remove_new(&self, name: &str) {
        loop {
            let removed = self.asked(self.stream.delete_consumer(name)).await;
            // The server that makes a consumer may say so before the one that removes it knows it.
            let is_unknown = matches!(removed, Ok(Err(error))
                if matches!(error.kind(), ConsumerErrorKind::JetStream(error)
                    if error.error_code() == ErrorCode::CONSUMER_NOT_FOUND));
            if !is_unknown {
                return;
            }
            tokio::time::sleep(REMOVAL_PAUSE).await;
        }
    }
}

impl Begin {
    /// Whether a message with this sequence number, stored at this time, is before it.
    pub(super) const fn is_after(self, sequence: u64, published: u64) -> bool {
        match self {
            Self::First | Self::LastOfEach => false,
            Self::Sequence(first) => sequence < first,
            Self::Stored(time) => published < time,
        }
    }

    /// Whether a message before it is after the last one of the stream.
    pub(super) const fn exceeds(self, last: u64) -> bool {
        matches!(self, Self::Sequence(next) if last < next.saturating_sub(1))
    }
}

fn parse(answer: &Value, stream: &str) -> Result<Option<StoredAt>, ReadError> {
    if let Some(error) = answer.get("error") {
        let error: Result<jetstream::Error, _> = serde_json::from_value(error.clone());
        return match error {
            Ok(error) if error.error_code() == ErrorCode::NO_MESSAGE_FOUND => Ok(None),
            Ok(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND => {
                Err(ReadError::NoStream(stream.to_owned()))
            }
            Ok(error) => Err(ReadError::NoAnswer(text(&error))),
            Err(error) => Err(ReadError::NoAnswer(error.to_string())),
        };
    }
    let message = &answer["message"];
    let sequence = message["seq"].as_u64();
    let sequence = sequence.ok_or_else(|| ReadError::NoAnswer(answer.to_string()))?;
    let time = message["time"].as_str().unwrap_or_default();
    let time = parse_rfc3339(time).map_err(|error| ReadError::NoAnswer(error.to_string()))?;
    let time = SystemTime::from(time).duration_since(UNIX_EPOCH);
    let time = time.unwrap_or_default().as_nanos();
    Ok(Some(StoredAt {
        sequence,
        published: u64::try_from(time).unwrap_or(u64::MAX),
    }))
}

/// A consumer that delivers these subjects from there on.
pub(super) fn consumer(filters: &[String], begin: Begin, only_heads: bool) -> Config {
    let (one, several) = match filters {
        // Servers before 2.10 know one filter only.
        [one] => (one.clone(), Vec::new()),
        several => (String::new(), several.to_vec()),
    };
    Config {
        description: Some("blocksd read".to_owned()),
        deliver_policy: match begin {
            Begin::First => DeliverPolicy::All,
            Begin::Sequence(sequence) => DeliverPolicy::ByStartSequence {
                start_sequence: sequence.max(1),
            },
            Begin::Stored(time) => {
                let time = from_nanos(time.into());
                time.map_or(DeliverPolicy::All, |start_time| {
                    DeliverPolicy::ByStartTime { start_time }
                })
            }
            Begin::LastOfEach => DeliverPolicy::LastPerSubject,
        },
        ack_policy: AckPolicy::None,
        filter_subject: one,
        filter_subjects: several,
        headers_only: only_heads,
        inactive_threshold: INACTIVE,
        num_replicas: 1,
        memory_storage: true,
        ..Config::default()
    }
}

/// Why a stream is not found.
pub(super) fn stream_error(error: &GetStreamError, name: &str) -> ReadError {
    match error.kind() {
        kind if is_missing(&kind) => ReadError::NoStream(name.to_owned()),
        GetStreamErrorKind::JetStream(error) if is_not_enabled(&error) => ReadError::NoJetStream,
        // The servers that run cannot elect a leader.
        GetStreamErrorKind::JetStream(answer) if answer.code() == UNAVAILABLE => {
            ReadError::NoAnswer(text(error))
        }
        GetStreamErrorKind::JetStream(_) => ReadError::Refused(text(error)),
        _ if unanswered(error) == Some(Unanswered::NoResponders) => ReadError::NoJetStream,
        _ => ReadError::NoAnswer(text(error)),
    }
}
