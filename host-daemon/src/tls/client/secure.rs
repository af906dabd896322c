//! A connection with TLS: [`SecureStream`].

use std::io::{self, Read as _};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::explain::Explainer;

/// Bytes that are read at a time from a connection that cannot be written any more.
const CHUNK: usize = 4096;

/// A connection with TLS after its handshake. Explains errors.
#[derive(Debug)]
pub(crate) struct SecureStream {
    stream: TlsStream<TcpStream>,
    explainer: Arc<Explainer>,
}

impl SecureStream {
    pub(super) const fn new(stream: TlsStream<TcpStream>, explainer: Arc<Explainer>) -> Self {
        Self { stream, explainer }
    }

    pub(super) fn tcp(&self) -> &TcpStream {
        self.stream.get_ref().0
    }

    /// Explains the error of a write. A server that refuses the client certificate in TLS 1.3 sends an alert and closes: the
    /// write fails, and the alert is still to be read.
    fn of_write(&mut self, error: io::Error) -> io::Error {
        match self.pending_alert() {
            Some(alert) => self.explainer.explain(&alert).into(),
            None => self.explainer.of_connection(error),
        }
    }

    /// Whether a `close_notify` of the server has arrived.
    fn has_peer_ended(&mut self) -> bool {
        let processed = self.stream.get_mut().1.process_new_packets();
        processed.is_ok_and(|state| state.peer_has_closed())
    }

    /// Takes the records that have arrived, and returns the error among them. Data stays readable.
    fn pending_alert(&mut self) -> Option<rustls::Error> {
        let (tcp, session) = self.stream.get_mut();
        let socket = SockRef::from(&*tcp);
        let mut chunk = [0; CHUNK];
        loop {
            let len = (&*socket).read(&mut chunk).ok().filter(|len| *len != 0)?;
            let mut received = chunk.get(..len)?;
            while !received.is_empty() {
                // It fails when the buffer for data is full, and takes nothing after a close_notify.
                session
                    .read_tls(&mut received)
                    .ok()
                    .filter(|len| *len != 0)?;
                if let Err(error) = session.process_new_packets() {
                    return Some(error);
                }
            }
        }
    }
}

impl AsyncRead for SecureStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_read(context, buffer);
        polled.map_err(|error| this.explainer.of_connection(error))
    }
}

impl AsyncWrite for SecureStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write(context, bytes);
        polled.map_err(|error| this.of_write(error))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_flush(context);
        polled.map_err(|error| this.of_write(error))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_shutdown(context);
        polled.map(|ended| match ended {
            Err(error) => match this.of_write(error) {
                // The server has ended the connection before, and takes nothing more.
                error if error.kind() == io::ErrorKind::BrokenPipe && this.has_peer_ended() => {
                    Ok(())
                }
                error => Err(error),
            },
            ended => ended,
        })
    }
}
