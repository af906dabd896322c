//! A fleet for tests: an authority, a server, and devices. Start with [`Fleet`].

use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion};
use tempfile::TempDir;

use crate::tls::files::{ClientAuth, MinVersion, TlsFiles};
use crate::tls::provider;

/// An authority, with the files of a server in a folder.
pub(super) struct Fleet {
    pub(super) folder: TempDir,
    ca: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate with its key.
pub(super) struct Device {
    pub(super) certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl Fleet {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, "fleet");
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let fleet = Self { folder, ca };
        fleet.write("ca.pem", &fleet.ca.pem());
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().unwrap();
        fleet.write(
            "server.pem",
            &params.signed_by(&key, &fleet.ca).unwrap().pem(),
        );
        fleet.write("server.key", &key.serialize_pem());
        fleet
    }

    pub(super) fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    pub(super) fn files(&self) -> TlsFiles {
        let path = |name: &str| self.folder.path().join(name);
        TlsFiles {
            cert: path("server.pem"),
            key: path("server.key"),
            ca: Some(path("ca.pem")),
            crl: None,
            allow: None,
            clients: ClientAuth::Require,
            min: MinVersion::Tls12,
            names: true,
            protocols: Vec::new(),
        }
    }

    /// A device with a DNS name.
    pub(super) fn device(&self, name: &str) -> Device {
        self.certified(CertificateParams::new(vec![name.to_owned()]).unwrap())
    }

    /// A device with these parameters.
    pub(super) fn certified(&self, mut params: CertificateParams) -> Device {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.ca).unwrap();
        Device {
            certificate: certificate.der().clone(),
            key: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        }
    }

    /// Writes the list of revoked certificates with this number. It is empty.
    pub(super) fn write_list(&self, name: &str, number: u64) -> PathBuf {
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2026, 1, 1),
            next_update: date_time_ymd(2090, 1, 1),
            crl_number: number.into(),
            issuing_distribution_point: None,
            revoked_certs: Vec::new(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        self.write(name, &params.signed_by(&self.ca).unwrap().pem().unwrap())
    }

    /// The configuration of a client.
    pub(super) fn client(&self, device: Option<&Device>) -> Arc<ClientConfig> {
        self.client_with(device, rustls::DEFAULT_VERSIONS)
    }

    /// The configuration of a client that speaks one version.
    pub(super) fn client_of(
        &self,
        device: &Device,
        version: &'static SupportedProtocolVersion,
    ) -> Arc<ClientConfig> {
        self.client_with(Some(device), &[version])
    }

    fn client_with(
        &self,
        device: Option<&Device>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.ca.der().clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        let config = match device {
            Some(device) => builder
                .with_client_auth_cert(vec![device.certificate.clone()], device.key.clone_key())
                .unwrap(),
            None => builder.with_no_client_auth(),
        };
        Arc::new(config)
    }
}

/// A client of `localhost`.
pub(super) fn connection(config: &Arc<ClientConfig>) -> ClientConnection {
    ClientConnection::new(Arc::clone(config), "localhost".try_into().unwrap()).unwrap()
}
