//! Contains the panics of a responder of the embedding program: [`Guarded`].

use std::cell::OnceCell;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context, Poll};

use crate::batch::Batch;
use crate::connection::responder::{Finishing, Received, ReplyError, ReplyStream, Responder};
use crate::error::panic_message;
use crate::listen::transport::Transport;

/// A responder that reports a panic of another one as an error, which closes the connection.
#[derive(Debug)]
pub(super) struct Guarded {
    /// `None` if it could not be created.
    responder: Option<Box<dyn Responder>>,
    /// The message of the first panic.
    panicked: OnceCell<String>,
}

impl Guarded {
    pub(super) fn new(create: impl FnOnce() -> Box<dyn Responder>) -> Self {
        let (responder, panicked) = match caught(create) {
            Ok(responder) => (Some(responder), OnceCell::new()),
            Err(panic) => (None, OnceCell::from(panic)),
        };
        Self {
            responder,
            panicked,
        }
    }

    fn call<T>(
        &mut self,
        method: impl FnOnce(&mut dyn Responder) -> Result<T, ReplyError>,
    ) -> Result<T, ReplyError> {
        if let (Some(responder), None) = (&mut self.responder, self.panicked.get()) {
            match caught(|| method(&mut **responder)) {
                Ok(result) => return result,
                Err(panic) => self.panicked = OnceCell::from(panic),
            }
        }
        Err(self.error())
    }

    fn error(&self) -> ReplyError {
        ReplyError::Panicked(self.panicked.get().cloned().unwrap_or_default())
    }
}

impl Responder for Guarded {
    fn needs_messages(&self) -> bool {
        let needs = self.responder.as_ref().map(|responder| {
            caught(|| responder.needs_messages()).unwrap_or_else(|panic| {
                // The first panic is reported.
                let _ = self.panicked.set(panic);
                false
            })
        });
        needs.unwrap_or_default()
    }

    fn on_batch(&mut self, batch: &Batch) -> Result<(), ReplyError> {
        self.call(|responder| responder.on_batch(batch))
    }

    fn is_slow(&mut self, batch: &Batch) -> bool {
        // `on_batch` returns the error.
        let is_slow = self.call(|responder| Ok(responder.is_slow(batch)));
        is_slow.unwrap_or_default()
    }

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let ready = self.call(|responder| Ok(responder.poll_ready(context)));
        // `poll_write` returns the error.
        ready.unwrap_or(Poll::Ready(()))
    }

    fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        transport: &mut dyn Transport,
    ) -> Poll<Result<(), ReplyError>> {
        match self.call(|responder| Ok(responder.poll_write(context, transport))) {
            Ok(polled) => polled,
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    fn finish<'a>(mut self: Box<Self>, peer: ReplyStream<'a>, received: Received) -> Finishing<'a> {
        Box::pin(async move {
            let Some(responder) = self.responder.take() else {
                return Err(self.error());
            };
            let begun = caught(|| responder.finish(peer, received));
            let mut finishing = begun.map_err(ReplyError::Panicked)?;
            poll_fn(|context| {
                let polled = caught(|| finishing.as_mut().poll(context));
                polled.unwrap_or_else(|panic| Poll::Ready(Err(ReplyError::Panicked(panic))))
            })
            .await
        })
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // A panic here would keep the connection from closing.
        let responder = self.responder.take();
        let _ = caught(|| drop(responder));
    }
}

/// Calls a function of the embedding program. Returns the message of its panic.
fn caught<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|panic| panic_message(&*panic).to_owned())
}
