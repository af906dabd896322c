//! The sending side of a connection: a [`Responder`].
//!
//! [`reply`](super::reply) has those that answer when the device has finished sending. One that answers earlier, such as
//! for each message, writes in [`poll_write`](Responder::poll_write).

use std::fmt;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use embedded_io_async::ErrorType;
use framing_core::{Refusal, SendError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use crate::batch::Batch;
use crate::event::ConnectionInfo;
use crate::listen::transport::Transport;
use crate::permit::ConnectionPermit;
use crate::reason::CloseReason;

/// Bytes that a peer must accept in the time for a reply, unless fewer are left.
const ACCEPTED_MIN: usize = 64 << 10;
/// How long a peer may take to read the end of the reply, and to close.
const LINGER: Duration = Duration::from_secs(1);

/// The sending side of one connection.
pub trait Responder: fmt::Debug + Send {
    /// Whether it needs the messages themselves, and not only their number.
    fn needs_messages(&self) -> bool {
        false
    }

    /// Messages were received, and are passed to the sinks after this.
    ///
    /// # Errors
    /// Closes the connection.
    fn on_batch(&mut self, _batch: &Batch) -> Result<(), ReplyError> {
        Ok(())
    }

    /// Polls whether there is something to write while the device is still sending.
    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }

    /// Writes what is ready. While it is pending, the connection goes on reading. A responder has its own timeout for a
    /// peer that does not read.
    ///
    /// # Errors
    /// Closes the connection.
    fn poll_write(
        &mut self,
        _context: &mut Context<'_>,
        _transport: &mut dyn Transport,
    ) -> Poll<Result<(), ReplyError>> {
        Poll::Ready(Ok(()))
    }

    /// Sends what remains to be sent when the device has finished sending, and closes the sending side.
    fn finish<'a>(self: Box<Self>, peer: ReplyStream<'a>, received: Received) -> Finishing<'a>;
}

/// Makes the responder of each connection; see [`ReplyKind::Custom`](super::policy::ReplyKind::Custom).
pub trait Respond: fmt::Debug + Send + Sync {
    /// The responder of a connection that has just opened.
    fn responder(&self, connection: &ConnectionInfo) -> Box<dyn Responder>;
}

/// The end of a reply; see [`Responder::finish`].
pub type Finishing<'a> = Pin<Box<dyn Future<Output = Result<(), ReplyError>> + Send + 'a>>;

/// What a connection has received whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// Messages.
    pub messages: u64,
    /// Bytes of payload in them.
    pub bytes: u64,
}

/// Why a reply was not sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplyError {
    /// The connection failed.
    #[error("connection failed: {0}")]
    Connection(#[source] io::Error),
    /// The peer did not accept bytes in time.
    #[error("the peer did not read 64 KiB of it within reply-timeout ({} s)", .0.as_secs_f32())]
    TooSlow(Duration),
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// The framing cannot carry the message.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The echo is larger than a limit.
    #[error("the echo is larger than {limit} allows ({max_bytes} bytes)")]
    EchoTooLarge {
        /// The name of the limit.
        limit: &'static str,
        /// Its value.
        max_bytes: u64,
    },
}

impl ReplyError {
    /// Why the connection is closed; `None` if the reason is that of the end of its messages.
    #[must_use]
    pub const fn close_reason(&self) -> Option<CloseReason> {
        match self {
            Self::Connection(_) => None,
            Self::TooSlow(_) => Some(CloseReason::ReplyTimeout),
            Self::Read { .. } | Self::Write { .. } | Self::Refused(_) => {
                Some(CloseReason::ReplyFailed)
            }
            Self::EchoTooLarge { .. } => Some(CloseReason::Limit),
        }
    }
}

impl From<SendError<Self>> for ReplyError {
    fn from(error: SendError<Self>) -> Self {
        match error {
            SendError::Io(error) => error,
            SendError::Refused(refusal) => Self::Refused(refusal),
            _ => Self::Connection(io::ErrorKind::WriteZero.into()),
        }
    }
}

impl embedded_io_async::Error for ReplyError {
    fn kind(&self) -> embedded_io_async::ErrorKind {
        match self {
            Self::Connection(error) => error.kind().into(),
            Self::TooSlow(_) => embedded_io_async::ErrorKind::TimedOut,
            _ => embedded_io_async::ErrorKind::Other,
        }
    }
}

/// The way to a peer that may not read. It must accept bytes at a rate: 64 KiB, or the rest, in each timeout. A peer that
/// accepts bytes is not silent.
#[derive(Debug)]
pub struct ReplyStream<'a> {
    transport: &'a mut dyn Transport,
    permit: &'a ConnectionPermit,
    timeout: Option<Duration>,
    /// When the present 64 KiB began, and how many bytes of them were accepted.
    since: Instant,
    accepted: usize,
}

impl<'a> ReplyStream<'a> {
    pub(super) fn new(
        transport: &'a mut dyn Transport,
        permit: &'a ConnectionPermit,
        timeout: Option<Duration>,
    ) -> Self {
        Self {
            transport,
            permit,
            timeout,
            since: Instant::now(),
            accepted: 0,
        }
    }

    /// Closes the sending side.
    ///
    /// # Errors
    /// [`ReplyError::Connection`].
    pub async fn close(self) -> Result<(), ReplyError> {
        let closed = self.transport.shutdown().await;
        closed.map_err(ReplyError::Connection)
    }
}

impl ErrorType for ReplyStream<'_> {
    type Error = ReplyError;
}

impl embedded_io_async::Write for ReplyStream<'_> {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, ReplyError> {
        let writing = self.transport.write(bytes);
        let timeout = self.timeout;
        let until = timeout.and_then(|time| Some((self.since.checked_add(time)?, time)));
        let written = match until {
            Some((until, time)) => tokio::time::timeout_at(until, writing)
                .await
                .map_err(|_| ReplyError::TooSlow(time))?,
            None => writing.await,
        };
        let len = written.map_err(ReplyError::Connection)?;
        self.accepted += len;
        self.permit.heard();
        if ACCEPTED_MIN <= self.accepted {
            (self.since, self.accepted) = (Instant::now(), 0);
        }
        Ok(len)
    }

    async fn flush(&mut self) -> Result<(), ReplyError> {
        let flushed = self.transport.flush().await;
        flushed.map_err(ReplyError::Connection)
    }
}

/// Waits a moment for the peer to read the end of the reply, and to close.
pub(super) async fn until_read(transport: &mut dyn Transport) {
    // Closing with unread bytes would reset the connection, and the reply with it.
    let mut unread = [0; 1024];
    let until_closed =
        async { while transport.read(&mut unread).await.is_ok_and(|len| len != 0) {} };
    let _ = tokio::time::timeout(LINGER, until_closed).await;
}
