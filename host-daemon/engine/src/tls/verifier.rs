//! Checks the certificate of a client: its chain, then the device that it names ([`DeviceVerifier`]).

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    AlertDescription, CertificateError, DigitallySignedStruct, DistinguishedName, Error,
    SignatureScheme,
};

use crate::listen::handshake::HandshakeError;
use crate::reason::HandshakeRefusal;
use crate::tls::allow::AllowList;
use crate::tls::identity::{NameError, identify};

/// Checks chains as webpki does, and then the names.
pub(super) struct DeviceVerifier {
    inner: Arc<dyn ClientCertVerifier>,
    allow: Option<AllowList>,
    /// Whether a certificate must name a device.
    names: bool,
}

/// The device of a certificate is not in the list of allowed devices.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{name}`, whose certificate is sha256:{fingerprint}")]
pub struct NotAllowed {
    /// The name of the device.
    pub name: Arc<str>,
    /// The fingerprint of its certificate.
    pub fingerprint: String,
}

impl DeviceVerifier {
    pub(super) fn new(
        inner: Arc<dyn ClientCertVerifier>,
        allow: Option<AllowList>,
        names: bool,
    ) -> Self {
        Self {
            inner,
            allow,
            names,
        }
    }

    fn check_name(&self, certificate: &CertificateDer<'_>) -> Result<(), OwnRefusal> {
        if !self.names && self.allow.is_none() {
            return Ok(());
        }
        let identified = identify(certificate).map_err(OwnRefusal::Name)?;
        match &self.allow {
            Some(allow) if !allow.allows(&identified) => Err(OwnRefusal::Allow(NotAllowed {
                fingerprint: identified.fingerprint_hex(),
                name: identified.name,
            })),
            _ => Ok(()),
        }
    }
}

/// Why a certificate is refused whose chain is good.
#[derive(Debug)]
enum OwnRefusal {
    Name(NameError),
    Allow(NotAllowed),
}

impl ClientCertVerifier for DeviceVerifier {
    fn offer_client_auth(&self) -> bool {
        self.inner.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self
            .inner
            .verify_client_cert(end_entity, intermediates, now);
        let refused = match &verified {
            Err(_) => RefusedCertificate::Chain(identify(end_entity).ok().map(|it| it.name)),
            Ok(_) => match self.check_name(end_entity) {
                Ok(()) => return verified,
                Err(refusal) => RefusedCertificate::Own(refusal),
            },
        };
        REFUSED.set(Some(refused));
        // The peer gets the alert access_denied.
        let refusal = CertificateError::ApplicationVerificationFailure;
        Err(verified.err().unwrap_or(Error::InvalidCertificate(refusal)))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }

    fn requires_raw_public_keys(&self) -> bool {
        self.inner.requires_raw_public_keys()
    }
}

impl fmt::Debug for DeviceVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceVerifier")
            .field("allow", &self.allow.as_ref().map(AllowList::len))
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}

/// What the error of rustls has no room for.
#[derive(Debug)]
enum RefusedCertificate {
    /// The chain is refused. The name in the certificate, which may be false.
    Chain(Option<Arc<str>>),
    Own(OwnRefusal),
}

thread_local! {
    /// The certificate that was refused last. rustls verifies and reports within one call.
    static REFUSED: Cell<Option<RefusedCertificate>> = const { Cell::new(None) };
}

/// Forgets the certificate that was refused last, if no handshake reports it.
pub(super) fn forget_refused() {
    REFUSED.set(None);
}

/// The kind and the text of an error of a handshake.
pub(super) fn refusal(error: Error) -> HandshakeError {
    let refused = REFUSED.take();
    let (reason, detail) = match (&error, &refused) {
        (Error::NoCertificatesPresented, _) => (HandshakeRefusal::NoCertificate, None),
        (Error::InvalidCertificate(_), Some(RefusedCertificate::Own(OwnRefusal::Name(name)))) => {
            (HandshakeRefusal::BadName, Some(name.to_string()))
        }
        (Error::InvalidCertificate(_), Some(RefusedCertificate::Own(OwnRefusal::Allow(it)))) => {
            (HandshakeRefusal::NotAllowed, Some(it.to_string()))
        }
        (Error::InvalidCertificate(error), _) => (reason_of(error), detail_of(error)),
        (Error::AlertReceived(alert), _) if is_distrust(*alert) => {
            (HandshakeRefusal::Distrusted, Some(format!("{alert:?}")))
        }
        (error, _) => (HandshakeRefusal::Protocol, Some(error.to_string())),
    };
    let name = match refused {
        Some(RefusedCertificate::Chain(Some(name))) => format!(" (it names `{name}`)"),
        _ => String::new(),
    };
    let detail = detail.map(|detail| format!(": {detail}"));
    HandshakeError {
        text: format!("{reason}{name}{}", detail.unwrap_or_default()),
        reason,
        source: Some(Box::new(error)),
    }
}

/// Whether a peer sends this alert because it refuses a certificate.
const fn is_distrust(alert: AlertDescription) -> bool {
    use AlertDescription as A;
    matches!(
        alert,
        A::BadCertificate
            | A::UnsupportedCertificate
            | A::CertificateRevoked
            | A::CertificateExpired
            | A::CertificateUnknown
            | A::UnknownCA
            | A::AccessDenied
            // From OpenSSL, if an authority of the same name has another key.
            | A::DecryptError
    )
}

/// What the reason does not say.
fn detail_of(error: &CertificateError) -> Option<String> {
    use CertificateError as C;
    match error {
        C::ExpiredContext { .. }
        | C::NotValidYetContext { .. }
        | C::InvalidPurposeContext { .. } => Some(error.to_string()),
        C::Revoked | C::UnknownIssuer | C::Expired | C::NotValidYet | C::InvalidPurpose => None,
        error => Some(format!("{error:?}")),
    }
}

fn reason_of(error: &CertificateError) -> HandshakeRefusal {
    use CertificateError as C;
    match error {
        C::Expired | C::ExpiredContext { .. } => HandshakeRefusal::Expired,
        C::NotValidYet | C::NotValidYetContext { .. } => HandshakeRefusal::NotYetValid,
        C::Revoked => HandshakeRefusal::Revoked,
        C::UnknownIssuer | C::BadSignature => HandshakeRefusal::UnknownCa,
        C::InvalidPurpose | C::InvalidPurposeContext { .. } => HandshakeRefusal::WrongUsage,
        _ => HandshakeRefusal::BadCertificate,
    }
}
