//! One MCAP file as it is written: messages in, bytes out. It touches no disk, so it cannot fail half-way.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use mcap::records::MessageHeader;
use mcap::write::{NoSeek, PrivateRecordOptions};
use mcap::{McapError, McapResult, WriteOptions};

use crate::engine::event::Source;
use crate::recorded::note::{VERSION, VERSION_KEY};
use crate::recording::format::nonce::{self, Mark};
use crate::recording::format::record::{DEVICE, EVENTS_TOPIC};

/// Channels that a file may have: the format counts them in 16 bits, from 1.
pub const CHANNELS_MAX: usize = u16::MAX as usize;

/// What the messages of [`EVENTS_TOPIC`] are, as a JSON schema.
const EVENTS_SCHEMA: &str = r#"{"type":"object","properties":{"event":{"type":"string"},"conn":{"type":"integer"},"device":{"type":"string"},"time":{"type":"string","format":"date-time"}},"required":["event","time"]}"#;

/// What a message has besides its own bytes: its record's and its index entry's.
const OVERHEAD_LEN: usize = 31 + 16;

/// What the index at the end has for each chunk besides, in entries' worth.
const CHUNK_INDEX: usize = 14;

/// How chunks are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// LZ4: two to three times the processor time, and two thirds of the space for slowly moving samples.
    Lz4,
    /// Zstandard at its fastest: three to four times the processor time, and a little over half of the space.
    Zstd,
}

/// What a channel of a device holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Whole messages.
    Blocks,
    /// Parts of messages.
    Pieces,
}

/// Makes one file.
pub struct Container {
    writer: mcap::Writer<NoSeek<Tap>>,
    tap: Tap,
    mark: Mark,
    /// The present chunk has its mark.
    begun: bool,
    events: Option<u16>,
    channels: usize,
    chunk_len: usize,
    /// Number of the present chunk, and of the last one with a message of each channel.
    chunk: u32,
    seen: Vec<u32>,
    index_len: usize,
}

impl Container {
    /// An empty file.
    ///
    /// # Errors
    /// None that can be expected: nothing is written but to memory.
    pub fn new(compression: Compression) -> io::Result<Self> {
        let tap = Tap::default();
        let mark = Mark::new();
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
            .library(nonce::library(Some(mark)))
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
            mark,
            begun: false,
            events: None,
            channels: 0,
            chunk_len: 0,
            chunk: 1,
            seen: Vec::new(),
            index_len: 0,
        })
    }

    /// The mark of the file.
    #[must_use]
    pub const fn mark(&self) -> Mark {
        self.mark
    }

    /// Whether the channels of one more connection may be too many: it is time for another file.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.channels + 3 >= CHANNELS_MAX
    }

    /// Bytes in the present chunk, about.
    #[must_use]
    pub const fn chunk_len(&self) -> usize {
        self.chunk_len
    }

    /// How often a chunk has messages of a channel, over all chunks: what the index at the end grows by.
    #[must_use]
    pub const fn index_len(&self) -> usize {
        self.index_len
    }

    /// The channel of a device. The same for connections that differ in nothing.
    ///
    /// # Errors
    /// Where the file [is full](Self::is_full).
    pub fn channel(&mut self, source: &Source, kind: Kind) -> io::Result<u16> {
        let decode = source.decoder.decoding().as_str();
        let (name, encoding) = match (kind, decode) {
            (Kind::Blocks, "cbor" | "json") => ("blocks", decode),
            (Kind::Blocks, _) => ("blocks", "raw"),
            (Kind::Pieces, _) => ("pieces", "raw"),
        };
        let topic = format!("{DEVICE}{}/{name}", source.device);
        let metadata = BTreeMap::from([
            ("device".to_owned(), source.device.to_string()),
            ("framing".to_owned(), source.framing.to_string()),
            ("decode".to_owned(), decode.to_owned()),
        ]);
        self.begin_chunk()?;
        let added = self.writer.add_channel(0, &topic, encoding, &metadata);
        self.added(added, topic.len())
    }

    /// The channel of what is told of connections, in JSON.
    ///
    /// # Errors
    /// Where the file [is full](Self::is_full).
    pub fn events(&mut self) -> io::Result<u16> {
        if let Some(channel) = self.events {
            return Ok(channel);
        }
        self.begin_chunk()?;
        let schema = EVENTS_SCHEMA.as_bytes();
        let schema = self
            .writer
            .add_schema("blocksd.Event", "jsonschema", schema);
        let schema = schema.map_err(internal)?;
        let metadata = BTreeMap::from([(VERSION_KEY.to_owned(), VERSION.to_owned())]);
        let added = self
            .writer
            .add_channel(schema, EVENTS_TOPIC, "json", &metadata);
        let channel = self.added(added, EVENTS_SCHEMA.len())?;
        Ok(*self.events.insert(channel))
    }

    /// Adds a block or a piece.
    ///
    /// # Errors
    /// None that can be expected.
    pub fn message(
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
    pub fn end_chunk(&mut self) -> io::Result<()> {
        self.chunk_len = 0;
        self.chunk += 1;
        self.index_len += usize::from(std::mem::take(&mut self.begun)) * CHUNK_INDEX;
        self.writer.flush().map_err(internal)
    }

    /// Ends the file. Only [`take`](Self::take) makes sense after that.
    ///
    /// # Errors
    /// None that can be expected.
    pub fn finish(&mut self) -> io::Result<()> {
        self.chunk_len = 0;
        self.writer.finish().map(drop).map_err(internal)
    }

    /// Moves the bytes that are ready to be written to the end of these.
    pub fn take(&mut self, into: &mut Vec<u8>) {
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
            let body = self.mark.body();
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

impl std::fmt::Debug for Container {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Container")
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
