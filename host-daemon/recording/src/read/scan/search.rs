//! Searches for the next chunk of a file after damage: `Scan::search`; and for the first one that can be read.

use mcap::records::op;

use super::Scan;
use crate::error::Error;
use crate::format::chunk::{self, ChunkFault, EXTENT_MAX, Extent, HEAD_MAX};
use crate::format::nonce::FileNonce;
use crate::read::loss::LossCause;
use crate::read::ownership::ROOT_LEN;

/// The classification of a place where a chunk may begin.
enum Candidate {
    Own,
    Foreign,
    None,
}

impl Scan {
    /// Returns the offset of the next whole chunk of the file, or `end` if there is none before that.
    pub(super) fn search(&mut self, from: u64, end: u64) -> Result<u64, Error> {
        let file_end = self.end().max(end);
        let mut at = from;
        while at < end {
            let len = self.input.len();
            let ours = self.ours;
            let bytes = self.input.window_at(at, EXTENT_MAX)?;
            // A chunk that begins near the end of the window is checked with the next window.
            let is_last = len <= at + bytes.len() as u64;
            let len = match is_last {
                true => bytes.len(),
                false => bytes.len() + 1 - EXTENT_MAX,
            };
            let window = bytes.get(..len).unwrap_or_default();
            let candidate = window.iter().enumerate().find_map(|(index, &byte)| {
                let rest = (byte == op::CHUNK).then(|| bytes.get(index..))??;
                let extent = Extent::of(rest, ours)?;
                let room = file_end.checked_sub(at + index as u64)?;
                (extent.len <= room).then_some((index as u64, extent))
            });
            let Some((index, extent)) = candidate else {
                if len == 0 {
                    break;
                }
                at += len as u64;
                continue;
            };
            at += index;
            if end <= at {
                break;
            }
            at += match self.is_chunk(at, extent)? {
                Candidate::Own => return Ok(at),
                Candidate::Foreign => extent.len,
                Candidate::None => 1,
            };
        }
        Ok(end)
    }

    /// Attributes a loss to unreadable bytes, if there are any in it. If more of them follow it, the loss extends to the next
    /// chunk. Returns its end and its cause.
    pub(super) fn through_unreadable(
        &mut self,
        offset: u64,
        end: u64,
        cause: LossCause,
    ) -> Result<(u64, LossCause), Error> {
        if cause == LossCause::Summary || self.input.unreadable(offset, end).is_none() {
            return Ok((end, cause));
        }
        let is_followed = end < self.end() && !self.input.is_readable(end, 1)?;
        let end = match self.next_known(end).filter(|_| !self.has_nonce()) {
            _ if !is_followed => end,
            Some(next) => next,
            None => self.search(end, self.end())?,
        };
        let unreadable = self.input.unreadable(offset, end);
        Ok((end, unreadable.map_or(cause, LossCause::Unreadable)))
    }

    /// Takes the nonce of the first chunk that the summary lists, if the disk cannot read the beginning of the file.
    pub(super) fn settle_by_summary(&mut self) -> Result<(), Error> {
        if self.input.unreadable(0, ROOT_LEN as u64).is_none() || self.ownership.nonce().is_some() {
            return Ok(());
        }
        for &at in &self.known {
            let shown = self.input.readable(at, EXTENT_MAX)?;
            let Some(extent) = Extent::of(self.input.at(at, shown)?, false) else {
                continue;
            };
            let len = usize::try_from(extent.len).unwrap_or(usize::MAX);
            if self.input.len() - at < extent.len || !self.input.is_readable(at, len)? {
                continue;
            }
            let bytes = self.input.at(at, len)?;
            if let Ok(header) = chunk::check(bytes, false, &mut self.plain) {
                let nonce = FileNonce::of_chunk(chunk::content(bytes, &header, &self.plain));
                self.ownership.settle(nonce);
                self.ours = nonce.is_some() || self.known_ours;
                return Ok(());
            }
        }
        Ok(())
    }

    /// Classifies a place where a chunk may begin. The cost of a place that turns out not to be a chunk of this file is
    /// taken from the budget.
    fn is_chunk(&mut self, at: u64, extent: Extent) -> Result<Candidate, Error> {
        let cost = extent.len + extent.uncompressed_len;
        let len = usize::try_from(extent.len).unwrap_or(usize::MAX);
        let has_nonce = self.has_nonce();
        let mut is_free = false;
        if has_nonce {
            // Chunks with other nonces are not read completely.
            let nonce = chunk::nonce(self.input.at(at, len.min(HEAD_MAX))?);
            let is_unknown = self.ownership.is_unknown();
            is_free = self.ownership.admits(nonce, at);
            if !is_free && (nonce.is_none() || !is_unknown) {
                return Ok(Candidate::None);
            }
        }
        if !is_free && self.budget < cost {
            return Ok(Candidate::None);
        }
        if !self.input.is_readable(at, len)? {
            return Ok(Candidate::None);
        }
        let bytes = self.input.at(at, len)?;
        let whole = chunk::check(bytes, self.ours, &mut self.plain);
        // Without a CRC, only its records show that this is a chunk.
        let whole = whole.and_then(|header| match header.uncompressed_size {
            0 if header.uncompressed_crc == 0 => Err(ChunkFault::Lengths),
            _ => Ok(header),
        });
        let nonce =
            whole.map(|header| FileNonce::of_chunk(chunk::content(bytes, &header, &self.plain)));
        Ok(match nonce {
            Ok(nonce) if self.ownership.admits(nonce, at) => Candidate::Own,
            Ok(Some(nonce)) if has_nonce => {
                *self.strangers.entry(nonce).or_default() += 1;
                Candidate::Foreign
            }
            _ => {
                self.budget = self.budget.saturating_sub(cost);
                Candidate::None
            }
        })
    }
}
