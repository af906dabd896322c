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
use rustls::unbuffered::{ConnectionState, EncryptError, UnbufferedStatus, WriteTraffic};
use rustls::{HandshakeKind, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::listen::transport::Transport;
use crate::reason::CloseReason;
use crate::tls::append::append;
use crate::tls::config::{CurrentConfig, TlsConfig};

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
    /// `None` while the connection holds nothing. There may be ten thousand.
    kept: Option<Box<KeptBytes>>,
    ends: StreamEnds,
}

/// What a connection keeps between two calls.
#[derive(Debug, Default)]
struct KeptBytes {
    /// The bytes of an incomplete record.
    incoming: Vec<u8>,
    /// Decrypted bytes for which the caller had no room.
    plain: Vec<u8>,
    /// Records that the peer has not accepted yet.
    outgoing: Vec<u8>,
    /// Why nothing more can be received, after what was received before.
    failure: Option<rustls::Error>,
}

impl KeptBytes {
    fn is_empty(&self) -> bool {
        let is_full = [&self.incoming, &self.plain, &self.outgoing];
        is_full.iter().all(|it| it.is_empty()) && self.failure.is_none()
    }

    /// Why nothing more can be received.
    fn failed(&self) -> Option<io::Error> {
        let error = self.failure.clone()?;
        Some(io::Error::new(io::ErrorKind::InvalidData, error))
    }
}

/// What has been sent and received at the end of the stream.
#[derive(Clone, Copy, Debug, Default)]
struct StreamEnds {
    /// The peer has ended its stream with close_notify.
    has_ended: bool,
    /// The stream has ended without close_notify.
    is_cut: bool,
    /// close_notify was written, or must not be sent any more.
    is_closed: bool,
    /// The number of the configuration by which the certificate was checked last.
    checked: u32,
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
            kept: None,
            ends: StreamEnds::default(),
        })
    }

    /// Records that the certificate was checked by this configuration.
    pub(super) fn checked_by(&mut self, config: &TlsConfig) {
        self.ends.checked = config.number();
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
        match (self.tls.protocol_version(), &self.kept) {
            (None, Some(kept)) => &kept.incoming,
            _ => &[],
        }
    }

    /// Reads, and performs what the received records say. Ready when something was received.
    pub(super) fn poll_handshake(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), HandshakeFailure>> {
        self.with_kept(|this, kept| {
            ready!(this.poll_send(context, kept)).map_err(HandshakeFailure::Io)?;
            let mut read = [0; 4 << 10];
            let mut buffer = ReadBuf::new(&mut read);
            ready!(Pin::new(&mut this.inner).poll_read(context, &mut buffer))
                .map_err(HandshakeFailure::Io)?;
            if buffer.filled().is_empty() {
                return Poll::Ready(Err(HandshakeFailure::Ended));
            }
            kept.incoming.extend_from_slice(buffer.filled());
            let KeptBytes {
                incoming,
                plain,
                outgoing,
                ..
            } = kept;
            let used = this.process(incoming, outgoing, &mut |bytes| {
                plain.extend_from_slice(bytes);
            });
            match used {
                Ok(used) => {
                    drop(incoming.drain(..used));
                    Poll::Ready(Ok(()))
                }
                Err(error) => {
                    // The alert tells the peer why. It need not arrive.
                    let _ = this.poll_send(context, kept);
                    Poll::Ready(Err(HandshakeFailure::Tls(error)))
                }
            }
        })
    }

    /// Sends what the handshake has left to send.
    pub(super) fn poll_sent(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with_kept(|this, kept| this.poll_send(context, kept))
    }

    /// Calls `act` with what is kept, and keeps what is left.
    fn with_kept<T>(&mut self, act: impl FnOnce(&mut Self, &mut KeptBytes) -> T) -> T {
        let mut kept = self
            .kept
            .take()
            .map_or_else(KeptBytes::default, |kept| *kept);
        let result = act(self, &mut kept);
        self.kept = (!kept.is_empty()).then(|| Box::new(kept));
        result
    }

    /// Processes the records in `raw`, and passes decrypted bytes on. Returns how many bytes were used.
    fn process(
        &mut self,
        raw: &mut [u8],
        outgoing: &mut Vec<u8>,
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
                    append(outgoing, 0, |room| data.encode(room))?;
                }
                // They are in `outgoing`, and leave in order.
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => self.ends.has_ended = true,
                Ok(_) => return Ok(used),
                Err(error) => {
                    self.ends.is_closed = true;
                    self.take_alert(raw.get_mut(used..).unwrap_or_default(), outgoing);
                    return Err(error);
                }
            }
        }
    }

    /// Takes the alert that follows an error, with the bytes that were not used: rustls remembers places in them.
    fn take_alert(&mut self, rest: &mut [u8], outgoing: &mut Vec<u8>) {
        if let Ok(ConnectionState::EncodeTlsData(mut data)) =
            self.tls.process_tls_records(rest).state
        {
            let _ = append(outgoing, 0, |room| data.encode(room));
        }
    }

    /// Writes records with `write`, which gets the room for them: `room` bytes, or as many as it needs.
    fn write(
        &mut self,
        kept: &mut KeptBytes,
        room: usize,
        mut write: impl FnMut(
            &mut WriteTraffic<'_, ServerConnectionData>,
            &mut [u8],
        ) -> Result<usize, EncryptError>,
    ) -> io::Result<()> {
        let KeptBytes {
            incoming, outgoing, ..
        } = kept;
        // rustls remembers places in the incomplete record. Everything else in there was processed.
        let UnbufferedStatus { discard, state } = self.tls.process_tls_records(incoming);
        let written = match state {
            Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                let written = append(outgoing, room, |room| write(&mut traffic, room));
                written.map_err(io::Error::other)
            }
            Ok(_) => Err(io::ErrorKind::BrokenPipe.into()),
            Err(error) => Err(io::Error::other(error)),
        };
        drop(incoming.drain(..discard.min(incoming.len())));
        written
    }

    /// Encrypts bytes as one record.
    fn encrypt(&mut self, kept: &mut KeptBytes, bytes: &[u8]) -> io::Result<()> {
        if self.ends.is_closed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.write(kept, bytes.len() + RECORD_OVERHEAD, |traffic, room| {
            traffic.encrypt(bytes, room)
        })
    }

    /// Writes close_notify, once.
    fn end(&mut self, kept: &mut KeptBytes) {
        if !std::mem::replace(&mut self.ends.is_closed, true) {
            // If it cannot be written, the peer reads a cut.
            let _ = self.write(kept, RECORD_OVERHEAD, |traffic, room| {
                traffic.queue_close_notify(room)
            });
        }
    }

    /// Sends the records that wait.
    fn poll_send(
        &mut self,
        context: &mut Context<'_>,
        kept: &mut KeptBytes,
    ) -> Poll<io::Result<()>> {
        let outgoing = &mut kept.outgoing;
        let mut sent = 0;
        let result = loop {
            let rest = outgoing.get(sent..).unwrap_or_default();
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
        drop(outgoing.drain(..sent));
        result
    }

    /// Reads records, and decrypts them into `buffer`.
    fn poll_decrypt(
        &mut self,
        context: &mut Context<'_>,
        raw: &mut Vec<u8>,
        kept: &mut KeptBytes,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        raw.resize(RAW_LEN, 0);
        loop {
            let carried = kept.incoming.len();
            let room = buffer.remaining().saturating_sub(carried).max(READ_MIN);
            let end = RAW_LEN.min(carried + room);
            let mut read = ReadBuf::new(raw.get_mut(carried..end).unwrap_or_default());
            ready!(Pin::new(&mut self.inner).poll_read(context, &mut read))?;
            let len = read.filled().len();
            if len == 0 {
                self.ends.is_cut = true;
                if carried != 0 {
                    // A record that is not complete proves that something is missing.
                    return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                }
                return Poll::Ready(Ok(()));
            }
            let records = raw.get_mut(..carried + len).unwrap_or_default();
            if let Some(front) = records.get_mut(..carried) {
                front.copy_from_slice(&kept.incoming);
            }
            let before = buffer.filled().len();
            let KeptBytes {
                plain, outgoing, ..
            } = kept;
            let used = self.process(records, outgoing, &mut |bytes| {
                let (now, later) = bytes.split_at(bytes.len().min(buffer.remaining()));
                buffer.put_slice(now);
                plain.extend_from_slice(later);
            });
            let used = used.unwrap_or_else(|error| {
                kept.failure = Some(error);
                records.len()
            });
            kept.incoming.clear();
            let rest = records.get(used..).unwrap_or_default();
            kept.incoming.extend_from_slice(rest);
            if before < buffer.filled().len() || self.ends.has_ended {
                return Poll::Ready(Ok(()));
            }
            if let Some(error) = kept.failed() {
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
        self.with_kept(|this, kept| {
            if !kept.plain.is_empty() {
                let len = kept.plain.len().min(buffer.remaining());
                buffer.put_slice(kept.plain.get(..len).unwrap_or_default());
                drop(kept.plain.drain(..len));
                return Poll::Ready(Ok(()));
            }
            if let Some(error) = kept.failed() {
                return Poll::Ready(Err(error));
            }
            if this.ends.has_ended || this.ends.is_cut || buffer.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            RAW.with_borrow_mut(|raw| this.poll_decrypt(context, raw, kept, buffer))
        })
    }
}

impl AsyncWrite for TlsTransport {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.with_kept(|this, kept| {
            ready!(this.poll_send(context, kept))?;
            let now = bytes.get(..RECORD_MAX).unwrap_or(bytes);
            if now.is_empty() {
                return Poll::Ready(Ok(0));
            }
            this.encrypt(kept, now)?;
            match this.poll_send(context, kept) {
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                // What is left is sent with the next call, or when the connection is polled.
                _ => Poll::Ready(Ok(now.len())),
            }
        })
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_sent(context))?;
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with_kept(|this, kept| {
            this.end(kept);
            ready!(this.poll_send(context, kept))?;
            Pin::new(&mut this.inner).poll_shutdown(context)
        })
    }
}

impl Transport for TlsTransport {
    fn poll_readable(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.kept.is_some()
            && let Poll::Ready(Err(error)) = self.poll_sent(context)
        {
            return Poll::Ready(Err(error));
        }
        if self.has_plain() || self.ends.has_ended || self.ends.is_cut {
            return Poll::Ready(Ok(()));
        }
        self.inner.poll_readable(context)
    }

    fn has_arrived(&self) -> bool {
        self.has_plain() || self.inner.has_arrived()
    }

    fn set_low_latency(&self) {
        self.inner.set_low_latency();
    }

    fn held_bytes(&self) -> usize {
        let kept = self.kept.as_ref();
        kept.map_or(0, |kept| {
            kept.incoming.capacity() + kept.plain.capacity() + kept.outgoing.capacity()
        })
    }

    fn is_cut(&self) -> bool {
        self.ends.is_cut
    }

    fn awaits_end(&self) -> bool {
        !self.ends.has_ended && !self.ends.is_cut
    }

    fn recheck(&mut self) -> Option<CloseReason> {
        let config = self.current.get();
        if std::mem::replace(&mut self.ends.checked, config.number()) == config.number() {
            return None;
        }
        let is_allowed = config.is_allowed(self.tls.peer_certificates());
        (!is_allowed).then_some(CloseReason::Revoked)
    }
}

impl TlsTransport {
    /// Whether a read gives decrypted bytes, or the reason why there are none.
    fn has_plain(&self) -> bool {
        let kept = self.kept.as_ref();
        kept.is_some_and(|kept| !kept.plain.is_empty() || kept.failure.is_some())
    }
}

impl Drop for TlsTransport {
    fn drop(&mut self) {
        if self.tls.is_handshaking() {
            return;
        }
        // The peer learns that nothing was cut, if it can be sent at once.
        self.with_kept(|this, kept| {
            this.end(kept);
            let _ = this.poll_send(&mut Context::from_waker(Waker::noop()), kept);
        });
    }
}

impl fmt::Debug for TlsTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsTransport")
            .field("inner", &self.inner)
            .field("ends", &self.ends)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
