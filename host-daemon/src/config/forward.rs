//! A cluster that the recording is forwarded to, as it was configured: [`ForwardConfig`].

mod servers;

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use self::servers::{host_and_port, servers};
use crate::config::error::ValueOrigin;
use crate::config::texts::KeyedTexts;
use crate::config::value::{Choice, Words, nearest, seconds, word};

/// The table in the config file.
pub(crate) const TABLE: &str = "forward";
/// The key of the table with the servers.
pub(crate) const TO: &str = "to";
/// The keys of the table, with that of the servers first.
const TABLE_KEYS: &[&str] = &[
    TO,
    "stream",
    "site",
    "keep",
    "ack",
    "durable",
    "create",
    "linger",
    "ca",
    "cert",
    "key",
    "user",
    "password",
    "token",
    "nkey",
    "credentials",
];
/// Those but the servers: the options of a cluster on the command line, too.
pub(super) const KEYS: &[&str] = TABLE_KEYS.split_at(1).1;
/// What users of other programs take for the key of the servers.
const NAMES_OF_TO: [&str; 8] = [
    "servers",
    "server",
    "urls",
    "url",
    "hosts",
    "host",
    "addresses",
    "address",
];
/// Those that mean nothing to a reader.
const FORWARDING: [&str; 5] = ["keep", "durable", "create", "ack", "linger"];
/// Longest time that messages can be gathered.
const LINGER_MAX: Duration = Duration::from_secs(60);
/// The values of options that are not set, as they are written. The others have none.
const DEFAULTS: [(&str, &str); 7] = [
    ("stream", DEFAULT_STREAM),
    ("site", "main"),
    ("keep", "forwarded"),
    ("ack", "recorded"),
    ("durable", "true"),
    ("create", "false"),
    ("linger", "0s"),
];
/// The stream, if none is given.
pub(crate) const DEFAULT_STREAM: &str = "blocksd";

/// A cluster, and how to forward to it.
#[derive(Clone, Debug)]
pub struct ForwardConfig {
    servers: Vec<String>,
    origin: ValueOrigin,
    texts: KeyedTexts,
}

/// Which files of the recording stay although they are beyond its limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardKeep {
    /// Those that are not forwarded yet.
    Forwarded,
    /// None.
    Any,
}

/// How a client proves who it is, with the files that hold the secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForwardLogin {
    /// Not at all, or with its certificate.
    None,
    /// A user, and the file of the password.
    User(String, PathBuf),
    /// The file of a token.
    Token(PathBuf),
    /// The file of the seed of an nkey.
    Nkey(PathBuf),
    /// A file with a JWT and a seed.
    Credentials(PathBuf),
}

/// The value of `--forward` as errors may show it: without what is before `@`, which may be a login.
pub(crate) fn without_login(text: &str) -> Cow<'_, str> {
    match text.rsplit_once('@') {
        Some((_, host)) => Cow::Owned(format!("***@{host}")),
        None => Cow::Borrowed(text),
    }
}

/// Two are equal if they mean the same: an option that is set to its default is as one that is not set.
impl PartialEq for ForwardConfig {
    fn eq(&self, other: &Self) -> bool {
        let texts = |of: &Self| {
            let all = of
                .all()
                .map(|(_, given)| given.map(|(text, _)| text.to_owned()));
            all.collect::<Vec<_>>()
        };
        self.servers == other.servers && texts(self) == texts(other)
    }
}

impl ForwardConfig {
    /// Reads `SERVER[,SERVER]...[,KEY=VALUE]...`.
    ///
    /// # Errors
    /// If a server, a key or a value cannot be used.
    pub fn parse(text: &str, origin: ValueOrigin) -> Result<Self, String> {
        refuse_secrets(text)?;
        let mut servers = Vec::new();
        let mut options = Vec::new();
        let mut spaced = Vec::new();
        for part in text.split(',').map(str::trim) {
            let option = part.split_once('=');
            match option.filter(|(key, _)| is_word(key.trim_end())) {
                Some((key, _)) if key.trim_end() == TO => {
                    return Err(format!(
                        "write the servers without `{TO}=`, as in nats://n1:4222,nats://n2:4222; `{TO}` is a key of the config file"
                    ));
                }
                Some((key, value)) if key.ends_with(' ') || value.starts_with(' ') => {
                    spaced.push(key.trim_end());
                }
                Some(option) => options.push(option),
                None => servers.push(part),
            }
        }
        let (mut forward, mut mistakes) = Self::new(&servers, origin);
        // The value is not shown, since it may be a secret.
        mistakes.extend(
            spaced
                .iter()
                .map(|key| format!("{key}: remove the spaces around `=`, as in `{key}=VALUE`")),
        );
        let mut refused = spaced;
        for (key, value) in options {
            if let Err(reason) = forward.set(key, value, origin) {
                mistakes.push(format!("{key}: {reason}"));
                refused.push(key);
            }
        }
        let more = forward.contradictions(&refused).into_iter();
        mistakes.extend(more.map(|(key, reason)| format!("{key}: {reason}")));
        match mistakes.is_empty() {
            true => Ok(forward),
            false => Err(mistakes.join("; ")),
        }
    }

    /// Reads the same of a stream that is read, not forwarded to.
    ///
    /// # Errors
    /// As [`parse`](Self::parse), and if a key is only for forwarding.
    pub fn parse_reading(text: &str) -> Result<Self, String> {
        let read = Self::parse(text, ValueOrigin::CommandLine)?;
        let only = read.written().find(|(key, ..)| FORWARDING.contains(key));
        match only {
            Some((key, ..)) => {
                let keys = KEYS.iter().filter(|it| !FORWARDING.contains(it));
                let keys: Vec<_> = keys.copied().collect();
                Err(format!(
                    "`{key}` is for forwarding; reading takes {}",
                    keys.join(", ")
                ))
            }
            None => Ok(read),
        }
    }

    /// Whether a text is an address, and not a path.
    #[must_use]
    pub fn is_address(text: &str) -> bool {
        text.contains("://")
    }

    /// A cluster with these servers, and why others of them cannot be used. A server without a scheme has that of the one
    /// before it.
    pub(super) fn new(written: &[&str], origin: ValueOrigin) -> (Self, Vec<String>) {
        let (servers, mistakes) = match refuse_secrets(&written.join(",")) {
            Ok(()) => servers(written),
            Err(reason) => (Vec::new(), vec![reason]),
        };
        let forward = Self {
            servers,
            origin,
            texts: KeyedTexts::default(),
        };
        (forward, mistakes)
    }

    /// Sets an option by its key.
    pub(super) fn set(&mut self, key: &str, text: &str, origin: ValueOrigin) -> Result<(), String> {
        let keys = match origin {
            ValueOrigin::Line(_) => TABLE_KEYS,
            _ => KEYS,
        };
        let known = (keys, "a cluster");
        if keys.contains(&TO) && NAMES_OF_TO.contains(&key) {
            return Err(format!("unknown key; did you mean `{TO}`?"));
        }
        let with_unit = format!("{text}s");
        let text = match (key, text) {
            // One spelling, so that two of the same meaning are equal.
            ("durable" | "create", "yes") => "true",
            ("durable" | "create", "no") => "false",
            // A bare number is shown with its unit.
            ("linger", _) if linger(&with_unit).is_ok_and(|it| linger(text) == Ok(it)) => {
                &with_unit
            }
            _ => text,
        };
        self.texts
            .set(known, (key, text), origin, |key, text| match key {
                "keep" => word::<ForwardKeep>(text).map(drop),
                "ack" => one_of(text, ["recorded", "forwarded"]),
                "durable" | "create" => one_of(text, ["true", "false"]),
                "linger" => linger(text).map(drop),
                "stream" if text.contains(['.', '*', '>', ' ', '/', '\\']) => Err(format!(
                    "`{text}`: the name of a stream has no `.`, `*`, `>`, space or slash"
                )),
                _ if text.is_empty() => Err("must not be empty".to_owned()),
                _ => Ok(()),
            })
    }

    /// Options that contradict each other: the key of one, and the reason. Options whose own values were `refused` contradict
    /// nothing.
    pub(super) fn contradictions(&self, refused: &[&str]) -> Vec<(&'static str, String)> {
        let meant: Vec<_> = refused
            .iter()
            .filter_map(|key| nearest(key, KEYS.iter().copied()))
            .collect();
        let mut found = Vec::new();
        let mut refuse = |key: &'static str, other: &str, reason: String| {
            if !meant.contains(&key) && !meant.contains(&other) {
                found.push((key, reason));
            }
        };
        for (one, other) in [("cert", "key"), ("user", "password")] {
            let (has, lacks) = match (self.text(one), self.text(other)) {
                (Some(_), None) => (one, other),
                (None, Some(_)) => (other, one),
                _ => continue,
            };
            refuse(has, lacks, format!("needs `{lacks}`"));
        }
        if self.acknowledges() && self.keep() == ForwardKeep::Any {
            let reason = "`forwarded` needs `keep=forwarded`: a message that was deleted before it was forwarded would never be acknowledged";
            refuse("ack", "keep", reason.to_owned());
        }
        let logins = ["user", "token", "nkey", "credentials"];
        let mut given = logins.into_iter().filter(|it| self.text(it).is_some());
        if let Some(first) = given.next() {
            for other in given {
                refuse(other, first, format!("cannot be combined with `{first}`"));
            }
        }
        found
    }

    /// Whether messages of sessions are acknowledged only after the cluster has stored them.
    #[must_use]
    pub fn acknowledges(&self) -> bool {
        self.value("ack") == "forwarded"
    }

    /// The addresses of the servers.
    #[must_use]
    pub fn servers(&self) -> &[String] {
        &self.servers
    }

    /// Where it was given.
    #[must_use]
    pub const fn origin(&self) -> ValueOrigin {
        self.origin
    }

    /// Where an option was given; if it was not, where the cluster was.
    #[must_use]
    pub fn origin_of(&self, key: &str) -> ValueOrigin {
        let found = self.written().find(|(it, ..)| *it == key);
        found.map_or(self.origin, |(.., origin)| origin)
    }

    /// A server that another cluster names, too, if both forward to the same subjects.
    pub(super) fn shared(&self, other: &Self) -> Option<&str> {
        if self.stream() != other.stream() {
            return None;
        }
        let others: Vec<_> = other.servers.iter().map(|it| host_and_port(it)).collect();
        let is_other = |it: &&String| others.contains(&host_and_port(it));
        let shared = self.servers.iter().find(is_other)?;
        let is_same = self.site() == other.site() || self.servers == other.servers;
        is_same.then_some(shared)
    }

    /// The name of the stream.
    #[must_use]
    pub fn stream(&self) -> &str {
        self.value("stream")
    }

    /// The site, which the subjects begin with.
    #[must_use]
    pub fn site(&self) -> &str {
        self.value("site")
    }

    /// Which files of the recording stay.
    #[must_use]
    pub fn keep(&self) -> ForwardKeep {
        ForwardKeep::named(self.value("keep")).unwrap_or(ForwardKeep::Forwarded)
    }

    /// Whether the stream must survive the loss of a server.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        self.value("durable") == "true"
    }

    /// Whether to make the stream if it does not exist.
    #[must_use]
    pub fn creates(&self) -> bool {
        self.value("create") == "true"
    }

    /// How long messages of a device are gathered before they are sent.
    #[must_use]
    pub fn linger(&self) -> Duration {
        linger(self.value("linger")).unwrap_or_default()
    }

    /// The file with the authorities that are trusted, if they are not those of the system.
    #[must_use]
    pub fn ca(&self) -> Option<PathBuf> {
        self.text("ca").map(PathBuf::from)
    }

    /// The files of certificate and key.
    #[must_use]
    pub fn identity(&self) -> Option<(PathBuf, PathBuf)> {
        let (cert, key) = (self.text("cert")?, self.text("key")?);
        Some((cert.into(), key.into()))
    }

    /// How the client proves who it is.
    #[must_use]
    pub fn login(&self) -> ForwardLogin {
        let file = |key: &str| self.text(key).map(PathBuf::from);
        match (self.text("user"), file("password")) {
            (Some(user), Some(password)) => ForwardLogin::User(user.to_owned(), password),
            _ => file("token")
                .map(ForwardLogin::Token)
                .or_else(|| file("nkey").map(ForwardLogin::Nkey))
                .or_else(|| file("credentials").map(ForwardLogin::Credentials))
                .unwrap_or(ForwardLogin::None),
        }
    }

    /// The options that are set, in the order of the table: key, text and origin.
    pub(super) fn written(&self) -> impl Iterator<Item = (&'static str, &str, ValueOrigin)> {
        self.texts.written(KEYS)
    }

    /// All options in the order of the table: key, and text and origin if it is set or has a default.
    pub(super) fn all(&self) -> impl Iterator<Item = (&'static str, Option<(&str, ValueOrigin)>)> {
        KEYS.iter().map(|&key| {
            let mut written = self.written();
            let written = written.find(|(it, ..)| *it == key);
            let written = written.map(|(_, text, origin)| (text, origin));
            (
                key,
                written.or_else(|| Some((default(key)?, ValueOrigin::Default))),
            )
        })
    }

    /// The text of an option that has a default.
    fn value(&self, key: &str) -> &str {
        self.text(key).or_else(|| default(key)).unwrap_or_default()
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.texts.text(key)
    }
}

/// The servers, and the options that have a default, on one line.
impl fmt::Display for ForwardConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.servers.join(","))?;
        for (key, _) in DEFAULTS {
            write!(f, " {key}={}", self.value(key))?;
        }
        Ok(())
    }
}

impl Words for ForwardKeep {
    fn choices() -> Vec<Choice> {
        let choice = |name| Choice { name, help: "" };
        vec![choice("forwarded"), choice("any")]
    }

    fn named(name: &str) -> Option<Self> {
        match name {
            "forwarded" => Some(Self::Forwarded),
            "any" => Some(Self::Any),
            _ => None,
        }
    }
}

/// Why an address with a login is refused. Neither is printed.
const SECRETS: &str =
    "an address must not contain secrets; use user and password, token, nkey or credentials";

/// Refuses addresses of which one has a login before `@`, wherever commas and `=` in it have divided it.
fn refuse_secrets(text: &str) -> Result<(), String> {
    let (_, after) = text.split_once("://").unwrap_or_default();
    let Some((before, _)) = after.split_once('@') else {
        return Ok(());
    };
    let mut parts = before.split(',').skip(1).map(str::trim);
    let has_option = parts.any(|part| {
        let key = part.split_once('=').map(|(key, _)| key);
        key.is_some_and(|key| KEYS.contains(&key))
    });
    match has_option {
        true => Ok(()),
        false => Err(SECRETS.to_owned()),
    }
}

/// Whether a text can be a key.
fn is_word(text: &str) -> bool {
    text.bytes()
        .all(|it| it.is_ascii_alphanumeric() || it == b'-' || it == b'_')
}

fn default(key: &str) -> Option<&'static str> {
    let found = DEFAULTS.into_iter().find(|(it, _)| *it == key);
    found.map(|(_, text)| text)
}

/// Reads how long messages are gathered.
fn linger(text: &str) -> Result<Duration, String> {
    match seconds(text)? {
        linger if linger <= LINGER_MAX => Ok(linger),
        _ => Err(format!("`{text}`: at most {} s", LINGER_MAX.as_secs())),
    }
}

fn one_of(text: &str, words: [&str; 2]) -> Result<(), String> {
    match words.contains(&text) {
        true => Ok(()),
        false => Err(format!("takes {}, not `{text}`", words.join(" or "))),
    }
}
