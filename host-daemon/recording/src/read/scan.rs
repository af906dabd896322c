//! Goes through a recording chunk by chunk: sealed, torn or still being written. Separates what is whole from what is lost.
//!
//! No length is believed before it was compared with the file and with a limit. Only chunks that the file's [`Ownership`]
//! admits are taken, wherever they stand. After damage the next chunk is the next place at which one begins that is
//! admitted, has agreeing lengths and the right CRC; such a place is looked for inside a damaged chunk too, since no
//! payload is admitted.
//!
//! Files whose chunks have no nonce were written by other programs. There a payload may pass for a chunk, so that
//! nothing is looked for inside a damaged chunk whose lengths agree, and the next chunk is the next of the summary. In
//! a file without a summary the search checks four times the length of the file at most, so that a file made of false
//! beginnings costs no more than that.

mod search;

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use mcap::records::{Header, Record, op};

use crate::error::Error;
use crate::format::chunk::{self, CHUNK_MAX, Chunk, ChunkFault, EXTENT_LEN, Extent};
use crate::format::nonce::{FileNonce, LIBRARY};
use crate::format::record::{DATA_END_LEN, HEAD_LEN, Raw, head, is_unfinished};
use crate::read::loss::{LossCause, LostRange};
use crate::read::ownership::{Ownership, ROOT_LEN};
use crate::read::summary::{ChunkLocation, Summary};
use crate::read::window::WindowedFile;

/// Bytes that the search for a chunk may check besides four times the length of the file.
const SEARCH_MIN: u64 = 64 << 20;

/// Longest header that is read, in bytes.
const HEADER_MAX: u64 = 1 << 20;

/// What there is next in a file.
#[derive(Debug)]
pub enum Found<'a> {
    /// How it begins.
    Header(Header),
    /// A whole chunk.
    Chunk(Chunk<'a>),
    /// A record that stands in no chunk: an index, the end of the data, or of the summary.
    Record {
        /// Where it begins in the file.
        offset: u64,
        /// The record.
        raw: Raw<'a>,
    },
    /// Bytes that are not whole.
    Lost(LostRange),
}

/// Goes through one file.
#[derive(Debug)]
pub struct Scan {
    input: WindowedFile,
    plain: Vec<u8>,
    at: u64,
    /// Beginnings of all chunks, and of the end of the data, where the summary tells.
    known: Vec<u64>,
    /// Where those chunks begin that are not wanted.
    unwanted: HashSet<u64>,
    /// Which chunks are the file's own.
    ownership: Ownership,
    begun: bool,
    /// Whole chunks with nonces that are in doubt, where nothing says which is the file's.
    strangers: BTreeMap<FileNonce, u64>,
    /// Another process is writing: what is not there yet is not lost.
    growing: bool,
    /// Written by us: nothing is accepted that we do not write.
    ours: bool,
    /// The caller knows that it is ours, whatever its header says.
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
    /// Goes through a file as long as it is now. `growing` says that another process writes it: then what is cut at
    /// its end is not lost, but not there yet.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub fn open(path: &Path, growing: bool) -> Result<Self, Error> {
        let mut input = WindowedFile::open(path)?;
        let summary = Summary::of_sealed(&mut input, growing)?;
        Ok(Self::new(input, summary.as_ref(), growing))
    }

    /// Goes through a file of which the summary is known, if it has one that can be believed.
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
            plain: Vec::new(),
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

    /// The same for a file that is ours by its channels, or nonces.
    #[must_use]
    pub const fn of_ours(mut self, known_ours: bool) -> Self {
        self.known_ours = known_ours;
        self
    }

    /// What comes next; none at the end of the data section of a sealed file, and at the end of any other. A file
    /// that grows may have more later: [`refresh`](Self::refresh) it.
    ///
    /// # Errors
    /// [`Error::Read`]. What is wrong inside of the file is [`Found::Lost`].
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
                self.at = end;
                let len = end - offset;
                Found::Lost(LostRange { offset, len, cause })
            }
        }))
    }

    /// Goes past chunks of a sealed file that have no message from `from` on and before `to`, in nanoseconds. The
    /// channels that they tell of are in the summary.
    pub fn only(&mut self, summary: &Summary, from: u64, to: u64) {
        let outside = |place: &&ChunkLocation| place.end_time < from || to <= place.start_time;
        let unwanted = summary.chunks.iter().filter(outside);
        self.unwanted = unwanted.map(|place| place.offset).collect();
    }

    /// Whether the end of the data was passed: no message comes any more.
    #[must_use]
    pub const fn has_ended(&self) -> bool {
        self.ended
    }

    /// Whether the file says that a daemon wrote it; true where it does not say.
    #[must_use]
    pub const fn is_ours(&self) -> bool {
        self.ours
    }

    /// The nonce of the file, as far as it is known.
    #[must_use]
    pub fn nonce(&self) -> Option<FileNonce> {
        self.ownership.nonce()
    }

    /// Whether a payload cannot pass for a chunk of this file.
    #[must_use]
    pub fn has_nonce(&self) -> bool {
        self.ownership.has_nonce()
    }

    /// Nonces of whole chunks that were not taken because nothing says which is the file's, and how many of each.
    #[must_use]
    pub const fn strangers(&self) -> &BTreeMap<FileNonce, u64> {
        &self.strangers
    }

    /// The file.
    #[must_use]
    pub const fn input(&self) -> &WindowedFile {
        &self.input
    }

    /// Looks how long the file is now. `growing` says whether it is still being written.
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
        let bytes = self.input.at(0, magic.len() + HEAD_LEN)?;
        let begin = bytes.strip_prefix(magic).and_then(head);
        if let Some((op::HEADER, len @ ..=HEADER_MAX)) = begin {
            let end = magic.len() + HEAD_LEN + usize::try_from(len).unwrap_or_default();
            let bytes = self.input.at(0, end)?;
            let mut bytes = bytes.get(magic.len()..).unwrap_or_default();
            if let Some(Record::Header(header)) = Raw::take(&mut bytes).and_then(|it| it.parse()) {
                self.at = end as u64;
                self.ownership.header(&header);
                // A file with a nonce is ours even if the name of the library is damaged.
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
        // So few bytes hold no message.
        let bytes = self.input.at(0, magic.len())?;
        let is_begun = magic.starts_with(bytes) && self.input.len() <= ROOT_LEN as u64;
        // A chunk may begin here: then the header is not there at all.
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
        let begin = self.input.at(at, EXTENT_LEN)?;
        if self.ended && begin == mcap::MAGIC {
            return Ok(ScanStep::End);
        }
        let extent = Extent::of(begin);
        // A chunk of which the opcode is damaged.
        let is_disguised = extent.is_none() && Extent::of_any(begin).is_some();
        let is_unfinished = is_unfinished(begin) || !self.ours;
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
            // One that is cut inside of its head agrees with nothing.
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
        let mut bytes = self.input.at(at, len)?;
        let known = 0x80 <= opcode || Raw::take(&mut bytes).is_some_and(|raw| raw.is_well_formed());
        if !known {
            return self.lose(LossCause::NoRecord);
        }
        if opcode == op::DATA_END && self.has_nonce() && !self.growing {
            // No chunk comes after the real one.
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
            let there = usize::try_from(room).unwrap_or(usize::MAX);
            let is_begun = chunk::is_begun(self.input.at(at, there)?, &admits) || !self.ours;
            let fault = match is_begun {
                true => ChunkFault::Cut { len, have },
                false => ChunkFault::Lengths,
            };
            return self.skip(at + room, fault);
        }
        // Not over the limit, since the lengths agree.
        let len = usize::try_from(extent.len).unwrap_or(usize::MAX);
        let bytes = self.input.at(at, len)?;
        match chunk::check(bytes, self.ours, &mut self.plain) {
            Ok(header) => {
                let nonce = FileNonce::of_chunk(chunk::content(bytes, &header, &self.plain));
                if self.ownership.admits(nonce, at) {
                    self.ours |= nonce.is_some();
                    self.ownership.settle(nonce);
                    return Ok(ScanStep::Chunk(header, len));
                }
                self.skip(at + extent.len, ChunkFault::Foreign)
            }
            Err(fault) => self.skip(at + extent.len, fault),
        }
    }

    /// Whether such a record may stand here. A chunk of which the opcode is damaged must not pass for a message.
    fn has_place(&self, opcode: u8) -> bool {
        match opcode {
            op::HEADER => false,
            op::CHUNK | op::MESSAGE_INDEX | op::DATA_END => true,
            op::MESSAGE => !self.ours && !self.chunked,
            // Of ours, outside of chunks: in the summary only.
            op::FOOTER..=op::SUMMARY_OFFSET => self.ended || !self.has_nonce(),
            0x80.. => !self.ours,
            _ => false,
        }
    }

    /// A record ends with the file; whether it is one that was not finished, as far as can be seen.
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

    /// A chunk is lost that ends at `end`, if it is one: at most up to the next chunk of the file's own.
    fn skip(&mut self, end: u64, fault: ChunkFault) -> Result<ScanStep, Error> {
        let next = if self.has_nonce() {
            self.search(self.at + 1, end)?
        } else {
            // What the summary knows is there whatever the chunk before says.
            self.next_known(self.at).map_or(end, |next| next.min(end))
        };
        Ok(ScanStep::Lost(next, LossCause::Chunk(fault)))
    }

    /// Everything up to the next chunk is lost.
    fn lose(&mut self, cause: LossCause) -> Result<ScanStep, Error> {
        self.lose_until(self.at + 1, cause)
    }

    /// Everything up to the first chunk from `from` on is lost.
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
