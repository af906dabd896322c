//! The nonce of a file: a [`FileNonce`]. Every chunk of the file repeats it, so that payload bytes that look like a
//! chunk are never accepted when a damaged file is searched.

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};

use crate::format::record::Raw;

/// The beginning of the library field in the header of files that this crate writes.
pub(crate) const LIBRARY: &str = "blocksd ";

/// Bytes of [`LIBRARY`] that must agree in a damaged header.
const LIBRARY_MIN: usize = 6;

/// Opcode of the record with the nonce. MCAP reserves such opcodes for private use, and readers skip them.
pub(crate) const OPCODE: u8 = 0xb5;

/// A random number of 64 bits that identifies a file. It must be unpredictable for devices, so each file gets a new
/// one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileNonce(u64);

impl FileNonce {
    /// Creates a random nonce.
    #[must_use]
    pub fn new() -> Self {
        // `RandomState` is seeded randomly by the system, and differs for each instance.
        Self(RandomState::new().build_hasher().finish())
    }

    /// Returns the body of the record with the nonce.
    #[must_use]
    pub const fn body(self) -> [u8; 8] {
        self.0.to_le_bytes()
    }

    /// Parses the body of a record with the nonce.
    #[must_use]
    pub(crate) const fn of_body(body: [u8; 8]) -> Self {
        Self(u64::from_le_bytes(body))
    }

    /// Parses the nonce from the library field of a file header.
    #[must_use]
    pub fn of_library(library: &str) -> Option<Self> {
        let (_, nonce) = library.strip_prefix(LIBRARY)?.split_once('+')?;
        Self::of_digits(nonce)
    }

    /// Parses 16 hexadecimal digits in lower case.
    #[must_use]
    pub fn of_digits(digits: &str) -> Option<Self> {
        let nonce = Self(u64::from_str_radix(digits, 16).ok()?);
        // Accept one spelling only, so that damage is detected.
        (nonce.to_string() == digits).then_some(nonce)
    }

    /// Parses the nonce from the content of a chunk.
    #[must_use]
    pub fn of_chunk(mut records: &[u8]) -> Option<Self> {
        let first = Raw::take(&mut records)?;
        let body = first.body.try_into().ok()?;
        (first.opcode == OPCODE).then_some(Self::of_body(body))
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

/// Returns the library field of a header: the version of this crate, and the nonce if there is one.
#[must_use]
pub(crate) fn library(nonce: Option<FileNonce>) -> String {
    let version = env!("CARGO_PKG_VERSION");
    match nonce {
        Some(nonce) => format!("{LIBRARY}{version}+{nonce}"),
        None => format!("{LIBRARY}{version}"),
    }
}

/// Whether the text contains the name of this library, even if a few bytes are damaged.
#[must_use]
pub(crate) fn is_near_library(text: &[u8]) -> bool {
    let is_near = |window: &[u8]| {
        let pairs = window.iter().zip(LIBRARY.bytes());
        LIBRARY_MIN <= pairs.filter(|(have, want)| *have == want).count()
    };
    text.windows(LIBRARY.len()).any(is_near)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_parsed_from_header_and_chunk() {
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
