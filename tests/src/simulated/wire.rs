//! A simulated connection: [`Wire`] sends pieces of any size, and may be given up by the system.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use blocksd_engine::listen::transport::Transport;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use turmoil::net::TcpStream;

use crate::disk::Chance;

/// Timeout of a write that makes no progress, as in the firmware's TCP settings.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// A connection that the system may give up.
pub(crate) struct Wire {
    stream: TcpStream,
    given_up: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Chooses the sizes of the pieces that it sends.
    chance: Chance,
    /// Timeout of a stalled write.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Wire {
    /// `given_up` ends the connection, and `chance` chooses the sizes of the pieces.
    pub(crate) fn new(stream: TcpStream, given_up: CancellationToken, chance: u64) -> Self {
        Self {
            stream,
            given_up: Box::pin(given_up.cancelled_owned()),
            chance: Chance(chance),
            stalled: None,
        }
    }

    fn poll_given_up(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.given_up.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.stream.fmt(f)
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_given_up(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_given_up(context)?;
        let len = self.chance.of(1..=200).min(bytes.len());
        if let Poll::Ready(written) = Pin::new(&mut self.stream).poll_write(context, &bytes[..len])
        {
            self.stalled = None;
            return Poll::Ready(written);
        }
        // A pending write is notified of a reset and of a peer that is silent for long; turmoil notifies only reads.
        if let Poll::Ready(Err(error)) = self.poll_readable(context) {
            return Poll::Ready(Err(error));
        }
        let stalled = self
            .stalled
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(SILENCE_MAX)));
        let silent = stalled.as_mut().poll(context);
        silent.map(|()| Err(io::ErrorKind::TimedOut.into()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_given_up(context)?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl Transport for Wire {
    fn poll_readable(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Err(error) = self.poll_given_up(context) {
            return Poll::Ready(Err(error));
        }
        let mut byte = [0];
        let mut buffer = ReadBuf::new(&mut byte);
        self.stream.poll_peek(context, &mut buffer).map_ok(drop)
    }
}
