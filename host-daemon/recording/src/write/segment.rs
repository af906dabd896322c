//! Encodes one MCAP file: a [`SegmentWriter`] turns messages into bytes. It does no I/O, so it cannot fail half-way.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use mcap::records::MessageHeader;
use mcap::write::{NoSeek, PrivateRecordOptions};
use mcap::{McapError, McapResult, WriteOptions};

use crate::format::nonce::{self, FileNonce};

/// Largest number of channels in a file: the format numbers them with 16 bits, from 1.
pub(crate) const CHANNELS_MAX: usize = u16::MAX as usize;

/// Bytes of a message's record and index entry, without its payload.
const OVERHEAD_LEN: usize = 31 + 16;

/// Size of the index of a chunk, in index entries.
const CHUNK_INDEX: usize = 14;

/// Compression of chunks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// No compression.
    #[default]
    None,
    /// LZ4: two to three times the processor time, and two thirds of the space for slowly changing samples.
    Lz4,
    /// Zstandard at its fastest level: three to four times the processor time, and a little over half of the space.
    Zstd,
}

/// The description of a channel.
///
/// # Examples
/// ```
/// use blocksd_recording::{ChannelSpec, SchemaSpec};
///
/// let temperature = ChannelSpec {
///     topic: "/temperature".to_owned(),
///     encoding: "json".to_owned(),
///     schema: Some(SchemaSpec {
///         name: "Temperature".to_owned(),
///         encoding: "jsonschema".to_owned(),
///         data: br#"{"type":"object"}"#.to_vec(),
///     }),
///     is_counted: true,
///     ..ChannelSpec::default()
/// };
/// # let _ = temperature;
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChannelSpec {
    /// The topic. Several channels may have the same.
    pub topic: String,
    /// Encoding of the messages, such as `json`. May be empty.
    pub encoding: String,
    /// Schema of the messages.
    pub schema: Option<SchemaSpec>,
    /// Additional metadata.
    pub metadata: BTreeMap<String, String>,
    /// Whether [`Stats`](crate::write::stats::Stats) counts its messages.
    pub is_counted: bool,
}

/// The description of a schema.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SchemaSpec {
    /// Name of the schema.
    pub name: String,
    /// Language of the schema, such as `jsonschema`.
    pub encoding: String,
    /// The schema itself.
    pub data: Vec<u8>,
}

/// Encodes one file.
pub(crate) struct SegmentWriter {
    writer: mcap::Writer<NoSeek<Tap>>,
    tap: Tap,
    nonce: FileNonce,
    /// The current chunk contains the nonce.
    begun: bool,
    channels: usize,
    chunk_len: usize,
    /// Number of the current chunk, and of the last chunk with a message of each channel.
    chunk: u32,
    seen: Vec<u32>,
    index_len: usize,
}

impl SegmentWriter {
    /// Begins an empty file.
    ///
    /// # Errors
    /// Only on a defect, because it writes to memory.
    pub(crate) fn new(compression: Compression) -> io::Result<Self> {
        let tap = Tap::default();
        let nonce = FileNonce::new();
        let options = WriteOptions::new()
            .compression(match compression {
                Compression::None => None,
                Compression::Lz4 => Some(mcap::Compression::Lz4),
                Compression::Zstd => Some(mcap::Compression::Zstd),
            })
            // The fastest level of zstd: a third less processor time than its default, for a sixth more space.
            .compression_level(u32::from(compression == Compression::Zstd))
            // No additional threads, however many processors there are.
            .compression_threads(0)
            .library(nonce::library(Some(nonce)))
            // Chunks end only in `end_chunk`.
            .chunk_size(None)
            // Write a chunk in one piece, preceded by its length, so that a reader finds what follows a torn one.
            .disable_seeking(true)
            // Every chunk has a CRC. Another one would be calculated over all bytes again.
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

    /// Returns the nonce of the file.
    #[must_use]
    pub(crate) const fn nonce(&self) -> FileNonce {
        self.nonce
    }

    /// Whether no more channels can be added.
    #[must_use]
    pub(crate) const fn is_full(&self) -> bool {
        CHANNELS_MAX <= self.channels
    }

    /// Whether only a few more channels can be added, so that a new file should be begun.
    #[must_use]
    pub(crate) const fn is_nearly_full(&self) -> bool {
        CHANNELS_MAX <= self.channels + 5
    }

    /// Approximate length of the current chunk, in bytes.
    #[must_use]
    pub(crate) const fn chunk_len(&self) -> usize {
        self.chunk_len
    }

    /// Size of the index, in entries: one for each channel with messages in a chunk, and [`CHUNK_INDEX`] for each
    /// chunk.
    #[must_use]
    pub(crate) const fn index_len(&self) -> usize {
        self.index_len
    }

    /// Adds a channel. Returns the same channel for equal descriptions.
    ///
    /// # Errors
    /// The file [is full](Self::is_full).
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

    /// Adds a message.
    ///
    /// # Errors
    /// Only on a defect, because it writes to memory.
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

    /// Ends the current chunk, if one is begun. Its bytes are then available to [`take`](Self::take).
    ///
    /// # Errors
    /// Only on a defect, because it writes to memory.
    pub(crate) fn end_chunk(&mut self) -> io::Result<()> {
        self.chunk_len = 0;
        self.chunk += 1;
        self.index_len += usize::from(std::mem::take(&mut self.begun)) * CHUNK_INDEX;
        self.writer.flush().map_err(internal)
    }

    /// Ends the file. After that, only [`take`](Self::take) may be called.
    ///
    /// # Errors
    /// Only on a defect, because it writes to memory.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        self.chunk_len = 0;
        self.writer.finish().map(drop).map_err(internal)
    }

    /// Appends the encoded bytes to `into`, and removes them from the writer.
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

/// The output of the `mcap` crate's writer, in memory.
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

/// Converts an error of the `mcap` crate's writer. It is never about the disk.
fn internal(error: McapError) -> io::Error {
    io::Error::other(error)
}
