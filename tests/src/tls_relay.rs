//! TLS before a server that has none: a [`TlsRelay`], which uses OpenSSL.

use std::net::SocketAddr;

use tempfile::TempDir;

use crate::process::{Process, python};
use crate::test_ca::{CertificateFiles, TestCa, Validity};

/// A CA with a server, two clients, and the files of all.
#[derive(Debug)]
pub struct TlsSite {
    /// The CA.
    pub ca: TestCa,
    /// A certificate for `localhost` and `127.0.0.1`.
    pub server: CertificateFiles,
    /// That of a client.
    pub client: CertificateFiles,
    /// The folder of the files.
    pub folder: TempDir,
}

/// A process that ends TLS before a server.
#[derive(Debug)]
pub struct TlsRelay {
    /// The process.
    pub process: Process,
}

impl TlsSite {
    /// Makes the files.
    ///
    /// # Panics
    /// If the folder for temporary files cannot be written.
    #[must_use]
    pub fn new() -> Self {
        let folder = TempDir::new().expect("a folder for temporary files");
        let ca = TestCa::new(folder.path(), "site");
        Self {
            server: ca.server(&["localhost", "127.0.0.1"], Validity::Now),
            client: ca.client("boiler-7", Validity::Now),
            ca,
            folder,
        }
    }

    /// Starts a relay of this site to `target`.
    #[track_caller]
    #[must_use]
    pub fn relay(&self, target: SocketAddr, options: &[&str]) -> TlsRelay {
        TlsRelay::start(target, &self.server, options)
    }

    /// Starts a relay that requires certificates of the CA.
    #[track_caller]
    #[must_use]
    pub fn mutual(&self, target: SocketAddr, options: &[&str]) -> TlsRelay {
        let ca = self.ca.text();
        self.relay(target, &[&["--ca", &ca], options].concat())
    }

    /// The options of a client that trusts the CA.
    #[must_use]
    pub fn trust(&self) -> Vec<String> {
        vec!["--tls-ca".to_owned(), self.ca.text()]
    }

    /// The options of a client that trusts the CA, and has a certificate.
    #[must_use]
    pub fn identity(&self) -> Vec<String> {
        let mut options = self.trust();
        options.extend(self.client.options());
        options
    }
}

impl Default for TlsSite {
    fn default() -> Self {
        Self::new()
    }
}

impl TlsRelay {
    /// Starts it with the certificate of a server.
    #[track_caller]
    #[must_use]
    pub fn start(target: SocketAddr, server: &CertificateFiles, options: &[&str]) -> Self {
        let target = target.to_string();
        let args = [&[&*target, server.cert(), server.key()], options].concat();
        Self {
            process: Process::start(python("tls_relay.py", &args)),
        }
    }

    /// Its address, with this host.
    #[track_caller]
    #[must_use]
    pub fn at(&self, host: &str) -> String {
        format!("{host}:{}", self.process.port())
    }
}
