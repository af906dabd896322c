//! The cryptography of one handshake, as embedded-tls asks for it: [`Provider`].

use embedded_tls::Sha256;
use embedded_tls::{
    Aes128GcmSha256, Certificate, CryptoProvider, CryptoRngCore, SignatureScheme, TlsError,
    TlsVerifier,
};
use p256::ecdsa::signature::SignerMut;
use p256::ecdsa::signature::digest::Digest;
use p256::ecdsa::{DerSignature, SigningKey};
use rand_core::{CryptoRng, RngCore};

use super::credentials::Credentials;
use super::verifier::ServerVerifier;

/// Length of the seed of a handshake.
pub(super) const SEED_LEN: usize = 32;

/// The credentials of the device, the verifier of the server, and the random numbers of one handshake.
pub(super) struct Provider<'v> {
    credentials: &'v Credentials<'v>,
    pub(super) verifier: ServerVerifier<'v>,
    random: HashRandom,
}

impl<'v> Provider<'v> {
    pub(super) const fn new(
        credentials: &'v Credentials<'v>,
        verifier: ServerVerifier<'v>,
        seed: [u8; SEED_LEN],
    ) -> Self {
        Self {
            credentials,
            verifier,
            random: HashRandom { seed, blocks: 0 },
        }
    }
}

impl CryptoProvider for Provider<'_> {
    type CipherSuite = Aes128GcmSha256;
    type Signature = DerSignature;

    fn rng(&mut self) -> impl CryptoRngCore {
        &mut self.random
    }

    fn verifier(&mut self) -> Result<&mut impl TlsVerifier<Aes128GcmSha256>, TlsError> {
        Ok(&mut self.verifier)
    }

    /// Signs only for a server that has proved who it is: embedded-tls asks for this even if none of its messages did.
    fn signer(&mut self) -> Result<(impl SignerMut<DerSignature>, SignatureScheme), TlsError> {
        let verdict = self.verifier.verdict();
        verdict.map_err(|_| TlsError::InvalidCertificate)?;
        Ok((
            Signer(&self.credentials.key),
            SignatureScheme::EcdsaSecp256r1Sha256,
        ))
    }

    fn client_cert(&mut self) -> Option<Certificate<impl AsRef<[u8]>>> {
        let certificate = Certificate::X509(self.credentials.certificate);
        self.verifier.verdict().is_ok().then_some(certificate)
    }
}

/// Signs with the key of the device, without a copy of it. The signatures are deterministic (RFC 6979).
struct Signer<'k>(&'k SigningKey);

impl SignerMut<DerSignature> for Signer<'_> {
    fn try_sign(&mut self, message: &[u8]) -> Result<DerSignature, p256::ecdsa::Error> {
        p256::ecdsa::signature::Signer::try_sign(self.0, message)
    }
}

/// Expands a seed: block *n* is SHA-256 of the seed and *n*. As unpredictable as the seed is.
struct HashRandom {
    seed: [u8; SEED_LEN],
    blocks: u32,
}

impl RngCore for HashRandom {
    fn next_u32(&mut self) -> u32 {
        let mut bytes = [0; 4];
        self.fill_bytes(&mut bytes);
        u32::from_le_bytes(bytes)
    }

    fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.fill_bytes(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn fill_bytes(&mut self, to: &mut [u8]) {
        for part in to.chunks_mut(32) {
            let mut block = Sha256::new();
            block.update(self.seed);
            block.update(self.blocks.to_le_bytes());
            self.blocks = self.blocks.wrapping_add(1);
            part.iter_mut()
                .zip(block.finalize())
                .for_each(|(place, byte)| *place = byte);
        }
    }

    fn try_fill_bytes(&mut self, to: &mut [u8]) -> Result<(), rand_core::Error> {
        self.fill_bytes(to);
        Ok(())
    }
}

impl CryptoRng for HashRandom {}

#[cfg(test)]
mod tests {
    use embedded_tls::CertificateVerifyRef;
    use rustls_pki_types::CertificateDer;

    use super::super::verifier::{CertificateError, Now};
    use super::*;
    use device::{CA_CERTIFICATE, DEVICE_CERTIFICATE, DEVICE_KEY};

    #[expect(unreachable_pub, reason = "written for any module")]
    mod device {
        include!("../../../../firmware-example/test-certificates/device.inc");
    }

    #[test]
    fn a_server_without_a_certificate_is_refused_and_gets_nothing() {
        let ca = CertificateDer::from(&CA_CERTIFICATE[..]);
        let credentials = Credentials::new(&DEVICE_CERTIFICATE, &DEVICE_KEY, &ca, "daemon", 0);
        let credentials = credentials
            .ok()
            .filter(|it| it.certificate == DEVICE_CERTIFICATE);
        let Some(credentials) = credentials else {
            unreachable!("they belong together");
        };
        let now = Now::AtLeast(0);
        let verifier = ServerVerifier::new(&credentials.anchor, &credentials.name, now);
        let mut provider = Provider::new(&credentials, verifier, [0; SEED_LEN]);
        // embedded-tls asks for both after a handshake without a certificate, and succeeds.
        assert!(provider.client_cert().is_none());
        assert!(provider.signer().is_err());
        assert_eq!(provider.verifier.verdict(), Err(CertificateError::Missing));
        // Its own verifier panics at this.
        let proof = CertificateVerifyRef {
            signature_scheme: SignatureScheme::EcdsaSecp256r1Sha256,
            signature: &[],
        };
        assert!(provider.verifier.verify_signature(proof).is_err());
        assert!(provider.signer().is_err());
    }
}
