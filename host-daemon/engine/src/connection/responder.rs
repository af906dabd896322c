//! The sending side of a connection: a [`Responder`].
//!
//! The module [`reply`](super::reply) has responders that send after the device has finished. A responder that sends
//! earlier, such as after each message, implements [`poll_ready`](Responder::poll_ready) and
//! [`poll_write`](Responder::poll_write).

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

/// Bytes that a peer must accept within the reply timeout, unless fewer are left.
const ACCEPTED_MIN: usize = 64 << 10;
/// Time for the peer to read the end of the stream, and to close.
pub(super) const LINGER: Duration = Duration::from_secs(1);

/// The sending side of one connection.
///
/// If a method panics, its connection closes with [`CloseReason::ReplyFailed`], and others continue.
///
/// # Examples
/// Replies `done` when the device has finished sending. For a responder that answers each message while the device is
/// sending, see the example `embed` of this crate.
///
/// ```
/// use std::sync::Arc;
/// use blocksd_engine::connection::policy::{Policy, ReplyKind};
/// use blocksd_engine::connection::responder::{
///     Finishing, Received, ReplyStream, Respond, Responder,
/// };
/// use blocksd_engine::event::ConnectionInfo;
/// use embedded_io_async::Write;
/// use framing_core::{AnyFraming, Lines};
///
/// #[derive(Debug)]
/// struct Done;
///
/// impl Responder for Done {
///     fn finish<'a>(self: Box<Self>, mut peer: ReplyStream<'a>, _: Received) -> Finishing<'a> {
///         Box::pin(async move {
///             peer.write_all(b"done\n").await?;
///             peer.close().await
///         })
///     }
/// }
///
/// impl Respond for Done {
///     fn responder(&self, _: &ConnectionInfo) -> Box<dyn Responder> {
///         Box::new(Done)
///     }
/// }
///
/// let policy = Policy {
///     reply: Some(ReplyKind::Custom(Arc::new(Done))),
///     ..Policy::new(AnyFraming::Lines(Lines))
/// };
/// # let _ = policy;
/// ```
pub trait Responder: fmt::Debug + Send {
    /// Returns whether the responder needs the messages themselves, rather than only their number. Called for each
    /// batch.
    fn needs_messages(&self) -> bool {
        false
    }

    /// Called for each batch, before it is sent to the sinks.
    ///
    /// # Errors
    /// An error closes the connection, except [`ReplyError::Connection`], which is only logged.
    fn on_batch(&mut self, _batch: &Batch) -> Result<(), ReplyError> {
        Ok(())
    }

    /// Whether [`on_batch`](Self::on_batch) may wait for a disk with this batch. Then it is called on a thread for
    /// blocking operations, of which few run at once, and the connection reads no more until it returns. The default is
    /// `false`.
    fn is_slow(&mut self, _batch: &Batch) -> bool {
        false
    }

    /// Polls whether there is something to write while the device is still sending. Must register the waker of
    /// `context` if it returns `Pending`, unless only [`on_batch`](Self::on_batch) makes it ready.
    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }

    /// Writes to the device. While this is pending, the connection continues to read. The reply timeout does not apply
    /// here: the responder must limit the time for a peer that does not read. The default is pending: it has nothing to
    /// write.
    ///
    /// # Errors
    /// An error closes the connection.
    fn poll_write(
        &mut self,
        _context: &mut Context<'_>,
        _transport: &mut dyn Transport,
    ) -> Poll<Result<(), ReplyError>> {
        Poll::Pending
    }

    /// Sends the rest of the reply after the device has finished sending, and closes the sending side. Dropped if the
    /// connection must close before it completes. The reply timeout limits each write, not the time between writes: a
    /// future that does not complete holds its connection until it is evicted or the engine stops.
    fn finish<'a>(self: Box<Self>, peer: ReplyStream<'a>, received: Received) -> Finishing<'a>;
}

/// Creates the responder of each connection; see [`ReplyKind::Custom`](super::policy::ReplyKind::Custom).
pub trait Respond: fmt::Debug + Send + Sync {
    /// Creates the responder of a new connection.
    fn responder(&self, connection: &ConnectionInfo) -> Box<dyn Responder>;
}

/// The future that sends the rest of a reply; see [`Responder::finish`].
pub type Finishing<'a> = Pin<Box<dyn Future<Output = Result<(), ReplyError>> + Send + 'a>>;

/// The complete messages that a connection has received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// Number of messages.
    pub messages: u64,
    /// Payload bytes, including those of pieces.
    pub bytes: u64,
}

/// Why a reply failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplyError {
    /// The transport failed.
    #[error("connection failed: {0}")]
    Connection(#[source] io::Error),
    /// The peer did not accept 64 KiB, or the rest, within the reply timeout.
    #[error("the peer did not read 64 KiB of the reply within reply-timeout ({} s)", .0.as_secs_f32())]
    TooSlow(Duration),
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A file is longer than the longest message of the framing.
    #[error(
        "{} has {len} bytes, and the longest message of this framing has {max}",
        path.display()
    )]
    TooLong {
        /// The file.
        path: PathBuf,
        /// Its length, in bytes.
        len: u64,
        /// Length of the longest message, in bytes.
        max: u32,
    },
    /// The framing cannot carry the message.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The echo exceeds a limit.
    #[error("the echo is larger than {limit} allows ({max_bytes} bytes)")]
    EchoTooLarge {
        /// The option that sets the limit.
        limit: &'static str,
        /// The limit, in bytes.
        max_bytes: u64,
    },
    /// The runtime is shutting down.
    #[error("the program is ending")]
    ShuttingDown,
    /// A responder of the embedding program panicked, with this message.
    #[error("the responder panicked: {0}")]
    Panicked(String),
}

impl ReplyError {
    /// Returns the reason to close the connection; `None` to close with the reason for which the messages ended.
    #[must_use]
    pub const fn close_reason(&self) -> Option<CloseReason> {
        match self {
            Self::Connection(_) => None,
            Self::ShuttingDown => Some(CloseReason::Shutdown),
            Self::TooSlow(_) => Some(CloseReason::ReplyTimeout),
            Self::Read { .. }
            | Self::Write { .. }
            | Self::TooLong { .. }
            | Self::Refused(_)
            | Self::Panicked(_) => Some(CloseReason::ReplyFailed),
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

/// The stream to a peer that may be slow to read. The peer must accept 64 KiB, or the rest, within each reply timeout.
/// Accepted bytes count as activity of the peer.
#[derive(Debug)]
pub struct ReplyStream<'a> {
    transport: &'a mut dyn Transport,
    permit: &'a ConnectionPermit,
    timeout: Option<Duration>,
    /// When the current 64 KiB began, and how many bytes of them were accepted.
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

    /// Closes the sending side: the peer reads the end of the stream.
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

/// Waits briefly for the peer to read the end of the stream, and to close.
pub(super) async fn until_read(transport: &mut dyn Transport) {
    // Closing with unread bytes would reset the connection, and discard the reply.
    let mut unread = [0; 1024];
    let until_closed =
        async { while transport.read(&mut unread).await.is_ok_and(|len| len != 0) {} };
    let _ = tokio::time::timeout(LINGER, until_closed).await;
}
