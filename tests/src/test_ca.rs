//! Certificates for tests of TLS, as files: [`TestCa`].

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams,
    SanType, SerialNumber, date_time_ymd,
};

/// A CA, and a folder for the files of its certificates.
#[derive(Debug)]
pub struct TestCa {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: PathBuf,
    name: String,
}

/// The files of a certificate and its key.
#[derive(Clone, Debug)]
pub struct CertificateFiles {
    /// The certificate.
    pub cert: PathBuf,
    /// The key.
    pub key: PathBuf,
}

/// The validity of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    /// It is valid.
    Now,
    /// It was valid until the beginning of 2021.
    Past,
    /// It is valid from 2090 on.
    Future,
}

impl CertificateFiles {
    /// The file of the certificate, as an argument.
    #[must_use]
    pub fn cert(&self) -> &str {
        text(&self.cert)
    }

    /// The file of the key, as an argument.
    #[must_use]
    pub fn key(&self) -> &str {
        text(&self.key)
    }
}

impl CertificateFiles {
    /// The options of a client that has it.
    #[must_use]
    pub fn options(&self) -> Vec<String> {
        let options = ["--tls-cert", self.cert(), "--tls-key", self.key()];
        options.map(str::to_owned).to_vec()
    }
}

impl TestCa {
    /// A new CA with files in `folder`.
    ///
    /// # Panics
    /// If the folder cannot be written.
    #[must_use]
    pub fn new(folder: &Path, name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a certificate");
        let ca = Self {
            issuer,
            folder: folder.to_owned(),
            name: name.to_owned(),
        };
        write(&ca.path(), &ca.issuer.pem());
        ca
    }

    /// The file with the certificate of the CA.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.file("ca.pem")
    }

    /// The file with the certificate of the CA, as an argument.
    #[must_use]
    pub fn text(&self) -> String {
        text(&self.path()).to_owned()
    }

    /// Writes the key of the CA, and returns its file.
    ///
    /// # Panics
    /// If the folder cannot be written.
    #[must_use]
    pub fn write_key(&self) -> PathBuf {
        let path = self.file("ca.key");
        write(&path, &self.issuer.key().serialize_pem());
        path
    }

    /// A certificate of a server with these names.
    #[must_use]
    pub fn server(&self, names: &[&str], validity: Validity) -> CertificateFiles {
        let usage = ExtendedKeyUsagePurpose::ServerAuth;
        self.issue(names, "server", usage, validity, 1)
    }

    /// A certificate of a client.
    #[must_use]
    pub fn client(&self, id: &str, validity: Validity) -> CertificateFiles {
        self.issue(&[id], id, ExtendedKeyUsagePurpose::ClientAuth, validity, 2)
    }

    /// A list that revokes all certificates of clients.
    ///
    /// # Panics
    /// If the folder cannot be written.
    #[must_use]
    pub fn revoke_clients(&self) -> PathBuf {
        let revoked = RevokedCertParams {
            serial_number: SerialNumber::from(2_u64),
            revocation_time: date_time_ymd(2026, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2026, 1, 1),
            next_update: date_time_ymd(2090, 1, 1),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&self.issuer).expect("a list");
        let path = self.file("crl.pem");
        write(&path, &list.pem().expect("PEM"));
        path
    }

    fn issue(
        &self,
        names: &[&str],
        file: &str,
        usage: ExtendedKeyUsagePurpose,
        validity: Validity,
        serial: u64,
    ) -> CertificateFiles {
        let mut params = CertificateParams::default();
        let common = names.first().copied().unwrap_or("nameless");
        params.distinguished_name.push(DnType::CommonName, common);
        params.subject_alt_names = names.iter().map(|name| alternative(name)).collect();
        params.extended_key_usages = vec![usage];
        params.serial_number = Some(SerialNumber::from(serial));
        let (from, until) = match validity {
            Validity::Now => (2020, 2090),
            Validity::Past => (2020, 2021),
            Validity::Future => (2090, 2095),
        };
        params.not_before = date_time_ymd(from, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let files = CertificateFiles {
            cert: self.file(&format!("{file}.pem")),
            key: self.file(&format!("{file}.key")),
        };
        write(&files.cert, &certificate.pem());
        write(&files.key, &key.serialize_pem());
        files
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{}-{name}", self.name))
    }
}

fn alternative(name: &str) -> SanType {
    match name.parse() {
        Ok(address) => SanType::IpAddress(address),
        Err(_) => SanType::DnsName(name.try_into().expect("an ASCII name")),
    }
}

fn write(path: &Path, content: &str) {
    std::fs::write(path, content).expect("the folder can be written");
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of a test is text")
}
