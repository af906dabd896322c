//! Decodes recorded messages to rows: [`Rows`].

use crate::error::CommandError;
use crate::fields::filter::RowFilter;
use crate::fields::object::{Dialect, put};
use crate::payload::Decoders;
use crate::recorded::from_log::EventVisitor;
use crate::recorded::time::nanoseconds;
use blocksd_engine::batch::{Batch, Item};
use blocksd_engine::event::{Event, EventKind, StreamPosition};

/// A decoded message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FieldRow<'a> {
    /// Its time, in nanoseconds since 1970.
    pub(crate) time: u64,
    /// When it was received, in nanoseconds since 1970.
    pub(crate) received: u64,
    /// The device that sent it.
    pub(crate) device: &'a str,
    /// Number of its connection, or 0 if that is not known.
    pub(crate) conn: u64,
    /// Its sequence number.
    pub(crate) seq: u64,
    /// Number of its session.
    pub(crate) session: Option<u64>,
    /// Length of the message as it was received.
    pub(crate) len: usize,
    /// The message as one JSON object.
    pub(crate) object: &'a [u8],
}

/// Receives rows.
pub(crate) trait RowSink {
    /// Whether the rows are shown to a user.
    const IS_SHOWN: bool;

    /// Receives the next row.
    ///
    /// # Errors
    /// If it cannot be written.
    fn row(&mut self, row: &FieldRow<'_>) -> Result<(), CommandError>;

    /// Writes what is buffered, before a pause.
    ///
    /// # Errors
    /// If it cannot be written.
    fn flush(&mut self) -> Result<(), CommandError>;
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub(crate) struct RowCounts {
    /// Messages and pieces.
    pub(crate) read: u64,
    /// Rows that were passed on.
    pub(crate) rows: u64,
    pub(crate) undecodable: u64,
    pub(crate) first_undecodable: Option<String>,
    /// Pieces of messages that were not received whole.
    pub(crate) pieces: u64,
    /// Messages without a time in the chosen field.
    pub(crate) untimed: u64,
}

/// Passes each message that a filter selects on as a row.
pub(crate) struct Rows<S> {
    /// Receives the rows.
    pub(crate) sink: S,
    /// What was found so far.
    pub(crate) counts: RowCounts,
    pub(crate) filter: RowFilter,
    /// Number of messages and pieces of the first pass. Those after them were recorded since then.
    limit: u64,
    decoders: Decoders,
    object: Vec<u8>,
}

impl<S: RowSink> Rows<S> {
    /// Passes the first `limit` messages on.
    pub(crate) fn new(sink: S, filter: RowFilter, limit: u64) -> Self {
        Self {
            sink,
            counts: RowCounts::default(),
            filter,
            limit,
            decoders: Decoders::default(),
            object: Vec::new(),
        }
    }

    fn batch(
        &mut self,
        event: &Event,
        batch: &Batch,
        mut position: StreamPosition,
    ) -> Result<(), CommandError> {
        let source = &event.source;
        let received = nanoseconds(event.time);
        let decoder = self.decoders.of(source);
        for item in batch.items() {
            let seq = position.seq;
            position.pass(&item);
            let bytes = match item {
                Item::Message(bytes) => Some(bytes),
                Item::Piece { .. } => None,
                Item::End | Item::Fault(_) | Item::Reset | Item::AfterEnd { .. } => continue,
            };
            if self.limit <= self.counts.read {
                return Ok(());
            }
            self.counts.read += 1;
            let Some(bytes) = bytes else {
                self.counts.pieces += 1;
                continue;
            };
            let object = &mut self.object;
            if let Err(error) = put(decoder, bytes, &source.device, Dialect::Csv, object) {
                self.counts.undecodable += 1;
                let first = || format!("number {seq} of {:?}: {error}", source.device);
                self.counts.first_undecodable.get_or_insert_with(first);
                continue;
            }
            let passed = self.filter.pass(object);
            if !passed.is_selected {
                continue;
            }
            let is_untimed = self.filter.time_field().is_some() && passed.time.is_none();
            self.counts.untimed += u64::from(is_untimed);
            self.counts.rows += 1;
            self.sink.row(&FieldRow {
                time: passed.time.unwrap_or(received),
                received,
                device: &source.device,
                conn: source.conn,
                seq,
                session: source.session.as_ref().map(|session| session.number()),
                len: bytes.len(),
                object,
            })?;
        }
        Ok(())
    }
}

impl<S: RowSink> EventVisitor for Rows<S> {
    type Error = CommandError;

    fn event(&mut self, event: &Event) -> Result<(), CommandError> {
        match &event.kind {
            EventKind::Batch { batch, position } => self.batch(event, batch, *position),
            _ => Ok(()),
        }
    }
}
