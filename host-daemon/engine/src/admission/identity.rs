//! What the daemon takes for one device: by [`DeviceBy`], or by the tables of a configuration ([`DeviceTable`]).

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::event::Peer;

/// What the daemon takes for one device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceBy {
    /// Who comes from one address; of this machine, through one listener.
    #[default]
    Ip,
    /// Each connection: address and port; of this machine, the listener and the connection's number.
    Peer,
    /// Who comes through one listener.
    Listener,
}

impl DeviceBy {
    /// The device of connection number `conn`, which came through `listener`.
    #[must_use]
    pub fn name(self, peer: &Peer, listener: &Arc<str>, conn: u64) -> Arc<str> {
        match (self, peer) {
            (Self::Listener, _) | (Self::Ip, Peer::Local(_)) => Arc::clone(listener),
            // An IPv4 address is the same device, whether its socket speaks IPv6 or not.
            (Self::Ip, Peer::Network(peer)) => peer.ip().to_canonical().to_string().into(),
            (Self::Peer, Peer::Network(peer)) => peer.to_string().into(),
            (Self::Peer, Peer::Local(_)) => format!("{listener}#{conn}").into(),
        }
    }

    /// Whether the name has the number of the connection in it.
    pub(crate) const fn is_numbered(self, peer: &Peer) -> bool {
        matches!((self, peer), (Self::Peer, Peer::Local(_)))
    }
}

/// Which connections belong to a device. An IPv4 address that is mapped to IPv6 counts as IPv4.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Match {
    /// Those from an address: `10.0.0.7`.
    Address(IpAddr),
    /// Those from a network: `10.0.0.0/24`.
    Network(IpNet),
    /// Those through a listener: `listener:127.0.0.1:1060`.
    Listener(Box<str>),
    /// Those with an identity by [`DeviceBy`], or by what the device says of itself.
    Id(Box<str>),
}

/// Why a text is not a [`Match`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MatchError {
    /// There is nothing.
    #[error("an empty text matches no device")]
    Empty,
    /// An address and a slash, and then not the length of a prefix.
    #[error("`{0}` is not a network, such as 10.0.0.0/24 or fd00::/64")]
    Network(String),
    /// A network whose address has bits below the prefix.
    #[error("`{given}` is an address in a network; did you mean `{network}`?")]
    HostBits {
        /// As it was given.
        given: String,
        /// The network.
        network: IpNet,
    },
}

impl Match {
    /// Matches what the ID of a device names: an address, or an identity.
    #[must_use]
    pub fn of_id(id: &str) -> Self {
        match id.parse::<IpAddr>() {
            Ok(address) => Self::Address(address.to_canonical()),
            Err(_) => Self::Id(id.into()),
        }
    }
}

impl FromStr for Match {
    type Err = MatchError;

    fn from_str(text: &str) -> Result<Self, MatchError> {
        if let Some(address) = text.strip_prefix("listener:") {
            return match address {
                "" => Err(MatchError::Empty),
                address => Ok(Self::Listener(address.into())),
            };
        }
        match text.rsplit_once('/') {
            Some((address, _)) if is_like_address(address) => network(text).map(Self::Network),
            _ if text.is_empty() => Err(MatchError::Empty),
            _ => Ok(Self::of_id(text)),
        }
    }
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Network(network) => network.fmt(f),
            Self::Listener(address) => write!(f, "listener:{address}"),
            Self::Id(id) => f.write_str(id),
        }
    }
}

/// Whether a text may be the name of a device: 1 to 64 of `A-Z`, `a-z`, `0-9`, `.`, `_`, `:` and `-`.
#[must_use]
pub fn is_name(text: &str) -> bool {
    let is_in = |byte: u8| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte);
    (1..=64).contains(&text.len()) && text.bytes().all(is_in)
}

/// The devices that a configuration names, in its order. A connection is found in the same time however many there are,
/// unless they are networks.
#[derive(Clone, Debug, Default)]
pub struct DeviceTable {
    names: Vec<Arc<str>>,
    addresses: HashMap<IpAddr, usize>,
    networks: Vec<(IpNet, usize)>,
    listeners: HashMap<Box<str>, usize>,
    ids: HashMap<Box<str>, usize>,
}

impl DeviceTable {
    /// A table of names, each with what it stands for.
    #[must_use]
    pub fn new(devices: Vec<(Arc<str>, Vec<Match>)>) -> Self {
        let mut table = Self::default();
        for (name, matches) in devices {
            let device = table.names.len();
            table.names.push(name);
            for it in matches {
                match it {
                    Match::Address(address) => {
                        table.addresses.entry(address).or_insert(device);
                    }
                    Match::Network(network) => table.networks.push((network, device)),
                    Match::Listener(address) => {
                        table.listeners.entry(address).or_insert(device);
                    }
                    Match::Id(id) => {
                        table.ids.entry(id).or_insert(device);
                    }
                }
            }
        }
        table
    }

    /// The name of the first device that a connection matches. `listener` is the address as it was configured, and
    /// `identity` what the connection is called without a table. Allocates nothing.
    #[must_use]
    pub fn find(&self, peer: &Peer, listener: &str, identity: &str) -> Option<&Arc<str>> {
        let (mut address, mut network) = (None, None);
        if let Peer::Network(peer) = peer {
            let ip = peer.ip().to_canonical();
            address = self.addresses.get(&ip).copied();
            let mut networks = self.networks.iter();
            let found = networks.find(|(network, _)| network.contains(&ip));
            network = found.map(|(_, device)| *device);
        }
        let listener = self.listeners.get(listener).copied();
        let id = self.ids.get(identity).copied();
        let first = [address, network, listener, id].into_iter().flatten().min();
        self.names.get(first?)
    }
}

fn is_like_address(text: &str) -> bool {
    let is_in = |byte: u8| byte.is_ascii_hexdigit() || byte == b'.' || byte == b':';
    !text.is_empty() && text.bytes().all(is_in)
}

fn network(text: &str) -> Result<IpNet, MatchError> {
    let network: IpNet = text
        .parse()
        .map_err(|_| MatchError::Network(text.to_owned()))?;
    if network != network.trunc() {
        return Err(MatchError::HostBits {
            given: text.to_owned(),
            network: network.trunc(),
        });
    }
    Ok(canonical(network))
}

/// A network of IPv4 addresses that are mapped to IPv6 as the network of these.
fn canonical(network: IpNet) -> IpNet {
    let mapped = |network: Ipv6Net| {
        let address = network.addr().to_ipv4_mapped()?;
        Ipv4Net::new(address, network.prefix_len().checked_sub(96)?).ok()
    };
    match network {
        IpNet::V6(v6) => mapped(v6).map_or(network, IpNet::V4),
        IpNet::V4(_) => network,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network_peer(text: &str) -> Peer {
        Peer::Network(text.parse().unwrap())
    }

    #[track_caller]
    fn is_match(text: &str, peer: &Peer) -> bool {
        let matches = vec![text.parse().unwrap()];
        let table = DeviceTable::new(vec![("device".into(), matches)]);
        table.find(peer, "127.0.0.1:1060", "it").is_some()
    }

    #[test]
    fn a_match_is_shown_as_it_is_read() {
        for (text, shown) in [
            ("10.0.0.7", "10.0.0.7"),
            ("::ffff:10.0.0.7", "10.0.0.7"),
            ("fd00::7", "fd00::7"),
            ("10.0.0.0/24", "10.0.0.0/24"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("::ffff:10.0.0.0/120", "10.0.0.0/24"),
            ("fd00::/8", "fd00::/8"),
            ("listener:unix:/run/x.sock", "listener:unix:/run/x.sock"),
            ("unix:/run/x.sock", "unix:/run/x.sock"),
            ("10.0.0.7:5000", "10.0.0.7:5000"),
            ("pump-7", "pump-7"),
        ] {
            let it: Match = text.parse().unwrap();
            assert_eq!(it.to_string(), shown);
            assert_eq!(shown.parse(), Ok(it));
        }
        for (text, reason) in [
            ("", "an empty text matches no device"),
            ("listener:", "an empty text matches no device"),
            ("10.0.0/24", "`10.0.0/24` is not a network"),
            ("10.0.0.0/33", "`10.0.0.0/33` is not a network"),
            ("10.0.0.0/", "`10.0.0.0/` is not a network"),
            ("10.0.0.7/24", "did you mean `10.0.0.0/24`?"),
        ] {
            let error = text.parse::<Match>().unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn a_match_is_of_an_address_a_network_a_listener_or_an_identity() {
        let peer = network_peer("10.0.0.7:5000");
        let mapped = network_peer("[::ffff:10.0.0.7]:5000");
        let other = network_peer("10.0.1.7:5000");
        let local = Peer::Local("unix:/run/x.sock".into());
        for text in [
            "10.0.0.7",
            "::ffff:10.0.0.7",
            "10.0.0.0/24",
            "::ffff:10.0.0.0/120",
        ] {
            assert!(is_match(text, &peer), "{text}");
            assert!(is_match(text, &mapped), "{text}");
            assert!(!is_match(text, &other), "{text}");
            assert!(!is_match(text, &local), "{text}");
        }
        assert!(is_match("0.0.0.0/0", &mapped));
        assert!(!is_match("::/0", &mapped));
        assert!(is_match("fd00::/8", &network_peer("[fd00::1]:1")));
        for peer in [&peer, &local] {
            assert!(is_match("listener:127.0.0.1:1060", peer));
            assert!(!is_match("listener:127.0.0.1:1061", peer));
            assert!(is_match("it", peer));
            assert!(!is_match("its", peer));
        }
    }

    #[test]
    fn the_first_device_of_the_table_that_matches_is_found() {
        let entry = |name: &str, matches: &[&str]| {
            let matches = matches.iter().map(|text| text.parse().unwrap());
            (name.into(), matches.collect())
        };
        let table = DeviceTable::new(vec![
            entry("pump", &["10.0.0.7", "pump-7"]),
            entry("hall", &["10.0.0.0/24"]),
            entry("bench", &["listener:unix:/run/x.sock"]),
        ]);
        let find = |peer: &Peer, listener: &str, identity: &str| {
            table.find(peer, listener, identity).map(|name| &**name)
        };
        assert_eq!(find(&network_peer("10.0.0.7:1"), "a:1", "x"), Some("pump"));
        assert_eq!(find(&network_peer("10.0.0.8:1"), "a:1", "x"), Some("hall"));
        assert_eq!(
            find(&network_peer("10.0.0.8:1"), "a:1", "pump-7"),
            Some("pump")
        );
        assert_eq!(find(&network_peer("10.0.1.8:1"), "a:1", "x"), None);
        let local = Peer::Local("unix:/run/x.sock".into());
        assert_eq!(find(&local, "unix:/run/x.sock", "x"), Some("bench"));
        assert_eq!(find(&local, "unix:/run/y.sock", "x"), None);
    }

    #[test]
    fn a_name_has_1_to_64_letters_that_a_topic_and_a_file_can_have() {
        for name in [
            "a",
            "pump-7",
            "10.0.0.7",
            "fd00::7",
            "A_b.c:D",
            &"x".repeat(64),
        ] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "a b", "a/b", "ä", "a\n", &"x".repeat(65)] {
            assert!(!is_name(name), "{name}");
        }
    }
}
