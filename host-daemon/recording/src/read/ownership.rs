//! Decides which chunks of a file are its own, and which are payload that looks like a chunk: [`Ownership::admits`].
//!
//! A device may send any bytes, including whole recordings, so the number of chunks is not evidence. Only two things
//! are, because a device cannot write them: the name of the file, and its first [`ROOT_LEN`] bytes, which end before
//! the first payload. The following nonces are admitted, in this order:
//!
//! 1. The nonce in the name of the file.
//! 2. If the name has none: the nonce in the header of the file, even if a few of its digits are damaged.
//! 3. If the header is lost: the nonce of the first chunk.
//! 4. If that is lost too: none. The file is kept unchanged.

use mcap::records::Header;

use crate::error::Error;
use crate::format::chunk;
use crate::format::encode::record;
use crate::format::filename;
use crate::format::nonce::{self, FileNonce, is_near_library};
use crate::read::window::WindowedFile;

/// Bytes at the beginning of a file that cannot contain payload. Header, prefix of the first chunk and its nonce take
/// at least 121 bytes, and the record of a channel comes before the first message.
pub(crate) const ROOT_LEN: usize = 128;
/// Hexadecimal digits of the nonce in the header.
const DIGITS: usize = 16;
/// Digits that must agree. A nonce that was chosen without knowing the one in the header agrees in this many digits
/// with a probability of 1e-13.
const DIGITS_MIN: usize = 13;
/// Latest end of the header's text: it is preceded by magic, record prefix, two lengths and a version of up to 16
/// bytes.
const TEXT_END: usize = 72;

/// What is known about the nonce of one file.
#[derive(Debug, Default)]
pub(crate) struct Ownership {
    named: Option<FileNonce>,
    /// The first [`ROOT_LEN`] bytes.
    beginning: Vec<u8>,
    /// Nonces of chunks that begin there, compressed or not.
    first: Vec<FileNonce>,
    /// The header is whole and contains no nonce.
    header_has_none: bool,
    /// The header is that of another program, although it may contain digits that look like a nonce.
    header_is_foreign: bool,
    /// The nonce of the first admitted chunk.
    settled: Option<Option<FileNonce>>,
}

impl Ownership {
    /// Reads the evidence of a file: its name and its beginning.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub(crate) fn of(input: &mut WindowedFile) -> Result<Self, Error> {
        let name = input.path().file_name().unwrap_or_default();
        let named = name.to_str().and_then(filename::nonce);
        let bytes = input.at(0, ROOT_LEN + chunk::HEAD_MAX)?;
        let beginning = bytes.get(..ROOT_LEN).unwrap_or(bytes).to_vec();
        // The prefix of the first chunk may be lost while its content is not.
        let starts = 0..beginning.len();
        let first = starts.filter_map(|at| first_nonce(bytes.get(at..)?, beginning.len() - at));
        let first = first.collect();
        Ok(Self {
            named,
            beginning,
            first,
            ..Self::default()
        })
    }

    /// Evaluates a parsed header. The header has no CRC, so it proves that chunks have no nonce only if its text shows
    /// no damage.
    pub(crate) fn header(&mut self, header: &Header) {
        let texts = [&header.library, &header.profile];
        let all = |is: fn(char) -> bool| texts.iter().all(|text| text.chars().all(is));
        let is_near = is_near_library(header.library.as_bytes()) || is_near_library(self.text());
        // Other programs may use other letters.
        let is_other = !is_near && all(|letter| letter != '\0');
        let text = header.library.as_bytes();
        let end = text.len().saturating_sub(DIGITS);
        let digits = text.get(end..).unwrap_or_default();
        let is_digit = |byte: &&u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let has_digits = DIGITS_MIN <= digits.iter().filter(is_digit).count();
        let is_whole = is_other || all(|letter| matches!(letter, ' '..='~'));
        self.header_has_none = is_whole && !has_digits;
        self.header_is_foreign = is_other;
    }

    /// Whether a chunk at `offset` belongs to the file, given its nonce. Its CRC must be correct.
    #[must_use]
    pub(crate) fn admits(&self, nonce: Option<FileNonce>, offset: u64) -> bool {
        if let Some(named) = self.named {
            return nonce == Some(named);
        }
        if let Some(settled) = self.settled {
            return nonce == settled;
        }
        if self.has_text() {
            return nonce.is_some_and(|nonce| self.has_digits(nonce));
        }
        let is_first = |nonce| self.first.contains(&nonce) || self.has_digits(nonce);
        offset < ROOT_LEN as u64 || nonce.map_or(self.header_has_none, is_first)
    }

    /// Whether the chunks may have no nonce, as far as the header says. This admits the first chunk if nothing before it
    /// was lost.
    #[must_use]
    pub(crate) const fn may_have_none(&self) -> bool {
        self.header_is_foreign && self.named.is_none() && self.settled.is_none()
    }

    /// Records the nonce of an admitted chunk. All others must have the same.
    pub(crate) fn settle(&mut self, nonce: Option<FileNonce>) {
        self.settled = Some(nonce);
    }

    /// Whether the file's chunks have a nonce, so that payload is never accepted as a chunk.
    #[must_use]
    pub(crate) fn has_nonce(&self) -> bool {
        match self.settled {
            _ if self.named.is_some() => true,
            Some(settled) => settled.is_some(),
            None => !self.header_has_none,
        }
    }

    /// Whether no nonce is known yet, so that only chunks with a nonce from the beginning of the file are admitted.
    #[must_use]
    pub(crate) const fn is_unknown(&self) -> bool {
        self.named.is_none() && self.settled.is_none() && !self.header_has_none
    }

    /// Whether the header contains the text of a nonce, as this library writes it, in readable digits.
    #[must_use]
    pub(crate) fn has_text(&self) -> bool {
        let is_digit = |byte: &&u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let is_mark = |window: &[u8]| DIGITS_MIN <= window.iter().filter(is_digit).count();
        let text = self.text();
        is_near_library(text) && text.windows(DIGITS).any(is_mark)
    }

    /// Returns the part of the beginning that may contain the header's text. What follows may be the header of another
    /// file.
    fn text(&self) -> &[u8] {
        self.beginning.get(..TEXT_END).unwrap_or(&self.beginning)
    }

    /// Returns the nonce of the file, if it is known.
    #[must_use]
    pub(crate) fn nonce(&self) -> Option<FileNonce> {
        self.named.or_else(|| self.settled.flatten())
    }

    /// Whether the header contains the digits of this nonce, except for a few damaged ones.
    fn has_digits(&self, nonce: FileNonce) -> bool {
        let digits = nonce.to_string();
        let is_near = |window: &[u8]| {
            let pairs = window.iter().zip(digits.bytes());
            DIGITS_MIN <= pairs.filter(|(have, want)| *have == want).count()
        };
        self.text().windows(DIGITS).any(is_near)
    }
}

/// Returns the nonce of a chunk whose content begins here, if the beginning is within the first `len` bytes.
fn first_nonce(content: &[u8], len: usize) -> Option<FileNonce> {
    let begins = |magic: &[u8]| content.starts_with(magic) && magic.len() <= len;
    let name = match () {
        () if begins(&chunk::ZSTD_MAGIC) => "zstd",
        () if begins(&chunk::LZ4_MAGIC) => "lz4",
        () if begins(record(nonce::OPCODE, &[0; 8]).get(..9)?) && 17 <= len => "",
        () => return None,
    };
    chunk::nonce_of_content(name, content)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ownership(name: Option<FileNonce>, beginning: &[u8]) -> Ownership {
        Ownership {
            named: name,
            beginning: beginning.to_vec(),
            ..Ownership::default()
        }
    }

    #[test]
    fn the_name_takes_precedence() {
        let (own, other) = (FileNonce::new(), FileNonce::new());
        let mut ownership = ownership(Some(own), other.to_string().as_bytes());
        assert!(ownership.admits(Some(own), 1000) && !ownership.admits(Some(other), 1000));
        assert!(!ownership.admits(Some(other), 0) && !ownership.admits(None, 0));
        ownership.settle(Some(own));
        assert_eq!(ownership.nonce(), Some(own));
    }

    #[test]
    fn a_header_with_three_damaged_digits_is_evidence_but_not_with_four() {
        let (own, other) = (FileNonce::new(), FileNonce::new());
        let mut header = nonce::library(Some(own)).into_bytes();
        let len = header.len();
        header[len - 3..].fill(b'-');
        assert!(ownership(None, &header).admits(Some(own), 1000));
        assert!(!ownership(None, &header).admits(Some(other), 1000));
        header[len - 4..].fill(b'-');
        assert!(!ownership(None, &header).admits(Some(own), 1000));
    }

    #[test]
    fn a_damaged_header_does_not_prove_that_chunks_have_no_nonce() {
        let header = |library: &str| Header {
            profile: String::new(),
            library: library.to_owned(),
        };
        let admits_none = |library: &str| {
            let mut ownership = Ownership::default();
            ownership.header(&header(library));
            ownership.admits(None, 1000)
        };
        assert!(admits_none("blocksd 0.1.0") && admits_none("python mcap 1.2.3"));
        assert!(admits_none("регистратор 1.0\n"));
        assert!(!admits_none("blocksd 0.1.0+0123456789abcdef"));
        assert!(!admits_none("blocksd 0.1.0k0123456789abcdeZ"));
        assert!(!admits_none("blocksd 0.1\0\0\0"));
    }
}
