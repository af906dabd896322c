//! Passes batches and other events to the sinks, and counts and logs them.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use framing_core::AnyFraming;

use crate::batch::{Batch, Item};
use crate::connection::responder::ReplyError;
use crate::connection::session::SendingSide;
use crate::connection::{Connection, PendingSend, Step};
use crate::event::{Event, EventKind};
use crate::peer_log::connections::{self, ReceivedTotals};
use crate::peer_log::{Kind, log_fault_of, warn_peer};
use crate::reason::{CloseReason, FaultKind};

/// The log text of [`FaultKind::Reset`].
const RESET: &str =
    "connection reset between messages: messages that the peer had sent may be missing";

impl Connection {
    /// Hands a batch to the responder, counts it, and sends it to the sinks.
    pub(super) fn pass(&mut self, batch: Batch, reason: Option<CloseReason>) -> Step {
        if self.has_session() && batch.messages().0 != 0 {
            return self.pass_numbered(Some(batch), reason);
        }
        let sending = self.sending.as_deref_mut();
        let Some(responder) = sending.and_then(SendingSide::responder) else {
            return self.pass_kept(batch, reason, Ok(()));
        };
        if responder.is_slow(&batch) {
            return Step::Held(Box::new(PendingSend::Unstored(batch, reason)));
        }
        let kept = responder.on_batch(&batch);
        self.pass_kept(batch, reason, kept)
    }

    /// Counts a batch that the responder has got, and sends it to the sinks.
    pub(super) fn pass_kept(
        &mut self,
        batch: Batch,
        reason: Option<CloseReason>,
        kept: Result<(), ReplyError>,
    ) -> Step {
        let (mut messages, mut bytes) = batch.messages();
        for (_, mark) in batch.marks() {
            match mark {
                Item::Piece {
                    bytes: piece,
                    truncated: true,
                    ..
                } => self.context.counters.truncated_bytes(piece.len() as u64),
                Item::Piece {
                    bytes: piece, last, ..
                } => {
                    bytes += piece.len() as u64;
                    messages += u64::from(last);
                }
                Item::End => self.context.counters.series(),
                Item::Fault(fault) => self.fault(FaultKind::of(&fault), &fault),
                Item::Reset => self.fault(FaultKind::Reset, &RESET),
                Item::AfterEnd { bytes } => self.after_end(bytes),
                Item::Message(_) => {}
            }
        }
        self.bytes += bytes;
        self.context.counters.messages(messages, bytes);
        let time = SystemTime::now();
        // What the end of a connection has cut arrived before.
        if let Some(stats) = &self.source.stats
            && !batch.is_cut()
        {
            stats.batch(messages, bytes, time);
        }
        let reason = reason.or_else(|| self.reply_failed(&kept.err()?, "reply not stored"));
        let position = self.position;
        self.position.pass_all(&batch);
        if !self.context.fanout.wants_batch(&self.source, &batch) {
            return reason.map_or(Step::Go, Step::Close);
        }
        let batch = Arc::new(batch);
        match self.try_send(self.event_at(EventKind::Batch { batch, position }, time)) {
            Ok(()) => reason.map_or(Step::Go, Step::Close),
            Err(event) => Step::Held(Box::new(PendingSend::Event(event, reason))),
        }
    }

    pub(super) fn after_end(&self, bytes: u64) {
        self.context.counters.after_end();
        let (conn, device) = (self.source.conn, &self.source.device);
        warn_peer!(Kind::AfterEnd, device, conn, %device, bytes, "bytes after the end of the series");
    }

    pub(super) fn fault(&mut self, kind: FaultKind, fault: &dyn fmt::Display) {
        self.faults = self.faults.saturating_add(1);
        self.context.counters.fault(kind);
        if let Some(stats) = &self.source.stats {
            stats.fault(kind);
        }
        let hint = if self.position.seq == 0 {
            protocol_hint(self.greeting)
        } else {
            ""
        };
        log_fault_of(
            self.faults.into(),
            &self.source,
            self.peer(),
            format_args!("{fault}{hint}"),
        );
    }

    /// Whether the batches of this connection go into queues, which the pool is charged for. A batch that no sink needs, or
    /// of which viewers get a copy, is not charged.
    pub(super) fn queues_messages(&self) -> bool {
        self.context.fanout.queues_messages(&self.source.encoding)
    }

    /// Sends an event to the sinks, unless a queue is full.
    #[allow(clippy::result_large_err, reason = "the event goes back to the caller")]
    pub(super) fn try_send(&self, event: Event) -> Result<(), Event> {
        if self.context.fanout.is_empty() {
            Ok(())
        } else {
            self.context.fanout.try_send(event)
        }
    }

    /// Counts the connection as closed. Returns the event to emit.
    pub(super) fn closed(&mut self, reason: CloseReason) -> Event {
        self.is_open = false;
        // Only the framing `blocks` has end marks.
        let in_series = self.position.in_series != 0;
        let has_ends = matches!(self.policy.framing, AnyFraming::Blocks(_));
        let series_open = self.series_open || (in_series && has_ends);
        self.context.counters.closed(reason, series_open);
        if let Some(stats) = &self.source.stats {
            stats.closed(reason);
        }
        let messages = self.received();
        let totals = ReceivedTotals {
            messages,
            bytes: self.bytes,
            faults: self.faults.into(),
        };
        connections::closed(&self.source, reason, totals);
        self.event(EventKind::Closed {
            messages,
            bytes: self.bytes,
            reason,
            series_open,
        })
    }

    /// Number of messages that were received.
    pub(super) fn received(&self) -> u64 {
        let sending = self.sending.as_ref();
        let of_session = sending.and_then(|sending| sending.messages());
        of_session.unwrap_or(self.position.seq)
    }

    pub(super) fn event(&self, kind: EventKind) -> Event {
        self.event_at(kind, SystemTime::now())
    }

    pub(super) fn event_at(&self, kind: EventKind, time: SystemTime) -> Event {
        Event {
            source: Arc::clone(&self.source),
            time,
            kind,
        }
    }
}

/// A hint for the log if the first bytes belong to another well-known protocol.
const fn protocol_hint(greeting: [u8; 4]) -> &'static str {
    match &greeting {
        [0x16, 0x03, ..] => "; this looks like TLS, but the listener expects plain bytes",
        b"GET " | b"POST" | b"HEAD" | b"PUT " | b"OPTI" => "; this looks like HTTP",
        b"SSH-" => "; this looks like SSH",
        _ => "",
    }
}
