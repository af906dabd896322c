//! Resolves network addresses of the form `HOST:PORT`: [`resolve`].

use std::fmt;
use std::io;
use std::net::{Ipv6Addr, SocketAddr, ToSocketAddrs};

/// Longest host name, in bytes.
const NAME_MAX: usize = 253;

/// Resolves `HOST:PORT` to at least one address. Blocks while the system resolves a host name.
///
/// # Errors
/// [`io::ErrorKind::InvalidInput`] if the text can never be an address. Any other kind if the name cannot be resolved
/// now.
///
/// # Examples
/// ```
/// use blocksd_engine::listen::resolve::resolve;
///
/// assert_eq!(resolve("127.0.0.1:1060")?, ["127.0.0.1:1060".parse().unwrap()]);
/// assert!(resolve("127.0.0.1").is_err());
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn resolve(address: &str) -> io::Result<Vec<SocketAddr>> {
    if let Some(path) = address.strip_prefix("unix:") {
        return Err(invalid(format!(
            "a Unix socket ({path}) cannot be connected to; give HOST:PORT, or use socat"
        )));
    }
    let (host, port) = split(address).map_err(invalid)?;
    let port: u16 = port
        .parse()
        .map_err(|_| invalid(format!("`{port}` is not a port from 0 to 65535")))?;
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let bare = bare.unwrap_or(host);
    if bare.is_empty() {
        return Err(invalid(no_host(port)));
    }
    let found = (bare, port).to_socket_addrs().map(Vec::from_iter);
    match found {
        Ok(found) if found.is_empty() => Err(io::ErrorKind::AddrNotAvailable.into()),
        Ok(found) if found.iter().all(lacks_interface) => Err(invalid(format!(
            "a link-local address needs its interface, as in [{bare}%eth0]:{port}"
        ))),
        Err(error) if error.kind() != io::ErrorKind::InvalidInput && !may_resolve(bare) => Err(
            invalid(format!("`{host}` is not an address or a host name")),
        ),
        Err(error) if is_name(bare) => Err(io::Error::new(
            error.kind(),
            format!("cannot resolve the host name `{bare}`: {error}"),
        )),
        found => found,
    }
}

/// Splits an address into host and port. The error says how to write it.
fn split(address: &str) -> Result<(&str, &str), String> {
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let is_v6 = |text: &str| {
        let bare = text.split('%').next().unwrap_or_default();
        bare.parse::<Ipv6Addr>().is_ok()
    };
    match address.rsplit_once(':') {
        None if address.is_empty() => Err("the address is empty; use HOST:PORT".to_owned()),
        None if is_number(address) => Err(no_host(address)),
        None => Err(format!("the port is missing; use {address}:PORT")),
        Some(_) if address.starts_with('[') && address.ends_with(']') => {
            Err(format!("the port is missing; use {address}:PORT"))
        }
        Some((host, port)) if is_v6(host) && is_number(port) => Err(format!(
            "an IPv6 address needs brackets; use [{host}]:{port}"
        )),
        Some(_) if is_v6(address) => Err(format!(
            "an IPv6 address needs brackets, and the port is missing; use [{address}]:PORT"
        )),
        Some(parts) => Ok(parts),
    }
}

fn no_host(port: impl fmt::Display) -> String {
    format!(
        "the host is missing; use [::]:{port} for all addresses, or 127.0.0.1:{port} for this machine only"
    )
}

/// Whether an address is link-local and does not name its interface, so that it can never be used.
const fn lacks_interface(address: &SocketAddr) -> bool {
    match address {
        SocketAddr::V6(address) => address.ip().is_unicast_link_local() && address.scope_id() == 0,
        SocketAddr::V4(_) => false,
    }
}

/// Whether a host that cannot be resolved now may be resolved later: it is a name, or its interface may appear.
fn may_resolve(host: &str) -> bool {
    let host = host.split_once('%').map_or(host, |(address, _)| {
        // The part before the interface must be an address.
        if address.contains(':') { "address" } else { "" }
    });
    is_name(host)
}

fn is_name(host: &str) -> bool {
    let is_in = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let is_number = host
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.');
    host.len() <= NAME_MAX && host.bytes().all(is_in) && !is_number
}

fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numeric_addresses_need_no_resolver() {
        for (text, address) in [("127.0.0.1:1060", "127.0.0.1:1060"), ("[::1]:0", "[::1]:0")] {
            let address: SocketAddr = address.parse().unwrap();
            assert_eq!(resolve(text).unwrap(), [address], "{text}");
        }
    }

    #[test]
    fn a_text_that_can_never_be_an_address_is_invalid() {
        for text in [
            "nowhere",
            "",
            ":9106",
            "[]:9106",
            "127.0.0.1:http",
            "127.0.0.1:65536",
            "127.0.0.1:",
            "256.0.0.1:1",
            "1.2.3.4.5:1",
            "http://host:1",
            "two words:1",
            "*:1",
            "[::1:1",
            "[::g]:1",
            "a%b:1",
            "[fe80::1]:0",
            "[fe80::1%0]:0",
            "::1:80",
            "::1",
            "[::1]",
            "fe80::1%eth0:80",
        ] {
            let error = resolve(text).unwrap_err();
            assert_eq!(
                error.kind(),
                io::ErrorKind::InvalidInput,
                "{text}: {error:?}"
            );
        }
    }

    #[test]
    fn the_error_shows_how_to_write_the_address() {
        for (text, shown) in [
            ("9100", "127.0.0.1:9100"),
            (":9100", "[::]:9100"),
            ("::1:9", "use [::1]:9"),
            ("::1", "use [::1]:PORT"),
            ("[::1]", "use [::1]:PORT"),
            ("localhost", "use localhost:PORT"),
            ("", "use HOST:PORT"),
            ("127.0.0.1:70000", "`70000` is not a port from 0 to 65535"),
            (
                "gateway.invalid:1",
                "cannot resolve the host name `gateway.invalid`: ",
            ),
        ] {
            let error = resolve(text).unwrap_err().to_string();
            assert!(error.contains(shown), "{text}: {error}");
        }
    }

    #[test]
    fn a_name_that_cannot_be_resolved_now_is_not_invalid() {
        for text in ["gateway.invalid:1", "[fe80::1%blocksd9]:1"] {
            let error = resolve(text).unwrap_err();
            assert_ne!(
                error.kind(),
                io::ErrorKind::InvalidInput,
                "{text}: {error:?}"
            );
        }
    }
}
