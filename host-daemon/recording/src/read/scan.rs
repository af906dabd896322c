//! Reads a recording chunk by chunk, and separates whole chunks from lost ranges: [`Scan`].
//!
//! No length is trusted until it was compared with the length of the file and a limit. Only chunks that the
//! [`Ownership`] of the file admits are accepted. After damage, the scan continues with the next chunk that is
//! admitted, whose lengths agree, and whose CRC is correct. It also searches within damaged chunks, because payload is
//! never admitted.
//!
//! Files whose chunks have no nonce were written by other programs. In these, payload may look like a chunk. The scan
//! does not search within a damaged chunk whose lengths agree, and relies on the summary for the next chunk. Without a
//! summary, the search checks at most four times the length of the file, so that a file with many false starts takes
//! bounded time.

mod definitions;
mod search;

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use mcap::records::{Header, Record, op};

use self::definitions::DefinitionCosts;
use crate::error::Error;
use crate::format::chunk::{self, CHUNK_MAX, Chunk, ChunkFault, EXTENT_LEN, Extent, Plain};
use crate::format::definition::cost_max;
use crate::format::nonce::{FileNonce, LIBRARY};
use crate::format::record::{DATA_END_LEN, HEAD_LEN, PAYLOAD, Raw, head, is_unfinished};
use crate::read::loss::{LossCause, LostRange};
use crate::read::ownership::{Ownership, ROOT_LEN};
use crate::read::summary::{ChunkLocation, Summary};
use crate::read::window::WindowedFile;

/// Bytes that the search for a chunk may check in addition to four times the length of the file.
const SEARCH_MIN: u64 = 64 << 20;

/// Bytes of an unfinished chunk that are examined.
const BEGUN_MAX: usize = 16 << 20;

/// Longest header that is read, in bytes.
const HEADER_MAX: u64 = 1 << 20;

/// The next part of a file.
#[derive(Debug)]
pub enum Found<'a> {
    /// The header of the file.
    Header(Header),
    /// A whole chunk.
    Chunk(Chunk<'a>),
    /// A record outside of chunks: an index, the end of the data, or a part of the summary.
    Record {
        /// Offset of the record in the file.
        offset: u64,
        /// The record.
        raw: Raw<'a>,
    },
    /// A range that is lost.
    Lost(LostRange),
}

/// Reads one file, part by part.
///
/// # Examples
/// ```
/// use blocksd_recording::scan::{Found, Scan};
/// use blocksd_recording::{Channel, ChannelSpec, Log, LogOptions};
///
/// # let folder = tempfile::tempdir()?;
/// # let folder = folder.path();
/// let mut log = Log::open(folder, LogOptions::default())?;
/// let channel = log.channel(&mut Channel::default(), ChannelSpec::default)?;
/// log.append(channel, 0, 0, b"message")?;
/// log.finish()?;
///
/// let file = blocksd_recording::catalog::list_directory(folder)?.remove(0);
/// let mut scan = Scan::open(&file.path, file.is_open)?;
/// let mut messages = 0;
/// while let Some(found) = scan.advance()? {
///     if let Found::Chunk(chunk) = found {
///         messages += chunk.records().filter(|(_, raw)| raw.message().is_some()).count();
///     }
///     if scan.has_ended() {
///         break;
///     }
/// }
/// assert_eq!(messages, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Scan {
    input: WindowedFile,
    plain: Plain,
    at: u64,
    /// Offsets of all chunks, and of the end of the data, according to the summary.
    known: Vec<u64>,
    /// Offsets of chunks that are skipped.
    unwanted: HashSet<u64>,
    /// Which chunks belong to the file.
    ownership: Ownership,
    begun: bool,
    definitions: DefinitionCosts,
    /// Nonces of whole chunks that could not be attributed to the file, with the number of chunks.
    strangers: BTreeMap<FileNonce, u64>,
    /// Another process is writing the file: an unfinished end is not lost.
    growing: bool,
    /// This library wrote the file: only what it writes is accepted.
    ours: bool,
    /// The caller knows that this library wrote the file, regardless of the header.
    known_ours: bool,
    chunked: bool,
    ended: bool,
    budget: u64,
}

enum ScanStep {
    Header(Header),
    Chunk(mcap::records::ChunkHeader, usize),
    Record(usize),
    Lost(u64, LossCause),
    End,
}

impl Scan {
    /// Opens a file with its current length. `growing` says that another process is writing it: an unfinished end is
    /// then not reported as lost.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub fn open(path: &Path, growing: bool) -> Result<Self, Error> {
        let mut input = WindowedFile::open(path)?;
        let summary = Summary::of_sealed(&mut input, growing)?;
        Ok(Self::new(input, summary.as_ref(), growing))
    }

    /// Creates a scan of an open file. `summary` is its summary, if it has a trusted one.
    #[must_use]
    pub fn new(input: WindowedFile, summary: Option<&Summary>, growing: bool) -> Self {
        let mut known = Vec::new();
        if let Some(summary) = summary {
            known.extend(summary.chunks.iter().map(|chunk| chunk.offset));
            known.push(summary.data_end);
            known.sort_unstable();
        }
        let budget = input.len().saturating_mul(4).saturating_add(SEARCH_MIN);
        Self {
            input,
            plain: Plain::default(),
            definitions: DefinitionCosts::default(),
            at: 0,
            known,
            unwanted: HashSet::new(),
            ownership: Ownership::default(),
            begun: false,
            strangers: BTreeMap::new(),
            growing,
            ours: true,
            known_ours: false,
            chunked: false,
            ended: false,
            budget,
        }
    }

    /// As [`new`](Self::new), for a file that is known to be written by this library from its channels or nonces.
    #[must_use]
    pub const fn of_ours(mut self, known_ours: bool) -> Self {
        self.known_ours = known_ours;
        self
    }

    /// Returns the next part of the file. Returns `None` after the last record: of the data section in a sealed file,
    /// and of the whole file in any other. If the file is growing, [`refresh`](Self::refresh) makes later data visible.
    ///
    /// # Errors
    /// [`Error::Read`]. Damage within the file is not an error, but [`Found::Lost`].
    pub fn advance(&mut self) -> Result<Option<Found<'_>>, Error> {
        while self.unwanted.contains(&self.at)
            && let Some(next) = self.next_known(self.at)
        {
            self.at = next;
        }
        let offset = self.at;
        let step = if self.begun {
            self.walk()?
        } else {
            self.begin()?
        };
        Ok(Some(match step {
            ScanStep::End => return Ok(None),
            ScanStep::Header(header) => Found::Header(header),
            ScanStep::Chunk(header, len) => {
                self.at += len as u64;
                self.chunked = true;
                let bytes = self.input.at(offset, len)?;
                let records = chunk::content(bytes, &header, &self.plain);
                Found::Chunk(Chunk {
                    offset,
                    header,
                    bytes,
                    records,
                })
            }
            ScanStep::Record(len) => {
                self.at += len as u64;
                let mut bytes = self.input.at(offset, len)?;
                let Some(raw) = Raw::take(&mut bytes) else {
                    return Ok(None);
                };
                Found::Record { offset, raw }
            }
            ScanStep::Lost(end, cause) => {
                let (end, cause) = self.through_unreadable(offset, end, cause)?;
                self.at = end;
                let len = end - offset;
                Found::Lost(LostRange { offset, len, cause })
            }
        }))
    }

    /// Skips chunks of a sealed file without messages from `from` (inclusive) to `to` (exclusive), in nanoseconds since
    /// 1970. The channels that these chunks define are in the summary.
    pub fn only(&mut self, summary: &Summary, from: u64, to: u64) {
        let outside = |place: &&ChunkLocation| place.end_time < from || to <= place.start_time;
        let unwanted = summary.chunks.iter().filter(outside);
        self.unwanted = unwanted.map(|place| place.offset).collect();
    }

    /// Returns whether the end of the data was passed. No more messages come after it.
    #[must_use]
    pub const fn has_ended(&self) -> bool {
        self.ended
    }

    /// Returns whether this library wrote the file, according to its header. True while that is unknown.
    #[must_use]
    pub const fn is_ours(&self) -> bool {
        self.ours
    }

    /// Returns the nonce of the file, if it is known.
    #[must_use]
    pub fn nonce(&self) -> Option<FileNonce> {
        self.ownership.nonce()
    }

    /// Returns whether the chunks of the file have a nonce, so that payload is never accepted as a chunk.
    #[must_use]
    pub fn has_nonce(&self) -> bool {
        self.ownership.has_nonce()
    }

    /// Returns the nonces of whole chunks that were skipped because they could not be attributed to the file, with the
    /// number of chunks.
    #[must_use]
    pub const fn strangers(&self) -> &BTreeMap<FileNonce, u64> {
        &self.strangers
    }

    /// Returns the file.
    #[must_use]
    pub const fn input(&self) -> &WindowedFile {
        &self.input
    }

    /// Updates the length of the file. `growing` says whether it is still being written.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub fn refresh(&mut self, growing: bool) -> Result<(), Error> {
        self.growing = growing;
        self.input.refresh()
    }

    fn end(&self) -> u64 {
        let known = self.known.last().map(|data_end| data_end + DATA_END_LEN);
        known
            .filter(|_| !self.has_nonce())
            .unwrap_or_else(|| self.input.len())
    }

    fn begin(&mut self) -> Result<ScanStep, Error> {
        self.ownership = Ownership::of(&mut self.input)?;
        self.ours = true;
        let named = self.ownership.nonce().is_some();
        let magic = mcap::MAGIC;
        let shown = self.input.readable(0, magic.len() + HEAD_LEN)?;
        let bytes = self.input.at(0, shown)?;
        let begin = bytes.strip_prefix(magic).and_then(head);
        if let Some((op::HEADER, len @ ..=HEADER_MAX)) = begin {
            let end = magic.len() + HEAD_LEN + usize::try_from(len).unwrap_or_default();
            let shown = self.input.readable(0, end)?;
            let bytes = self.input.at(0, shown)?;
            let mut bytes = bytes.get(magic.len()..).unwrap_or_default();
            if let Some(Record::Header(header)) = Raw::take(&mut bytes).and_then(|it| it.parse()) {
                self.at = end as u64;
                self.ownership.header(&header);
                // A nonce proves that this library wrote the file, even if the library field is damaged.
                let texts = [&header.library, &header.profile];
                let is_broken = texts.iter().any(|text| text.contains(char::is_control));
                let is_ours = named || self.known_ours || is_broken || self.ownership.has_text();
                self.ours = is_ours || header.library.starts_with(LIBRARY);
                self.begun = true;
                return Ok(ScanStep::Header(header));
            }
        }
        if self.growing || self.input.is_empty() {
            return Ok(ScanStep::End);
        }
        self.begun = true;
        self.settle_by_summary()?;
        // A file this short contains no message.
        let bytes = self.input.at(0, magic.len())?;
        let is_begun = magic.starts_with(bytes) && self.input.len() <= ROOT_LEN as u64;
        // A chunk may begin here, if the header is missing completely.
        self.lose_until(
            0,
            if is_begun {
                LossCause::Cut
            } else {
                LossCause::NoHeader
            },
        )
    }

    fn walk(&mut self) -> Result<ScanStep, Error> {
        let (at, end) = (self.at, self.end());
        let room = end.saturating_sub(at);
        if room == 0 || (self.ended && !self.known.is_empty()) {
            return Ok(ScanStep::End);
        }
        let shown = self.input.readable(at, EXTENT_LEN)?;
        let is_hidden = (shown as u64) < room.min(EXTENT_LEN as u64);
        let begin = self.input.at(at, shown)?;
        if self.ended && begin == mcap::MAGIC {
            return Ok(ScanStep::End);
        }
        let extent = Extent::of(begin);
        // A chunk whose opcode is damaged.
        let is_disguised = extent.is_none() && Extent::of_any(begin).is_some();
        let is_unfinished = is_unfinished(begin) || !self.ours;
        if is_hidden && (shown < HEAD_LEN || begin.first() == Some(&op::CHUNK)) {
            return self.lose(LossCause::NoRecord);
        }
        let Some((opcode, len)) = head(begin) else {
            return self.cut(true);
        };
        let len = len.saturating_add(HEAD_LEN as u64);
        let next = self.next_known(at).filter(|_| !self.has_nonce());
        if next.is_some_and(|next| next - at < len) && opcode != op::DATA_END {
            return self.lose(LossCause::NoRecord);
        }
        if let Some(extent) = extent {
            return self.walk_chunk(extent, room);
        }
        if is_disguised || !self.has_place(opcode) {
            return self.lose(LossCause::NoRecord);
        }
        if opcode == op::CHUNK {
            // A chunk whose prefix is cut has no lengths that could agree.
            return if room < EXTENT_LEN as u64 {
                self.cut(true)
            } else {
                self.lose(LossCause::Chunk(ChunkFault::Lengths))
            };
        }
        if room < len {
            return self.cut(is_unfinished);
        }
        let Ok(len) = usize::try_from(len.min(CHUNK_MAX)) else {
            return self.lose(LossCause::NoRecord);
        };
        if !self.input.is_readable(at, len)? {
            return self.skip(at + len as u64, LossCause::NoRecord);
        }
        let mut bytes = self.input.at(at, len)?;
        let known = 0x80 <= opcode || Raw::take(&mut bytes).is_some_and(|raw| raw.is_well_formed());
        if !known {
            return self.lose(LossCause::NoRecord);
        }
        if opcode == op::DATA_END && self.has_nonce() && !self.growing {
            // No chunk can follow the real end of the data.
            let (from, until) = (at + len as u64, self.input.len());
            if self.search(from, until)? < until {
                return self.lose(LossCause::NoRecord);
            }
        }
        self.ended |= opcode == op::DATA_END;
        Ok(ScanStep::Record(len))
    }

    fn walk_chunk(&mut self, extent: Extent, room: u64) -> Result<ScanStep, Error> {
        let at = self.at;
        if room < extent.len {
            if self.growing {
                return Ok(ScanStep::End);
            }
            let (len, have) = (extent.len, room);
            let admits = |nonce| self.ownership.admits(nonce, at);
            let there = usize::try_from(room).map_or(BEGUN_MAX, |room| room.min(BEGUN_MAX));
            let is_begun = chunk::is_begun(self.input.at(at, there)?, &admits) || !self.ours;
            let fault = match is_begun {
                true => ChunkFault::Cut { len, have },
                false => ChunkFault::Lengths,
            };
            return self.skip(at + room, LossCause::Chunk(fault));
        }
        // Within the limit, because the lengths agree.
        let len = usize::try_from(extent.len).unwrap_or(usize::MAX);
        let max = cost_max(self.input.len());
        if !self.input.is_readable(at, len)? {
            return self.skip(at + extent.len, LossCause::Chunk(ChunkFault::Corrupt));
        }
        let bytes = self.input.at(at, len)?;
        match chunk::check(bytes, self.ours, &mut self.plain) {
            Ok(header) => {
                let content = chunk::content(bytes, &header, &self.plain);
                let nonce = FileNonce::of_chunk(content);
                if self.ownership.admits(nonce, at) {
                    if self.plain.has_definitions() && max < self.definitions.add(content) {
                        let fault = ChunkFault::Definitions { max };
                        return self.skip(at + extent.len, LossCause::Chunk(fault));
                    }
                    self.ours |= nonce.is_some();
                    self.ownership.settle(nonce);
                    return Ok(ScanStep::Chunk(header, len));
                }
                self.skip(at + extent.len, LossCause::Chunk(ChunkFault::Foreign))
            }
            Err(fault) => self.skip(at + extent.len, LossCause::Chunk(fault)),
        }
    }

    /// Whether a record of this type may be here. A chunk whose opcode is damaged must not be taken for a message.
    fn has_place(&self, opcode: u8) -> bool {
        match opcode {
            op::HEADER => false,
            op::CHUNK | op::MESSAGE_INDEX | op::DATA_END => true,
            op::MESSAGE => !self.ours && !self.chunked,
            // In files of this library, these are outside of chunks in the summary only.
            op::FOOTER..=op::SUMMARY_OFFSET => self.ended || !self.has_nonce(),
            PAYLOAD => self.ended || !self.ours,
            0x80.. => !self.ours,
            _ => false,
        }
    }

    /// Handles a record that ends with the file. `is_unfinished` says whether it looks unfinished rather than damaged.
    fn cut(&mut self, is_unfinished: bool) -> Result<ScanStep, Error> {
        if self.growing {
            return Ok(ScanStep::End);
        }
        self.lose(if is_unfinished {
            LossCause::Cut
        } else {
            LossCause::NoRecord
        })
    }

    /// Reports a damaged record that should end at `end` as lost, up to the next chunk of the file if that is earlier.
    fn skip(&mut self, end: u64, cause: LossCause) -> Result<ScanStep, Error> {
        let next = if self.has_nonce() {
            self.search(self.at + 1, end)?
        } else {
            // A chunk that the summary lists exists, regardless of the damaged one.
            self.next_known(self.at).map_or(end, |next| next.min(end))
        };
        Ok(ScanStep::Lost(next, cause))
    }

    /// Reports everything up to the next chunk as lost.
    fn lose(&mut self, cause: LossCause) -> Result<ScanStep, Error> {
        self.lose_until(self.at + 1, cause)
    }

    /// Reports everything up to the first chunk from `from` on as lost.
    fn lose_until(&mut self, from: u64, cause: LossCause) -> Result<ScanStep, Error> {
        let (at, end) = (self.at, self.end());
        let known = self.next_known(at).filter(|_| !self.has_nonce());
        let next = match known {
            Some(next) => next,
            None => self.search(from, end)?,
        };
        let cause = match cause {
            _ if self.ended => LossCause::Summary,
            LossCause::NoRecord | LossCause::NoHeader
                if next == self.input.len() && self.input.is_zero(at)? =>
            {
                LossCause::Zeros
            }
            cause => cause,
        };
        Ok(ScanStep::Lost(next, cause))
    }

    fn next_known(&self, at: u64) -> Option<u64> {
        let index = self.known.partition_point(|&offset| offset <= at);
        self.known.get(index).copied()
    }
}
