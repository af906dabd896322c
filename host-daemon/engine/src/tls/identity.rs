//! The device that a certificate names: [`identify`].

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use crate::admission::identity::is_name;
use crate::certificate::PeerCertificate;

/// Before the name, in a URI of a certificate.
const URI: &str = "urn:blocksd:";
/// Characters of a name that an error shows.
const SHOWN_MAX: usize = 80;

/// Why a certificate names no device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The certificate cannot be parsed.
    #[error("the certificate is malformed")]
    Malformed,
    /// It has neither a DNS or URI name nor a common name.
    #[error("the certificate has no DNS name, no URI `urn:blocksd:ID` and no common name")]
    None,
    /// The URI is another one.
    #[error("the URI `{0}` is not `urn:blocksd:ID`")]
    Uri(String),
    /// The name stands for many hosts.
    #[error("`{0}` is a wildcard, which names no device")]
    Wildcard(String),
    /// The name is too long, or has other characters.
    #[error(
        "`{name}` has {len} characters; a device name has 1 to 64 of A-Z, a-z, 0-9, `.`, `_`, `:` and `-`"
    )]
    Name {
        /// The name, cut after 80 characters.
        name: String,
        /// Its length in bytes.
        len: usize,
    },
    /// The name is an address, which would name the plain device at that address.
    #[error("`{0}` is an IP address, which names no device")]
    Address(String),
}

/// Returns the certificate with the name of its device: its first DNS or URI name, else its common name.
///
/// # Errors
/// [`NameError`] if it names none.
pub fn identify(certificate: &CertificateDer<'_>) -> Result<PeerCertificate, NameError> {
    let (rest, parsed) =
        X509Certificate::from_der(certificate).map_err(|_| NameError::Malformed)?;
    if !rest.is_empty() {
        return Err(NameError::Malformed);
    }
    Ok(PeerCertificate {
        name: name(&parsed)?,
        issuer: parsed.issuer().to_string().into(),
        fingerprint: fingerprint(certificate),
    })
}

/// SHA-256 of a certificate.
pub(super) fn fingerprint(certificate: &CertificateDer<'_>) -> [u8; 32] {
    Sha256::digest(certificate).into()
}

fn name(certificate: &X509Certificate<'_>) -> Result<Arc<str>, NameError> {
    let alternatives = certificate
        .subject_alternative_name()
        .map_err(|_| NameError::Malformed)?;
    let names = alternatives.map(|it| it.value.general_names.as_slice());
    let mut names = names.unwrap_or_default().iter();
    let first = names.find_map(|name| match name {
        GeneralName::DNSName(name) => Some(Ok(*name)),
        GeneralName::URI(uri) => Some(uri.strip_prefix(URI).ok_or(*uri)),
        _ => None,
    });
    match first {
        Some(Ok(name)) => checked(name),
        Some(Err(uri)) => Err(NameError::Uri(shown(uri))),
        None => {
            let mut common = certificate.subject().iter_common_name();
            let common = common.next().ok_or(NameError::None)?;
            checked(common.as_str().map_err(|_| NameError::Malformed)?)
        }
    }
}

fn checked(name: &str) -> Result<Arc<str>, NameError> {
    if name.contains('*') {
        return Err(NameError::Wildcard(shown(name)));
    }
    if !is_name(name) {
        let len = name.len();
        let name = shown(name);
        return Err(NameError::Name { name, len });
    }
    if name.parse::<IpAddr>().is_ok() || name.parse::<SocketAddr>().is_ok() {
        return Err(NameError::Address(shown(name)));
    }
    Ok(name.into())
}

/// A name of a peer, for a log line.
fn shown(name: &str) -> String {
    let shown = name.chars().take(SHOWN_MAX);
    shown.flat_map(char::escape_default).collect()
}
