//! Writes a sealed recording from existing chunks: a [`Rebuilder`] copies them unchanged, without compressing them
//! again.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use mcap::records::{Header, op};

use crate::error::Error;
use crate::format::chunk::Chunk;
use crate::format::encode::{put, put_len, put_text, record};
use crate::format::nonce::{self, FileNonce};
use crate::format::record::{HEAD_LEN, Raw};

/// Size of the write buffer, in bytes.
const WRITE_LEN: usize = 1 << 20;

/// A file that is being written.
#[derive(Debug)]
pub(super) struct Rebuilder {
    path: PathBuf,
    nonce: Option<FileNonce>,
    out: BufWriter<File>,
    at: u64,
    crc: crc32fast::Hasher,
    /// Records of schemas and channels by number, as stored in the chunks.
    schemas: BTreeMap<u16, Vec<u8>>,
    channels: BTreeMap<u16, Vec<u8>>,
    /// Encoded records of the chunk index.
    chunks: Vec<u8>,
    chunk_count: u32,
    attachment_count: u32,
    metadata_count: u32,
    counts: BTreeMap<u16, u64>,
    bounds: Option<(u64, u64)>,
}

/// Log time and offset of the messages in a chunk, by channel.
type Places = BTreeMap<u16, Vec<(u64, u64)>>;

impl Rebuilder {
    /// Creates a file. It must not exist.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub(super) fn create(path: &Path, header: &Header) -> Result<Self, Error> {
        let failure = |error| Error::write(path, error);
        let file = File::create_new(path).map_err(failure)?;
        let mut rebuilder = Self {
            path: path.into(),
            nonce: FileNonce::of_library(&header.library),
            out: BufWriter::with_capacity(WRITE_LEN, file),
            at: 0,
            crc: crc32fast::Hasher::new(),
            schemas: BTreeMap::new(),
            channels: BTreeMap::new(),
            chunks: Vec::new(),
            chunk_count: 0,
            attachment_count: 0,
            metadata_count: 0,
            counts: BTreeMap::new(),
            bounds: None,
        };
        let mut body = Vec::new();
        put_text(&mut body, &header.profile);
        put_text(&mut body, &header.library);
        rebuilder.write(mcap::MAGIC)?;
        rebuilder.write(&record(op::HEADER, &body))?;
        Ok(rebuilder)
    }

    /// Copies a chunk.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub(super) fn chunk(&mut self, chunk: &Chunk<'_>) -> Result<(), Error> {
        let header = &chunk.header;
        let places = self.places(chunk.records);
        let bounds = times(&places).unwrap_or((0, 0));
        let sizes = (header.compressed_size, header.uncompressed_size);
        let mut bytes = std::borrow::Cow::Borrowed(chunk.bytes);
        if bounds != (header.message_start_time, header.message_end_time) {
            // No CRC covers the times, but readers rely on them.
            let times = [bounds.0, bounds.1].map(u64::to_le_bytes);
            let old = bytes.to_mut().get_mut(HEAD_LEN..HEAD_LEN + 16);
            let new = times.as_flattened();
            old.into_iter().for_each(|old| old.copy_from_slice(new));
        }
        self.put_chunk(&bytes, &header.compression, bounds, sizes, &places)
    }

    /// Writes records as an uncompressed chunk.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub(super) fn records(&mut self, records: &[u8]) -> Result<(), Error> {
        let nonce = self.nonce.map(|nonce| record(nonce::OPCODE, &nonce.body()));
        let records = &[&nonce.unwrap_or_default(), records].concat();
        let places = self.places(records);
        let (start, end) = times(&places).unwrap_or((0, 0));
        let len = records.len() as u64;
        let mut body = Vec::with_capacity(records.len() + 40);
        put(&mut body, &[start, end, len]);
        body.extend_from_slice(&crc32fast::hash(records).to_le_bytes());
        put_text(&mut body, "");
        put(&mut body, &[len]);
        body.extend_from_slice(records);
        let bytes = record(op::CHUNK, &body);
        self.put_chunk(&bytes, "", (start, end), (len, len), &places)
    }

    /// Copies an attachment, metadata, or a private record of another program.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub(super) fn other(&mut self, raw: &Raw<'_>) -> Result<(), Error> {
        match raw.opcode {
            op::ATTACHMENT => self.attachment_count += 1,
            op::METADATA => self.metadata_count += 1,
            _ => {}
        }
        self.write(&record(raw.opcode, raw.body))
    }

    /// Writes the summary, and syncs the file.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub(super) fn finish(mut self) -> Result<(), Error> {
        let data_crc = self.crc.clone().finalize();
        self.write(&record(op::DATA_END, &data_crc.to_le_bytes()))?;
        let start = self.at;
        self.crc = crc32fast::Hasher::new();
        let statistics = self.statistics();
        let schemas = std::mem::take(&mut self.schemas);
        let channels = std::mem::take(&mut self.channels);
        let chunks = std::mem::take(&mut self.chunks);
        let groups = [
            (op::SCHEMA, schemas.into_values().flatten().collect()),
            (op::CHANNEL, channels.into_values().flatten().collect()),
            (op::STATISTICS, statistics),
            (op::CHUNK_INDEX, chunks),
        ];
        let mut offsets = Vec::new();
        for (opcode, group) in groups {
            let group: Vec<u8> = group;
            if !group.is_empty() {
                let mut body = vec![opcode];
                put(&mut body, &[self.at, group.len() as u64]);
                offsets.extend(record(op::SUMMARY_OFFSET, &body));
                self.write(&group)?;
            }
        }
        let offsets_start = self.at;
        self.write(&offsets)?;
        let mut footer = Vec::new();
        put(&mut footer, &[start, offsets_start]);
        footer.extend_from_slice(&[0; 4]);
        let mut footer = record(op::FOOTER, &footer);
        footer.truncate(footer.len() - 4);
        self.write(&footer)?;
        let summary_crc = self.crc.clone().finalize();
        self.write(&summary_crc.to_le_bytes())?;
        self.write(mcap::MAGIC)?;
        let synced = self
            .out
            .flush()
            .and_then(|()| self.out.get_ref().sync_all());
        synced.map_err(|error| self.failure(error))
    }

    /// Collects messages and definitions from the records of a chunk.
    fn places(&mut self, mut records: &[u8]) -> Places {
        let mut places = Places::new();
        let all = records.len();
        loop {
            let offset = (all - records.len()) as u64;
            let Some(raw) = Raw::take(&mut records) else {
                return places;
            };
            if let Some((header, _)) = raw.message() {
                let of_channel = places.entry(header.channel_id).or_default();
                of_channel.push((header.log_time, offset));
                *self.counts.entry(header.channel_id).or_default() += 1;
            } else if let Some(id) = raw.body.first_chunk() {
                let id = u16::from_le_bytes(*id);
                let known = match raw.opcode {
                    op::SCHEMA => &mut self.schemas,
                    op::CHANNEL => &mut self.channels,
                    _ => continue,
                };
                known
                    .entry(id)
                    .or_insert_with(|| record(raw.opcode, raw.body));
            }
        }
    }

    fn put_chunk(
        &mut self,
        bytes: &[u8],
        compression: &str,
        (start, end): (u64, u64),
        (compressed_len, uncompressed_len): (u64, u64),
        places: &Places,
    ) -> Result<(), Error> {
        let offset = self.at;
        self.write(bytes)?;
        let indexes_start = self.at;
        let mut map = Vec::new();
        for (channel, entries) in places {
            map.extend_from_slice(&channel.to_le_bytes());
            put(&mut map, &[self.at]);
            let mut body = Vec::with_capacity(6 + entries.len() * 16);
            body.extend_from_slice(&channel.to_le_bytes());
            put_len(&mut body, entries.len() * 16);
            for &(time, offset) in entries {
                put(&mut body, &[time, offset]);
            }
            self.write(&record(op::MESSAGE_INDEX, &body))?;
        }
        if let Some((first, last)) = times(places) {
            let (start, end) = self.bounds.unwrap_or((first, last));
            self.bounds = Some((start.min(first), end.max(last)));
        }
        let mut index = Vec::new();
        put(&mut index, &[start, end, offset, bytes.len() as u64]);
        put_len(&mut index, map.len());
        index.extend(map);
        put(&mut index, &[self.at - indexes_start]);
        put_text(&mut index, compression);
        put(&mut index, &[compressed_len, uncompressed_len]);
        self.chunks.extend(record(op::CHUNK_INDEX, &index));
        self.chunk_count += 1;
        Ok(())
    }

    fn statistics(&self) -> Vec<u8> {
        let mut body = Vec::new();
        put(&mut body, &[self.counts.values().sum()]);
        let schema_count = u16::try_from(self.schemas.len()).unwrap_or(u16::MAX);
        body.extend_from_slice(&schema_count.to_le_bytes());
        put_len(&mut body, self.channels.len());
        for count in [self.attachment_count, self.metadata_count, self.chunk_count] {
            body.extend_from_slice(&count.to_le_bytes());
        }
        let (start, end) = self.bounds.unwrap_or((0, 0));
        put(&mut body, &[start, end]);
        put_len(&mut body, self.counts.len() * 10);
        for (channel, count) in &self.counts {
            body.extend_from_slice(&channel.to_le_bytes());
            put(&mut body, &[*count]);
        }
        record(op::STATISTICS, &body)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.crc.update(bytes);
        self.at += bytes.len() as u64;
        let written = self.out.write_all(bytes);
        written.map_err(|error| self.failure(error))
    }

    fn failure(&self, error: io::Error) -> Error {
        Error::write(&self.path, error)
    }
}

/// Returns the log times of the first and the last message.
fn times(places: &Places) -> Option<(u64, u64)> {
    let times = || places.values().flatten().map(|(time, _)| *time);
    Some((times().min()?, times().max()?))
}
