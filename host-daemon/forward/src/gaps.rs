//! Which numbers of sessions have no message, as a recording says itself: [`SessionGaps`].

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use crate::confirm::NumberGap;

/// Number of sessions, half of those that are remembered at most.
const SESSIONS_MAX: usize = 1 << 17;

/// The gap after the last message of each session: numbers from one to before another, or the same one twice without a gap.
type Runs = HashMap<u64, (u64, u64)>;

/// The gaps of sessions that come right before their next messages.
///
/// Memory is bounded. Those of which nothing was read for long are forgotten, and are sessions then of which nothing was read before.
#[derive(Debug, Default)]
pub(crate) struct SessionGaps {
    young: Runs,
    old: Runs,
    hasher: RandomState,
}

impl SessionGaps {
    /// Notes a gap. `is_whole` says that nothing of the recording is lost: before the first message or gap that is read of a session,
    /// everything is settled then.
    pub(crate) fn note(&mut self, gap: &NumberGap, is_whole: bool) {
        let NumberGap {
            device,
            session,
            from,
            to,
        } = gap;
        let key = self.key(device, session);
        let begin = match self.take(key) {
            Some((begin, end)) if end == *from => begin,
            None if is_whole => 0,
            _ => *from,
        };
        self.insert(key, (begin, *to));
    }

    /// Takes the next message of a session. Returns the first of the numbers right before it that have no message, or its own number.
    pub(crate) fn before(
        &mut self,
        device: &str,
        session: &str,
        number: u64,
        is_whole: bool,
    ) -> u64 {
        let key = self.key(device, session);
        let begin = match self.take(key) {
            Some((begin, end)) if end == number => begin,
            None if is_whole => 0,
            _ => number,
        };
        // What follows is known from here on.
        self.insert(key, (0, 0));
        begin
    }

    fn key(&self, device: &str, session: &str) -> u64 {
        self.hasher.hash_one((device, session))
    }

    fn take(&mut self, key: u64) -> Option<(u64, u64)> {
        let young = self.young.remove(&key);
        young.or_else(|| self.old.remove(&key))
    }

    fn insert(&mut self, key: u64, run: (u64, u64)) {
        if SESSIONS_MAX <= self.young.len() {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, run);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICE: &str = "pump";

    /// Notes gaps, and takes messages.
    #[derive(Default)]
    struct Noted(SessionGaps);

    impl Noted {
        fn gap(&mut self, session: &str, from: u64, to: u64, is_whole: bool) {
            let gap = NumberGap {
                device: DEVICE.to_owned(),
                session: session.to_owned(),
                from,
                to,
            };
            self.0.note(&gap, is_whole);
        }

        fn message(&mut self, session: &str, number: u64, is_whole: bool) -> u64 {
            self.0.before(DEVICE, session, number, is_whole)
        }
    }

    #[test]
    fn gaps_that_end_at_a_message_come_before_it() {
        for is_whole in [false, true] {
            let mut noted = Noted::default();
            let first = match is_whole {
                true => 0,
                false => 5,
            };
            assert_eq!(noted.message("a", 5, is_whole), first);
            // Of two sessions of a device, in turns.
            noted.gap("a", 8, 10, is_whole);
            assert_eq!(noted.message("b", 10, false), 10);
            noted.gap("a", 10, 11, is_whole);
            assert_eq!(noted.message("b", 20, is_whole), 20);
            assert_eq!(noted.message("a", 11, is_whole), 8);
            assert_eq!(noted.message("a", 12, is_whole), 12);
            // Messages 13 to 20 are lost.
            noted.gap("a", 20, 22, is_whole);
            assert_eq!(noted.message("a", 22, is_whole), 20);
            noted.gap("a", 23, 30, is_whole);
            assert_eq!(noted.message("a", 40, is_whole), 40);
            // They are taken again, from 13 on.
            noted.gap("a", 41, 45, is_whole);
            assert_eq!(noted.message("a", 13, is_whole), 13);
            assert_eq!(noted.message("a", 45, is_whole), 45);
        }
    }

    #[test]
    fn before_the_first_gap_of_a_whole_recording_everything_is_settled() {
        let mut noted = Noted::default();
        noted.gap("a", 8, 10, true);
        noted.gap("b", 8, 10, false);
        assert_eq!(noted.message("a", 10, true), 0);
        assert_eq!(noted.message("b", 10, true), 8);
    }

    #[test]
    fn sessions_of_which_nothing_was_read_for_long_are_forgotten() {
        let mut noted = Noted::default();
        noted.message("a", 0, false);
        noted.gap("a", 5, 7, false);
        noted.gap("b", 5, 7, false);
        for number in 0..2 * SESSIONS_MAX {
            if number % 1000 == 0 {
                noted.gap("b", 7 + number as u64, 7 + number as u64 + 1000, false);
            }
            noted.message(&number.to_string(), 0, false);
        }
        assert!(noted.0.young.len() + noted.0.old.len() <= 2 * SESSIONS_MAX);
        assert_eq!(noted.message("a", 7, false), 7);
        let end = 7 + (2 * SESSIONS_MAX as u64).next_multiple_of(1000);
        assert_eq!(noted.message("b", end, false), 5);
    }
}
