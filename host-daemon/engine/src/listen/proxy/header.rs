//! The result of parsing a PROXY header: [`Parsed`], or a [`ProxyError`].

use std::net::SocketAddr;

/// Longest header of version 1 with its CR LF, in bytes, according to the specification.
pub const LINE_LEN_MAX: usize = 107;
/// Longest header of version 2, in bytes: the default `tune.bufsize` of haproxy, which builds a header in one buffer of
/// this length. A header with addresses alone has at most 232 bytes; one with a client certificate has some thousands.
/// nginx accepts 4096 bytes.
pub const HEADER_LEN_MAX: usize = 16 << 10;

/// What the first bytes of a connection are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// The beginning of a header.
    Incomplete {
        /// The header has at least this many bytes more, at least one. A caller that reads at most so many never
        /// reads beyond the header.
        at_least: usize,
    },
    /// A header.
    Complete {
        /// Length of the header, in bytes. The bytes after it belong to the connection.
        len: usize,
        /// Where the connection of the client comes from.
        source: ProxiedPeer,
    },
}

/// Where a header says that a connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProxiedPeer {
    /// From the proxy itself, for example to check the daemon's health (`LOCAL`). The address of the connection applies.
    Local,
    /// From a client without an IP address that the proxy knows, or with a protocol other than TCP (`UNKNOWN`,
    /// `AF_UNSPEC`, `AF_UNIX`, datagrams). The address of the connection applies.
    Unknown,
    /// From this address and port. An IPv4 address mapped to IPv6 is left as it is.
    Tcp(SocketAddr),
}

/// Why the first bytes of a connection are not a valid header. Offsets count from 0.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyError {
    /// Neither version begins like this.
    #[error("not a PROXY protocol header: byte {found:#04x} at offset {offset}")]
    NotAHeader {
        /// Offset of the byte.
        offset: usize,
        /// The byte.
        found: u8,
    },
    /// Version 1: another protocol.
    #[error(
        "the protocol of a PROXY header is not TCP4, TCP6 or UNKNOWN: byte {found:#04x} at offset {offset}"
    )]
    Protocol {
        /// Offset of the byte.
        offset: usize,
        /// The byte.
        found: u8,
    },
    /// Version 1: a CR without LF, or a LF without CR.
    #[error("a PROXY header does not end with CR LF: byte {found:#04x} at offset {offset}")]
    LineEnd {
        /// Offset of the byte.
        offset: usize,
        /// The byte.
        found: u8,
    },
    /// Version 1: CR LF is missing.
    #[error("a PROXY header has no CR LF in its first {LINE_LEN_MAX} bytes")]
    LineTooLong,
    /// Version 1: a wrong number of fields after the protocol.
    #[error(
        "a PROXY header has {found} fields after the protocol, separated by single spaces; expected 4"
    )]
    Fields {
        /// Number of fields.
        found: usize,
    },
    /// Version 1: a field is not an address of the family.
    #[error("the {field} address of a PROXY header is not an {family} address: `{found}`")]
    Address {
        /// `source` or `destination`.
        field: &'static str,
        /// `IPv4` or `IPv6`.
        family: &'static str,
        /// The field, with escapes.
        found: Box<str>,
    },
    /// Version 1: a field is not a port.
    #[error(
        "the {field} port of a PROXY header is not a number from 0 to 65535 without leading zeros: `{found}`"
    )]
    Port {
        /// `source` or `destination`.
        field: &'static str,
        /// The field, with escapes.
        found: Box<str>,
    },
    /// Version 2: another version.
    #[error(
        "version {found} of the PROXY protocol is not supported; expected 2 after this signature"
    )]
    Version {
        /// The version.
        found: u8,
    },
    /// Version 2: an unassigned command.
    #[error("command {found} of a PROXY header is unassigned; expected 0 (LOCAL) or 1 (PROXY)")]
    Command {
        /// The command.
        found: u8,
    },
    /// Version 2: an unassigned address family.
    #[error("address family {found} of a PROXY header is unassigned; expected 0 to 3")]
    Family {
        /// The address family.
        found: u8,
    },
    /// Version 2: an unassigned transport protocol.
    #[error("transport protocol {found} of a PROXY header is unassigned; expected 0 to 2")]
    Transport {
        /// The transport protocol.
        found: u8,
    },
    /// Version 2: longer than [`HEADER_LEN_MAX`].
    #[error("a PROXY header of {len} bytes is too long; at most {HEADER_LEN_MAX}")]
    TooLong {
        /// Length of the header, in bytes.
        len: usize,
    },
    /// Version 2: the length is less than that of the addresses.
    #[error("a PROXY header has {len} bytes after its length; its addresses need {need}")]
    TooShort {
        /// Length, in bytes.
        len: usize,
        /// Length of the addresses, in bytes.
        need: usize,
    },
    /// Version 2: an additional field (TLV) ends after the header.
    #[error("the field at offset {offset} of a PROXY header needs {need} bytes; {left} are left")]
    Tlv {
        /// Offset of the field.
        offset: usize,
        /// Length of the field with its type and length, in bytes; 3 if these do not fit.
        need: usize,
        /// Bytes that are left in the header.
        left: usize,
    },
    /// Version 2: the checksum does not have 4 bytes.
    #[error("the checksum of a PROXY header has {len} bytes; expected 4")]
    ChecksumLen {
        /// Length of the checksum, in bytes.
        len: usize,
    },
    /// Version 2: more than one checksum.
    #[error("a PROXY header has a second checksum, at offset {offset}")]
    SecondChecksum {
        /// Offset of the second one.
        offset: usize,
    },
    /// Version 2: the checksum is wrong.
    #[error("the checksum of a PROXY header is {found:#010x}; expected {expected:#010x}")]
    Checksum {
        /// The checksum in the header.
        found: u32,
        /// The CRC-32C of the header.
        expected: u32,
    },
}
