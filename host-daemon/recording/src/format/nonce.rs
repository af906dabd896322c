//! The nonce of a file: [`FileNonce`]. Every chunk of the file repeats it, so a payload that looks like a chunk is never
//! accepted when a damaged file is searched.

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};

use crate::format::record::Raw;

/// What the library field of a recording of ours begins with.
pub(crate) const LIBRARY: &str = "blocksd ";

/// The opcode of the record with the nonce: one of those that are for everybody's own use, and that readers pass over.
pub(crate) const OPCODE: u8 = 0xb5;

/// A random number of 64 bits, new for each file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileNonce(u64);

impl FileNonce {
    /// A new one, by chance.
    #[must_use]
    pub fn new() -> Self {
        // Hashers are seeded by chance: by the system for the first, and differently for each.
        Self(RandomState::new().build_hasher().finish())
    }

    /// What the record holds.
    #[must_use]
    pub const fn body(self) -> [u8; 8] {
        self.0.to_le_bytes()
    }

    /// That of a file whose header names this library.
    #[must_use]
    pub fn of_library(library: &str) -> Option<Self> {
        let (_, nonce) = library.strip_prefix(LIBRARY)?.split_once('+')?;
        Self::of_digits(nonce)
    }

    /// That with these sixteen hexadecimal digits.
    #[must_use]
    pub fn of_digits(digits: &str) -> Option<Self> {
        let nonce = Self(u64::from_str_radix(digits, 16).ok()?);
        // In one way only, so that a damaged one shows.
        (nonce.to_string() == digits).then_some(nonce)
    }

    /// That of a chunk with this content.
    #[must_use]
    pub fn of_chunk(mut records: &[u8]) -> Option<Self> {
        let first = Raw::take(&mut records)?;
        let body = first.body.try_into().ok()?;
        (first.opcode == OPCODE).then_some(Self(u64::from_le_bytes(body)))
    }
}

impl fmt::Display for FileNonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Default for FileNonce {
    fn default() -> Self {
        Self::new()
    }
}

/// What a header names as its library: the version of this program, and the nonce of the file if it has one.
#[must_use]
pub(crate) fn library(nonce: Option<FileNonce>) -> String {
    let version = env!("CARGO_PKG_VERSION");
    match nonce {
        Some(nonce) => format!("{LIBRARY}{version}+{nonce}"),
        None => format!("{LIBRARY}{version}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_read_back_and_is_no_other() {
        let nonce = FileNonce::new();
        assert_ne!(nonce, FileNonce::new());
        assert_eq!(FileNonce::of_library(&library(Some(nonce))), Some(nonce));
        assert_eq!(FileNonce::of_library(&library(None)), None);
        let mut record = vec![OPCODE, 8, 0, 0, 0, 0, 0, 0, 0];
        record.extend(nonce.body());
        assert_eq!(FileNonce::of_chunk(&record), Some(nonce));
        record[0] += 1;
        assert_eq!(FileNonce::of_chunk(&record), None);
    }
}
