//! The arguments of the commands that read recordings.

use std::path::PathBuf;
use std::time::SystemTime;

use clap::{Args, ValueEnum};
use framing_core::AnyFraming;
use jiff::{SignedDuration, Timestamp};

use crate::config::value::{Decoding, Timeout, decoding, framing, timeout};

/// Arguments of `recover`.
#[derive(Args, Debug)]
pub struct Recover {
    /// A torn file, which is not changed, or a directory, in which every torn file is replaced by a sealed one; if more
    /// than an unfinished record is lost, the original is kept with the suffix `.lost`.
    #[arg(value_name = "FILE|DIR")]
    pub path: PathBuf,
    /// File to write the recovered recording to; by default beside the torn file. An existing file is never
    /// overwritten.
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Arguments of `verify`.
#[derive(Args, Debug)]
pub struct Verify {
    /// Recordings, or directories of recordings.
    #[arg(value_name = "FILE|DIR", required = true)]
    pub paths: Vec<PathBuf>,
}

/// Arguments of `recordings`.
#[derive(Args, Debug)]
pub struct Recordings {
    /// Directory of recordings.
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    /// Print one JSON object per line, for programs.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `read`.
#[derive(Args, Debug)]
pub struct Read {
    /// Recordings, or directories of recordings.
    #[arg(value_name = "DIR|FILE", required = true)]
    pub paths: Vec<PathBuf>,
    /// Print only messages of this device; may be given more than once.
    #[arg(long, value_name = "ID")]
    pub device: Vec<String>,
    /// Print only messages received at or after this time: RFC 3339, or a duration before now such as -10m.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = time)]
    pub from: Option<Timestamp>,
    /// Print only messages received before this time.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = time)]
    pub to: Option<Timestamp>,
    /// What to write to standard output.
    #[arg(long, value_enum, default_value_t = ReadOutput::Text)]
    pub output: ReadOutput,
    /// Decode payloads this way, instead of as they were received: raw, text, json, cbor, or defmt with the firmware's
    /// ELF file, or a directory of ELF files.
    #[arg(long, value_name = "raw|text|json|cbor|defmt:ELF|defmt:DIR", value_parser = decoding)]
    pub decode: Option<Decoding>,
    /// Wait for more to be recorded and print it, until interrupted.
    #[arg(long)]
    pub follow: bool,
}

/// The format of `read`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ReadOutput {
    /// A line for each message, for people.
    Text,
    /// A JSON object for each event, one per line, for programs.
    Json,
    /// A CSV row for each message, after a header row.
    Csv,
    /// A dump of each message.
    Hex,
    /// The payloads alone, one after the other.
    Raw,
}

/// Arguments of `replay`.
#[derive(Args, Debug)]
pub struct Replay {
    /// Recordings, or directories of recordings.
    #[arg(value_name = "DIR|FILE", required = true)]
    pub paths: Vec<PathBuf>,
    /// Address to send to.
    #[arg(long, value_name = "ADDR")]
    pub to: String,
    /// Speed relative to the recording, such as 1, 0.5 or 10; max sends as fast as the receiver accepts.
    #[arg(long, value_name = "FACTOR|max", default_value = "1", allow_negative_numbers = true, value_parser = speed)]
    pub speed: f64,
    /// Longest pause. A longer one is shortened to this, and reported; off keeps the recorded pauses.
    #[arg(long, value_name = "TIME|off", default_value = "1m", allow_negative_numbers = true, value_parser = timeout)]
    pub max_gap: Timeout,
    /// Send only messages of this device; may be given more than once.
    #[arg(long, value_name = "ID")]
    pub device: Vec<String>,
    /// Frame messages this way, instead of as they were received.
    #[arg(long, value_name = "SPEC", value_parser = framing)]
    pub framing: Option<AnyFraming>,
}

fn speed(text: &str) -> Result<f64, String> {
    if text == "max" {
        return Ok(f64::INFINITY);
    }
    let factor = text.parse().ok();
    factor
        .filter(|factor| f64::is_finite(*factor) && 0.0 < *factor)
        .ok_or_else(|| "must be max, or a number above 0".to_owned())
}

/// Reads a time as in RFC 3339, or a duration before now.
pub(super) fn time(text: &str) -> Result<Timestamp, String> {
    let refuse = || format!("`{text}` is not a time, such as 2026-01-31T12:00:00Z or -10m");
    if text.starts_with('-') {
        let span: SignedDuration = text.parse().map_err(|_| refuse())?;
        let now = Timestamp::try_from(SystemTime::now()).map_err(|_| refuse())?;
        return now.checked_add(span).map_err(|_| refuse());
    }
    text.parse().map_err(|_| refuse())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_absolute_or_before_now() {
        let time_of = |text| time(text).unwrap();
        assert_eq!(time_of("2026-01-01T00:00:00Z").as_second(), 1_767_225_600);
        assert_eq!(
            time_of("2026-01-01T01:00:00+01:00").as_second(),
            1_767_225_600
        );
        let now = Timestamp::now().as_second();
        assert!((now - 601..=now - 599).contains(&time_of("-10m").as_second()));
        assert!((now - 5401..=now - 5399).contains(&time_of("-1h30m").as_second()));
        assert!(time("yesterday").is_err());
        assert!(time("-x").is_err());
    }

    #[test]
    fn a_speed_is_a_factor_or_max() {
        assert_eq!(speed("2"), Ok(2.0));
        assert_eq!(speed("max"), Ok(f64::INFINITY));
        for text in ["0", "-1", "inf", "nan", "fast"] {
            assert!(speed(text).is_err(), "{text}");
        }
    }
}
