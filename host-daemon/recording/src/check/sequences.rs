//! Tracks the next sequence number of each topic, and of each session of a topic. Start with [`SequenceRanges`] and
//! `Sequences::take`.

use std::collections::HashMap;
use std::fmt;

use mcap::records::Channel;

use crate::format::private::{FIRST_KEY, SESSION_KEY};
use crate::format::record::{Kind, UNKNOWN_TOPIC};

/// A step of this size, or a longer one, begins another channel of a session.
const STEP_MAX: u64 = 1 << 31;

/// Recognizes messages that stand for a range of sequence numbers: a program may store one message in place of many.
/// Without this, a check reports the numbers of such a range as missing.
///
/// `()` recognizes none: every number must have a message. [`Checker`](crate::Checker) has an example.
pub trait SequenceRanges: fmt::Debug + Sync {
    /// Returns the range that a message stands for, or `None`. `topic` is `None` if the channel of the message is lost.
    /// Then the message may also be payload that looks like such a message.
    fn range(&self, topic: Option<&str>, data: &[u8]) -> Option<SequenceRange>;
}

/// A range of sequence numbers that have no messages of their own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SequenceRange {
    /// Topic that the numbers belong to.
    pub topic: String,
    /// Session that the numbers belong to: the `session` in the metadata of its channels. `None` for the numbers of channels
    /// without a session.
    pub session: Option<String>,
    /// Count of the numbers. They follow the last message of the topic or the session.
    pub len: u64,
    /// The number of the next message of the topic or the session, whatever came before; `len` has no meaning then. `None` if it
    /// follows the numbers of the range.
    pub next: Option<u64>,
}

impl SequenceRanges for () {
    fn range(&self, _: Option<&str>, _: &[u8]) -> Option<SequenceRange> {
        None
    }
}

/// The next sequence number of each topic, and of each session of a topic. Several channels may share it.
#[derive(Debug)]
pub(super) struct Sequences<'a> {
    topics: HashMap<String, Next>,
    /// The last number of each channel of a session.
    last: HashMap<u16, u64>,
    ranges: &'a dyn SequenceRanges,
}

/// The next numbers of a topic.
#[derive(Debug, Default)]
struct Next {
    /// Of channels without a session.
    plain: Option<u32>,
    /// Of each session. A message has only the low 32 bits.
    sessions: HashMap<String, u64>,
}

impl<'a> Sequences<'a> {
    pub(super) fn new(ranges: &'a dyn SequenceRanges) -> Self {
        Self {
            topics: HashMap::new(),
            last: HashMap::new(),
            ranges,
        }
    }

    /// Adds the next message. `channel` is `None` if its channel is lost. Returns the expected number if the message has
    /// another one. `is_ours` says that this library wrote the file.
    pub(super) fn take(
        &mut self,
        channel: Option<&Channel>,
        sequence: u32,
        data: &[u8],
        is_ours: bool,
    ) -> Option<u32> {
        let topic = channel.map_or(UNKNOWN_TOPIC, |channel| &channel.topic);
        match (Kind::of(topic), channel) {
            (Kind::Blocks | Kind::Pieces, Some(channel)) if is_ours => {
                match channel.metadata.get(SESSION_KEY) {
                    Some(session) => self.numbered(channel, session, sequence),
                    None => self.plain(topic, sequence),
                }
            }
            // The channel is lost, so the range may belong to any topic.
            _ if topic.starts_with(UNKNOWN_TOPIC) => {
                if self.ranges.range(None, data).is_some() {
                    self.gap();
                }
                None
            }
            _ => {
                self.skip(topic, data);
                None
            }
        }
    }

    /// Records that messages may be missing.
    pub(super) fn gap(&mut self) {
        self.topics.clear();
    }

    /// Adds the next message of a channel without a session.
    fn plain(&mut self, topic: &str, sequence: u32) -> Option<u32> {
        let following = sequence.wrapping_add(1);
        let want = match self.topics.get_mut(topic) {
            Some(next) => next.plain.replace(following),
            None => {
                let next = self.topics.entry(topic.to_owned()).or_default();
                next.plain.replace(following)
            }
        };
        want.filter(|want| *want != sequence)
    }

    /// Adds the next message of a channel of a session.
    fn numbered(&mut self, channel: &Channel, session: &str, sequence: u32) -> Option<u32> {
        let last = self.last.get(&channel.id).copied();
        let first = || channel.metadata.get(FIRST_KEY)?.parse().ok();
        // The number of 64 bits that is nearest to the last one of the channel.
        let near = last.or_else(first).unwrap_or_else(|| sequence.into());
        let step = sequence.wrapping_sub(near as u32).cast_signed();
        let number = near.wrapping_add_signed(step.into());
        self.last.insert(channel.id, number);
        let following = number.wrapping_add(1);
        let topic = &channel.topic;
        let known = self.topics.get_mut(topic);
        let Some(next) = known.and_then(|next| next.sessions.get_mut(session)) else {
            let next = self.topics.entry(topic.clone()).or_default();
            next.sessions.insert(session.to_owned(), following);
            return None;
        };
        let want = std::mem::replace(next, following);
        let is_far = want.checked_add(STEP_MAX).is_some_and(|far| far <= number);
        (want != number && !is_far).then_some(want as u32)
    }

    /// Skips the range that a message stands for.
    fn skip(&mut self, topic: &str, data: &[u8]) {
        let Some(range) = self.ranges.range(Some(topic), data) else {
            return;
        };
        let Some(next) = self.topics.get_mut(&range.topic) else {
            return;
        };
        let after = |number: u64| {
            let following = number.wrapping_add(range.len);
            range.next.unwrap_or(following)
        };
        match range.session {
            Some(session) => {
                if let Some(number) = next.sessions.get_mut(&session) {
                    *number = after(*number);
                }
            }
            // Wraps at 32 bits, like the numbers of messages.
            None => next.plain = next.plain.map(|number| after(number.into()) as u32),
        }
    }
}
