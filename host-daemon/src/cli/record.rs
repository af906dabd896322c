//! The arguments of `serve` that say how a recording is written.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use blocksd_recording::LogOptions;

/// Options of the recording.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Recording")]
pub struct Record {
    /// Keep everything in MCAP files in this folder.
    #[arg(long, value_name = "DIR")]
    pub record: Option<PathBuf>,
    /// How the files are compressed.
    #[arg(
        long,
        value_name = "none|lz4|zstd",
        default_value = "none",
        requires = "record"
    )]
    pub record_compression: Compression,
    /// Begin another file when one has so many bytes; at most a quarter of --record-max-bytes. Default: 1 GiB, or a
    /// quarter of --record-max-bytes if that is less.
    #[arg(long, value_name = "BYTES", value_parser = bytes::<ROTATE_BYTES_MIN>, requires = "record")]
    pub record_rotate_bytes: Option<u64>,
    /// Begin another file when one is so many seconds old.
    #[arg(long, value_name = "S", default_value_t = 3600, value_parser = time, requires = "record")]
    pub record_rotate_seconds: u64,
    /// How long a block may wait, in ms, until it is made durable together with others (fdatasync).
    #[arg(long, value_name = "MS", default_value_t = 100, value_parser = time, requires = "record")]
    pub record_sync_ms: u64,
    /// Bytes that all files together may have: the oldest are deleted, whole.
    #[arg(long, value_name = "BYTES", value_parser = bytes::<MAX_BYTES_MIN>, requires = "record")]
    pub record_max_bytes: Option<u64>,
}

/// How chunks are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// LZ4: two to three times the processor time, and two thirds of the space for slowly moving samples.
    Lz4,
    /// Zstandard at its fastest: three to four times the processor time, and a little over half of the space.
    Zstd,
}

impl Compression {
    const fn of_segment(self) -> blocksd_recording::Compression {
        match self {
            Self::None => blocksd_recording::Compression::None,
            Self::Lz4 => blocksd_recording::Compression::Lz4,
            Self::Zstd => blocksd_recording::Compression::Zstd,
        }
    }
}

/// A file has a header and an end, whatever it holds.
const ROTATE_BYTES_MIN: u64 = 4 << 10;
const ROTATE_BYTES: u64 = 1 << 30;
/// A few chunks in each of four files: else a file might be deleted as soon as it is sealed.
const MAX_BYTES_MIN: u64 = 16 << 20;

impl Record {
    /// How files are written.
    #[must_use]
    pub fn log_options(&self) -> LogOptions {
        LogOptions {
            compression: self.record_compression.of_segment(),
            // The recording rotates at a quarter of its limit if that is less; the limit may change.
            rotate_bytes: self.record_rotate_bytes.unwrap_or(ROTATE_BYTES),
            rotate_after: Duration::from_secs(self.record_rotate_seconds),
            sync_after: Duration::from_millis(self.record_sync_ms),
        }
    }
}

/// Ten years: more is beyond what clocks count.
const SECONDS_MAX: u64 = 10 * 365 * 24 * 3600;

fn bytes<const MIN: u64>(text: &str) -> Result<u64, String> {
    let bytes = text.parse().ok().filter(|bytes| MIN <= *bytes);
    bytes.ok_or_else(|| format!("must be a number of bytes, at least {MIN}"))
}

fn time(text: &str) -> Result<u64, String> {
    let time = text.parse().ok();
    time.filter(|time| (1..=SECONDS_MAX).contains(time))
        .ok_or_else(|| format!("must be a whole number from 1 to {SECONDS_MAX}"))
}
