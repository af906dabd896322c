//! Big-endian words at constant positions of arrays, without code that checks bounds: the compiler sees that they fit.

/// The word at position `AT`; 0 outside.
pub(super) fn word<const AT: usize>(bytes: &[u8]) -> u32 {
    let word = bytes.get(AT..).and_then(<[u8]>::first_chunk);
    word.map_or(0, |word| u32::from_be_bytes(*word))
}

/// The two words at position `AT` as one number; 0 outside.
pub(super) fn long<const AT: usize>(bytes: &[u8]) -> u64 {
    let long = bytes.get(AT..).and_then(<[u8]>::first_chunk);
    long.map_or(0, |long| u64::from_be_bytes(*long))
}

/// Sets the word at position `AT`; does nothing outside.
pub(super) fn set<const AT: usize>(to: &mut [u8], word: u32) {
    if let Some(slot) = to.get_mut(AT..).and_then(<[u8]>::first_chunk_mut) {
        *slot = word.to_be_bytes();
    }
}
