//! The options that select recorded messages, for all commands: [`Selection`].

use clap::Args;
use jiff::Timestamp;

use crate::cli::time::{Last, last, time};

/// Which messages of a recording a command takes.
#[derive(Args, Clone, Debug, Default)]
pub struct Selection {
    /// Take only messages of this device; may be given more than once.
    #[arg(long, value_name = "ID")]
    pub device: Vec<String>,
    /// Take only messages received at or after this time, such as 2026-01-31, "2026-01-31 12:00", 12:00 (today), yesterday,
    /// 10m (before now) or 2026-01-31T12:00:00Z. A time without a zone is local.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = time)]
    pub from: Option<Timestamp>,
    /// Take only messages received before this time.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = time)]
    pub until: Option<Timestamp>,
    /// Take only the last messages: those of a duration before the newest one, such as 10m, or a number of them, such as
    /// 100.
    #[arg(long, value_name = "TIME|N", allow_hyphen_values = true, conflicts_with = "from", value_parser = last)]
    pub last: Option<Last>,
}
