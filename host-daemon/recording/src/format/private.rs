//! Private records about syncs, in the chunks of files with numbered channels: a [`VoidedFile`] names a file after whose
//! synced part nothing counts, and [`synced_record`] says how much of the file itself was synced.

use mcap::records::Channel;

use crate::format::encode::record;
use crate::format::nonce::{self, FileNonce};
use crate::format::record::{Raw, SESSIONS_TOPIC};

/// Opcode of a record in the first chunk of a file that names an earlier file. Its body holds the nonce of that file, and its
/// synced length, 64 bits each.
pub(crate) const VOID: u8 = 0xb9;
/// Length of the body of a [`VOID`] record, in bytes.
pub(crate) const VOID_LEN: usize = 16;

/// Opcode of a record with the length of the file that was known to be synced when the chunk was begun, 64 bits.
pub(crate) const SYNCED: u8 = 0xba;
/// Length of the body of a [`SYNCED`] record, in bytes.
pub(crate) const SYNCED_LEN: usize = 8;

/// Key in the metadata of a numbered channel: the session whose messages it has, 16 hexadecimal digits.
pub const SESSION_KEY: &str = "session";
/// Key in the metadata of a numbered channel: the decimal number of its first message in the file.
pub const FIRST_KEY: &str = "first";

/// Whether the messages of a channel have the numbers of a session, or are entries about sessions. A repair sets those aside
/// that no commit confirmed.
#[must_use]
pub(crate) fn is_numbered(channel: &Channel) -> bool {
    channel.metadata.contains_key(SESSION_KEY) || channel.topic == SESSIONS_TOPIC
}

/// A file that a failed sync made void.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct VoidedFile {
    /// Its nonce.
    pub nonce: FileNonce,
    /// Length in bytes that was synced before the failure. Numbered messages from there on do not count.
    pub synced_len: u64,
}

impl VoidedFile {
    /// Encodes its record.
    #[must_use]
    pub(crate) fn record(&self) -> Vec<u8> {
        let body = [self.nonce.body(), self.synced_len.to_le_bytes()];
        record(VOID, body.as_flattened())
    }

    fn parse(body: &[u8]) -> Option<Self> {
        let (nonce, rest) = body.split_first_chunk()?;
        let synced_len = u64::from_le_bytes(*rest.first_chunk()?);
        let nonce = FileNonce::of_body(*nonce);
        Some(Self { nonce, synced_len })
    }

    /// Parses the records at the beginning of the first chunk of a file.
    pub(crate) fn of_chunk(records: &[u8]) -> impl Iterator<Item = Self> {
        let voids = head_records(records).filter(|raw| raw.opcode == VOID);
        voids.filter_map(|raw| Self::parse(raw.body))
    }
}

/// Encodes the record of a chunk that begins when `len` bytes of the file are synced.
#[must_use]
pub(crate) fn synced_record(len: u64) -> Vec<u8> {
    record(SYNCED, &len.to_le_bytes())
}

/// Returns the length of the file that was synced when a chunk with these records was begun, if it says so.
#[must_use]
pub(crate) fn synced_len(records: &[u8]) -> Option<u64> {
    let raw = head_records(records).find(|raw| raw.opcode == SYNCED)?;
    Some(u64::from_le_bytes(*raw.body.first_chunk()?))
}

/// Whether a record of this type may only follow the nonce of a chunk.
#[must_use]
pub(crate) const fn is_private(opcode: u8) -> bool {
    matches!(opcode, VOID | SYNCED)
}

/// Whether a record of this module has its length.
#[must_use]
pub(crate) const fn is_sound(raw: &Raw<'_>) -> bool {
    match raw.opcode {
        VOID => raw.body.len() == VOID_LEN,
        _ => raw.body.len() == SYNCED_LEN,
    }
}

/// The records of this module at the beginning of a chunk, after its nonce. None if it has no nonce: such records are those
/// of another program.
fn head_records(mut records: &[u8]) -> impl Iterator<Item = Raw<'_>> {
    let is_ours = FileNonce::of_chunk(records).is_some();
    std::iter::from_fn(move || Raw::take(&mut records).filter(|_| is_ours))
        .take_while(|raw| raw.opcode == nonce::OPCODE || is_private(raw.opcode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_at_the_beginning_of_a_chunk_with_a_nonce_only() {
        let own = record(nonce::OPCODE, &FileNonce::new().body());
        let void = |synced_len| VoidedFile {
            nonce: FileNonce::new(),
            synced_len,
        };
        let (one, other) = (void(7), void(u64::MAX));
        let head = [one.record(), other.record(), synced_record(9)].concat();
        let whole = [own.as_slice(), &head].concat();
        let of = |records: &[u8]| VoidedFile::of_chunk(records).collect::<Vec<_>>();
        assert_eq!(of(&whole), [one, other]);
        assert_eq!(synced_len(&whole), Some(9));
        assert_eq!((of(&head), synced_len(&head)), (vec![], None));
        let message = record(mcap::records::op::MESSAGE, &[0; 22]);
        let late = [own, message, head].concat();
        assert_eq!((of(&late), synced_len(&late)), (vec![], None));
    }
}
