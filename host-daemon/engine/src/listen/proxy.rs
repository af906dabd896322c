//! The PROXY protocol, versions 1 and 2: the header with which a proxy begins a connection, to give the address of its
//! client. Start with [`parse`]; [`ProxyFrom`] says whose headers are expected.
//!
//! The format is that of [haproxy's specification](https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt). The
//! parser does no input or output. It accepts what the specification allows, and refuses everything else as soon as a byte
//! or, in version 1, a whole line shows it.

mod binary;
mod header;
mod line;

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

pub use self::header::{HEADER_LEN_MAX, LINE_LEN_MAX, Parsed, ProxiedPeer, ProxyError};
use self::line::LineKind;
use crate::network::{self, NetworkError};

/// Parses the header at the beginning of a connection. `bytes` are all bytes that were received; those after the header
/// are ignored. The result of a header is the same however its bytes arrive.
///
/// # Errors
/// If no header begins with these bytes, as soon as a byte shows it. The connection must then be closed.
///
/// # Examples
/// ```
/// use blocksd_engine::listen::proxy::{Parsed, ProxiedPeer, parse};
///
/// assert_eq!(parse(b""), Ok(Parsed::Incomplete { at_least: 15 }));
/// assert_eq!(
///     parse(b"PROXY TCP4 192.0.2.1 192.0.2.10 5000 1060\r\nthe first message"),
///     Ok(Parsed::Complete {
///         len: 43,
///         source: ProxiedPeer::Tcp("192.0.2.1:5000".parse().unwrap()),
///     })
/// );
/// assert!(parse(b"{").is_err());
/// ```
pub fn parse(bytes: &[u8]) -> Result<Parsed, ProxyError> {
    match STARTS.iter().find(|it| bytes.starts_with(it.bytes)) {
        Some(it) => match it.kind {
            HeaderKind::Line(kind) => line::parse(bytes, kind),
            HeaderKind::Binary => binary::parse(bytes),
        },
        None => beginning(bytes),
    }
}

/// The addresses of proxies. Connections from these must begin with a PROXY header; others are taken as they are. Parsed
/// from addresses and networks that are separated by spaces.
///
/// # Examples
/// ```
/// use blocksd_engine::listen::proxy::ProxyFrom;
///
/// let proxies: ProxyFrom = "10.0.0.7 fd00::/64".parse()?;
/// assert!(proxies.allows("10.0.0.7".parse().unwrap()));
/// assert!(proxies.allows("::ffff:10.0.0.7".parse().unwrap()));
/// assert!(!proxies.allows("10.0.0.8".parse().unwrap()));
/// # Ok::<(), blocksd_engine::network::NetworkError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ProxyFrom(Vec<IpNet>);

impl ProxyFrom {
    /// Whether a connection from this address must begin with a PROXY header. IPv4 addresses mapped to IPv6 are treated as
    /// IPv4.
    #[must_use]
    pub fn allows(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.0.iter().any(|network| network.contains(&peer))
    }
}

impl FromStr for ProxyFrom {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let networks = text.split_ascii_whitespace().map(network::parse);
        let networks = networks.collect::<Result<Vec<_>, _>>()?;
        match networks.is_empty() {
            true => Err(NetworkError::Invalid(text.to_owned())),
            false => Ok(Self(networks)),
        }
    }
}

impl fmt::Display for ProxyFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, network) in self.0.iter().enumerate() {
            let space = if index == 0 { "" } else { " " };
            match network.prefix_len() == network.max_prefix_len() {
                true => write!(f, "{space}{}", network.addr())?,
                false => write!(f, "{space}{network}")?,
            }
        }
        Ok(())
    }
}

/// What all headers of version 1 begin with.
const LINE: &[u8] = b"PROXY ";

/// A way in which headers begin.
struct HeaderStart {
    bytes: &'static [u8],
    /// Length of the shortest header that begins so, in bytes.
    least: usize,
    kind: HeaderKind,
}

#[derive(Clone, Copy)]
enum HeaderKind {
    Line(LineKind),
    Binary,
}

const STARTS: [HeaderStart; 5] = {
    const fn line(bytes: &'static [u8], shortest: &[u8], kind: LineKind) -> HeaderStart {
        HeaderStart {
            bytes,
            least: shortest.len(),
            kind: HeaderKind::Line(kind),
        }
    }
    [
        line(
            b"PROXY TCP4 ",
            b"PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n",
            LineKind::Tcp4,
        ),
        line(b"PROXY TCP6 ", b"PROXY TCP6 :: :: 0 0\r\n", LineKind::Tcp6),
        line(b"PROXY UNKNOWN ", b"PROXY UNKNOWN \r\n", LineKind::Unknown),
        line(b"PROXY UNKNOWN\r", b"PROXY UNKNOWN\r\n", LineKind::Unknown),
        HeaderStart {
            bytes: binary::SIGNATURE,
            least: binary::FIXED_LEN,
            kind: HeaderKind::Binary,
        },
    ]
};

/// The result for bytes that contain none of the beginnings as a whole.
fn beginning(bytes: &[u8]) -> Result<Parsed, ProxyError> {
    let possible = STARTS.iter().filter(|it| it.bytes.starts_with(bytes));
    if let Some(least) = possible.map(|it| it.least).min() {
        let at_least = least - bytes.len();
        return Ok(Parsed::Incomplete { at_least });
    }
    let common = |it: &HeaderStart| {
        let pairs = it.bytes.iter().zip(bytes);
        pairs.take_while(|(one, other)| one == other).count()
    };
    let offset = STARTS.iter().map(common).max().unwrap_or_default();
    let found = bytes[offset];
    Err(match bytes.starts_with(LINE) {
        true => ProxyError::Protocol { offset, found },
        false => ProxyError::NotAHeader { offset, found },
    })
}

#[cfg(test)]
mod tests;
