//! One connection over TLS, and its two directions: [`Connection`].

use core::cell::Cell;
use core::pin::pin;
use core::task::Poll;

use embassy_futures::poll_once;
use embedded_io_async::{ErrorKind, ErrorType, Read, Write};
use embedded_tls::{Aes128GcmSha256, TlsConnection, TlsError, TlsReader, TlsWriter};

use super::wire::{Wire, WireError};
use crate::log::warning;

/// A connection over TLS. Its reads and writes are cancel-safe if those of the transport are. A flush ends a record.
pub struct Connection<'a, 'b, T> {
    pub(super) io: T,
    /// `None` after the end.
    pub(super) tls: Option<Session<'a, 'b>>,
    pub(super) wire: &'a Wire<'b>,
    pub(super) peer: Peer<'a>,
}

/// TLS over the records of a connection.
pub(super) type Session<'a, 'b> = TlsConnection<'a, &'a Wire<'b>, Aes128GcmSha256>;

/// What the server has said on this connection.
pub(super) struct Peer<'a> {
    has_spoken: Cell<bool>,
    /// How the connection has ended.
    ended: Cell<Option<ErrorKind>>,
    /// Whether the last connection ended before the server said anything.
    was_mute: &'a Cell<bool>,
}

/// One direction of a connection. `tls` is a reader or a writer.
pub(super) struct Half<'s, 'w, 'b, T, I> {
    io: I,
    tls: Option<T>,
    wire: &'w Wire<'b>,
    peer: &'s Peer<'w>,
}

/// TLS in the direction from the server.
type Down<'s, 'w, 'b> = TlsReader<'s, &'w Wire<'b>, Aes128GcmSha256>;
/// TLS in the direction to the server.
type Up<'s, 'w, 'b> = TlsWriter<'s, &'w Wire<'b>, Aes128GcmSha256>;

impl<'a, 'b, T> Connection<'a, 'b, T> {
    /// The two directions, over those of the transport.
    pub(super) fn split<'s, R, W>(
        tls: &'s mut Option<Session<'a, 'b>>,
        wire: &'a Wire<'b>,
        peer: &'s Peer<'a>,
        (read, write): (R, W),
    ) -> (
        Half<'s, 'a, 'b, Down<'s, 'a, 'b>, R>,
        Half<'s, 'a, 'b, Up<'s, 'a, 'b>, W>,
    ) {
        let (down, up) = tls.as_mut().map(TlsConnection::split).unzip();
        (
            Half {
                io: read,
                tls: down,
                wire,
                peer,
            },
            Half {
                io: write,
                tls: up,
                wire,
                peer,
            },
        )
    }
}

impl<T: Read + Write> Connection<'_, '_, T> {
    /// Sends the rest and `close_notify`. Nothing can be read or written after it.
    pub(super) async fn close(&mut self) -> Result<(), ErrorKind> {
        let Some(tls) = self.tls.take() else {
            return Ok(());
        };
        let closing = async { tls.close().await.map(drop).map_err(|(_, error)| error) };
        let closed = drive(self.wire, &mut self.io, closing).await;
        closed.map_err(|error| self.peer.broken(error))?.ok();
        Ok(())
    }
}

/// Runs an operation of TLS to its end, and moves its records.
pub(super) async fn drive<T>(
    wire: &Wire<'_>,
    io: &mut (impl Read + Write),
    operation: impl Future<Output = Result<T, TlsError>>,
) -> Result<Result<T, TlsError>, WireError> {
    let mut operation = pin!(operation);
    loop {
        let outcome = poll_once(operation.as_mut());
        let was_any = wire.drain(io).await?;
        if let Poll::Ready(outcome) = outcome {
            return Ok(outcome);
        }
        if !was_any {
            wire.flush(io).await?;
            wire.fill(io).await?;
        }
    }
}

impl<'a> Peer<'a> {
    pub(super) const fn new(was_mute: &'a Cell<bool>) -> Self {
        Self {
            has_spoken: Cell::new(false),
            ended: Cell::new(None),
            was_mute,
        }
    }

    fn spoke(&self) {
        self.has_spoken.set(true);
        self.was_mute.set(false);
    }

    /// The kind of an error that ends the connection.
    ///
    /// In TLS 1.3, a device is connected before the server has looked at its certificate. A server that refuses it says so
    /// with an alert, or ends the connection before it has said anything: a reset can lose the alert. One such end can be an
    /// accident; a second in a row counts as a refusal.
    pub(super) fn end(&self, kind: ErrorKind) -> ErrorKind {
        if let Some(kind) = self.ended.get() {
            return kind;
        }
        let is_refusal = !self.has_spoken.get() && self.was_mute.replace(true);
        if is_refusal {
            warning!(
                "TLS: twice in a row, the server has ended the connection before it said anything"
            );
        }
        let kind = if is_refusal {
            ErrorKind::PermissionDenied
        } else {
            kind
        };
        self.ended.set(Some(kind));
        kind
    }

    /// The kind of an error of TLS.
    fn failed(&self, error: TlsError) -> ErrorKind {
        // embedded-tls has no other error for an alert, and does not say which. Nothing else causes it: the records that
        // would do so do not come so far.
        let is_alert = matches!(error, TlsError::InternalError);
        if is_alert {
            warning!("TLS: the server has ended the connection with an alert");
        }
        if is_alert && !self.has_spoken.get() {
            self.was_mute.set(true);
        }
        self.end(ErrorKind::InvalidData)
    }

    /// The outcome of a write of TLS, which does not wait.
    fn outcome<T>(&self, outcome: Poll<Result<T, TlsError>>) -> Result<T, ErrorKind> {
        match outcome {
            Poll::Ready(outcome) => outcome.map_err(|error| self.failed(error)),
            // The buffer for records is shorter than a record of TLS.
            Poll::Pending => Err(self.end(ErrorKind::OutOfMemory)),
        }
    }

    pub(super) fn broken(&self, error: WireError) -> ErrorKind {
        self.end(error.kind())
    }
}

impl<'s, 'w, 'b, I: Read> Half<'s, 'w, 'b, Down<'s, 'w, 'b>, I> {
    async fn receive(&mut self, to: &mut [u8]) -> Result<usize, ErrorKind> {
        let Some(tls) = self.tls.as_mut().filter(|_| !to.is_empty()) else {
            return Ok(0);
        };
        loop {
            // It takes what has arrived as a whole, and waits only between two records.
            match poll_once(tls.read(to)) {
                Poll::Ready(Ok(len)) => {
                    self.peer.spoke();
                    return Ok(len);
                }
                Poll::Ready(Err(TlsError::ConnectionClosed | TlsError::MissingHandshake)) => {
                    // Closed by `close_notify`: nothing is missing.
                    return match self.peer.end(ErrorKind::NotConnected) {
                        ErrorKind::NotConnected => Ok(0),
                        kind => Err(kind),
                    };
                }
                Poll::Ready(Err(error)) => return Err(self.peer.failed(error)),
                Poll::Pending => {
                    let filled = self.wire.fill(&mut self.io).await;
                    filled.map_err(|error| self.peer.broken(error))?;
                }
            }
        }
    }
}

impl<'s, 'w, 'b, I: Write> Half<'s, 'w, 'b, Up<'s, 'w, 'b>, I> {
    /// Waits only before it takes anything, so it is cancel-safe.
    async fn send(&mut self, from: &[u8]) -> Result<usize, ErrorKind> {
        self.drain().await?;
        match self.tls.as_mut().filter(|_| !from.is_empty()) {
            Some(tls) => self.peer.outcome(poll_once(tls.write(from))),
            None => Ok(0),
        }
    }

    async fn finish(&mut self) -> Result<(), ErrorKind> {
        self.drain().await?;
        if let Some(tls) = &mut self.tls {
            // The room for a record is free now.
            self.peer.outcome(poll_once(tls.flush()))?;
        }
        self.drain().await?;
        let flushed = self.wire.flush(&mut self.io).await;
        flushed.map_err(|error| self.peer.broken(error))
    }

    async fn drain(&mut self) -> Result<(), ErrorKind> {
        let drained = self.wire.drain(&mut self.io).await;
        drained.map_err(|error| self.peer.broken(error)).map(drop)
    }
}

impl<T, I> ErrorType for Half<'_, '_, '_, T, I> {
    type Error = ErrorKind;
}

impl<'s, 'w, 'b, I: Read> Read for Half<'s, 'w, 'b, Down<'s, 'w, 'b>, I> {
    async fn read(&mut self, to: &mut [u8]) -> Result<usize, ErrorKind> {
        self.receive(to).await
    }
}

impl<'s, 'w, 'b, I: Write> Write for Half<'s, 'w, 'b, Up<'s, 'w, 'b>, I> {
    async fn write(&mut self, from: &[u8]) -> Result<usize, ErrorKind> {
        self.send(from).await
    }

    async fn flush(&mut self) -> Result<(), ErrorKind> {
        self.finish().await
    }
}
