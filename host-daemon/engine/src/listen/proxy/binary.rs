//! Parses a header of version 2, which is binary. Start with [`parse`].

use std::net::{IpAddr, SocketAddr};

use super::header::{HEADER_LEN_MAX, Parsed, ProxiedPeer, ProxyError};

/// What all headers of version 2 begin with.
pub(super) const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Length of a header without what its length counts, in bytes.
pub(super) const FIXED_LEN: usize = 16;

/// Lengths of the two addresses, and their ports, by address family, in bytes.
const ADDRESSES_LEN: [usize; 4] = [0, 12, 36, 216];
/// Length of the type and the length of an additional field (TLV), in bytes.
const TLV_LEN: usize = 3;
/// The type of a field with the CRC-32C of the header (`PP2_TYPE_CRC32C`).
const TLV_CRC32C: u8 = 3;

pub(super) static CRC32C: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI);

/// Parses a header of version 2, which begins with the signature.
pub(super) fn parse(bytes: &[u8]) -> Result<Parsed, ProxyError> {
    let Some(command) = bytes.get(SIGNATURE.len()) else {
        return Ok(incomplete(bytes, FIXED_LEN));
    };
    let (version, command) = (command >> 4, command & 0xf);
    if version != 2 {
        return Err(ProxyError::Version { found: version });
    }
    if command > 1 {
        return Err(ProxyError::Command { found: command });
    }
    let is_local = command == 0;
    let Some(protocol) = bytes.get(SIGNATURE.len() + 1) else {
        return Ok(incomplete(bytes, FIXED_LEN));
    };
    let (family, transport) = (protocol >> 4, protocol & 0xf);
    // A header with LOCAL has a family that must be ignored.
    if !is_local && family > 3 {
        return Err(ProxyError::Family { found: family });
    }
    if !is_local && transport > 2 {
        return Err(ProxyError::Transport { found: transport });
    }
    let Some((fixed, rest)) = bytes.split_at_checked(FIXED_LEN) else {
        return Ok(incomplete(bytes, FIXED_LEN));
    };
    let rest_len = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    let len = FIXED_LEN + rest_len;
    if len > HEADER_LEN_MAX {
        return Err(ProxyError::TooLong { len });
    }
    // Without an address family or a transport protocol, the length of the addresses is unknown.
    let is_known = !is_local && family != 0 && transport != 0;
    let need = match is_known {
        true => ADDRESSES_LEN[usize::from(family)],
        false => 0,
    };
    if rest_len < need {
        let len = rest_len;
        return Err(ProxyError::TooShort { len, need });
    }
    let Some(rest) = rest.get(..rest_len) else {
        return Ok(incomplete(bytes, len));
    };
    if is_known {
        check_fields(&bytes[..len], FIXED_LEN + need)?;
    }
    let source = match (family, transport) {
        _ if is_local => ProxiedPeer::Local,
        (1, 1) => tcp::<4>(rest),
        (2, 1) => tcp::<16>(rest),
        _ => ProxiedPeer::Unknown,
    };
    Ok(Parsed::Complete { len, source })
}

fn incomplete(bytes: &[u8], least: usize) -> Parsed {
    let at_least = least - bytes.len();
    Parsed::Incomplete { at_least }
}

/// The source of two addresses of `N` bytes, followed by their ports.
fn tcp<const N: usize>(addresses: &[u8]) -> ProxiedPeer
where
    IpAddr: From<[u8; N]>,
{
    let mut address = [0; N];
    address.copy_from_slice(&addresses[..N]);
    let port = u16::from_be_bytes([addresses[2 * N], addresses[2 * N + 1]]);
    ProxiedPeer::Tcp(SocketAddr::new(address.into(), port))
}

/// Checks that the additional fields (TLV) from `offset` on fill the header, and that the checksum is correct if it has
/// one.
fn check_fields(header: &[u8], mut offset: usize) -> Result<(), ProxyError> {
    let mut checksum = None;
    while offset < header.len() {
        let left = header.len() - offset;
        let need = match header[offset..] {
            [_, high, low, ..] => TLV_LEN + usize::from(u16::from_be_bytes([high, low])),
            _ => TLV_LEN,
        };
        if need > left {
            return Err(ProxyError::Tlv { offset, need, left });
        }
        if header[offset] == TLV_CRC32C {
            if need != TLV_LEN + 4 {
                let len = need - TLV_LEN;
                return Err(ProxyError::ChecksumLen { len });
            }
            if checksum.replace(offset + TLV_LEN).is_some() {
                return Err(ProxyError::SecondChecksum { offset });
            }
        }
        offset += need;
    }
    checksum.map_or(Ok(()), |at| check_crc32c(header, at))
}

/// Checks the CRC-32C at this offset: that of the header with zeros in its place.
fn check_crc32c(header: &[u8], at: usize) -> Result<(), ProxyError> {
    let mut digest = CRC32C.digest();
    digest.update(&header[..at]);
    digest.update(&[0; 4]);
    digest.update(&header[at + 4..]);
    let expected = digest.finalize();
    let mut found = [0; 4];
    found.copy_from_slice(&header[at..at + 4]);
    let found = u32::from_be_bytes(found);
    match found == expected {
        true => Ok(()),
        false => Err(ProxyError::Checksum { found, expected }),
    }
}
