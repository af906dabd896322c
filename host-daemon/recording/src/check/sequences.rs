//! The next sequence number of each topic, for the checks. Start with [`SequenceRanges`] and `Sequences::take`.

use std::collections::HashMap;
use std::fmt;

use crate::format::record::{Kind, UNKNOWN_TOPIC};

/// Names the messages that stand for ranges of sequence numbers: a program may store one message in place of many.
/// Without it, a check reports the numbers in such a range as missing.
///
/// `()` names none: every number has a message.
pub trait SequenceRanges: fmt::Debug + Sync {
    /// The range that a message stands for. `topic` is `None` if the channel of the message is lost: then the message
    /// may also be payload that looks like one which stands for a range.
    fn range(&self, topic: Option<&str>, data: &[u8]) -> Option<SequenceRange>;
}

/// Sequence numbers without messages of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SequenceRange {
    /// The topic that the numbers belong to.
    pub topic: String,
    /// Count of the numbers. They follow the last message of the topic.
    pub len: u64,
}

impl SequenceRanges for () {
    fn range(&self, _: Option<&str>, _: &[u8]) -> Option<SequenceRange> {
        None
    }
}

/// The next number in each topic. Two channels of a device may share a topic.
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

    /// Takes the next message of a topic. Returns the number that it should have, if it has another. `is_ours`: this
    /// library wrote the file.
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
            // The range may belong to any topic.
            _ if topic.starts_with(UNKNOWN_TOPIC) => {
                if self.ranges.range(None, data).is_some() {
                    self.gap();
                }
            }
            _ => self.skip(topic, data),
        }
        None
    }

    /// Takes note that messages may be missing.
    pub(super) fn gap(&mut self) {
        self.next.clear();
    }

    /// Takes the next message of a topic; returns the number that it should have.
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
            // In 32 bits, like the numbers themselves.
            *next = next.wrapping_add(range.len as u32);
        }
    }
}
