//! Runs `top` from the first request to its end: [`run`].

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use ratatui::crossterm::terminal;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use crate::cli::Top;
use crate::commands::client::DaemonClient;
use crate::commands::top::app::App;
use crate::commands::top::input::{self, TerminalInput};
use crate::commands::top::layout::Size;
use crate::commands::top::poll;
use crate::commands::top::screen::{Theme, draw};
use crate::commands::top::terminal::TopTerminal;
use crate::error::CommandError;
use crate::output::Clock;

/// Least time between two frames.
const FRAME_INTERVAL: Duration = Duration::from_millis(250);
/// Maximum time until the daemon has answered.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How it ended.
enum End {
    /// By a key.
    Key,
    /// By a signal; the exit code.
    Signal(i32),
}

/// Shows a daemon until a key or a signal ends it.
///
/// # Errors
/// As [`top`](super::top).
pub(super) fn run(arguments: &Top, runtime: Runtime) -> Result<(), CommandError> {
    if !io::stdout().is_terminal() {
        return Err(CommandError::NoTerminal {
            command: "top",
            instead: "`devices --url URL` or `tap`",
        });
    }
    let ended = runtime.block_on(show(arguments));
    runtime.shutdown_background();
    let ended = match ended {
        // The terminal went away before its signal came.
        Err(error) if is_of_terminal(&error) => End::Signal(128 + libc::SIGHUP),
        ended => ended?,
    };
    match ended {
        End::Key => Ok(()),
        End::Signal(code) => std::process::exit(code),
    }
}

/// Whether a terminal that is gone has caused an error.
fn is_of_terminal(error: &CommandError) -> bool {
    let causes = std::iter::successors(Some(error as &dyn std::error::Error), |it| it.source());
    let mut systems = causes.filter_map(|it| it.downcast_ref::<io::Error>());
    systems.any(|error| error.raw_os_error() == Some(libc::EIO))
}

async fn show(arguments: &Top) -> Result<End, CommandError> {
    let address = &arguments.daemon;
    let client = DaemonClient::new(&address.url, address.token.as_deref(), &address.tls)?;
    let mut client = client.with_timeout(TIMEOUT);
    let url = address.url.to_string();
    let mut app = App::new(url.trim_end_matches('/').to_owned(), size(), Clock::new());
    // A wrong address or token is an error of the command line, and not a lost daemon.
    app.receive(Ok(poll::ask(&mut client, &app.wanted()).await?));

    let mut signals = [
        (SignalKind::hangup(), libc::SIGHUP),
        (SignalKind::interrupt(), libc::SIGINT),
        (SignalKind::terminate(), libc::SIGTERM),
    ]
    .map(|(kind, number)| signal(kind).map(|signal| (signal, 128 + number)));
    let [hangup, interrupt, terminate] = &mut signals;
    let terminal = TopTerminal::open().map_err(CommandError::stdout)?;
    let inputs = input::read().map_err(CommandError::Start)?;
    let (wanted, wanted_now) = watch::channel(app.wanted());
    let (to, rounds) = mpsc::channel(1);
    tokio::spawn(poll::poll(client, wanted_now, to));
    tokio::select! {
        shown = react(app, terminal, inputs, wanted, rounds) => shown.map(|()| End::Key),
        code = received(hangup) => code.map(End::Signal),
        code = received(interrupt) => code.map(End::Signal),
        code = received(terminate) => code.map(End::Signal),
    }
}

/// Draws a frame after each change, not more often than each [`FRAME_INTERVAL`], until the user quits.
async fn react(
    mut app: App,
    mut terminal: TopTerminal,
    mut inputs: mpsc::Receiver<TerminalInput>,
    wanted: watch::Sender<poll::Wanted>,
    mut rounds: mpsc::Receiver<poll::Polled>,
) -> Result<(), CommandError> {
    let theme = Theme::of_environment();
    let (mut is_changed, mut next_frame) = (true, Instant::now());
    loop {
        tokio::select! {
            biased;
            () = sleep_until(next_frame), if is_changed => {
                app.resize(size());
                terminal
                    .draw(|frame| draw(frame, &app, theme))
                    .map_err(CommandError::stdout)?;
                next_frame = Instant::now() + FRAME_INTERVAL;
                is_changed = false;
            }
            input = inputs.recv() => match input {
                Some(TerminalInput::Key(key)) => {
                    app.press(key);
                    is_changed = true;
                }
                Some(TerminalInput::Resized) => {
                    app.resize(size());
                    is_changed = true;
                }
                Some(TerminalInput::Failed(error)) => return Err(error.into()),
                None => return Err(io::Error::other("the terminal cannot be read").into()),
            },
            round = rounds.recv() => match round {
                Some(polled) => {
                    app.receive(polled);
                    is_changed = true;
                }
                None => return Err(io::Error::other("the task that asks the daemon has ended").into()),
            },
        }
        if app.has_quit() {
            return Ok(());
        }
        wanted.send_if_modified(|old| {
            let new = app.wanted();
            let is_new = *old != new;
            *old = new;
            is_new
        });
    }
}

/// Waits for a signal; returns the exit code.
async fn received(signal: &mut io::Result<(Signal, i32)>) -> Result<i32, CommandError> {
    match signal {
        Ok((signal, code)) => {
            signal.recv().await;
            Ok(*code)
        }
        Err(error) => Err(CommandError::Start(io::Error::new(
            error.kind(),
            error.to_string(),
        ))),
    }
}

fn size() -> Size {
    let (width, height) = terminal::size().unwrap_or((80, 24));
    Size { width, height }
}
