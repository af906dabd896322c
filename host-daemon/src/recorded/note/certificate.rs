//! The certificate of a connection as it is stored: a [`CertificateNote`].

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::recorded::note::Note;
use blocksd_engine::certificate::PeerCertificate;

/// The certificate with which the peer of a connection has proved who it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateNote<'a> {
    /// The name in it.
    pub identity: Cow<'a, str>,
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
            identity: (&*certificate.name).into(),
            issuer: (&*certificate.issuer).into(),
            fingerprint: certificate.fingerprint_hex().into(),
        }
    }

    /// The certificate that was stored. `None` if its fingerprint is not one.
    #[must_use]
    pub fn certificate(&self) -> Option<Arc<PeerCertificate>> {
        Some(Arc::new(PeerCertificate {
            name: (&*self.identity).into(),
            issuer: (&*self.issuer).into(),
            fingerprint: PeerCertificate::fingerprint_of_hex(&self.fingerprint)?,
        }))
    }
}

impl Note<'_> {
    /// The certificate of a connection that was opened, if it has one.
    #[must_use]
    pub fn certificate(&self) -> Option<Arc<PeerCertificate>> {
        match self {
            Self::Open { certificate, .. } => certificate.as_ref()?.certificate(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_gives_the_certificate_back() {
        let certificate = PeerCertificate {
            name: "pump-7".into(),
            issuer: "CN=fleet".into(),
            fingerprint: [0xa5; 32],
        };
        let note = CertificateNote::of(&certificate);
        assert_eq!(note.certificate().as_deref(), Some(&certificate));
        let json = serde_json::to_string(&note).unwrap();
        let head = r#"{"event":"open","conn":1,"device":"pump-7","time":"2026-11-28T22:06:05Z""#;
        let plain = format!(r#"{head},"peer":"a"}}"#);
        let Note::Open { certificate, .. } = serde_json::from_str(&plain).unwrap() else {
            panic!("{plain}");
        };
        assert_eq!(certificate, None);
        let open = format!(r#"{head},"peer":"a",{}"#, json.strip_prefix('{').unwrap());
        let Note::Open { certificate, .. } = serde_json::from_str(&open).unwrap() else {
            panic!("{open}");
        };
        assert_eq!(certificate, Some(note));
    }
}
