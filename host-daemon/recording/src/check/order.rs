//! Checks that the chunks of a file are in order, by the sequence numbers of their messages. Start with
//! `Order::follows`.
//!
//! Storage may lose, repeat or exchange whole chunks, or restore an old one. Each of these chunks is sound by itself.
//! Only the numbers of the messages reveal the defect.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use mcap::records::{Channel, Record, op};

use crate::check::sequences::{SequenceRanges, Sequences};
use crate::check::survey::Definitions;
use crate::format::chunk::Chunk;
use crate::format::record::{GAP, Kind};

/// The state of the check after the chunks so far.
#[derive(Debug)]
pub(super) struct Order<'a> {
    channels: HashMap<u16, Channel>,
    sequences: Sequences<'a>,
    /// The next number of an event. The numbers of devices do not reveal a missing chunk that contains only events.
    next_event: Option<u32>,
    /// CRC and hash of each chunk.
    seen: HashSet<(u32, u64)>,
    /// Number of missing messages, if the chunks are in order.
    missing: u64,
    is_disordered: bool,
}

impl<'a> Order<'a> {
    pub(super) fn new(ranges: &'a dyn SequenceRanges) -> Self {
        Self {
            channels: HashMap::new(),
            sequences: Sequences::new(ranges),
            next_event: None,
            seen: HashSet::new(),
            missing: 0,
            is_disordered: false,
        }
    }

    /// Whether the same messages were in an earlier chunk. Messages have numbers and times, so two chunks never have
    /// the same content.
    pub(super) fn is_repeated(&mut self, chunk: &Chunk<'_>) -> bool {
        if !chunk.records().any(|(_, raw)| raw.message().is_some()) {
            return false;
        }
        // Compare the content only, because the times in the header may be damaged.
        let mut hasher = DefaultHasher::new();
        chunk.records.hash(&mut hasher);
        let key = (chunk.header.uncompressed_crc, hasher.finish());
        !self.seen.insert(key)
    }

    /// Records that messages may be missing before the next chunk.
    pub(super) fn gap(&mut self) {
        self.sequences.gap();
        self.next_event = None;
    }

    /// Adds the next chunk of a file that this library wrote. Returns whether the numbers of its messages continue
    /// those before.
    pub(super) fn follows(&mut self, chunk: &Chunk<'_>, known: &Definitions) -> bool {
        let jumps = self.take(chunk, known);
        if jumps.is_empty() {
            return true;
        }
        for jump in jumps {
            match u64::try_from(jump) {
                Ok(missing) => self.missing += missing,
                Err(_) => self.is_disordered = true,
            }
        }
        // Compare what follows with this chunk alone.
        self.gap();
        self.take(chunk, known);
        false
    }

    /// Returns the number of missing messages.
    pub(super) const fn missing(&self) -> u64 {
        if self.is_disordered { 0 } else { self.missing }
    }

    /// Returns whether a chunk came after one that should follow it.
    pub(super) const fn is_disordered(&self) -> bool {
        self.is_disordered
    }

    /// Adds a chunk. Returns the difference between each unexpected number and the expected one.
    fn take(&mut self, chunk: &Chunk<'_>, known: &Definitions) -> Vec<i32> {
        let mut jumps = Vec::new();
        for (_, raw) in chunk.records() {
            if let Some((header, data)) = raw.message() {
                let id = header.channel_id;
                let channel = self.channels.get(&id).or_else(|| known.channel(id));
                let sequence = header.sequence;
                let kind = channel.map(|channel| Kind::of(&channel.topic));
                if kind == Some(Kind::Events) {
                    let next = self.next_event.replace(sequence.wrapping_add(1));
                    let want = next.filter(|next| *next != sequence);
                    jumps.extend(want.map(|want| sequence.wrapping_sub(want).cast_signed()));
                }
                let want = self.sequences.take(channel, sequence, data, true);
                jumps.extend(want.map(|want| sequence.wrapping_sub(want).cast_signed()));
            } else if raw.opcode == GAP {
                self.sequences.gap();
                self.next_event = None;
            } else if raw.opcode == op::CHANNEL
                && let Some(Record::Channel(channel)) = raw.parse()
            {
                self.channels.insert(channel.id, channel);
            }
        }
        jumps
    }
}
