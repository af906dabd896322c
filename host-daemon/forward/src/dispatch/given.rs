//! The numbers that a stream has given to messages of this recording: [`Given`]. A stream that has lost messages gives their numbers
//! again.

use std::collections::BTreeMap;

use crate::cursor::Newest;

/// Largest number of messages that are remembered: more than are acknowledged while an answer may be late.
const GIVEN_MAX: usize = 1 << 14;

/// The messages with the highest sequence numbers.
#[derive(Debug, Default)]
pub(super) struct Given {
    nonces: BTreeMap<u64, u64>,
}

impl Given {
    /// Notes a message that the stream has acknowledged or shown. Returns false if it has given the number to another one before.
    pub(super) fn note(&mut self, message: Newest) -> bool {
        let nonce = *self.nonces.entry(message.sequence).or_insert(message.nonce);
        if GIVEN_MAX < self.nonces.len() {
            self.nonces.pop_first();
        }
        nonce == message.nonce
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_belongs_to_one_message() {
        let mut given = Given::default();
        let mut note = |sequence, nonce| given.note(Newest { sequence, nonce });
        assert!(note(5, 1) && note(7, 2) && note(6, 3));
        assert!(note(5, 1) && note(7, 2));
        assert!(!note(5, 2) && !note(6, 1));
        // Old ones are forgotten.
        for sequence in 8..8 + GIVEN_MAX as u64 {
            assert!(note(sequence, 4));
        }
        assert!(note(7, 9) && !note(9, 9));
        assert_eq!(given.nonces.len(), GIVEN_MAX);
    }
}
