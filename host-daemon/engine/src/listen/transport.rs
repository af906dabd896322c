//! The transport of a connection: a [`Transport`] is a byte stream in both directions.
//!
//! TCP and Unix sockets implement it. Serial ports and standard input are bridged over a pair of Unix sockets.

use std::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::task::{Context, Poll};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// A byte stream in both directions, of which a connection reads messages and to which it sends a reply.
///
/// [`AsyncWrite::poll_shutdown`] closes the sending side only: the peer reads the end, and can still send.
///
/// # Examples
/// ```
/// use blocksd_engine::listen::transport::Transport;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let (near, _far) = tokio::net::UnixStream::pair()?;
/// let transport: Box<dyn Transport> = Box::new(near);
/// assert!(!transport.has_arrived());
/// # Ok(())
/// # }
/// ```
pub trait Transport: AsyncRead + AsyncWrite + fmt::Debug + Send + Unpin {
    /// Polls whether a read would return bytes, the end or an error. It may be ready too early; then the read is
    /// pending. Takes no buffer, so an idle connection holds none.
    ///
    /// # Errors
    /// The transport failed.
    fn poll_readable(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Whether unread bytes, or the end, have arrived. Asks the system, because the runtime may not have seen them yet.
    /// The default, `true`, makes the caller wait a moment for [`poll_readable`](Self::poll_readable).
    fn has_arrived(&self) -> bool {
        true
    }

    /// Sends small writes at once instead of collecting them. Called for connections that are sent a reply.
    fn set_low_latency(&self) {}
}

impl Transport for TcpStream {
    fn poll_readable(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_read_ready(context)
    }

    fn has_arrived(&self) -> bool {
        can_peek(&SockRef::from(self))
    }

    fn set_low_latency(&self) {
        // A failure means that the peer is gone.
        let _ = self.set_nodelay(true);
    }
}

impl Transport for UnixStream {
    fn poll_readable(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_read_ready(context)
    }

    fn has_arrived(&self) -> bool {
        can_peek(&SockRef::from(self))
    }
}

fn can_peek(socket: &SockRef<'_>) -> bool {
    socket.peek(&mut [MaybeUninit::uninit()]).is_ok()
}
