//! What a device knows before it connects: its own certificate and key, and how to recognise the server. [`Credentials`].

use core::error::Error;
use core::fmt;

use p256::SecretKey;
use p256::ecdsa::SigningKey;
use p256::pkcs8::DecodePrivateKey;
use rustls_pki_types::{CertificateDer, ServerName, TrustAnchor};
use webpki::EndEntityCert;

use super::verifier::public_key;

/// The identity of a device, and of the server that it trusts. All of it is for P-256.
pub struct Credentials<'c> {
    pub(super) certificate: &'c [u8],
    pub(super) key: SigningKey,
    pub(super) anchor: TrustAnchor<'c>,
    pub(super) name: ServerName<'c>,
    pub(super) name_text: &'c str,
    pub(super) minimum_s: u64,
}

/// Why credentials cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum CredentialsError {
    /// The certificate of the device is not one for a key of P-256.
    Certificate,
    /// The key is neither 32 bytes nor PKCS#8, or not one of P-256.
    Key,
    /// The key is not that of the certificate.
    Mismatch,
    /// The certificate of the CA is not a certificate.
    Ca,
    /// The name of the server is neither a DNS name nor an IP address.
    Name,
}

impl<'c> Credentials<'c> {
    /// Checks that the parts belong together.
    ///
    /// Certificates are DER. `key` is the number of 32 bytes, or PKCS#8 (DER). `name` is a DNS name or an IP address that the
    /// certificate of the server must have. `minimum_s` is a time that has passed, in s since 1970: that of the build.
    ///
    /// # Errors
    /// [`CredentialsError`].
    pub fn new(
        certificate: &'c [u8],
        key: &[u8],
        ca: &'c CertificateDer<'c>,
        name: &'c str,
        minimum_s: u64,
    ) -> Result<Self, CredentialsError> {
        let key = match key.len() {
            32 => SecretKey::from_slice(key).ok(),
            _ => SecretKey::from_pkcs8_der(key).ok(),
        };
        let key = SigningKey::from(key.ok_or(CredentialsError::Key)?);
        let der = CertificateDer::from(certificate);
        let own = EndEntityCert::try_from(&der).map_err(|_| CredentialsError::Certificate)?;
        let public = public_key(&own).ok_or(CredentialsError::Certificate)?;
        if key.verifying_key().to_encoded_point(false).as_bytes() != public {
            return Err(CredentialsError::Mismatch);
        }
        Ok(Self {
            certificate,
            key,
            anchor: webpki::anchor_from_trusted_cert(ca).map_err(|_| CredentialsError::Ca)?,
            name: ServerName::try_from(name).map_err(|_| CredentialsError::Name)?,
            name_text: name,
            minimum_s,
        })
    }
}

impl fmt::Debug for Credentials<'_> {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("server", &self.name_text)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for CredentialsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Certificate => "the certificate of the device is not one for a key of P-256",
            Self::Key => "the key of the device is neither 32 bytes nor PKCS#8 of P-256",
            Self::Mismatch => "the key of the device is not that of its certificate",
            Self::Ca => "the certificate of the CA is not a certificate",
            Self::Name => "the name of the server is neither a DNS name nor an IP address",
        })
    }
}

impl Error for CredentialsError {}
