//! A connection to a daemon: [`ClientStream`].

use std::io;
use std::net::Shutdown;
use std::pin::Pin;
use std::task::{Context, Poll};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

#[cfg(feature = "tls")]
use super::secure::SecureStream;

/// A connection, plain or with TLS.
///
/// With TLS, its end is a `close_notify` in both directions: an end without it is an error of the kind
/// [`UnexpectedEof`](io::ErrorKind::UnexpectedEof).
#[derive(Debug)]
pub(crate) enum ClientStream {
    /// Without TLS.
    Plain(TcpStream),
    /// With TLS.
    #[cfg(feature = "tls")]
    Tls(Box<SecureStream>),
}

impl ClientStream {
    /// The TCP connection.
    pub(crate) fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.tcp(),
        }
    }

    /// Whether it has TLS.
    pub(crate) const fn is_tls(&self) -> bool {
        !matches!(self, Self::Plain(_))
    }

    /// Ends the sending side: with TLS, by a `close_notify`.
    ///
    /// # Errors
    /// Those of the system. A peer that has reset the connection is one.
    pub(crate) async fn close_write(&mut self) -> io::Result<()> {
        match self {
            // The runtime would hide that the connection is gone.
            Self::Plain(stream) => {
                let ended = SockRef::from(&*stream).shutdown(Shutdown::Write);
                ended.map_err(|error| match error.kind() {
                    io::ErrorKind::NotConnected => io::ErrorKind::ConnectionReset.into(),
                    _ => error,
                })
            }
            #[cfg(feature = "tls")]
            Self::Tls(stream) => tokio::io::AsyncWriteExt::shutdown(&mut **stream).await,
        }
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => Pin::new(&mut **stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => Pin::new(&mut **stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => Pin::new(&mut **stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => Pin::new(&mut **stream).poll_shutdown(context),
        }
    }
}
