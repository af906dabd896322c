//! Encodes the indexes that readers use to find messages: message indexes after each chunk, and the summary at the end of a
//! file. Start with [`SummaryBuilder`].

use std::collections::BTreeMap;

use mcap::records::op;

use crate::format::encode::{put, put_len, put_text, record};
use crate::format::record::{HEAD_LEN, PAYLOAD, PAYLOAD_MARK};

/// An entry of a message index: the log time of a message, and its offset in the uncompressed chunk.
pub(crate) type IndexEntry = [u8; 16];

/// Length of a message index record up to its entries, in bytes.
pub(crate) const MESSAGE_INDEX_HEAD_LEN: usize = HEAD_LEN + 6;

/// Encodes an entry of a message index.
#[must_use]
pub(crate) const fn index_entry(time_ns: u64, offset: u64) -> IndexEntry {
    ((offset as u128) << 64 | time_ns as u128).to_le_bytes()
}

/// Encodes a message index record up to its entries.
#[must_use]
pub(crate) fn message_index_head(channel: u16, entries: usize) -> [u8; MESSAGE_INDEX_HEAD_LEN] {
    let len = entries * size_of::<IndexEntry>();
    let mut head = [0; MESSAGE_INDEX_HEAD_LEN];
    head[0] = op::MESSAGE_INDEX;
    head[1..9].copy_from_slice(&(len as u64 + 6).to_le_bytes());
    head[9..11].copy_from_slice(&channel.to_le_bytes());
    // `len` fits in 32 bits: a chunk with more entries would not fit in memory.
    head[11..15].copy_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes());
    head
}

/// A chunk that was written, as its index describes it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WrittenChunk<'a> {
    /// Offset of its record in the file.
    pub offset: u64,
    /// Length of its record, in bytes.
    pub len: u64,
    /// The name of its compression; empty for none.
    pub compression: &'a str,
    /// Length of its content after compression, in bytes.
    pub compressed_len: u64,
    /// Length of its content before compression, in bytes.
    pub uncompressed_len: u64,
    /// Log times of its first and last message; none if it has no messages.
    pub bounds: Option<(u64, u64)>,
    /// Offset of the message index of each channel: pairs of a 16-bit channel number and a 64-bit offset.
    pub index_offsets: &'a [u8],
    /// Length of all its message indexes, in bytes.
    pub indexes_len: u64,
}

/// Collects the summary of a file while its data section is written.
#[derive(Debug, Default)]
pub(crate) struct SummaryBuilder {
    schemas: BTreeMap<u16, Vec<u8>>,
    channels: BTreeMap<u16, Vec<u8>>,
    /// Messages and their payload bytes by channel, for channels with messages.
    counts: BTreeMap<u16, (u64, u64)>,
    /// Encoded chunk index records.
    chunks: Vec<u8>,
    chunk_count: u32,
    /// Encoded attachment index records.
    attachments: Vec<u8>,
    attachment_count: u32,
    /// Encoded metadata index records.
    metadata: Vec<u8>,
    metadata_count: u32,
    bounds: Option<(u64, u64)>,
}

impl SummaryBuilder {
    /// Adds the body of a schema or channel record, unless one with the same number was added before.
    pub(crate) fn define(&mut self, opcode: u8, body: &[u8]) {
        let known = match opcode {
            op::SCHEMA => &mut self.schemas,
            op::CHANNEL => &mut self.channels,
            _ => return,
        };
        if let Some(id) = body.first_chunk() {
            let id = u16::from_le_bytes(*id);
            known.entry(id).or_insert_with(|| record(opcode, body));
        }
    }

    /// Adds messages, and the bytes of their payloads, to the counts of their channel.
    pub(crate) fn count(&mut self, channel: u16, messages: u64, payload: u64) {
        let (of_messages, of_payload) = self.counts.entry(channel).or_default();
        *of_messages += messages;
        *of_payload += payload;
    }

    /// Adds a chunk to the index.
    pub(crate) fn chunk(&mut self, chunk: &WrittenChunk<'_>) {
        if let Some((first, last)) = chunk.bounds {
            let (start, end) = self.bounds.unwrap_or((first, last));
            self.bounds = Some((start.min(first), end.max(last)));
        }
        let (start, end) = chunk.bounds.unwrap_or_default();
        let mut body = Vec::with_capacity(96 + chunk.index_offsets.len());
        put(&mut body, &[start, end, chunk.offset, chunk.len]);
        put_len(&mut body, chunk.index_offsets.len());
        body.extend_from_slice(chunk.index_offsets);
        put(&mut body, &[chunk.indexes_len]);
        put_text(&mut body, chunk.compression);
        put(&mut body, &[chunk.compressed_len, chunk.uncompressed_len]);
        self.chunks.extend(record(op::CHUNK_INDEX, &body));
        self.chunk_count += 1;
    }

    /// Adds an attachment to the index: offset and length of its record, log time and time of creation, length of its
    /// data, name and media type.
    pub(crate) fn attachment(
        &mut self,
        (offset, len): (u64, u64),
        [log_time, create_time]: [u64; 2],
        data_len: u64,
        texts: [&str; 2],
    ) {
        let mut body = Vec::new();
        put(&mut body, &[offset, len, log_time, create_time, data_len]);
        texts.iter().for_each(|text| put_text(&mut body, text));
        self.attachments.extend(record(op::ATTACHMENT_INDEX, &body));
        self.attachment_count += 1;
    }

    /// Adds a metadata record to the index: its offset, length and name.
    pub(crate) fn metadata(&mut self, (offset, len): (u64, u64), name: &str) {
        let mut body = Vec::new();
        put(&mut body, &[offset, len]);
        put_text(&mut body, name);
        self.metadata.extend(record(op::METADATA_INDEX, &body));
        self.metadata_count += 1;
    }

    /// Encodes the rest of the file after the data section, which ends at the offset `start`: summary, footer and magic.
    #[must_use]
    pub(crate) fn encode(self, start: u64) -> Vec<u8> {
        let (statistics, payload) = (self.statistics(), self.payload());
        let groups = [
            (op::SCHEMA, self.schemas.into_values().flatten().collect()),
            (op::CHANNEL, self.channels.into_values().flatten().collect()),
            (op::STATISTICS, statistics),
            (op::CHUNK_INDEX, self.chunks),
            (op::ATTACHMENT_INDEX, self.attachments),
            (op::METADATA_INDEX, self.metadata),
        ];
        let (mut bytes, mut offsets) = (Vec::new(), Vec::new());
        for (opcode, group) in groups {
            let group: Vec<u8> = group;
            if !group.is_empty() {
                let mut body = vec![opcode];
                put(&mut body, &[start + bytes.len() as u64, group.len() as u64]);
                offsets.extend(record(op::SUMMARY_OFFSET, &body));
                bytes.extend(group);
            }
        }
        // Readers of other programs skip this record.
        bytes.extend(payload);
        let offsets_start = start + bytes.len() as u64;
        bytes.extend(offsets);
        let mut footer = Vec::new();
        put(&mut footer, &[start, offsets_start]);
        footer.extend_from_slice(&[0; 4]);
        bytes.extend(record(op::FOOTER, &footer));
        // Replace the four zero bytes with the CRC of everything before them.
        bytes.truncate(bytes.len() - 4);
        let crc = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes.extend_from_slice(mcap::MAGIC);
        bytes
    }

    fn payload(&self) -> Vec<u8> {
        let mut body = PAYLOAD_MARK.to_vec();
        for (channel, (_, payload)) in &self.counts {
            body.extend_from_slice(&channel.to_le_bytes());
            put(&mut body, &[*payload]);
        }
        record(PAYLOAD, &body)
    }

    fn statistics(&self) -> Vec<u8> {
        let mut body = Vec::new();
        put(
            &mut body,
            &[self.counts.values().map(|(count, _)| count).sum()],
        );
        let schema_count = u16::try_from(self.schemas.len()).unwrap_or(u16::MAX);
        body.extend_from_slice(&schema_count.to_le_bytes());
        put_len(&mut body, self.channels.len());
        for count in [self.attachment_count, self.metadata_count, self.chunk_count] {
            body.extend_from_slice(&count.to_le_bytes());
        }
        let (start, end) = self.bounds.unwrap_or_default();
        put(&mut body, &[start, end]);
        put_len(&mut body, self.counts.len() * 10);
        for (channel, (count, _)) in &self.counts {
            body.extend_from_slice(&channel.to_le_bytes());
            put(&mut body, &[*count]);
        }
        record(op::STATISTICS, &body)
    }
}
