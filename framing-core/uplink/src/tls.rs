//! TLS 1.3 with a client certificate, over any transport. Start with [`Tls`].
//!
//! P-256 and AES-128-GCM only, by embedded-tls; certificates are verified by webpki. The README says what is verified.

mod connection;
mod credentials;
mod provider;
mod verifier;
mod wire;

use core::cell::Cell;
use core::fmt;

use embassy_futures::select::{Either, select};
use embedded_io_async::{ErrorKind, ErrorType, Read, Write};
use embedded_tls::{TlsConfig, TlsConnection, TlsContext};
use rustls_pki_types::ServerName;

use self::connection::{Peer, drive};
use self::provider::{Provider, SEED_LEN};
use self::verifier::{Now, ServerVerifier};
use self::wire::{Wire, WireError};
use crate::connect::{Clock, Connect, Split};
use crate::log::{info, warning};
use crate::series::ABORT_MS;

pub use self::connection::Connection;
pub use self::credentials::{Credentials, CredentialsError};
pub use self::verifier::CertificateError;
pub use rustls_pki_types::CertificateDer;

/// Time limit for a handshake: a small processor takes a second for its part.
const HANDSHAKE_MS: u32 = 20_000;

/// The random numbers of the board. They must be unpredictable: from the random generator of the chip.
///
/// Whoever can guess them can read the connection, and pretend to be the server on it.
pub trait Entropy {
    /// Fills this with random bytes: 32 for each handshake.
    ///
    /// # Errors
    /// The generator does not work. The connection is then not made.
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), ErrorKind>;
}

/// The buffers of one connection at a time.
///
/// `READ` bounds the records of the server: its largest one has at most `READ` bytes, with its header. That is the flight of the
/// handshake, in which some servers send all messages in one record: about 400 bytes and the certificates that it sends. After
/// the handshake, the frames of a session are short; session tickets can be long. `WRITE` bounds the records of the device: the
/// certificate of the device must have at most `WRITE - 40` bytes, and a record carries up to `WRITE - 133`.
pub struct TlsBuffers<const READ: usize, const WRITE: usize> {
    inbound: [u8; READ],
    plain: [u8; READ],
    record: [u8; WRITE],
    outbound: [u8; WRITE],
}

/// TLS over the connections of another transport.
pub struct Tls<'b, C, K, E> {
    inner: C,
    clock: K,
    entropy: E,
    credentials: &'b Credentials<'b>,
    wire: Wire<'b>,
    plain: &'b mut [u8],
    record: &'b mut [u8],
    /// Whether the last connection ended before the server said anything.
    was_mute: Cell<bool>,
    /// The time of the host, in s since 1970, if it is known.
    time_s: Option<u64>,
}

/// Why a handshake has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
enum Failure {
    /// The transport failed.
    Io(ErrorKind),
    /// The server has another certificate than it should.
    Server(CertificateError),
    /// The server ended the handshake with an alert, or broke the protocol.
    Handshake,
    /// A buffer is too short.
    Memory,
    /// The time limit has passed.
    Late,
}

impl<const READ: usize, const WRITE: usize> TlsBuffers<READ, WRITE> {
    /// Buffers, all zero.
    #[must_use]
    pub const fn new() -> Self {
        const {
            assert!(
                1024 <= READ && READ <= 16_645,
                "a handshake takes about 1,000 bytes"
            );
            assert!(
                512 <= WRITE && WRITE <= 16_384,
                "a certificate takes about 450 bytes"
            );
        }
        Self {
            inbound: [0; READ],
            plain: [0; READ],
            record: [0; WRITE],
            outbound: [0; WRITE],
        }
    }
}

impl<'b, C, K, E> Tls<'b, C, K, E> {
    /// Connects over `inner`, with these credentials and buffers.
    pub const fn new<const READ: usize, const WRITE: usize>(
        inner: C,
        clock: K,
        entropy: E,
        credentials: &'b Credentials<'b>,
        buffers: &'b mut TlsBuffers<READ, WRITE>,
    ) -> Self {
        Self {
            inner,
            clock,
            entropy,
            credentials,
            wire: Wire::new(&mut buffers.inbound, &mut buffers.outbound),
            plain: &mut buffers.plain,
            record: &mut buffers.record,
            was_mute: Cell::new(false),
            time_s: None,
        }
    }

    /// The time at which the certificate of the server is verified.
    fn now(&self) -> Now {
        let minimum_s = self.credentials.minimum_s;
        match self.time_s {
            Some(time_s) if minimum_s <= time_s => Now::Is(time_s),
            _ => Now::AtLeast(minimum_s),
        }
    }
}

impl<'b, C: Split, K: Clock, E: Entropy> Connect for Tls<'b, C, K, E> {
    type Connection<'c>
        = Connection<'c, 'b, C::Connection<'c>>
    where
        Self: 'c;

    const VERIFIES: bool = true;

    /// Connects, and verifies the server. If the server has the wrong certificate, the error is
    /// [`PermissionDenied`](ErrorKind::PermissionDenied).
    async fn connect(&mut self) -> Result<Self::Connection<'_>, ErrorKind> {
        let now = self.now();
        let mut seed = [0; SEED_LEN];
        self.entropy.fill(&mut seed)?;
        let Self {
            inner,
            clock,
            credentials,
            wire,
            plain,
            record,
            was_mute,
            ..
        } = self;
        let mut io = inner.connect().await?;
        let wire = &*wire;
        wire.restart();
        let mut tls = TlsConnection::new(wire, plain, record);
        // The transport is flushed by a flush alone.
        tls.set_flush_policy(embedded_tls::FlushPolicy::Relaxed);
        let verifier = ServerVerifier::new(&credentials.anchor, &credentials.name, now);
        let mut provider = Provider::new(credentials, verifier, seed);
        let result = {
            let config = match &credentials.name {
                ServerName::DnsName(_) => TlsConfig::new().with_server_name(credentials.name_text),
                _ => TlsConfig::new(),
            };
            let opening = drive(
                wire,
                &mut io,
                tls.open(TlsContext::new(&config, &mut provider)),
            );
            match select(opening, clock.sleep_ms(HANDSHAKE_MS)).await {
                Either::First(Ok(Ok(()))) => Ok(()),
                Either::First(Ok(Err(embedded_tls::TlsError::InsufficientSpace)))
                | Either::First(Err(WireError::TooLong)) => Err(Failure::Memory),
                Either::First(Ok(Err(_)) | Err(WireError::Forbidden)) => Err(Failure::Handshake),
                Either::First(Err(error)) => Err(Failure::Io(error.kind())),
                Either::Second(()) => Err(Failure::Late),
            }
        };
        // Also of a handshake that succeeds: without a certificate, it does.
        let verdict = provider.verifier.verdict();
        let result = match verdict {
            Err(error) if result.is_ok() || error != CertificateError::Missing => {
                Err(Failure::Server(error))
            }
            _ => result,
        };
        let Err(failure) = result else {
            wire.open();
            return Ok(Connection {
                io,
                tls: Some(tls),
                wire,
                peer: Peer::new(was_mute),
            });
        };
        warning!("TLS: {}", failure);
        select(C::end(&mut io, false), clock.sleep_ms(ABORT_MS)).await;
        Err(match failure {
            // The certificate of the device may have arrived, and the rest of the handshake not.
            Failure::Io(kind) if verdict.is_ok() => Peer::new(was_mute).end(kind),
            Failure::Io(kind) => kind,
            Failure::Server(_) => ErrorKind::PermissionDenied,
            Failure::Handshake => ErrorKind::InvalidData,
            Failure::Memory => ErrorKind::OutOfMemory,
            Failure::Late => ErrorKind::TimedOut,
        })
    }

    /// Sends `close_notify` before it closes. Nothing can be read after that, so a reply to a series is lost: use a session.
    async fn close<'c>(connection: &mut Self::Connection<'c>) -> Result<(), ErrorKind>
    where
        Self: 'c,
    {
        connection.close().await?;
        C::close(&mut connection.io).await
    }

    async fn abort<'c>(connection: &mut Self::Connection<'c>)
    where
        Self: 'c,
    {
        C::abort(&mut connection.io).await;
    }

    fn has_progress<'c>(connection: &Self::Connection<'c>) -> bool
    where
        Self: 'c,
    {
        C::has_progress(&connection.io)
    }

    fn set_time(&mut self, time_s: Option<u64>) {
        if self.time_s.is_none() && time_s.is_some() {
            info!("TLS: certificates are verified at the time of the host from now on");
        }
        self.time_s = time_s.or(self.time_s);
    }
}

impl<'b, C: Split, K: Clock, E: Entropy> Split for Tls<'b, C, K, E> {
    type Error = ErrorKind;

    fn split<'s, 'c>(
        connection: &'s mut Self::Connection<'c>,
    ) -> (impl Read<Error = ErrorKind>, impl Write<Error = ErrorKind>)
    where
        Self: 'c,
        'c: 's,
    {
        let Connection {
            io,
            tls,
            wire,
            peer,
        } = connection;
        Connection::<C::Connection<'c>>::split(tls, wire, peer, C::split(io))
    }

    /// A graceful end sends `close_notify` first.
    async fn end<'c>(connection: &mut Self::Connection<'c>, is_graceful: bool)
    where
        Self: 'c,
    {
        let is_closed = is_graceful && connection.close().await.is_ok();
        C::end(&mut connection.io, is_closed).await;
    }
}

// One direction at a time, as a plain series uses them.
impl<T: Read + Write> ErrorType for Connection<'_, '_, T> {
    type Error = ErrorKind;
}

impl<T: Read + Write> Read for Connection<'_, '_, T> {
    async fn read(&mut self, to: &mut [u8]) -> Result<usize, ErrorKind> {
        let Self {
            io,
            tls,
            wire,
            peer,
        } = self;
        Self::split(tls, wire, peer, (io, ())).0.read(to).await
    }
}

impl<T: Read + Write> Write for Connection<'_, '_, T> {
    async fn write(&mut self, from: &[u8]) -> Result<usize, ErrorKind> {
        let Self {
            io,
            tls,
            wire,
            peer,
        } = self;
        Self::split(tls, wire, peer, ((), io)).1.write(from).await
    }

    async fn flush(&mut self) -> Result<(), ErrorKind> {
        let Self {
            io,
            tls,
            wire,
            peer,
        } = self;
        Self::split(tls, wire, peer, ((), io)).1.flush().await
    }
}

impl<const READ: usize, const WRITE: usize> Default for TlsBuffers<READ, WRITE> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const READ: usize, const WRITE: usize> fmt::Debug for TlsBuffers<READ, WRITE> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsBuffers").finish_non_exhaustive()
    }
}

impl<C, K, E> fmt::Debug for Tls<'_, C, K, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("credentials", &self.credentials)
            .finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Connection<'_, '_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}
