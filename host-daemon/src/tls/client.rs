//! Connections to a daemon, plain or with TLS. Start with [`Connector`].

#[cfg(feature = "tls")]
mod explain;
#[cfg(feature = "tls")]
mod pem;
#[cfg(feature = "tls")]
mod secure;
#[cfg(feature = "tls")]
mod setup;
#[cfg(not(feature = "tls"))]
mod setup_not_built;
mod stream;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout_at};

#[cfg(feature = "tls")]
use self::setup::ClientSetup;
#[cfg(not(feature = "tls"))]
use self::setup_not_built::AbsentSetup as ClientSetup;
pub(crate) use self::stream::ClientStream;
use crate::cli::TlsOptions;
use crate::error::{CommandError, TlsError, TlsSetupError};

/// Handshakes of a command at the same time.
const HANDSHAKES: usize = 32;
/// Longest time of a handshake, if there is no limit on the time to connect.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// The protocol of a URL, as it is negotiated.
const HTTP: &[u8] = b"http/1.1";

/// Connects to one daemon. Clones share the TLS sessions that can be resumed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Connector {
    /// `None` for plain connections.
    tls: Option<Arc<Secured>>,
    /// The options, as they are written on a command line.
    written: String,
}

#[derive(Debug)]
struct Secured {
    setup: ClientSetup,
    handshakes: Semaphore,
}

impl Connector {
    /// Connects to the host of `HOST:PORT`, with TLS if the options say so. Reads their files.
    ///
    /// # Errors
    /// [`CommandError::File`], [`CommandError::ClientTls`].
    pub(crate) fn of_address(options: &TlsOptions, address: &str) -> Result<Self, CommandError> {
        match options.first() {
            None => Ok(Self::default()),
            Some(option) if !options.is_on() => Err(TlsSetupError::NotOn { option }.into()),
            Some(_) => {
                let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
                Self::new(options, host, &[])
            }
        }
    }

    /// Connects to the host of a URL, with TLS if its scheme is `https`. Reads the files of the options.
    ///
    /// # Errors
    /// [`CommandError::File`], [`CommandError::ClientTls`].
    pub(crate) fn of_url(
        options: &TlsOptions,
        is_https: bool,
        host: &str,
    ) -> Result<Self, CommandError> {
        match (is_https, options.first()) {
            (true, _) => Self::new(options, host, &[HTTP]),
            (false, None) => Ok(Self::default()),
            (false, Some(option)) => Err(TlsSetupError::NotHttps { option }.into()),
        }
    }

    fn new(options: &TlsOptions, host: &str, protocols: &[&[u8]]) -> Result<Self, CommandError> {
        let setup = ClientSetup::new(options, bare(host), protocols)?;
        Ok(Self {
            tls: Some(Arc::new(Secured {
                setup,
                handshakes: Semaphore::new(HANDSHAKES),
            })),
            written: options.written(),
        })
    }

    /// Whether the connections have TLS.
    pub(crate) const fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// The options as they are written on a command line, each after a space.
    pub(crate) fn written(&self) -> &str {
        &self.written
    }

    /// Connects to the first of these addresses that accepts, and makes the handshake, until `deadline`. Without one, the
    /// system limits the time to connect, and [`HANDSHAKE_MAX`] that of the handshake.
    ///
    /// # Errors
    /// Those of the system; a [`TlsError`] in the I/O error.
    ///
    /// # Cancel-safety
    /// Cancel-safe: a connection that is dropped is closed.
    pub(crate) async fn connect(
        &self,
        addresses: &[SocketAddr],
        deadline: Option<Instant>,
    ) -> io::Result<ClientStream> {
        let late = |_| Err(io::Error::from(io::ErrorKind::TimedOut));
        let connect = async {
            let permit = match &self.tls {
                Some(tls) => Some((tls, tls.handshakes.acquire().await)),
                None => None,
            };
            Ok((TcpStream::connect(addresses).await?, permit))
        };
        let (stream, permit) = until(deadline, connect).await.unwrap_or_else(late)?;
        let Some((tls, _permit)) = permit else {
            return Ok(ClientStream::Plain(stream));
        };
        let deadline = deadline.unwrap_or_else(|| Instant::now() + HANDSHAKE_MAX);
        let handshake = until(Some(deadline), tls.setup.handshake(stream)).await;
        handshake.unwrap_or_else(|_| Err(TlsError::Late.into()))
    }
}

async fn until<F: Future>(deadline: Option<Instant>, future: F) -> Result<F::Output, Elapsed> {
    match deadline {
        Some(deadline) => timeout_at(deadline, future).await,
        None => Ok(future.await),
    }
}

/// The host without brackets and without an interface.
fn bare(host: &str) -> &str {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.split('%').next().unwrap_or(host)
}
