//! Verifies that the server is the right one: [`ServerVerifier`].

use core::cell::Cell;
use core::time::Duration;

use embassy_sync::blocking_mutex::Mutex;
use embassy_sync::blocking_mutex::raw::CriticalSectionRawMutex;
use embedded_tls::{
    Aes128GcmSha256, CertificateEntryRef, CertificateRef, CertificateVerifyRef, Sha256,
    SignatureScheme, TlsError, TlsVerifier,
};
use heapless::Vec;
use p256::ecdsa::signature::Verifier as _;
use p256::ecdsa::signature::digest::Digest;
use p256::ecdsa::{DerSignature, VerifyingKey};
use rustls_pki_types::{
    AlgorithmIdentifier, CertificateDer, InvalidSignature, ServerName,
    SignatureVerificationAlgorithm, TrustAnchor, UnixTime, alg_id,
};
use webpki::{EndEntityCert, Error, KeyUsage};

/// Number of certificates beside its own that a server can send.
const INTERMEDIATES_MAX: usize = 3;
/// Length of a public key: a point that is not compressed.
pub(super) const PUBLIC_KEY_LEN: usize = 65;
/// The text that a server signs, before the hash of the handshake (RFC 8446, 4.4.3).
const CONTEXT: &[u8] = b"TLS 1.3, server CertificateVerify\0";

/// Why the certificate of a server is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum CertificateError {
    /// The server sent none, or did not prove that it has its key.
    Missing,
    /// It is not a certificate, has a key that is not P-256, or breaks another rule for certificates.
    Malformed,
    /// No chain leads from it to the CA of the device.
    UnknownIssuer,
    /// A signature is wrong.
    Signature,
    /// It is for another name.
    Name,
    /// It is not for servers.
    Usage,
    /// Its time is over.
    Expired,
    /// Its time has not begun, at the time of the host.
    NotYetValid,
}

/// Time at which certificates are verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Now {
    /// It is this time, or later.
    AtLeast(u64),
    /// It is this time, in s since 1970.
    Is(u64),
}

/// How far the server has proved who it is. The order matters: embedded-tls also completes a handshake without a certificate.
#[derive(Debug)]
enum Progress {
    /// No certificate has come.
    Nothing,
    /// The certificate is good: the public key, and the hash of the handshake up to it.
    Certificate([u8; PUBLIC_KEY_LEN], [u8; 32]),
    /// The server has the key of the certificate.
    Proved,
    /// The server is another one.
    Refused(CertificateError),
}

/// The verifier of one handshake: chain, name, usage and time of the certificate, and the signature of the handshake.
pub(super) struct ServerVerifier<'v> {
    anchor: &'v TrustAnchor<'v>,
    name: &'v ServerName<'v>,
    now: Now,
    progress: Progress,
}

impl<'v> ServerVerifier<'v> {
    pub(super) const fn new(
        anchor: &'v TrustAnchor<'v>,
        name: &'v ServerName<'v>,
        now: Now,
    ) -> Self {
        Self {
            anchor,
            name,
            now,
            progress: Progress::Nothing,
        }
    }

    /// Whether the server has proved that it is the right one.
    pub(super) const fn verdict(&self) -> Result<(), CertificateError> {
        match self.progress {
            Progress::Proved => Ok(()),
            Progress::Refused(error) => Err(error),
            Progress::Nothing | Progress::Certificate(..) => Err(CertificateError::Missing),
        }
    }

    fn certificate(
        &self,
        chain: &CertificateRef<'_>,
    ) -> Result<[u8; PUBLIC_KEY_LEN], CertificateError> {
        let mut chain = chain.entries.iter().map(|entry| match entry {
            CertificateEntryRef::X509(der) => CertificateDer::from(*der),
            CertificateEntryRef::RawPublicKey(_) => CertificateDer::from(&[][..]),
        });
        let own = chain.next().ok_or(CertificateError::Missing)?;
        let own = EndEntityCert::try_from(&own).map_err(refusal)?;
        let others: Vec<_, INTERMEDIATES_MAX> = chain.take(INTERMEDIATES_MAX).collect();
        let mut at = match self.now {
            Now::AtLeast(secs) | Now::Is(secs) => secs,
        };
        // One round more for each certificate that began after the least time.
        for _ in 0..=INTERMEDIATES_MAX.saturating_add(1) {
            let verified = own.verify_for_usage(
                &[&P256],
                core::slice::from_ref(self.anchor),
                &others,
                UnixTime::since_unix_epoch(Duration::from_secs(at)),
                KeyUsage::server_auth(),
                None,
                None,
            );
            match (verified, self.now) {
                (Ok(_), _) => {
                    let named = own.verify_is_valid_for_subject_name(self.name);
                    named.map_err(refusal)?;
                    return public_key(&own).ok_or(CertificateError::Malformed);
                }
                // If the time is not known, a certificate that began after the least time shows a later one.
                (Err(Error::CertNotValidYet { not_before, .. }), Now::AtLeast(_)) => {
                    at = at.max(not_before.as_secs());
                }
                (Err(error), _) => return Err(refusal(error)),
            }
        }
        Err(CertificateError::NotYetValid)
    }

    fn refuse(&mut self, error: CertificateError) -> TlsError {
        self.progress = Progress::Refused(error);
        TlsError::InvalidCertificate
    }
}

impl TlsVerifier<Aes128GcmSha256> for ServerVerifier<'_> {
    fn set_hostname_verification(&mut self, _: &str) -> Result<(), TlsError> {
        // The name is that of `new`.
        Ok(())
    }

    fn verify_certificate(
        &mut self,
        transcript: &Sha256,
        chain: CertificateRef<'_>,
    ) -> Result<(), TlsError> {
        let Progress::Nothing = self.progress else {
            return Err(self.refuse(CertificateError::Malformed));
        };
        let key = match self.certificate(&chain) {
            Ok(key) => key,
            Err(error) => return Err(self.refuse(error)),
        };
        self.progress = Progress::Certificate(key, transcript.clone().finalize().into());
        Ok(())
    }

    fn verify_signature(&mut self, proof: CertificateVerifyRef<'_>) -> Result<(), TlsError> {
        let Progress::Certificate(key, transcript) = &self.progress else {
            return Err(self.refuse(CertificateError::Missing));
        };
        let mut message = Vec::<u8, { 64 + CONTEXT.len() + 32 }>::new();
        let is_whole = [&[b' '; 64][..], CONTEXT, transcript]
            .into_iter()
            .all(|part| message.extend_from_slice(part).is_ok());
        let is_p256 = proof.signature_scheme == SignatureScheme::EcdsaSecp256r1Sha256;
        let is_proved = is_p256
            && is_whole
            && P256
                .verify_signature(key, &message, proof.signature)
                .is_ok();
        if !is_proved {
            return Err(self.refuse(CertificateError::Signature));
        }
        self.progress = Progress::Proved;
        Ok(())
    }
}

/// The public key of a certificate, if it is a point of P-256 that is not compressed.
pub(super) fn public_key(certificate: &EndEntityCert<'_>) -> Option<[u8; PUBLIC_KEY_LEN]> {
    let taker = KeyTaker(Mutex::new(Cell::new(None)));
    certificate.verify_signature(&taker, &[], &[]).ok()?;
    taker.0.into_inner().into_inner()
}

/// What a library refuses, as the application reports it.
fn refusal(error: Error) -> CertificateError {
    match error {
        Error::CertExpired { .. } => CertificateError::Expired,
        Error::CertNotValidYet { .. } => CertificateError::NotYetValid,
        Error::CertNotValidForName(_) => CertificateError::Name,
        Error::UnknownIssuer => CertificateError::UnknownIssuer,
        Error::InvalidSignatureForPublicKey => CertificateError::Signature,
        Error::RequiredEkuNotFoundContext(_) | Error::CaUsedAsEndEntity => CertificateError::Usage,
        _ => CertificateError::Malformed,
    }
}

/// ECDSA with P-256 and SHA-256.
#[derive(Debug)]
struct P256;

impl SignatureVerificationAlgorithm for P256 {
    fn verify_signature(
        &self,
        public_key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        let key = VerifyingKey::from_sec1_bytes(public_key).map_err(|_| InvalidSignature)?;
        let signature = DerSignature::try_from(signature).map_err(|_| InvalidSignature)?;
        let verified = key.verify(message, &signature);
        verified.map_err(|_| InvalidSignature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::ECDSA_P256
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::ECDSA_SHA256
    }
}

/// Takes the public key that a certificate gives to an algorithm: webpki does not show it otherwise without an allocator.
#[derive(Debug)]
struct KeyTaker(Mutex<CriticalSectionRawMutex, Cell<Option<[u8; PUBLIC_KEY_LEN]>>>);

impl SignatureVerificationAlgorithm for KeyTaker {
    fn verify_signature(
        &self,
        public_key: &[u8],
        _: &[u8],
        _: &[u8],
    ) -> Result<(), InvalidSignature> {
        self.0.lock(|cell| cell.set(public_key.try_into().ok()));
        Ok(())
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::ECDSA_P256
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::ECDSA_SHA256
    }
}
