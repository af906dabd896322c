//! The file that a log is writing, and its open chunk: [`ActiveSegment`].

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use crate::error::LogError;
use crate::format::filename;
use crate::format::nonce::FileNonce;
use crate::format::origin::MessageOrigin;
use crate::write::channel::Channel;
use crate::write::compress::ChunkEnd;
use crate::write::epoch::Epoch;
use crate::write::retry::LogContext;
use crate::write::segment::SegmentWriter;
use crate::write::storage::File;

/// Length at which a chunk ends before its commit, in bytes. A reader holds a whole chunk in memory, and a longer chunk would
/// not fit into the processor's cache while it is written.
const CHUNK_LEN: usize = 512 << 10;
/// Largest buffer that is kept for the next chunk, in bytes.
const BUFFER_MAX: usize = 4 * CHUNK_LEN;

/// A file that is not sealed yet.
#[derive(Debug)]
pub(crate) struct SegmentFile {
    /// Name that the file gets when it is sealed.
    pub name: String,
    /// The open file.
    pub file: Arc<dyn File>,
    /// Its nonce.
    pub nonce: FileNonce,
    /// Its length in bytes.
    pub len: AtomicU64,
    /// The length up to which commits have made it durable, in bytes.
    pub synced_len: Arc<AtomicU64>,
    /// It was synced to its end before any sync of its epoch failed.
    pub is_complete: AtomicBool,
    /// A sync failed, or the file is void after that of another file. Data since the previous commit may be lost, and the file
    /// must not be written any more.
    pub is_broken: AtomicBool,
    /// Its name is on the disk.
    pub is_named: AtomicBool,
    /// The epoch in which it was begun.
    pub epoch: Arc<Epoch>,
}

impl SegmentFile {
    /// Whether it must stay unsealed.
    pub(super) fn is_void(&self) -> bool {
        self.is_broken.load(Ordering::Acquire) || self.epoch.is_void()
    }
}

/// Amount of data that a commit makes durable.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CommitCounts {
    /// Chunks.
    pub chunks: u64,
    /// Counted messages in these chunks.
    pub blocks: u64,
    /// Bytes of the file.
    pub bytes: u64,
}

/// The file that is being written.
#[derive(Debug)]
pub(super) struct ActiveSegment {
    pub(super) number: u64,
    pub(super) file: Arc<SegmentFile>,
    pub(super) segment: SegmentWriter,
    pub(super) begun: Instant,
    /// Its size is no reason to seal it before it has this length, in bytes.
    pub(super) least_len: u64,
    /// It is due, whatever its length and age are.
    pub(super) is_ended: bool,
    /// Time at which the oldest uncommitted message was appended.
    pub(super) oldest_unsynced: Option<Instant>,
    /// Somebody waits for the next commit.
    pub(super) is_hastened: bool,
    /// Time at which the oldest message of the open chunk was appended.
    pub(super) oldest_unwritten: Option<Instant>,
    /// Counted messages in the open chunk.
    pub(super) counted: u64,
    /// The chunk is partly written to the operating system.
    pub(super) is_torn: bool,
    /// Data written since the last commit.
    pub(super) since_commit: CommitCounts,
}

impl ActiveSegment {
    /// Adds messages to a channel, and ends each chunk that they fill.
    ///
    /// # Errors
    /// [`LogError`].
    pub(super) fn messages<'a>(
        &mut self,
        context: &LogContext,
        channel: Channel,
        mut origin: Option<MessageOrigin>,
        mut sequence: u32,
        time_ns: u64,
        messages: impl Iterator<Item = &'a [u8]>,
    ) -> Result<(), LogError> {
        let mut messages = messages.peekable();
        while messages.peek().is_some() {
            let segment = &mut self.segment;
            let added = segment.messages(
                channel.id,
                origin,
                sequence,
                time_ns,
                &mut messages,
                CHUNK_LEN,
            );
            if added == 0 {
                return Err(LogError::StaleChannel);
            }
            sequence = sequence.wrapping_add(added);
            origin = origin.map(|origin| origin.after(added.into()));
            self.counted += u64::from(added) * u64::from(channel.is_counted);
            if self.oldest_unwritten.is_none() {
                let now = Instant::now();
                self.oldest_unwritten = Some(now);
                self.oldest_unsynced.get_or_insert(now);
            }
            if CHUNK_LEN <= self.segment.chunk_len() {
                self.end_chunk(context, ChunkEnd::Full)?;
            }
        }
        Ok(())
    }

    pub(super) fn end_chunk(
        &mut self,
        context: &LogContext,
        end: ChunkEnd,
    ) -> Result<(), LogError> {
        context.internal(self.segment.end_chunk(end))?;
        self.oldest_unwritten = None;
        let bytes = self.write_out(context)?;
        let blocks = std::mem::take(&mut self.counted);
        self.is_torn = false;
        if bytes != 0 {
            context.stats.chunk_written(blocks, bytes);
            self.since_commit.chunks += 1;
            self.since_commit.blocks += blocks;
        }
        Ok(())
    }

    /// Counted messages of the open chunk; 0 if the chunk is torn, because a reader may find some of its messages.
    pub(super) const fn unwritten(&self) -> u64 {
        if self.is_torn { 0 } else { self.counted }
    }

    /// Writes the bytes that are ready. If the disk refuses some, a later call continues there.
    pub(super) fn write_out(&mut self, context: &LogContext) -> Result<u64, LogError> {
        let begin = self.file.len.load(Ordering::Relaxed);
        let ready_len = self.segment.ready().len() as u64;
        context.reserve(ready_len);
        let mut len = 0;
        let mut refused = Ok(());
        while let Some(rest) = self.segment.ready().get(len..)
            && !rest.is_empty()
        {
            let offset = begin + len as u64;
            let attempt = || match self.file.file.write_at(rest, offset) {
                Ok(0) => Err(io::ErrorKind::WriteZero.into()),
                written => written,
            };
            match context.retry("write", attempt) {
                Ok(written) => {
                    len += written;
                    self.is_torn = true;
                }
                Err(error) => {
                    refused = Err(error);
                    break;
                }
            }
            let end = begin + len as u64;
            self.file.len.store(end, Ordering::Relaxed);
        }
        let part = filename::part(&self.file.name);
        context.written(&part, ready_len, len as u64);
        // Remove written bytes even after an error, so that they are not written twice.
        self.segment.written(len);
        refused?;
        self.since_commit.bytes += len as u64;
        // A large message may have grown the buffers.
        self.segment.shrink_to(BUFFER_MAX);
        Ok(len as u64)
    }
}
