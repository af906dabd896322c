//! A JetStream stream: [`Nats`].

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_nats::jetstream::context::{GetStreamErrorKind, PublishErrorKind};
use async_nats::jetstream::message::{PublishMessage, StreamMessage};
use async_nats::jetstream::publish::PublishAck;
use async_nats::jetstream::stream::{
    Config, LastRawMessageErrorKind, RawMessageErrorKind, Stream as StreamHandle,
};
use async_nats::jetstream::{self, Context};
use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event, HeaderMap};

use crate::check::{self, CheckError, Wish};
use crate::fetched::ReadError;
use crate::message::{Head, Malformed, name};
use crate::stream::{At, Extent, Last, Outgoing, PublishError, Stream, StreamError};

/// Longest time until a message is acknowledged. Without a leader, a cluster chooses a new one within this time.
const ACK_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a server is asked whether it is there. One that does not answer three times is left.
const PING: Duration = Duration::from_secs(5);
/// Longest pause between two attempts to connect.
const RECONNECT_MAX: Duration = Duration::from_secs(2);
/// Largest number of messages in flight that the client allows.
const IN_FLIGHT_MAX: usize = 4096;
/// What the headers of a message take at most, in bytes.
const HEAD_MAX: usize = 16 << 10;
/// Longest body of a message, in bytes: the size that a cluster stores fastest.
pub const BODY_MAX: usize = 256 << 10;

/// How to connect to a cluster.
#[derive(Clone, Debug, Default)]
pub struct NatsOptions {
    /// Addresses of servers, such as `nats://10.0.0.1:4222` or `tls://nats.example.org`.
    pub servers: Vec<String>,
    /// Name that the servers show.
    pub name: String,
    /// How to prove who this is.
    pub credentials: Credentials,
    /// A file with the certificates of the authorities that are trusted, in PEM, instead of those of the system.
    pub ca: Option<PathBuf>,
    /// Files with the certificate of this client and its key, in PEM.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// How to prove who this is.
#[derive(Clone, Default)]
pub enum Credentials {
    /// Nothing, or the certificate.
    #[default]
    None,
    /// User and password.
    User(String, String),
    /// A token.
    Token(String),
    /// The seed of an nkey.
    Nkey(String),
    /// The content of a file with a JWT and a seed.
    Jwt(String),
}

/// Only the kind, since logs must not show secrets.
impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::User(..) => "User",
            Self::Token(_) => "Token",
            Self::Nkey(_) => "Nkey",
            Self::Jwt(_) => "Jwt",
        })
    }
}

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
    disruptions: Arc<AtomicU64>,
}

/// Why a client could not be made.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConnectError(String);

impl From<String> for ConnectError {
    fn from(reason: String) -> Self {
        Self(reason)
    }
}

impl Nats {
    /// Makes a client, which connects in the background, and again after each interruption.
    ///
    /// # Errors
    /// If an address or the credentials cannot be used.
    pub async fn connect(options: &NatsOptions, stream: &str) -> Result<Self, ConnectError> {
        let disruptions = Arc::<AtomicU64>::default();
        let connect = connect_options(options, &disruptions)?.retry_on_initial_connect();
        let client = connect.connect(options.servers.clone()).await;
        let client = client.map_err(|error| ConnectError(text(&error)))?;
        Self::of(client, stream, disruptions).await
    }

    /// Connects to a server, and finds the stream.
    ///
    /// # Errors
    /// [`ReadError`], if no server can be reached, or there is no such stream.
    pub async fn open(options: &NatsOptions, stream: &str) -> Result<Self, ReadError> {
        let disruptions = Arc::<AtomicU64>::default();
        let failed = |error: ConnectError| ReadError::Connect(error.0);
        let connect = connect_options(options, &disruptions).map_err(failed)?;
        let client = connect.connect(options.servers.clone()).await;
        let client = client.map_err(|error| match error.kind() {
            ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
                ReadError::Login(text(&error))
            }
            ConnectErrorKind::ServerParse | ConnectErrorKind::Tls => {
                ReadError::Connect(text(&error))
            }
            _ => ReadError::Unreachable(text(&error)),
        })?;
        Self::of(client, stream, disruptions).await.map_err(failed)
    }

    async fn of(
        client: Client,
        stream: &str,
        disruptions: Arc<AtomicU64>,
    ) -> Result<Self, ConnectError> {
        let context = jetstream::context::ContextBuilder::new()
            .timeout(ACK_TIMEOUT)
            .ack_timeout(ACK_TIMEOUT)
            .max_ack_inflight(IN_FLIGHT_MAX)
            .build(client.clone());
        let handle = context.get_stream_no_info(stream).await;
        let handle = handle.map_err(|error| ConnectError(text(&error)))?;
        Ok(Self {
            client,
            context,
            stream: handle,
            name: stream.to_owned(),
            wish: Arc::default(),
            disruptions,
        })
    }

    /// Checks that the stream exists, and keeps what it acknowledges, which is checked again with each [`extent`](Stream::extent). Returns the longest body
    /// of a message, in bytes.
    ///
    /// # Errors
    /// [`CheckError`].
    pub async fn check(&self, wish: &Wish) -> Result<usize, CheckError> {
        let found = match self.context.get_stream(&wish.stream).await {
            Ok(stream) => Some(stream.cached_info().clone()),
            Err(error) if is_missing(&error.kind()) => None,
            Err(error) => return Err(CheckError::NoAnswer(text(&error))),
        };
        let info = match found {
            Some(info) => info,
            None if wish.create => {
                let created = self.context.create_stream(wish.config()).await;
                let created = created.map_err(|error| CheckError::NotCreated(text(&error)))?;
                created.cached_info().clone()
            }
            None => return Err(CheckError::NoStream(wish.command())),
        };
        let body_max = self.body_max(&info.config, wish)?;
        // One stream has one wish.
        let _ = self.wish.set(wish.clone());
        Ok(body_max)
    }

    /// The longest body of a message of a stream that can be used, in bytes.
    fn body_max(&self, config: &Config, wish: &Wish) -> Result<usize, CheckError> {
        check::check(config, wish)?;
        let server = self.client.server_info().max_payload;
        let stream = match usize::try_from(config.max_message_size) {
            Ok(max) if 0 < max => max,
            _ => usize::MAX,
        };
        let body_max = server.min(stream).saturating_sub(HEAD_MAX).min(BODY_MAX);
        match body_max {
            0 => Err(CheckError::TooShort(server.min(stream))),
            _ => Ok(body_max),
        }
    }
}

impl Stream for Nats {
    async fn publish(&self, subject: &str, message: &Outgoing) -> Result<u64, PublishError> {
        let mut headers = HeaderMap::new();
        headers.insert(name::ID, message.head.id());
        headers.insert(name::EXPECTED, message.expected.to_string());
        headers.insert(name::STREAM, &*self.name);
        for (name, value) in message.head.pairs() {
            headers.insert(name, value);
        }
        let publish = PublishMessage::build()
            .payload(message.body.clone())
            .headers(headers);
        let sent = self.context.send_publish(subject.to_owned(), publish).await;
        let acked = match sent {
            Ok(acked) => acked.await,
            Err(error) => Err(error),
        };
        let error = match acked {
            Ok(ack) => return stored(&ack, &self.name),
            Err(error) => error,
        };
        Err(match error.kind() {
            PublishErrorKind::WrongLastSequence => PublishError::WrongLast,
            PublishErrorKind::StreamNotFound => StreamError::NoStream.into(),
            PublishErrorKind::TimedOut => timeout().into(),
            PublishErrorKind::MaxPayloadExceeded => StreamError::Refused(text(&error)).into(),
            _ => StreamError::Other(text(&error)).into(),
        })
    }

    async fn last(&self, subject: &str) -> Result<Option<Last>, StreamError> {
        match self.stream.get_last_raw_message_by_subject(subject).await {
            Ok(message) => {
                let sequence = message.sequence;
                let head = head(&message).map_err(|malformed| StreamError::Foreign {
                    subject: subject.to_owned(),
                    sequence,
                    malformed,
                })?;
                Ok(Some(Last { sequence, head }))
            }
            Err(error) => match error.kind() {
                LastRawMessageErrorKind::NoMessageFound => Ok(None),
                _ => Err(StreamError::Other(text(&error))),
            },
        }
    }

    async fn at(&self, sequence: u64) -> Result<At, StreamError> {
        match self.stream.get_raw_message(sequence).await {
            Ok(message) => Ok(head(&message).map_or(At::Foreign, |head| At::Message(head.nonce))),
            Err(error) => match error.kind() {
                RawMessageErrorKind::NoMessageFound => Ok(At::Nothing),
                _ => Err(StreamError::Other(text(&error))),
            },
        }
    }

    async fn extent(&self) -> Result<Extent, StreamError> {
        let info = self.stream.get_info().await;
        let info = info.map_err(|error| StreamError::Other(text(&error)))?;
        let body_max = match self.wish.get() {
            Some(wish) => self.body_max(&info.config, wish),
            None => Ok(BODY_MAX),
        };
        Ok(Extent {
            created: info.created.unix_timestamp_nanos(),
            first: info.state.first_sequence,
            last: info.state.last_sequence,
            body_max: body_max.map_err(StreamError::Unfit)?,
        })
    }

    fn disruptions(&self) -> u64 {
        self.disruptions.load(Ordering::Relaxed)
    }
}

/// The sequence number at which a message was stored. Only the stream itself can say whether it has a duplicate.
fn stored(ack: &PublishAck, stream: &str) -> Result<u64, PublishError> {
    match ack.duplicate {
        _ if ack.stream != stream => Err(StreamError::NoStream.into()),
        true => Err(PublishError::Duplicate),
        false => Ok(ack.sequence),
    }
}

/// How a client connects. Disconnections are counted.
fn connect_options(
    options: &NatsOptions,
    disruptions: &Arc<AtomicU64>,
) -> Result<ConnectOptions, ConnectError> {
    let counted = Arc::clone(disruptions);
    let mut connect = ConnectOptions::new()
        .name(&options.name)
        .max_reconnects(None)
        .ping_interval(PING)
        .reconnect_delay_callback(|attempts| {
            let millis = 50 << attempts.min(10);
            Duration::from_millis(millis).min(RECONNECT_MAX)
        })
        .event_callback(move |event| {
            if matches!(event, Event::Disconnected) {
                counted.fetch_add(1, Ordering::Relaxed);
            }
            tracing::debug!("nats: {event}");
            async {}
        });
    connect = match &options.credentials {
        Credentials::None => connect,
        Credentials::User(user, password) => {
            connect.user_and_password(user.clone(), password.clone())
        }
        Credentials::Token(token) => connect.token(token.clone()),
        Credentials::Nkey(seed) => connect.nkey(seed.clone()),
        Credentials::Jwt(file) => {
            let with = connect.credentials(file);
            with.map_err(|error| ConnectError(format!("credentials: {error}")))?
        }
    };
    if let Some(ca) = &options.ca {
        connect = connect.add_root_certificates(ca.clone()).require_tls(true);
    }
    if let Some((cert, key)) = &options.identity {
        connect = connect.add_client_certificate(cert.clone(), key.clone());
    }
    Ok(connect)
}

fn head(message: &StreamMessage) -> Result<Head, Malformed> {
    Head::parse(|name| Some(message.headers.get(name)?.as_str()))
}

pub(crate) fn is_missing(kind: &GetStreamErrorKind) -> bool {
    matches!(kind, GetStreamErrorKind::JetStream(error) if error.code() == 404)
}

fn timeout() -> StreamError {
    StreamError::Timeout(ACK_TIMEOUT.as_millis() as u64)
}

/// An error and its causes, on one line.
pub(crate) fn text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_stored_by_this_call_is_believed() {
        let ack = |duplicate| PublishAck {
            stream: "blocksd".to_owned(),
            sequence: 7,
            domain: String::new(),
            duplicate,
            value: None,
        };
        assert!(matches!(stored(&ack(false), "blocksd"), Ok(7)));
        let refused = stored(&ack(true), "blocksd");
        assert!(matches!(refused, Err(PublishError::Duplicate)));
        assert!(stored(&ack(false), "other").is_err());
    }
}
