//! Writes a sealed recording from existing chunks: a [`Rebuilder`] copies them unchanged, without compressing them
//! again.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use mcap::records::{Header, Record, op};

use crate::error::Error;
use crate::format::chunk::Chunk;
use crate::format::encode::{put, put_text, record};
use crate::format::index::{SummaryBuilder, WrittenChunk, index_entry, message_index_head};
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
    summary: SummaryBuilder,
}

/// The messages in a chunk, by channel.
type Places = BTreeMap<u16, Place>;

/// The messages of a channel in a chunk.
#[derive(Debug, Default)]
struct Place {
    /// Log time and offset of each.
    entries: Vec<(u64, u64)>,
    /// Bytes of their payloads.
    payload: u64,
}

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
            summary: SummaryBuilder::default(),
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
        self.put_chunk(&bytes, &header.compression, sizes, &places)
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
        self.put_chunk(&bytes, "", (len, len), &places)
    }

    /// Copies an attachment, metadata, or a private record of another program.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub(super) fn other(&mut self, raw: &Raw<'_>) -> Result<(), Error> {
        let place = (self.at, (HEAD_LEN + raw.body.len()) as u64);
        match raw.parse() {
            Some(Record::Attachment { header, data, .. }) => {
                let times = [header.log_time, header.create_time];
                let texts = [&*header.name, &header.media_type];
                let len = data.len() as u64;
                self.summary.attachment(place, times, len, texts);
            }
            Some(Record::Metadata(metadata)) => self.summary.metadata(place, &metadata.name),
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
        let summary = std::mem::take(&mut self.summary).encode(self.at);
        self.write(&summary)?;
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
            if let Some((header, data)) = raw.message() {
                let place = places.entry(header.channel_id).or_default();
                place.entries.push((header.log_time, offset));
                place.payload += data.len() as u64;
            } else {
                self.summary.define(raw.opcode, raw.body);
            }
        }
    }

    fn put_chunk(
        &mut self,
        bytes: &[u8],
        compression: &str,
        (compressed_len, uncompressed_len): (u64, u64),
        places: &Places,
    ) -> Result<(), Error> {
        let offset = self.at;
        self.write(bytes)?;
        let indexes_start = self.at;
        let mut index_offsets = Vec::new();
        for (&channel, Place { entries, payload }) in places {
            index_offsets.extend_from_slice(&channel.to_le_bytes());
            put(&mut index_offsets, &[self.at]);
            self.write(&message_index_head(channel, entries.len()))?;
            let entries: Vec<_> = entries
                .iter()
                .map(|&(time, offset)| index_entry(time, offset))
                .collect();
            self.write(entries.as_flattened())?;
            self.summary.count(channel, entries.len() as u64, *payload);
        }
        self.summary.chunk(&WrittenChunk {
            offset,
            len: bytes.len() as u64,
            compression,
            compressed_len,
            uncompressed_len,
            bounds: times(places),
            index_offsets: &index_offsets,
            indexes_len: self.at - indexes_start,
        });
        Ok(())
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
    let entries = || places.values().flat_map(|place| &place.entries);
    let times = || entries().map(|(time, _)| *time);
    Some((times().min()?, times().max()?))
}
