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
//!
//! Files of other programs are read as the MCAP specification says: records may have fields of a later version, records
//! of unknown types are passed over, and messages may be anywhere in the data section. Files of this library have none
//! of that, so it is damage there.

mod definitions;
mod search;
mod walk;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use mcap::records::{Header, Record, op};

use self::definitions::DefinitionCosts;
use crate::error::Error;
use crate::format::chunk::{self, Chunk, Plain};
use crate::format::nonce::{FileNonce, LIBRARY, is_near_library};
use crate::format::record::{DATA_END_LEN, HEAD_LEN, Raw, head};
use crate::read::loss::{LossCause, LostRange};
use crate::read::ownership::{Ownership, ROOT_LEN};
use crate::read::summary::{ChunkLocation, Summary};
use crate::read::window::WindowedFile;

/// Bytes that the search for a chunk may check in addition to four times the length of the file.
const SEARCH_MIN: u64 = 64 << 20;

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
    /// The summary lists all chunks. Other programs may omit the index.
    is_indexed: bool,
    /// Offsets of chunks that are skipped, and their lengths.
    unwanted: HashMap<u64, u64>,
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
    /// Nothing was lost so far.
    is_intact: bool,
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
        let is_indexed = summary.is_some_and(Summary::lists_all_chunks);
        let budget = input.len().saturating_mul(4).saturating_add(SEARCH_MIN);
        Self {
            input,
            plain: Plain::default(),
            definitions: DefinitionCosts::default(),
            at: 0,
            known,
            is_indexed,
            unwanted: HashMap::new(),
            ownership: Ownership::default(),
            begun: false,
            strangers: BTreeMap::new(),
            growing,
            ours: true,
            known_ours: false,
            is_intact: true,
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
        while let Some(next) = self.skip_unwanted()? {
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
                self.is_intact = false;
                let len = end - offset;
                Found::Lost(LostRange { offset, len, cause })
            }
        }))
    }

    /// Skips chunks of a sealed file without messages from `from` (inclusive) to `to` (exclusive), in nanoseconds since
    /// 1970; the largest number for `to` is no limit. Skips nothing if the summary lacks channels that these chunks may
    /// define.
    pub fn only(&mut self, summary: &Summary, from: u64, to: u64) {
        if !summary.lists_all_channels() {
            return;
        }
        let is_before = |place: &ChunkLocation| place.end_time < from;
        let is_after = |place: &ChunkLocation| to != u64::MAX && to <= place.start_time;
        let unwanted = summary
            .chunks
            .iter()
            .filter(|it| is_before(it) || is_after(it));
        self.unwanted = unwanted.map(|place| (place.offset, place.len)).collect();
    }

    /// Skips all chunks of a sealed file but those at `offsets`, which [`Summary::chunks_of`] returns: the channels of the
    /// others are those of the summary.
    pub fn only_at(&mut self, summary: &Summary, offsets: &[u64]) {
        let wanted: HashSet<_> = offsets.iter().collect();
        let unwanted = summary.chunks.iter();
        let unwanted = unwanted.filter(|it| !wanted.contains(&it.offset));
        self.unwanted = unwanted.map(|place| (place.offset, place.len)).collect();
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

    /// Returns the offset up to which the file was read.
    pub(crate) const fn offset(&self) -> u64 {
        self.at
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

    /// Sets the length of the file after which nothing is read.
    pub(crate) fn limit(&mut self, len: u64) {
        self.input.limit(len);
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
            let raw = Raw::take(&mut bytes);
            let is_exact = raw.is_some_and(|raw| raw.is_well_formed());
            // The body may also be overwritten with zeros.
            let is_zero = |raw: Raw<'_>| raw.body.iter().all(|byte| *byte == 0);
            let is_near = raw.is_some_and(|raw| is_near_library(raw.body) || is_zero(raw));
            if let Some(Record::Header(header)) = raw.and_then(|raw| raw.parse()) {
                // A nonce proves that this library wrote the file, even if the library field is damaged.
                let is_ours = named || self.known_ours || is_broken(&header);
                let is_ours = is_ours || self.ownership.has_text();
                let is_ours = is_ours || header.library.starts_with(LIBRARY);
                // Added fields show damage if this library may have written the header.
                if is_exact || !(is_ours || is_near) {
                    self.at = end as u64;
                    self.ownership.header(&header);
                    self.ours = is_ours;
                    self.begun = true;
                    return Ok(ScanStep::Header(header));
                }
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
}

/// Whether the texts of a header look damaged, rather than those of another program in another language.
fn is_broken(header: &Header) -> bool {
    let texts = [&header.library, &header.profile];
    let has = |is: fn(char) -> bool| texts.iter().any(|text| text.contains(is));
    let is_near = is_near_library(header.library.as_bytes());
    has(|letter| letter == '\0') || (is_near && has(char::is_control))
}
