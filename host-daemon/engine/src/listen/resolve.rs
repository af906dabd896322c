//! Addresses of the network as a person writes them: `HOST:PORT`. Start with [`resolve`].

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

/// The longest name of a host, in bytes.
const NAME_MAX: usize = 253;

/// The addresses that `HOST:PORT` stands for, at least one.
///
/// # Errors
/// [`io::ErrorKind::InvalidInput`] where the text can never be an address. Any other kind where the name is not
/// resolved, which may be different later.
pub fn resolve(address: &str) -> io::Result<Vec<SocketAddr>> {
    let (host, port) = address
        .rsplit_once(':')
        .ok_or_else(|| invalid("the port is missing, as in 127.0.0.1:1060".to_owned()))?;
    let port: u16 = port
        .parse()
        .map_err(|_| invalid(format!("`{port}` is not a port from 0 to 65535")))?;
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let bare = bare.unwrap_or(host);
    if bare.is_empty() {
        return Err(invalid(format!(
            "the host is missing; for all addresses of this machine write [::]:{port}"
        )));
    }
    let found = (bare, port).to_socket_addrs().map(Vec::from_iter);
    match found {
        Ok(found) if found.is_empty() => Err(io::ErrorKind::AddrNotAvailable.into()),
        Ok(found) if found.iter().all(lacks_interface) => Err(invalid(format!(
            "a link-local address needs its interface, as in [{bare}%eth0]:{port}"
        ))),
        Err(error) if error.kind() != io::ErrorKind::InvalidInput && !may_resolve(bare) => Err(
            invalid(format!("`{host}` is not an address or a name of a host")),
        ),
        found => found,
    }
}

/// Whether an address belongs to an interface that it does not name: it can never be used.
const fn lacks_interface(address: &SocketAddr) -> bool {
    match address {
        SocketAddr::V6(address) => address.ip().is_unicast_link_local() && address.scope_id() == 0,
        SocketAddr::V4(_) => false,
    }
}

/// Whether a host that was not resolved may be later: a name, or an address of an interface that is not there yet.
fn may_resolve(host: &str) -> bool {
    let host = host.split_once('%').map_or(host, |(address, _)| {
        // What stands before the interface is an address.
        if address.contains(':') { "address" } else { "" }
    });
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let is_number = host
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.');
    host.len() <= NAME_MAX && host.bytes().all(is_name) && !is_number
}

fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_need_no_resolver() {
        for (text, address) in [
            ("127.0.0.1:1060", "127.0.0.1:1060"),
            ("[::1]:0", "[::1]:0"),
            ("::1:80", "[::1]:80"),
        ] {
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
    fn a_name_that_is_not_resolved_may_be_later() {
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
