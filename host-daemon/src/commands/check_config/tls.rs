//! Reads the files of servers with TLS. Start with [`load`].

use std::sync::Arc;

use blocksd_engine::listen::handshake::Handshake;
use blocksd_engine::tls::TlsFiles;

use crate::config::Config;
use crate::error::CommandError;

/// Reads the files of the server at an address.
///
/// # Errors
/// [`CommandError::Tls`] if they cannot be used; [`CommandError::NotBuilt`] in a build without TLS.
#[cfg(feature = "tls")]
pub fn load(address: &str, files: TlsFiles) -> Result<Arc<dyn Handshake>, CommandError> {
    match blocksd_engine::tls::TlsServer::load(files) {
        Ok(server) => Ok(server),
        Err(error) => Err(CommandError::Tls {
            address: address.to_owned(),
            error: Box::new(error),
        }),
    }
}

/// Refuses: this build has no TLS.
///
/// # Errors
/// [`CommandError::Tls`].
#[cfg(not(feature = "tls"))]
pub fn load(address: &str, _: TlsFiles) -> Result<Arc<dyn Handshake>, CommandError> {
    Err(CommandError::Tls {
        address: address.to_owned(),
        error: "this build of blocksd has no TLS; the builds of a release have it, and those of `cargo install --locked --path host-daemon --features tls`"
            .into(),
    })
}

/// Reads the files of `--http`; `None` if it has no TLS.
///
/// # Errors
/// As [`load`].
pub fn of_http(config: &Config) -> Result<Option<Arc<dyn Handshake>>, CommandError> {
    let address = config.http.as_deref().unwrap_or_default();
    let files = config.http_tls();
    files.map(|files| load(address, files)).transpose()
}
