//! The transport of a connection: a [`Transport`] is a bidirectional byte stream.
//!
//! TCP and Unix sockets implement it, and so do the connections of serial lines and standard input.

use std::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::task::{Context, Poll};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::reason::CloseReason;

/// A bidirectional byte stream, from which a connection reads messages and to which it writes replies.
///
/// [`AsyncWrite::poll_shutdown`] must close the sending side only: the peer reads the end of the stream, and can still
/// send.
///
/// # Examples
/// A transport that counts the received bytes:
///
/// ```
/// use std::io;
/// use std::pin::Pin;
/// use std::task::{Context, Poll};
/// use blocksd_engine::listen::transport::Transport;
/// use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
/// use tokio::net::TcpStream;
///
/// #[derive(Debug)]
/// struct Counted {
///     stream: TcpStream,
///     received: usize,
/// }
///
/// impl AsyncRead for Counted {
///     fn poll_read(
///         mut self: Pin<&mut Self>,
///         context: &mut Context<'_>,
///         buffer: &mut ReadBuf<'_>,
///     ) -> Poll<io::Result<()>> {
///         let before = buffer.filled().len();
///         let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
///         self.received += buffer.filled().len() - before;
///         polled
///     }
/// }
///
/// impl AsyncWrite for Counted {
///     fn poll_write(
///         mut self: Pin<&mut Self>,
///         context: &mut Context<'_>,
///         bytes: &[u8],
///     ) -> Poll<io::Result<usize>> {
///         Pin::new(&mut self.stream).poll_write(context, bytes)
///     }
///
///     fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
///         Pin::new(&mut self.stream).poll_flush(context)
///     }
///
///     fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
///         Pin::new(&mut self.stream).poll_shutdown(context)
///     }
/// }
///
/// impl Transport for Counted {
///     fn poll_readable(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
///         self.stream.poll_read_ready(context)
///     }
/// }
/// ```
///
/// Standard transports can be used directly:
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
    /// Polls whether a read would return bytes, the end of the stream or an error. It may be ready too early; then the
    /// read is pending. Needs no buffer, so an idle connection holds none.
    ///
    /// # Errors
    /// The transport failed.
    fn poll_readable(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Returns whether unread bytes, or the end of the stream, have arrived. Asks the system, because the runtime may
    /// not have noticed them yet. The default, `true`, makes the caller poll [`poll_readable`](Self::poll_readable)
    /// briefly.
    fn has_arrived(&self) -> bool {
        true
    }

    /// Disables the coalescing of small writes. Called for connections that have a responder.
    fn set_low_latency(&self) {}

    /// Whether the stream outlives its connections, as a serial line does: the end of a series is not the end of the
    /// stream. The default is `false`.
    fn is_line(&self) -> bool {
        false
    }

    /// Takes back the last bytes that were read. The next connection of the [line](Self::is_line) reads them first. The
    /// default drops them.
    fn put_back(&mut self, _bytes: &[u8]) {}

    /// Whether the bytes that were read, without those that were [put back](Self::put_back), are a reply that an earlier
    /// connection of the [line](Self::is_line) sent, and those of the connections before it too: `in_a_row` connections
    /// together. Called once, before a reply. The default is `false`.
    fn is_own_reply(&mut self, _in_a_row: u32) -> bool {
        false
    }

    /// Returns the bytes of memory that an incomplete unit of the transport holds, such as a TLS record. The default is 0.
    fn held_bytes(&self) -> usize {
        0
    }

    /// Whether the stream has ended without the proof that the peer ended it: anyone on the network may have cut it. The
    /// default is `false`.
    fn is_cut(&self) -> bool {
        false
    }

    /// Whether the peer still has to send a record that ends its stream, such as a TLS `close_notify`. Closing before it
    /// arrives would reset the connection. The default is `false`.
    fn awaits_end(&self) -> bool {
        false
    }

    /// Checks again whether the peer may stay connected, after the rules have changed. Returns the reason to close if it
    /// may not. The default is `None`.
    fn recheck(&mut self) -> Option<CloseReason> {
        None
    }
}

impl Transport for TcpStream {
    fn poll_readable(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_read_ready(context)
    }

    fn has_arrived(&self) -> bool {
        can_peek(&SockRef::from(self))
    }

    fn set_low_latency(&self) {
        // This fails only if the peer is gone.
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
