//! Writes a batch: its messages and pieces, and the events between them that the budget allows.

use std::sync::Arc;
use std::time::Instant;

use crate::payload::Undecodable;
use crate::recorded::budget::Evidence;
use crate::recorded::note::Note;
use crate::recorded::time::nanoseconds;
use crate::recorded::to_log::channels::{device_channel, messages_channel};
use crate::recorded::to_log::{Conn, EventWriter, append_block};
use blocksd_engine::batch::{Batch, Item};
use blocksd_engine::event::{Event, StreamPosition};
use blocksd_engine::reason::FaultKind;
use blocksd_recording::topic::Kind;
use blocksd_recording::{Channel, LogError, MessageOrigin};

impl EventWriter {
    pub(super) fn batch(
        &mut self,
        event: &Event,
        batch: &Batch,
        position: &StreamPosition,
    ) -> Result<(), LogError> {
        let source = &*event.source;
        let conn = self.conns.get_mut(&source.conn).map(std::mem::take);
        let mut conn = conn.unwrap_or_default();
        self.budget.earn(&mut conn.account, batch.messages().1);
        if self.schemas.learn(source, batch) {
            conn.channels.blocks = Channel::default();
        }
        let device = self.devices.get(&source.device);
        let (mut blocks, mut pieces) =
            device.map_or((0, 0), |device| (device.blocks, device.pieces));
        match batch.only_blocks() {
            Some(whole) => {
                let numbers = (&mut blocks, position.seq);
                self.messages(&mut conn, event, numbers, whole)?;
            }
            None => {
                let sequences = (&mut blocks, &mut pieces);
                self.items(&mut conn, event, batch, *position, sequences)?;
            }
        }
        conn.account.save();
        if conn.account.has_empties() && self.budget.pay(&mut conn.account, Instant::now()) {
            self.write_held(&mut conn, &mut blocks, event.time)?;
        }
        self.conns.insert(source.conn, conn);
        let device = match self.devices.get_mut(&source.device) {
            Some(device) => device,
            None => self.devices.entry(Arc::clone(&source.device)).or_default(),
        };
        let file = self.log.next_number();
        (device.blocks, device.pieces, device.file) = (blocks, pieces, file);
        Ok(())
    }

    /// Writes messages, those between empty ones all at once. `seq` is the number of the first in the connection.
    pub(super) fn messages<'a>(
        &mut self,
        conn: &mut Conn,
        event: &Event,
        (sequence, mut seq): (&mut u32, u64),
        messages: impl Iterator<Item = &'a [u8]>,
    ) -> Result<(), LogError> {
        let is_encoded = !event.source.encoding.is_raw();
        let mut messages = messages.peekable();
        while let Some(next) = messages.peek() {
            if next.is_empty() || conn.account.is_held() {
                let bytes = messages.next().unwrap_or_default();
                self.block(conn, event, (sequence, seq), bytes)?;
                seq += 1;
                continue;
            }
            let first = conn.first;
            let spec = || messages_channel(&event.source, &self.schemas, first);
            let channel = self.log.channel(&mut conn.channels.blocks, spec)?;
            let origin = MessageOrigin::new(event.source.conn, seq);
            let first = *sequence;
            let time_ns = nanoseconds(event.time);
            let mut next = || {
                let bytes = messages.next_if(|bytes| !bytes.is_empty())?;
                *sequence = sequence.wrapping_add(1);
                seq += 1;
                Some((seq - 1, bytes))
            };
            let Some(inspector) = self.inspector.as_mut().filter(|_| is_encoded) else {
                let run = std::iter::from_fn(|| next().map(|(_, bytes)| bytes));
                self.log.append_all(channel, origin, first, time_ns, run)?;
                continue;
            };
            let mut undecodable = None;
            // The run ends after an undecodable message, which a fault follows.
            let run = std::iter::from_fn(|| {
                let (seq, bytes) = undecodable.is_none().then(&mut next)??;
                undecodable = inspector.inspect(&event.source, seq, bytes);
                Some(bytes)
            });
            self.log.append_all(channel, origin, first, time_ns, run)?;
            if let Some(undecodable) = undecodable {
                self.undecodable(conn, event, seq - 1, &undecodable)?;
            }
        }
        Ok(())
    }

    /// Writes message number `seq` of a connection, unless it is empty and held, and a fault if it is undecodable.
    fn block(
        &mut self,
        conn: &mut Conn,
        event: &Event,
        (sequence, seq): (&mut u32, u64),
        bytes: &[u8],
    ) -> Result<(), LogError> {
        self.message(conn, event, (sequence, seq), bytes)?;
        let inspector = self.inspector.as_mut();
        match inspector.and_then(|it| it.inspect(&event.source, seq, bytes)) {
            Some(undecodable) => self.undecodable(conn, event, seq, &undecodable),
            None => Ok(()),
        }
    }

    fn undecodable(
        &mut self,
        conn: &mut Conn,
        event: &Event,
        seq: u64,
        undecodable: &Undecodable,
    ) -> Result<(), LogError> {
        let evidence = Evidence::Fault(FaultKind::Undecodable);
        match self.admit(conn, event, evidence) {
            true => self.note(event.time, &Note::undecodable(event, seq, undecodable)),
            false => Ok(()),
        }
    }

    fn message(
        &mut self,
        conn: &mut Conn,
        event: &Event,
        (sequence, seq): (&mut u32, u64),
        bytes: &[u8],
    ) -> Result<(), LogError> {
        if bytes.is_empty() {
            if !self.admit(conn, event, Evidence::Empty(seq)) {
                return Ok(());
            }
        } else if conn.account.is_held() {
            self.before_payload(conn, sequence, event.time)?;
        }
        let (known, time_ns) = ((&mut conn.channels, conn.first), nanoseconds(event.time));
        append_block(
            &mut self.log,
            known,
            &self.schemas,
            &event.source,
            (sequence, seq),
            time_ns,
            bytes,
        )
    }

    /// Writes a batch that contains more than whole messages.
    fn items(
        &mut self,
        conn: &mut Conn,
        event: &Event,
        batch: &Batch,
        mut position: StreamPosition,
        (blocks, pieces): (&mut u32, &mut u32),
    ) -> Result<(), LogError> {
        for item in batch.items() {
            let note = match item {
                Item::Message(bytes) => {
                    self.block(conn, event, (blocks, position.seq), bytes)?;
                    None
                }
                Item::Piece {
                    bytes,
                    first,
                    last,
                    truncated,
                } => {
                    self.budget.earn(&mut conn.account, bytes.len() as u64);
                    if conn.account.is_held() && !bytes.is_empty() {
                        self.before_payload(conn, blocks, event.time)?;
                    }
                    let known = &mut conn.channels.pieces;
                    let spec = || device_channel(&event.source, Kind::Pieces);
                    let channel = self.log.channel(known, spec)?;
                    let origin = MessageOrigin::new(event.source.conn, position.seq);
                    let time_ns = nanoseconds(event.time);
                    let piece = std::iter::once(bytes);
                    self.log
                        .append_all(channel, origin, *pieces, time_ns, piece)?;
                    *pieces = pieces.wrapping_add(1);
                    let len = bytes.len();
                    let ends = (first, last);
                    Some(Note::piece(event, &position, len, ends, truncated))
                }
                Item::End => {
                    let is_recorded = self.admit(conn, event, Evidence::End);
                    is_recorded.then(|| Note::end(event, position.in_series))
                }
                Item::Fault(ref fault) => {
                    let evidence = Evidence::Fault(FaultKind::of(fault));
                    if self.admit(conn, event, evidence) {
                        self.note(event.time, &Note::fault(event, fault))?;
                    }
                    None
                }
                Item::Reset => {
                    let evidence = Evidence::Fault(FaultKind::Reset);
                    let is_recorded = self.admit(conn, event, evidence);
                    is_recorded.then(|| Note::reset(event))
                }
                Item::AfterEnd { bytes } => {
                    let is_recorded = self.admit(conn, event, Evidence::AfterEnd);
                    is_recorded.then(|| Note::after_end(event, bytes))
                }
            };
            if let Some(note) = note {
                self.note(event.time, &note)?;
            }
            position.pass(&item);
        }
        Ok(())
    }

    fn admit(&mut self, conn: &mut Conn, event: &Event, evidence: Evidence) -> bool {
        self.budget
            .admit(&mut conn.account, event, evidence, Instant::now)
    }
}
