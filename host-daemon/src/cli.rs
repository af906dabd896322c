//! The command line, as clap parses it. Start with [`Cli`].

mod ca;
mod condition;
mod daemon;
mod devices;
mod export;
mod fields;
mod recordings;
mod selection;
mod serve;
mod tap;
mod time;
mod tls;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::error::{ContextKind, ContextValue};
use clap::{Args, FromArgMatches as _, Parser, Subcommand};
use clap_complete::Shell;
use framing_core::session::{Device, DeviceError};
use framing_core::{AnyFraming, Blocks};

#[cfg(feature = "tls")]
pub(crate) use self::ca::{COMMON_NAME_MAX, is_dns_name};
pub use self::ca::{
    Ca, CaCommand, CaCrl, CaDevice, CaInit, CaList, CaRenew, CaRevoke, CaServer, CertificateKind,
    HostName, KeyFormat, ListOutput,
};
pub use self::condition::{Condition, Operand, Operator};
pub use self::daemon::DaemonAddress;
pub use self::devices::Devices;
pub use self::export::{Export, ExportFormat, TimeField, TimeUnit};
pub use self::fields::{FieldNames, TableOptions};
pub use self::recordings::{Read, ReadOutput, Recordings, Recover, Replay, Sessions, Verify};
pub use self::selection::Selection;
pub use self::serve::{Options, Serve};
pub use self::tap::{Tap, Top};
pub use self::time::Last;
pub use self::tls::TlsOptions;

use crate::config::value::{framing, seconds};
use crate::config::{ConfigError, Partial};

/// Receives, records, sends and shows framed telemetry.
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
    /// Receive messages from many devices.
    Serve(Box<Serve>),
    /// Send messages to a daemon.
    Send(Send),
    /// Check a config file, and print what `serve` would do.
    CheckConfig(CheckConfig),
    /// Print recorded messages.
    Read(Read),
    /// Write decoded messages for analysis, as MCAP, CSV or Parquet.
    Export(Export),
    /// Send recorded messages again, with their original timing.
    Replay(Replay),
    /// List the files of a recording.
    Recordings(Recordings),
    /// List the acknowledged sessions of a recording.
    Sessions(Sessions),
    /// List the devices of a recording or of a running daemon.
    Devices(Devices),
    /// Print the messages of a running daemon as they arrive.
    Tap(Tap),
    /// Show the devices of a running daemon in the terminal.
    Top(Top),
    /// Make certificates for TLS: a certificate authority for a fleet.
    Ca(Ca),
    /// Check recordings for damage, and for missing messages of sessions.
    Verify(Verify),
    /// Recover the intact data of torn recordings.
    Recover(Recover),
    /// Show a daemon and four simulated devices at work.
    Demo(Demo),
    /// Print the completion script of a shell.
    Completions(Completions),
    /// Print the manual page of the program or of a command.
    Man(Man),
    /// Run the server of a textbook script: blocks.py, streamer.py or the sixteen octets.
    ///
    /// The scripts are those of Foundations of Python Network Programming, and the last is its exchange of sixteen octets.
    Server(Server),
    /// Run the client of a textbook script, the peer of `server`.
    Client(Client),
}

/// Arguments of `send`.
#[derive(Args, Debug)]
pub struct Send {
    /// Address of the daemon.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:1060")]
    pub to: String,
    /// How messages are framed.
    #[arg(long, value_name = "SPEC", default_value_t = AnyFraming::Blocks(Blocks), value_parser = framing)]
    pub framing: AnyFraming,
    /// Send a file as one message, of any length that the framing can express.
    #[arg(long, value_name = "PATH", conflicts_with = "messages")]
    pub file: Option<PathBuf>,
    /// Wait for the reply, and print it.
    #[arg(long, conflicts_with = "session")]
    pub wait_reply: bool,
    /// Retry a failed connection attempt for up to this time, with --session also after an interruption; by default 0, with
    /// --session 10.
    #[arg(long, value_name = "TIME", allow_negative_numbers = true, value_parser = seconds)]
    pub connect_timeout: Option<Duration>,
    /// Send over an acknowledged session: exit with 0 only when the daemon has everything on its disk, and connect again
    /// after an interruption.
    #[arg(long)]
    pub session: bool,
    /// Device id of the session: up to 64 letters, digits, `.`, `_`, `:` and `-`; by default the host name.
    #[arg(long, value_name = "ID", requires = "session", value_parser = device)]
    pub device: Option<String>,
    /// Keep messages in a file until they are acknowledged; the next `send --session --spool FILE` sends those that are
    /// left first.
    #[arg(long, value_name = "FILE", requires = "session")]
    pub spool: Option<PathBuf>,
    /// TLS of the connection.
    #[command(flatten)]
    pub tls: TlsOptions,
    /// Messages to send; without any, each line of standard input is one.
    #[arg(value_name = "MESSAGE")]
    pub messages: Vec<String>,
}

/// A device id of a session.
fn device(text: &str) -> Result<String, DeviceError> {
    Device::new(text).map(|device| device.id().to_owned())
}

/// Arguments of `check-config`.
#[derive(Args, Debug)]
pub struct CheckConfig {
    /// Config file to check.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Print every effective value with its origin, as a config file.
    #[arg(long)]
    pub print: bool,
    /// Options of `serve`, which override the file.
    #[arg(last = true, value_name = "OPTION")]
    pub serve: Vec<OsString>,
}

impl CheckConfig {
    /// The options of `serve` that override the file.
    ///
    /// # Errors
    /// If they are not options of `serve`.
    pub fn options(&self) -> Result<Partial, ConfigError> {
        let command = clap::Command::new("check-config").no_binary_name(true);
        let matches = Options::augment_args(command).try_get_matches_from(&self.serve);
        let options = matches.and_then(|matches| Options::from_arg_matches(&matches));
        let Options(options) =
            options.map_err(|error| ConfigError::of_command_line(one_line(&error)))?;
        Ok(options)
    }
}

/// An error of the command line on one line, without the hints below it.
#[must_use]
pub fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let lines = text.lines().take_while(|line| !line.is_empty());
    let line = lines.map(str::trim).collect::<Vec<_>>().join(" ");
    let line = line.strip_prefix("error: ").unwrap_or(&line).to_owned();
    match (suggestion(error), error.get(ContextKind::InvalidArg)) {
        (Some(word), _) => format!("{line}; did you mean `{word}`?"),
        (None, Some(ContextValue::String(option))) if takes_after_dashes(error) => {
            match option == "--config" && is_of_check_config(error) {
                true => format!("{line}; the file needs no option: `check-config FILE`"),
                false => format!("{line}; to pass it on, use `-- {option}`"),
            }
        }
        (None, _) => match confusion(error) {
            Some(hint) => format!("{line}; {hint}"),
            None => line,
        },
    }
}

/// What to do if `--to` was given the value of another option: it is an address, a format or, by its old name, a time.
fn confusion(error: &clap::Error) -> Option<&'static str> {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(&**text),
        _ => None,
    };
    let (option, value) = (
        text(ContextKind::InvalidArg)?,
        text(ContextKind::InvalidValue)?,
    );
    match option {
        "--to <FORMAT>" if time::is_time(value) => Some("the option for a time is --until"),
        "--to <TIME>" => {
            Some("the option for a format is --output, and --to is an old name of --until")
        }
        _ => None,
    }
}

/// Whether clap suggests `--` before an unknown option.
fn takes_after_dashes(error: &clap::Error) -> bool {
    let tips = match error.get(ContextKind::Suggested) {
        Some(ContextValue::StyledStrs(tips)) => &**tips,
        _ => &[],
    };
    tips.iter().any(|tip| tip.to_string().contains("'-- "))
}

/// Whether the error is of the command `check-config`.
fn is_of_check_config(error: &clap::Error) -> bool {
    let usage = error.get(ContextKind::Usage);
    usage.is_some_and(|usage| usage.to_string().contains("check-config"))
}

/// The option, command or value that may have been meant.
fn suggestion(error: &clap::Error) -> Option<String> {
    let kinds = [
        ContextKind::SuggestedArg,
        ContextKind::SuggestedSubcommand,
        ContextKind::SuggestedValue,
    ];
    match kinds.into_iter().find_map(|kind| error.get(kind))? {
        ContextValue::String(word) => Some(word.clone()),
        ContextValue::Strings(words) => words.first().cloned(),
        _ => None,
    }
}

/// Arguments of `demo`.
#[derive(Args, Debug)]
pub struct Demo {
    /// Duration of the demo.
    #[arg(long, value_name = "TIME", default_value = "5", allow_negative_numbers = true, value_parser = seconds)]
    pub seconds: Duration,
    /// Add an emulated Cortex-M4 with real firmware (needs QEMU and a compiler for the target).
    #[arg(long)]
    pub firmware: bool,
    /// After the totals, serve the page until Ctrl-C.
    #[arg(long)]
    pub keep: bool,
}

/// Arguments of `completions`.
#[derive(Args, Debug)]
pub struct Completions {
    /// Shell to print the script for.
    pub shell: Shell,
}

/// Arguments of `man`.
#[derive(Args, Debug)]
pub struct Man {
    /// Command, such as `serve`.
    pub command: Option<String>,
    /// Write the manual pages of the program and of all commands to this folder.
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
    /// Framing: blocks, stream or fixed:16.
    #[arg(long, value_name = "SPEC", default_value_t = AnyFraming::Blocks(Blocks), value_parser = framing)]
    pub framing: AnyFraming,
}

/// Arguments of `client`.
#[derive(Args, Debug)]
pub struct Client {
    /// Address to connect to.
    #[arg(default_value = "127.0.0.1")]
    pub host: String,
    /// Messages to send instead of those of the script.
    #[arg(value_name = "MESSAGE")]
    pub messages: Vec<String>,
    /// Port to connect to.
    #[arg(long, default_value_t = 1060)]
    pub port: u16,
    /// Framing: blocks, stream or fixed:16.
    #[arg(long, value_name = "SPEC", default_value_t = AnyFraming::Blocks(Blocks), value_parser = framing)]
    pub framing: AnyFraming,
}
