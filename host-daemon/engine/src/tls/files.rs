//! The files and rules of a listener with TLS: [`TlsFiles`].

use std::path::{Path, PathBuf};

/// Whether clients need a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientAuth {
    /// Each client needs one.
    #[default]
    Require,
    /// A client may have one.
    Offer,
    /// Clients are not asked for one.
    None,
}

/// The least version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MinVersion {
    /// TLS 1.2.
    #[default]
    Tls12,
    /// TLS 1.3.
    Tls13,
}

/// The files and rules of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate of the server, and those that lead to its authority, as PEM.
    pub cert: PathBuf,
    /// The key of the server, as PEM.
    pub key: PathBuf,
    /// The authorities of client certificates, as PEM.
    pub ca: Option<PathBuf>,
    /// The revoked certificates, as PEM or DER.
    pub crl: Option<PathBuf>,
    /// The list of devices that may connect; all of the authority if there is none.
    pub allow: Option<PathBuf>,
    /// Whether clients need a certificate.
    pub clients: ClientAuth,
    /// The least version of TLS.
    pub min: MinVersion,
    /// Whether a certificate of a client must name a device.
    pub names: bool,
    /// The application protocols that are offered, such as `http/1.1`.
    pub protocols: Vec<Vec<u8>>,
}

impl TlsFiles {
    /// Returns the paths of all files.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        let optional = [&self.ca, &self.crl, &self.allow];
        let optional = optional.into_iter().flatten();
        [&self.cert, &self.key]
            .into_iter()
            .chain(optional)
            .map(PathBuf::as_path)
    }
}
