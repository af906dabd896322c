//! Parsers for the values of options, and the words that an option may take. Start with [`Words`].

use std::path::PathBuf;
use std::time::Duration;

use framing_core::{AnyFraming, SpecError};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::config::units::{self, MILLISECOND, SECOND};
pub use crate::payload::Decoding;
use crate::payload::DefmtError;
use blocksd_engine::admission::identity::DeviceBy;
pub use blocksd_engine::connection::policy::SessionMode;
use blocksd_engine::tls::{ClientAuth, MinVersion};
pub use blocksd_recording::Compression;

/// One of the words that an option takes.
#[derive(Clone, Copy, Debug)]
pub struct Choice {
    /// The word.
    pub name: &'static str,
    /// What the word means; empty if the help of the option explains it.
    pub help: &'static str,
}

/// A value that is written as one of a few words.
pub trait Words: Sized {
    /// The words.
    fn choices() -> Vec<Choice>;
    /// The value of a word.
    fn named(word: &str) -> Option<Self>;
}

macro_rules! words {
    ($type:ty: $($name:literal => $value:path, $help:literal;)+) => {
        impl Words for $type {
            fn choices() -> Vec<Choice> {
                vec![$(Choice { name: $name, help: $help },)+]
            }

            fn named(word: &str) -> Option<Self> {
                match word {
                    $($name => Some($value),)+
                    _ => None,
                }
            }
        }
    };
}

/// A timeout; `None` if it is `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeout(pub Option<Duration>);

/// What to do with a message that is too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oversize {
    /// Skip it, and accept the next one.
    Skip,
    /// Close the connection.
    Close,
    /// Pass it on in pieces, as they arrive.
    Pieces,
}

/// What to do with a connection whose series has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterEnd {
    /// Close it.
    Close,
    /// Accept another series.
    Continue,
}

/// The format of standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputKind {
    /// A line for each message, for people.
    Text,
    /// A JSON object for each event, one per line, for programs.
    Json,
    /// A dump of each message.
    Hex,
    /// Nothing.
    None,
}

words! { Oversize:
    "skip" => Self::Skip, "Skip it, and accept the next one";
    "close" => Self::Close, "Close the connection";
    "pieces" => Self::Pieces, "Pass it on in pieces, as they arrive";
}

words! { AfterEnd:
    "close" => Self::Close, "Close the connection";
    "continue" => Self::Continue, "Accept another series";
}

words! { SessionMode:
    "auto" => Self::Auto, "A device may open a session, or send plain messages";
    "required" => Self::Required, "A connection without a session is closed";
    "off" => Self::Off, "A device that opens a session is refused, and told so";
}

words! { OutputKind:
    "text" => Self::Text, "A line for each message, for people";
    "json" => Self::Json, "A JSON object for each event, one per line, for programs";
    "hex" => Self::Hex, "A dump of each message";
    "none" => Self::None, "Nothing";
}

words! { ClientAuth:
    "require" => Self::Require, "Each device needs a certificate";
    "offer" => Self::Offer, "A device may have a certificate";
    "none" => Self::None, "Devices are not asked for a certificate";
}

words! { MinVersion:
    "1.2" => Self::Tls12, "TLS 1.2 and 1.3";
    "1.3" => Self::Tls13, "TLS 1.3 only";
}

words! { DeviceBy:
    "ip" => Self::Ip, "Its IP address; without one (Unix socket, serial port, standard input), the listener";
    "peer" => Self::Peer, "Each connection: IP address and port; without one, the listener and a number";
    "listener" => Self::Listener, "The listener that it connects to";
}

words! { Compression:
    "auto" => Self::Auto, "Zstandard for messages that come slowly; none while the recorder is busy";
    "none" => Self::None, "No compression";
    "lz4" => Self::Lz4, "LZ4: two to three times the processor time, and two thirds of the space for slowly changing samples";
    "zstd" => Self::Zstd, "Zstandard, fastest level: three to four times the processor time, and a little over half of the space";
}

/// The names of the framings.
pub(super) fn framings() -> Vec<Choice> {
    let choice = |name: &&'static str| Choice { name, help: "" };
    AnyFraming::SPECS.iter().map(choice).collect()
}

/// The names of the decodings.
pub(super) fn decodings() -> Vec<Choice> {
    [
        ("raw", "Bytes"),
        ("text", "UTF-8"),
        ("json", "A JSON value"),
        ("cbor", "A CBOR item"),
        ("msgpack", "A value of MessagePack"),
        ("kv", "Text of key=value, separated by spaces or commas"),
        (
            "defmt:ELF",
            "A defmt frame, with the format strings of the firmware's ELF file",
        ),
        (
            "defmt:DIR",
            "A defmt frame, with those of the ELF file in a directory that has the build id which the firmware sends",
        ),
    ]
    .map(|(name, help)| Choice { name, help })
    .into()
}

/// The kinds of replies.
pub(super) fn replies() -> Vec<Choice> {
    [
        (
            "receipt",
            "The number of messages and bytes that were received",
        ),
        ("echo", "The messages that were received"),
        ("FILE", "The content of a file, as one message"),
    ]
    .map(|(name, help)| Choice { name, help })
    .into()
}

pub(super) fn no_choices() -> Vec<Choice> {
    Vec::new()
}

/// Reads one of a few words.
pub(super) fn word<T: Words>(text: &str) -> Result<T, String> {
    T::named(text).ok_or_else(|| {
        let names: Vec<_> = T::choices().iter().map(|choice| choice.name).collect();
        let suggestion = did_you_mean(text, names.iter().copied());
        format!(
            "invalid value `{text}` [possible values: {}]{suggestion}",
            names.join(", ")
        )
    })
}

/// Reads the name of a framing.
///
/// # Errors
/// If no framing has this name; the error lists them all.
pub fn framing(text: &str) -> Result<AnyFraming, String> {
    text.parse().map_err(|error| match error {
        SpecError::Unknown => unknown(text, "framing", &framings()),
        _ => error.to_string(),
    })
}

/// The most similar word, if it is similar enough; the threshold is that of clap.
pub(crate) fn nearest<'a>(text: &str, words: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // A few letters are in many long texts.
    let alike = words.filter(|word| text.len() <= 2 * word.len());
    let alike = alike.map(|word| (strsim::jaro(text, word), word));
    let alike = alike.filter(|(similarity, _)| 0.7 < *similarity);
    let nearest = alike.max_by(|(one, _), (other, _)| one.total_cmp(other));
    nearest.map(|(_, word)| word)
}

fn did_you_mean<'a>(text: &str, words: impl Iterator<Item = &'a str>) -> String {
    nearest(text, words).map_or_else(String::new, |near| format!("; did you mean `{near}`?"))
}

/// Reads the name of a decoding, the ELF file of `defmt:ELF`, and opens the directory of `defmt:DIR`.
///
/// # Errors
/// If no decoding has this name, or the file or directory cannot be used.
pub fn decoding(text: &str) -> Result<Decoding, String> {
    text.parse().map_err(|error| match error {
        DefmtError::Unknown => unknown(text, "decoding", &decodings()),
        _ => error.to_string(),
    })
}

fn unknown(text: &str, noun: &str, choices: &[Choice]) -> String {
    let names: Vec<_> = choices.iter().map(|choice| choice.name).collect();
    let suggestion = did_you_mean(text, names.iter().copied());
    let names = names.join(", ");
    format!("`{text}` is not a {noun}; the {noun}s are {names}{suggestion}")
}

/// Reads `true` or `false`.
pub(super) fn flag(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| "must be true or false".to_owned())
}

#[expect(clippy::unnecessary_wraps, reason = "has the type of all parsers")]
pub(super) fn text(text: &str) -> Result<String, String> {
    Ok(text.to_owned())
}

pub(super) fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() {
        return Err("must not be empty".to_owned());
    }
    Ok(text.into())
}

/// Reads names of hosts, separated by commas.
pub(super) fn hosts(text: &str) -> Result<String, String> {
    let is_name = |name: &str| {
        let is_allowed = |it: char| it.is_ascii_alphanumeric() || "-._".contains(it);
        !name.is_empty() && name.chars().all(is_allowed)
    };
    match text.split(',').find(|name| !is_name(name)) {
        None => Ok(text.to_owned()),
        Some(name) => Err(format!(
            "`{name}` is not a name of a host, such as telemetry.example.org, without a port"
        )),
    }
}

/// Positions in a window are 32 bits wide, so a message that is kept whole has at most 1 GiB.
pub(super) fn block_max(text: &str) -> Result<u32, String> {
    const MAX: u64 = 1 << 30;
    let len = size(text)?;
    let len = u32::try_from(len).ok().filter(|_| (1..=MAX).contains(&len));
    len.ok_or_else(|| format!("must be from 1 to {MAX} bytes"))
}

pub(super) fn size(text: &str) -> Result<u64, String> {
    units::size(text).ok_or_else(|| {
        format!(
            "invalid number of bytes: `{text}`; use a number, or one with k, M, G, KiB, MiB or GiB{}",
            size_hint(text)
        )
    })
}

/// The spellings that may have been meant, such as for `64K` or `1MB`.
fn size_hint(text: &str) -> String {
    let number = text
        .trim()
        .trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit = text.trim().strip_prefix(number).unwrap_or_default();
    let units = match &*unit.to_ascii_lowercase() {
        "k" | "kb" | "kib" => ("k", "KiB"),
        "m" | "mb" | "mib" => ("M", "MiB"),
        "g" | "gb" | "gib" => ("G", "GiB"),
        _ => return String::new(),
    };
    let number = number.trim();
    let known = |unit: &str| units::size(&format!("{number}{unit}"));
    match (known(units.0), known(units.1)) {
        (Some(decimal), Some(binary)) => format!(
            "; did you mean `{number}{}` ({decimal} bytes) or `{number}{}` ({binary} bytes)?",
            units.0, units.1
        ),
        _ => String::new(),
    }
}

pub(super) fn small_size(text: &str) -> Result<u32, String> {
    let len = size(text)?;
    u32::try_from(len).map_err(|_| format!("must be at most {} bytes", u32::MAX))
}

/// Least memory for unfinished messages, in bytes.
const UNFINISHED_MIN: u64 = 1 << 20;
/// Number of longest messages that must fit into the memory for unfinished ones.
pub(super) const UNFINISHED_MESSAGES: u64 = 4;

pub(super) fn unfinished(text: &str) -> Result<u64, String> {
    size_from::<UNFINISHED_MIN>(text).map_err(|reason| {
        format!("{reason}, and at least {UNFINISHED_MESSAGES} times the largest max-block")
    })
}

pub(super) fn size_from<const MIN: u64>(text: &str) -> Result<u64, String> {
    let len = size(text)?;
    let len = Some(len).filter(|len| MIN <= *len);
    len.ok_or_else(|| format!("must be at least {MIN} bytes"))
}

pub(super) fn at_least_one(text: &str) -> Result<usize, String> {
    let count = text.parse().ok().filter(|count| *count != 0);
    count.ok_or_else(|| "must be a whole number above 0".to_owned())
}

/// Reads a duration above zero; a bare number is seconds.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    match seconds(text)? {
        Duration::ZERO => Err(format!("`{text}`: the duration must be above zero")),
        duration => Ok(duration),
    }
}

/// Reads a duration; a bare number is seconds.
///
/// # Errors
/// If it is not a duration.
pub fn seconds(text: &str) -> Result<Duration, String> {
    units::duration(text, SECOND)
        .ok_or_else(|| format!("`{text}` is not a duration, such as 500ms, 90s, 10m, 2h or 1d"))
}

/// Reads a timeout: a duration above zero, or `off`.
///
/// # Errors
/// If it is neither.
pub fn timeout(text: &str) -> Result<Timeout, String> {
    if text == "off" {
        return Ok(Timeout(None));
    }
    match units::duration(text, SECOND) {
        Some(Duration::ZERO) => Err("must be above zero; use `off` for no limit".to_owned()),
        Some(time) => Ok(Timeout(Some(time))),
        None => Err(format!(
            "`{text}` is not a duration, such as 500ms, 90s, 10m, 2h or 1d (a bare number is seconds), or `off`"
        )),
    }
}

/// The largest `TCP_KEEPIDLE` that the kernel accepts.
const KEEPALIVE_MAX: Duration = Duration::from_secs(32_767);

pub(super) fn keepalive(text: &str) -> Result<Timeout, String> {
    let timeout = timeout(text)?;
    // The kernel counts whole seconds.
    let fits =
        |time: Duration| (SECOND..=KEEPALIVE_MAX).contains(&time) && time.subsec_nanos() == 0;
    if timeout.0.is_some_and(|time| !fits(time)) {
        let max = KEEPALIVE_MAX.as_secs();
        return Err(format!(
            "must be a whole number of seconds from 1 to {max}, or `off`"
        ));
    }
    Ok(timeout)
}

/// Ten years, in days: far below the overflow of a clock.
const DAYS_MAX: u64 = 3_650;

/// The longest heartbeat that a WELCOME can name.
const HEARTBEAT_MAX: Duration = Duration::from_secs(u16::MAX as u64);

pub(super) fn heartbeat(text: &str) -> Result<Timeout, String> {
    let timeout = timeout(text)?;
    let fits =
        |time: Duration| (SECOND..=HEARTBEAT_MAX).contains(&time) && time.subsec_nanos() == 0;
    if timeout.0.is_some_and(|time| !fits(time)) {
        let max = HEARTBEAT_MAX.as_secs();
        return Err(format!(
            "must be a whole number of seconds from 1 to {max}, or `off`"
        ));
    }
    Ok(timeout)
}

pub(super) fn rotate_after(text: &str) -> Result<Duration, String> {
    bounded(text, SECOND, "1s", "seconds")
}

pub(super) fn sync(text: &str) -> Result<Duration, String> {
    bounded(text, MILLISECOND, "1ms", "milliseconds")
}

/// Reads a duration of at least one `unit`, which is also the unit of a bare number.
fn bounded(text: &str, unit: Duration, least: &str, units: &str) -> Result<Duration, String> {
    let range = unit..=Duration::from_secs(DAYS_MAX * 86_400);
    let time = units::duration(text, unit).filter(|time| range.contains(time));
    time.ok_or_else(|| {
        format!("must be a duration from {least} to {DAYS_MAX}d (a bare number is {units})")
    })
}

/// Checks the directives of the log filter, such as `info` or `blocksd_recording=debug,info`.
///
/// # Errors
/// If a part of the text has no level.
pub fn directives(text: &str) -> Result<String, String> {
    let refuse = |part: &str| {
        format!(
            "`{part}` is not off, error, warn, info, debug, trace or TARGET=LEVEL, as in blocksd_recording=debug,info"
        )
    };
    for part in text.split(',') {
        let level = part.rsplit_once('=').map_or(part, |(_, level)| level);
        // The filter would take any other word for the name of a module, and drop the lines of all others.
        if level.trim().parse::<LevelFilter>().is_err() {
            return Err(refuse(part));
        }
    }
    match EnvFilter::builder().parse(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(refuse(text)),
    }
}
