//! Encodes one MCAP file: a [`SegmentWriter`] turns messages into bytes. It does no I/O, so a disk error cannot leave it
//! in a half-way state.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crc32fast::Hasher;
use mcap::records::op;

use crate::format::definition;
use crate::format::encode::{channel_description, put, put_text, record, schema_description};
use crate::format::index::{
    IndexEntry, SummaryBuilder, WrittenChunk, index_entry, message_index_head,
};
use crate::format::nonce::{self, FileNonce};
use crate::format::origin::{MessageOrigin, origin_record};
use crate::format::private::{VoidedFile, synced_record};
use crate::format::record::{HEAD_LEN, Raw};
use crate::write::buffer::Buffer;
use crate::write::channel::{ChannelSpec, SchemaSpec};
use crate::write::compress::{ChunkEnd, Compression, Compressor};

/// Largest number of channels in a file: the format numbers them with 16 bits, from 1.
pub(crate) const CHANNELS_MAX: usize = u16::MAX as usize;

/// Bytes of a message record before its payload.
const MESSAGE_HEAD_LEN: usize = HEAD_LEN + 22;

/// Size of the index of a chunk, in index entries.
const CHUNK_INDEX: usize = 14;

/// Encodes one file.
pub(crate) struct SegmentWriter {
    nonce: FileNonce,
    /// The synced length of the file, which chunks repeat once there is a numbered channel.
    synced_len: Option<Arc<AtomicU64>>,
    is_numbered: bool,
    compressor: Compressor,
    /// Bytes that were not written yet, with the open chunk at the end.
    out: Buffer,
    /// Offset in the file of the first byte of `out`.
    base: u64,
    chunk: Option<OpenChunk>,
    /// Channels by number. Number 0 is not used.
    channels: Vec<ChannelState>,
    /// Channel numbers by encoded description: equal descriptions share a number.
    channel_ids: HashMap<Vec<u8>, u16>,
    schema_ids: HashMap<Vec<u8>, u16>,
    summary: SummaryBuilder,
    index_len: usize,
    /// Memory that readers take for the schemas and channels.
    definitions_cost: u64,
    /// CRC of the file up to the open chunk.
    data_crc: Hasher,
}

/// A chunk that is being filled.
#[derive(Debug)]
struct OpenChunk {
    /// Offset of its record in [`SegmentWriter::out`].
    begin: usize,
    /// Offset of its content there.
    content: usize,
    /// Log times of its first and last message.
    bounds: Option<(u64, u64)>,
    /// Channels with messages in it.
    touched: Vec<u16>,
    /// Number of its messages.
    messages: usize,
}

/// The state of a channel.
#[derive(Debug, Default)]
struct ChannelState {
    /// Index entries of its messages in the open chunk.
    entries: Vec<IndexEntry>,
    /// Bytes of their payloads.
    payload: u64,
    /// The origin that a reader of the open chunk expects of the next message.
    next: Option<MessageOrigin>,
}

impl SegmentWriter {
    /// Begins a file whose synced length another thread updates.
    #[must_use]
    pub(crate) fn new(compression: Compression, synced_len: &Arc<AtomicU64>) -> Self {
        Self {
            synced_len: Some(Arc::clone(synced_len)),
            ..Self::with_nonce(FileNonce::new(), compression)
        }
    }

    /// Begins a file with this nonce.
    #[must_use]
    pub(crate) fn with_nonce(nonce: FileNonce, compression: Compression) -> Self {
        let mut header = Vec::new();
        put_text(&mut header, "");
        put_text(&mut header, &nonce::library(Some(nonce)));
        let mut out = Buffer::default();
        out.put(mcap::MAGIC);
        out.put(&record(op::HEADER, &header));
        let mut data_crc = Hasher::new();
        data_crc.update(out.bytes());
        Self {
            nonce,
            synced_len: None,
            is_numbered: false,
            compressor: Compressor::new(compression),
            out,
            base: 0,
            chunk: None,
            channels: Vec::new(),
            channel_ids: HashMap::new(),
            schema_ids: HashMap::new(),
            summary: SummaryBuilder::default(),
            index_len: 0,
            definitions_cost: 0,
            data_crc,
        }
    }

    /// Returns the nonce of the file.
    #[must_use]
    pub(crate) const fn nonce(&self) -> FileNonce {
        self.nonce
    }

    /// Writes a chunk that declares files void. Call it before anything else.
    ///
    /// # Errors
    /// Compression fails for lack of memory.
    pub(crate) fn declare_void(&mut self, files: &[VoidedFile]) -> io::Result<()> {
        self.begin_chunk();
        for file in files {
            self.out.put(&file.record());
        }
        self.end_chunk(ChunkEnd::Full)
    }

    /// Whether no more channels can be added.
    #[must_use]
    pub(crate) fn is_full(&self) -> bool {
        CHANNELS_MAX <= self.channel_ids.len()
    }

    /// Whether only a few more channels can be added, or the present ones take much memory of readers, so that the log should
    /// begin a new file.
    #[must_use]
    pub(crate) fn is_nearly_full(&self) -> bool {
        CHANNELS_MAX <= self.channel_ids.len() + 5
            || definition::COST_MAX / 2 <= self.definitions_cost
    }

    /// Length of the open chunk and its message indexes, in bytes, before compression.
    #[must_use]
    pub(crate) fn chunk_len(&self) -> usize {
        let len = |chunk: &OpenChunk| {
            self.out.len() - chunk.content + chunk.messages * size_of::<IndexEntry>()
        };
        self.chunk.as_ref().map_or(0, len)
    }

    /// Size of the index, in entries: one for each channel with messages in a chunk, and [`CHUNK_INDEX`] for each
    /// chunk.
    #[must_use]
    pub(crate) const fn index_len(&self) -> usize {
        self.index_len
    }

    /// Adds a channel. Returns the same number for equal descriptions.
    ///
    /// # Errors
    /// The file [is full](Self::is_full).
    pub(crate) fn channel(&mut self, spec: &ChannelSpec) -> io::Result<u16> {
        self.is_numbered |= spec.is_numbered();
        let schema_id = match &spec.schema {
            Some(schema) => self.schema(schema)?,
            None => 0,
        };
        let description =
            channel_description(schema_id, &spec.topic, &spec.encoding, &spec.metadata);
        let next = number(self.channel_ids.len());
        let id = self.define(op::CHANNEL, next, description, |it| &mut it.channel_ids)?;
        let count = usize::from(id) + 1;
        if self.channels.len() < count {
            self.channels.resize_with(count, ChannelState::default);
        }
        Ok(id)
    }

    /// Adds messages to a channel, with sequence numbers from `sequence` on, until the chunk is `chunk_max` bytes long or no
    /// message is left. `origin` is that of the first; the others follow it in the same connection. Returns the number of added messages: at least one if there is a message, and 0 if the file does not
    /// have the channel.
    pub(crate) fn messages<'a>(
        &mut self,
        channel: u16,
        origin: Option<MessageOrigin>,
        mut sequence: u32,
        time_ns: u64,
        messages: &mut impl Iterator<Item = &'a [u8]>,
        chunk_max: usize,
    ) -> u32 {
        self.begin_chunk();
        let state = self.channels.get_mut(usize::from(channel));
        let (Some(chunk), Some(state)) = (&mut self.chunk, state) else {
            return 0;
        };
        if state.next != origin {
            self.out.put(&origin_record(channel, origin));
        }
        let (before, begin) = (state.entries.len(), self.out.len());
        // All messages share this header, except for length and sequence number.
        let mut head = [0; MESSAGE_HEAD_LEN];
        head[0] = op::MESSAGE;
        head[9..11].copy_from_slice(&channel.to_le_bytes());
        head[15..23].copy_from_slice(&time_ns.to_le_bytes());
        head[23..31].copy_from_slice(&time_ns.to_le_bytes());
        let limit = chunk_max.saturating_sub(chunk.messages * size_of::<IndexEntry>());
        let mut index_len = 0;
        for payload in messages {
            let len = (MESSAGE_HEAD_LEN - HEAD_LEN + payload.len()) as u64;
            head[1..9].copy_from_slice(&len.to_le_bytes());
            head[11..15].copy_from_slice(&sequence.to_le_bytes());
            let offset = self.out.len() - chunk.content;
            self.out.put_pair(&head, payload);
            state.entries.push(index_entry(time_ns, offset as u64));
            sequence = sequence.wrapping_add(1);
            index_len += size_of::<IndexEntry>();
            if limit <= self.out.len() - chunk.content + index_len {
                break;
            }
        }
        let added = state.entries.len() - before;
        if added != 0 {
            state.next = origin.map(|origin| origin.after(added as u64));
            chunk.messages += added;
            state.payload += (self.out.len() - begin - added * MESSAGE_HEAD_LEN) as u64;
            let (start, end) = chunk.bounds.unwrap_or((time_ns, time_ns));
            chunk.bounds = Some((start.min(time_ns), end.max(time_ns)));
            if before == 0 {
                chunk.touched.push(channel);
                self.index_len += 1;
            }
        }
        u32::try_from(added).unwrap_or(u32::MAX)
    }

    /// Ends the open chunk, if there is one. Its bytes are then [ready](Self::ready).
    ///
    /// # Errors
    /// Compression fails for lack of memory.
    pub(crate) fn end_chunk(&mut self, end: ChunkEnd) -> io::Result<()> {
        let Some(mut chunk) = self.chunk.take() else {
            return Ok(());
        };
        self.index_len += CHUNK_INDEX;
        let content = self.out.tail(chunk.content);
        let (uncompressed_len, crc) = (content.len() as u64, crc32fast::hash(content));
        let packed = self.compressor.compress(content, end)?;
        let compression = packed.map_or("", |(name, _)| name);
        let compressed_len = packed.map_or(uncompressed_len, |(_, packed)| packed.len() as u64);
        let (start, end) = chunk.bounds.unwrap_or_default();
        let mut head = vec![op::CHUNK];
        let fixed = 28 + 4 + compression.len() as u64 + 8;
        put(
            &mut head,
            &[fixed + compressed_len, start, end, uncompressed_len],
        );
        head.extend_from_slice(&crc.to_le_bytes());
        put_text(&mut head, compression);
        put(&mut head, &[compressed_len]);
        self.data_crc.update(&head);
        match packed {
            None => {
                // The content is not read a second time.
                let content = Hasher::new_with_initial_len(crc, uncompressed_len);
                self.data_crc.combine(&content);
                let to = self.out.tail_mut(chunk.begin);
                to.iter_mut().zip(&head).for_each(|(to, from)| *to = *from);
            }
            Some((_, packed)) => {
                self.out.truncate(chunk.begin);
                self.out.put(&head);
                self.out.put(packed);
                self.data_crc.update(packed);
            }
        }
        let indexes = self.out.len();
        chunk.touched.sort_unstable();
        let mut index_offsets = Vec::with_capacity(chunk.touched.len() * 10);
        for channel in chunk.touched {
            let Some(state) = self.channels.get_mut(usize::from(channel)) else {
                continue;
            };
            index_offsets.extend_from_slice(&channel.to_le_bytes());
            put(&mut index_offsets, &[self.base + self.out.len() as u64]);
            self.out
                .put(&message_index_head(channel, state.entries.len()));
            self.out.put(state.entries.as_flattened());
            let payload = std::mem::take(&mut state.payload);
            let messages = state.entries.len() as u64;
            self.summary.count(channel, messages, payload);
            state.entries.clear();
            state.next = None;
        }
        self.data_crc.update(self.out.tail(indexes));
        self.summary.chunk(&WrittenChunk {
            offset: self.base + chunk.begin as u64,
            len: (indexes - chunk.begin) as u64,
            compression,
            compressed_len,
            uncompressed_len,
            bounds: chunk.bounds,
            index_offsets: &index_offsets,
            indexes_len: (self.out.len() - indexes) as u64,
        });
        Ok(())
    }

    /// Ends the file. Call [`end_chunk`](Self::end_chunk) before.
    pub(crate) fn finish(&mut self) {
        let data_crc = self.data_crc.clone().finalize();
        self.out.put(&record(op::DATA_END, &data_crc.to_le_bytes()));
        let summary = std::mem::take(&mut self.summary);
        self.out
            .put(&summary.encode(self.base + self.out.len() as u64));
    }

    /// Returns the bytes that are ready to be written.
    #[must_use]
    pub(crate) fn ready(&self) -> &[u8] {
        match &self.chunk {
            None => self.out.bytes(),
            Some(chunk) => self.out.bytes().get(..chunk.begin).unwrap_or_default(),
        }
    }

    /// Removes the first `len` [ready](Self::ready) bytes, after they were written.
    pub(crate) fn written(&mut self, len: usize) {
        self.out.remove(len);
        self.base += len as u64;
        if let Some(chunk) = &mut self.chunk {
            chunk.begin -= len;
            chunk.content -= len;
        }
    }

    /// Frees memory beyond `len` bytes in each buffer, which a large message has taken.
    pub(crate) fn shrink_to(&mut self, len: usize) {
        self.out.shrink_to(len);
        self.compressor.shrink_to(len);
    }

    fn schema(&mut self, spec: &SchemaSpec) -> io::Result<u16> {
        let description = schema_description(&spec.name, &spec.encoding, &spec.data);
        let next = number(self.schema_ids.len());
        self.define(op::SCHEMA, next, description, |it| &mut it.schema_ids)
    }

    /// Writes a definition, unless an equal one was written before. Returns its number.
    fn define(
        &mut self,
        opcode: u8,
        next: Option<u16>,
        description: Vec<u8>,
        ids: impl Fn(&mut Self) -> &mut HashMap<Vec<u8>, u16>,
    ) -> io::Result<u16> {
        if let Some(id) = ids(self).get(&description) {
            return Ok(*id);
        }
        let full = || io::Error::other("the file has the maximum number of definitions, 65535");
        let id = next.ok_or_else(full)?;
        self.begin_chunk();
        let body = [id.to_le_bytes().as_slice(), &description].concat();
        self.out.put(&record(opcode, &body));
        self.summary.define(opcode, &body);
        let body = &body;
        self.definitions_cost += definition::cost(&Raw { opcode, body });
        ids(self).insert(description, id);
        Ok(id)
    }

    fn begin_chunk(&mut self) {
        if self.chunk.is_none() {
            let begin = self.out.len();
            // Reserve space for the header of an uncompressed chunk. Its values are known when the chunk ends.
            self.out.put(&[0; HEAD_LEN + 28 + 4 + 8]);
            self.chunk = Some(OpenChunk {
                begin,
                content: self.out.len(),
                bounds: None,
                touched: Vec::new(),
                messages: 0,
            });
            self.out.put(&record(nonce::OPCODE, &self.nonce.body()));
            if let Some(synced_len) = self.synced_len.as_ref().filter(|_| self.is_numbered) {
                let synced_len = synced_len.load(Ordering::Acquire);
                self.out.put(&synced_record(synced_len));
            }
        }
    }
}

/// Returns the number of the definition after the first `count`, if the format has one.
fn number(count: usize) -> Option<u16> {
    u16::try_from(count + 1).ok()
}

impl std::fmt::Debug for SegmentWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SegmentWriter")
            .field("channels", &self.channel_ids.len())
            .field("chunk_len", &self.chunk_len())
            .finish_non_exhaustive()
    }
}
