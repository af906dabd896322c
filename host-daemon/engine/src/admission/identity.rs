//! Identifies the device of a connection: by a rule ([`DeviceBy`]), or by a table of configured names
//! ([`DeviceTable`]).

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::event::Peer;
use crate::network::{self, NetworkError};

/// The rule by which connections are grouped into devices.
///
/// # Examples
/// ```
/// use blocksd_engine::admission::identity::DeviceBy;
/// use blocksd_engine::event::Peer;
///
/// let peer = Peer::Network("10.0.0.7:5000".parse()?);
/// let listener = "127.0.0.1:1060".into();
/// assert_eq!(&*DeviceBy::Ip.name(&peer, &listener, 1), "10.0.0.7");
/// assert_eq!(&*DeviceBy::Peer.name(&peer, &listener, 1), "10.0.0.7:5000");
/// assert_eq!(&*DeviceBy::Listener.name(&peer, &listener, 1), "127.0.0.1:1060");
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceBy {
    /// A device for each IP address. Local connections: a device for each listener.
    #[default]
    Ip,
    /// A device for each connection, named by address and port. Local connections: by listener and connection number.
    Peer,
    /// A device for each listener.
    Listener,
}

impl DeviceBy {
    /// Returns the name of the device. `conn` is the number of the connection, and `listener` the address it came
    /// through.
    #[must_use]
    pub fn name(self, peer: &Peer, listener: &Arc<str>, conn: u64) -> Arc<str> {
        match (self, peer) {
            (Self::Listener, _) | (Self::Ip, Peer::Local(_)) => Arc::clone(listener),
            (Self::Ip, Peer::Network(peer)) => address_name(peer).into(),
            (Self::Peer, Peer::Network(peer)) => peer.to_string().into(),
            (Self::Peer, Peer::Local(_)) => format!("{listener}#{conn}").into(),
        }
    }

    /// Whether the name contains the number of the connection.
    pub(crate) const fn is_numbered(self, peer: &Peer) -> bool {
        matches!((self, peer), (Self::Peer, Peer::Local(_)))
    }
}

/// The name of a device by its address. An IPv4 address names the same device when it is mapped to IPv6. A link-local
/// address has the number of its interface, as in `fe80::2%3`: on another interface, it belongs to another device.
fn address_name(peer: &SocketAddr) -> String {
    let ip = peer.ip().to_canonical();
    match peer {
        SocketAddr::V6(v6) if v6.scope_id() != 0 => format!("{ip}%{}", v6.scope_id()),
        _ => ip.to_string(),
    }
}

/// A condition that selects connections of a device. IPv4 addresses mapped to IPv6 are treated as IPv4.
///
/// # Examples
/// ```
/// use blocksd_engine::admission::identity::Match;
///
/// let network: Match = "10.0.0.0/24".parse()?;
/// assert!(matches!(network, Match::Network(_)));
/// let error = "10.0.0.7/24".parse::<Match>().unwrap_err();
/// assert!(error.to_string().contains("did you mean `10.0.0.0/24`?"));
/// # Ok::<(), blocksd_engine::admission::identity::MatchError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Match {
    /// Connections from an address: `10.0.0.7`. A link-local address without an interface matches on every interface.
    Address(IpAddr),
    /// Connections from a network: `10.0.0.0/24`.
    Network(IpNet),
    /// Connections through a listener: `listener:127.0.0.1:1060`.
    Listener(Box<str>),
    /// Connections with an identity, as [`DeviceBy`] gives it or as the device announces it. Also a link-local address on
    /// one interface: `fe80::2%3`.
    Id(Box<str>),
}

/// Why a text is not a valid [`Match`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MatchError {
    /// The text is empty.
    #[error("an empty text matches no device")]
    Empty,
    /// An address and a slash are not followed by a valid prefix length.
    #[error("`{0}` is not a network, such as 10.0.0.0/24 or fd00::/64")]
    Network(String),
    /// It looks like an address, and is not one.
    #[error("`{0}` is not an IP address, such as 10.0.0.7 or fd00::7")]
    Address(String),
    /// The address of a network has bits set below the prefix.
    #[error("`{given}` is an address in a network; did you mean `{network}`?")]
    HostBits {
        /// The network as it was written.
        given: String,
        /// The network without these bits.
        network: IpNet,
    },
}

impl Match {
    /// Creates the match for a device ID: an address if it can be parsed as one, otherwise an identity.
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
            _ => match Self::of_id(text) {
                Self::Id(_) if is_mistaken_address(text) => {
                    Err(MatchError::Address(text.to_owned()))
                }
                it => Ok(it),
            },
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

/// Returns whether a text is a valid device name: 1 to 64 characters of `A-Z`, `a-z`, `0-9`, `.`, `_`, `:` and `-`.
#[must_use]
pub fn is_name(text: &str) -> bool {
    let is_in = |byte: u8| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte);
    (1..=64).contains(&text.len()) && text.bytes().all(is_in)
}

/// Devices with configured names. If several match a connection, the first one applies. The time of a look-up grows
/// only with the number of networks.
///
/// A connection without a match is named by its identity. If a configured name is the identity of such a connection, both
/// have one name, and count as one device.
///
/// # Examples
/// ```
/// use blocksd_engine::admission::identity::DeviceTable;
/// use blocksd_engine::event::Peer;
///
/// let table = DeviceTable::new(vec![("pump".into(), vec!["10.0.0.7".parse()?])]);
/// let peer = Peer::Network("10.0.0.7:5000".parse().unwrap());
/// let name = table.find(&peer, "0.0.0.0:1060", "10.0.0.7");
/// assert_eq!(name.map(|name| &**name), Some("pump"));
/// # Ok::<(), blocksd_engine::admission::identity::MatchError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct DeviceTable {
    names: Vec<Arc<str>>,
    addresses: HashMap<IpAddr, usize>,
    networks: Vec<(IpNet, usize)>,
    listeners: HashMap<Box<str>, usize>,
    ids: HashMap<Box<str>, usize>,
}

impl DeviceTable {
    /// Creates a table from names and the matches of each.
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

    /// Returns the name of the device with this identity, which a certificate proves. Addresses, networks and listeners do
    /// not count.
    #[must_use]
    pub fn find_id(&self, identity: &str) -> Option<&Arc<str>> {
        self.names.get(*self.ids.get(identity)?)
    }

    /// Returns the name of the first device that matches a connection. `listener` is the address as it was configured,
    /// and `identity` the name that the connection has without a table. Does not allocate.
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

/// Whether a text that is not an address must have been meant as one: four numbers with dots, with or without a port, or
/// an IPv6 address with `::`. A hardware address, such as `02:00:5e:10:00:01`, is an identity.
fn is_mistaken_address(text: &str) -> bool {
    if text.parse::<SocketAddr>().is_ok() {
        return false;
    }
    let host = text.split_once(':').map_or(text, |(host, _)| host);
    let is_number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let is_like_v4 = host.split('.').count() == 4 && host.split('.').all(is_number);
    is_like_v4 || text.contains("::") && is_like_address(text)
}

fn network(text: &str) -> Result<IpNet, MatchError> {
    network::parse(text).map_err(|error| match error {
        NetworkError::HostBits { given, network } => MatchError::HostBits { given, network },
        NetworkError::Invalid(text) => MatchError::Network(text),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network_peer(text: &str) -> Peer {
        Peer::Network(text.parse().unwrap())
    }

    #[test]
    fn one_link_local_address_on_two_interfaces_is_two_devices() {
        let listener: Arc<str> = "[::]:1060".into();
        let on = |scope: u32| network_peer(&format!("[fe80::2%{scope}]:5000"));
        let name = |by: DeviceBy, peer: &Peer| by.name(peer, &listener, 1);
        assert_eq!(&*name(DeviceBy::Ip, &on(3)), "fe80::2%3");
        for by in [DeviceBy::Ip, DeviceBy::Peer] {
            assert_ne!(name(by, &on(3)), name(by, &on(4)));
        }
        let table = DeviceTable::new(vec![("pump".into(), vec!["fe80::2%3".parse().unwrap()])]);
        let find = |peer: &Peer| {
            let name = name(DeviceBy::Ip, peer);
            table.find(peer, &listener, &name).cloned()
        };
        assert_eq!(find(&on(3)).as_deref(), Some("pump"));
        assert_eq!(find(&on(4)), None);
        let both = DeviceTable::new(vec![("any".into(), vec!["fe80::2".parse().unwrap()])]);
        assert!(both.find(&on(4), &listener, "fe80::2%4").is_some());
    }

    #[track_caller]
    fn is_match(text: &str, peer: &Peer) -> bool {
        let matches = vec![text.parse().unwrap()];
        let table = DeviceTable::new(vec![("device".into(), matches)]);
        table.find(peer, "127.0.0.1:1060", "it").is_some()
    }

    #[test]
    fn a_match_is_displayed_as_it_is_parsed() {
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
            ("02:00:5e:10:00:01", "02:00:5e:10:00:01"),
            ("1.2.3", "1.2.3"),
            ("[fd00::7]:5000", "[fd00::7]:5000"),
        ] {
            let it: Match = text.parse().unwrap();
            assert_eq!(it.to_string(), shown);
            assert_eq!(shown.parse(), Ok(it));
        }
        for (text, reason) in [
            ("", "an empty text matches no device"),
            ("listener:", "an empty text matches no device"),
            ("300.0.0.1", "`300.0.0.1` is not an IP address"),
            ("10.0.0.07", "`10.0.0.07` is not an IP address"),
            ("10.0.0.7:70000", "`10.0.0.7:70000` is not an IP address"),
            ("fd00::1::2", "`fd00::1::2` is not an IP address"),
            ("300.0.0.0/24", "`300.0.0.0/24` is not a network"),
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
    fn matches_select_by_address_network_listener_or_identity() {
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
    fn the_first_matching_device_of_the_table_is_found() {
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
    fn a_name_has_1_to_64_characters_allowed_in_topics_and_file_names() {
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
