//! The arguments of `serve`, and of each listener.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Arg, Args, Command, ValueEnum};
use framing_core::{AnyFraming, Blocks, Limits};

use crate::cli::record::Record;
use crate::cli::{at_least_one, block_max, bytes, decoding, duration, framing, seconds};
use crate::payload::Decoding;
use crate::service::log::directives;
use blocksd_engine::admission::identity;
use blocksd_engine::batch::{ClosePolicy, OversizePolicy};
use blocksd_engine::connection::policy::{Policy, ReplyKind, Timeouts};
use blocksd_engine::listen::address::Address;
use blocksd_engine::listen::listener::Sockets;
use blocksd_engine::permit::Bounds;

/// Least memory for unfinished messages, and the default, in bytes.
const UNFINISHED_MIN: u64 = 1 << 20;
const UNFINISHED: u64 = 64 << 20;
/// Longest messages that must fit into it.
pub(crate) const UNFINISHED_MESSAGES: u64 = 4;

/// Arguments of `serve`.
#[derive(Args, Debug)]
pub struct Serve {
    /// Options from a TOML file, by their names; what stands on the command line goes before it.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where to listen: HOST:PORT, unix:PATH, serial:PATH?baud=N, - for standard input, systemd or systemd:NAME for sockets
    /// that were passed. What stands behind a comma is for this one only: framing=SPEC, decode=..., max-block=BYTES,
    /// max-skip=BYTES, oversize=skip|close|pieces, after-end=close|continue.
    #[arg(
        long,
        value_name = "ADDR[,KEY=VALUE]...",
        default_value = "127.0.0.1:1060",
        allow_hyphen_values = true
    )]
    pub listen: Vec<Listen>,
    /// How connections are treated.
    #[command(flatten)]
    pub options: Options,
    /// Connections at once. A newcomer gets the place of the longest-silent connection of the origin (an IPv4 address, an
    /// IPv6 /64 network, a local listener) that has most, and there of the device that has most, if its own has fewer;
    /// else it is closed at once, and counted.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = at_least_one)]
    pub max_connections: usize,
    /// Connections at once of one device; more are closed at once, and counted. Without: no bound of its own.
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub max_connections_per_device: Option<usize>,
    /// Bytes of memory for unfinished messages of all connections; at least four times the largest --max-block. Default:
    /// 64 MiB, or four times the largest --max-block if that is more.
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(UNFINISHED_MIN..))]
    pub max_unfinished: Option<u64>,
    /// What is one device: an address, a connection, or a listener.
    #[arg(long, value_enum, default_value_t = DeviceBy::Ip)]
    pub device_by: DeviceBy,
    /// Close a connection that has sent nothing at all this long after it was accepted.
    #[arg(
        long,
        value_name = "S|off",
        default_value = "off",
        allow_negative_numbers = true
    )]
    pub first_byte_timeout: Timeout,
    /// Close a connection that is silent for so long.
    #[arg(
        long,
        value_name = "S|off",
        default_value = "off",
        allow_negative_numbers = true
    )]
    pub idle_timeout: Timeout,
    /// Close a connection when the header of a message is not whole so long after its first byte.
    #[arg(
        long,
        value_name = "S|off",
        default_value = "30",
        allow_negative_numbers = true
    )]
    pub header_timeout: Timeout,
    /// Close a connection when a message is not whole so long after its first byte.
    #[arg(
        long,
        value_name = "S|off",
        default_value = "300",
        allow_negative_numbers = true
    )]
    pub block_timeout: Timeout,
    /// Ask a peer that is silent for so long whether it is there: after about this and 30 s a dead one is found. Whole
    /// seconds.
    #[arg(
        long,
        value_name = "S|off",
        default_value = "60",
        allow_negative_numbers = true,
        value_parser = keepalive
    )]
    pub keepalive: Timeout,
    /// Length of the kernel's receive buffer of a connection; a warning is logged if the kernel allows less. Without: as
    /// the kernel finds it by itself.
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub receive_buffer: Option<u32>,
    /// What is written to standard output.
    #[arg(long, value_enum, default_value_t = OutputKind::Text)]
    pub output: OutputKind,
    /// How a recording is written.
    #[command(flatten)]
    pub record: Record,
    /// End after the first connection.
    #[arg(long)]
    pub once: bool,
    /// Shut down gracefully after this time, such as 60s, 10m or 2h, counted from when all listeners are open.
    #[arg(long = "for", value_name = "TIME", allow_negative_numbers = true, value_parser = duration)]
    pub run_for: Option<Duration>,
    /// What is logged: off, error, warn, info, debug, trace, or TARGET=LEVEL, several with commas. RUST_LOG goes first.
    #[arg(long, value_name = "LEVEL", default_value = "info", value_parser = directives)]
    pub log: String,
    /// Serve over HTTP at this address: /metrics for Prometheus, /healthz and /readyz.
    #[arg(long, value_name = "ADDR")]
    pub metrics: Option<String>,
    /// What is sent back when a device has said everything: receipt, echo, or the content of a file.
    #[arg(long, value_name = "receipt|echo|FILE")]
    pub reply: Option<String>,
    /// Close a connection whose peer does not accept the next 64 KiB of a reply, or the rest of it, in this time.
    #[arg(
        long,
        value_name = "S|off",
        default_value = "30",
        allow_negative_numbers = true
    )]
    pub reply_timeout: Timeout,
    /// Bytes that are kept to be echoed to one connection; one that sends more is closed.
    #[arg(long, value_name = "BYTES", default_value_t = 64 << 20)]
    pub reply_max_bytes: u64,
    /// The same for all connections together, in memory and in temporary files.
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 30)]
    pub reply_max_total_bytes: u64,
}

/// Options that a listener may have of its own.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// How messages are framed.
    #[arg(long, value_name = "SPEC", default_value_t = AnyFraming::Blocks(Blocks), value_parser = framing)]
    pub framing: AnyFraming,
    /// How payload is read: raw, text, json, cbor, or defmt with the firmware's ELF file.
    #[arg(long, value_name = "raw|text|json|cbor|defmt:ELF", default_value = "raw", value_parser = decoding)]
    pub decode: Decoding,
    /// Longest message that is taken, in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 20, value_parser = block_max)]
    pub max_block: u32,
    /// Longest message that is skipped, in bytes; one that is longer closes the connection. Not used with --oversize
    /// pieces.
    #[arg(long, value_name = "BYTES", default_value_t = Limits::SKIP_MAX)]
    pub max_skip: u32,
    /// What a message over --max-block does.
    #[arg(long, value_enum, default_value_t = Oversize::Skip)]
    pub oversize: Oversize,
    /// What the mark that ends a series does.
    #[arg(long, value_enum, default_value_t = AfterEnd::Close)]
    pub after_end: AfterEnd,
}

/// What becomes of a message that is too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Oversize {
    /// It is skipped, and the next one is taken.
    Skip,
    /// The connection is closed.
    Close,
    /// It is handed out in pieces, as it comes.
    Pieces,
}

/// What becomes of a connection whose series has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AfterEnd {
    /// It is closed.
    Close,
    /// Another series may come.
    Continue,
}

/// What is one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DeviceBy {
    /// Who comes from one address; of this machine, through one listener.
    Ip,
    /// Each connection: address and port; of this machine, the listener and the connection's number.
    Peer,
    /// Who comes through one listener.
    Listener,
}

impl From<DeviceBy> for identity::DeviceBy {
    fn from(device_by: DeviceBy) -> Self {
        match device_by {
            DeviceBy::Ip => Self::Ip,
            DeviceBy::Peer => Self::Peer,
            DeviceBy::Listener => Self::Listener,
        }
    }
}

/// What is written to standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OutputKind {
    /// A line a block, for people.
    Text,
    /// An object a line, for programs.
    Json,
    /// A dump of each block.
    Hex,
    /// Nothing.
    None,
}

/// A time that may pass; none if it is `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeout(pub Option<Duration>);

impl FromStr for Timeout {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self(None));
        }
        match seconds(text) {
            Ok(Duration::ZERO) => {
                Err("0 would leave no time at all; use `off` for no limit".to_owned())
            }
            Ok(time) => Ok(Self(Some(time))),
            Err(_) => Err("must be a number of seconds, or `off`".to_owned()),
        }
    }
}

/// An address with options of its own.
#[derive(Clone, Debug)]
pub struct Listen {
    /// What is read as an [`Address`].
    pub address: String,
    own: Vec<Own>,
}

impl Listen {
    /// Its own options, to be compared.
    pub(crate) fn own(&self) -> String {
        format!("{:?}", self.own)
    }
}

/// An option that a listener has of its own.
#[derive(Clone, Debug)]
enum Own {
    Framing(AnyFraming),
    Decode(Decoding),
    MaxBlock(u32),
    MaxSkip(u32),
    Oversize(Oversize),
    AfterEnd(AfterEnd),
}

impl Serve {
    /// What all connections share, with listeners of these policies.
    #[must_use]
    pub fn bounds<'a>(&self, policies: impl Iterator<Item = &'a Policy>) -> Bounds {
        let block_max = policies.map(|policy| policy.limits.block_max).max();
        let longest = u64::from(block_max.unwrap_or(self.options.max_block));
        let default = UNFINISHED.max(UNFINISHED_MESSAGES * longest);
        Bounds {
            connections: self.max_connections,
            per_device: self.max_connections_per_device,
            unfinished: self.max_unfinished.unwrap_or(default),
            longest,
        }
    }

    /// How sockets are set.
    #[must_use]
    pub const fn sockets(&self) -> Sockets {
        Sockets {
            keepalive: self.keepalive.0,
            receive_buffer: self.receive_buffer,
        }
    }

    /// How the connections of a listener are treated.
    #[must_use]
    pub fn policy(&self, listen: &Listen) -> Policy {
        let mut options = self.options.clone();
        if is_line(&listen.address) && self.reply.is_none() {
            options.after_end = AfterEnd::Continue;
        }
        for own in &listen.own {
            match own {
                Own::Framing(framing) => options.framing = *framing,
                Own::Decode(decoding) => options.decode = decoding.clone(),
                Own::MaxBlock(max_block) => options.max_block = *max_block,
                Own::MaxSkip(max_skip) => options.max_skip = *max_skip,
                Own::Oversize(oversize) => options.oversize = *oversize,
                Own::AfterEnd(after_end) => options.after_end = *after_end,
            }
        }
        // What is taken in pieces is never skipped.
        let in_pieces = options.oversize == Oversize::Pieces;
        let skip_max = if in_pieces {
            u32::MAX
        } else {
            options.max_skip
        };
        Policy {
            framing: options.framing,
            encoding: options.decode.into(),
            limits: Limits {
                block_max: options.max_block,
                skip_max,
            },
            close: ClosePolicy {
                at_end: options.after_end == AfterEnd::Close,
                oversize: match options.oversize {
                    Oversize::Skip => OversizePolicy::Skip,
                    Oversize::Close => OversizePolicy::Close,
                    Oversize::Pieces => OversizePolicy::Stream,
                },
            },
            timeouts: Timeouts {
                first_byte: self.first_byte_timeout.0,
                idle: self.idle_timeout.0,
                header: self.header_timeout.0,
                message: self.block_timeout.0,
                reply: self.reply_timeout.0,
            },
            reply: self.reply.as_deref().map(ReplyKind::parse),
        }
    }
}

/// What the kernel takes as `TCP_KEEPIDLE`, in seconds.
const KEEPALIVE_MAX: Duration = Duration::from_secs(32_767);

fn keepalive(text: &str) -> Result<Timeout, String> {
    let timeout: Timeout = text.parse()?;
    let range = Duration::from_secs(1)..=KEEPALIVE_MAX;
    // The kernel counts whole seconds.
    let fits = |time: Duration| range.contains(&time) && time.subsec_nanos() == 0;
    if timeout.0.is_some_and(|time| !fits(time)) {
        let max = KEEPALIVE_MAX.as_secs();
        return Err(format!(
            "must be a whole number of seconds from 1 to {max}, or `off`"
        ));
    }
    Ok(timeout)
}

/// Whether nobody connects there: a series that ends leaves the next one on the way, and closing would lose its first
/// bytes. Such a listener goes on unless its own options say otherwise, or its device waits for a reply.
fn is_line(address: &str) -> bool {
    matches!(address.parse(), Ok(Address::Serial(_) | Address::Stdin))
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(',');
        let address = parts.next().unwrap_or_default().to_owned();
        let checked: Result<Address, _> = address.parse();
        checked.map_err(|error| error.to_string())?;
        let own = parts.map(Own::parse).collect::<Result<_, _>>()?;
        Ok(Self { address, own })
    }
}

impl Own {
    fn parse(text: &str) -> Result<Self, String> {
        let (key, value) = text
            .split_once('=')
            .ok_or_else(|| format!("`{text}` is not KEY=VALUE"))?;
        match key {
            "framing" => framing(value).map(Self::Framing),
            "decode" => decoding(value).map(Self::Decode),
            "max-block" => block_max(value).map(Self::MaxBlock),
            "max-skip" => bytes(value).map(Self::MaxSkip),
            "oversize" => Oversize::from_str(value, false).map(Self::Oversize),
            "after-end" => AfterEnd::from_str(value, false).map(Self::AfterEnd),
            _ => Err(Self::unknown(key)),
        }
    }

    fn unknown(key: &str) -> String {
        let has = |command: &Command| {
            let mut options = command.get_arguments();
            options.any(|option| option.get_long() == Some(key))
        };
        if has(&Serve::augment_args(Command::new("serve"))) {
            return format!("`{key}` applies to all listeners; give it as --{key}");
        }
        let own = Options::augment_args(Command::new("listener"));
        let names: Vec<_> = own.get_arguments().filter_map(Arg::get_long).collect();
        format!(
            "`{key}` is not an option of a listener; the options are {}",
            names.join(", ")
        )
    }
}
