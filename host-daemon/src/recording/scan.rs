//! Goes through a recording chunk by chunk: sealed, torn or still being written. What is whole is told apart from
//! what is lost.
//!
//! No length is believed before it was compared with the file and with a limit. Where a chunk's lengths agree with
//! one another but its content does not agree with its CRC, exactly that chunk is lost: nothing is looked for inside,
//! since a payload may itself look like a chunk. Where nothing can be believed, the next chunk is the next of the
//! summary, or, in a file that has none, the next place at which a chunk with agreeing lengths and the right CRC
//! begins. That search checks four times the length of the file at most, so that a file made of false beginnings
//! costs no more than that.

use std::collections::HashSet;
use std::fmt;
use std::path::Path;

use mcap::records::{Header, Record, op};

use super::chunk::{self, CHUNK_MAX, Chunk, ChunkFault, EXTENT_LEN, Extent};
use super::input::Input;
use super::mark::{LIBRARY, Mark};
use super::record::{DATA_END_LEN, HEAD_LEN, Raw, head};
use super::summary::{Place, Summary};
use crate::failure::Failure;

/// Bytes that the search for a chunk may check besides four times the length of the file.
const SEARCH_MIN: u64 = 64 << 20;

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
    Lost(Lost),
}

/// Bytes that are not whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Where they begin in the file.
    pub offset: u64,
    /// How many they are.
    pub len: u64,
    /// Why they are lost.
    pub why: Why,
}

/// Why bytes are lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// The file does not begin as a recording.
    NoHeader,
    /// A chunk that is not whole.
    Chunk(ChunkFault),
    /// A record that goes on behind the end of the file.
    Cut,
    /// No record, or one that has no place here.
    NoRecord,
    /// What is broken is the summary: no message stood there.
    Summary,
}

/// Goes through one file.
#[derive(Debug)]
pub struct Scan {
    input: Input,
    plain: Vec<u8>,
    at: u64,
    /// Beginnings of all chunks, and of the end of the data, where the summary tells.
    known: Vec<u64>,
    /// Where those chunks begin that are not wanted.
    unwanted: HashSet<u64>,
    /// What chunks begin with that are found by searching, where it is known.
    mark: Option<Mark>,
    /// Another process is writing: what is not there yet is not lost.
    growing: bool,
    /// Written by us: nothing is accepted that we do not write.
    ours: bool,
    chunked: bool,
    ended: bool,
    budget: u64,
}

enum Step {
    Header(Header),
    Chunk(mcap::records::ChunkHeader, usize),
    Record(usize),
    Lost(u64, Why),
    End,
}

impl Scan {
    /// Goes through a file as long as it is now. `growing` says that another process writes it: then what is cut at
    /// its end is not lost, but not there yet.
    ///
    /// # Errors
    /// [`Failure::File`].
    pub fn open(path: &Path, growing: bool) -> Result<Self, Failure> {
        let mut input = Input::open(path)?;
        let summary = if growing {
            None
        } else {
            Summary::read(&mut input)?.ok()
        };
        Ok(Self::new(input, summary.as_ref(), growing))
    }

    /// Goes through a file of which the summary is known, if it has one.
    #[must_use]
    pub fn new(input: Input, summary: Option<&Summary>, growing: bool) -> Self {
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
            mark: None,
            growing,
            ours: true,
            chunked: false,
            ended: false,
            budget,
        }
    }

    /// What comes next; none at the end of the data section of a sealed file, and at the end of any other. A file
    /// that grows may have more later: [`refresh`](Self::refresh) it.
    ///
    /// # Errors
    /// [`Failure::File`]. What is wrong inside of the file is [`Found::Lost`].
    pub fn advance(&mut self) -> Result<Option<Found<'_>>, Failure> {
        while self.unwanted.contains(&self.at)
            && let Some(next) = self.next_known(self.at)
        {
            self.at = next;
        }
        let offset = self.at;
        let step = if offset == 0 {
            self.begin()?
        } else {
            self.walk()?
        };
        Ok(Some(match step {
            Step::End => return Ok(None),
            Step::Header(header) => Found::Header(header),
            Step::Chunk(header, len) => {
                self.at += len as u64;
                self.chunked = true;
                let bytes = self.input.at(offset, len)?;
                let records = chunk::content(bytes, &header, &self.plain);
                // What stands in its place is believed more than the header, which no CRC covers.
                self.mark = Mark::of_chunk(records).or(self.mark);
                Found::Chunk(Chunk {
                    offset,
                    header,
                    bytes,
                    records,
                })
            }
            Step::Record(len) => {
                self.at += len as u64;
                let mut bytes = self.input.at(offset, len)?;
                let Some(raw) = Raw::take(&mut bytes) else {
                    return Ok(None);
                };
                Found::Record { offset, raw }
            }
            Step::Lost(end, why) => {
                self.at = end;
                let len = end - offset;
                Found::Lost(Lost { offset, len, why })
            }
        }))
    }

    /// Goes past chunks of a sealed file that have no message from `from` on and before `to`, in nanoseconds. The
    /// channels that they tell of are in the summary.
    pub fn only(&mut self, summary: &Summary, from: u64, to: u64) {
        let outside = |place: &&Place| place.end_time < from || to <= place.start_time;
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

    /// The file.
    #[must_use]
    pub const fn input(&self) -> &Input {
        &self.input
    }

    /// Looks how long the file is now. `growing` says whether it is still being written.
    ///
    /// # Errors
    /// [`Failure::File`].
    pub fn refresh(&mut self, growing: bool) -> Result<(), Failure> {
        self.growing = growing;
        self.input.refresh()
    }

    fn end(&self) -> u64 {
        let known = self.known.last().map(|data_end| data_end + DATA_END_LEN);
        known.unwrap_or_else(|| self.input.len())
    }

    fn begin(&mut self) -> Result<Step, Failure> {
        let magic = mcap::MAGIC;
        let growing = self.growing;
        let bytes = self.input.at(0, magic.len() + HEAD_LEN)?;
        let whole = magic.len() + HEAD_LEN <= bytes.len();
        let len = (whole && bytes.starts_with(magic))
            .then(|| head(bytes.get(magic.len()..)?))
            .flatten()
            .and_then(|(opcode, len)| (opcode == op::HEADER).then_some(len))
            .and_then(|len| usize::try_from(len.min(CHUNK_MAX)).ok());
        if let Some(len) = len {
            let end = magic.len() + HEAD_LEN + len;
            let mut bytes = self
                .input
                .at(0, end)?
                .get(magic.len()..)
                .unwrap_or_default();
            if let Some(Record::Header(header)) = Raw::take(&mut bytes).and_then(|it| it.parse()) {
                self.at = end as u64;
                self.ours = header.library.starts_with(LIBRARY);
                self.mark = Mark::of_library(&header.library);
                return Ok(Step::Header(header));
            }
        }
        if growing || self.input.is_empty() {
            return Ok(Step::End);
        }
        self.lose(Why::NoHeader)
    }

    fn walk(&mut self) -> Result<Step, Failure> {
        let (at, end) = (self.at, self.end());
        let room = end.saturating_sub(at);
        if room == 0 || (self.ended && !self.known.is_empty()) {
            return Ok(Step::End);
        }
        let begin = self.input.at(at, EXTENT_LEN)?;
        if self.ended && begin == mcap::MAGIC {
            return Ok(Step::End);
        }
        let extent = Extent::of(begin);
        let Some((opcode, len)) = head(begin) else {
            return self.cut();
        };
        let len = len.saturating_add(HEAD_LEN as u64);
        if self.next_known(at).is_some_and(|next| next - at < len) && opcode != op::DATA_END {
            return self.lose(Why::NoRecord);
        }
        if let Some(extent) = extent {
            return self.walk_chunk(extent, room);
        }
        if !self.has_place(opcode) {
            return self.lose(Why::NoRecord);
        }
        if opcode == op::CHUNK {
            // One that is cut inside of its head agrees with nothing.
            return if room < EXTENT_LEN as u64 {
                self.cut()
            } else {
                self.lose(Why::Chunk(ChunkFault::Lengths))
            };
        }
        if room < len {
            return self.cut();
        }
        let Ok(len) = usize::try_from(len.min(CHUNK_MAX)) else {
            return self.lose(Why::NoRecord);
        };
        let mut bytes = self.input.at(at, len)?;
        let known = 0x80 <= opcode || Raw::take(&mut bytes).is_some_and(|raw| raw.is_well_formed());
        if !known {
            return self.lose(Why::NoRecord);
        }
        self.ended |= opcode == op::DATA_END;
        Ok(Step::Record(len))
    }

    fn walk_chunk(&mut self, extent: Extent, room: u64) -> Result<Step, Failure> {
        let at = self.at;
        if room < extent.len {
            if self.growing {
                return Ok(Step::End);
            }
            let (len, have) = (extent.len, room);
            // What the summary knows is there whatever the chunk before says.
            let end = self.next_known(at).unwrap_or(at + room);
            return Ok(Step::Lost(end, Why::Chunk(ChunkFault::Cut { len, have })));
        }
        // Not over the limit, since the lengths agree.
        let len = usize::try_from(extent.len).unwrap_or(usize::MAX);
        let bytes = self.input.at(at, len)?;
        Ok(match chunk::check(bytes, self.ours, &mut self.plain) {
            Ok(header) => Step::Chunk(header, len),
            Err(fault) => Step::Lost(at + extent.len, Why::Chunk(fault)),
        })
    }

    /// Whether such a record may stand here. A chunk of which the opcode is damaged must not pass for a message.
    const fn has_place(&self, opcode: u8) -> bool {
        match opcode {
            op::HEADER => false,
            op::MESSAGE => !self.ours && !self.chunked,
            op::SCHEMA..=op::DATA_END | op::FOOTER => true,
            0x80.. => !self.ours,
            _ => false,
        }
    }

    fn cut(&mut self) -> Result<Step, Failure> {
        if self.growing {
            return Ok(Step::End);
        }
        self.lose(Why::Cut)
    }

    /// Everything up to the next chunk is lost.
    fn lose(&mut self, why: Why) -> Result<Step, Failure> {
        let why = if self.ended { Why::Summary } else { why };
        let next = match self.next_known(self.at) {
            Some(next) => next,
            None => self.search(self.at + 1)?,
        };
        Ok(Step::Lost(next, why))
    }

    fn next_known(&self, at: u64) -> Option<u64> {
        let index = self.known.partition_point(|&offset| offset <= at);
        self.known.get(index).copied()
    }

    /// Where the next whole chunk begins; the end if there is none.
    fn search(&mut self, from: u64) -> Result<u64, Failure> {
        let end = self.end();
        let mut at = from;
        while at < end {
            let len = self.input.len();
            let bytes = self.input.window_at(at, EXTENT_LEN)?;
            // A chunk that begins near the end of the window is looked at in the next one.
            let is_last = len <= at + bytes.len() as u64;
            let len = match is_last {
                true => bytes.len(),
                false => bytes.len() + 1 - EXTENT_LEN,
            };
            let window = bytes.get(..len).unwrap_or_default();
            let candidate = window.iter().enumerate().find_map(|(index, &byte)| {
                let rest = (byte == op::CHUNK).then(|| bytes.get(index..))??;
                let extent = Extent::of(rest)?;
                (extent.len <= end - at - index as u64).then_some((index as u64, extent))
            });
            let Some((index, extent)) = candidate else {
                if len == 0 {
                    break;
                }
                at += len as u64;
                continue;
            };
            at += index;
            if self.is_chunk(at, extent)? {
                return Ok(at);
            }
            at += 1;
        }
        Ok(end)
    }

    /// Whether a whole chunk begins here. What it costs to find that there is none is paid from the budget.
    fn is_chunk(&mut self, at: u64, extent: Extent) -> Result<bool, Failure> {
        let cost = extent.len + extent.uncompressed_len;
        if self.budget < cost {
            return Ok(false);
        }
        let len = usize::try_from(extent.len).unwrap_or(usize::MAX);
        let bytes = self.input.at(at, len)?;
        let whole = chunk::check(bytes, true, &mut self.plain).is_ok_and(|header| {
            let mark = Mark::of_chunk(chunk::content(bytes, &header, &self.plain));
            self.mark.is_none() || mark == self.mark
        });
        if !whole {
            self.budget -= cost;
        }
        Ok(whole)
    }
}

impl Why {
    /// Whether messages are, or may be, lost.
    #[must_use]
    pub const fn loses_messages(&self) -> bool {
        !matches!(self, Self::Summary)
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoHeader => f.write_str("no header of an MCAP file"),
            Self::Chunk(fault) => fault.fmt(f),
            Self::Cut => f.write_str("cut in the middle of a record"),
            Self::NoRecord => f.write_str("no record"),
            Self::Summary => f.write_str("the summary is broken"),
        }
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { offset, len, why } = self;
        write!(f, "{len} bytes lost at {offset}: {why}")
    }
}
