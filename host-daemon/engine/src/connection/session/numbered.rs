//! Gives messages their numbers, together with their places in the queues of the sinks.

use std::sync::Arc;
use std::time::SystemTime;

use framing_core::Limits;
use framing_core::session::wire::NUMBER_MAX;

use crate::batch::{Batch, ClosePolicy, Decoded, Item, OversizePolicy, WholeMessages};
use crate::connection::session::SendingSide;
use crate::connection::session::attached::After;
use crate::connection::{Connection, PendingSend, Step};
use crate::event::{Event, EventKind};
use crate::pool::Buffer;
use crate::reason::CloseReason;
use crate::session::Passing;
use crate::sink::fanout::Places;

impl Connection {
    /// Finds messages, up to the end of the series or to a message that is too long.
    pub(super) fn decode_numbered(&mut self, buffer: Buffer) -> Step {
        let limits = Limits {
            block_max: self.policy.limits.block_max,
            skip_max: u32::MAX,
        };
        let close = ClosePolicy {
            at_end: true,
            oversize: OversizePolicy::Close,
        };
        let Decoded {
            mut batch,
            used,
            ended,
            full,
            want,
            ..
        } = Batch::decode(
            buffer,
            &mut self.decoder,
            &limits,
            close,
            WholeMessages::Kept,
            &mut self.streaming,
        );
        self.want = u32::try_from(want).unwrap_or(u32::MAX);
        let last = self.attached().map_or(0, |attached| attached.next) + batch.messages().0;
        if NUMBER_MAX < last {
            return self.break_protocol("a number of 56 bits is not enough");
        }
        let after = match batch.take_mark() {
            Some(Item::Fault(fault)) => Some(After::Refused(fault)),
            Some(_) => Some(After::End),
            None => None,
        };
        if after.is_some() {
            // It tracks the message that is refused, or the end of the series.
            self.decoder = framing_core::Framing::decoder(&self.policy.framing);
        }
        self.undecoded = full || after.is_some();
        let is_charged = !batch.is_empty();
        let batch = match is_charged {
            true => {
                self.remainder = batch.rest(used).to_vec();
                Some(batch)
            }
            false => {
                self.remainder = batch.into_buffer().into_remainder(used);
                None
            }
        };
        let is_cut = !self.remainder.is_empty() && after.is_none();
        self.deadlines.decoded(&self.policy.timeouts, is_cut, ended);
        if let Some(attached) = self.attached() {
            attached.after = after;
            attached.has_ended = false;
        }
        let Some(mut batch) = batch else {
            return Step::Go;
        };
        match batch.try_charge(&self.context.pool, &mut self.quota) {
            true => self.pass_numbered(Some(batch), None),
            false => Step::Held(Box::new(PendingSend::Batch(batch, None))),
        }
    }

    /// Passes the gaps of the session, then a batch, to the sinks: each gets its numbers together with its places in the
    /// queues.
    pub(in crate::connection) fn pass_numbered(
        &mut self,
        mut batch: Option<Batch>,
        reason: Option<CloseReason>,
    ) -> Step {
        let context = Arc::clone(&self.context);
        loop {
            if batch.is_none() && !self.has_gaps() {
                return reason.map_or(Step::Go, Step::Close);
            }
            let Some(places) = context.fanout.try_reserve(&self.source.encoding) else {
                return Step::Held(Box::new(PendingSend::Numbered(batch, reason)));
            };
            self.place(places, &mut batch);
        }
    }

    /// Sends the first gap of the session, or the batch, to these places.
    pub(in crate::connection) fn place(&mut self, places: Places<'_>, batch: &mut Option<Batch>) {
        let Some(SendingSide::Session(attached)) = self.sending.as_deref() else {
            *batch = None;
            return;
        };
        let count = batch.as_ref().map(|batch| {
            let check = batch.last_message().map_or(0, crc32fast::hash);
            (batch.messages().0, check)
        });
        let session = Arc::clone(&attached.session);
        let is_half_full = batch.as_ref().is_some_and(|batch| {
            let (messages, bytes) = batch.messages();
            attached.is_half_full(bytes + 4 * messages)
        });
        let (source, time) = (Arc::clone(&self.source), SystemTime::now());
        let stats = self.source.stats.as_ref();
        let (conn, mut next) = (self.source.conn, attached.next);
        let mut position = self.position;
        let mut passed = None;
        let result = session.pass(conn, &mut next, count, |passing| match passing {
            Passing::Gap(gap) => {
                if let Some(sessions) = &self.context.sessions {
                    sessions.counters().gap(&gap);
                }
                if let Some(stats) = stats {
                    stats.gap(&gap);
                }
                let kind = EventKind::Gap(gap);
                places.send(Event { source, time, kind });
            }
            Passing::Messages(counted) => {
                let Some(mut batch) = batch.take() else {
                    return;
                };
                if is_half_full {
                    session.hasten(counted.first + batch.messages().0);
                }
                batch.skip_messages(counted.skip);
                passed = Some((counted.skip, batch.messages()));
                position.seq = counted.first + counted.skip;
                let before = position;
                position.pass_all(&batch);
                if batch.messages().0 != 0 {
                    let (batch, position) = (Arc::new(batch), before);
                    let kind = EventKind::Batch { batch, position };
                    places.send(Event { source, time, kind });
                }
            }
            Passing::Nothing => {}
        });
        if result.is_err() {
            // Another connection owns the session: the device sends the messages again.
            *batch = None;
            return;
        }
        self.position = position;
        if let Some((skipped, (messages, bytes))) = passed {
            self.bytes += bytes;
            self.context.counters.messages(messages, bytes);
            if let Some(stats) = &self.source.stats {
                stats.batch(messages, bytes, time);
            }
            if let Some(sessions) = &self.context.sessions {
                sessions.counters().repeated(skipped);
            }
            if let Some(attached) = self.attached() {
                attached.messages += messages;
                attached.unacked += bytes + 4 * messages;
            }
        }
        if let Some(attached) = self.attached() {
            attached.next = next;
        }
    }
}
