//! Whether a stream keeps what it acknowledges: [`check`]. Start with [`Wish`].

use std::time::Duration;

use async_nats::jetstream::stream::{
    Config, DiscardPolicy, PersistenceMode, RetentionPolicy, StorageType,
};
use async_nats::jetstream::{self, ErrorCode};

use crate::advice::text;
use crate::subject::Subjects;

/// What it means that no server takes requests of JetStream.
pub(crate) const NO_JETSTREAM: &str = "no server answers requests of JetStream; enable it (`jetstream {}` in the configuration of the \
                                       servers) for this account, and wait until the cluster has a leader";
/// What to do if the login lacks a permission.
pub(crate) const ALLOW_IT: &str =
    "allow it, as the section \"Permissions\" of docs/forwarding.md says";
/// Copies of each message in a stream that survives the loss of a server.
const REPLICAS: usize = 3;
/// What to do if the server is in no cluster.
const SINGLE: &str = "one server cannot have 3 replicas; use a cluster of 3 servers";
/// Longest message of a stream that this crate makes, in bytes.
const MESSAGE_MAX: i32 = 1 << 20;
/// How long a stream that this crate makes recognises duplicates. Longer outages are bridged by the sequence numbers.
const WINDOW: Duration = Duration::from_secs(120);

/// Smallest limit of bytes of a stream. Less may be on its way at one moment, so that the stream would delete messages before the
/// daemon knows that they are stored.
const BYTES_MIN: i64 = 64 << 20;
/// Smallest limit of messages of a stream, for the same reason.
const MESSAGES_MIN: i64 = 10_000;
/// Shortest time that a stream must keep a message.
const AGE_MIN: Duration = Duration::from_secs(600);

/// The option of `nats stream edit` that opens the configuration in an editor. The command then takes no other options.
const IN_EDITOR: &str = "--interactive";

/// The stream that a forwarder needs.
#[derive(Clone, Debug)]
pub struct Wish {
    /// Its name.
    pub stream: String,
    /// Its subjects.
    pub subjects: Subjects,
    /// Whether it must survive the loss of a server.
    pub durable: bool,
    /// Whether to make it if it does not exist.
    pub create: bool,
}

/// Why a stream cannot be used. Hints have a form that the command line and a config file take.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    /// There was no answer.
    #[error("the cluster does not answer: {0}")]
    NoAnswer(String),
    /// The servers have no JetStream.
    #[error("{NO_JETSTREAM}")]
    NoJetStream,
    /// The login lacks a permission.
    #[error("the login lacks a permission: {0}; {ALLOW_IT}")]
    Denied(String),
    /// It does not exist.
    #[error(
        "the stream does not exist; make it with `{0}`, or let blocksd make it (`create=true`)"
    )]
    NoStream(String),
    /// It does not exist, and another stream takes its subjects.
    #[error(
        "the stream `{stream}` does not exist, and the stream `{other}` takes subjects of {wanted}, which only one stream can; use that one \
         (`stream={other}`), or change its subjects"
    )]
    Taken {
        /// The stream.
        stream: String,
        /// The subjects.
        wanted: String,
        /// The other stream.
        other: String,
    },
    /// It could not be made.
    #[error("the stream could not be made: {0}")]
    NotCreated(String),
    /// It does not exist, and cannot be made as it must be, since there are not enough servers.
    #[error("the stream does not exist, and {SINGLE}, or accept one replica (`durable=false`)")]
    NotReplicated,
    /// It does not take the subjects.
    #[error(
        "the stream does not take the subjects {wanted}; it takes {found}; name another one (`stream=`) or another `site`, or change \
         its subjects (`nats stream edit {stream} --subjects '{}'`)",
        with(.found, .wanted)
    )]
    Subjects {
        /// The stream.
        stream: String,
        /// The wildcard that it must contain.
        wanted: String,
        /// What it takes.
        found: String,
    },
    /// It may lose what it has acknowledged.
    #[error("the stream is not durable: {reasons}; {remedy}, or accept that (`durable=false`)")]
    NotDurable {
        /// Why, in words.
        reasons: String,
        /// What to do.
        remedy: String,
    },
    /// It cannot be used, whatever is accepted.
    #[error("the stream cannot be used: {reasons}; {remedy}")]
    Unusable {
        /// Why, in words.
        reasons: String,
        /// What to do.
        remedy: String,
    },
    /// Its messages are too short.
    #[error(
        "the stream takes messages of at most {max} bytes: set its `max_msg_size` to {min} or more, or remove it \
         (`nats stream edit {stream} --max-msg-size=-1`)"
    )]
    TooShort {
        /// The stream.
        stream: String,
        /// Longest message, in bytes.
        max: usize,
        /// What is needed, in bytes.
        min: usize,
    },
    /// The messages of the server are too short.
    #[error(
        "the server takes messages of at most {max} bytes: set its `max_payload` to {min} or more; the default is 1 MiB"
    )]
    ServerTooShort {
        /// Longest message, in bytes.
        max: usize,
        /// What is needed, in bytes.
        min: usize,
    },
}

impl CheckError {
    /// Whether the cluster has answered, and the stream or its absence is the reason. If not, the same stream may be usable as soon as
    /// the cluster answers.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        !matches!(
            self,
            Self::NoAnswer(_) | Self::NoJetStream | Self::Denied(_)
        )
    }
}

impl Wish {
    /// The command that makes the stream.
    #[must_use]
    pub fn command(&self) -> String {
        self.command_with(self.replicas())
    }

    fn replicas(&self) -> usize {
        if self.durable { REPLICAS } else { 1 }
    }

    /// What to do about a stream that does not exist.
    pub(crate) fn missing(&self, is_single: bool) -> CheckError {
        match is_single && self.durable {
            true => CheckError::NotReplicated,
            false => CheckError::NoStream(self.command()),
        }
    }

    fn command_with(&self, replicas: usize) -> String {
        format!(
            "nats stream add {} --subjects '{}' --storage file --replicas {replicas} --retention limits --discard old \
             --max-msg-size {MESSAGE_MAX} --dupe-window {}s --allow-direct --defaults",
            self.stream,
            self.subjects.all(),
            WINDOW.as_secs()
        )
    }

    /// The same as a configuration.
    pub(crate) fn config(&self) -> Config {
        Config {
            name: self.stream.clone(),
            subjects: vec![self.subjects.all()],
            storage: StorageType::File,
            num_replicas: self.replicas(),
            retention: RetentionPolicy::Limits,
            discard: DiscardPolicy::Old,
            max_message_size: MESSAGE_MAX,
            duplicate_window: WINDOW,
            allow_direct: true,
            ..Config::default()
        }
    }
}

/// Checks the configuration of a stream. A single server makes no replicas.
///
/// # Errors
/// [`CheckError`].
pub(crate) fn check(config: &Config, wish: &Wish, is_single: bool) -> Result<(), CheckError> {
    let command = match is_single {
        true => wish.command_with(1),
        false => wish.command(),
    };
    if let Some((reasons, remedy)) = refusal(&unusable(config), wish, &command) {
        return Err(CheckError::Unusable { reasons, remedy });
    }
    let wanted = wish.subjects.all();
    if !config
        .subjects
        .iter()
        .any(|subject| covers(subject, &wanted))
    {
        return Err(CheckError::Subjects {
            stream: wish.stream.clone(),
            wanted,
            found: config.subjects.join(","),
        });
    }
    match refusal(&weak(config), wish, &command).filter(|_| wish.durable) {
        Some((reasons, remedy)) => Err(CheckError::NotDurable {
            reasons,
            remedy: match is_single {
                true => SINGLE.to_owned(),
                false => remedy,
            },
        }),
        None => Ok(()),
    }
}

/// A setting of a stream: whether it is wrong, why, and the options of `nats stream edit` that mend it, if any do.
type Setting = (bool, &'static str, Option<&'static str>);

/// All reasons that apply, and what to do. The command makes another stream.
fn refusal(settings: &[Setting], wish: &Wish, command: &str) -> Option<(String, String)> {
    let wrong = settings.iter().filter(|(is_wrong, ..)| *is_wrong);
    let reasons: Vec<_> = wrong.clone().map(|(_, reason, _)| *reason).collect();
    if reasons.is_empty() {
        return None;
    }
    let options: Option<Vec<_>> = wrong.map(|(.., options)| *options).collect();
    let remedy = match options {
        Some(options) if options.contains(&IN_EDITOR) => format!(
            "change that in the editor of `nats stream edit {} {IN_EDITOR}`",
            wish.stream
        ),
        Some(options) => format!(
            "change it with `nats stream edit {} {}`",
            wish.stream,
            options.join(" ")
        ),
        None => format!(
            "remove it with its messages (`nats stream rm {}`), and make another one with `{command}`",
            wish.stream
        ),
    };
    Some((reasons.join(", "), remedy))
}

/// What lets a stream lose what it has acknowledged.
fn weak(config: &Config) -> [Setting; 3] {
    [
        (
            config.storage == StorageType::Memory,
            "it is kept in memory",
            None,
        ),
        (
            config.num_replicas < REPLICAS,
            "it has less than three replicas",
            Some("--replicas 3"),
        ),
        (
            config.persist_mode == Some(PersistenceMode::Async),
            "it acknowledges messages before they are stored",
            None,
        ),
    ]
}

/// What makes a stream unusable.
fn unusable(config: &Config) -> [Setting; 13] {
    let is_below = |limit: i64, min: i64| 0 < limit && limit < min;
    [
        (
            config.no_ack,
            "it does not acknowledge messages (`no_ack`)",
            Some("--ack"),
        ),
        (config.sealed, "it is sealed", None),
        (config.mirror.is_some(), "it is a mirror", None),
        (
            config.sources.as_ref().is_some_and(|it| !it.is_empty()),
            "it copies messages of other streams among those of the daemons (`sources`)",
            Some(IN_EDITOR),
        ),
        (
            config.subject_transform.is_some(),
            "it changes subjects (`subject_transform`)",
            Some("--no-transform"),
        ),
        (
            config.retention != RetentionPolicy::Limits,
            "it deletes messages that were consumed (its `retention` is not `limits`)",
            // Servers refuse to change `workqueue`.
            (config.retention != RetentionPolicy::WorkQueue).then_some("--retention limits"),
        ),
        (
            config.discard == DiscardPolicy::New,
            "it refuses messages at its limit (its `discard` is `new`)",
            Some("--discard old"),
        ),
        (
            0 < config.max_messages_per_subject,
            "it deletes messages of a device beyond a number, and the daemon would send them again (`max_msgs_per_subject`)",
            Some("--max-msgs-per-subject=-1"),
        ),
        (
            is_below(config.max_bytes, BYTES_MIN),
            "it deletes messages while others are on their way (its `max_bytes` is less than 64 MiB)",
            Some("--max-bytes=67108864"),
        ),
        (
            is_below(config.max_messages, MESSAGES_MIN),
            "it deletes messages while others are on their way (its `max_msgs` is less than 10,000)",
            Some("--max-msgs=10000"),
        ),
        (
            config.max_age != Duration::ZERO && config.max_age < AGE_MIN,
            "it deletes messages before an outage has ended (its `max_age` is less than 10 minutes)",
            Some("--max-age=10m"),
        ),
        (
            config
                .subject_delete_marker_ttl
                .is_some_and(|it| it != Duration::ZERO),
            "it puts marks into the subject of a device when messages expire (`subject_delete_marker_ttl`)",
            Some("--subject-del-markers-ttl=0s"),
        ),
        (
            config.allow_message_counter,
            "it takes counters only (`allow_msg_counter`)",
            None,
        ),
    ]
}

/// Whether an error says that the servers, or the account, have no JetStream.
pub(crate) fn is_not_enabled(error: &jetstream::Error) -> bool {
    let codes = [
        ErrorCode::JETSTREAM_NOT_ENABLED,
        ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT,
    ];
    codes.contains(&error.error_code())
}

/// Why a stream could not be made. `other` is a stream that takes the subjects, if there is one.
pub(crate) fn not_created(
    error: &jetstream::Error,
    wish: &Wish,
    other: Option<String>,
) -> CheckError {
    let wanted = wish.subjects.all();
    match (error.error_code(), other) {
        (ErrorCode::STREAM_SUBJECT_OVERLAP, Some(other)) => CheckError::Taken {
            stream: wish.stream.clone(),
            wanted,
            other,
        },
        (ErrorCode::STREAM_REPLICAS_NOT_SUPPORTED, _) => CheckError::NotReplicated,
        _ => CheckError::NotCreated(text(error)),
    }
}

/// Whether a subject with wildcards takes everything that another one, which ends in `>`, does.
fn covers(subject: &str, wanted: &str) -> bool {
    let mut tokens = subject.split('.');
    for token in wanted.split('.') {
        match tokens.next() {
            Some(">") => return true,
            Some("*") if token != ">" => {}
            Some(other) if other == token => {}
            _ => return false,
        }
    }
    tokens.next().is_none()
}

/// The subjects of a stream and another one. Servers refuse those that overlap, so such ones are joined with it.
fn with(subjects: &str, added: &str) -> String {
    let mut all: Vec<_> = subjects.split(',').filter(|it| !it.is_empty()).collect();
    let mut joined = added.to_owned();
    while let Some(place) = all.iter().position(|it| overlap(it, &joined)) {
        joined = join(all.remove(place), &joined);
    }
    all.push(&joined);
    all.join(",")
}

/// Whether two subjects with wildcards take a subject in common.
fn overlap(one: &str, other: &str) -> bool {
    let (mut one, mut other) = (one.split('.'), other.split('.'));
    loop {
        match (one.next(), other.next()) {
            (None, None) | (Some(">"), Some(_)) | (Some(_), Some(">")) => return true,
            (Some(one), Some(other)) if one == other || [one, other].contains(&"*") => {}
            _ => return false,
        }
    }
}

/// A subject that takes what two do which overlap.
fn join(one: &str, other: &str) -> String {
    let mut joined = Vec::new();
    for (one, other) in one.split('.').zip(other.split('.')) {
        joined.push(match one == other {
            true => one,
            false if [one, other].contains(&">") => ">",
            false => "*",
        });
        if joined.last() == Some(&">") {
            break;
        }
    }
    joined.join(".")
}

#[cfg(test)]
mod tests;
