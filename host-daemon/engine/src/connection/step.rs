//! What a connection does next: a [`Step`].

use crate::batch::Batch;
use crate::event::Event;
use crate::reason::CloseReason;

/// Outcome of one non-blocking attempt to make progress.
pub(super) enum Step {
    /// Progress was made; try again.
    Go,
    /// The connection has used its turn: yield to others.
    Yield,
    /// The pool has no free buffer.
    NoBuffer,
    /// Unfinished messages hold too much memory: do not read now.
    Paused,
    /// Received messages must wait for room in the pool or a queue.
    Held(Box<PendingSend>),
    /// Stop reading, and close.
    Close(CloseReason),
    /// A shutdown or an eviction is requested: read what has already arrived, then close.
    Stop(CloseReason),
}

impl Step {
    /// The step that follows a request to close.
    pub(super) const fn for_close_request(reason: CloseReason) -> Self {
        match reason {
            // Reading on would take even more memory.
            CloseReason::Memory => Self::Close(reason),
            _ => Self::Stop(reason),
        }
    }
}

/// Received messages that wait for room, and the reason to close after them, if any.
pub(super) enum PendingSend {
    /// Not charged to the pool yet.
    Batch(Batch, Option<CloseReason>),
    /// Charged if a sink receives it; the responder must store it on a disk.
    Unstored(Batch, Option<CloseReason>),
    /// Charged and counted.
    Event(Event, Option<CloseReason>),
    /// Gaps of a session, and charged messages. They get their numbers together with their places in the queues.
    Numbered(Option<Batch>, Option<CloseReason>),
}
