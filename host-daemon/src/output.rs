//! Formats events for people and programs: a [`Format`] writes them into an [`Out`].

mod bounded_line;
mod escape;
pub(crate) mod json;
mod text;

use std::io::{self, Write};
use std::sync::Arc;

pub use self::json::Json;
pub use self::text::{Hex, Text};
use blocksd_engine::counters::Counters;
use blocksd_engine::event::{Dropped, Event};
use blocksd_engine::reason::FaultKind;

/// Bytes that are collected before they are written, while more events are waiting.
const WRITE_LEN: usize = 64 << 10;

/// Maximum capacity kept after a write. Longer lines return their memory.
const KEPT_LEN: usize = 1 << 20;

/// Bytes reserved for a line in addition to its message.
const SPARE_LEN: usize = 4 << 10;

/// A way of writing events.
pub trait Format: Send + 'static {
    /// Reports events that are not shown, because the output was not read fast enough.
    ///
    /// # Errors
    /// Where it cannot be written.
    fn lost(&mut self, dropped: Dropped, out: &mut Out) -> io::Result<()>;

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
