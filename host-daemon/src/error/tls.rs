//! Errors of TLS at a client of a daemon. Start with [`TlsError`].

use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// The error of a library.
pub type TlsCause = Arc<dyn Error + Send + Sync>;

/// Why there is no TLS connection to a server, or why it has ended. It is the inner error of an [`io::Error`].
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The certificate of the server has no trusted issuer.
    #[error(
        "the server's certificate is not signed by a CA of {trusted}; give the CA that signed it with --tls-ca FILE"
    )]
    Untrusted {
        /// The file with the CAs, or the system.
        trusted: String,
        /// The error of the library.
        #[source]
        source: TlsCause,
    },
    /// The certificate of the server is for other names.
    #[error(
        "the server's certificate is {}, not for {expected}; if this is the right server, give --tls-name NAME",
        names(presented)
    )]
    WrongName {
        /// The name that the certificate should have.
        expected: String,
        /// The names that it has.
        presented: Vec<String>,
        /// The error of the library.
        #[source]
        source: TlsCause,
    },
    /// The certificate of the server is not valid now.
    #[error("the server's certificate {validity}; renew it, or set the clock of this machine")]
    NotValidNow {
        /// Since when, or until when.
        validity: String,
        /// The error of the library.
        #[source]
        source: TlsCause,
    },
    /// The certificate of the server cannot be used for a server.
    #[error("the server's certificate cannot be used: {reason}")]
    Unusable {
        /// Why.
        reason: String,
        /// The error of the library.
        #[source]
        source: TlsCause,
    },
    /// The peer answered with something else.
    #[error(
        "the server does not speak TLS on this port; use the port of its TLS listener, or no --tls option"
    )]
    NotTls {
        /// The error of the library.
        #[source]
        source: TlsCause,
    },
    /// The server refused the handshake, the client certificate or the connection.
    #[error("the server refuses the TLS connection ({alert}): {meaning}")]
    Alert {
        /// The name of the alert.
        alert: String,
        /// What it means, and what to do.
        meaning: String,
        /// Whether another attempt gets the same answer.
        is_final: bool,
        /// The error of the library.
        #[source]
        source: TlsCause,
    },
    /// The peer broke the protocol, or has nothing in common with this program.
    #[error("TLS failed: {source}")]
    Protocol {
        /// The error of the library.
        source: TlsCause,
    },
    /// The server did not answer the handshake in time.
    #[error("the TLS handshake took too long; is this the port of a TLS listener?")]
    Late,
    /// The server closed the connection during the handshake.
    #[error(
        "the server closed the connection during the TLS handshake; is this the port of a TLS listener?"
    )]
    Closed {
        /// The error of the library.
        #[source]
        source: TlsCause,
    },
    /// The connection failed during the handshake.
    #[error("the connection failed during the TLS handshake: {source}")]
    Failed {
        /// The error of the system.
        source: TlsCause,
        /// Its kind.
        kind: io::ErrorKind,
    },
    /// The connection ended without the end mark of TLS, so data may be missing.
    #[error("the connection was cut: it ended without a close_notify of the server")]
    Truncated {
        /// The error of the library.
        #[source]
        source: TlsCause,
    },
}

/// Options or files that TLS cannot be set up with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsSetupError {
    /// Nothing says whom to trust.
    #[error("{option} needs --tls-ca FILE, or --tls for the CAs of the system")]
    NotOn {
        /// The option that is given.
        option: &'static str,
    },
    /// The URL is one without TLS.
    #[error("{option} needs an address with TLS: --url https://HOST:PORT")]
    NotHttps {
        /// The option that is given.
        option: &'static str,
    },
    /// A file has no certificate.
    #[error("{} has no certificate in PEM (-----BEGIN CERTIFICATE-----){}", path.display(), found(has))]
    NoCertificate {
        /// The file.
        path: PathBuf,
        /// What it has instead.
        has: Option<&'static str>,
    },
    /// A file has no private key.
    #[error("{} has no private key in PEM (-----BEGIN PRIVATE KEY-----){}", path.display(), found(has))]
    NoKey {
        /// The file.
        path: PathBuf,
        /// What it has instead.
        has: Option<&'static str>,
    },
    /// A private key is encrypted.
    #[error(
        "the private key in {} is encrypted; decrypt it: openssl pkey -in {} -out FILE",
        path.display(),
        path.display()
    )]
    EncryptedKey {
        /// The file.
        path: PathBuf,
    },
    /// A key is not that of the certificate.
    #[error("the private key in {} is not that of the certificate in {}", key.display(), cert.display())]
    OtherKey {
        /// The file of the key.
        key: PathBuf,
        /// The file of the certificate.
        cert: PathBuf,
    },
    /// A file cannot be understood.
    #[error("{}: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The system has no trusted CAs.
    #[error(
        "the system has no trusted CAs{}; install the package ca-certificates, or give --tls-ca FILE",
        because(reason)
    )]
    NoSystemCas {
        /// Why none could be read.
        reason: Option<String>,
    },
    /// A name that no certificate can have.
    #[error("`{name}` is not a name that a certificate can have; give one with --tls-name NAME")]
    BadName {
        /// The name.
        name: String,
    },
    /// The cryptography cannot be used.
    #[error("TLS cannot be set up: {0}")]
    Library(#[source] TlsCause),
    /// This build has no TLS.
    #[error(
        "this build of blocksd has no TLS; the builds of a release have it, and those of `cargo install --locked --path host-daemon --features tls`"
    )]
    NotBuilt,
}

impl TlsError {
    /// The error among the causes of another one.
    #[must_use]
    pub fn among_causes<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Self> {
        std::iter::successors(Some(error), |it| inner(*it)).find_map(|it| it.downcast_ref())
    }

    /// Whether another attempt cannot help.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        match self {
            Self::Untrusted { .. }
            | Self::WrongName { .. }
            | Self::NotValidNow { .. }
            | Self::Unusable { .. }
            | Self::NotTls { .. }
            | Self::Protocol { .. } => true,
            Self::Alert { is_final, .. } => *is_final,
            Self::Late | Self::Closed { .. } | Self::Failed { .. } | Self::Truncated { .. } => {
                false
            }
        }
    }

    /// The kind of the I/O error.
    #[must_use]
    pub const fn kind(&self) -> io::ErrorKind {
        match self {
            Self::Late => io::ErrorKind::TimedOut,
            Self::Closed { .. } => io::ErrorKind::ConnectionReset,
            Self::Truncated { .. } => io::ErrorKind::UnexpectedEof,
            Self::Failed { kind, .. } => *kind,
            Self::Alert {
                is_final: false, ..
            } => io::ErrorKind::ConnectionRefused,
            _ => io::ErrorKind::InvalidData,
        }
    }
}

impl From<TlsError> for io::Error {
    fn from(error: TlsError) -> Self {
        Self::new(error.kind(), error)
    }
}

/// Whether another attempt to connect cannot help: the text is not an address, or TLS refuses.
#[must_use]
pub fn is_final(error: &io::Error) -> bool {
    let is_tls = || TlsError::among_causes(error).is_some_and(TlsError::is_final);
    error.kind() == io::ErrorKind::InvalidInput || is_tls()
}

/// The cause of an error; for an [`io::Error`], the error in it, which its `source` skips.
fn inner<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    let io = error.downcast_ref::<io::Error>();
    match io.and_then(io::Error::get_ref) {
        Some(inner) => Some(inner),
        None => error.source(),
    }
}

fn names(presented: &[String]) -> impl fmt::Display {
    fmt::from_fn(move |f| match presented {
        [] => f.write_str("for no host at all (it has no subject alternative name)"),
        _ => write!(f, "for {}", presented.join(", ")),
    })
}

fn found(has: &Option<&'static str>) -> impl fmt::Display {
    fmt::from_fn(move |f| has.map_or(Ok(()), |has| write!(f, "; it has {has}")))
}

fn because(reason: &Option<String>) -> impl fmt::Display {
    fmt::from_fn(move |f| match reason {
        Some(reason) => write!(f, " that can be read ({reason})"),
        None => Ok(()),
    })
}
