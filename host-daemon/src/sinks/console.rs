//! The sink on standard output: a [`Console`] writes events in a [`Format`].

use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use blocksd_engine::error::SinkError;
use blocksd_engine::event::EventKind;
use blocksd_engine::sink::lossy::Next;
use blocksd_engine::sink::{Events, Sink, Supervision, Supervisor};
use tokio_util::sync::CancellationToken;

use crate::output::{Format, Out};
use crate::payload::UndecodableReporter;

/// Time for the output to write its last events after the daemon was stopped.
const LAST_EVENTS: Duration = Duration::from_millis(700);

/// Writes events to standard output, and flushes it when no more are waiting.
pub struct Console {
    format: Box<dyn Format>,
    reporter: Option<UndecodableReporter>,
    stop: CancellationToken,
}

/// Standard output did not accept the last events in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("standard output did not accept the last events in time")]
pub struct Stuck;

impl Console {
    /// Writes in this format, and reports undecodable messages to `reporter`, if another sink does not. Waits for the
    /// reader of standard output until 0.7 s after `stop` was cancelled.
    #[must_use]
    pub fn new(
        format: Box<dyn Format>,
        reporter: Option<UndecodableReporter>,
        stop: CancellationToken,
    ) -> Self {
        Self {
            format,
            reporter,
            stop,
        }
    }
}

impl Sink for Console {
    fn name(&self) -> &'static str {
        "output"
    }

    fn run(mut self: Box<Self>, mut events: Events) -> Result<(), SinkError> {
        let mut out = Out::new(Box::new(io::stdout()), self.reporter);
        Ok(write_all(&mut *self.format, &mut out, &mut events)?)
    }

    fn supervisor(&self) -> Supervisor {
        let stop = self.stop.clone();
        let mut since = None;
        Box::new(move || {
            if !stop.is_cancelled() {
                return Supervision::Wait;
            }
            if LAST_EVENTS < since.get_or_insert_with(Instant::now).elapsed() {
                Supervision::GiveUp(Err(Stuck.into()))
            } else {
                Supervision::Wait
            }
        })
    }
}

impl fmt::Debug for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Console").finish_non_exhaustive()
    }
}

fn write_all(format: &mut dyn Format, out: &mut Out, events: &mut Events) -> io::Result<()> {
    loop {
        let next = match events.poll() {
            Next::Empty => {
                out.flush()?;
                events.wait()
            }
            next => next,
        };
        match next {
            Next::Event(event) => {
                format.event(&event, out)?;
                if let EventKind::Closed { .. } = event.kind {
                    out.closed(event.source.conn);
                }
            }
            Next::Lost(dropped) => format.lost(dropped, out)?,
            Next::Empty => {}
            Next::End => return out.flush(),
        }
    }
}
