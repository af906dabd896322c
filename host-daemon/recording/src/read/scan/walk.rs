//! Walks from record to record: `Scan::walk` decides what the bytes at the current offset are.

use mcap::records::op;

use super::{Scan, ScanStep};
use crate::error::Error;
use crate::format::chunk::{
    self, CHUNK_MAX, ChunkFault, DEFINITION_MAX, EXTENT_LEN, EXTENT_MAX, Extent,
};
use crate::format::definition::cost_max;
use crate::format::nonce::FileNonce;
use crate::format::record::{HEAD_LEN, PAYLOAD, Raw, head, is_foreign, is_unfinished, is_unknown};
use crate::read::loss::LossCause;

/// Bytes of an unfinished chunk that are examined.
const BEGUN_MAX: usize = 16 << 20;

impl Scan {
    /// Returns the offset after an unwanted chunk at the current offset.
    pub(super) fn skip_unwanted(&mut self) -> Result<Option<u64>, Error> {
        let at = self.at;
        let Some(len) = self.unwanted.remove(&at) else {
            return Ok(None);
        };
        if self.ours {
            // Only indexes come before the next chunk.
            return Ok(self.next_known(at));
        }
        // Other programs may write messages between chunks.
        let shown = self.input.readable(at, HEAD_LEN)?;
        let found = head(self.input.at(at, shown)?);
        let is_there = found.is_some_and(|(opcode, body_len)| {
            opcode == op::CHUNK && body_len.checked_add(HEAD_LEN as u64) == Some(len)
        });
        Ok(is_there.then(|| at + len))
    }

    pub(super) fn walk(&mut self) -> Result<ScanStep, Error> {
        let (at, end) = (self.at, self.end());
        let room = end.saturating_sub(at);
        if room == 0 || (self.ended && !self.known.is_empty()) {
            return Ok(ScanStep::End);
        }
        let shown = self.input.readable(at, EXTENT_MAX)?;
        let is_hidden = (shown as u64) < room.min(EXTENT_LEN as u64);
        let begin = self.input.at(at, shown)?;
        if self.ended && begin == mcap::MAGIC {
            return Ok(ScanStep::End);
        }
        let extent = Extent::of(begin, self.ours);
        let is_disguised = is_disguised(begin, self.ours);
        let unknown = match extent {
            None => chunk::unknown_compression(begin),
            Some(_) => None,
        };
        let is_unfinished = is_unfinished(begin) || !self.ours;
        if is_hidden && (shown < HEAD_LEN || begin.first() == Some(&op::CHUNK)) {
            return self.lose(LossCause::NoRecord);
        }
        let Some((opcode, len)) = head(begin) else {
            return self.cut(true);
        };
        let len = len.saturating_add(HEAD_LEN as u64);
        if opcode != op::DATA_END && self.crosses_chunk(len)? {
            return self.lose(LossCause::NoRecord);
        }
        if let Some(extent) = extent {
            return self.walk_chunk(extent, room);
        }
        if is_disguised || !self.has_place(opcode) {
            return self.lose(LossCause::NoRecord);
        }
        if opcode == op::CHUNK {
            // A chunk whose prefix is cut has no lengths that could agree.
            return if room < EXTENT_LEN as u64 {
                self.cut(true)
            } else {
                self.lose(LossCause::Chunk(
                    unknown.map_or(ChunkFault::Lengths, ChunkFault::Compression),
                ))
            };
        }
        if room < len {
            return self.cut(is_unfinished);
        }
        if !self.ours && CHUNK_MAX < len && !matches!(opcode, op::SCHEMA..=op::MESSAGE) {
            // Such a record is not loaded.
            return Ok(ScanStep::Lost(at + len, LossCause::TooLong));
        }
        let Ok(len) = usize::try_from(len.min(CHUNK_MAX)) else {
            return self.lose(LossCause::NoRecord);
        };
        if !self.input.is_readable(at, len)? {
            return self.skip(at + len as u64, LossCause::NoRecord);
        }
        let mut bytes = self.input.at(at, len)?;
        let raw = Raw::take(&mut bytes);
        let is_known = match self.ours {
            true => raw.is_some_and(|raw| raw.is_well_formed()),
            false => raw.is_some_and(|raw| is_unknown(opcode) || raw.known_len().is_some()),
        };
        if !is_known {
            return self.lose(LossCause::NoRecord);
        }
        if !self.ours && matches!(opcode, op::SCHEMA | op::CHANNEL) {
            // Parsing takes memory.
            let max = cost_max(self.input.len());
            let bytes = self.input.at(at, len)?;
            let is_sound = len <= DEFINITION_MAX + HEAD_LEN
                && self.definitions.add(bytes) <= max
                && Raw::take(&mut &*bytes).is_some_and(|raw| raw.parse().is_some());
            if !is_sound {
                // Its lengths agree, so the next record is known.
                return Ok(ScanStep::Lost(at + len as u64, LossCause::NoRecord));
            }
        }
        if opcode == op::DATA_END && self.has_nonce() && !self.growing {
            // No chunk can follow the real end of the data.
            let (from, until) = (at + len as u64, self.input.len());
            if self.search(from, until)? < until {
                return self.lose(LossCause::NoRecord);
            }
        }
        // A file without the end of the data still has the end of the file.
        self.ended |= opcode == op::DATA_END || (opcode == op::FOOTER && !self.ours);
        Ok(ScanStep::Record(len))
    }

    fn walk_chunk(&mut self, extent: Extent, room: u64) -> Result<ScanStep, Error> {
        let at = self.at;
        if room < extent.len {
            if self.growing {
                return Ok(ScanStep::End);
            }
            let (len, have) = (extent.len, room);
            let admits = |nonce| self.ownership.admits(nonce, at);
            let there = usize::try_from(room).map_or(BEGUN_MAX, |room| room.min(BEGUN_MAX));
            let is_begun = chunk::is_begun(self.input.at(at, there)?, &admits) || !self.ours;
            let fault = match is_begun {
                true => ChunkFault::Cut { len, have },
                false => ChunkFault::Lengths,
            };
            return self.skip(at + room, LossCause::Chunk(fault));
        }
        // Within the limit, because the lengths agree.
        let len = usize::try_from(extent.len).unwrap_or(usize::MAX);
        let max = cost_max(self.input.len());
        if !self.input.is_readable(at, len)? {
            return self.skip(at + extent.len, LossCause::Chunk(ChunkFault::Corrupt));
        }
        let bytes = self.input.at(at, len)?;
        match chunk::check(bytes, self.ours, &mut self.plain) {
            Ok(header) => {
                let content = chunk::content(bytes, &header, &self.plain);
                let nonce = FileNonce::of_chunk(content);
                let is_foreign = self.is_intact && self.ownership.may_have_none();
                if self.ownership.admits(nonce, at) || (is_foreign && nonce.is_none()) {
                    if self.plain.has_definitions() && max < self.definitions.add(content) {
                        let fault = ChunkFault::Definitions { max };
                        return self.skip(at + extent.len, LossCause::Chunk(fault));
                    }
                    self.ours |= nonce.is_some();
                    self.ownership.settle(nonce);
                    return Ok(ScanStep::Chunk(header, len));
                }
                self.skip(at + extent.len, LossCause::Chunk(ChunkFault::Foreign))
            }
            Err(fault) => self.skip(at + extent.len, LossCause::Chunk(fault)),
        }
    }

    /// Whether a chunk that the summary lists, or the end of the data, begins within the next `len` bytes. Forgets
    /// places of the summary where there is no chunk.
    fn crosses_chunk(&mut self, len: u64) -> Result<bool, Error> {
        while !self.has_nonce()
            && let Some(next) = self.next_known(self.at)
            && next - self.at < len
        {
            let is_end = self.known.last() == Some(&next);
            let shown = self.input.readable(next, EXTENT_MAX)?;
            let is_hidden = shown < EXTENT_LEN;
            let begin = self.input.at(next, shown)?;
            if is_end || is_hidden || Extent::of(begin, self.ours).is_some() {
                return Ok(true);
            }
            self.known.retain(|&known| known != next);
        }
        Ok(false)
    }

    /// Whether a record of this type may be here. A chunk whose opcode is damaged must not be taken for a message.
    fn has_place(&self, opcode: u8) -> bool {
        if !self.ours {
            return is_foreign(opcode);
        }
        match opcode {
            op::CHUNK | op::MESSAGE_INDEX | op::DATA_END => true,
            // In files of this library, these are outside of chunks in the summary only.
            op::FOOTER..=op::SUMMARY_OFFSET if opcode != op::MESSAGE => {
                self.ended || !self.has_nonce()
            }
            PAYLOAD => self.ended,
            _ => false,
        }
    }

    /// Handles a record that ends with the file. `is_unfinished` says whether it looks unfinished rather than damaged.
    fn cut(&mut self, is_unfinished: bool) -> Result<ScanStep, Error> {
        if self.growing {
            return Ok(ScanStep::End);
        }
        self.lose(if is_unfinished {
            LossCause::Cut
        } else {
            LossCause::NoRecord
        })
    }

    /// Reports a damaged record that should end at `end` as lost, up to the next chunk of the file if that is earlier.
    fn skip(&mut self, end: u64, cause: LossCause) -> Result<ScanStep, Error> {
        let next = if self.has_nonce() {
            self.search(self.at + 1, end)?
        } else {
            // A chunk that the summary lists exists, regardless of the damaged one.
            self.next_known(self.at).map_or(end, |next| next.min(end))
        };
        Ok(ScanStep::Lost(next, cause))
    }

    /// Reports everything up to the next chunk as lost.
    fn lose(&mut self, cause: LossCause) -> Result<ScanStep, Error> {
        self.lose_until(self.at + 1, cause)
    }

    /// Reports everything up to the first chunk from `from` on as lost.
    pub(super) fn lose_until(&mut self, from: u64, cause: LossCause) -> Result<ScanStep, Error> {
        let (at, end) = (self.at, self.end());
        let is_trusted = self.is_indexed && !self.has_nonce();
        let known = self.next_known(at).filter(|_| is_trusted);
        let next = match known {
            Some(next) => next,
            None => self.search(from, end)?,
        };
        let cause = match cause {
            _ if self.ended => LossCause::Summary,
            LossCause::NoRecord | LossCause::NoHeader
                if next == self.input.len() && self.input.is_zero(at)? =>
            {
                LossCause::Zeros
            }
            cause => cause,
        };
        Ok(ScanStep::Lost(next, cause))
    }

    pub(super) fn next_known(&self, at: u64) -> Option<u64> {
        let index = self.known.partition_point(|&offset| offset <= at);
        self.known.get(index).copied()
    }
}

/// Whether a record has the lengths of a chunk, but another opcode: a chunk whose opcode is damaged.
fn is_disguised(begin: &[u8], ours: bool) -> bool {
    let is_chunk = head(begin).is_some_and(|(opcode, _)| opcode == op::CHUNK);
    let extent = Extent::of_any(begin, true).filter(|_| !is_chunk);
    // A private record of zeros has the lengths of an empty chunk.
    extent.is_some_and(|extent| ours || extent.uncompressed_len != 0)
}
