//! The arguments of the commands that read recordings.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use framing_core::AnyFraming;
use jiff::Timestamp;

use crate::cli::fields::TableOptions;
use crate::cli::selection::Selection;
use crate::cli::time::time;
use crate::cli::tls::TlsOptions;
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
    /// Directories of recordings, or recordings.
    #[arg(value_name = "DIR|FILE", required = true)]
    pub paths: Vec<PathBuf>,
    /// Print one JSON object per line, for programs.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `sessions`.
#[derive(Args, Debug)]
pub struct Sessions {
    /// Directories of recordings, or recordings.
    #[arg(value_name = "DIR|FILE", required = true)]
    pub paths: Vec<PathBuf>,
    /// Print one JSON object per line, for programs.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `read`.
#[derive(Args, Debug)]
pub struct Read {
    /// Recordings, or directories of recordings; or the stream that they are forwarded to, such as
    /// nats://HOST:PORT,HOST:PORT,stream=NAME,site=NAME. After commas, stream, site, ca, cert, key, user, password, token,
    /// nkey and credentials are those of --forward.
    #[arg(value_name = "DIR|FILE|nats://SERVER", required = true)]
    pub paths: Vec<PathBuf>,
    /// Which messages to take.
    #[command(flatten)]
    pub select: Selection,
    /// The old name of --until.
    #[arg(long, hide = true, allow_hyphen_values = true, conflicts_with = "until", value_name = "TIME", value_parser = time)]
    pub to: Option<Timestamp>,
    /// What to write to standard output.
    #[arg(long, value_enum, default_value_t = ReadOutput::Text)]
    pub output: ReadOutput,
    /// Decode payloads this way, instead of as they were received: raw, text, json, cbor, msgpack, kv (key=value),
    /// or defmt with the firmware's ELF file, or a directory of ELF files.
    #[arg(long, value_name = "raw|text|json|cbor|msgpack|kv|defmt:ELF|defmt:DIR", value_parser = decoding)]
    pub decode: Option<Decoding>,
    /// Columns and rows of a table of fields.
    #[command(flatten)]
    pub table: TableOptions,
    /// Wait for more to be recorded and print it, until interrupted.
    #[arg(long)]
    pub follow: bool,
    /// Print each message of an acknowledged session once, also if several recordings have it. Folders are read one
    /// after the other.
    #[arg(long)]
    pub unique: bool,
}

/// The format of `read`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ReadOutput {
    /// A line for each message, for people.
    Text,
    /// A JSON object for each event, one per line, for programs.
    Json,
    /// A CSV row for each message, after a header row; with --decode or --fields, a column for each field.
    Csv,
    /// A Parquet file with a row for each message and a column for each field.
    Parquet,
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
    /// Which messages to take.
    #[command(flatten)]
    pub select: Selection,
    /// Send only messages that were received in this framing.
    #[arg(long, value_name = "SPEC", value_parser = framing)]
    pub recorded_framing: Option<AnyFraming>,
    /// Frame messages this way, instead of as they were received.
    #[arg(long, value_name = "SPEC", value_parser = framing, conflicts_with = "session")]
    pub framing: Option<AnyFraming>,
    /// Send over acknowledged sessions, one for each recorded connection: exit with 0 only when the daemon has everything
    /// on its disk, and connect again after an interruption.
    #[arg(long)]
    pub session: bool,
    /// TLS of the connections.
    #[command(flatten)]
    pub tls: TlsOptions,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_speed_is_a_factor_or_max() {
        assert_eq!(speed("2"), Ok(2.0));
        assert_eq!(speed("max"), Ok(f64::INFINITY));
        for text in ["0", "-1", "inf", "nan", "fast"] {
            assert!(speed(text).is_err(), "{text}");
        }
    }
}
