//! Checks addresses and the files of a login without connecting: [`NatsOptions::check`].

use std::fmt;
use std::fs;
use std::path::Path;

use async_nats::rustls::crypto::ring::default_provider;
use async_nats::rustls::pki_types::pem::PemObject;
use async_nats::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use async_nats::rustls::sign::CertifiedKey;
use async_nats::rustls::{Error, RootCertStore};
use async_nats::{ConnectOptions, ServerAddr};

use super::{ConnectError, Credentials, NatsOptions, with_jwt};

impl NatsOptions {
    /// Checks the addresses and the files without connecting.
    ///
    /// # Errors
    /// [`ConnectError::Options`], if an address is malformed, or a file cannot be read or has not what it is for.
    pub fn check(&self) -> Result<(), ConnectError> {
        for server in &self.servers {
            let parsed = server.parse::<ServerAddr>();
            parsed.map_err(|error| ConnectError::Options(format!("{server}: {error}")))?;
        }
        if let Some(ca) = &self.ca {
            let mut trusted = RootCertStore::empty();
            for certificate in certificates("ca", ca)? {
                let added = trusted.add(certificate);
                added.map_err(|error| refused("ca", ca, &error))?;
            }
        }
        if let Some((cert, key)) = &self.identity {
            check_identity(cert, key)?;
        }
        match &self.credentials {
            Credentials::Nkey(seed) if !is_seed(seed) => Err(ConnectError::Options(
                "nkey: the file has no seed, which begins with `S` and has 58 letters and digits"
                    .to_owned(),
            )),
            Credentials::Jwt(file) => with_jwt(ConnectOptions::new(), file).map(drop),
            _ => Ok(()),
        }
    }
}

/// Checks that a certificate and a key can be used together.
fn check_identity(cert: &Path, key: &Path) -> Result<(), ConnectError> {
    let chain = certificates("cert", cert)?;
    let read = read_file("key", key)?;
    let parsed = PrivateKeyDer::from_pem_slice(&read);
    let parsed = parsed.map_err(|_| refused("key", key, &"it has no private key in PEM"))?;
    match CertifiedKey::from_der(chain, parsed, &default_provider()) {
        Ok(_) => Ok(()),
        Err(Error::InconsistentKeys(_)) => {
            let other = format!(
                "the certificate does not belong to the key in {}",
                key.display()
            );
            Err(refused("cert", cert, &other))
        }
        Err(error @ Error::InvalidCertificate(_)) => Err(refused("cert", cert, &error)),
        Err(error) => Err(refused("key", key, &error)),
    }
}

/// The certificates in a file, at least one.
fn certificates(key: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, ConnectError> {
    let read = read_file(key, path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read).collect();
    let found = found.map_err(|error| refused(key, path, &error))?;
    match found.is_empty() {
        true => Err(refused(key, path, &"it has no certificate in PEM")),
        false => Ok(found),
    }
}

fn read_file(key: &str, path: &Path) -> Result<Vec<u8>, ConnectError> {
    fs::read(path).map_err(|error| {
        ConnectError::Options(format!("{key}: cannot read {}: {error}", path.display()))
    })
}

fn refused(key: &str, path: &Path, reason: &dyn fmt::Display) -> ConnectError {
    ConnectError::Options(format!("{key}: {}: {reason}", path.display()))
}

/// Whether a text is the seed of an nkey, as far as its form shows.
fn is_seed(text: &str) -> bool {
    let is_base32 = |it: u8| it.is_ascii_uppercase() || (b'2'..=b'7').contains(&it);
    text.len() == 58 && text.starts_with('S') && text.bytes().all(is_base32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_cannot_be_used_are_named_with_their_option() {
        let folder = tempfile::tempdir().unwrap();
        let empty = folder.path().join("empty");
        fs::write(&empty, "nothing").unwrap();
        let of = |ca: &Path| NatsOptions {
            ca: Some(ca.to_owned()),
            ..NatsOptions::default()
        };
        let missing = of(Path::new("/nonexistent"))
            .check()
            .unwrap_err()
            .to_string();
        assert!(
            missing.starts_with("ca: cannot read /nonexistent: "),
            "{missing}"
        );
        let wrong = of(&empty).check().unwrap_err().to_string();
        assert!(wrong.ends_with("it has no certificate in PEM"), "{wrong}");
        let seed = NatsOptions {
            credentials: Credentials::Nkey("guess".to_owned()),
            ..NatsOptions::default()
        };
        assert!(seed.check().is_err());
    }
}
