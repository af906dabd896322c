//! The certificates of a fleet, for tests: an authority, servers and devices, as files in a folder. Start with [`Fleet`].

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams,
    SerialNumber, date_time_ymd,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tempfile::TempDir;

/// A connection of a device within TLS.
pub type TlsDevice = StreamOwned<ClientConnection, TcpStream>;

/// An authority and what it has issued. `ca.pem`, `server.pem` and `server.key` exist from the start.
#[derive(Debug)]
pub struct Fleet {
    folder: TempDir,
    ca: CertifiedIssuer<'static, KeyPair>,
}

/// How a certificate of a device differs from a good one.
#[derive(Clone, Debug)]
pub struct Issue {
    /// The common name.
    pub common_name: Option<String>,
    /// The DNS name.
    pub dns: Option<String>,
    /// The URI.
    pub uri: Option<String>,
    /// What the certificate may be used for.
    pub usage: ExtendedKeyUsagePurpose,
    /// The first and the last year, of which it is valid from and to the first of January.
    pub years: (i32, i32),
    /// The serial number.
    pub serial: u64,
    /// Whether the key is one of Ed25519, and not of P-256.
    pub is_ed25519: bool,
}

impl Issue {
    /// A good certificate with a DNS name.
    pub fn named(name: &str) -> Self {
        Self {
            common_name: None,
            dns: Some(name.to_owned()),
            uri: None,
            usage: ExtendedKeyUsagePurpose::ClientAuth,
            years: (2020, 2090),
            is_ed25519: false,
            serial: 1 + name.bytes().fold(0, |sum, byte| sum * 31 + u64::from(byte)) % (1 << 40),
        }
    }
}

impl Fleet {
    /// Makes an authority and a server with the names `localhost` and `127.0.0.1`.
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, "fleet");
        let key = KeyPair::generate().expect("a key");
        let ca = CertifiedIssuer::self_signed(params, key).expect("a certificate");
        let folder = tempfile::tempdir().expect("a folder");
        let fleet = Self { folder, ca };
        fleet.write("ca.pem", &fleet.ca.pem());
        fleet.server("server", (2020, 2090));
        fleet
    }

    /// Issues the certificate of a server, for these years, as `NAME.pem` and `NAME.key`.
    pub fn server(&self, name: &str, years: (i32, i32)) {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut params = CertificateParams::new(names).expect("names");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().expect("a key");
        self.issue_params(name, params, &key, years);
    }

    /// Issues a good certificate of a device, as `NAME.pem` and `NAME.key`.
    pub fn device(&self, name: &str) {
        self.issue(name, &Issue::named(name));
    }

    /// Issues a certificate of a device, as `FILE.pem` and `FILE.key`.
    pub fn issue(&self, file: &str, issue: &Issue) {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        if let Some(name) = &issue.common_name {
            params
                .distinguished_name
                .push(DnType::CommonName, name.as_str());
        }
        let dns = issue
            .dns
            .iter()
            .map(|name| rcgen::SanType::DnsName(name.as_str().try_into().expect("ASCII")));
        let uri = issue
            .uri
            .iter()
            .map(|uri| rcgen::SanType::URI(uri.as_str().try_into().expect("ASCII")));
        params.subject_alt_names = dns.chain(uri).collect();
        params.extended_key_usages = vec![issue.usage.clone()];
        params.serial_number = Some(SerialNumber::from(issue.serial));
        let key = match issue.is_ed25519 {
            true => KeyPair::generate_for(&rcgen::PKCS_ED25519),
            false => KeyPair::generate(),
        };
        self.issue_params(file, params, &key.expect("a key"), issue.years);
    }

    fn issue_params(
        &self,
        file: &str,
        mut params: CertificateParams,
        key: &KeyPair,
        years: (i32, i32),
    ) {
        params.not_before = date_time_ymd(years.0, 1, 1);
        params.not_after = date_time_ymd(years.1, 1, 1);
        let certificate = params.signed_by(key, &self.ca).expect("a certificate");
        self.write(&format!("{file}.pem"), &certificate.pem());
        self.write(&format!("{file}.key"), &key.serialize_pem());
    }

    /// Writes the list of revoked certificates, `crl.pem`, which was to be updated at the first of January of `year`.
    pub fn revoke(&self, serials: &[u64], year: i32) {
        let now = date_time_ymd(2020, 1, 1);
        let revoked = serials.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: now,
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: now,
            next_update: date_time_ymd(year, 1, 1),
            crl_number: SerialNumber::from(serials.len() as u64 + 1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = params.signed_by(&self.ca).expect("a list");
        self.write("crl.pem", &list.pem().expect("PEM"));
    }

    /// Writes a file of the folder, by renaming another one.
    pub fn write(&self, name: &str, content: &str) {
        let (path, new) = (self.path(name), self.path("new"));
        fs::write(&new, content).expect("the folder is writable");
        fs::rename(new, path).expect("the same folder");
    }

    /// The path of a file.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// An address for `--listen`, with TLS and these further options.
    pub fn listen(&self, address: &str, options: &str) -> String {
        let path = |name: &str| self.path(name).display().to_string();
        format!(
            "{address},tls-cert={},tls-key={},tls-ca={}{options}",
            path("server.pem"),
            path("server.key"),
            path("ca.pem"),
        )
    }

    /// The configuration of a device with the certificate in `FILE.pem`, or without one.
    pub fn client(&self, file: Option<&str>) -> Arc<ClientConfig> {
        let read = |name: String| fs::read(self.path(&name)).expect("it was issued");
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_slice(&read("ca.pem".to_owned())).expect("PEM");
        roots.add(ca).expect("a certificate");
        let builder = ClientConfig::builder_with_provider(blocksd_engine::tls::provider())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots);
        let config = match file {
            Some(file) => {
                let certificate = CertificateDer::from_pem_slice(&read(format!("{file}.pem")));
                let key = PrivateKeyDer::from_pem_slice(&read(format!("{file}.key")));
                builder
                    .with_client_auth_cert(vec![certificate.expect("PEM")], key.expect("PEM"))
                    .expect("they fit")
            }
            None => builder.with_no_client_auth(),
        };
        Arc::new(config)
    }
}

impl Default for Fleet {
    fn default() -> Self {
        Self::new()
    }
}

/// Connects to `localhost`, and performs the handshake.
///
/// # Errors
/// Those of the socket and of TLS.
pub fn connect(config: &Arc<ClientConfig>, address: SocketAddr) -> std::io::Result<TlsDevice> {
    let socket = TcpStream::connect(address)?;
    secure(config, socket)
}

/// Performs the handshake on a socket.
///
/// # Errors
/// Those of the socket and of TLS.
pub fn secure(config: &Arc<ClientConfig>, socket: TcpStream) -> std::io::Result<TlsDevice> {
    let name = "localhost".try_into().map_err(std::io::Error::other)?;
    let client = ClientConnection::new(Arc::clone(config), name).map_err(std::io::Error::other)?;
    let mut device = StreamOwned::new(client, socket);
    while device.conn.is_handshaking() {
        device.conn.complete_io(&mut device.sock)?;
    }
    Ok(device)
}
