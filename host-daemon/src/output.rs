//! Formats events for people and programs: a [`Format`] writes them into an [`Out`].

mod bounded_line;
mod clock;
pub(crate) mod json;
mod text;

use std::collections::VecDeque;
use std::fmt::{self, Display};
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) use self::bounded_line::{BoundedLine, write_meaning};
pub(crate) use self::clock::Clock;
pub use self::json::Json;
pub use self::text::{Hex, Text};
use blocksd_engine::batch::Item;
use blocksd_engine::event::{ConnectionInfo, Dropped, Event};

use crate::payload::{Undecodable, UndecodableReporter};
use crate::recorded::lifecycle::Lifecycle;

/// Bytes that are collected before they are written, while more events are waiting.
const WRITE_LEN: usize = 64 << 10;

/// Maximum capacity kept after a write. Longer lines return their memory.
const KEPT_LEN: usize = 1 << 20;

/// Bytes reserved for a line in addition to its message.
const SPARE_LEN: usize = 4 << 10;

/// A way of writing events.
pub trait Format: Send + 'static {
    /// Appends a note about events that are not shown, because the output is read too slowly.
    ///
    /// # Errors
    /// If the output cannot be written.
    fn lost(&mut self, dropped: Dropped, out: &mut Out) -> io::Result<()>;

    /// Appends an event.
    ///
    /// # Errors
    /// If the output cannot be written.
    fn event(&mut self, event: &Event, out: &mut Out) -> io::Result<()>;

    /// Appends an event of the daemon itself.
    ///
    /// # Errors
    /// If the output cannot be written.
    fn lifecycle(&mut self, event: &Lifecycle<'_>, out: &mut Out) -> io::Result<()>;
}

/// A buffered output.
pub struct Out {
    to: Box<dyn Write + Send>,
    bytes: Vec<u8>,
    reporter: Option<UndecodableReporter>,
    /// Number of bytes that were written.
    written: u64,
    /// Ends of items in the buffer: the number of bytes before, and the items up to there.
    ends: VecDeque<(u64, Dropped)>,
    /// Items that were appended.
    appended: Dropped,
    shown: Arc<ShownCounts>,
}

/// The number of messages and other events that an output has written completely.
#[derive(Debug, Default)]
pub(crate) struct ShownCounts {
    messages: AtomicU64,
    others: AtomicU64,
}

impl Out {
    /// Buffers output to `to`. Messages that cannot be decoded are reported to `reporter`, if another sink does not.
    #[must_use]
    pub fn new(to: Box<dyn Write + Send>, reporter: Option<UndecodableReporter>) -> Self {
        Self {
            to,
            bytes: Vec::with_capacity(WRITE_LEN * 2),
            reporter,
            written: 0,
            ends: VecDeque::new(),
            appended: Dropped::default(),
            shown: Arc::default(),
        }
    }

    /// Counts the written items in `shown`.
    pub(crate) fn counting(self, shown: Arc<ShownCounts>) -> Self {
        Self { shown, ..self }
    }

    /// Says that an item of a batch ends here.
    pub(crate) fn end_item(&mut self, item: &Item<'_>) {
        let mut appended = self.appended;
        match item {
            Item::Message(_) => appended.messages += 1,
            _ => appended.others += 1,
        }
        self.end_event(appended);
    }

    /// Says that an event ends here, with this number of items since the beginning.
    pub(crate) fn end_event(&mut self, appended: Dropped) {
        if appended == self.appended {
            return;
        }
        self.appended = appended;
        if self.bytes.is_empty() {
            self.shown.set(appended);
        } else {
            let end = self.written + self.bytes.len() as u64;
            self.ends.push_back((end, appended));
        }
    }

    /// Returns the number of items that were written completely.
    pub(crate) fn shown(&self) -> Dropped {
        self.shown.read()
    }

    /// The buffer. Text that is appended to it belongs to the current line.
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

    /// Ends a line, and writes the buffer if it is full.
    ///
    /// # Errors
    /// If the buffer cannot be written.
    pub fn end_line(&mut self) -> io::Result<()> {
        self.bytes.push(b'\n');
        if self.bytes.len() < WRITE_LEN {
            Ok(())
        } else {
            self.flush()
        }
    }

    /// Reports a message that cannot be decoded.
    pub fn undecodable(
        &mut self,
        source: &Arc<ConnectionInfo>,
        seq: u64,
        undecodable: &Undecodable,
    ) {
        if let Some(reporter) = &mut self.reporter {
            reporter.report(source, seq, undecodable);
        }
    }

    /// Takes the close of a connection.
    pub fn closed(&mut self, conn: u64) {
        if let Some(reporter) = &mut self.reporter {
            reporter.closed(conn);
        }
    }

    /// Writes the buffer.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn flush(&mut self) -> io::Result<()> {
        let mut at = 0;
        let written = loop {
            let rest = self.bytes.get(at..).unwrap_or_default();
            if rest.is_empty() {
                break Ok(());
            }
            match self.to.write(rest) {
                Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                Ok(len) => {
                    at += len;
                    self.written += len as u64;
                    self.count_shown();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        self.bytes.drain(..at);
        self.bytes.shrink_to(KEPT_LEN);
        written.and_then(|()| self.to.flush())
    }

    fn count_shown(&mut self) {
        while let Some((_, items)) = self.ends.pop_front_if(|(end, _)| *end <= self.written) {
            self.shown.set(items);
        }
    }
}

impl ShownCounts {
    /// Returns the counts.
    pub(crate) fn read(&self) -> Dropped {
        Dropped {
            messages: self.messages.load(Ordering::Relaxed),
            others: self.others.load(Ordering::Relaxed),
        }
    }

    fn set(&self, counts: Dropped) {
        self.messages.store(counts.messages, Ordering::Relaxed);
        self.others.store(counts.others, Ordering::Relaxed);
    }
}

impl fmt::Debug for Out {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Out")
            .field("buffered", &self.bytes.len())
            .finish_non_exhaustive()
    }
}

/// A count with its noun, in the singular or the plural: `1 byte`, `2 bytes`.
pub(crate) fn counted(count: u64, noun: &'static str) -> impl Display {
    fmt::from_fn(move |f| write!(f, "{count} {noun}{}", if count == 1 { "" } else { "s" }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_is_singular() {
        let texts = [0, 1, 2, 11].map(|count| counted(count, "byte").to_string());
        assert_eq!(texts, ["0 bytes", "1 byte", "2 bytes", "11 bytes"]);
    }
}
