//! The summary at the end of a sealed recording: [`Summary`].

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fmt;
use std::path::Path;

use mcap::records::{Channel, ChunkIndex, Footer, Record, SchemaHeader, Statistics, op};

use crate::error::Error;
use crate::format::chunk::CHUNK_MAX;
use crate::format::filename::{LOST, PART};
use crate::format::index::{IndexEntry, MESSAGE_INDEX_HEAD_LEN};
use crate::format::record::{
    DATA_END_LEN, HEAD_LEN, Kind, PAYLOAD, PAYLOAD_ENTRY_LEN, PAYLOAD_MARK, Raw, head, is_unknown,
};
use crate::read::unreadable::UnreadableRange;
use crate::read::window::WindowedFile;

/// Length of the footer record, in bytes.
pub(crate) const FOOTER_LEN: u64 = HEAD_LEN as u64 + 20;
/// Length of the magic at both ends of a file, in bytes.
pub(crate) const MAGIC_LEN: u64 = mcap::MAGIC.len() as u64;
/// Bytes per step when a CRC is calculated.
const STEP_LEN: usize = 1 << 20;

/// The summary of a sealed file, without the index of single messages.
///
/// # Examples
/// ```
/// use blocksd_recording::scan::Summary;
/// use blocksd_recording::{Channel, ChannelSpec, Log, LogOptions, WindowedFile};
///
/// # let folder = tempfile::tempdir()?;
/// # let folder = folder.path();
/// let mut log = Log::open(folder, LogOptions::default())?;
/// let channel = log.channel(&mut Channel::default(), ChannelSpec::default)?;
/// log.append(channel, 0, 0, b"message")?;
/// log.finish()?;
///
/// let file = blocksd_recording::catalog::list_directory(folder)?.remove(0);
/// let summary = Summary::read(&mut WindowedFile::open(&file.path)?)?.expect("a sealed file");
/// assert_eq!(summary.statistics.expect("statistics").message_count, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Offset of the record that ends the data section.
    pub data_end: u64,
    /// CRC of the data section; 0 if it has none.
    pub data_crc: u32,
    /// Offset of the summary.
    pub start: u64,
    /// Offset of the footer.
    pub footer: u64,
    /// Schemas by number.
    pub schemas: BTreeMap<u16, (SchemaHeader, Vec<u8>)>,
    /// Channels by number.
    pub channels: BTreeMap<u16, Channel>,
    /// Statistics of the file.
    pub statistics: Option<Statistics>,
    /// Locations of the chunks, in the order of the file.
    pub chunks: Vec<ChunkLocation>,
    /// Compression of the first chunk.
    pub compression: Option<String>,
    /// Uncompressed length of all chunks, in bytes.
    pub uncompressed_len: u64,
    /// Payload bytes by channel, if the file states them. Files of earlier versions and of other programs do not.
    pub payload: Option<BTreeMap<u16, u64>>,
}

/// The location of a chunk, and the number and times of its messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkLocation {
    /// Offset of its record.
    pub offset: u64,
    /// Length of its record, in bytes.
    pub len: u64,
    /// Log time of its first message, in nanoseconds since 1970.
    pub start_time: u64,
    /// Log time of its last message, in nanoseconds since 1970.
    pub end_time: u64,
    /// Number of its messages with an index; `None` if the length of its indexes is no sum of such.
    pub messages: Option<u64>,
}

/// Why a file has no valid summary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SummaryFault {
    /// The file does not end with the MCAP magic.
    NoMagic,
    /// There is no footer before the magic.
    NoFooter {
        /// Offset where it should be.
        offset: u64,
    },
    /// The offsets in the footer are outside of the file, or out of order.
    Offsets {
        /// Offset of the footer.
        offset: u64,
    },
    /// The CRC of the summary does not match.
    Crc {
        /// Offset of the summary.
        offset: u64,
        /// The stored CRC.
        stored: u32,
        /// The calculated CRC.
        calculated: u32,
    },
    /// There is no end of the data section before the summary.
    NoDataEnd {
        /// Offset where it should be.
        offset: u64,
    },
    /// The summary contains bytes that are not a record, or a record that is not allowed there.
    NoRecord {
        /// Offset of these bytes.
        offset: u64,
    },
    /// The summary lists a chunk outside of the data section.
    NoPlace {
        /// Offset of the entry.
        offset: u64,
    },
    /// The disk cannot read the summary.
    Unreadable(UnreadableRange),
}

impl Summary {
    /// Reads the summary of a sealed file. Returns `None` if the file is being written, was left by a crash, or has no
    /// valid summary: its end may then be payload that looks like a summary.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub fn of_sealed(input: &mut WindowedFile, is_open: bool) -> Result<Option<Self>, Error> {
        if is_open || is_torn_name(input.path()) {
            return Ok(None);
        }
        Ok(Self::read(input)?.ok())
    }

    /// Reads the summary at the end of a file.
    ///
    /// # Errors
    /// [`Error::Read`]. The inner result says why there is no valid summary.
    pub fn read(input: &mut WindowedFile) -> Result<Result<Self, SummaryFault>, Error> {
        let read = Self::read_all(input)?;
        // Unreadable bytes were read as zeros.
        let from = match &read {
            Ok(summary) => summary.data_end,
            Err(fault) => fault
                .offset()
                .unwrap_or_else(|| input.len().saturating_sub(MAGIC_LEN)),
        };
        Ok(match input.unreadable(from, input.len()) {
            Some(range) => Err(SummaryFault::Unreadable(range)),
            None => read,
        })
    }

    fn read_all(input: &mut WindowedFile) -> Result<Result<Self, SummaryFault>, Error> {
        let (footer_at, footer) = match find_footer(input)? {
            Ok(found) => found,
            Err(fault) => return Ok(Err(fault)),
        };
        let start = match footer.summary_start {
            0 => footer_at,
            start => start,
        };
        let data_end = start.saturating_sub(DATA_END_LEN);
        if footer_at < start || data_end < MAGIC_LEN {
            return Ok(Err(SummaryFault::Offsets { offset: footer_at }));
        }
        let stored = footer.summary_crc;
        if stored != 0 {
            // The CRC includes the beginning of the footer.
            let calculated = crc(input, start, footer_at + FOOTER_LEN - 4)?;
            if stored != calculated {
                return Ok(Err(SummaryFault::Crc {
                    offset: start,
                    stored,
                    calculated,
                }));
            }
        }
        let mut summary = Self {
            data_end,
            start,
            footer: footer_at,
            ..Self::default()
        };
        match record_at(input, data_end, start)?.and_then(|raw| raw.parse()) {
            Some(Record::DataEnd(end)) => summary.data_crc = end.data_section_crc,
            _ => return Ok(Err(SummaryFault::NoDataEnd { offset: data_end })),
        }
        let mut at = start;
        while at < footer_at {
            let Some(raw) = record_at(input, at, footer_at)? else {
                return Ok(Err(SummaryFault::NoRecord { offset: at }));
            };
            if let Err(fault) = summary.take(at, &raw) {
                return Ok(Err(fault));
            }
            at += (HEAD_LEN + raw.body.len()) as u64;
        }
        Ok(Ok(summary))
    }

    /// Whether the index has all chunks, according to the statistics.
    pub(crate) fn lists_all_chunks(&self) -> bool {
        let stated = self.statistics.as_ref().map(|it| it.chunk_count as usize);
        match stated {
            Some(stated) => stated == self.chunks.len(),
            None => !self.chunks.is_empty(),
        }
    }

    /// Returns the offsets of the chunks that have messages in a wanted channel, in the order of the file. Returns `None`
    /// if the summary does not say so of every chunk, or lacks channels. `input` is the file of the summary.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub fn chunks_of(
        &self,
        input: &mut WindowedFile,
        is_wanted: &dyn Fn(&Channel) -> bool,
    ) -> Result<Option<Vec<u64>>, Error> {
        if !self.lists_all_chunks() || !self.lists_all_channels() {
            return Ok(None);
        }
        let wanted = self.channels.iter().filter(|(_, it)| is_wanted(it));
        let wanted: BTreeSet<u16> = wanted.map(|(id, _)| *id).collect();
        let (mut at, mut found) = (self.start, Vec::new());
        while let Some(raw) = record_at(input, at, self.footer)? {
            at += (HEAD_LEN + raw.body.len()) as u64;
            if raw.opcode != op::CHUNK_INDEX {
                continue;
            }
            let Some(Record::ChunkIndex(index)) = raw.parse() else {
                return Ok(None);
            };
            let offsets = &index.message_index_offsets;
            // Other programs may leave out the index of messages.
            if offsets.is_empty() && index.message_start_time != 0 {
                return Ok(None);
            }
            if offsets.keys().any(|id| wanted.contains(id)) {
                found.push(index.chunk_start_offset);
            }
        }
        found.sort_unstable();
        Ok(Some(found))
    }

    /// Whether the summary has all channels, according to the statistics.
    pub(crate) fn lists_all_channels(&self) -> bool {
        let stated = self.statistics.as_ref().map(|it| it.channel_count);
        stated.is_some_and(|stated| stated as usize == self.channels.len())
    }

    /// Returns the number of messages in the channels of a kind, or `None` without statistics.
    #[must_use]
    pub fn count(&self, kind: Kind) -> Option<u64> {
        let counts = self.statistics.as_ref()?.channel_message_counts.iter();
        let is_kind = |id: &u16| {
            let channel = self.channels.get(id);
            channel.is_some_and(|channel| Kind::of(&channel.topic) == kind)
        };
        let of_kind = counts.filter(|(id, _)| is_kind(id)).map(|(_, count)| count);
        Some(of_kind.fold(0, |sum: u64, count| sum.saturating_add(*count)))
    }

    /// Returns the payload bytes of all messages of devices and of other programs, if the file states them.
    #[must_use]
    pub fn payload_bytes(&self) -> Option<u64> {
        let is_other = |id: &u16| {
            let channel = self.channels.get(id);
            channel.is_some_and(|channel| !Kind::of(&channel.topic).is_payload())
        };
        let payload = self.payload.as_ref()?.iter();
        let payload = payload
            .filter(|(id, _)| !is_other(id))
            .map(|(_, bytes)| bytes);
        Some(payload.fold(0, |sum: u64, bytes| sum.saturating_add(*bytes)))
    }

    fn take(&mut self, offset: u64, raw: &Raw<'_>) -> Result<(), SummaryFault> {
        if raw.opcode == PAYLOAD {
            let entries = raw.body.strip_prefix(PAYLOAD_MARK);
            let entries = entries.filter(|it| it.len().is_multiple_of(PAYLOAD_ENTRY_LEN));
            self.payload =
                entries.map(|it| it.chunks_exact(PAYLOAD_ENTRY_LEN).map(payload).collect());
            return Ok(());
        }
        if is_unknown(raw.opcode) {
            return Ok(());
        }
        match raw.parse().ok_or(SummaryFault::NoRecord { offset })? {
            Record::Schema { header, data } => {
                self.schemas.insert(header.id, (header, data.into_owned()));
            }
            Record::Channel(channel) => {
                self.channels.insert(channel.id, channel);
            }
            Record::Statistics(statistics) => self.statistics = Some(statistics),
            Record::ChunkIndex(index) => {
                let place = ChunkLocation::of(&index);
                let end = place.offset.checked_add(place.len);
                let fits = end.is_some_and(|end| end <= self.data_end);
                if !fits || place.offset < MAGIC_LEN {
                    return Err(SummaryFault::NoPlace { offset });
                }
                self.chunks.push(place);
                let sum = self.uncompressed_len;
                self.uncompressed_len = sum.saturating_add(index.uncompressed_size);
                self.compression.get_or_insert(index.compression);
            }
            _ => {}
        }
        Ok(())
    }
}

/// Parses an entry of a [`PAYLOAD`] record: a channel, and its payload bytes.
fn payload(entry: &[u8]) -> (u16, u64) {
    let (channel, bytes) = entry.split_at(entry.len().min(2));
    let number = |bytes: &[u8]| {
        bytes
            .iter()
            .rev()
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
    };
    (
        u16::try_from(number(channel)).unwrap_or_default(),
        number(bytes),
    )
}

impl ChunkLocation {
    fn of(index: &ChunkIndex) -> Self {
        Self {
            offset: index.chunk_start_offset,
            len: index.chunk_length,
            start_time: index.message_start_time,
            end_time: index.message_end_time,
            messages: indexed_messages(
                index.message_index_offsets.len(),
                index.message_index_length,
            ),
        }
    }
}

/// The number of messages in indexes of this length, one for each channel.
fn indexed_messages(channels: usize, len: u64) -> Option<u64> {
    let heads = channels as u64 * MESSAGE_INDEX_HEAD_LEN as u64;
    let (entries, entry_len) = (len.checked_sub(heads)?, size_of::<IndexEntry>() as u64);
    entries
        .is_multiple_of(entry_len)
        .then_some(entries / entry_len)
}

/// Whether the name of a file says that it has no valid end.
#[must_use]
pub(crate) fn is_torn_name(path: &Path) -> bool {
    let ending = path.extension();
    [PART, LOST].map(OsStr::new).map(Some).contains(&ending)
}

/// Reads the record at `offset`. Returns `None` if it does not end at `end` or before.
///
/// # Errors
/// [`Error::Read`].
pub(crate) fn record_at(
    input: &mut WindowedFile,
    offset: u64,
    end: u64,
) -> Result<Option<Raw<'_>>, Error> {
    let Some((_, len)) = head(input.at(offset, HEAD_LEN)?) else {
        return Ok(None);
    };
    let room = end.saturating_sub(offset).min(CHUNK_MAX);
    let whole = len.checked_add(HEAD_LEN as u64).filter(|&len| len <= room);
    let Some(len) = whole.and_then(|len| usize::try_from(len).ok()) else {
        return Ok(None);
    };
    let mut bytes = input.at(offset, len)?;
    Ok(Raw::take(&mut bytes))
}

/// Calculates the CRC-32 of a range of the file.
///
/// # Errors
/// [`Error::Read`].
pub(crate) fn crc(input: &mut WindowedFile, from: u64, to: u64) -> Result<u32, Error> {
    let mut hasher = crc32fast::Hasher::new();
    let mut at = from;
    while at < to {
        let len = usize::try_from(to - at).map_or(STEP_LEN, |left| left.min(STEP_LEN));
        let bytes = input.at(at, len)?;
        if bytes.is_empty() {
            break;
        }
        hasher.update(bytes);
        at += bytes.len() as u64;
    }
    Ok(hasher.finalize())
}

fn find_footer(input: &mut WindowedFile) -> Result<Result<(u64, Footer), SummaryFault>, Error> {
    let Some(magic_at) = input.len().checked_sub(MAGIC_LEN) else {
        return Ok(Err(SummaryFault::NoMagic));
    };
    if input.at(magic_at, mcap::MAGIC.len())? != mcap::MAGIC || magic_at < MAGIC_LEN + FOOTER_LEN {
        return Ok(Err(SummaryFault::NoMagic));
    }
    let offset = magic_at - FOOTER_LEN;
    let raw = record_at(input, offset, magic_at)?.filter(|raw| raw.opcode == op::FOOTER);
    Ok(match raw.and_then(|raw| raw.parse()) {
        Some(Record::Footer(footer)) => Ok((offset, footer)),
        _ => Err(SummaryFault::NoFooter { offset }),
    })
}

impl SummaryFault {
    /// Returns the offset at which the fault was found; `None` for the end of the file.
    #[must_use]
    pub const fn offset(&self) -> Option<u64> {
        match *self {
            Self::NoMagic => None,
            Self::NoFooter { offset }
            | Self::Offsets { offset }
            | Self::Crc { offset, .. }
            | Self::NoDataEnd { offset }
            | Self::NoRecord { offset }
            | Self::NoPlace { offset } => Some(offset),
            Self::Unreadable(range) => Some(range.offset),
        }
    }
}

impl fmt::Display for SummaryFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMagic => f.write_str("the file does not end like a sealed recording"),
            Self::NoFooter { .. } => f.write_str("no footer"),
            Self::Offsets { .. } => f.write_str("the footer points outside of the file"),
            Self::Crc {
                stored, calculated, ..
            } => write!(
                f,
                "CRC of the summary: expected {stored:08x}, found {calculated:08x}"
            ),
            Self::NoDataEnd { .. } => f.write_str("no end of the data before the summary"),
            Self::NoRecord { .. } => f.write_str("invalid record in the summary"),
            Self::NoPlace { .. } => {
                f.write_str("the summary lists a chunk outside the data section")
            }
            Self::Unreadable(range) => range.fmt(f),
        }
    }
}
