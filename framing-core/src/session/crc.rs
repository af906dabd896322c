//! The CRC-32 of IEEE 802.3, without a table: it guards a few bytes once a connection.

/// The CRC-32 of IEEE 802.3 (as in gzip) of the bytes.
///
/// ```
/// assert_eq!(framing_core::session::crc32(b"123456789".iter().copied()), 0xcbf4_3926);
/// ```
pub fn crc32(bytes: impl Iterator<Item = u8>) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            let low = crc & 1;
            crc >>= 1;
            if low != 0 {
                crc ^= 0xedb8_8320;
            }
        }
    }
    !crc
}
