//! A message of a stream as it is read, and why one, or the stream, cannot be read: [`Fetched`], [`Unreadable`], [`ReadError`].

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::check::NO_JETSTREAM;
use crate::connect::CHECK_LOGIN;
use crate::message::{Head, Malformed, Messages};

/// What to do if the login lacks a permission.
const ALLOW_READING: &str = "allow it, as the section \"Reading\" of docs/forwarding.md says";
/// How long a reader waits for messages that the leader of a stream has, in seconds.
pub(crate) const LAG_MAX_S: u64 = 30;

/// What a subject is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Topic {
    /// The messages of a device.
    Device(Arc<str>),
    /// The events of a daemon.
    Events,
}

/// A message of a stream whose headers and body are those of a forwarded message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Its sequence number in the stream.
    pub sequence: u64,
    /// When the server stored it, in nanoseconds since 1970.
    pub published: u64,
    /// Its subject.
    pub subject: String,
    /// What the subject is for.
    pub topic: Topic,
    /// Its headers. Of a long message, those of its last part.
    pub head: Head,
    /// Its body. Of a long message, all parts.
    pub body: Bytes,
}

/// Why a stream cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The servers, the credentials or the files cannot be used.
    #[error("{0}")]
    Connect(String),
    /// No server could be reached.
    #[error("no server can be reached: {0}; is the address right?")]
    Unreachable(String),
    /// The server refuses the client.
    #[error("the server refuses the login: {0}; {CHECK_LOGIN}")]
    Login(String),
    /// A request had no answer.
    #[error("the cluster does not answer: {0}{question}", question = question(.0))]
    NoAnswer(String),
    /// The servers have no JetStream.
    #[error("{NO_JETSTREAM}")]
    NoJetStream,
    /// The login lacks a permission.
    #[error("the login lacks a permission: {0}; {ALLOW_READING}")]
    Denied(String),
    /// It does not exist.
    #[error(
        "there is no stream `{0}`; `nats stream ls` lists them, and `stream=NAME` names another"
    )]
    NoStream(String),
    /// It was deleted and made again while it was read.
    #[error("the stream `{0}` was deleted and made again while it was read; read it again")]
    Replaced(String),
    /// It has lost messages that were read already.
    #[error(
        "the stream `{stream}` has lost messages that it had stored, as in a power failure of its servers: its message {sequence} is not \
         the one that was read; messages may be missing in what was read, or be there twice: read the stream again"
    )]
    Lost {
        /// The name of the stream.
        stream: String,
        /// The sequence number of the last message that was read.
        sequence: u64,
    },
    /// Its leader has messages that no server has delivered.
    #[error(
        "the stream `{0}` has more messages, which no server has delivered within {LAG_MAX_S} s; `nats stream info {0}` shows which \
         replica lags"
    )]
    Behind(String),
    /// The cluster refuses a consumer.
    #[error("the cluster refuses to read the stream: {0}")]
    Refused(String),
}

/// What to ask if the reason why there is no answer does not say what to do.
fn question(reason: &str) -> &'static str {
    match reason.contains("; ") {
        true => "",
        false => "; is JetStream enabled, and has the stream a leader?",
    }
}

/// A message of a stream that cannot be read, or several that were removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Its sequence number, or that of the first one.
    pub sequence: u64,
    /// Its subject.
    pub subject: String,
    /// Why.
    pub cause: UnreadableCause,
}

/// Why a message of a stream cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnreadableCause {
    /// The subject is neither that of a device nor that of events.
    #[error("the subject is not one of blocksd")]
    Subject,
    /// It is not a forwarded message.
    #[error(transparent)]
    Malformed(Malformed),
    /// The headers are longer than those of a forwarded message.
    #[error("the headers have {len} bytes, more than {max}; is this message from blocksd?")]
    Headers {
        /// Length of the names and values, in bytes.
        len: usize,
        /// The limit, in bytes.
        max: usize,
    },
    /// The connection breaks whenever the message is delivered: its headers cannot be parsed.
    #[error(
        "the connection breaks at it, so its headers are malformed; remove it with `nats stream rmm {stream} {sequence}`"
    )]
    Breaks {
        /// The name of the stream.
        stream: String,
        /// Its sequence number.
        sequence: u64,
    },
    /// Messages from there on were removed before they were read.
    #[error(
        "of the messages from there up to {last}, at least {count} were removed before they were read: by a limit of the stream, a purge, or one by one"
    )]
    Removed {
        /// The sequence number of the last one.
        last: u64,
        /// How many were removed, at least. The others up to the last one are not selected, or were read.
        count: u64,
    },
    /// Parts of a long message do not make a whole one.
    #[error("parts are missing or wrong: {have} of {len} bytes of a message")]
    Parts {
        /// Bytes that are there, or would be.
        have: u64,
        /// The length of the message, in bytes.
        len: u64,
    },
    /// The last parts of a long message are not in the stream yet.
    #[error("the message is not complete yet: {have} of {len} bytes are in the stream")]
    Unfinished {
        /// Bytes that are there.
        have: u64,
        /// The length of the message, in bytes.
        len: u64,
    },
    /// The first parts of a long message are not in the stream any more.
    #[error("the stream has not the first {offset} bytes of the message")]
    NoBeginning {
        /// The offset of the first part that is there, in bytes.
        offset: u64,
    },
    /// Parts of long messages exceed the memory for them.
    #[error("the unfinished long messages exceed {max} bytes")]
    TooLong {
        /// The limit, in bytes.
        max: usize,
    },
}

impl Unreadable {
    /// How many messages it stands for, at least.
    #[must_use]
    pub const fn count(&self) -> u64 {
        match self.cause {
            UnreadableCause::Removed { count, .. } => count,
            _ => 1,
        }
    }
}

impl Fetched {
    /// The messages in the body, which was checked.
    #[must_use]
    pub fn messages(&self) -> Messages<'_> {
        Messages::new(&self.head, &self.body)
    }
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            sequence,
            subject,
            cause,
        } = self;
        write!(f, "message {sequence} of {subject}: {cause}")
    }
}

impl std::error::Error for Unreadable {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.cause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_answer_has_one_advice() {
        let of = |reason: &str| ReadError::NoAnswer(reason.to_owned()).to_string();
        assert!(of("no answer within 5 s").ends_with("has the stream a leader?"));
        assert!(of("unavailable; start the others").ends_with("; start the others"));
    }
}
