//! The list of framings, with arguments where a framing needs them.

/// Every framing; `delimited` with two delimiters.
pub const FRAMINGS: [&str; 15] = [
    "blocks",
    "stream",
    "fixed:16",
    "lines",
    "delimited:0d0a",
    "delimited:00",
    "cobs",
    "length:u8",
    "length:u16",
    "length:u16le",
    "length:u32",
    "length:u32le",
    "length:varint",
    "netstring",
    "octet-counted",
];
