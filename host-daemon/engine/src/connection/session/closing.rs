//! The end of a connection with a session: its last acknowledgements, and why it is closed.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use framing_core::session::wire::ClosingCode;
use tokio::io::AsyncWriteExt;
use tokio::time::Sleep;

use crate::batch::Batch;
use crate::connection::Connection;
use crate::connection::responder::until_read;
use crate::connection::session::SendingSide;
use crate::connection::session::attached::{Expects, LastFrame};
use crate::reason::CloseReason;

/// Time for the last commit before a shutdown.
const LAST_COMMIT: Duration = Duration::from_millis(500);
/// Time for the device to close after the last frame of a shutdown.
const LAST_READ: Duration = Duration::from_millis(200);
/// Time for the device to accept the last frame.
const LAST_FRAME: Duration = Duration::from_secs(1);

impl Connection {
    /// The fault of a message that the end of the connection has cut. Its bytes are not kept: the device sends it again.
    pub(in crate::connection) fn cut_numbered(&mut self, reason: CloseReason) -> Option<Batch> {
        let is_by_device = !matches!(reason, CloseReason::Superseded | CloseReason::SyncFailed);
        let bytes = std::mem::take(&mut self.remainder);
        // If whole messages are left as well, the length of the cut one is not known.
        let is_message =
            self.attached()?.expects == Expects::Message && !std::mem::take(&mut self.undecoded);
        let fault = (is_message && is_by_device && !bytes.is_empty())
            .then(|| framing_core::Decode::close(&mut self.decoder, bytes.len()))??;
        Some(Batch::of_fault(fault))
    }

    /// Sends the last frames of a session, and waits until the device has read them. Returns the reason to close.
    pub(in crate::connection) async fn close_session(
        &mut self,
        reason: CloseReason,
    ) -> CloseReason {
        let reason = match self.sending.as_deref() {
            Some(SendingSide::Session(_)) => self.settle(reason).await,
            Some(SendingSide::Refused(_)) => reason,
            _ => return reason,
        };
        let is_drained = matches!(reason, CloseReason::Eof | CloseReason::Shutdown);
        let mut last = Vec::new();
        match self.sending.as_deref_mut() {
            Some(SendingSide::Session(attached)) => {
                last = attached.take_unwritten();
                if reason == CloseReason::Shutdown && attached.closing.is_none() {
                    let frame = LastFrame::new(ClosingCode::Shutdown, 1, "shutdown");
                    attached.closing = Some(Box::new(frame));
                }
                last.extend(attached.last_frame().unwrap_or_default());
            }
            Some(SendingSide::Refused(frame)) => {
                last = frame.encode();
            }
            _ => {}
        }
        self.flush_gaps().await;
        if reason != CloseReason::Reset && (is_drained || !last.is_empty()) {
            let transport = &mut *self.transport;
            let written = async {
                transport.write_all(&last).await?;
                transport.shutdown().await
            };
            let written = tokio::time::timeout(LAST_FRAME, written).await;
            if written.is_ok_and(|written| written.is_ok()) {
                let read = until_read(&mut *self.transport);
                match reason {
                    CloseReason::Shutdown => drop(tokio::time::timeout(LAST_READ, read).await),
                    _ => read.await,
                }
            }
        }
        reason
    }

    /// Waits until everything received is acknowledged, if the device waits for that.
    async fn settle(&mut self, reason: CloseReason) -> CloseReason {
        let is_stopping = reason == CloseReason::Shutdown;
        if !matches!(reason, CloseReason::Eof | CloseReason::Shutdown) {
            return reason;
        }
        self.flush_gaps().await;
        let limit = self.policy.timeouts.reply;
        let Self {
            sending,
            transport,
            permit,
            ..
        } = self;
        // Since when the device has not taken the rest of a frame.
        let mut stalled: Option<Pin<Box<Sleep>>> = None;
        let settled = poll_fn(|context| {
            let Some(SendingSide::Session(attached)) = sending.as_deref_mut() else {
                return Poll::Ready(reason);
            };
            attached.has_ended = true;
            if !is_stopping && let Some(request) = permit.poll_close_request(context) {
                return Poll::Ready(request);
            }
            match attached.poll(context, &mut **transport) {
                Some(reason) => Poll::Ready(reason),
                None if attached.is_settled() => Poll::Ready(reason),
                None if !attached.is_blocked() => {
                    stalled = None;
                    Poll::Pending
                }
                None => match limit {
                    Some(limit) => {
                        let stalled =
                            stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
                        let late = stalled.as_mut().poll(context);
                        late.map(|()| CloseReason::ReplyTimeout)
                    }
                    None => Poll::Pending,
                },
            }
        });
        match is_stopping {
            true => tokio::time::timeout(LAST_COMMIT, settled)
                .await
                .unwrap_or(reason),
            false => settled.await,
        }
    }

    /// Passes gaps that are left to the sinks: they belong to the session, whatever becomes of the connection.
    async fn flush_gaps(&mut self) {
        let context = Arc::clone(&self.context);
        while self.has_gaps() {
            let places = context.fanout.reserve(&self.source.encoding).await;
            self.place(places, &mut None);
        }
    }
}
