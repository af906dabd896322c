//! Checks the HTTP server of the API: start with [`check`].

use std::io;
use std::net::IpAddr;

use blocksd_engine::listen::listener::check_network;
use blocksd_engine::listen::resolve::resolve;

use crate::config::Config;
use crate::error::CommandError;
use crate::http::access::{Access, check_exposure, read_token};

/// Checks the address of `--http`, and whether it needs a token.
///
/// # Errors
/// [`CommandError::Listen`].
pub fn check(config: &Config, address: &str) -> Result<(), CommandError> {
    let alone = match address.contains(',') {
        true => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it takes an address alone; its TLS is --http-tls-cert and --http-tls-key",
        )),
        false => check_network(address),
    };
    let checked = alone.and_then(|()| {
        let resolved = resolve(address)?;
        check_exposure(&resolved, config.http_token.is_some())
    });
    checked.map_err(|error| CommandError::Listen {
        address: address.to_owned(),
        error,
    })
}

/// Reads the token of `--http-token`. Returns who may use the API.
///
/// # Errors
/// [`CommandError::File`].
pub fn access(config: &Config) -> Result<Access, CommandError> {
    let of_address = config.http.as_deref().and_then(|it| it.rsplit_once(':'));
    let own = of_address.map(|(host, _)| host.to_owned());
    // It is not a name of the host: it stands for all of its addresses.
    let own = own.filter(|host| !host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified()));
    let named = config.http_host.as_deref().unwrap_or_default().split(',');
    let named = named.filter(|name| !name.is_empty()).map(str::to_owned);
    let access = Access::new(own.into_iter().chain(named));
    let Some(path) = &config.http_token else {
        return Ok(access);
    };
    let failure = |error| CommandError::File {
        path: path.clone(),
        error,
    };
    let content = read_token(path).map_err(failure)?;
    let access = access.with_token(&content);
    access.map_err(|error| failure(io::Error::new(io::ErrorKind::InvalidInput, error)))
}
