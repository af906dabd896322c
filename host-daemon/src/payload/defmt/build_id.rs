//! The build id of a firmware image, which its linker generates: [`BuildId`].

use std::fmt;

use crate::payload::defmt::rzcobs;

/// Length of the header of a note.
const HEADER_LEN: usize = 16;
/// Maximum length of an id, in bytes. Linkers generate up to 20, or as many as they are given.
const ID_MAX: usize = 64;
/// Maximum number of zeros after a note: its padding, and the padding of rzCOBS.
const PADDING_MAX: usize = 9;
/// The third to sixth byte of a note that is encoded as rzCOBS: two markers of zeros, the type of the note, and `GN`.
const ENCODED: &[u8] = b"\x6e\x03GN";
/// Maximum length of an encoded note.
const ENCODED_MAX: usize = 2 * (HEADER_LEN + ID_MAX);

/// A build id: the content of a note of type 3 of `GNU`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct BuildId(Box<[u8]>);

impl BuildId {
    /// An id, if it has a valid length.
    pub(super) fn new(id: &[u8]) -> Option<Self> {
        (1..=ID_MAX).contains(&id.len()).then(|| Self(id.into()))
    }

    /// The id in a message that is a copy of the section `.note.gnu.build-id`, also if that is encoded as rzCOBS.
    pub(super) fn of_message(message: &[u8]) -> Option<Self> {
        if let Some(id) = Self::of_note(message) {
            return Some(id);
        }
        let encoded = rzcobs::trim(message);
        let is_note = encoded.get(2..).is_some_and(|it| it.starts_with(ENCODED));
        if !is_note || ENCODED_MAX < encoded.len() {
            return None;
        }
        Self::of_note(&rzcobs::decode(encoded).ok()?)
    }

    /// The id in a note of a little-endian machine.
    fn of_note(note: &[u8]) -> Option<Self> {
        let (header, rest) = note.split_at_checked(HEADER_LEN)?;
        let mut len = [0; 4];
        len.copy_from_slice(header.strip_prefix(b"\x04\0\0\0")?.get(..4)?);
        if header.get(8..)? != b"\x03\0\0\0GNU\0" {
            return None;
        }
        let len = usize::try_from(u32::from_le_bytes(len)).ok()?;
        let (id, padding) = rest.split_at_checked(len)?;
        if PADDING_MAX < padding.len() || padding.iter().any(|byte| *byte != 0) {
            return None;
        }
        Self::new(id)
    }
}

/// In hexadecimal.
impl fmt::Display for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(len: u8) -> Vec<u8> {
        let mut note = b"\x04\0\0\0\0\0\0\0\x03\0\0\0GNU\0".to_vec();
        note[4] = len;
        note.extend((0..len).map(|byte| byte.wrapping_add(0xa0)));
        note
    }

    #[test]
    fn a_note_has_an_id_and_anything_else_has_none() {
        for len in [1, 8, 16, 20, 64] {
            let note = note(len);
            let id = BuildId::of_message(&note).expect("an id");
            assert_eq!(id, BuildId::new(&note[16..]).expect("an id"));
            assert_eq!(id.to_string().len(), 2 * usize::from(len));
            // Padded to a multiple of four.
            assert_eq!(
                BuildId::of_message(&[&note[..], &[0; 3]].concat()),
                Some(id)
            );
            assert_eq!(BuildId::of_message(&note[..note.len() - 1]), None);
            assert_eq!(BuildId::of_message(&[&note[..], &[1]].concat()), None);
            assert_eq!(BuildId::of_message(&[&note[..], &[0; 10]].concat()), None);
            for at in (0..4).chain(8..16) {
                let mut other = note.clone();
                other[at] ^= 1;
                assert_eq!(BuildId::of_message(&other), None, "byte {at}");
            }
        }
        assert_eq!(BuildId::of_message(&note(0)), None);
        assert_eq!(BuildId::of_message(&note(65)), None);
        assert_eq!(BuildId::of_message(b""), None);
    }

    #[test]
    fn an_encoded_note_has_its_id() {
        for len in [1, 8, 16, 20, 64] {
            let note = note(len);
            let encoded = rzcobs::tests::encode(&note);
            assert!(!encoded.contains(&0));
            for message in [
                encoded.clone(),
                [&encoded[..], &[0]].concat(),
                [&[0], &encoded[..], &[0]].concat(),
            ] {
                assert_eq!(BuildId::of_message(&message), BuildId::new(&note[16..]));
            }
        }
    }
}
