//! `blocksd tap`: prints what a running daemon receives, as it arrives. Start with [`tap`].

use std::io::{self, Write};
use std::time::Duration;

use anstream::{AutoStream, ColorChoice};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::{Map, Value};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use crate::api::level::LogLevel;
use crate::cli::Tap;
use crate::commands::client::{DaemonClient, RequestTarget, StreamedLines};
use crate::commands::entry_text::EntryText;
use crate::error::CommandError;
use crate::escape;
use crate::output::Clock;
use blocksd_engine::stdio;

/// How often a tap without messages looks whether its reader is gone.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// Prints what a daemon receives until SIGINT.
///
/// # Errors
/// [`CommandError::Connect`], [`CommandError::Request`], [`CommandError::File`], and those of standard output.
pub fn tap(arguments: Tap, runtime: Runtime) -> Result<(), CommandError> {
    let ended = runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt()).map_err(CommandError::Start)?;
        // A task of its own: a reader that reads nothing must not hold back the signal.
        let printing = tokio::spawn(print(arguments));
        tokio::select! {
            printed = printing => printed.unwrap_or_else(|error| Err(io::Error::other(error).into())),
            _ = interrupt.recv() => Ok(()),
            () = reader_is_gone() => Err(CommandError::BrokenPipe),
        }
    });
    runtime.shutdown_background();
    ended
}

async fn print(arguments: Tap) -> Result<(), CommandError> {
    let daemon = &arguments.daemon;
    let mut client = DaemonClient::new(&daemon.url, daemon.token.as_deref(), &daemon.tls)?;
    let mut lines = client.follow(&target(&arguments)).await?;
    match arguments.json {
        true => pass_on(&mut lines).await,
        false => print_text(&mut lines).await,
    }
}

fn target(arguments: &Tap) -> RequestTarget {
    let path = match (arguments.faults, arguments.events) {
        (true, _) => "/api/v1/faults",
        (_, true) => "/api/v1/events",
        _ => "/api/v1/tail",
    };
    let mut target = RequestTarget::new(path)
        .with("follow", true)
        .with("limit", arguments.last);
    for device in &arguments.devices {
        target = target.with("device", device);
    }
    if let Some(text) = &arguments.contains {
        target = target.with("contains", text);
    }
    if let Some(level) = arguments.level.map(LogLevel::as_str) {
        target = target.with("level", level);
    }
    match arguments.hex {
        true => target.with("hex", true),
        false => target,
    }
}

/// Prints the lines as they are; a terminal gets them escaped.
async fn pass_on(lines: &mut StreamedLines) -> Result<(), CommandError> {
    let mut out = escape::terminal::stdout();
    loop {
        let text = lines.next().await?;
        let lines = text.split_inclusive(|&byte| byte == b'\n');
        let lines: Vec<_> = lines.filter(|line| *line != b"\n").collect();
        write(&mut *out, &lines.concat())?;
    }
}

async fn print_text(lines: &mut StreamedLines) -> Result<(), CommandError> {
    let colour = AutoStream::choice(&io::stdout()) != ColorChoice::Never;
    let mut text = EntryText::new(Clock::new(), colour);
    loop {
        let mut out = Vec::new();
        let next = lines.next().await?;
        for line in next
            .split(|&byte| byte == b'\n')
            .filter(|it| !it.is_empty())
        {
            let entry: Map<String, Value> = serde_json::from_slice(line).map_err(|error| {
                lines.failed(format!("a line of the answer is not JSON: {error}"))
            })?;
            text.write(&entry, &mut out);
        }
        write(&mut stdio::stdout(), &out)?;
    }
}

fn write(out: &mut dyn Write, text: &[u8]) -> Result<(), CommandError> {
    if text.is_empty() {
        return Ok(());
    }
    let written = out.write_all(text).and_then(|()| out.flush());
    written.map_err(CommandError::stdout)
}

/// Waits until the reader of standard output has closed it. A write would find that only at the next message.
async fn reader_is_gone() {
    let now = Timespec::default();
    loop {
        let stdout = io::stdout();
        let mut polled = [PollFd::new(&stdout, PollFlags::empty())];
        let is_polled = poll(&mut polled, Some(&now)).is_ok();
        if is_polled && polled[0].revents().contains(PollFlags::ERR) {
            return;
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}
