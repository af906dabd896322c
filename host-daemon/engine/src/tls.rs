//! TLS of listeners: who may connect, and which device a certificate names. Start with [`TlsFiles`], which the feature `tls` loads.
//!
//! ```text
//! TlsFiles ─load─► TlsConfig ◄─ TlsServer ─handshake─► TlsTransport, PeerCertificate
//! ```

#[cfg(feature = "tls")]
mod allow;
#[cfg(feature = "tls")]
mod append;
#[cfg(feature = "tls")]
mod config;
mod files;
#[cfg(feature = "tls")]
mod identity;
#[cfg(feature = "tls")]
mod review;
#[cfg(feature = "tls")]
mod server;
#[cfg(all(test, feature = "tls"))]
mod testing;
#[cfg(feature = "tls")]
mod transport;
#[cfg(feature = "tls")]
mod verifier;

#[cfg(feature = "tls")]
use std::sync::Arc;

#[cfg(feature = "tls")]
use rustls::crypto::CryptoProvider;

#[cfg(feature = "tls")]
pub use self::allow::{AllowError, AllowList};
#[cfg(feature = "tls")]
pub use self::config::{NotAfter, TlsConfig, TlsError};
pub use self::files::{ClientAuth, MinVersion, TlsFiles};
#[cfg(feature = "tls")]
pub use self::identity::{NameError, identify};
#[cfg(feature = "tls")]
pub use self::server::TlsServer;
#[cfg(feature = "tls")]
pub use self::verifier::NotAllowed;

/// Returns the cryptography that TLS uses: that of aws-lc-rs with the feature `tls-aws-lc`, else that of ring.
#[cfg(feature = "tls")]
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    #[cfg(feature = "tls-aws-lc")]
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    #[cfg(not(feature = "tls-aws-lc"))]
    let provider = rustls::crypto::ring::default_provider();
    Arc::new(provider)
}
