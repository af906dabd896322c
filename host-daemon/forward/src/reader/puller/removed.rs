//! Finds out that a limit or a purge has removed messages before they were read: [`Removals`].
//!
//! Numbers are missing for other reasons, too: messages of others, and those that were removed before or after they were read. So
//! the messages are counted that the server says are to come.

use async_nats::jetstream::stream::State;

use crate::reader::puller::{Pulled, Puller};
use crate::reader::{Begin, ReadError};
use crate::stream::Stream as _;

/// Messages that were removed before they were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::reader) struct Removed {
    /// The sequence number of the first one, or one before it.
    pub(in crate::reader) first: u64,
    /// That of the last one, or one after it.
    pub(in crate::reader) last: u64,
    /// How many there are at least.
    pub(in crate::reader) count: u64,
}

/// What was to come, and what came.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Removals {
    /// The messages up to the end that were there at some time, at least, with those that have come.
    expected: u64,
    /// Those that have come.
    passed: u64,
    /// Those that came last, or are to come, as the server says.
    pending: Option<u64>,
    /// The sequence number after the last one that came.
    next: Option<u64>,
    /// The messages of the whole stream at the beginning, and its last sequence number then.
    had: Option<(u64, u64)>,
    /// The missing sequence numbers, and those between them, unless the server says that no message was there.
    missing: Option<(u64, u64)>,
}

impl Removals {
    /// Notes that a consumer has so many messages from there on, and so many of them are perhaps after the end.
    pub(super) fn begin(&mut self, from: Option<u64>, pending: u64, after_end: u64) {
        let expected = self.passed + pending.saturating_sub(after_end);
        self.expected = self.expected.max(expected);
        // One that lags knows less.
        self.pending = self.pending.max(Some(pending));
        self.next = self.next.or(from);
    }

    /// Notes a message, and how many come after it. Returns those that were removed before it.
    pub(super) fn pass(&mut self, sequence: u64, pending: Option<u64>) -> Option<Removed> {
        let before = std::mem::replace(&mut self.pending, pending);
        let next = self.next.replace(sequence + 1);
        self.passed += 1;
        let next = next.filter(|next| *next < sequence)?;
        let (before, after) = (before.unwrap_or(u64::MAX), pending.unwrap_or_default());
        if before == after.saturating_add(1) {
            return None;
        }
        let last = sequence - 1;
        let first = self.missing.map_or(next, |(first, _)| first);
        self.missing = Some((first, last));
        let count = before.saturating_sub(after).saturating_sub(1);
        (count != 0 && before != u64::MAX).then_some(Removed {
            first: next,
            last,
            count,
        })
    }

    /// Those that were removed before they were read, up to the end, if the whole stream now has so many messages up to this one.
    fn at_end(&self, end: u64, messages: u64, last: u64) -> Option<Removed> {
        let (had, last_then) = self.had?;
        let removed = (had + last.saturating_sub(last_then)).saturating_sub(messages);
        let count = self.expected.saturating_sub(self.passed).min(removed);
        let rest = self.next.filter(|next| *next <= end);
        let (first, last) = match (self.missing, rest) {
            (Some((first, _)), Some(_)) => (first, end),
            (Some(missing), None) => missing,
            (None, Some(next)) => (next, end),
            (None, None) => return None,
        };
        (count != 0).then_some(Removed { first, last, count })
    }
}

impl Removed {
    /// Those of them that were at the beginning of the stream, where limits and purges remove.
    fn before(self, first: u64) -> Option<Self> {
        let last = self.last.min(first.saturating_sub(1));
        let count = self.count.min((last + 1).saturating_sub(self.first));
        (self.first <= last).then_some(Self {
            last,
            count,
            ..self
        })
    }
}

impl Puller {
    /// Notes how many messages a new consumer has. The stream was in this state before.
    pub(super) async fn note_pending(
        &mut self,
        stream: &State,
        pending: u64,
    ) -> Result<(), ReadError> {
        if self.filters.len() != 1 && !self.nats.settling().is_zero() {
            // Old servers know one filter only, and count the messages of other subjects, too.
            return Ok(());
        }
        let first = stream.first_sequence;
        let from = match self.begin {
            Begin::First => Some(first),
            Begin::Sequence(sequence) => Some(sequence.max(first)),
            Begin::Stored(_) => None,
            Begin::LastOfEach => return Ok(()),
        };
        let after_end = match self.end {
            Some(end) => {
                let last = self.nats.led().await?.state.last_sequence;
                last.saturating_sub(end)
            }
            None => 0,
        };
        let had = (stream.messages, stream.last_sequence);
        self.removals.had.get_or_insert(had);
        self.removals.begin(from, pending, after_end);
        Ok(())
    }

    /// Whether the beginning of the stream has overtaken a reader without an end.
    pub(super) async fn overtaken(&self, removed: Removed) -> Option<Removed> {
        if self.end.is_some() || self.removals.had.is_none() {
            // It says so at the end, or does not count.
            return None;
        }
        // Without an answer, what was printed is still right.
        let leader = self.nats.led().await.ok()?;
        removed.before(leader.state.first_sequence)
    }

    /// The end, or before it what was removed before it was read.
    pub(super) async fn end(&mut self) -> Result<Pulled, ReadError> {
        self.has_ended = true;
        let is_short = self.removals.passed < self.removals.expected;
        let Some(end) = self.end.filter(|_| is_short) else {
            return Ok(Pulled::End);
        };
        let now = self.nats.led().await?.state;
        let removed = self.removals.at_end(end, now.messages, now.last_sequence);
        Ok(removed.map_or(Pulled::End, Pulled::Removed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Option<u64> = Some(1);

    fn removed(first: u64, last: u64, count: u64) -> Option<Removed> {
        Some(Removed { first, last, count })
    }

    /// What was to come of a stream of that many messages.
    fn begun(messages: u64, pending: u64, after_end: u64) -> Removals {
        let mut removals = Removals {
            had: Some((messages, messages)),
            ..Removals::default()
        };
        removals.begin(FIRST, pending, after_end);
        removals
    }

    #[test]
    fn what_is_missing_is_counted() {
        let mut all = begun(10, 10, 0);
        assert_eq!(all.pass(1, Some(9)), None);
        // 2 to 6 were removed, and 1 perhaps.
        assert_eq!(all.pass(7, Some(3)), removed(2, 6, 5));
        let left = [3, 4].map(|it| all.at_end(10, it, 10));
        assert_eq!(left, [removed(2, 10, 7), removed(2, 10, 6)]);
        for sequence in 8..=10 {
            assert_eq!(all.pass(sequence, Some(10 - sequence)), None);
        }
        for (messages, last) in [(4, 10), (5, 10), (8, 13)] {
            assert_eq!(all.at_end(10, messages, last), removed(2, 6, 5));
        }
        // The server was wrong, since the stream has all.
        assert_eq!(all.at_end(10, 10, 10), None);
    }

    #[test]
    fn what_the_stream_begins_after_was_removed() {
        let all = removed(2, 6, 5).unwrap();
        assert_eq!((all.before(2), all.before(4)), (None, removed(2, 3, 2)));
        assert_eq!(all.before(7), Some(all));
    }

    #[test]
    fn missing_numbers_of_other_messages_are_none() {
        let mut filtered = begun(30, 3, 0);
        let passed = [(4, 2), (9, 1), (20, 0)].map(|(it, left)| filtered.pass(it, Some(left)));
        // All were removed after they were read.
        assert_eq!((passed, filtered.at_end(30, 0, 30)), ([None; 3], None));
        // The last one was removed.
        let mut filtered = begun(30, 3, 0);
        let passed = [(4, 2), (9, 1)].map(|(it, left)| filtered.pass(it, Some(left)));
        assert_eq!(passed, [None; 2]);
        assert_eq!(filtered.at_end(30, 29, 30), removed(10, 30, 1));
    }

    #[test]
    fn new_messages_hide_none_from_a_reader_with_an_end() {
        // Two of them were stored after the end.
        let mut grows = begun(10, 12, 2);
        assert_eq!(grows.pass(1, Some(15)), None);
        assert_eq!(grows.pass(9, Some(20)), None);
        assert_eq!(grows.pass(10, Some(19)), None);
        assert_eq!(grows.at_end(10, 21, 29), removed(2, 8, 7));
    }

    #[test]
    fn another_consumer_goes_on_counting() {
        let mut all = begun(10, 10, 0);
        assert_eq!(all.pass(1, Some(9)), None);
        // Its server lags, or the messages were removed.
        all.begin(Some(2), 3, 0);
        assert_eq!(all.pass(8, Some(2)), removed(2, 7, 6));
        let passed = [(9, 1), (10, 0)].map(|(it, left)| all.pass(it, Some(left)));
        assert_eq!(
            (passed, all.at_end(10, 3, 10)),
            ([None; 2], removed(2, 7, 6))
        );
    }
}
