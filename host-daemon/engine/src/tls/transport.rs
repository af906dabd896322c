//! A connection that TLS protects: [`TlsTransport`], over any other [`Transport`].
//!
//! rustls decrypts in the memory of the thread that reads, so an idle connection holds no buffer, and one whose last record is
//! incomplete holds the bytes of that record.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use rustls::pki_types::CertificateDer;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, UnbufferedStatus, WriteTraffic,
};
use rustls::{HandshakeKind, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::listen::transport::Transport;
use crate::reason::CloseReason;
use crate::tls::config::CurrentConfig;

/// Bytes that are decrypted at once.
const RAW_LEN: usize = 64 << 10;
/// Least bytes to read, if the caller has little room: what is decrypted beyond it waits.
const READ_MIN: usize = 512;
/// Payload of a record that is sent, in bytes: the most that TLS allows.
const RECORD_MAX: usize = 16 << 10;
/// Header, padding, nonce and tag of a record, in bytes, at most.
const RECORD_OVERHEAD: usize = 64;

thread_local! {
    /// The records that are decrypted now. Polling does not wait, so one buffer serves all connections of a thread.
    static RAW: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A connection within TLS. A `TlsServer` performs its handshake.
pub(super) struct TlsTransport {
    inner: Box<dyn Transport>,
    tls: UnbufferedServerConnection,
    current: Arc<CurrentConfig>,
    /// The bytes of an incomplete record.
    incoming: Vec<u8>,
    /// Decrypted bytes for which the caller had no room.
    plain: Vec<u8>,
    /// Records that the peer has not accepted yet.
    outgoing: Vec<u8>,
    /// Why nothing more can be received, after what was received before.
    failure: Option<Box<rustls::Error>>,
    state: State,
}

/// What has been sent and received at the end of the stream.
#[derive(Clone, Copy, Debug, Default)]
struct State {
    /// The peer has ended its stream with close_notify.
    has_ended: bool,
    /// The stream has ended without close_notify.
    is_cut: bool,
    /// close_notify was written, or must not be sent any more.
    is_closed: bool,
}

impl TlsTransport {
    pub(super) fn new(
        inner: Box<dyn Transport>,
        config: Arc<ServerConfig>,
        current: Arc<CurrentConfig>,
    ) -> Result<Self, rustls::Error> {
        Ok(Self {
            inner,
            tls: UnbufferedServerConnection::new(config)?,
            current,
            incoming: Vec::new(),
            plain: Vec::new(),
            outgoing: Vec::new(),
            failure: None,
            state: State::default(),
        })
    }

    /// Whether the handshake is not complete.
    pub(super) fn is_handshaking(&self) -> bool {
        self.tls.is_handshaking()
    }

    /// Whether the handshake continued an earlier one, without the certificate.
    pub(super) fn is_resumed(&self) -> bool {
        self.tls.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// The certificate of the peer, and those that lead to its authority.
    pub(super) fn certificates(&self) -> Option<&[CertificateDer<'static>]> {
        self.tls.peer_certificates()
    }

    /// The first bytes that were received, if nothing was understood yet; else nothing.
    pub(super) fn greeting(&self) -> &[u8] {
        match self.tls.protocol_version() {
            None => &self.incoming,
            Some(_) => &[],
        }
    }

    /// Reads, and performs what the received records say. Ready when something was received.
    pub(super) fn poll_handshake(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), HandshakeFailure>> {
        ready!(self.poll_send(context)).map_err(HandshakeFailure::Io)?;
        let before = self.incoming.len();
        let mut read = [0; 4 << 10];
        let mut buffer = ReadBuf::new(&mut read);
        ready!(Pin::new(&mut self.inner).poll_read(context, &mut buffer))
            .map_err(HandshakeFailure::Io)?;
        self.incoming.extend_from_slice(buffer.filled());
        if self.incoming.len() == before {
            return Poll::Ready(Err(HandshakeFailure::Ended));
        }
        let mut raw = std::mem::take(&mut self.incoming);
        let mut plain = std::mem::take(&mut self.plain);
        let used = self.process(&mut raw, &mut |bytes| plain.extend_from_slice(bytes));
        self.plain = plain;
        match used {
            Ok(used) => {
                self.incoming = raw.split_off(used);
                Poll::Ready(Ok(()))
            }
            Err(error) => {
                self.incoming = raw;
                // The alert tells the peer why. It need not arrive.
                let _ = self.poll_send(context);
                Poll::Ready(Err(HandshakeFailure::Tls(error)))
            }
        }
    }

    /// Sends what the handshake has left to send.
    pub(super) fn poll_sent(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_send(context)
    }

    /// Processes the records in `raw`, and passes decrypted bytes on. Returns how many bytes were used.
    fn process(
        &mut self,
        raw: &mut [u8],
        plain: &mut dyn FnMut(&[u8]),
    ) -> Result<usize, rustls::Error> {
        let mut used = 0;
        loop {
            let rest = raw.get_mut(used..).unwrap_or_default();
            let UnbufferedStatus { discard, state } = self.tls.process_tls_records(rest);
            used += discard;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        used += record.discard;
                        plain(record.payload);
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    append(&mut self.outgoing, 0, |room| data.encode(room))?;
                }
                // They are in `outgoing`, and leave in order.
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => self.state.has_ended = true,
                Ok(_) => return Ok(used),
                Err(error) => {
                    self.state.is_closed = true;
                    self.take_alert(raw.get_mut(used..).unwrap_or_default());
                    return Err(error);
                }
            }
        }
    }

    /// Takes the alert that follows an error, with the bytes that were not used: rustls remembers places in them.
    fn take_alert(&mut self, rest: &mut [u8]) {
        if let Ok(ConnectionState::EncodeTlsData(mut data)) =
            self.tls.process_tls_records(rest).state
        {
            let _ = append(&mut self.outgoing, 0, |room| data.encode(room));
        }
    }

    /// Writes records with `write`, which gets the room for them: `room` bytes, or as many as it needs.
    fn write(
        &mut self,
        room: usize,
        mut write: impl FnMut(
            &mut WriteTraffic<'_, ServerConnectionData>,
            &mut [u8],
        ) -> Result<usize, EncryptError>,
    ) -> io::Result<()> {
        let Self {
            tls,
            incoming,
            outgoing,
            ..
        } = self;
        // rustls remembers places in the incomplete record. Everything else in there was processed.
        let UnbufferedStatus { discard, state } = tls.process_tls_records(incoming);
        let written = match state {
            Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                let written = append(outgoing, room, |room| write(&mut traffic, room));
                written.map_err(io::Error::other)
            }
            Ok(_) => Err(io::ErrorKind::BrokenPipe.into()),
            Err(error) => Err(io::Error::other(error)),
        };
        incoming.drain(..discard.min(incoming.len()));
        written
    }

    /// Encrypts bytes as one record.
    fn encrypt(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.state.is_closed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.write(bytes.len() + RECORD_OVERHEAD, |traffic, room| {
            traffic.encrypt(bytes, room)
        })
    }

    /// Writes close_notify, once.
    fn end(&mut self) {
        if !std::mem::replace(&mut self.state.is_closed, true) {
            // If it cannot be written, the peer reads a cut.
            let _ = self.write(RECORD_OVERHEAD, |traffic, room| {
                traffic.queue_close_notify(room)
            });
        }
    }

    /// Sends the records that wait.
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut sent = 0;
        let result = loop {
            let rest = self.outgoing.get(sent..).unwrap_or_default();
            if rest.is_empty() {
                break Poll::Ready(Ok(()));
            }
            match Pin::new(&mut self.inner).poll_write(context, rest) {
                Poll::Ready(Ok(0)) => break Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(len)) => sent += len,
                Poll::Ready(Err(error)) => break Poll::Ready(Err(error)),
                Poll::Pending => break Poll::Pending,
            }
        };
        if sent == self.outgoing.len() {
            self.outgoing = Vec::new();
        } else {
            self.outgoing.drain(..sent);
        }
        result
    }

    /// Why nothing more can be received.
    fn failed(&self) -> Option<io::Error> {
        let error = self.failure.as_deref()?.clone();
        Some(io::Error::new(io::ErrorKind::InvalidData, error))
    }

    /// Reads records, and decrypts them into `buffer`.
    fn poll_decrypt(
        &mut self,
        context: &mut Context<'_>,
        raw: &mut Vec<u8>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        raw.resize(RAW_LEN, 0);
        loop {
            let carried = self.incoming.len();
            let room = buffer.remaining().saturating_sub(carried).max(READ_MIN);
            let end = RAW_LEN.min(carried + room);
            let mut read = ReadBuf::new(raw.get_mut(carried..end).unwrap_or_default());
            ready!(Pin::new(&mut self.inner).poll_read(context, &mut read))?;
            let len = read.filled().len();
            if len == 0 {
                self.state.is_cut = true;
                return Poll::Ready(Ok(()));
            }
            let records = raw.get_mut(..carried + len).unwrap_or_default();
            if let Some(front) = records.get_mut(..carried) {
                front.copy_from_slice(&self.incoming);
            }
            let mut waiting = std::mem::take(&mut self.plain);
            let filled = buffer.filled().len();
            let used = self.process(records, &mut |bytes| {
                let (now, later) = bytes.split_at(bytes.len().min(buffer.remaining()));
                buffer.put_slice(now);
                waiting.extend_from_slice(later);
            });
            self.plain = waiting;
            let used = match used {
                Ok(used) => used,
                Err(error) => {
                    self.failure = Some(Box::new(error));
                    records.len()
                }
            };
            match records.get(used..).unwrap_or_default() {
                // An idle connection holds no memory.
                [] => self.incoming = Vec::new(),
                rest => {
                    self.incoming.clear();
                    self.incoming.extend_from_slice(rest);
                }
            }
            if filled < buffer.filled().len() || self.state.has_ended {
                return Poll::Ready(Ok(()));
            }
            if let Some(error) = self.failed() {
                return Poll::Ready(Err(error));
            }
        }
    }
}

/// Why a handshake failed.
#[derive(Debug)]
pub(super) enum HandshakeFailure {
    Tls(rustls::Error),
    Io(io::Error),
    /// The peer closed its side.
    Ended,
}

impl AsyncRead for TlsTransport {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.plain.is_empty() {
            let len = this.plain.len().min(buffer.remaining());
            buffer.put_slice(this.plain.get(..len).unwrap_or_default());
            if len == this.plain.len() {
                this.plain = Vec::new();
            } else {
                this.plain.drain(..len);
            }
            return Poll::Ready(Ok(()));
        }
        if let Some(error) = this.failed() {
            return Poll::Ready(Err(error));
        }
        if this.state.has_ended || this.state.is_cut || buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        RAW.with_borrow_mut(|raw| this.poll_decrypt(context, raw, buffer))
    }
}

impl AsyncWrite for TlsTransport {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_send(context))?;
        let now = bytes.get(..RECORD_MAX).unwrap_or(bytes);
        if now.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.encrypt(now)?;
        match self.poll_send(context) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            // What is left is sent with the next call, or when the connection is polled.
            _ => Poll::Ready(Ok(now.len())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(context))?;
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.end();
        ready!(self.poll_send(context))?;
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

impl Transport for TlsTransport {
    fn poll_readable(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Poll::Ready(Err(error)) = self.poll_send(context) {
            return Poll::Ready(Err(error));
        }
        let is_over = self.state.has_ended || self.state.is_cut || self.failure.is_some();
        if !self.plain.is_empty() || is_over {
            return Poll::Ready(Ok(()));
        }
        self.inner.poll_readable(context)
    }

    fn has_arrived(&self) -> bool {
        !self.plain.is_empty() || self.failure.is_some() || self.inner.has_arrived()
    }

    fn set_low_latency(&self) {
        self.inner.set_low_latency();
    }

    fn held_bytes(&self) -> usize {
        self.incoming.capacity() + self.plain.capacity() + self.outgoing.capacity()
    }

    fn is_cut(&self) -> bool {
        self.state.is_cut
    }

    fn recheck(&mut self) -> Option<CloseReason> {
        let certificates = self.tls.peer_certificates();
        let is_allowed = self.current.get().is_allowed(certificates);
        (!is_allowed).then_some(CloseReason::Revoked)
    }
}

impl Drop for TlsTransport {
    fn drop(&mut self) {
        if self.tls.is_handshaking() {
            return;
        }
        // The peer learns that nothing was cut, if it can be sent at once.
        self.end();
        let _ = self.poll_send(&mut Context::from_waker(Waker::noop()));
    }
}

impl fmt::Debug for TlsTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsTransport")
            .field("inner", &self.inner)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

/// An error that may say how much room is needed.
trait NeedsRoom: std::error::Error + Send + Sync + 'static {
    fn required(&self) -> Option<usize>;
}

impl NeedsRoom for EncodeError {
    fn required(&self) -> Option<usize> {
        match self {
            Self::InsufficientSize(size) => Some(size.required_size),
            Self::AlreadyEncoded => None,
        }
    }
}

impl NeedsRoom for EncryptError {
    fn required(&self) -> Option<usize> {
        match self {
            Self::InsufficientSize(size) => Some(size.required_size),
            Self::EncryptExhausted => None,
        }
    }
}

/// Appends what `encode` writes, with `room` bytes or as many as it needs.
fn append<E: NeedsRoom>(
    to: &mut Vec<u8>,
    room: usize,
    mut encode: impl FnMut(&mut [u8]) -> Result<usize, E>,
) -> Result<(), rustls::Error> {
    let start = to.len();
    let mut room = room;
    for _ in 0..2 {
        to.resize(start + room, 0);
        match encode(to.get_mut(start..).unwrap_or_default()) {
            Ok(len) => {
                to.truncate(start + len);
                return Ok(());
            }
            Err(error) => {
                to.truncate(start);
                match error.required() {
                    Some(required) => room = required,
                    None => return Err(rustls::Error::General(error.to_string())),
                }
            }
        }
    }
    Err(rustls::Error::General("a record has no length".to_owned()))
}

#[cfg(test)]
mod tests;
