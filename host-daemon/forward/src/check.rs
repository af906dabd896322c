//! Whether a stream keeps what it acknowledges: [`check`]. Start with [`Wish`].

use std::time::Duration;

use async_nats::jetstream::stream::{
    Config, DiscardPolicy, PersistenceMode, RetentionPolicy, StorageType,
};

use crate::subject::Subjects;

/// Copies of each message in a stream that survives the loss of a server.
const REPLICAS: usize = 3;
/// Longest message of a stream that this crate makes, in bytes.
const MESSAGE_MAX: i32 = 1 << 20;
/// How long a stream that this crate makes recognises duplicates. Longer outages are bridged by the sequence numbers.
const WINDOW: Duration = Duration::from_secs(120);

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

/// Why a stream cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// There was no answer.
    #[error("the cluster does not answer: {0}")]
    NoAnswer(String),
    /// It does not exist.
    #[error(
        "the stream does not exist; make it with `{0}`, or let blocksd make it (`create = true`)"
    )]
    NoStream(String),
    /// It could not be made.
    #[error("the stream could not be made: {0}")]
    NotCreated(String),
    /// It does not take the subjects.
    #[error("the stream does not take the subjects {wanted}; it takes {found}")]
    Subjects {
        /// The wildcard that it must contain.
        wanted: String,
        /// What it takes.
        found: String,
    },
    /// It may lose what it has acknowledged.
    #[error("the stream is not durable: {0}; change it, or accept that with `durable = \"no\"`")]
    NotDurable(String),
    /// It cannot be used, whatever is accepted.
    #[error("the stream cannot be used: {0}")]
    Unusable(&'static str),
    /// Its messages are too short.
    #[error("the stream takes messages of {0} bytes, which is too short for the headers")]
    TooShort(usize),
}

impl Wish {
    /// The command that makes the stream.
    #[must_use]
    pub fn command(&self) -> String {
        let replicas = if self.durable { REPLICAS } else { 1 };
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
            num_replicas: if self.durable { REPLICAS } else { 1 },
            retention: RetentionPolicy::Limits,
            discard: DiscardPolicy::Old,
            max_message_size: MESSAGE_MAX,
            duplicate_window: WINDOW,
            allow_direct: true,
            ..Config::default()
        }
    }
}

/// Checks the configuration of a stream.
///
/// # Errors
/// [`CheckError`].
pub(crate) fn check(config: &Config, wish: &Wish) -> Result<(), CheckError> {
    let wanted = wish.subjects.all();
    if !config
        .subjects
        .iter()
        .any(|subject| covers(subject, &wanted))
    {
        let found = config.subjects.join(", ");
        return Err(CheckError::Subjects { wanted, found });
    }
    let unusable = [
        (config.no_ack, "it does not acknowledge messages (`no_ack`)"),
        (config.sealed, "it is sealed"),
        (config.mirror.is_some(), "it is a mirror"),
        (
            config.retention != RetentionPolicy::Limits,
            "it deletes messages that were consumed; its retention must be `limits`",
        ),
        (
            config.discard == DiscardPolicy::New,
            "it refuses messages at its limit; its discard policy must be `old`",
        ),
    ];
    if config.subject_transform.is_some() {
        return Err(CheckError::Unusable("it changes subjects"));
    }
    if let Some((_, reason)) = unusable.into_iter().find(|(is_so, _)| *is_so) {
        return Err(CheckError::Unusable(reason));
    }
    if !wish.durable {
        return Ok(());
    }
    let weak = [
        (
            config.storage == StorageType::Memory,
            "it is kept in memory".to_owned(),
        ),
        (
            config.num_replicas < REPLICAS,
            format!("it has {} of {REPLICAS} replicas", config.num_replicas),
        ),
        (
            config.persist_mode == Some(PersistenceMode::Async),
            "it acknowledges messages before they are stored".to_owned(),
        ),
    ];
    match weak.into_iter().find(|(is_so, _)| *is_so) {
        Some((_, reason)) => Err(CheckError::NotDurable(reason)),
        None => Ok(()),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn wish() -> Wish {
        Wish {
            stream: "blocksd".to_owned(),
            subjects: Subjects::new("main"),
            durable: true,
            create: false,
        }
    }

    #[test]
    fn a_stream_that_the_command_makes_is_accepted() {
        assert!(check(&wish().config(), &wish()).is_ok());
        let weak = Wish {
            durable: false,
            ..wish()
        };
        assert!(check(&weak.config(), &weak).is_ok());
        let refused = check(&weak.config(), &wish()).unwrap_err().to_string();
        assert_eq!(
            refused,
            "the stream is not durable: it has 1 of 3 replicas; change it, or accept that with `durable = \"no\"`"
        );
    }

    #[test]
    fn wildcards_take_what_they_cover() {
        for subject in [
            "blocksd.main.>",
            "blocksd.>",
            ">",
            "*.main.>",
            "blocksd.*.>",
        ] {
            assert!(covers(subject, "blocksd.main.>"), "{subject}");
        }
        for subject in [
            "blocksd.main.dev.>",
            "blocksd.main",
            "blocksd.other.>",
            "blocksd.main.*",
        ] {
            assert!(!covers(subject, "blocksd.main.>"), "{subject}");
        }
    }

    #[test]
    fn what_loses_messages_is_refused() {
        let with = |change: fn(&mut Config)| {
            let mut config = wish().config();
            change(&mut config);
            check(&config, &wish()).is_err()
        };
        assert!(with(|it| it.storage = StorageType::Memory));
        assert!(with(|it| it.persist_mode = Some(PersistenceMode::Async)));
        assert!(with(|it| it.retention = RetentionPolicy::Interest));
        assert!(with(|it| it.discard = DiscardPolicy::New));
        assert!(with(|it| it.no_ack = true));
        assert!(with(|it| it.sealed = true));
        assert!(with(|it| it.subjects = vec!["other.>".to_owned()]));
        assert!(!with(|it| it.num_replicas = 5));
    }
}
