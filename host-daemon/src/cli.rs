//! The command line: what may be asked, and what it means.

mod record;
mod recordings;
mod serve;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use framing_core::{AnyFraming, Blocks};

pub use self::record::Record;
pub use self::recordings::{Read, ReadOutput, Recordings, Recover, Replay, Verify};
pub(crate) use self::serve::UNFINISHED_MESSAGES;
pub use self::serve::{AfterEnd, DeviceBy, Listen, Options, OutputKind, Oversize, Serve, Timeout};

use crate::payload::{Decoding, DefmtError};

/// Framed telemetry over TCP: receives it, sends it, shows it.
#[derive(Debug, Parser)]
#[command(name = "blocksd", version, about, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Receive from many devices.
    Serve(Box<Serve>),
    /// Send messages to a daemon.
    Send(Send),
    /// Say what `serve` would do with a config file, and whether it can be done.
    CheckConfig(CheckConfig),
    /// Print what was recorded.
    Read(Read),
    /// Send what was recorded, as it came.
    Replay(Replay),
    /// List the files of a recording.
    Recordings(Recordings),
    /// Check that recordings are sound.
    Verify(Verify),
    /// Save what is whole in torn recordings.
    Recover(Recover),
    /// Show a daemon and three simulated devices at work.
    Demo(Demo),
    /// Print what a shell needs to complete commands and options.
    Completions(Completions),
    /// Print the manual page of the program, or of a command.
    Man(Man),
    /// The book's server: blocks.py, streamer.py, or the exchange of sixteen octets.
    Server(Server),
    /// The book's client, the other end of `server`.
    Client(Client),
}

/// Arguments of `send`.
#[derive(Args, Debug)]
pub struct Send {
    /// The daemon's address.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:1060")]
    pub to: String,
    /// How messages are framed.
    #[arg(long, value_name = "SPEC", default_value_t = AnyFraming::Blocks(Blocks), value_parser = framing)]
    pub framing: AnyFraming,
    /// Send a file as one message, of any length that the framing can express.
    #[arg(long, value_name = "PATH", conflicts_with = "messages")]
    pub file: Option<PathBuf>,
    /// Print what comes back.
    #[arg(long)]
    pub wait_reply: bool,
    /// How long to try to connect.
    #[arg(long, value_name = "S", default_value = "0", allow_negative_numbers = true, value_parser = seconds)]
    pub connect_timeout: Duration,
    /// Messages to send; without any, each line of standard input is one.
    #[arg(value_name = "MESSAGE")]
    pub messages: Vec<String>,
}

/// Arguments of `check-config`.
#[derive(Args, Debug)]
pub struct CheckConfig {
    /// The file.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// Arguments of `demo`.
#[derive(Args, Debug)]
pub struct Demo {
    /// How long it lasts.
    #[arg(long, value_name = "S", default_value = "5", allow_negative_numbers = true, value_parser = seconds)]
    pub seconds: Duration,
    /// Add an emulated Cortex-M4 with real firmware (needs QEMU, and a compiler for it).
    #[arg(long)]
    pub firmware: bool,
}

/// Arguments of `completions`.
#[derive(Args, Debug)]
pub struct Completions {
    /// The shell.
    pub shell: Shell,
}

/// Arguments of `man`.
#[derive(Args, Debug)]
pub struct Man {
    /// The command, such as `serve`.
    pub command: Option<String>,
    /// Write the pages of the program and of all commands into this folder.
    #[arg(long, value_name = "DIR", conflicts_with = "command")]
    pub dir: Option<PathBuf>,
}

/// Arguments of `server`.
#[derive(Args, Debug)]
pub struct Server {
    /// Address to listen on.
    #[arg(default_value = "127.0.0.1")]
    pub host: String,
    /// Port to listen on.
    #[arg(long, default_value_t = 1060)]
    pub port: u16,
    /// blocks, stream or fixed:16.
    #[arg(long, value_name = "SPEC", default_value_t = AnyFraming::Blocks(Blocks), value_parser = framing)]
    pub framing: AnyFraming,
}

/// Arguments of `client`.
#[derive(Args, Debug)]
pub struct Client {
    /// Address to connect to.
    #[arg(default_value = "127.0.0.1")]
    pub host: String,
    /// Messages to send in place of the book's.
    #[arg(value_name = "MESSAGE")]
    pub messages: Vec<String>,
    /// Port to connect to.
    #[arg(long, default_value_t = 1060)]
    pub port: u16,
    /// blocks, stream or fixed:16.
    #[arg(long, value_name = "SPEC", default_value_t = AnyFraming::Blocks(Blocks), value_parser = framing)]
    pub framing: AnyFraming,
}

fn decoding(spec: &str) -> Result<Decoding, String> {
    spec.parse().map_err(|error: DefmtError| error.to_string())
}

fn framing(spec: &str) -> Result<AnyFraming, String> {
    spec.parse()
        .map_err(|error: framing_core::SpecError| error.to_string())
}

/// Positions in a window are 32 bits wide, so a message that is held whole is of 1 GiB at most.
fn block_max(text: &str) -> Result<u32, String> {
    const MAX: u32 = 1 << 30;
    let block_max = text.parse().ok().filter(|len| (1..=MAX).contains(len));
    block_max.ok_or_else(|| format!("max-block must be from 1 to {MAX} bytes"))
}

fn bytes(text: &str) -> Result<u32, String> {
    text.parse()
        .map_err(|_| format!("`{text}` is no number of bytes"))
}

fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|&count| count != 0)
        .ok_or_else(|| "must be a number over 0".to_owned())
}

/// A time with a unit; a bare number is seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let refuse = || format!("`{text}` is not a duration, such as 500ms, 90s, 10m, 2h or 1d");
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let seconds = match text.get(digits.len()..) {
        Some("ms") => 0.001,
        Some("" | "s") => 1.0,
        Some("m") => 60.0,
        Some("h") => 3_600.0,
        Some("d") => 86_400.0,
        _ => return Err(refuse()),
    };
    let number: f64 = digits.trim_end().parse().map_err(|_| refuse())?;
    let duration = Duration::try_from_secs_f64(number * seconds).map_err(|_| refuse())?;
    if duration.is_zero() {
        return Err(format!("`{text}`: the duration must be above zero"));
    }
    Ok(duration)
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_| "must be a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|_| "must be a number of seconds".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_a_unit_or_is_in_seconds() {
        for (text, ms) in [
            ("500ms", 500),
            ("90", 90_000),
            ("1.5s", 1_500),
            ("2 m", 120_000),
            ("1h", 3_600_000),
            ("1d", 86_400_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in [
            "", "s", "-1s", "1w", "1e400", "inf", "nan", "0", "0ms", "1 h 2 m",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
