//! Private records about syncs, in the chunks of files with numbered channels: a [`VoidedFile`] names a file after whose
//! synced part nothing counts, and [`synced_record`] says how much of the file itself was synced.

use crate::format::encode::record;
use crate::format::nonce::FileNonce;
use crate::format::record::Raw;

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
pub(crate) const SESSION_KEY: &str = "session";
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
}

/// Encodes the record of a chunk that begins when `len` bytes of the file are synced.
#[must_use]
pub(crate) fn synced_record(len: u64) -> Vec<u8> {
    record(SYNCED, &len.to_le_bytes())
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
