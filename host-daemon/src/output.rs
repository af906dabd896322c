//! The sink on standard output: a thread of its own, which holds the devices back when nobody reads.

mod bounded_line;
mod escape;
pub(crate) mod json;
mod text;

use std::io::{self, Write};
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::mpsc;

pub use self::json::Json;
pub use self::text::{Hex, Text};
use crate::engine::sink::lossy::{self, Next};

use crate::engine::counters::{Counters, FaultKind};
use crate::engine::event::Event;

/// Bytes that are collected before they are written, while more events are waiting.
const WRITE_LEN: usize = 64 << 10;

/// Maximum capacity kept after a write. Longer lines return their memory.
const KEPT_LEN: usize = 1 << 20;

/// Bytes reserved for a line in addition to its message.
const SPARE_LEN: usize = 4 << 10;

/// Events that wait at most. What they weigh is bounded by the [pool](crate::engine::pool).
pub const QUEUE_LEN: usize = 1024;

/// A way of writing events.
pub trait Format: Send + 'static {
    /// Says that so many blocks are not shown, since nobody read fast enough.
    ///
    /// # Errors
    /// Where it cannot be written.
    fn lost(&mut self, blocks: u64, out: &mut Out) -> io::Result<()>;

    /// Appends an event to what will be written.
    ///
    /// # Errors
    /// Where it cannot be written.
    fn event(&mut self, event: &Event, out: &mut Out) -> io::Result<()>;
}

/// Collects what is written.
pub struct Out {
    to: Box<dyn Write + Send>,
    bytes: Vec<u8>,
    counters: Arc<Counters>,
}

impl Out {
    /// Collects for `to`.
    #[must_use]
    pub fn new(to: Box<dyn Write + Send>, counters: Arc<Counters>) -> Self {
        Self {
            to,
            bytes: Vec::with_capacity(WRITE_LEN * 2),
            counters,
        }
    }

    /// The end of a line to which this is appended.
    pub const fn line(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Reserves memory for a message of `len` bytes: twice its length is enough for most. A line that needs more grows
    /// once, to its bound.
    #[inline]
    pub fn reserve(&mut self, len: usize) {
        let spare = len.saturating_mul(2).saturating_add(SPARE_LEN);
        if self.bytes.capacity() - self.bytes.len() < spare {
            // If that fails, the line grows while it is written.
            self.bytes.try_reserve_exact(spare).ok();
        }
    }

    /// Ends a line.
    ///
    /// # Errors
    /// Where what was collected cannot be written.
    pub fn end_line(&mut self) -> io::Result<()> {
        self.bytes.push(b'\n');
        if self.bytes.len() < WRITE_LEN {
            Ok(())
        } else {
            self.flush()
        }
    }

    /// A block could not be read as what it should be.
    pub fn undecodable(&self) {
        self.counters.fault(FaultKind::Undecodable);
    }

    /// Writes what was collected.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn flush(&mut self) -> io::Result<()> {
        self.to.write_all(&self.bytes)?;
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_LEN);
        self.to.flush()
    }
}

impl std::fmt::Debug for Out {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Out")
            .field("collected", &self.bytes.len())
            .finish_non_exhaustive()
    }
}

/// Where the events come from.
#[derive(Debug)]
pub enum Events {
    /// All of them: who sends waits.
    All(mpsc::Receiver<Event>),
    /// The latest: who sends does not wait.
    Latest(lossy::Receiver),
}

impl Events {
    fn receive(&mut self, wait: bool) -> Next {
        match self {
            Self::Latest(events) => events.receive(wait),
            Self::All(events) if wait => events.blocking_recv().map_or(Next::End, Next::Event),
            Self::All(events) => events.try_recv().map_or(Next::Empty, Next::Event),
        }
    }
}

/// Starts the thread. It writes as soon as no event waits, and ends when no connection is left, or when nobody
/// reads what it writes.
#[must_use]
pub fn spawn(
    mut format: impl Format,
    to: Box<dyn Write + Send>,
    mut events: Events,
    counters: Arc<Counters>,
    ended: impl FnOnce(&io::Result<()>) + Send + 'static,
) -> JoinHandle<io::Result<()>> {
    std::thread::spawn(move || {
        let mut out = Out::new(to, counters);
        let written = write_all(&mut format, &mut out, &mut events);
        drop(events);
        ended(&written);
        written
    })
}

fn write_all(format: &mut impl Format, out: &mut Out, events: &mut Events) -> io::Result<()> {
    loop {
        let next = match events.receive(false) {
            Next::Empty => {
                out.flush()?;
                events.receive(true)
            }
            next => next,
        };
        match next {
            Next::Event(event) => format.event(&event, out)?,
            Next::Lost(blocks) => {
                out.counters.output_lost(blocks);
                format.lost(blocks, out)?;
            }
            Next::Empty => {}
            Next::End => return out.flush(),
        }
    }
}
