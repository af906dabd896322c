//! Tracks the next sequence number of each topic. Start with [`SequenceRanges`] and `Sequences::take`.

use std::collections::HashMap;
use std::fmt;

use crate::format::record::{Kind, UNKNOWN_TOPIC};

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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SequenceRange {
    /// Topic that the numbers belong to.
    pub topic: String,
    /// Count of the numbers. They follow the last message of the topic.
    pub len: u64,
}

impl SequenceRanges for () {
    fn range(&self, _: Option<&str>, _: &[u8]) -> Option<SequenceRange> {
        None
    }
}

/// The next sequence number of each topic. Several channels may share a topic.
#[derive(Debug)]
pub(super) struct Sequences<'a> {
    next: HashMap<String, u32>,
    ranges: &'a dyn SequenceRanges,
}

impl<'a> Sequences<'a> {
    pub(super) fn new(ranges: &'a dyn SequenceRanges) -> Self {
        Self {
            next: HashMap::new(),
            ranges,
        }
    }

    /// Adds the next message of a topic. Returns the expected number if the message has another one. `is_ours` says
    /// that this library wrote the file.
    pub(super) fn take(
        &mut self,
        topic: &str,
        sequence: u32,
        data: &[u8],
        is_ours: bool,
    ) -> Option<u32> {
        match Kind::of(topic) {
            Kind::Blocks | Kind::Pieces if is_ours => {
                let want = self.message(topic, sequence);
                return (want != sequence).then_some(want);
            }
            // The channel is lost, so the range may belong to any topic.
            _ if topic.starts_with(UNKNOWN_TOPIC) => {
                if self.ranges.range(None, data).is_some() {
                    self.gap();
                }
            }
            _ => self.skip(topic, data),
        }
        None
    }

    /// Records that messages may be missing.
    pub(super) fn gap(&mut self) {
        self.next.clear();
    }

    /// Adds the next message of a topic. Returns the expected number.
    fn message(&mut self, topic: &str, sequence: u32) -> u32 {
        let following = sequence.wrapping_add(1);
        match self.next.get_mut(topic) {
            Some(next) => std::mem::replace(next, following),
            None => {
                self.next.insert(topic.to_owned(), following);
                sequence
            }
        }
    }

    /// Skips the range that a message stands for.
    fn skip(&mut self, topic: &str, data: &[u8]) {
        if let Some(range) = self.ranges.range(Some(topic), data)
            && let Some(next) = self.next.get_mut(&range.topic)
        {
            // Wraps at 32 bits, like the numbers of messages.
            *next = next.wrapping_add(range.len as u32);
        }
    }
}
