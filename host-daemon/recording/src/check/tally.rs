//! Counts the content of a recovered file, and finds the definitions that it lacks: [`Tally`].

use std::collections::{BTreeMap, HashMap, HashSet};

use mcap::records::{Channel, Record, op};

use crate::check::recovered::{LOST_MAX, Recovered};
use crate::check::survey::Definitions;
use crate::format::encode::{channel_record, schema_record};
use crate::format::record::{Kind, Raw, UNKNOWN_TOPIC};
use crate::read::loss::{LossCause, LostRange};

/// Counts messages, and tracks the defined channels.
#[derive(Debug, Default)]
pub(super) struct Tally {
    kinds: HashMap<u16, Kind>,
    /// Channels that were invented because their record is lost.
    unknown: HashSet<u16>,
    /// A message came before the record of its channel, or without one.
    pub is_undefined: bool,
    schemas: HashSet<u16>,
    pub recovered: Recovered,
}

impl Tally {
    /// Counts the content of a chunk. Appends the records of channels and schemas that must precede it to `missing`.
    pub(super) fn chunk(&mut self, mut records: &[u8], known: &Definitions, missing: &mut Vec<u8>) {
        self.recovered.chunks += 1;
        while let Some(raw) = Raw::take(&mut records) {
            self.take(&raw, known, missing);
        }
    }

    /// Counts a record.
    pub(super) fn take(&mut self, raw: &Raw<'_>, known: &Definitions, missing: &mut Vec<u8>) {
        if let Some((header, data)) = raw.message() {
            let id = header.channel_id;
            let kind = match self.kinds.get(&id) {
                Some(kind) => *kind,
                None => self.define(id, known, missing),
            };
            let recovered = &mut self.recovered;
            if kind.is_payload() {
                recovered.bytes += data.len() as u64;
            }
            *match kind {
                _ if self.unknown.contains(&id) => &mut recovered.unknown,
                Kind::Blocks => &mut recovered.blocks,
                Kind::Pieces => &mut recovered.pieces,
                Kind::Events | Kind::Sessions => &mut recovered.events,
                Kind::Unconfirmed => &mut recovered.unconfirmed,
                Kind::Other => &mut recovered.others,
            } += 1;
            return;
        }
        match raw.opcode {
            op::SCHEMA | op::CHANNEL => {}
            _ => return,
        }
        match raw.parse() {
            Some(Record::Schema { header, .. }) => {
                self.schemas.insert(header.id);
            }
            Some(Record::Channel(channel)) => self.channel(&channel, known, missing),
            _ => {}
        }
    }

    fn channel(&mut self, channel: &Channel, known: &Definitions, missing: &mut Vec<u8>) {
        let schema = channel.schema_id;
        if schema != 0 && self.schemas.insert(schema) {
            // The record of the schema was lost. Readers refuse a channel without it.
            let (name, encoding, data) = known.schema(schema).unwrap_or_default();
            missing.extend(schema_record(schema, name, encoding, data));
        }
        self.kinds.insert(channel.id, Kind::of(&channel.topic));
        self.unknown.remove(&channel.id);
    }

    /// Defines a channel whose record was lost or comes later: as it is known from elsewhere, or as an invented one, so
    /// that its messages are kept.
    fn define(&mut self, id: u16, known: &Definitions, missing: &mut Vec<u8>) -> Kind {
        self.is_undefined = true;
        let channel = match known.channel(id) {
            Some(channel) => {
                self.channel(channel, known, missing);
                channel.clone()
            }
            None => {
                self.unknown.insert(id);
                self.kinds.insert(id, Kind::Other);
                Channel {
                    id,
                    schema_id: 0,
                    topic: format!("{UNKNOWN_TOPIC}{id}"),
                    message_encoding: String::new(),
                    metadata: BTreeMap::new(),
                }
            }
        };
        missing.extend(channel_record(&channel));
        self.kinds.get(&id).copied().unwrap_or(Kind::Other)
    }

    /// Records a loss. `is_tail` says that a crash of this library may have left it.
    pub(super) fn lose(&mut self, lost: LostRange, is_tail: bool) {
        let recovered = &mut self.recovered;
        recovered.damaged |= !is_tail;
        recovered.lost_bytes += lost.len;
        recovered.lost_chunks += u64::from(matches!(lost.cause, LossCause::Chunk(_)));
        if recovered.lost.len() < LOST_MAX {
            recovered.lost.push(lost);
        }
    }
}
