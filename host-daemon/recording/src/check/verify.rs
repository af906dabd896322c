//! Verifies that a recording is sound: all CRCs, all records, and that the statements of the file about itself match
//! its content. Start with `verify`.
//!
//! A value that no CRC covers is trusted only if it agrees with a second one.

mod summary;

use std::collections::BTreeMap;

use mcap::records::{Channel, ChunkIndex, Header, MessageHeader, MessageIndexEntry, Record, op};

use crate::check::finding::{Finding, FindingKind};
use crate::check::sequences::{SequenceRanges, Sequences};
use crate::error::Error;
use crate::format::chunk::Chunk;
use crate::format::nonce::{self, FileNonce, LIBRARY, is_near_library};
use crate::format::origin;
use crate::format::private;
use crate::format::record::{EVENTS_TOPIC, GAP, GAP_LEN, HEAD_LEN, Kind, Raw, device, is_unknown};
use crate::read::scan::{Found, Scan};
use crate::read::summary::{Summary, crc};
use crate::read::window::WindowedFile;

/// The content of a verified file.
#[derive(Clone, Debug, Default)]
pub struct Verified {
    /// Number of whole chunks.
    pub chunks: u64,
    /// Number of messages in them.
    pub messages: u64,
    /// Number of complete messages of devices among them, and of messages of other programs.
    pub blocks: u64,
    /// Number of devices, and of topics of other programs.
    pub devices: u64,
    /// Number of findings.
    pub findings: u64,
}

/// See [`Checker::verify`](crate::check::Checker::verify).
pub(super) fn verify(
    input: WindowedFile,
    growing: bool,
    ranges: &dyn SequenceRanges,
    report: &mut dyn FnMut(&Finding),
) -> Result<Verified, Error> {
    let mut index = input.again();
    let read = match growing {
        true => None,
        false => Some(Summary::read(&mut index)?),
    };
    let summary = read.as_ref().and_then(|read| read.as_ref().ok()).cloned();
    let mut scan = Scan::new(input, summary.as_ref(), growing);
    let mut verifier = Verifier {
        report,
        index,
        ours: true,
        is_near: true,
        nonce: None,
        index_at: summary.as_ref().map(|summary| summary.start),
        summary,
        verified: Verified::default(),
        chunk: None,
        channels: BTreeMap::new(),
        schemas: BTreeMap::new(),
        sequences: Sequences::new(ranges),
        counts: BTreeMap::new(),
        others: [0; 2],
        bounds: None,
    };
    if let Some(Err(fault)) = read {
        let offset = fault.offset().unwrap_or_else(|| verifier.index.len());
        verifier.report(offset, FindingKind::Summary(fault));
    }
    verifier.groups()?;
    while let Some(found) = scan.advance()? {
        match found {
            Found::Header(header) => {
                verifier.ours = scan.is_ours();
                verifier.header(&header);
            }
            Found::Chunk(chunk) => verifier.chunk(&chunk)?,
            Found::Record { offset, raw } => verifier.record(offset, &raw)?,
            Found::Lost(lost) => verifier.report(lost.offset, FindingKind::Lost(lost)),
        }
        verifier.ours = scan.is_ours();
        if scan.has_ended() {
            break;
        }
    }
    verifier.finish()
}

/// The last chunk, and the expected content of its indexes.
struct Seen {
    offset: u64,
    index: ChunkIndex,
    /// The messages of each channel.
    entries: BTreeMap<u16, Vec<MessageIndexEntry>>,
}

struct Verifier<'a> {
    report: &'a mut dyn FnMut(&Finding),
    /// Reads the chunk indexes of the summary, one after the other.
    index: WindowedFile,
    index_at: Option<u64>,
    ours: bool,
    /// The library field of the header is that of this library, or near it.
    is_near: bool,
    nonce: Option<FileNonce>,
    summary: Option<Summary>,
    verified: Verified,
    chunk: Option<Seen>,
    channels: BTreeMap<u16, Channel>,
    schemas: BTreeMap<u16, (String, String, Vec<u8>)>,
    sequences: Sequences<'a>,
    /// Messages and payload bytes by channel.
    counts: BTreeMap<u16, (u64, u64)>,
    /// Number of attachments and of metadata records.
    others: [u32; 2],
    bounds: Option<(u64, u64)>,
}

impl Verifier<'_> {
    fn report(&mut self, offset: u64, kind: FindingKind) {
        self.verified.findings += 1;
        (self.report)(&Finding { offset, kind });
    }

    fn header(&mut self, header: &Header) {
        self.nonce = FileNonce::of_library(&header.library);
        let library = &header.library;
        self.is_near = is_near_library(library.as_bytes());
        if let Some(version) = header.library.strip_prefix(LIBRARY) {
            let numbers = version.split(['-', '+']).next().unwrap_or_default();
            let is_number = |part: &str| part.parse::<u32>().is_ok();
            let sound = numbers.split('.').count() == 3 && numbers.split('.').all(is_number);
            if !sound || !header.profile.is_empty() {
                self.report(0, FindingKind::Library(header.library.clone()));
            }
        } else if self.ours {
            // The nonce shows that this library wrote the file.
            self.report(0, FindingKind::Library(header.library.clone()));
        }
    }

    fn chunk(&mut self, chunk: &Chunk<'_>) -> Result<(), Error> {
        self.end_chunk()?;
        self.verified.chunks += 1;
        let mut entries: BTreeMap<u16, Vec<MessageIndexEntry>> = BTreeMap::new();
        let mut bounds = None;
        if FileNonce::of_chunk(chunk.records) != self.nonce {
            self.report(chunk.offset, FindingKind::Nonce);
        }
        let mut is_head = self.ours;
        for (offset, raw) in chunk.records() {
            is_head &= private::is_private(raw.opcode) || offset == 0;
            if let Some((header, data)) = raw.message() {
                let log_time = header.log_time;
                let of_channel = entries.entry(header.channel_id).or_default();
                of_channel.push(MessageIndexEntry { log_time, offset });
                bounds = Some(widen(bounds, log_time));
                self.message(chunk.offset, &header, data);
            } else if raw.opcode == GAP && raw.body.len() == GAP_LEN && self.ours {
                self.sequences.gap();
            } else if raw.opcode == origin::OPCODE && self.ours {
                self.origin(chunk.offset, &raw);
            } else if is_head && offset != 0 && private::is_sound(&raw) {
                // What it states about other lengths cannot be checked here.
            } else if raw.opcode != nonce::OPCODE || offset != 0 {
                self.definition(chunk.offset, &raw);
            }
        }
        let header = &chunk.header;
        let (start, end) = bounds.unwrap_or((0, 0));
        if (start, end) != (header.message_start_time, header.message_end_time) {
            self.report(chunk.offset, FindingKind::ChunkTimes);
        }
        self.chunk = Some(Seen {
            offset: chunk.offset,
            index: ChunkIndex {
                message_start_time: start,
                message_end_time: end,
                chunk_start_offset: chunk.offset,
                chunk_length: chunk.bytes.len() as u64,
                message_index_offsets: BTreeMap::new(),
                message_index_length: 0,
                compression: header.compression.clone(),
                compressed_size: header.compressed_size,
                uncompressed_size: header.uncompressed_size,
            },
            entries,
        });
        Ok(())
    }

    fn message(&mut self, offset: u64, header: &MessageHeader, data: &[u8]) {
        let MessageHeader {
            channel_id: id,
            sequence,
            log_time: time,
            ..
        } = *header;
        self.verified.messages += 1;
        let (count, payload) = self.counts.entry(id).or_default();
        *count += 1;
        *payload += data.len() as u64;
        self.bounds = Some(widen(self.bounds, time));
        let Some(channel) = self.channels.get(&id) else {
            self.report(offset, FindingKind::UnknownChannel { id });
            return;
        };
        let kind = Kind::of(&channel.topic);
        self.verified.blocks += u64::from(matches!(kind, Kind::Blocks | Kind::Other));
        let want = self
            .sequences
            .take(Some(channel), sequence, data, self.ours);
        if let Some(want) = want {
            let kind = FindingKind::Sequence {
                topic: channel.topic.clone(),
                want,
                found: sequence,
            };
            self.report(offset, kind);
        }
    }

    fn origin(&mut self, offset: u64, raw: &Raw<'_>) {
        let channel = origin::parse(raw.body).map(|(channel, _)| channel);
        let is_known = channel.is_some_and(|channel| self.channels.contains_key(&channel));
        if !is_known || raw.body.len() != origin::BODY_LEN {
            self.report(offset, FindingKind::Origin { channel });
        }
    }

    /// Checks a schema or a channel in the data section.
    fn definition(&mut self, offset: u64, raw: &Raw<'_>) {
        match raw.parse() {
            Some(Record::Channel(channel)) => {
                let id = channel.id;
                let schema = channel.schema_id;
                if schema != 0 && !self.schemas.contains_key(&schema) {
                    self.report(offset, FindingKind::Schema { id: schema });
                }
                let before = self.channels.insert(id, channel.clone());
                if before.is_some_and(|before| before != channel) {
                    self.report(offset, FindingKind::Channel { id });
                }
            }
            Some(Record::Schema { header, data }) => {
                let id = header.id;
                let schema = (header.name, header.encoding, data.into_owned());
                let before = self.schemas.insert(id, schema.clone());
                if id == 0 || before.is_some_and(|before| before != schema) {
                    self.report(offset, FindingKind::Schema { id });
                }
            }
            _ if is_unknown(raw.opcode) && !self.ours => {}
            _ => {
                let opcode = raw.opcode;
                self.report(offset, FindingKind::Stray { opcode });
            }
        }
    }

    /// Checks a record outside of chunks.
    fn record(&mut self, offset: u64, raw: &Raw<'_>) -> Result<(), Error> {
        let is_passed_over = is_unknown(raw.opcode) && !self.ours;
        if raw.opcode != op::MESSAGE_INDEX && !is_passed_over {
            self.end_chunk()?;
        }
        match raw.opcode {
            op::MESSAGE_INDEX => self.message_index(offset, raw),
            op::DATA_END => {}
            op::MESSAGE => {
                if let Some((header, data)) = raw.message() {
                    self.message(offset, &header, data);
                }
            }
            _ if self.ours => {
                let opcode = raw.opcode;
                self.report(offset, FindingKind::Stray { opcode });
            }
            op::SCHEMA | op::CHANNEL => self.definition(offset, raw),
            op::ATTACHMENT | op::METADATA => {
                let [attachments, metadata] = &mut self.others;
                let is_metadata = raw.opcode == op::METADATA;
                *(if is_metadata { metadata } else { attachments }) += 1;
                if raw.parse().is_none() {
                    self.report(offset, FindingKind::Attachment);
                }
            }
            opcode if is_unknown(opcode) => {}
            opcode => self.report(offset, FindingKind::Stray { opcode }),
        }
        Ok(())
    }

    fn message_index(&mut self, offset: u64, raw: &Raw<'_>) {
        let Some(seen) = &mut self.chunk else {
            let opcode = raw.opcode;
            return self.report(offset, FindingKind::Stray { opcode });
        };
        let Some(Record::MessageIndex(mut index)) = raw.parse() else {
            return self.report(offset, FindingKind::MessageIndex);
        };
        let of_index = &mut seen.index;
        of_index.message_index_length += (HEAD_LEN + raw.body.len()) as u64;
        let offsets = &mut of_index.message_index_offsets;
        let is_second = offsets.insert(index.channel_id, offset).is_some();
        let mut want = seen.entries.get(&index.channel_id).cloned();
        if !self.ours {
            let key = |entry: &MessageIndexEntry| (entry.log_time, entry.offset);
            index.records.sort_by_key(key);
            want.iter_mut().for_each(|want| want.sort_by_key(key));
        }
        if is_second || want.unwrap_or_default() != index.records {
            self.report(offset, FindingKind::MessageIndex);
        }
    }

    fn finish(mut self) -> Result<Verified, Error> {
        self.end_chunk()?;
        let named = |channel: &Channel| {
            let keys = ["device", "framing", "decode"];
            let ours = keys.iter().all(|key| channel.metadata.contains_key(*key));
            ours || channel.topic == EVENTS_TOPIC
        };
        if !self.ours && self.is_near && self.channels.values().any(named) {
            // Channels of `blocksd` in a file whose header is damaged. Other programs may copy such channels.
            self.report(0, FindingKind::Library(String::new()));
        }
        let of_devices = self.channels.values().filter(|channel| {
            let kind = Kind::of(&channel.topic);
            kind.is_payload()
        });
        let devices: std::collections::BTreeSet<_> = of_devices.map(device).collect();
        self.verified.devices = devices.len() as u64;
        let Some(summary) = self.summary.take() else {
            return Ok(self.verified);
        };
        // Unreadable bytes are reported already.
        let is_readable = self.index.unreadable(0, summary.data_end).is_none();
        if summary.data_crc != 0 && is_readable {
            let (stored, end) = (summary.data_crc, summary.data_end);
            let calculated = crc(&mut self.index, 0, end)?;
            if stored != calculated {
                self.report(end, FindingKind::DataCrc { stored, calculated });
            }
        }
        self.definitions(&summary);
        self.statistics(&summary);
        Ok(self.verified)
    }
}

fn widen(bounds: Option<(u64, u64)>, time: u64) -> (u64, u64) {
    let (start, end) = bounds.unwrap_or((time, time));
    (start.min(time), end.max(time))
}
