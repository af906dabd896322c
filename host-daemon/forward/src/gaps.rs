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
/// Memory is bounded: those of which nothing was read for long are forgotten.
#[derive(Debug, Default)]
pub(crate) struct SessionGaps {
    young: Runs,
    old: Runs,
    hasher: RandomState,
}

impl SessionGaps {
    /// Notes a gap.
    pub(crate) fn note(&mut self, gap: &NumberGap) {
        let NumberGap {
            device,
            session,
            from,
            to,
        } = gap;
        let key = self.key(device, session);
        let begin = match self.take(key) {
            Some((begin, end)) if end == *from => begin,
            _ => *from,
        };
        self.insert(key, (begin, *to));
    }

    /// Takes the next message of a session. Returns the first of the numbers right before it that have no message, or its own number.
    pub(crate) fn before(&mut self, device: &str, session: &str, number: u64) -> u64 {
        let key = self.key(device, session);
        let begin = match self.take(key) {
            Some((begin, end)) if end == number => begin,
            _ => number,
        };
        // What follows is known from here on.
        self.insert(key, (0, 0));
        begin
    }

    /// The gap after the last message of a session, if there is one.
    pub(crate) fn last(&self, device: &str, session: &str) -> Option<(u64, u64)> {
        let key = self.key(device, session);
        let run = self.young.get(&key).or_else(|| self.old.get(&key))?;
        (run.0 < run.1).then_some(*run)
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

    fn gap(session: &str, from: u64, to: u64) -> NumberGap {
        NumberGap {
            device: DEVICE.to_owned(),
            session: session.to_owned(),
            from,
            to,
        }
    }

    #[test]
    fn gaps_that_end_at_a_message_come_before_it() {
        let mut gaps = SessionGaps::default();
        assert_eq!(gaps.before(DEVICE, "a", 5), 5);
        assert_eq!(gaps.last(DEVICE, "a"), None);
        // Of two sessions of a device, in turns.
        gaps.note(&gap("a", 8, 10));
        assert_eq!(gaps.before(DEVICE, "b", 10), 10);
        gaps.note(&gap("a", 10, 11));
        assert_eq!(gaps.before(DEVICE, "b", 20), 20);
        assert_eq!(gaps.last(DEVICE, "a"), Some((8, 11)));
        assert_eq!(gaps.before(DEVICE, "a", 11), 8);
        assert_eq!(gaps.before(DEVICE, "a", 12), 12);
        // Messages 13 to 20 are lost.
        gaps.note(&gap("a", 20, 22));
        assert_eq!(gaps.before(DEVICE, "a", 22), 20);
        gaps.note(&gap("a", 23, 30));
        assert_eq!(gaps.before(DEVICE, "a", 40), 40);
        // They are taken again, from 13 on.
        gaps.note(&gap("a", 41, 45));
        assert_eq!(gaps.before(DEVICE, "a", 13), 13);
        assert_eq!(gaps.before(DEVICE, "a", 45), 45);
    }

    #[test]
    fn sessions_of_which_nothing_was_read_for_long_are_forgotten() {
        let mut gaps = SessionGaps::default();
        gaps.before(DEVICE, "a", 0);
        gaps.note(&gap("a", 5, 7));
        gaps.note(&gap("b", 5, 7));
        for number in 0..2 * SESSIONS_MAX as u64 {
            if number % 1000 == 0 {
                gaps.note(&gap("b", 7 + number, 7 + number + 1000));
            }
            gaps.before(DEVICE, &number.to_string(), 0);
        }
        assert!(gaps.young.len() + gaps.old.len() <= 2 * SESSIONS_MAX);
        assert_eq!(gaps.before(DEVICE, "a", 7), 7);
        let end = 7 + (2 * SESSIONS_MAX as u64).next_multiple_of(1000);
        assert_eq!(gaps.before(DEVICE, "b", end), 5);
    }
}
