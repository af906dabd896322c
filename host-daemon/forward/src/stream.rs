//! What a forwarder needs of a stream: the trait [`Stream`], which [`Nats`](crate::Nats) implements.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;

use crate::check::{ALLOW_IT, CheckError};
use crate::message::Head;
use crate::place::{Instance, Place};

/// How long a request may take: the first of these, in which a cluster without a leader chooses a new one, or more on a slow way.
pub const TIMEOUTS: [Duration; 3] = [
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(15),
];

/// A stream that stores messages by subject, and refuses one that is not the next of its subject.
pub trait Stream: Send + Sync + 'static {
    /// Publishes a message, and waits until it is stored. Returns its sequence number.
    ///
    /// A message whose `expected` is not the sequence number of the last message of the subject must not be stored. `Ok` says that
    /// this call has stored it.
    ///
    /// # Errors
    /// [`PublishError`].
    fn publish(
        &self,
        subject: &str,
        message: &Outgoing,
    ) -> impl Future<Output = Result<u64, PublishError>> + Send;

    /// Finds the last message of a subject, as the leader of the stream knows it.
    ///
    /// # Errors
    /// [`StreamError`].
    fn last(&self, subject: &str)
    -> impl Future<Output = Result<Option<Last>, StreamError>> + Send;

    /// Finds out what the stream has at a sequence number.
    ///
    /// # Errors
    /// [`StreamError`], but not [`StreamError::Foreign`].
    fn at(&self, sequence: u64) -> impl Future<Output = Result<At, StreamError>> + Send;

    /// Finds the first message of a daemon in a subject that has this sequence number or a higher one.
    ///
    /// # Errors
    /// [`StreamError`], but not [`StreamError::Foreign`].
    fn next(
        &self,
        subject: &str,
        from: u64,
    ) -> impl Future<Output = Result<Option<Last>, StreamError>> + Send;

    /// Finds the message at a sequence number, if the stream has one of a daemon there.
    ///
    /// # Errors
    /// [`StreamError`], but not [`StreamError::Foreign`].
    fn message_at(
        &self,
        sequence: u64,
    ) -> impl Future<Output = Result<Option<Last>, StreamError>> + Send;

    /// Sets how long each later request may take: one of [`TIMEOUTS`], the first one at the beginning.
    fn set_timeout(&self, timeout: Duration);

    /// How long a new leader may answer without what the one before it had accepted. Zero if it has that before it answers.
    fn settling(&self) -> Duration;

    /// How often the way to the stream was interrupted so far. It grows before messages can be stored after an interruption.
    fn disruptions(&self) -> u64;

    /// Returns the extent of the stream, after it was checked that the stream can be used.
    ///
    /// # Errors
    /// [`StreamError`]. After [`StreamError::Unfit`], nothing is published until the extent is known again.
    fn extent(&self) -> impl Future<Output = Result<Extent, StreamError>> + Send;
}

/// A message of a subject, such as the last one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Last {
    /// Its sequence number in the stream.
    pub sequence: u64,
    /// Its headers.
    pub head: Head,
    /// The sequence number of the message before it in its subject; 0 if there was none, `None` if unknown.
    pub expected: Option<u64>,
    /// Length of the answer that shows it, in bytes.
    pub answer_len: usize,
}

impl Last {
    /// Where a recording has got to, as this message says.
    pub(crate) fn own(&self, instance: Instance) -> Option<Place> {
        match self.head.instance == instance {
            true => Some(self.head.place),
            false => self.head.seen.of(instance),
        }
    }
}

/// What a stream has at a sequence number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// Nothing: the message was removed, or never was there.
    Nothing,
    /// A forwarded message, with this [nonce](Head::nonce).
    Message(u64),
    /// A message of another program.
    Foreign,
}

/// A message to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Its headers.
    pub head: Head,
    /// The sequence number of the last message of the subject; 0 if there is none.
    pub expected: u64,
    /// The body.
    pub body: Bytes,
    /// Number of its identity; not 0 after the stream has taken it for a duplicate several times, and does not have it.
    pub identity: u32,
}

impl Outgoing {
    /// The identity in the window of duplicates.
    #[must_use]
    pub fn id(&self) -> String {
        match self.identity {
            0 => self.head.id(),
            count => format!("{}.{count}", self.head.id()),
        }
    }
}

/// The extent of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// When the stream was created, in nanoseconds since 1970. Another time is another stream.
    pub created: i128,
    /// The lowest sequence number of a message.
    pub first: u64,
    /// The highest sequence number that a message had.
    pub last: u64,
    /// Longest body of a message, in bytes.
    pub body_max: usize,
    /// The recordings that have forwarded events, as far as they are still there.
    pub writers: Writers,
}

/// The recordings that are forwarded to a stream. Each has events: of its start, and of each connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writers {
    /// None so far.
    None,
    /// This one.
    One(Instance),
    /// Several, or none that is known.
    Several,
}

impl Writers {
    /// Adds one.
    #[must_use]
    pub fn and(self, other: Option<Instance>) -> Self {
        match (self, other) {
            (Self::None, Some(other)) => Self::One(other),
            (Self::One(one), Some(other)) if one == other => self,
            _ => Self::Several,
        }
    }

    /// Whether there is no other one.
    #[must_use]
    pub fn are_only(self, instance: Instance) -> bool {
        matches!(self, Self::None) || self == Self::One(instance)
    }
}

/// Why a message was not acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The last message of the subject is another one. The message was not stored.
    #[error("another message is the last of the subject")]
    WrongLast,
    /// The stream has answered that it has a message of this identity. It may not have it: nats-server up to 2.10 also answers
    /// so if a leader had accepted the message, and lost its place before it was stored.
    #[error("the stream has, or may have, a message of this identity")]
    Duplicate,
    /// Whether the message was stored is not known, or it was refused for another reason.
    #[error(transparent)]
    Stream(#[from] StreamError),
}

/// A failure of the stream, or of the way to it.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// There was no answer in time.
    #[error(
        "no answer within {0} ms; check that the cluster can be reached, and that the stream has a leader"
    )]
    Timeout(u64),
    /// The cluster has no stream for the subject.
    #[error("no stream takes the subject at present: the stream was deleted, or elects a leader")]
    NoStream,
    /// The login lacks a permission.
    #[error("the login lacks a permission: {0}; {ALLOW_IT}")]
    Denied(String),
    /// The last message of the subject is not one of ours.
    #[error(
        "message {sequence} of {subject} was not published by blocksd ({malformed}); remove it with `nats stream rmm {stream} {sequence}`"
    )]
    Foreign {
        /// The name of the stream.
        stream: String,
        /// The subject.
        subject: String,
        /// The sequence number.
        sequence: u64,
        /// What is wrong with it.
        malformed: crate::message::Malformed,
    },
    /// The stream refuses the message.
    #[error("the stream refuses the message: {0}")]
    Refused(String),
    /// A server has no space for the message, or none for this account.
    #[error("{0}")]
    Full(String),
    /// The stream was changed, and cannot be used any more.
    #[error(transparent)]
    Unfit(CheckError),
    /// Any other failure.
    #[error("{0}")]
    Other(String),
}

impl StreamError {
    /// A short name for metrics.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Timeout(_) => "timeout",
            Self::NoStream | Self::Unfit(CheckError::NoStream(_) | CheckError::NotReplicated) => {
                "no_stream"
            }
            Self::Foreign { .. } => "foreign",
            Self::Denied(_) | Self::Refused(_) | Self::Full(_) | Self::Unfit(_) => "refused",
            Self::Other(_) => "other",
        }
    }
}
