//! In a build without the feature `tls`: [`AbsentSetup`] refuses.

use std::convert::Infallible;
use std::io;

use tokio::net::TcpStream;

use super::ClientStream;
use crate::cli::TlsOptions;
use crate::error::{CommandError, TlsSetupError};

/// There is none.
#[derive(Debug)]
pub(super) struct AbsentSetup(Infallible);

impl AbsentSetup {
    /// Refuses: this build has no TLS.
    ///
    /// # Errors
    /// [`TlsSetupError::NotBuilt`].
    pub(super) fn new(_: &TlsOptions, _: &str, _: &[&[u8]]) -> Result<Self, CommandError> {
        Err(TlsSetupError::NotBuilt.into())
    }

    /// Is never called.
    pub(super) async fn handshake(&self, _: TcpStream) -> io::Result<ClientStream> {
        match self.0 {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::Connector;
    use super::*;
    use crate::error::Code;

    #[test]
    fn a_build_without_tls_says_which_one_has_it() {
        let options = TlsOptions {
            tls: true,
            ..TlsOptions::default()
        };
        let plain = Connector::of_address(&TlsOptions::default(), "box:1060").unwrap();
        assert!(!plain.is_tls());
        for refused in [
            Connector::of_address(&options, "box:1060"),
            Connector::of_url(&TlsOptions::default(), true, "box"),
        ] {
            let error = refused.unwrap_err();
            assert_eq!(error.code(), Code::Wrong);
            assert_eq!(
                error.to_string(),
                "this build of blocksd has no TLS; the builds of a release have it, and those of `cargo install --locked --path host-daemon --features tls`"
            );
        }
    }
}
