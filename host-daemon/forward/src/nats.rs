//! A JetStream stream: [`Nats`].

mod acked;
mod ended;
mod patience;
mod reading;
mod version;
mod writers;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream::context::{CreateStreamErrorKind, GetStreamErrorKind, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::response::Response;
use async_nats::jetstream::stream::{Config, Info, RawMessage, Stream as StreamHandle};
use async_nats::jetstream::{Context, ErrorCode};
use async_nats::{Client, HeaderMap};
use serde_json::{Value, json};

use self::acked::{is_wrong_last, stored};
use self::patience::Patience;
use self::version::is_before;
use self::writers::listed;
use crate::advice::text;
use crate::check::{self, CheckError, Wish};
use crate::connect::{self, ConnectError, ConnectionState, NatsOptions};
use crate::failure::{
    Unanswered, is_deleted, is_missing, other_failure, stream_failure, timeout, unanswered,
};
use crate::message::name;
use crate::raw::{self, head};
use crate::stream::{
    At, Extent, Last, Outgoing, PublishError, Stream, StreamError, TIMEOUTS, Writers,
};
use crate::subject::EVENTS;

/// What the headers of a message take at most, in bytes.
const HEAD_MAX: usize = 16 << 10;
/// From this version on, a leader has applied what the one before it had accepted before it answers.
const LEADERS_SETTLE: (u64, u64) = (2, 11);
/// Time within which an earlier one has.
const SETTLING: Duration = Duration::from_secs(2);
/// How long a stream must be missing until it is made again.
const MISSING: Duration = Duration::from_secs(2);
/// How far after the last known number a stream that is made again begins: no message that is on its way to the deleted one names a
/// number of the new one. Servers before 2.10 begin at 1.
const AHEAD: u64 = 1 << 24;
/// The shortest limit of a message, in bytes: with less, the headers would be most of the stream.
const MESSAGE_MIN: usize = 32 << 10;
/// Longest body of a message, in bytes: the size that a cluster stores fastest.
pub const BODY_MAX: usize = 256 << 10;

/// A stream of a cluster.
#[derive(Clone, Debug)]
pub struct Nats {
    client: Client,
    pub(crate) context: Context,
    pub(crate) stream: StreamHandle<()>,
    /// The name of the stream.
    pub(crate) name: String,
    /// What the stream must be.
    wish: Arc<OnceLock<Wish>>,
    options: NatsOptions,
    state: Arc<ConnectionState>,
    /// How long requests of a forwarder may take.
    patience: Arc<Patience>,
    /// The stream was found to be missing, and is not made again.
    is_missing: Arc<AtomicBool>,
    /// The highest sequence number that the stream is known to have had.
    last: Arc<AtomicU64>,
    /// Taken while the stream is made again.
    making: Arc<tokio::sync::Mutex<()>>,
}

impl Nats {
    /// Connects to a server. The client connects again after each interruption.
    ///
    /// # Errors
    /// If the options cannot be used, or no server accepts the connection.
    pub async fn connect(options: &NatsOptions, stream: &str) -> Result<Self, ConnectError> {
        Self::with_timeouts(options, stream, TIMEOUTS).await
    }

    async fn with_timeouts(
        options: &NatsOptions,
        stream: &str,
        timeouts: [Duration; TIMEOUTS.len()],
    ) -> Result<Self, ConnectError> {
        let (client, state) = connect::connect(options).await?;
        let patience = Patience::new(&client, timeouts);
        let context = patience.first().context.clone();
        let handle = context.get_stream_no_info(stream).await;
        let handle = handle.map_err(|error| ConnectError::Options(text(&error)))?;
        Ok(Self {
            client,
            context,
            stream: handle,
            name: stream.to_owned(),
            wish: Arc::default(),
            options: options.clone(),
            state,
            patience: Arc::new(patience),
            is_missing: Arc::default(),
            last: Arc::default(),
            making: Arc::default(),
        })
    }

    /// Why no server accepts the connection, if it is interrupted.
    pub async fn trouble(&self) -> Option<String> {
        if self.client.connection_state() == State::Connected {
            return None;
        }
        let connected = connect::connect(&self.options).await;
        connected.err().map(|error| error.to_string())
    }

    /// Whether the login lacks the permission to get answers: none has arrived since a server has refused it. The permission has no effect
    /// before the next [connection](Self::reconnect).
    #[must_use]
    pub fn lacks_answers(&self) -> bool {
        self.state.answers_denied().is_some()
    }

    /// How long a request of a forwarder may take now. It is longer over a slow way.
    #[must_use]
    pub fn request_timeout(&self) -> Duration {
        self.patience.used().timeout
    }

    /// Connects again, perhaps to another server. Use it if a server that is connected answers nothing: it may be cut off from the
    /// others, or may have dropped the subscription for answers.
    ///
    /// # Cancellation
    /// Nothing is lost. Requests without an answer are repeated.
    pub async fn reconnect(&self) {
        // It fails only if the client has [ended](Self::has_ended).
        let _ = self.client.force_reconnect().await;
    }

    /// Waits for the answer to a request in a subject, or for the refusal of a permission that it needs.
    async fn permitted<T>(
        &self,
        subject: &str,
        request: impl Future<Output = T>,
    ) -> Result<T, StreamError> {
        tokio::select! {
            biased;
            answer = request => Ok(answer),
            denied = self.state.next_denied_in(subject) => Err(StreamError::Denied(denied)),
        }
    }

    /// Why a request has no answer in time.
    fn timeout(&self) -> StreamError {
        let timed_out = timeout(self.patience.used().timeout);
        let denied = self.state.answers_denied();
        denied.map_or(timed_out, StreamError::Denied)
    }

    /// Why a request has failed.
    fn failure(&self, error: &(dyn std::error::Error + 'static)) -> StreamError {
        match stream_failure(error) {
            StreamError::Timeout(_) => self.timeout(),
            StreamError::NoStream => self.no_stream(),
            other => other,
        }
    }

    /// There is no stream, as far as a server knows.
    fn no_stream(&self) -> StreamError {
        match self.wish.get() {
            Some(wish) if self.is_missing.load(Ordering::Relaxed) => {
                StreamError::Unfit(wish.missing(self.is_single()))
            }
            _ => StreamError::NoStream,
        }
    }

    /// Checks that the stream exists, and keeps what it acknowledges, which is checked again with each [`extent`](Stream::extent). One
    /// that is missing is made if that is wanted, here and there.
    ///
    /// # Errors
    /// [`CheckError`].
    pub async fn check(&self, wish: &Wish) -> Result<(), CheckError> {
        let info = self.permitted_info(wish).await?;
        self.body_max_now(&info.config, wish).await?;
        // One stream has one wish.
        let _ = self.wish.set(wish.clone());
        Ok(())
    }

    /// As [`info`](Self::info), or the permission that it lacks.
    async fn permitted_info(&self, wish: &Wish) -> Result<Info, CheckError> {
        let info = tokio::select! {
            biased;
            info = self.info(wish) => info,
            denied = self.state.next_denied() => return Err(CheckError::Denied(denied)),
        };
        match (info, self.state.answers_denied()) {
            (Err(CheckError::NoAnswer(_)), Some(denied)) => Err(CheckError::Denied(denied)),
            (info, _) => info,
        }
    }

    /// The stream was there, and a server says that it is not there any more. Makes it again if that is wanted.
    async fn made_again(&self) -> Result<Info, StreamError> {
        let Some(wish) = self.wish.get() else {
            return Err(StreamError::NoStream);
        };
        // Without `create`, this is the error of the start.
        self.is_missing.store(!wish.create, Ordering::Relaxed);
        let Ok(_making) = self.making.try_lock() else {
            return Err(StreamError::NoStream);
        };
        if wish.create {
            // A leader that has just been elected may know of the stream a moment later.
            tokio::time::sleep(MISSING).await;
        }
        let info = self.permitted_info(wish).await;
        let info = info.map_err(|error| match error {
            CheckError::Denied(denied) => StreamError::Denied(denied),
            error if error.is_final() => StreamError::Unfit(error),
            error => StreamError::Other(error.to_string()),
        })?;
        if wish.create {
            let servers = self.options.servers.join(",");
            let name = &self.name;
            tracing::warn!(
                "forward to {servers} stream={name}: the stream was deleted, and is there again (`create=true`)"
            );
        }
        Ok(info)
    }

    /// The message that a request names, by its sequence number or as the last one of a subject. Only the leader answers.
    async fn message(&self, request: &Value) -> Result<Option<RawMessage>, StreamError> {
        let api = format!("STREAM.MSG.GET.{}", self.name);
        let context = &self.patience.used().context;
        let asked = context.request(api.clone(), request);
        let answer = self.permitted(&format!("$JS.API.{api}"), asked).await?;
        let answer = answer.map_err(|error| self.failure(&error))?;
        raw::found(answer).map_err(|error| self.failure(&*error))
    }

    /// The longest body of a message of a stream that can be used, in bytes. The client learns only at the begin of a connection how long a
    /// message may be: if that is too short, a new one is asked, and the client connects again. What the stream has is asked again after that.
    async fn body_max_now(&self, config: &Config, wish: &Wish) -> Result<usize, CheckError> {
        check::check(config, wish, self.is_single())?;
        let known = body_max(config, wish, &self.client);
        if !matches!(known, Err(CheckError::ServerTooShort { .. })) {
            return known;
        }
        let fresh = connect::connect(&self.options);
        if let Ok(Ok((fresh, _))) = tokio::time::timeout(connect::GREETING_TIMEOUT, fresh).await {
            body_max(config, wish, &fresh)?;
            if body_max(config, wish, &self.client).is_err() {
                self.reconnect().await;
            }
        }
        known
    }

    /// Whether the server has streams, and is in no cluster.
    fn is_single(&self) -> bool {
        let server = self.client.server_info();
        server.jetstream && server.cluster.is_none()
    }

    /// The stream was made. Logs that.
    fn made(&self, config: &Config) {
        let (servers, name) = (self.options.servers.join(","), &self.name);
        let (replicas, subjects) = (config.num_replicas, config.subjects.join(", "));
        tracing::info!(
            "forward to {servers} stream={name}: made the stream (`create=true`): replicas={replicas} \
             subjects={subjects}"
        );
    }

    /// The stream, which is made if that is wanted.
    async fn info(&self, wish: &Wish) -> Result<Info, CheckError> {
        let error = match self.context.get_stream(&wish.stream).await {
            Ok(stream) => return Ok(stream.cached_info().clone()),
            Err(error) => error,
        };
        match error.kind() {
            kind if is_missing(&kind) => {}
            GetStreamErrorKind::JetStream(error) if check::is_not_enabled(&error) => {
                return Err(CheckError::NoJetStream);
            }
            _ => return Err(no_answer(&error)),
        }
        let wanted = wish.subjects.all();
        if !wish.create {
            return Err(match self.context.stream_by_subject(wanted.clone()).await {
                Ok(other) => CheckError::Taken {
                    stream: wish.stream.clone(),
                    wanted,
                    other,
                },
                Err(_) => wish.missing(self.is_single()),
            });
        }
        let mut config = wish.config();
        let last = self.last.load(Ordering::Relaxed);
        config.first_sequence = (last != 0).then(|| last.saturating_add(AHEAD));
        let error = match self.context.create_stream(config).await {
            Ok(created) => {
                let info = created.cached_info().clone();
                self.made(&info.config);
                return Ok(info);
            }
            Err(error) => error,
        };
        Err(match error.kind() {
            CreateStreamErrorKind::TimedOut => no_answer(&error),
            CreateStreamErrorKind::JetStream(error) => {
                // Another daemon has made it meanwhile, with other settings.
                let exists = error.error_code() == ErrorCode::STREAM_NAME_EXIST;
                if exists && let Ok(made) = self.context.get_stream(&wish.stream).await {
                    return Ok(made.cached_info().clone());
                }
                let found = self.context.stream_by_subject(wanted).await;
                check::not_created(&error, wish, found.ok())
            }
            _ => CheckError::NotCreated(text(&error)),
        })
    }
}

/// The longest body of a message that a server and a stream take, in bytes.
fn body_max(config: &Config, wish: &Wish, client: &Client) -> Result<usize, CheckError> {
    let server = client.server_info().max_payload;
    let stream = match usize::try_from(config.max_message_size) {
        Ok(max) if 0 < max => max,
        _ => usize::MAX,
    };
    let max = server.min(stream);
    match max < MESSAGE_MIN {
        true if server < stream => Err(CheckError::ServerTooShort {
            max,
            min: MESSAGE_MIN,
        }),
        true => Err(CheckError::TooShort {
            stream: wish.stream.clone(),
            max,
            min: MESSAGE_MIN,
        }),
        false => Ok((max - HEAD_MAX).min(BODY_MAX)),
    }
}

fn no_answer(error: &(dyn std::error::Error + 'static)) -> CheckError {
    match unanswered(error) {
        Some(Unanswered::NoResponders) => CheckError::NoJetStream,
        Some(Unanswered::TimedOut) => CheckError::NoAnswer(timeout(TIMEOUTS[0]).to_string()),
        None => CheckError::NoAnswer(text(error)),
    }
}

impl Stream for Nats {
    async fn publish(&self, subject: &str, message: &Outgoing) -> Result<u64, PublishError> {
        let mut headers = HeaderMap::new();
        // Two sites of one stream may get the same recording.
        let site = subject.split('.').nth(1).unwrap_or_default();
        headers.insert(name::ID, format!("{}.{site}", message.id()));
        headers.insert(name::EXPECTED, message.expected.to_string());
        headers.insert(name::STREAM, &*self.name);
        for (name, value) in message.head.pairs() {
            headers.insert(name, value);
        }
        let publish = PublishMessage::build()
            .payload(message.body.clone())
            .headers(headers);
        let context = &self.patience.used().context;
        let acked = async {
            let sent = context.send_publish(subject.to_owned(), publish).await;
            sent?.await
        };
        let error = match self.permitted(subject, acked).await? {
            Ok(ack) => {
                self.state.answered();
                self.last.fetch_max(ack.sequence, Ordering::Relaxed);
                return stored(&ack, &self.name);
            }
            Err(error) => error,
        };
        Err(match error.kind() {
            PublishErrorKind::WrongLastSequence => PublishError::WrongLast,
            PublishErrorKind::Other if is_wrong_last(&error) => PublishError::WrongLast,
            PublishErrorKind::StreamNotFound => self.no_stream().into(),
            PublishErrorKind::TimedOut => self.timeout().into(),
            PublishErrorKind::MaxPayloadExceeded => StreamError::Refused(text(&error)).into(),
            _ => other_failure(&error).into(),
        })
    }

    async fn last(&self, subject: &str) -> Result<Option<Last>, StreamError> {
        let found = self.message(&json!({ "last_by_subj": subject })).await?;
        let Some(message) = found else {
            return Ok(None);
        };
        self.state.answered();
        let sequence = message.sequence;
        let last = raw::last(message).map_err(|malformed| StreamError::Foreign {
            stream: self.name.clone(),
            subject: subject.to_owned(),
            sequence,
            malformed,
        })?;
        Ok(Some(last))
    }

    async fn next(&self, subject: &str, mut from: u64) -> Result<Option<Last>, StreamError> {
        loop {
            let request = json!({ "seq": from, "next_by_subj": subject });
            let Some(message) = self.message(&request).await? else {
                return Ok(None);
            };
            from = message.sequence.saturating_add(1);
            if let Ok(next) = raw::last(message) {
                return Ok(Some(next));
            }
        }
    }

    async fn message_at(&self, sequence: u64) -> Result<Option<Last>, StreamError> {
        let found = self.message(&json!({ "seq": sequence })).await?;
        Ok(found.and_then(|message| raw::last(message).ok()))
    }

    async fn at(&self, sequence: u64) -> Result<At, StreamError> {
        let found = self.message(&json!({ "seq": sequence })).await?;
        Ok(found.map_or(At::Nothing, |message| {
            head(message).map_or(At::Foreign, |head| At::Message(head.nonce))
        }))
    }

    async fn extent(&self) -> Result<Extent, StreamError> {
        let api = format!("STREAM.INFO.{}", self.name);
        let filter = json!({ "subjects_filter": EVENTS });
        let asked = self.patience.used().context.request(api.clone(), &filter);
        let asked = self.permitted(&format!("$JS.API.{api}"), asked).await?;
        let (info, writers) = match asked.map_err(|error| self.failure(&error))? {
            Response::Ok(answer) => listed(answer).map_err(|error| self.failure(&error))?,
            Response::Err { error } if is_deleted(&error) => {
                (self.made_again().await?, Writers::Several)
            }
            Response::Err { error } => return Err(self.failure(&error)),
        };
        self.state.answered();
        self.is_missing.store(false, Ordering::Relaxed);
        let last = info.state.last_sequence;
        self.last.fetch_max(last, Ordering::Relaxed);
        let body_max = match self.wish.get() {
            Some(wish) => self.body_max_now(&info.config, wish).await,
            None => Ok(BODY_MAX),
        };
        Ok(Extent {
            created: info.created.unix_timestamp_nanos(),
            first: info.state.first_sequence,
            last: info.state.last_sequence,
            body_max: body_max.map_err(StreamError::Unfit)?,
            writers,
        })
    }

    fn set_timeout(&self, timeout: Duration) {
        self.patience.set(timeout);
    }

    fn settling(&self) -> Duration {
        let version = self.client.server_info().version;
        match is_before(&version, LEADERS_SETTLE) {
            true => SETTLING,
            false => Duration::ZERO,
        }
    }

    fn disruptions(&self) -> u64 {
        self.state.disruptions()
    }
}
