//! Certificates of the daemon for firmware with TLS: [`FirmwareCa`].

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    date_time_ymd,
};

use crate::board::firmware;

/// The name of the daemon that the image with TLS expects.
pub const SERVER: &str = "daemon.example";

/// A CA: that of the image with TLS, or another one.
#[derive(Debug)]
pub struct FirmwareCa {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate, as PEM.
    pub file: PathBuf,
}

impl FirmwareCa {
    /// The CA of `firmware-example/test-certificates`.
    pub fn of_the_image() -> Self {
        let folder = firmware().join("test-certificates");
        let key = fs::read_to_string(folder.join("ca.key")).expect("the key of the CA");
        Self {
            issuer: Issuer::new(params(), KeyPair::from_pem(&key).expect("a key")),
            file: folder.join("ca.pem"),
        }
    }

    /// Another CA of the same name, whose certificate is in this folder.
    pub fn another(folder: &Path) -> Self {
        let key = KeyPair::generate().expect("a key");
        let certificate = params().self_signed(&key).expect("a certificate");
        let file = folder.join("another-ca.pem");
        fs::write(&file, certificate.pem()).expect("a writable folder");
        Self {
            issuer: Issuer::new(params(), key),
            file,
        }
    }

    /// The options of a listener whose certificate has this name, and is valid from the first to the last of these years. It
    /// accepts devices of the CA `devices`.
    pub fn listener(&self, folder: &Path, name: &str, years: (i32, i32), devices: &Self) -> String {
        let mut params = CertificateParams::new([name.to_owned()]).expect("a name");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.not_before = date_time_ymd(years.0, 1, 1);
        params.not_after = date_time_ymd(years.1, 12, 31);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let (cert, secret) = (folder.join("daemon.pem"), folder.join("daemon.key"));
        fs::write(&cert, certificate.pem()).expect("a writable folder");
        fs::write(&secret, key.serialize_pem()).expect("a writable folder");
        let path = |path: &Path| path.display().to_string();
        format!(
            "tls-cert={},tls-key={},tls-ca={}",
            path(&cert),
            path(&secret),
            path(&devices.file)
        )
    }
}

/// The CA of the image, as its certificate names it.
fn params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, "blocksd firmware tests");
    // The library adds another one otherwise.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params
}
