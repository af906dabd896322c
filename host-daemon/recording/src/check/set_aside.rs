//! Messages that no commit confirmed, in a torn file: [`SetAside`] moves them to topics of their own, without numbers.
//!
//! The sender of a numbered message sends it again until its commit was durable. After a hole in the part of the file that was
//! not synced, and after the synced part of a file that a later one declares void, no message was confirmed.

use std::collections::HashMap;

use mcap::records::{Channel, op};

use crate::check::survey::{Definitions, Survey};
use crate::format::chunk::Chunk;
use crate::format::encode::{channel_record, record};
use crate::format::filename;
use crate::format::nonce;
use crate::format::origin;
use crate::format::private::{FIRST_KEY, SESSION_KEY, is_numbered};
use crate::format::record::{DEVICE, Raw, UNCONFIRMED};
use crate::read::loss::LostRange;
use crate::read::summary::is_torn_name;
use crate::read::window::WindowedFile;

/// The statement of other files about the messages of a torn file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Confirmed {
    /// Nothing.
    #[default]
    Unknown,
    /// A later file declares the file void after this length in bytes.
    Below(u64),
    /// An earlier file of the same epoch is not whole, so nothing counts that the file does not know to be synced.
    Synced,
}

/// Decides which messages of a file are set aside, and moves them.
#[derive(Debug)]
pub(super) struct SetAside {
    /// Messages of chunks from this offset on are set aside.
    from: u64,
    /// Length that is known to be synced. A hole before it is damage, and not an interrupted write.
    synced_len: u64,
    /// A hole may be the work of a power failure.
    has_holes: bool,
    /// Channels for the messages that are set aside, by that of the message.
    channels: HashMap<u16, Option<Moved>>,
    /// The last number of a channel that was tried.
    last_id: u16,
    /// There was no number for another channel, so messages were left out.
    pub is_full: bool,
}

/// A channel of messages that are set aside.
#[derive(Debug)]
struct Moved {
    channel: Channel,
    is_defined: bool,
    /// Sequence number of the next message.
    sequence: u32,
}

impl SetAside {
    pub(super) fn new(input: &WindowedFile, survey: &Survey, confirmed: Confirmed) -> Self {
        let name = input.path().file_name().unwrap_or_default();
        let is_sealed = name.to_str().is_some_and(filename::is_sealed);
        let is_sealed = is_sealed || (survey.summary.is_some() && !is_torn_name(input.path()));
        Self {
            from: match confirmed {
                _ if !survey.is_ours => u64::MAX,
                Confirmed::Unknown => u64::MAX,
                Confirmed::Below(len) => len,
                Confirmed::Synced => survey.synced_len,
            },
            synced_len: survey.synced_len,
            has_holes: survey.is_ours && !is_sealed,
            channels: HashMap::new(),
            last_id: 0,
            is_full: false,
        }
    }

    /// Bytes are lost that may have held messages.
    pub(super) fn hole(&mut self, lost: &LostRange) {
        if self.has_holes && self.synced_len < lost.offset + lost.len {
            self.from = self.from.min(lost.offset);
        }
    }

    /// Returns the records of a chunk, without its nonce, after some of its messages were moved. `None` if it has none of these.
    pub(super) fn chunk(&mut self, chunk: &Chunk<'_>, survey: &Survey) -> Option<Vec<u8>> {
        let known = &survey.definitions;
        let is_moved = |raw: &Raw<'_>| {
            let channel = raw
                .message()
                .and_then(|(it, _)| known.channel(it.channel_id));
            channel.is_some_and(is_numbered)
        };
        if chunk.offset < self.from || !chunk.records().any(|(_, raw)| is_moved(&raw)) {
            return None;
        }
        let mut records = Vec::with_capacity(chunk.records.len());
        for (_, raw) in chunk.records() {
            match raw.opcode {
                // The writer of the chunk adds it.
                nonce::OPCODE => {}
                origin::OPCODE if is_origin_of_numbered(&raw, known) => {}
                op::MESSAGE if is_moved(&raw) => self.message(&raw, survey, &mut records),
                opcode => records.extend(record(opcode, raw.body)),
            }
        }
        Some(records)
    }

    fn message(&mut self, raw: &Raw<'_>, survey: &Survey, records: &mut Vec<u8>) {
        let Some((header, _)) = raw.message() else {
            return;
        };
        let id = header.channel_id;
        if !self.channels.contains_key(&id) {
            let moved = self.moved(id, survey);
            self.channels.insert(id, moved);
        }
        let Some(Some(moved)) = self.channels.get_mut(&id) else {
            self.is_full = true;
            return;
        };
        if !moved.is_defined {
            records.extend(channel_record(&moved.channel));
            moved.is_defined = true;
        }
        let head = (moved.channel.id.to_le_bytes(), moved.sequence.to_le_bytes());
        let rest = raw.body.get(6..).unwrap_or_default();
        let body = [head.0.as_slice(), &head.1, rest].concat();
        records.extend(record(op::MESSAGE, &body));
        moved.sequence = moved.sequence.wrapping_add(1);
    }

    /// Describes the channel for messages of this channel that are set aside. `None` if the file has no number for it.
    fn moved(&mut self, id: u16, survey: &Survey) -> Option<Moved> {
        let mut channel = survey.definitions.channel(id)?.clone();
        let ids = self.last_id.checked_add(1)?..=u16::MAX;
        channel.id = ids.into_iter().find(|id| !survey.uses_channel(*id))?;
        self.last_id = channel.id;
        channel.topic = unconfirmed(&channel.topic);
        channel.metadata.remove(SESSION_KEY);
        channel.metadata.remove(FIRST_KEY);
        Some(Moved {
            channel,
            is_defined: false,
            sequence: 0,
        })
    }
}

fn is_origin_of_numbered(raw: &Raw<'_>, known: &Definitions) -> bool {
    let id = origin::parse(raw.body).map(|(id, _)| id);
    id.and_then(|id| known.channel(id)).is_some_and(is_numbered)
}

/// The topic for messages of a topic that are set aside.
fn unconfirmed(topic: &str) -> String {
    let of_device = topic.strip_prefix(DEVICE).and_then(|rest| {
        rest.strip_suffix("/blocks")
            .or_else(|| rest.strip_suffix("/pieces"))
    });
    match of_device {
        Some(device) => format!("{DEVICE}{device}{UNCONFIRMED}"),
        None => format!("{topic}{UNCONFIRMED}"),
    }
}
