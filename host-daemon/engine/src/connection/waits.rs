//! The operations of a connection that must wait: see [`Connection::take_step`]. Each is a future that is allocated for
//! its duration.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use framing_core::{Decode, Fault, Part};
use tokio::io::AsyncWriteExt as _;
use tokio::time::Instant;

use crate::batch::Batch;
use crate::connection::policy::ReplyKind;
use crate::connection::responder::{
    LINGER, Received, ReplyError, ReplyStream, Responder, until_read,
};
use crate::connection::session::{SendingSide, while_serving};
use crate::connection::{Beginning, Connection, LAST_READS, PendingSend, QUIET, Step};
use crate::device::HeldBack;
use crate::peer_log::{Kind, warn_peer};
use crate::permit::ConnectionPermit;
use crate::pool::Span;
use crate::reason::CloseReason;

/// Time for a reply in progress during a shutdown. With [`LAST_READS`], less than the time that connections have to
/// close.
const LAST_REPLY: Duration = Duration::from_millis(750);

impl Connection {
    /// Reports what was cut, sends the reply, and closes.
    async fn finish(mut self: Box<Self>, reason: CloseReason) {
        let _held_back = self.hold_back();
        self.decide_at_end();
        self.end(reason).await;
        let reason = self.close_session(reason).await;
        let reason = match self.take_responder() {
            Some(responder) if self.is_replied(reason) => {
                self.reply(responder).await.unwrap_or(reason)
            }
            _ if reason == CloseReason::End && self.transport.awaits_end() => {
                self.close_after_end_mark().await;
                reason
            }
            _ => reason,
        };
        let closed = self.closed(reason);
        let engine = Arc::clone(&self.context);
        // Release the socket and the permit before the event is sent.
        drop(self);
        engine.fanout.send(closed).await;
    }

    /// The daemon does not read: until the result is dropped, the device is not silent.
    fn hold_back(&self) -> Option<HeldBack> {
        self.source.stats.as_ref().map(HeldBack::new)
    }

    /// Whether the connection is answered. A line that echoes would otherwise be answered for ever.
    fn is_replied(&mut self, reason: CloseReason) -> bool {
        match reason {
            CloseReason::End if self.transport.is_line() => {
                let reply = self.policy.reply.as_ref();
                let in_a_row = reply.map_or(1, ReplyKind::echoes_in_a_row);
                let is_own = self.transport.is_own_reply(in_a_row);
                if is_own {
                    self.context.counters.reply_echo();
                }
                !is_own
            }
            CloseReason::End => true,
            // The end of a line is that of the device.
            CloseReason::Eof => !self.transport.is_line(),
            _ => false,
        }
    }

    /// Sends the reply. Returns the reason to close, if it differs from that for which the messages ended.
    async fn reply(&mut self, responder: Box<dyn Responder>) -> Option<CloseReason> {
        let timeout = self.policy.timeouts.reply;
        let received = Received {
            messages: self.position.seq,
            bytes: self.bytes,
        };
        let mut cut = pin!(until_cut(&self.permit));
        let peer = ReplyStream::new(&mut *self.transport, &self.permit, timeout);
        let sent = tokio::select! {
            biased;
            sent = responder.finish(peer, received) => sent,
            reason = &mut cut => {
                let (conn, device) = (self.source.conn, &self.source.device);
                warn_peer!(Kind::Reply, device, conn, %device, "reply cut short: {reason}");
                return Some(reason);
            }
        };
        if let Err(error) = sent {
            return self.reply_failed(&error, "reply not sent");
        }
        if self.transport.is_line() {
            // What arrives now is the next series.
            return None;
        }
        // The reply is complete: a request to close can only end the waiting.
        tokio::select! {
            biased;
            () = until_read(&mut *self.transport) => {}
            _ = cut => {}
        }
        None
    }

    /// Ends the stream after an end mark, and waits briefly until the peer has ended its own.
    async fn close_after_end_mark(&mut self) {
        let transport = &mut *self.transport;
        let closed = async {
            if transport.shutdown().await.is_ok() {
                until_read(transport).await;
            }
        };
        tokio::select! {
            biased;
            _ = tokio::time::timeout(LINGER, closed) => {}
            _ = self.permit.until_close_request() => {}
        }
    }

    /// Carries out a step that must wait. Returns the connection, unless it has closed.
    pub(super) async fn take_step(mut self: Box<Self>, step: Step) -> Option<Box<Self>> {
        let Some(reason) = self.wait(step).await else {
            return Some(self);
        };
        Box::pin(self.finish(reason)).await;
        None
    }

    /// Carries out a step that must wait. Returns the reason to close, if any.
    async fn wait(&mut self, step: Step) -> Option<CloseReason> {
        match step {
            Step::NoBuffer => self.wait_for_buffer().await,
            Step::Paused => {
                self.wait_for_memory().await;
                None
            }
            Step::Held(held) => self.wait_for_room(held).await,
            Step::Stop(reason) => self.read_last_bytes(reason).await,
            Step::Close(reason) => Some(reason),
            Step::Go | Step::Yield => None,
        }
    }

    /// Waits until unfinished messages hold less memory.
    async fn wait_for_memory(&mut self) {
        let since = Instant::now();
        let _held_back = self.hold_back();
        let Self {
            sending,
            transport,
            permit,
            ..
        } = self;
        while_serving(sending, &mut **transport, permit.until_allowed()).await;
        self.permit.heard();
        self.deadlines.held_back(since.elapsed());
    }

    /// Waits for a buffer, and reads into it.
    async fn wait_for_buffer(&mut self) -> Option<CloseReason> {
        let since = Instant::now();
        let _held_back = self.hold_back();
        self.permit.blocked();
        let taking = self.context.pool.take(&self.quota);
        let mut buffer = while_serving(&mut self.sending, &mut *self.transport, taking).await;
        self.permit.heard();
        self.deadlines.held_back(since.elapsed());
        // If reading is not allowed now, the next step waits for that.
        let most = self.allowance()?;
        buffer.parts_mut().0.append(&mut self.remainder);
        let mut buffer = Some(buffer);
        let step = poll_fn(|context| {
            let buffer = buffer.take();
            Poll::Ready(buffer.map_or(Step::Go, |buffer| self.read(buffer, most, context)))
        });
        let step = step.await;
        self.charge(&step);
        match step {
            Step::Held(held) => self.wait_for_room(held).await,
            Step::Close(reason) => Some(reason),
            _ => None,
        }
    }

    /// Waits until the received messages can be sent to the sinks. Returns the reason to close, if any.
    async fn wait_for_room(&mut self, held: Box<PendingSend>) -> Option<CloseReason> {
        let since = Instant::now();
        let _held_back = self.hold_back();
        self.permit.blocked();
        let reason = self.pass_on(held).await;
        self.permit.heard();
        self.deadlines.held_back(since.elapsed());
        reason
    }

    async fn pass_on(&mut self, held: Box<PendingSend>) -> Option<CloseReason> {
        let mut held = *held;
        loop {
            let step = match held {
                PendingSend::Event(event, reason) => {
                    let sending = self.context.fanout.send(event);
                    while_serving(&mut self.sending, &mut *self.transport, sending).await;
                    return reason;
                }
                PendingSend::Unstored(batch, reason) => match self.store(batch).await {
                    Some((batch, kept)) => self.pass_kept(batch, reason, kept),
                    None => return Some(CloseReason::ReplyFailed),
                },
                PendingSend::Numbered(mut batch, reason) => {
                    let context = Arc::clone(&self.context);
                    let reserving = context.fanout.reserve(&self.source.encoding);
                    let places =
                        while_serving(&mut self.sending, &mut *self.transport, reserving).await;
                    self.place(places, &mut batch);
                    self.pass_numbered(batch, reason)
                }
                PendingSend::Batch(mut batch, reason) => {
                    let charging = batch.charge(&self.context.pool, &mut self.quota);
                    while_serving(&mut self.sending, &mut *self.transport, charging).await;
                    self.charge(&Step::Go);
                    self.pass(batch, reason)
                }
            };
            match step {
                Step::Held(event) => held = *event,
                Step::Close(reason) => return Some(reason),
                _ => return None,
            }
        }
    }

    /// Hands a batch to the responder on a thread for blocking operations. Returns `None` if the runtime is shutting
    /// down.
    async fn store(&mut self, batch: Batch) -> Option<(Batch, Result<(), ReplyError>)> {
        let Some(mut responder) = self.take_responder() else {
            return Some((batch, Ok(())));
        };
        let spools = Arc::clone(&self.context.spools);
        let stored = spools.on_disk(move || {
            let kept = responder.on_batch(&batch);
            (responder, batch, kept)
        });
        let (responder, batch, kept) = stored.await?;
        self.sending = Some(Box::new(SendingSide::Reply(responder)));
        Some((batch, kept))
    }

    fn take_responder(&mut self) -> Option<Box<dyn Responder>> {
        match *self.sending.take()? {
            SendingSide::Reply(responder) => Some(responder),
            other => {
                self.sending = Some(Box::new(other));
                None
            }
        }
    }

    /// Reads what has already arrived, after a shutdown or an eviction is requested. The runtime may not have noticed
    /// these bytes yet. The time is limited, because the device may continue to send.
    async fn read_last_bytes(&mut self, reason: CloseReason) -> Option<CloseReason> {
        if reason == CloseReason::Evicted && !self.undecoded && !self.transport.has_arrived() {
            // A new connection waits for the file descriptor.
            return Some(reason);
        }
        let since = Instant::now();
        loop {
            if !self.undecoded {
                if LAST_READS < since.elapsed() {
                    return Some(reason);
                }
                let readable = poll_fn(|context| self.transport.poll_readable(context));
                match tokio::time::timeout(QUIET, readable).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => return Some(CloseReason::Reset),
                    Err(_) => return Some(reason),
                }
            }
            let closing = match poll_fn(|context| Poll::Ready(self.read_now(context))).await {
                Step::NoBuffer => self.wait_for_buffer().await,
                Step::Held(held) => self.wait_for_room(held).await,
                Step::Close(reason) => Some(reason),
                // Memory may become free in the remaining time.
                Step::Paused => {
                    tokio::time::sleep(QUIET).await;
                    None
                }
                Step::Go | Step::Yield | Step::Stop(_) => None,
            };
            if closing.is_some() {
                return closing;
            }
            tokio::task::yield_now().await;
        }
    }

    /// Reports what the end of the reads has cut: a message, with its bytes, or the stream between two messages.
    async fn end(&mut self, reason: CloseReason) {
        if reason == CloseReason::End && self.transport.is_line() {
            // They are the beginning of the next series.
            self.transport.put_back(&self.remainder);
            return;
        }
        let batch = match reason {
            _ if self.has_session() => self.cut_numbered(reason),
            CloseReason::End => self.after_end_mark(),
            CloseReason::Limit | CloseReason::Fault => None,
            _ => self.cut(reason),
        };
        self.remainder = Vec::new();
        let Some(mut batch) = batch else {
            self.charge(&Step::Go);
            return;
        };
        let is_charged = !self.queues_messages()
            || batch.uncharged() == 0
            || batch.try_charge(&self.context.pool, &mut self.quota);
        let step = match is_charged {
            true => self.pass(batch, None),
            false => Step::Held(Box::new(PendingSend::Batch(batch, None))),
        };
        self.charge(&step);
        if let Step::Held(held) = step {
            self.wait_for_room(held).await;
        }
    }

    /// What was cut, if anything. Its bytes are kept, except if they are the reason to close.
    fn cut(&mut self, reason: CloseReason) -> Option<Batch> {
        let bytes = std::mem::take(&mut self.remainder);
        let cut = self.decoder.unfinished(bytes.len());
        let is_within = self.decoder.has_boundaries() && self.decoder.is_mid_block();
        let fault = match self.decoder.close(bytes.len()) {
            // A series without an end mark is not a fault, unless anyone on the network may have cut it.
            Some(Fault::Truncated {
                part: Part::End, ..
            }) if !self.transport.is_cut() => {
                self.series_open = true;
                None
            }
            fault => fault,
        };
        match fault {
            Some(_) if reason != CloseReason::Memory => {
                let (span, first) = (Span::new(cut.start, cut.end), self.position.offset == 0);
                Some(Batch::of_truncated(bytes, span, first, fault))
            }
            Some(fault) => Some(Batch::of_fault(fault)),
            // A refused message was cut, which has its fault.
            None if is_within => None,
            None if reason == CloseReason::Reset && self.beginning != Beginning::Silent => {
                Some(Batch::of_reset())
            }
            None => None,
        }
    }

    /// Reports bytes after the end mark that closes the connection: those that have arrived so far.
    fn after_end_mark(&mut self) -> Option<Batch> {
        let bytes = self.remainder.len() as u64;
        (bytes != 0).then(|| Batch::of_after_end(bytes))
    }
}

/// Waits until a reply in progress must end: when the connection is evicted, or [`LAST_REPLY`] after a shutdown was
/// requested.
async fn until_cut(permit: &ConnectionPermit) -> CloseReason {
    let reason = permit.until_close_request().await;
    if reason == CloseReason::Shutdown {
        tokio::time::sleep(LAST_REPLY).await;
    }
    reason
}
