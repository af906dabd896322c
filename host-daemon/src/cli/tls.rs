//! TLS of a client of a daemon, as options: [`TlsOptions`].

use std::path::PathBuf;

use clap::Args;

/// Options of a client that connects with TLS.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsOptions {
    /// Connect with TLS, and trust the CAs of the system.
    #[arg(long)]
    pub tls: bool,
    /// Connect with TLS, and trust only the CAs in this PEM file, instead of those of the system.
    #[arg(long, value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,
    /// PEM file with the certificate of this client, and after it those of its issuers, if there are any.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// PEM file with the private key of --tls-cert.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Name that the certificate of the daemon must have, if that is not the host of the address.
    #[arg(long, value_name = "NAME")]
    pub tls_name: Option<String>,
}

impl TlsOptions {
    /// The name of the first option that is given.
    #[must_use]
    pub fn first(&self) -> Option<&'static str> {
        let given = [
            ("--tls", self.tls),
            ("--tls-ca", self.tls_ca.is_some()),
            ("--tls-cert", self.tls_cert.is_some()),
            ("--tls-key", self.tls_key.is_some()),
            ("--tls-name", self.tls_name.is_some()),
        ];
        given
            .iter()
            .find_map(|(name, is_given)| is_given.then_some(*name))
    }

    /// Whether an option says whom to trust, and so that the connection has TLS.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.tls || self.tls_ca.is_some()
    }

    /// The options as they are written on a command line, each after a space.
    #[must_use]
    pub fn written(&self) -> String {
        let mut text = String::new();
        if self.tls {
            text += " --tls";
        }
        for (name, path) in [
            ("--tls-ca", &self.tls_ca),
            ("--tls-cert", &self.tls_cert),
            ("--tls-key", &self.tls_key),
        ] {
            if let Some(path) = path {
                text += &format!(" {name} {}", path.display());
            }
        }
        if let Some(name) = &self.tls_name {
            text += &format!(" --tls-name {name}");
        }
        text
    }
}
