//! TLS of listeners: who may connect, and which device a certificate names.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

/// Returns the cryptography that TLS uses: that of aws-lc-rs with the feature `tls-aws-lc`, else that of ring.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    #[cfg(feature = "tls-aws-lc")]
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    #[cfg(not(feature = "tls-aws-lc"))]
    let provider = rustls::crypto::ring::default_provider();
    Arc::new(provider)
}
