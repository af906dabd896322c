//! The arguments of the commands that read recordings.

use std::path::PathBuf;
use std::time::SystemTime;

use clap::{Args, ValueEnum};
use framing_core::AnyFraming;
use jiff::{SignedDuration, Timestamp};

use crate::config::value::{Decoding, decoding, framing};

/// Arguments of `recover`.
#[derive(Args, Debug)]
pub struct Recover {
    /// A torn file, which stays as it is, or a directory, of which every torn file is replaced by a sealed one; where more
    /// is lost than an unfinished record, the original is kept with the ending `.lost`.
    #[arg(value_name = "FILE|DIR")]
    pub path: PathBuf,
    /// Where to write what is whole in a file; by default beside it. Never over another file.
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Arguments of `verify`.
#[derive(Args, Debug)]
pub struct Verify {
    /// Recordings, and directories of them.
    #[arg(value_name = "FILE|DIR", required = true)]
    pub paths: Vec<PathBuf>,
}

/// Arguments of `recordings`.
#[derive(Args, Debug)]
pub struct Recordings {
    /// Directory of recordings.
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    /// An object a line, for programs.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `read`.
#[derive(Args, Debug)]
pub struct Read {
    /// Recordings, and directories of them.
    #[arg(value_name = "DIR|FILE", required = true)]
    pub paths: Vec<PathBuf>,
    /// Only this device; may be given again.
    #[arg(long, value_name = "ID")]
    pub device: Vec<String>,
    /// Only what was received from then on: as in RFC 3339, or so long ago, such as -10m.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = time)]
    pub from: Option<Timestamp>,
    /// Only what was received before then.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = time)]
    pub to: Option<Timestamp>,
    /// What is written to standard output.
    #[arg(long, value_enum, default_value_t = ReadOutput::Text)]
    pub output: ReadOutput,
    /// How payload is read, in place of how it was received: raw, text, json, cbor, or defmt with the firmware's ELF file.
    #[arg(long, value_name = "raw|text|json|cbor|defmt:ELF", value_parser = decoding)]
    pub decode: Option<Decoding>,
    /// Go on as more is recorded, until interrupted.
    #[arg(long)]
    pub follow: bool,
}

/// What `read` writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ReadOutput {
    /// A line a block, for people.
    Text,
    /// An object a line, for programs.
    Json,
    /// A row a block, under a row of names.
    Csv,
    /// A dump of each block.
    Hex,
    /// The payload alone, one behind the other.
    Raw,
}

/// Arguments of `replay`.
#[derive(Args, Debug)]
pub struct Replay {
    /// Recordings, and directories of them.
    #[arg(value_name = "DIR|FILE", required = true)]
    pub paths: Vec<PathBuf>,
    /// Where to send it.
    #[arg(long, value_name = "ADDR")]
    pub to: String,
    /// How many times faster than it was recorded, such as 1, 0.5 or 10; max for as fast as it is taken.
    #[arg(long, value_name = "FACTOR|max", default_value = "1", allow_negative_numbers = true, value_parser = speed)]
    pub speed: f64,
    /// Only this device; may be given again.
    #[arg(long, value_name = "ID")]
    pub device: Vec<String>,
    /// How messages are framed, in place of how they were received.
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
        .ok_or_else(|| "must be max, or a number over 0".to_owned())
}

/// A time as in RFC 3339, or so long before now.
fn time(text: &str) -> Result<Timestamp, String> {
    let refuse = || format!("`{text}` is no time, such as 2026-01-31T12:00:00Z or -10m");
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
