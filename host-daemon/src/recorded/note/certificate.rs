//! The certificate of a connection as it is stored: a [`CertificateNote`].

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use blocksd_engine::certificate::PeerCertificate;

/// The certificate with which the peer of a connection has proved who it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateNote<'a> {
    /// The name in it.
    pub name: Cow<'a, str>,
    /// The name of its authority.
    pub issuer: Cow<'a, str>,
    /// SHA-256 of the certificate, as 64 hexadecimal digits.
    pub fingerprint: Cow<'a, str>,
}

impl<'a> CertificateNote<'a> {
    /// The certificate of a peer.
    #[must_use]
    pub fn of(certificate: &'a PeerCertificate) -> Self {
        Self {
            name: (&*certificate.name).into(),
            issuer: (&*certificate.issuer).into(),
            fingerprint: certificate.fingerprint_hex().into(),
        }
    }

    /// The certificate that was stored. `None` if its fingerprint is not one.
    #[must_use]
    pub fn certificate(&self) -> Option<Arc<PeerCertificate>> {
        Some(Arc::new(PeerCertificate {
            name: (&*self.name).into(),
            issuer: (&*self.issuer).into(),
            fingerprint: PeerCertificate::fingerprint_of_hex(&self.fingerprint)?,
        }))
    }
}
