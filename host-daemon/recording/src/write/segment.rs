//! One MCAP file as it is written: messages in, bytes out. It touches no disk, so it cannot fail half-way.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use mcap::records::MessageHeader;
use mcap::write::{NoSeek, PrivateRecordOptions};
use mcap::{McapError, McapResult, WriteOptions};

use crate::format::nonce::{self, FileNonce};

/// Channels that a file may have: the format counts them in 16 bits, from 1.
pub(crate) const CHANNELS_MAX: usize = u16::MAX as usize;

/// What a message has besides its own bytes: its record's and its index entry's.
const OVERHEAD_LEN: usize = 31 + 16;

/// What the index at the end has for each chunk besides, in entries' worth.
const CHUNK_INDEX: usize = 14;

/// How chunks are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// LZ4: two to three times the processor time, and two thirds of the space for slowly moving samples.
    Lz4,
    /// Zstandard at its fastest: three to four times the processor time, and a little over half of the space.
    Zstd,
}

/// The description of a channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChannelSpec {
    /// The topic. Two channels may share one.
    pub topic: String,
    /// The encoding of its messages, such as `json`; empty if there is none.
    pub encoding: String,
    /// The schema of its messages.
    pub schema: Option<SchemaSpec>,
    /// Further facts, by a key.
    pub metadata: BTreeMap<String, String>,
    /// Whether [`Stats`](crate::write::stats::Stats) count its messages.
    pub is_counted: bool,
}

/// The description of a schema.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SchemaSpec {
    /// Its name.
    pub name: String,
    /// The language of the schema, such as `jsonschema`.
    pub encoding: String,
    /// The schema itself.
    pub data: Vec<u8>,
}

/// Makes one file.
pub(crate) struct SegmentWriter {
    writer: mcap::Writer<NoSeek<Tap>>,
    tap: Tap,
    nonce: FileNonce,
    /// The present chunk has its nonce.
    begun: bool,
    channels: usize,
    chunk_len: usize,
    /// Number of the present chunk, and of the last one with a message of each channel.
    chunk: u32,
    seen: Vec<u32>,
    index_len: usize,
}

impl SegmentWriter {
    /// An empty file.
    ///
    /// # Errors
    /// None that can be expected: nothing is written but to memory.
    pub(crate) fn new(compression: Compression) -> io::Result<Self> {
        let tap = Tap::default();
        let nonce = FileNonce::new();
        let options = WriteOptions::new()
            .compression(match compression {
                Compression::None => None,
                Compression::Lz4 => Some(mcap::Compression::Lz4),
                Compression::Zstd => Some(mcap::Compression::Zstd),
            })
            // Of zstd, the fastest: a third less processor time than its default, for a sixth more space.
            .compression_level(u32::from(compression == Compression::Zstd))
            // One thread writes, however many processors there are.
            .compression_threads(0)
            .library(nonce::library(Some(nonce)))
            // Chunks end when `end_chunk` says so.
            .chunk_size(None)
            // A chunk leaves in one piece, with its length: what follows a torn one can be found.
            .disable_seeking(true)
            // Every chunk has its own; this one would be calculated over all bytes again.
            .calculate_data_section_crc(false);
        let writer = options.create(NoSeek::new(tap.clone())).map_err(internal)?;
        Ok(Self {
            writer,
            tap,
            nonce,
            begun: false,
            channels: 0,
            chunk_len: 0,
            chunk: 1,
            seen: Vec::new(),
            index_len: 0,
        })
    }

    /// The nonce of the file.
    #[must_use]
    pub(crate) const fn nonce(&self) -> FileNonce {
        self.nonce
    }

    /// Whether no further channel can be added.
    #[must_use]
    pub(crate) const fn is_full(&self) -> bool {
        CHANNELS_MAX <= self.channels
    }

    /// Whether only a few channels can be added: it is time for another file.
    #[must_use]
    pub(crate) const fn is_nearly_full(&self) -> bool {
        CHANNELS_MAX <= self.channels + 5
    }

    /// Bytes in the present chunk, about.
    #[must_use]
    pub(crate) const fn chunk_len(&self) -> usize {
        self.chunk_len
    }

    /// How often a chunk has messages of a channel, over all chunks: what the index at the end grows by.
    #[must_use]
    pub(crate) const fn index_len(&self) -> usize {
        self.index_len
    }

    /// Adds a channel. The same for descriptions that differ in nothing.
    ///
    /// # Errors
    /// Where the file [is full](Self::is_full).
    pub(crate) fn channel(&mut self, spec: &ChannelSpec) -> io::Result<u16> {
        self.begin_chunk()?;
        let (mut schema_id, mut len) = (0, spec.topic.len());
        if let Some(schema) = &spec.schema {
            let added = self
                .writer
                .add_schema(&schema.name, &schema.encoding, &schema.data);
            schema_id = added.map_err(internal)?;
            len = len.max(schema.data.len());
        }
        let ChannelSpec {
            topic,
            encoding,
            metadata,
            ..
        } = spec;
        let added = self
            .writer
            .add_channel(schema_id, topic, encoding, metadata);
        self.added(added, len)
    }

    /// Adds a block or a piece.
    ///
    /// # Errors
    /// None that can be expected.
    pub(crate) fn message(
        &mut self,
        channel: u16,
        sequence: u32,
        time_ns: u64,
        bytes: &[u8],
    ) -> io::Result<()> {
        self.begin_chunk()?;
        let header = MessageHeader {
            channel_id: channel,
            sequence,
            log_time: time_ns,
            publish_time: time_ns,
        };
        let written = self.writer.write_to_known_channel(&header, bytes);
        written.map_err(internal)?;
        self.chunk_len += bytes.len() + OVERHEAD_LEN;
        if let Some(seen) = self.seen.get_mut(usize::from(channel))
            && *seen != self.chunk
        {
            *seen = self.chunk;
            self.index_len += 1;
        }
        Ok(())
    }

    /// Ends the chunk, if one is begun: what was added so far is then in the bytes that [`take`](Self::take) gives.
    ///
    /// # Errors
    /// None that can be expected.
    pub(crate) fn end_chunk(&mut self) -> io::Result<()> {
        self.chunk_len = 0;
        self.chunk += 1;
        self.index_len += usize::from(std::mem::take(&mut self.begun)) * CHUNK_INDEX;
        self.writer.flush().map_err(internal)
    }

    /// Ends the file. Only [`take`](Self::take) makes sense after that.
    ///
    /// # Errors
    /// None that can be expected.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        self.chunk_len = 0;
        self.writer.finish().map(drop).map_err(internal)
    }

    /// Moves the bytes that are ready to be written to the end of these.
    pub(crate) fn take(&mut self, into: &mut Vec<u8>) {
        let mut bytes = self.tap.0.lock().unwrap_or_else(PoisonError::into_inner);
        if into.is_empty() {
            std::mem::swap(into, &mut bytes);
        } else {
            into.append(&mut bytes);
        }
    }

    fn begin_chunk(&mut self) -> io::Result<()> {
        if !self.begun {
            self.begun = true;
            let options = PrivateRecordOptions::IncludeInChunks.into();
            let body = self.nonce.body();
            let written = self
                .writer
                .write_private_record(nonce::OPCODE, &body, options);
            written.map_err(internal)?;
        }
        Ok(())
    }

    fn added(&mut self, channel: McapResult<u16>, len: usize) -> io::Result<u16> {
        let channel = channel.map_err(internal)?;
        let index = usize::from(channel);
        if self.seen.len() <= index {
            self.seen.resize(index + 1, 0);
            self.channels += 1;
            self.chunk_len += len + OVERHEAD_LEN;
        }
        Ok(channel)
    }
}

impl std::fmt::Debug for SegmentWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SegmentWriter")
            .field("channels", &self.channels)
            .field("chunk_len", &self.chunk_len)
            .finish_non_exhaustive()
    }
}

/// Where the crate's writer puts its bytes.
#[derive(Clone, Debug, Default)]
struct Tap(Arc<Mutex<Vec<u8>>>);

impl Write for Tap {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut to = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        to.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What the crate's writer says is never about the disk.
fn internal(error: McapError) -> io::Error {
    io::Error::other(error)
}
