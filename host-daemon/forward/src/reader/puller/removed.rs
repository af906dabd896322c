//! Finds out that messages were removed before they were read: [`Removals`].
//!
//! Numbers are missing for other reasons, too: messages of others, and those that were removed before or after they were read. So
//! the messages are counted that the server says are to come. Counting begins with the first message: a stream at its limit
//! loses some at its beginning before that.

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
    /// The messages of the whole stream at the beginning, and its last sequence number then.
    had: Option<(u64, u64)>,
    /// Messages that were to come up to the end, at least, when the first one came.
    expected: Option<u64>,
    /// Messages that have come.
    passed: u64,
    /// Those after the last one that came, as the server says.
    pending: Option<u64>,
    /// The sequence number after it.
    next: Option<u64>,
    /// The missing sequence numbers, and those between them.
    absent: Option<(u64, u64)>,
    /// The same of those where the server says that messages were there.
    missing: Option<(u64, u64)>,
}

impl Removals {
    /// Notes the stream at the beginning.
    pub(super) fn begin(&mut self, stream: &State) {
        let had = (stream.messages, stream.last_sequence);
        self.had.get_or_insert(had);
    }

    /// Notes a message, and how many come after it. Returns those that were removed before it.
    pub(super) fn pass(&mut self, sequence: u64, pending: Option<u64>) -> Option<Removed> {
        let before = std::mem::replace(&mut self.pending, pending);
        let next = self.next.replace(sequence + 1);
        self.passed += 1;
        let next = next.filter(|next| *next < sequence)?;
        let last = sequence - 1;
        let extended =
            |range: Option<(u64, u64)>| Some((range.map_or(next, |(first, _)| first), last));
        self.absent = extended(self.absent);
        let (before, after) = (before.unwrap_or(u64::MAX), pending.unwrap_or_default());
        if before == after.saturating_add(1) {
            return None;
        }
        self.missing = extended(self.missing);
        let count = before.saturating_sub(after).saturating_sub(1);
        (count != 0 && before != u64::MAX).then_some(Removed {
            first: next,
            last,
            count,
        })
    }

    /// Whether messages up to the end did not come.
    const fn is_short(&self) -> bool {
        matches!(self.expected, Some(expected) if self.passed < expected)
    }

    /// Those that were removed before they were read, up to the end, if the whole stream now has this number of messages up to the last one.
    fn at_end(&self, end: u64, messages: u64, last: u64) -> Option<Removed> {
        let (had, last_then) = self.had?;
        let removed = (had + last.saturating_sub(last_then)).saturating_sub(messages);
        let count = self.expected?.saturating_sub(self.passed).min(removed);
        let rest = self.next.filter(|next| *next <= end);
        // Old servers count some of them as messages that came.
        let (first, last) = match (self.missing.or(self.absent), rest) {
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
    /// Begins to count with the first message. The server states the number of those that come after it.
    pub(super) async fn begin_count(&mut self, pending: u64) {
        let Some(end) = self.end.filter(|_| self.removals.expected.is_none()) else {
            return;
        };
        // The last messages of all subjects are others than those that come.
        let leader = match self.counts() && self.snapshot == 0 {
            true => self.nats.led().await.ok(),
            false => None,
        };
        let expected = leader.map(|it| {
            let after_end = it.state.last_sequence.saturating_sub(end);
            (1 + pending).saturating_sub(after_end)
        });
        self.removals.expected = Some(expected.unwrap_or_default());
    }

    /// Whether the beginning of the stream has overtaken a reader without an end.
    pub(super) async fn overtaken(&self, removed: Removed) -> Option<Removed> {
        if self.end.is_some() || !self.counts() {
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
        // Nothing came, or the server does not count.
        let is_unknown = self.removals.expected.is_none_or(|it| it == 0);
        let is_asked = self.removals.is_short() || is_unknown;
        let Some(end) = self.end.filter(|_| is_asked) else {
            return Ok(Pulled::End);
        };
        let now = self.nats.led().await?.state;
        if is_unknown {
            self.note_deleted(end, now.first_sequence);
        }
        let removed = self.removals.at_end(end, now.messages, now.last_sequence);
        Ok(removed.map_or(Pulled::End, Pulled::Removed))
    }

    /// Whether the server counts the messages that are read. Old servers know one filter only, and count those of other subjects,
    /// too.
    fn counts(&self) -> bool {
        self.filters.len() == 1 || self.nats.settling().is_zero()
    }

    /// Warns if messages were removed that might have been read, where they are not counted.
    fn note_deleted(&self, end: u64, first: u64) {
        let name = &self.nats.name;
        if let Begin::Sequence(next) = self.begin
            && next < first
            && next <= end
        {
            tracing::warn!(
                "messages of the stream {name} before {first} were deleted while it was read: those from {next} on may be missing here"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn removed(first: u64, last: u64, count: u64) -> Option<Removed> {
        Some(Removed { first, last, count })
    }

    /// A stream of that many messages, of which these are to come.
    fn begun(messages: u64, expected: u64) -> Removals {
        Removals {
            had: Some((messages, messages)),
            expected: Some(expected),
            ..Removals::default()
        }
    }

    #[test]
    fn what_is_missing_is_counted() {
        let mut all = begun(10, 10);
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
        let mut filtered = begun(30, 3);
        let passed = [(4, 2), (9, 1), (20, 0)].map(|(it, left)| filtered.pass(it, Some(left)));
        // All were removed after they were read.
        assert_eq!((passed, filtered.at_end(30, 0, 30)), ([None; 3], None));
        // The last one was removed.
        let mut filtered = begun(30, 3);
        let passed = [(4, 2), (9, 1)].map(|(it, left)| filtered.pass(it, Some(left)));
        assert_eq!(passed, [None; 2]);
        assert_eq!(filtered.at_end(30, 29, 30), removed(5, 30, 1));
    }

    /// As with a server before 2.11, which takes them from those that come.
    #[test]
    fn what_the_server_has_forgotten_is_counted() {
        let mut all = begun(10, 10);
        let passed = [(1, 4), (7, 3), (8, 2), (9, 1), (10, 0)];
        let passed = passed.map(|(it, left)| all.pass(it, Some(left)));
        let at_end = all.at_end(10, 4, 10);
        assert_eq!((passed, at_end), ([None; 5], removed(2, 6, 5)));
    }

    #[test]
    fn new_messages_hide_none_from_a_reader_with_an_end() {
        let mut grows = begun(10, 10);
        assert_eq!(grows.pass(1, Some(15)), None);
        assert_eq!(grows.pass(9, Some(20)), None);
        assert_eq!(grows.pass(10, Some(19)), None);
        assert_eq!(grows.at_end(10, 21, 29), removed(2, 8, 7));
    }

    #[test]
    fn another_consumer_goes_on_counting() {
        let mut all = begun(10, 10);
        assert_eq!(all.pass(1, Some(9)), None);
        // The next consumer is new.
        assert_eq!(all.pass(8, Some(2)), removed(2, 7, 6));
        let passed = [(9, 1), (10, 0)].map(|(it, left)| all.pass(it, Some(left)));
        assert_eq!(
            (passed, all.at_end(10, 3, 10)),
            ([None; 2], removed(2, 7, 6))
        );
    }
}
