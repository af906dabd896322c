//! PEM files of a client: certificates of CAs ([`authorities`]), its own ([`chain`]), and its key ([`key`]).

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{InconsistentKeys, RootCertStore};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::explain::utc;
use crate::error::{CommandError, TlsSetupError};
use crate::service::log::print_status;

/// Maximum length of a file, in bytes.
const FILE_MAX: u64 = 16 << 20;

/// The CAs in a file.
///
/// # Errors
/// [`CommandError::File`], [`CommandError::ClientTls`].
pub(super) fn authorities(path: &Path) -> Result<RootCertStore, CommandError> {
    let mut roots = RootCertStore::empty();
    for (number, certificate) in (1..).zip(chain(path)?) {
        let added = roots.add(certificate);
        added.map_err(|error| malformed(path, format!("certificate {number}: {error}")))?;
    }
    Ok(roots)
}

/// The certificates in a file, at least one.
///
/// # Errors
/// [`CommandError::File`], [`CommandError::ClientTls`].
pub(super) fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, CommandError> {
    let content = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&content).collect();
    let found = found.map_err(|error| malformed(path, error.to_string()))?;
    match found.is_empty() {
        false => Ok(found),
        true => Err(TlsSetupError::NoCertificate {
            path: path.to_owned(),
            has: instead(&content),
        }
        .into()),
    }
}

/// The first private key in a file.
///
/// # Errors
/// [`CommandError::File`], [`CommandError::ClientTls`].
pub(super) fn key(path: &Path) -> Result<PrivateKeyDer<'static>, CommandError> {
    let content = read(path)?;
    let path = path.to_owned();
    if contains(&content, "BEGIN ENCRYPTED PRIVATE KEY") || contains(&content, ",ENCRYPTED") {
        return Err(TlsSetupError::EncryptedKey { path }.into());
    }
    PrivateKeyDer::from_pem_slice(&content).map_err(|error| match error {
        pem::Error::NoItemsFound => {
            let has = instead(&content);
            TlsSetupError::NoKey { path, has }.into()
        }
        error => malformed(&path, error.to_string()),
    })
}

/// The error of a certificate and a key that cannot be used together.
pub(super) fn unusable_key(error: rustls::Error, cert: &Path, key: &Path) -> CommandError {
    match error {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => TlsSetupError::OtherKey {
            key: key.to_owned(),
            cert: cert.to_owned(),
        }
        .into(),
        rustls::Error::InvalidCertificate(error) => {
            malformed(cert, format!("the certificate cannot be used: {error}"))
        }
        error => malformed(key, format!("the private key cannot be used: {error}")),
    }
}

/// Reports a certificate that is not valid now: the server will probably refuse it.
pub(super) fn warn_of_expiry(path: &Path, certificate: Option<&[u8]>) {
    let parsed = certificate.and_then(|der| X509Certificate::from_der(der).ok());
    let Some((_, certificate)) = parsed else {
        return;
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
    let validity = certificate.validity();
    let (from, until) = (
        validity.not_before.timestamp(),
        validity.not_after.timestamp(),
    );
    let what = match now {
        _ if until < now => format!("expired at {}", utc(until)),
        _ if now < from => format!("is not valid before {}", utc(from)),
        _ => return,
    };
    print_status(format_args!(
        "blocksd: the certificate in {} {what}; a server will probably refuse it",
        path.display()
    ));
}

fn read(path: &Path) -> Result<Vec<u8>, CommandError> {
    let mut content = Vec::new();
    let read = File::open(path).and_then(|file| file.take(FILE_MAX).read_to_end(&mut content));
    read.map_err(|error| CommandError::File {
        path: path.to_owned(),
        error,
    })?;
    Ok(content)
}

fn malformed(path: &Path, reason: String) -> CommandError {
    let path = path.to_owned();
    TlsSetupError::Malformed { path, reason }.into()
}

/// What a file has instead of the wanted section.
fn instead(content: &[u8]) -> Option<&'static str> {
    let known = [
        ("PRIVATE KEY-----", "a private key"),
        ("BEGIN CERTIFICATE REQUEST", "a certificate request"),
        ("BEGIN CERTIFICATE-----", "a certificate"),
        ("BEGIN X509 CRL", "a revocation list"),
    ];
    let named = known.iter().find(|(text, _)| contains(content, text));
    match (named, content.first()) {
        (Some((_, has)), _) => Some(has),
        // The beginning of a sequence in DER.
        (None, Some(0x30)) => Some("binary data (DER)"),
        (None, None) => Some("nothing"),
        (None, Some(_)) => None,
    }
}

fn contains(content: &[u8], text: &str) -> bool {
    content
        .windows(text.len())
        .any(|window| window == text.as_bytes())
}
