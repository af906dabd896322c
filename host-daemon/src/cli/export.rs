//! The arguments of `export`.

use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::{PathBufValueParser, TypedValueParser as _};
use clap::{Args, ValueEnum};

use crate::cli::selection::Selection;
use crate::config::value::{Decoding, decoding};

/// Arguments of `export`.
#[derive(Args, Debug)]
pub struct Export {
    /// Recordings, or directories of recordings; or the stream that they are forwarded to, such as
    /// nats://HOST:PORT,stream=NAME,site=NAME, with the options of `read`.
    #[arg(value_name = "DIR|FILE|nats://SERVER", required = true)]
    pub paths: Vec<PathBuf>,
    /// What to write.
    #[arg(long, value_enum, value_name = "FORMAT", allow_hyphen_values = true)]
    pub to: ExportFormat,
    /// File to write; for csv, a directory with a file for each device, or a file that ends in .csv if there is one
    /// device; by default
    /// blocksd-export.mcap, blocksd-export.parquet or the directory blocksd-export.
    #[arg(long, value_name = "FILE|DIR", value_parser = PathBufValueParser::new().try_map(path_to_write))]
    pub out: Option<PathBuf>,
    /// Overwrite existing files.
    #[arg(long)]
    pub force: bool,
    /// Which messages to export.
    #[command(flatten)]
    pub select: Selection,
    /// Decode payloads this way, instead of as they were received: raw, text, json, cbor, msgpack, kv (key=value),
    /// or defmt with the firmware's ELF file, or a directory of ELF files.
    #[arg(long, value_name = "raw|text|json|cbor|msgpack|kv|defmt:ELF|defmt:DIR", value_parser = decoding)]
    pub decode: Option<Decoding>,
    /// Take the time of a message from this field, such as t or header.stamp:ms; a number is in the unit ns, us, ms or s
    /// (default) since 1970, a text is RFC 3339. A message without the field keeps its time of reception.
    #[arg(long, value_name = "FIELD[:UNIT]")]
    pub time_field: Option<TimeField>,
}

/// The format of `export`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// An MCAP file of JSON messages for Foxglove and Lichtblick, with logs as foxglove.Log.
    Foxglove,
    /// An MCAP file of JSON messages for PlotJuggler.
    Plotjuggler,
    /// CSV files with a column for each field.
    Csv,
    /// A Parquet file with a column for each field, for DuckDB, pandas and Polars.
    Parquet,
}

/// The field of a message that has its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeField {
    /// The name of its column.
    pub field: String,
    /// The unit of a number.
    pub unit: TimeUnit,
}

/// The unit of a number that is a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeUnit {
    /// Nanoseconds.
    Nanoseconds,
    /// Microseconds.
    Microseconds,
    /// Milliseconds.
    Milliseconds,
    /// Seconds.
    Seconds,
}

impl TimeUnit {
    /// The unit with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "ns" => Some(Self::Nanoseconds),
            "us" => Some(Self::Microseconds),
            "ms" => Some(Self::Milliseconds),
            "s" => Some(Self::Seconds),
            _ => None,
        }
    }

    /// The power of ten by which a number is multiplied to get nanoseconds.
    #[must_use]
    pub const fn exponent(self) -> u32 {
        match self {
            Self::Nanoseconds => 0,
            Self::Microseconds => 3,
            Self::Milliseconds => 6,
            Self::Seconds => 9,
        }
    }
}

impl FromStr for TimeField {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // A key in quotes may contain a colon.
        let quoted = text.rfind('"').map_or(0, |quote| quote + 1);
        let (name, rest) = text.split_at(quoted);
        let (rest, unit) = rest.rsplit_once(':').unwrap_or((rest, "s"));
        let field = text.get(..name.len() + rest.len()).unwrap_or(text);
        let unit = TimeUnit::named(unit).ok_or_else(|| {
            format!("unknown unit `{unit}`; the units are ns, us, ms and s; a name with a colon is written in double quotes")
        })?;
        match field {
            "" => Err("the name of the field is missing".to_owned()),
            _ => Ok(Self {
                field: field.to_owned(),
                unit,
            }),
        }
    }
}

/// A path that can be written: `-` is often meant as standard output.
fn path_to_write(path: PathBuf) -> Result<PathBuf, &'static str> {
    match path.as_os_str() == "-" {
        true => Err(
            "an export is written to files; give a path, or use `read --output json` for standard output",
        ),
        false => Ok(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_field_has_a_unit() {
        let parse = |text: &str| text.parse::<TimeField>().map(|it| (it.field, it.unit));
        let field = |name: &str, unit| Ok((name.to_owned(), unit));
        assert_eq!(parse("t"), field("t", TimeUnit::Seconds));
        assert_eq!(parse("a.b.0:ms"), field("a.b.0", TimeUnit::Milliseconds));
        assert_eq!(parse("a:b:ns"), field("a:b", TimeUnit::Nanoseconds));
        assert_eq!(parse("t:us"), field("t", TimeUnit::Microseconds));
        for text in ["", ":s", "t:", "a:b", "t:S"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
