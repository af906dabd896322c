//! The TLS settings of a client: [`ClientSetup`], from the options of a command.

use std::io;
use std::sync::Arc;

use blocksd_engine::tls::provider;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::explain::Explainer;
use super::secure::SecureStream;
use super::{ClientStream, pem};
use crate::cli::TlsOptions;
use crate::error::{CommandError, TlsSetupError};

/// How to make a handshake with one server.
#[derive(Debug)]
pub(super) struct ClientSetup {
    /// Keeps the sessions that can be resumed.
    config: Arc<ClientConfig>,
    /// The name that the certificate of the server must have.
    name: ServerName<'static>,
    explainer: Arc<Explainer>,
}

impl ClientSetup {
    /// Reads the files of the options, for connections to `host`.
    ///
    /// # Errors
    /// [`CommandError::File`], [`CommandError::ClientTls`].
    pub(super) fn new(
        options: &TlsOptions,
        host: &str,
        protocols: &[&[u8]],
    ) -> Result<Self, CommandError> {
        let name = options.tls_name.as_deref().unwrap_or(host);
        let name = ServerName::try_from(name.to_owned()).map_err(|_| TlsSetupError::BadName {
            name: name.to_owned(),
        })?;
        let (roots, trusted) = match &options.tls_ca {
            Some(path) => (pem::authorities(path)?, path.display().to_string()),
            None => (of_system()?, "this system".to_owned()),
        };
        let library = |error| TlsSetupError::Library(Arc::new(error));
        let builder = ClientConfig::builder_with_provider(provider());
        let builder = builder.with_safe_default_protocol_versions();
        let builder = builder.map_err(library)?.with_root_certificates(roots);
        let mut config = match (&options.tls_cert, &options.tls_key) {
            (Some(cert), Some(key)) => {
                let chain = pem::chain(cert)?;
                let private = pem::key(key)?;
                let certified = CertifiedKey::from_der(chain, private, &provider());
                let certified = certified.map_err(|error| pem::unusable_key(error, cert, key))?;
                pem::warn_of_expiry(cert, certified.cert.first().map(CertificateDer::as_ref));
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified)))
            }
            _ => builder.with_no_client_auth(),
        };
        config.alpn_protocols = protocols.iter().map(|it| it.to_vec()).collect();
        let explainer = Explainer {
            trusted,
            certificate: options.tls_cert.clone(),
        };
        Ok(Self {
            config: Arc::new(config),
            name,
            explainer: Arc::new(explainer),
        })
    }

    /// Makes a handshake on a new connection.
    ///
    /// # Errors
    /// A [`TlsError`](crate::error::TlsError) in the I/O error.
    pub(super) async fn handshake(&self, stream: TcpStream) -> io::Result<ClientStream> {
        let connector = TlsConnector::from(Arc::clone(&self.config));
        let connected = connector.connect(self.name.clone(), stream).await;
        let stream = connected.map_err(|error| self.explainer.of_handshake(error))?;
        let explainer = Arc::clone(&self.explainer);
        let stream = SecureStream::new(stream, explainer);
        Ok(ClientStream::Tls(Box::new(stream)))
    }
}

/// The CAs that the system trusts.
fn of_system() -> Result<RootCertStore, TlsSetupError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (usable, _) = roots.add_parsable_certificates(found.certs);
    match usable {
        0 => Err(TlsSetupError::NoSystemCas {
            reason: found.errors.first().map(ToString::to_string),
        }),
        _ => Ok(roots),
    }
}
