//! `blocksd replay`: sends recorded messages again, over a connection for each recorded one, with the original timing.
//! Start with [`replay`].

mod connections;
mod dialer;
mod pieces;
mod player;
mod schedule;
mod sender;
mod session;
mod totals;
mod wire;

use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use crate::cli::Replay;
use crate::commands::read::{check_losses, report_lost, report_missed, report_unreadable};
use crate::commands::replay::player::Player;
use crate::commands::replay::session::SessionFailure;
use crate::commands::replay::totals::ReplayTotals;
use crate::commands::selection::Selected;
use crate::commands::stream_address::only_recordings;
use crate::error::{CommandError, SessionEnd, SessionError};
use crate::recorded::from_log::{EventReader, EventVisitor};
use crate::recorded::lifecycle::Lifecycle;
use crate::service::log::print_status;
use crate::service::signals;
use crate::tls::client::Connector;
use blocksd_engine::event::Event;
use blocksd_recording::{Error as RecordingError, LostRange, Message, Missed, Visitor};

/// Sends the recorded messages.
///
/// # Errors
/// [`CommandError::Connect`], [`CommandError::CutOff`] if a peer did not accept everything, [`CommandError::Unsent`] if a
/// message cannot be sent, [`CommandError::NotWhole`] if data of the recording is lost (everything else is sent anyway),
/// [`CommandError::Interrupted`], and [`CommandError::Recording`].
pub fn replay(arguments: &Replay, runtime: &Runtime) -> Result<(), CommandError> {
    let connector = Connector::of_address(&arguments.tls, &arguments.to)?;
    only_recordings("replay", &arguments.paths)?;
    let selected = Selected::new(&arguments.paths, &arguments.select)?;
    let totals = Arc::new(ReplayTotals::new());
    let stop = CancellationToken::new();
    runtime
        .block_on(async { signals::stop_by_signal(stop.clone()) })
        .map_err(CommandError::Start)?;
    let begin = Instant::now();
    let failure = arguments.session.then(SessionFailure::default);
    let mut replayer = Replayer {
        reader: EventReader::default().numbering_pieces(),
        player: BlockingPlayer {
            player: Player::new(
                arguments,
                connector,
                Arc::clone(&totals),
                stop.clone(),
                failure.clone(),
            ),
            runtime,
            stop,
        },
    };
    let visited = selected.visit(&mut replayer);
    let connections = runtime.block_on(replayer.player.player.finish());
    totals.finish();
    let done = format!("{totals}, {:.1} seconds", begin.elapsed().as_secs_f64());
    let failure = failure.and_then(|failure| {
        let mut failure = failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.take()
    });
    if let Some(error) = failure {
        return Err(of_session(error, &totals, done));
    }
    let result = match (visited, totals.cut_off_count(), totals.unsent_count()) {
        (Err(failure), ..) => Err(failure),
        (Ok(_), 0, 0) if replayer.player.stop.is_cancelled() => Err(CommandError::Interrupted),
        (Ok((losses, matched)), 0, 0) => {
            check_losses(losses).and_then(|()| selected.check(&matched))
        }
        (Ok(_), 0, messages) => Err(CommandError::Unsent { messages }),
        (Ok(_), cut_off, _) => Err(CommandError::CutOff {
            connections: cut_off,
            of: connections,
        }),
    };
    match result {
        Ok(()) => {
            print_status(format_args!("replayed {done}"));
            Ok(())
        }
        Err(failure) if totals.is_zero() => Err(failure),
        Err(failure) => Err(CommandError::Partly {
            failure: Box::new(failure),
            done: format!("sent {done}"),
        }),
    }
}

/// The error of the session that ended the replay.
fn of_session(error: SessionError, totals: &ReplayTotals, done: String) -> CommandError {
    match error {
        SessionError::Unacknowledged {
            cause: SessionEnd::Connect { address, error },
            ..
        } if totals.is_zero() => CommandError::Connect { address, error },
        error if totals.is_zero() => error.into(),
        error => CommandError::Partly {
            failure: Box::new(error.into()),
            done: format!("acknowledged {done}"),
        },
    }
}

/// Reads events from the recording.
struct Replayer<'a> {
    reader: EventReader,
    player: BlockingPlayer<'a>,
}

/// A [`Player`] that is called from a thread without a runtime.
struct BlockingPlayer<'a> {
    player: Player,
    runtime: &'a Runtime,
    stop: CancellationToken,
}

impl Visitor for Replayer<'_> {
    type Error = CommandError;

    fn message(&mut self, message: &Message<'_>) -> Result<(), CommandError> {
        self.reader.message(message, &mut self.player)
    }

    fn missed(&mut self, path: &Path, missed: &Missed) -> Result<(), CommandError> {
        report_missed(path, missed);
        self.gap()
    }

    fn lost(&mut self, file: &Path, lost: &LostRange) -> Result<(), CommandError> {
        report_lost(file, lost);
        self.gap()
    }

    fn gap(&mut self) -> Result<(), CommandError> {
        self.reader.finish(&mut self.player)
    }

    fn unreadable(&mut self, error: RecordingError) -> Result<(), CommandError> {
        report_unreadable(error);
        Ok(())
    }

    fn idle(&mut self) -> Result<(), CommandError> {
        self.reader.finish(&mut self.player)
    }
}

impl EventVisitor for BlockingPlayer<'_> {
    type Error = CommandError;

    fn event(&mut self, event: &Event) -> Result<(), CommandError> {
        self.block_on(async |player| player.event(event).await)
    }

    fn lifecycle(&mut self, event: &Lifecycle<'_>) -> Result<(), CommandError> {
        self.block_on(async |player| {
            player.lifecycle(event).await;
            Ok(())
        })
    }

    fn other(&mut self, json: &[u8]) -> Result<(), CommandError> {
        self.block_on(async |player| player.other(json).await)
    }
}

impl BlockingPlayer<'_> {
    /// Waits for the player, or for an interrupt.
    fn block_on(
        &mut self,
        action: impl AsyncFnOnce(&mut Player) -> Result<(), CommandError>,
    ) -> Result<(), CommandError> {
        if self.stop.is_cancelled() {
            return Err(CommandError::Interrupted);
        }
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                done = action(&mut self.player) => done,
                () = self.stop.cancelled() => Err(CommandError::Interrupted),
            }
        })
    }
}
