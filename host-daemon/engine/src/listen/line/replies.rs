//! Recognises replies that come back over a line: [`Replies`] compares each series with the replies that were sent.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hasher};
use std::time::Duration;

use tokio::time::Instant;

/// Replies that are remembered: as many as can be on their way at once.
const REPLIES_MAX: usize = 16 << 10;
/// How long a reply is remembered.
const REMEMBERED: Duration = Duration::from_secs(60);
/// A series that begins later after a reply than this does not continue a row. A device that sends the same series
/// again and again, at its own pace, is not an echo.
const PROMPT: Duration = Duration::from_secs(1);

/// The replies of a line that have not come back.
#[derive(Debug, Default)]
pub(super) struct Replies {
    sent: VecDeque<SentReply>,
    /// The last series that were replies, without another one between them.
    in_a_row: u32,
    is_reported: bool,
}

#[derive(Debug)]
struct SentReply {
    id: (u64, u64),
    /// Position in the received stream when its first byte was sent.
    from: u64,
    /// When its last byte was sent.
    at: Instant,
}

/// Identifies bytes by their hash and their number.
#[derive(Debug, Default)]
pub(super) struct Digest {
    hasher: DefaultHasher,
    len: u64,
}

impl Digest {
    pub(super) fn add(&mut self, bytes: &[u8]) {
        // Each byte by itself, so that the result does not depend on how the bytes are split.
        for byte in bytes {
            self.hasher.write_u8(*byte);
        }
        self.len += bytes.len() as u64;
    }

    fn id(&self) -> (u64, u64) {
        (self.hasher.finish(), self.len)
    }
}

impl Replies {
    /// Remembers a reply that was sent.
    pub(super) fn sent(&mut self, reply: Digest, from: u64, at: Instant) {
        if reply.len == 0 {
            return;
        }
        let is_old = |sent: &SentReply| REMEMBERED < at.saturating_duration_since(sent.at);
        while self.sent.len() >= REPLIES_MAX || self.sent.front().is_some_and(is_old) {
            self.sent.pop_front();
        }
        self.sent.push_back(SentReply {
            id: reply.id(),
            from,
            at,
        });
    }

    /// Compares a series with the replies that were sent before it. `begin` is the position of its first byte in the
    /// received stream, which was read at `since`. Returns how many series in a row, up to this one, were replies.
    pub(super) fn seen(&mut self, series: &Digest, begin: u64, since: Instant) -> u32 {
        // Replies come back in order. Another series that began after a reply shows that this does not come back.
        let before = self.sent.partition_point(|sent| sent.from <= begin);
        let first = self.sent.front().filter(|_| before != 0);
        let Some(found) = first.filter(|sent| sent.id == series.id()) else {
            self.sent.drain(..before);
            self.in_a_row = 0;
            return 0;
        };
        let is_prompt = since.saturating_duration_since(found.at) < PROMPT;
        self.sent.pop_front();
        self.in_a_row = if is_prompt {
            self.in_a_row.saturating_add(1)
        } else {
            1
        };
        self.in_a_row
    }

    /// Whether this is the first call.
    pub(super) const fn report(&mut self) -> bool {
        !std::mem::replace(&mut self.is_reported, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(bytes: &[u8]) -> Digest {
        let mut digest = Digest::default();
        for part in bytes.chunks(2) {
            digest.add(part);
        }
        digest
    }

    #[test]
    fn a_reply_is_recognised_once_and_only_after_it_was_sent() {
        let (mut replies, now) = (Replies::default(), Instant::now());
        replies.sent(digest(b"reply"), 100, now);
        assert_eq!(replies.seen(&digest(b"reply"), 99, now), 0, "sent before");
        assert_eq!(replies.seen(&digest(b"reply"), 105, now), 1);
        assert_eq!(replies.seen(&digest(b"reply"), 110, now), 0, "came back");
    }

    #[test]
    fn another_series_after_a_reply_shows_that_it_does_not_come_back() {
        let (mut replies, now) = (Replies::default(), Instant::now());
        replies.sent(digest(b"reply"), 100, now);
        replies.sent(digest(b"later"), 120, now);
        assert_eq!(replies.seen(&digest(b"other"), 110, now), 0);
        assert_eq!(replies.seen(&digest(b"reply"), 115, now), 0);
        assert_eq!(replies.seen(&digest(b"later"), 120, now), 1);
    }

    #[test]
    fn a_row_is_broken_by_another_series_and_by_time() {
        let (mut replies, now) = (Replies::default(), Instant::now());
        for round in 1..=3 {
            replies.sent(digest(b"same"), round, now);
            assert_eq!(replies.seen(&digest(b"same"), round, now), round as u32);
        }
        replies.sent(digest(b"same"), 4, now);
        assert_eq!(replies.seen(&digest(b"same"), 4, now + PROMPT), 1);
        replies.sent(digest(b"same"), 5, now);
        assert_eq!(replies.seen(&digest(b"same"), 5, now), 2);
        assert_eq!(replies.seen(&digest(b"other"), 5, now), 0);
        replies.sent(digest(b"same"), 6, now);
        assert_eq!(replies.seen(&digest(b"same"), 6, now), 1);
    }

    #[test]
    fn the_replies_that_are_remembered_are_bounded() {
        let (mut replies, now) = (Replies::default(), Instant::now());
        for number in 0..2 * REPLIES_MAX as u64 {
            replies.sent(digest(&number.to_be_bytes()), number, now);
        }
        assert_eq!(replies.sent.len(), REPLIES_MAX);
        replies.sent(digest(b"late"), 0, now + 2 * REMEMBERED);
        assert_eq!(replies.sent.len(), 1);
    }
}
