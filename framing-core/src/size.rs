//! Conversion of lengths between memory and the wire.

/// A length in memory as a length on the wire; over 32 bits, the largest length.
pub(crate) fn size_u32(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

/// A length on the wire as a length in memory, if it fits.
pub(crate) fn size_usize(len: u32) -> Option<usize> {
    usize::try_from(len).ok()
}
