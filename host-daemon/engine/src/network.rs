//! Parses networks of IP addresses. Start with [`parse`].

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Why a text is not a network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// It is neither an address nor an address with a prefix length.
    #[error("`{0}` is not an IP address or a network, such as 10.0.0.7, 10.0.0.0/24 or fd00::/64")]
    Invalid(String),
    /// The address has bits set below the prefix.
    #[error("`{given}` is an address in a network; did you mean `{network}`?")]
    HostBits {
        /// The network as it was written.
        given: String,
        /// The network without these bits.
        network: IpNet,
    },
}

/// Parses a network, such as `10.0.0.0/24`, or an address, which is a network of one address. A network of IPv4 addresses
/// mapped to IPv6 is converted to an IPv4 network.
///
/// # Errors
/// If the text is not a network, or if its address has bits set below the prefix.
///
/// # Examples
/// ```
/// use blocksd_engine::network;
///
/// assert_eq!(network::parse("10.0.0.7")?.to_string(), "10.0.0.7/32");
/// assert_eq!(network::parse("::ffff:10.0.0.0/120")?.to_string(), "10.0.0.0/24");
/// assert!(network::parse("10.0.0.7/24").is_err());
/// # Ok::<(), network::NetworkError>(())
/// ```
pub fn parse(text: &str) -> Result<IpNet, NetworkError> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(address.to_canonical().into());
    }
    let network: IpNet = text
        .parse()
        .map_err(|_| NetworkError::Invalid(text.to_owned()))?;
    if network != network.trunc() {
        return Err(NetworkError::HostBits {
            given: text.to_owned(),
            network: network.trunc(),
        });
    }
    Ok(canonical(network))
}

/// Converts a network of IPv4 addresses mapped to IPv6 to an IPv4 network.
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
