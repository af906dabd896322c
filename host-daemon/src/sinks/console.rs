//! The sink on standard output: a [`Console`] writes events in a [`Format`].

mod writer;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use blocksd_engine::counters::Counters;
use blocksd_engine::error::SinkError;
use blocksd_engine::event::{Dropped, EventKind};
use blocksd_engine::sink::lossy::Next;
use blocksd_engine::sink::{Events, Sink, Supervision, Supervisor};
use tokio_util::sync::CancellationToken;

use self::writer::{ConsoleWriter, Interrupt};
use crate::output::{Format, Out, ShownCounts, counted};
use crate::payload::UndecodableReporter;

/// Time for the output to write its last events after the daemon was stopped.
pub(crate) const LAST_EVENTS: Duration = Duration::from_millis(700);

/// Further time to count unwritten events.
const LAST_COUNT: Duration = Duration::from_millis(300);

/// Writes events to standard output, and flushes it when no more are waiting.
pub struct Console {
    format: Box<dyn Format>,
    counters: Arc<Counters>,
    reporter: Option<UndecodableReporter>,
    stop: CancellationToken,
    is_alone: bool,
    shown: Arc<ShownCounts>,
    writer: ConsoleWriter,
    interrupt: Interrupt,
}

/// Events that were received and that standard output has not accepted.
#[derive(Debug, thiserror::Error)]
#[error("{}; not shown: {lost}", cause.as_ref().map_or_else(|| LATE.to_owned(), ToString::to_string))]
pub struct Unshown {
    /// The number of these events.
    pub lost: NotShown,
    /// The error of the system; `None` if the output did not accept them in time.
    #[source]
    pub cause: Option<io::Error>,
}

const LATE: &str = "standard output did not accept the last events in time";

/// The number of events that were not shown. Its `Display` is `2 messages and 1 other event`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotShown {
    /// Exactly these.
    Counted(Dropped),
    /// At most this number of messages, and other events: the output hangs, so the accepted part is unknown.
    UpTo {
        /// The number of messages.
        messages: u64,
    },
}

impl Console {
    /// Writes in this format, and reports undecodable messages to `reporter`, if another sink does not. Waits for the
    /// reader of standard output until 0.7 s after `stop` was cancelled.
    ///
    /// # Errors
    /// If the system has no descriptors left.
    pub fn new(
        format: Box<dyn Format>,
        counters: Arc<Counters>,
        reporter: Option<UndecodableReporter>,
        stop: CancellationToken,
    ) -> io::Result<Self> {
        let (writer, interrupt) = writer::new()?;
        Ok(Self {
            format,
            counters,
            reporter,
            stop,
            is_alone: false,
            shown: Arc::default(),
            writer,
            interrupt,
        })
    }

    /// Says that no other sink keeps the events. If standard output fails, the console then cancels `stop`, and counts all
    /// events that are received until the end.
    #[must_use]
    pub const fn alone(mut self) -> Self {
        self.is_alone = true;
        self
    }
}

impl Sink for Console {
    fn name(&self) -> &'static str {
        "output"
    }

    fn run(mut self: Box<Self>, mut events: Events) -> Result<(), SinkError> {
        let mut out = Out::new(Box::new(self.writer), self.reporter).counting(self.shown);
        let mut taken = Dropped::default();
        let written = write_all(&mut *self.format, &mut out, &mut events, &mut taken);
        let Err(error) = written else {
            return Ok(());
        };
        let is_late = writer::is_interrupted(&error);
        if !is_late && !self.is_alone {
            return Err(error.into());
        }
        // All connections close, and no event is counted twice or left out.
        self.stop.cancel();
        loop {
            match events.wait() {
                Next::Event(event) => taken.add(Dropped::of(&event)),
                Next::Lost(dropped) => taken.add(dropped),
                Next::Empty => {}
                Next::End => break,
            }
        }
        let shown = out.shown();
        let lost = NotShown::Counted(Dropped {
            messages: taken.messages.saturating_sub(shown.messages),
            others: taken.others.saturating_sub(shown.others),
        });
        let cause = (!is_late).then_some(error);
        Err(Unshown { lost, cause }.into())
    }

    fn supervisor(&self) -> Supervisor {
        let (stop, interrupt) = (self.stop.clone(), self.interrupt.clone());
        let (shown, counters) = (Arc::clone(&self.shown), Arc::clone(&self.counters));
        let mut since = None;
        Box::new(move || {
            if !stop.is_cancelled() {
                return Supervision::Wait;
            }
            let elapsed = since.get_or_insert_with(Instant::now).elapsed();
            if elapsed <= LAST_EVENTS {
                return Supervision::Wait;
            }
            interrupt.interrupt();
            if elapsed <= LAST_EVENTS + LAST_COUNT {
                return Supervision::Wait;
            }
            // The system call itself hangs.
            let received = counters.totals().messages;
            let messages = received.saturating_sub(shown.read().messages);
            let lost = NotShown::UpTo { messages };
            Supervision::GiveUp(Err(Unshown { lost, cause: None }.into()))
        })
    }
}

impl fmt::Debug for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Console").finish_non_exhaustive()
    }
}

impl fmt::Display for NotShown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Counted(Dropped { messages, others }) => {
                let messages = counted(messages, "message");
                write!(f, "{messages} and {}", counted(others, "other event"))
            }
            Self::UpTo { messages } => {
                write!(
                    f,
                    "up to {}, and other events",
                    counted(messages, "message")
                )
            }
        }
    }
}

/// Writes all events. Adds those that it takes to `taken`.
fn write_all(
    format: &mut dyn Format,
    out: &mut Out,
    events: &mut Events,
    taken: &mut Dropped,
) -> io::Result<()> {
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
                taken.add(Dropped::of(&event));
                format.event(&event, out)?;
                if let EventKind::Closed { .. } = event.kind {
                    out.closed(event.source.conn);
                }
            }
            Next::Lost(dropped) => {
                taken.add(dropped);
                format.lost(dropped, out)?;
            }
            Next::Empty => {}
            Next::End => return out.flush(),
        }
        out.end_event(*taken);
    }
}
