//! Certificates for the tests of TLS: [`Ca`].

use std::sync::Arc;

use framing_uplink::tls::CertificateDer;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

/// The name of the server.
pub(crate) const SERVER: &str = "daemon.example";

/// A CA, and its certificate.
pub(crate) struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) der: CertificateDer<'static>,
}

/// A certificate and its key.
pub(crate) struct Certified {
    pub(crate) der: CertificateDer<'static>,
    /// PKCS#8.
    pub(crate) key: Vec<u8>,
}

/// A certificate to be made.
pub(crate) struct Wanted {
    pub(crate) name: &'static str,
    pub(crate) usage: Option<ExtendedKeyUsagePurpose>,
    /// The first and the last year in which it is valid.
    pub(crate) years: (i32, i32),
}

impl Wanted {
    /// A good certificate of the server.
    pub(crate) const SERVER: Self = Self {
        name: SERVER,
        usage: Some(ExtendedKeyUsagePurpose::ServerAuth),
        years: (2020, 2090),
    };
    /// A good certificate of the device.
    pub(crate) const DEVICE: Self = Self {
        name: "boiler-7",
        usage: Some(ExtendedKeyUsagePurpose::ClientAuth),
        years: (2020, 2090),
    };
}

impl Ca {
    /// A new one, with a key of its own.
    pub(crate) fn new() -> Self {
        Self::of(params("test CA", (2020, 2090), Some(0)))
    }

    fn of(params: CertificateParams) -> Self {
        let key = KeyPair::generate().unwrap();
        let der = params.self_signed(&key).unwrap().der().clone();
        Self {
            issuer: Issuer::new(params, key),
            der,
        }
    }

    /// A CA without an own certificate for it below this one, which must not have any.
    pub(crate) fn below(&self) -> Self {
        let (params, key) = (
            params("another CA", (2020, 2090), None),
            KeyPair::generate().unwrap(),
        );
        let der = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        Self {
            issuer: Issuer::new(params, key),
            der,
        }
    }

    /// Issues a certificate.
    pub(crate) fn issue(&self, wanted: &Wanted) -> Certified {
        let mut params = CertificateParams::new([wanted.name.to_owned()]).unwrap();
        params
            .distinguished_name
            .push(DnType::CommonName, wanted.name);
        params.extended_key_usages = wanted.usage.clone().into_iter().collect();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.not_before = date_time_ymd(wanted.years.0, 1, 1);
        params.not_after = date_time_ymd(wanted.years.1, 12, 31);
        let key = KeyPair::generate().unwrap();
        Certified {
            der: params.signed_by(&key, &self.issuer).unwrap().der().clone(),
            key: key.serialize_der(),
        }
    }

    /// A server with this certificate, which wants a certificate of this CA from the device.
    pub(crate) fn server(&self, chain: &[&Certified]) -> Arc<ServerConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(chain[0].key.clone()));
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(chain.iter().map(|it| it.der.clone()).collect(), key);
        Arc::new(config.unwrap())
    }
}

fn params(name: &str, years: (i32, i32), path_len: Option<u8>) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(years.0, 1, 1);
    params.not_after = date_time_ymd(years.1, 12, 31);
    if let Some(len) = path_len {
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(len));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    }
    params
}
