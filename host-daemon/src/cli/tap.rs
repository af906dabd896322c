//! The arguments of [`tap`](Tap) and of [`top`](Top).

use clap::Args;

use super::daemon::DaemonAddress;
use crate::api::level::LogLevel;

/// Arguments of `tap`.
#[derive(Args, Debug)]
pub struct Tap {
    /// Show only devices with these names; `*` is any text, and `?` any character.
    #[arg(value_name = "DEVICE-GLOB")]
    pub devices: Vec<String>,
    /// The daemon.
    #[command(flatten)]
    pub daemon: DaemonAddress,
    /// Show only messages that contain this text, as JSON or as they were received, in upper or lower case.
    #[arg(long, value_name = "TEXT")]
    pub contains: Option<String>,
    /// Show faults instead of messages.
    #[arg(long, conflicts_with = "events")]
    pub faults: bool,
    /// Show all other events instead of messages: connections, sessions, gaps, silences.
    #[arg(long)]
    pub events: bool,
    /// Show only log lines of this level and above.
    #[arg(long, value_name = "LEVEL", conflicts_with_all = ["faults", "events"])]
    pub level: Option<LogLevel>,
    /// Print one JSON object per line, for programs.
    #[arg(long)]
    pub json: bool,
    /// Show the payload also in hexadecimal.
    #[arg(long, conflicts_with_all = ["faults", "events"])]
    pub hex: bool,
    /// Begin with this number of earlier lines.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(0..=1000))]
    pub last: u16,
}

/// Arguments of `top`.
#[derive(Args, Debug)]
pub struct Top {
    /// The daemon.
    #[command(flatten)]
    pub daemon: DaemonAddress,
}
