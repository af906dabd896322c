//! The origin of a connection, by which limits group connections: an [`Origin`].

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::event::Peer;

/// One party for the purpose of limits: all its addresses and ports count together.
///
/// ```
/// use blocksd_engine::origin::Origin;
///
/// // A host can use any address of its IPv6 /64 network.
/// assert_eq!(Origin::of_device("[2001:db8::1]:9"), Origin::of_device("2001:db8::ffff:1"));
/// assert_ne!(Origin::of_device("10.0.0.1"), Origin::of_device("10.0.0.2"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// An IPv4 address, including one that is mapped to IPv6.
    V4([u8; 4]),
    /// An IPv6 /64 network.
    V6([u8; 8]),
    /// A local listener, or a device whose name is not an address.
    Local(Arc<str>),
}

impl Origin {
    /// Returns the origin of a peer.
    #[must_use]
    pub fn of_peer(peer: &Peer) -> Self {
        match peer {
            Peer::Network(address) => Self::of_ip(address.ip()),
            Peer::Local(name) => Self::Local(Arc::clone(name)),
        }
    }

    /// Returns the origin of a device by its name: the address if the name is one, with or without a port.
    #[must_use]
    pub fn of_device(device: &str) -> Self {
        let address = device.parse::<SocketAddr>().map(|address| address.ip());
        // The interface of a link-local address is not part of the origin.
        let ip = device.split_once('%').map_or(device, |(ip, _)| ip);
        match address.or_else(|_| ip.parse()) {
            Ok(ip) => Self::of_ip(ip),
            Err(_) => Self::Local(device.into()),
        }
    }

    fn of_ip(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => Self::V4(ip.octets()),
            IpAddr::V6(ip) => {
                let [a, b, c, d, e, f, g, h, ..] = ip.octets();
                Self::V6([a, b, c, d, e, f, g, h])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_and_the_addresses_of_one_ipv6_network_are_one_origin() {
        let of = Origin::of_device;
        assert_eq!(of("10.0.0.1:5"), of("10.0.0.1"));
        assert_eq!(of("[2001:db8::1:2]:9"), of("2001:db8::ffff:1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
        let peer = Peer::Network("[::ffff:10.0.0.1]:9".parse().unwrap());
        assert_eq!(Origin::of_peer(&peer), of("10.0.0.1"));
        assert_eq!(of("fe80::2%3"), of("[fe80::2%4]:9"));
        let listener = Peer::Local("unix:/run/x.sock".into());
        assert_eq!(Origin::of_peer(&listener), of("unix:/run/x.sock"));
        let differing = ["10.0.0.2", "2001:db8:0:1::1", "/dev/ttyACM0", "10.0.0.1"];
        let origins: std::collections::HashSet<_> = differing.map(of).into();
        assert_eq!(origins.len(), differing.len());
    }
}
