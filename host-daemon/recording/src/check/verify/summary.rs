//! The second half of the `Verifier`: compares the summary of a file with its data.

use std::collections::BTreeMap;

use mcap::records::{ChunkIndex, Record, op};

use super::Verifier;
use crate::check::finding::FindingKind;
use crate::error::Error;
use crate::format::record::HEAD_LEN;
use crate::read::summary::{Summary, record_at};

impl Verifier<'_> {
    /// Checks that the records of the summary are in groups, at the offsets that the summary states.
    pub(super) fn groups(&mut self) -> Result<(), Error> {
        let Some((start, end)) = self.summary.as_ref().map(|it| (it.start, it.footer)) else {
            return Ok(());
        };
        let mut groups: Vec<(u8, u64, u64)> = Vec::new();
        let mut stated = Vec::new();
        let mut at = start;
        while let Some(raw) = record_at(&mut self.index, at, end)? {
            let len = (HEAD_LEN + raw.body.len()) as u64;
            match groups.last_mut() {
                Some((opcode, _, group_len)) if *opcode == raw.opcode => *group_len += len,
                _ => groups.push((raw.opcode, at, len)),
            }
            if let Some(Record::SummaryOffset(offset)) = raw.parse() {
                let group = (offset.group_opcode, offset.group_start, offset.group_length);
                stated.push((at, group));
            }
            at += len;
        }
        for (at, group) in stated {
            let (_, _, len) = group;
            // Other programs also list empty groups.
            if len != 0 && !groups.contains(&group) {
                self.report(at, FindingKind::Group { opcode: group.0 });
            }
        }
        Ok(())
    }

    /// Compares a chunk and its indexes with the entry in the summary.
    pub(super) fn end_chunk(&mut self) -> Result<(), Error> {
        let Some(seen) = self.chunk.take() else {
            return Ok(());
        };
        let indexed = seen.index.message_index_offsets.len();
        let all = seen.entries.len();
        if indexed < all && (self.ours || indexed != 0) {
            self.report(seen.offset, FindingKind::MessageIndex);
        }
        // A lost chunk is reported already.
        while let Some((at, stated)) = self.next_index()? {
            if stated == seen.index {
                return Ok(());
            }
            if seen.index.chunk_start_offset <= stated.chunk_start_offset {
                self.report(
                    at,
                    FindingKind::ChunkIndex {
                        offset: seen.offset,
                    },
                );
                return Ok(());
            }
        }
        let has_index = self
            .summary
            .as_ref()
            .is_some_and(|it| !it.chunks.is_empty());
        if self.summary.is_some() && (self.ours || has_index) {
            self.report(
                seen.offset,
                FindingKind::ChunkIndex {
                    offset: seen.offset,
                },
            );
        }
        Ok(())
    }

    fn next_index(&mut self) -> Result<Option<(u64, ChunkIndex)>, Error> {
        let (Some(mut at), Some(summary)) = (self.index_at, &self.summary) else {
            return Ok(None);
        };
        let end = summary.footer;
        while let Some(raw) = record_at(&mut self.index, at, end)? {
            let begin = at;
            at += (HEAD_LEN + raw.body.len()) as u64;
            if raw.opcode != op::CHUNK_INDEX {
                continue;
            }
            if let Some(Record::ChunkIndex(index)) = raw.parse() {
                self.index_at = Some(at);
                return Ok(Some((begin, index)));
            }
        }
        self.index_at = Some(end);
        Ok(None)
    }

    /// Checks that the summary has the same channels and schemas as the data. Other programs may omit some.
    pub(super) fn definitions(&mut self, summary: &Summary) {
        let at = summary.start;
        let channels = std::mem::take(&mut self.channels);
        for id in channels.keys().chain(summary.channels.keys()) {
            let stated = summary.channels.get(id);
            if (self.ours || stated.is_some()) && channels.get(id) != stated {
                self.report(at, FindingKind::Channel { id: *id });
            }
        }
        let schemas = std::mem::take(&mut self.schemas);
        for id in schemas.keys().chain(summary.schemas.keys()) {
            let stated = summary.schemas.get(id);
            let stated = stated.map(|(it, data)| (&it.name, &it.encoding, data));
            let held = schemas.get(id).map(|(a, b, data)| (a, b, data));
            if (self.ours || stated.is_some()) && stated != held {
                self.report(at, FindingKind::Schema { id: *id });
            }
        }
        self.channels = channels;
        self.schemas = schemas;
    }

    pub(super) fn statistics(&mut self, summary: &Summary) {
        let at = summary.start;
        let Some(stated) = &summary.statistics else {
            if self.ours {
                self.report(at, FindingKind::NoStatistics);
            }
            return;
        };
        let (start, end) = self.bounds.unwrap_or((0, 0));
        let [attachments, metadata] = self.others.map(u64::from);
        let pairs = [
            ("messages", stated.message_count, self.verified.messages),
            (
                "schemas",
                stated.schema_count.into(),
                self.schemas.len() as u64,
            ),
            (
                "channels",
                stated.channel_count.into(),
                self.channels.len() as u64,
            ),
            ("attachments", stated.attachment_count.into(), attachments),
            ("metadata", stated.metadata_count.into(), metadata),
            ("chunks", stated.chunk_count.into(), self.verified.chunks),
            ("first time", stated.message_start_time, start),
            ("last time", stated.message_end_time, end),
        ];
        for (of, stated, found) in pairs {
            if stated != found {
                self.report(at, FindingKind::Statistics { of, stated, found });
            }
        }
        let all = std::mem::take(&mut self.counts);
        let counts: BTreeMap<u16, u64> = all.iter().map(|(id, (count, _))| (*id, *count)).collect();
        let found: BTreeMap<u16, u64> = all.iter().map(|(id, (_, bytes))| (*id, *bytes)).collect();
        if let Some(stated) = summary.payload.as_ref().filter(|stated| **stated != found) {
            let sum =
                |of: &BTreeMap<u16, u64>| of.values().fold(0, |a: u64, b| a.saturating_add(*b));
            self.report(
                at,
                FindingKind::Statistics {
                    of: "payload bytes",
                    stated: sum(stated),
                    found: sum(&found),
                },
            );
        }
        let stated = &stated.channel_message_counts;
        // Other programs may omit these counts.
        let is_omitted = !self.ours && stated.is_empty();
        for id in counts
            .keys()
            .chain(stated.keys().filter(|id| !counts.contains_key(id)))
        {
            let count = |of: &BTreeMap<u16, u64>| of.get(id).copied().unwrap_or_default();
            let (stated, found) = (count(stated), count(&counts));
            if stated != found && !is_omitted {
                self.report(
                    at,
                    FindingKind::Count {
                        id: *id,
                        stated,
                        found,
                    },
                );
            }
        }
    }
}
