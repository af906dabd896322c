//! The sockets that connections are made of. What is none (a serial line, standard input) is joined to one by a
//! pair of sockets.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// A connected socket.
#[derive(Debug)]
pub enum Stream {
    /// From the network.
    Tcp(TcpStream),
    /// From this machine.
    Unix(UnixStream),
    /// The other end is ours, and passes on what comes from elsewhere.
    Pair(UnixStream),
    /// No socket: a test's network.
    #[cfg(feature = "simulation")]
    Simulated(Box<dyn Simulated>),
}

/// What a connection of a test's network can do.
#[cfg(feature = "simulation")]
pub trait Simulated: AsyncRead + AsyncWrite + std::fmt::Debug + Send + Unpin {
    /// As [`Stream::poll_read_ready`].
    ///
    /// # Errors
    /// Where the transport failed.
    fn poll_read_ready(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>>;
}

/// Does the same with a socket of either kind.
macro_rules! each {
    ($stream:expr, $socket:ident => $do:expr) => {
        match $stream {
            Stream::Tcp($socket) => $do,
            Stream::Unix($socket) | Stream::Pair($socket) => $do,
            #[cfg(feature = "simulation")]
            Stream::Simulated($socket) => $do,
        }
    };
}

impl Stream {
    /// Whether there may be something to read. Tells the task of `context` when that changes.
    ///
    /// # Errors
    /// Where the transport failed.
    pub fn poll_read_ready(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, socket => socket.poll_read_ready(context))
    }

    /// Waits until there may be something to read. Cancel-safe.
    ///
    /// # Errors
    /// Where the transport failed.
    pub async fn readable(&mut self) -> io::Result<()> {
        std::future::poll_fn(|context| self.poll_read_ready(context)).await
    }

    /// Whether bytes, or the end, have arrived that were not read; the runtime may not know of them yet.
    #[must_use]
    pub fn has_arrived(&self) -> bool {
        let peek = |socket: SockRef<'_>| socket.peek(&mut [MaybeUninit::uninit()]).is_ok();
        match self {
            Self::Tcp(socket) => peek(SockRef::from(socket)),
            Self::Unix(socket) | Self::Pair(socket) => peek(SockRef::from(socket)),
            #[cfg(feature = "simulation")]
            Self::Simulated(_) => true,
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each!(self.get_mut(), socket => Pin::new(socket).poll_read(context, buffer))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        each!(self.get_mut(), socket => Pin::new(socket).poll_write(context, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), socket => Pin::new(socket).poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), socket => Pin::new(socket).poll_shutdown(context))
    }
}
