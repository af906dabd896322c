//! The numbers that a stream has given to messages of this recording, and the lengths of those: [`Given`]. A stream that has lost
//! messages gives their numbers again.

use std::collections::BTreeMap;

use crate::cursor::Newest;

/// Largest number of messages that are remembered: more than are acknowledged while an answer may be late.
const GIVEN_MAX: usize = 1 << 14;

/// The messages with the highest sequence numbers.
#[derive(Debug, Default)]
pub(super) struct Given {
    messages: BTreeMap<u64, One>,
}

/// A message.
#[derive(Debug)]
struct One {
    nonce: u64,
    /// Bytes of an answer with it, if they are known.
    answer_len: Option<usize>,
}

impl Given {
    /// Notes a message that the stream has acknowledged or shown. Returns false if it has given the number to another one before.
    pub(super) fn note(&mut self, message: Newest) -> bool {
        let one = self.messages.entry(message.sequence).or_insert(One {
            nonce: message.nonce,
            answer_len: None,
        });
        let is_first = one.nonce == message.nonce;
        if GIVEN_MAX < self.messages.len() {
            self.messages.pop_first();
        }
        is_first
    }

    /// Notes the bytes of an answer with the message that has this number.
    pub(super) fn measure(&mut self, sequence: u64, answer_len: usize) {
        if let Some(one) = self.messages.get_mut(&sequence) {
            one.answer_len = Some(answer_len);
        }
    }

    /// Bytes of an answer with the message that has this number, if they are known.
    pub(super) fn answer_len(&self, sequence: u64) -> Option<usize> {
        self.messages.get(&sequence)?.answer_len
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
        assert_eq!(given.messages.len(), GIVEN_MAX);
    }
}
