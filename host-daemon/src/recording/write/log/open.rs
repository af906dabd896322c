//! The file that is being written, and its present chunk.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::engine::event::Source;
use crate::recording::write::log::internal;
use crate::recording::write::segment::{Container, Kind};
use crate::recording::write::sync::{Abandoned, Common, Part, Share};

/// Bytes of messages in a chunk, before it is ended without waiting for a commit. What a reader must hold in memory,
/// and what a write to the disk moves: larger ones leave the processor's cache.
const CHUNK_LEN: usize = 512 << 10;
/// Bytes of memory that are kept for the next chunk.
const BUFFER_MAX: usize = 4 * CHUNK_LEN;

/// The file that is being written.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) part: Arc<Part>,
    pub(super) container: Container,
    pub(super) bytes: Vec<u8>,
    pub(super) begun: Instant,
    /// When the oldest message was added that is not yet handed to the syncer.
    pub(super) dirty: Option<Instant>,
    /// What is in the present chunk, and what was written since the last commit.
    pub(super) chunk_blocks: u64,
    pub(super) share: Share,
}

impl Open {
    pub(super) fn channel(
        &mut self,
        known: &mut Option<u16>,
        source: &Source,
        kind: Kind,
    ) -> Result<u16, Abandoned> {
        match *known {
            Some(channel) => Ok(channel),
            None => Ok(*known.insert(internal(self.container.channel(source, kind))?)),
        }
    }

    /// Adds a message of a device's topic, whose next sequence number is `sequence`.
    #[inline]
    pub(super) fn block(
        &mut self,
        common: &Common,
        known: &mut Option<u16>,
        source: &Source,
        sequence: &mut u32,
        time_ns: u64,
        bytes: &[u8],
    ) -> Result<(), Abandoned> {
        let channel = self.channel(known, source, Kind::Blocks)?;
        // Before: the message may end the chunk.
        self.chunk_blocks += 1;
        self.message(common, channel, *sequence, time_ns, bytes)?;
        *sequence = sequence.wrapping_add(1);
        Ok(())
    }

    pub(super) fn message(
        &mut self,
        common: &Common,
        channel: u16,
        sequence: u32,
        time_ns: u64,
        bytes: &[u8],
    ) -> Result<(), Abandoned> {
        internal(self.container.message(channel, sequence, time_ns, bytes))?;
        if self.dirty.is_none() {
            self.dirty = Some(Instant::now());
        }
        if CHUNK_LEN <= self.container.chunk_len() {
            self.end_chunk(common)?;
        }
        Ok(())
    }

    pub(super) fn end_chunk(&mut self, common: &Common) -> Result<(), Abandoned> {
        internal(self.container.end_chunk())?;
        let bytes = self.write_out(common)?;
        let blocks = std::mem::take(&mut self.chunk_blocks);
        if bytes != 0 {
            common.stats.chunk_written(blocks, bytes);
            self.share.chunks += 1;
            self.share.blocks += blocks;
        }
        Ok(())
    }

    /// Writes what is ready, and goes on where the disk stopped when it takes no more.
    pub(super) fn write_out(&mut self, common: &Common) -> Result<u64, Abandoned> {
        self.container.take(&mut self.bytes);
        let begin = self.part.len.load(Ordering::Relaxed);
        let mut len = 0;
        while let Some(rest) = self.bytes.get(len..).filter(|rest| !rest.is_empty()) {
            let offset = begin + len as u64;
            let attempt = || match self.part.file.write_at(rest, offset) {
                Ok(0) => Err(io::ErrorKind::WriteZero.into()),
                written => written,
            };
            match common.insist("write", attempt) {
                Ok(written) => len += written,
                Err(abandoned) => {
                    // Do not write the same bytes twice.
                    self.bytes.drain(..len);
                    return Err(abandoned);
                }
            }
            let end = begin + len as u64;
            self.part.len.store(end, Ordering::Relaxed);
        }
        self.share.bytes += len as u64;
        self.bytes.clear();
        // A large block has made it large.
        self.bytes.shrink_to(BUFFER_MAX);
        Ok(len as u64)
    }
}
