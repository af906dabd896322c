//! The list of framings, with arguments where a framing needs them.

use std::sync::LazyLock;

use framing_core_testing::messages::specs;

/// Every framing; `delimited` with two delimiters.
pub static FRAMINGS: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
    let specs = specs(&[16], &["0d0a", "00"]).into_iter();
    specs.map(|spec| &*spec.leak()).collect()
});

/// Those that `tests/peers/framings.py` implements a second time.
pub const WITH_PYTHON: [&str; 17] = [
    "blocks",
    "stream",
    "fixed:16",
    "lines",
    "delimited:0d0a",
    "delimited:00",
    "cobs",
    "cobs-crc16",
    "cobs-crc32",
    "length:u8",
    "length:u16",
    "length:u16le",
    "length:u32",
    "length:u32le",
    "length:varint",
    "netstring",
    "octet-counted",
];
