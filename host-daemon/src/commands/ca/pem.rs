//! Reads PEM and DER files of a certificate authority. Start with [`read_certificate`].

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, CertificateSigningRequestDer,
};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

use crate::error::{CaError, CommandError};

/// Length of the longest certificate request that is read, in bytes.
const REQUEST_MAX: u64 = 64 << 10;

/// Reads a file.
///
/// # Errors
/// [`CommandError::File`].
pub(super) fn read(path: &Path) -> Result<Vec<u8>, CommandError> {
    fs::read(path).map_err(|error| failure(path, error))
}

/// Reads the first certificate of a PEM file.
///
/// # Errors
/// [`CommandError::File`], [`CaError::Unusable`].
pub(super) fn read_certificate(path: &Path) -> Result<CertificateDer<'static>, CommandError> {
    let certificate = CertificateDer::from_pem_slice(&read(path)?);
    certificate.map_err(|error| not_pem(path, "certificate", error))
}

/// Reads a PEM file with a list of revoked certificates.
///
/// # Errors
/// [`CommandError::File`], [`CaError::Unusable`].
pub(super) fn read_crl(path: &Path) -> Result<CertificateRevocationListDer<'static>, CommandError> {
    let crl = CertificateRevocationListDer::from_pem_slice(&read(path)?);
    crl.map_err(|error| not_pem(path, "list of revoked certificates", error))
}

/// Reads a certificate request, PEM or DER.
///
/// # Errors
/// [`CommandError::File`], [`CaError::Unusable`].
pub(super) fn read_request(
    path: &Path,
) -> Result<CertificateSigningRequestDer<'static>, CommandError> {
    /// The first byte of DER.
    const SEQUENCE: u8 = 0x30;
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| failure(path, error))?;
    let read = file.take(REQUEST_MAX + 1).read_to_end(&mut bytes);
    read.map_err(|error| failure(path, error))?;
    if REQUEST_MAX < bytes.len() as u64 {
        return Err(unusable(
            path,
            format_args!("longer than {REQUEST_MAX} bytes"),
        ));
    }
    if bytes.first() == Some(&SEQUENCE) {
        return Ok(bytes.into());
    }
    // The name that old programs write.
    let text =
        String::from_utf8_lossy(&bytes).replace("NEW CERTIFICATE REQUEST", "CERTIFICATE REQUEST");
    let request = CertificateSigningRequestDer::from_pem_slice(text.as_bytes());
    request.map_err(|error| not_pem(path, "certificate request", error))
}

/// Parses a certificate that was read from `path`.
///
/// # Errors
/// [`CaError::Unusable`].
pub(super) fn parse<'a>(
    path: &Path,
    certificate: &'a CertificateDer<'_>,
) -> Result<X509Certificate<'a>, CommandError> {
    match X509Certificate::from_der(certificate) {
        Ok(([], parsed)) => Ok(parsed),
        Ok(_) => Err(unusable(path, "bytes follow the certificate")),
        Err(error) => Err(unusable(path, format_args!("not a certificate: {error}"))),
    }
}

/// The error of a file that cannot be used.
pub(super) fn unusable(path: &Path, reason: impl ToString) -> CommandError {
    CommandError::Ca(CaError::Unusable {
        path: path.into(),
        reason: reason.to_string(),
    })
}

fn failure(path: &Path, error: io::Error) -> CommandError {
    CommandError::File {
        path: path.into(),
        error,
    }
}

fn not_pem(path: &Path, what: &str, error: PemError) -> CommandError {
    match error {
        PemError::NoItemsFound => unusable(path, format_args!("contains no {what} in PEM")),
        error => unusable(path, format_args!("contains no {what} in PEM: {error}")),
    }
}
