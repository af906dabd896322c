//! Certificate requests of PKCS #10, of which only the key is used: [`requested_key`].

use std::path::Path;

use rcgen::{PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PublicKeyData as _, SubjectPublicKeyInfo};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer as _;

use super::pem::{read_request, unusable};
use crate::error::CommandError;

/// Reads the public key of a request, whose signature shows that the requester has the secret key.
///
/// # Errors
/// [`CommandError::File`], [`CaError::Unusable`](crate::error::CaError::Unusable).
pub(super) fn requested_key(path: &Path) -> Result<SubjectPublicKeyInfo, CommandError> {
    let request = read_request(path)?;
    let request = match X509CertificationRequest::from_der(&request) {
        Ok(([], request)) => request,
        Ok(_) => return Err(unusable(path, "bytes follow the certificate request")),
        Err(error) => {
            let reason = format!("not a certificate request: {error}");
            return Err(unusable(path, reason));
        }
    };
    let key = SubjectPublicKeyInfo::from_der(request.certification_request_info.subject_pki.raw);
    let key = key
        .ok()
        .filter(|key| [&PKCS_ECDSA_P256_SHA256, &PKCS_ED25519].contains(&key.algorithm()));
    let Some(key) = key else {
        let reason = "the key is not of P-256 or Ed25519, which every TLS library here supports";
        return Err(unusable(path, reason));
    };
    match request.verify_signature() {
        Ok(()) => Ok(key),
        Err(_) => Err(unusable(
            path,
            "the request is not signed with its own key, or its signature cannot be checked",
        )),
    }
}
