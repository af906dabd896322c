//! What a connection does that takes time: each a future on the heap, for as long as it lasts.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use framing_core::{AnyFraming, Decode, Fault, Part};
use tokio::time::Instant;

use crate::engine::batch::Batch;
use crate::engine::connection::reply::{Answer, is_own, is_timeout, until_read};
use crate::engine::connection::{Connection, Held, LAST_READS, QUIET, Step};
use crate::engine::event::{Reason, What};
use crate::engine::peer_log::{Kind, warn_peer};
use crate::engine::permit::Permit;

/// How long a reply in progress goes on when the daemon is stopping. With [`LAST_READS`], less than connections have.
const LAST_REPLY: Duration = Duration::from_millis(750);

impl Connection {
    /// Says what was cut, answers, and closes.
    async fn finish(mut self: Box<Self>, reason: Reason) {
        self.end(reason).await;
        let reason = match self.answer.take() {
            Some(answer) if matches!(reason, Reason::End | Reason::Eof) => {
                self.reply(answer).await.unwrap_or(reason)
            }
            _ => reason,
        };
        // Only in series of blocks is there a mark that ends one.
        let in_series = self.position.in_series != 0;
        let torn = in_series && matches!(self.policy.framing, AnyFraming::Blocks(_));
        self.shared.counters.closed(reason, torn);
        let closed = self.event(What::Closed {
            blocks: self.position.seq,
            bytes: self.bytes,
            reason,
        });
        let shared = Arc::clone(&self.shared);
        // With its socket, and its place.
        drop(self);
        shared.sinks.send(closed).await;
    }

    /// Sends the reply. Gives the reason to close, if that is another than the end of what the device sent.
    async fn reply(&mut self, answer: Box<Answer>) -> Option<Reason> {
        let (conn, device) = (self.source.conn, &self.source.device);
        let patience = self.policy.patience.reply;
        let (stream, permit) = (&mut self.stream, &self.permit);
        let sending = answer.send(
            &mut **stream,
            permit,
            patience,
            self.position.seq,
            self.bytes,
        );
        let mut cut = pin!(until_cut(permit));
        let sent = tokio::select! {
            biased;
            sent = sending => sent,
            reason = &mut cut => {
                warn_peer!(Kind::Reply, device, conn, %device, "reply cut short: {reason}");
                return Some(reason);
            }
        };
        if let Err(failure) = sent {
            warn_peer!(Kind::Reply, device, conn, %device, "reply not sent: {failure}");
            return if is_timeout(&failure) {
                Some(Reason::ReplyTimeout)
            } else {
                is_own(&failure).then_some(Reason::ReplyFailed)
            };
        }
        // All of it is sent: an order to close cuts nothing any more.
        tokio::select! {
            biased;
            () = until_read(&mut **stream) => {}
            _ = cut => {}
        }
        None
    }

    /// Does what cannot be done at once. Gives the connection back, unless it has closed.
    pub(super) async fn take_step(mut self: Box<Self>, step: Step) -> Option<Box<Self>> {
        let Some(reason) = self.wait(step).await else {
            return Some(self);
        };
        Box::pin(self.finish(reason)).await;
        None
    }

    /// Does what cannot be done at once. Gives the reason to close, if there is one.
    async fn wait(&mut self, step: Step) -> Option<Reason> {
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

    /// Waits until unfinished messages hold less.
    async fn wait_for_memory(&mut self) {
        let since = Instant::now();
        self.permit.until_allowed().await;
        self.permit.heard();
        self.waiting.held_back(since.elapsed());
    }

    /// Waits for a buffer, and reads into it.
    async fn wait_for_buffer(&mut self) -> Option<Reason> {
        let since = Instant::now();
        self.permit.blocked();
        let mut buffer = self.shared.pool.take(&self.share).await;
        self.permit.heard();
        self.waiting.held_back(since.elapsed());
        // If nothing may be read now, the next step waits for that.
        let most = self.allowance()?;
        buffer.parts_mut().0.append(&mut self.carry);
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

    /// Waits until what was received can be passed on. Gives the reason to close, if there is one.
    async fn wait_for_room(&mut self, held: Box<Held>) -> Option<Reason> {
        let since = Instant::now();
        self.permit.blocked();
        let reason = self.pass_on(held).await;
        self.permit.heard();
        self.waiting.held_back(since.elapsed());
        reason
    }

    async fn pass_on(&mut self, held: Box<Held>) -> Option<Reason> {
        let mut held = *held;
        loop {
            let (mut batch, reason) = match held {
                Held::Event(event, reason) => {
                    self.shared.sinks.send(event).await;
                    return reason;
                }
                Held::Batch(batch, reason) => (batch, reason),
            };
            batch.weigh(&self.shared.pool, &mut self.share).await;
            self.charge(&Step::Go);
            match self.pass(batch, reason) {
                Step::Held(event) => held = *event,
                Step::Close(reason) => return Some(reason),
                _ => return None,
            }
        }
    }

    /// The daemon is to stop, or somebody else needs the place. What has arrived is still read; the runtime may not
    /// know yet that it has, and a device that goes on sending is not waited for.
    async fn read_last_bytes(&mut self, reason: Reason) -> Option<Reason> {
        if reason == Reason::Evicted && !self.undecoded && !self.stream.has_arrived() {
            // Somebody waits for its descriptor.
            return Some(reason);
        }
        let since = Instant::now();
        loop {
            if !self.undecoded {
                if LAST_READS < since.elapsed() {
                    return Some(reason);
                }
                let readable = poll_fn(|context| self.stream.poll_readable(context));
                match tokio::time::timeout(QUIET, readable).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => return Some(Reason::Reset),
                    Err(_) => return Some(reason),
                }
            }
            let closing = match poll_fn(|context| Poll::Ready(self.read_now(context))).await {
                Step::NoBuffer => self.wait_for_buffer().await,
                Step::Held(held) => self.wait_for_room(held).await,
                Step::Close(reason) => Some(reason),
                // Memory for it may come free, while there is time.
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

    /// Nothing more will be read: says whether that cut a message.
    async fn end(&mut self, reason: Reason) {
        if matches!(reason, Reason::End | Reason::Limit | Reason::Fault) {
            let bytes = self.carry.len();
            if reason == Reason::End && bytes != 0 {
                let (conn, device) = (self.source.conn, &self.source.device);
                warn_peer!(Kind::AfterEnd, device, conn, %device, bytes, "bytes after the end of the series");
            }
            return;
        }
        let fault = self.decoder.close(self.carry.len());
        // Not kept while the queue is full.
        self.carry = Vec::new();
        self.charge(&Step::Go);
        // That a series goes on when the daemon stops is no fault.
        let going_on = |fault: &Fault| {
            reason == Reason::Shutdown
                && matches!(
                    fault,
                    Fault::Truncated {
                        part: Part::End,
                        ..
                    }
                )
        };
        if let Some(fault) = fault.filter(|fault| !going_on(fault)) {
            // A lone fault needs no permit and is never echoed.
            if let Step::Held(held) = self.pass(Batch::of_fault(fault), None) {
                self.wait_for_room(held).await;
            }
        }
    }
}

/// Waits until a reply in progress must end: when somebody else needs the place, or [`LAST_REPLY`] after the daemon is to
/// stop.
async fn until_cut(permit: &Permit) -> Reason {
    let reason = permit.until_ordered().await;
    if reason == Reason::Shutdown {
        tokio::time::sleep(LAST_REPLY).await;
    }
    reason
}
