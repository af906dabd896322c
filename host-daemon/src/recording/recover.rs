//! What is whole in a torn recording, as a sealed one.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs;
use std::path::Path;

use mcap::records::{Channel, Header, Record, op};

use super::chunk::Chunk;
use super::input::Input;
use super::mark::{self, Mark};
use super::record::{Kind, Raw, UNKNOWN_TOPIC};
use super::scan::{Found, Lost, Scan};
use super::seal::{Sealer, channel_record, record, schema_record};
use super::summary::Summary;
use crate::failure::Failure;

/// Stretches of lost bytes that are told one by one.
pub const LOST_MAX: usize = 100;
/// Bytes of records that stand in no chunk, of which one chunk is made.
const LOOSE_LEN: usize = 1 << 20;

/// What was kept of a file, and what was lost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The file is sealed and sound as it is. Nothing was written.
    pub complete: bool,
    /// Whole chunks. If there are none, and the file is not complete, nothing was written.
    pub chunks: u64,
    /// Blocks in them.
    pub blocks: u64,
    /// Pieces of messages that were not taken whole.
    pub pieces: u64,
    /// Events that are not blocks.
    pub events: u64,
    /// Messages of channels that are known, and not ours.
    pub others: u64,
    /// Messages of which the channel was lost. They are kept, in channels with topics of their own.
    pub unknown: u64,
    /// Bytes of payload in all of these.
    pub bytes: u64,
    /// Chunks that are not whole; where not even their lengths could be read they are not counted.
    pub lost_chunks: u64,
    /// Bytes of the file that are not whole.
    pub lost_bytes: u64,
    /// Where they are: the first [`LOST_MAX`] stretches.
    pub lost: Vec<Lost>,
}

/// Writes a sealed file `to`, which must not exist, with all that is whole in `from`, and has it on the disk. Chunks
/// are copied as they are. Nothing is written if the file is sealed and sound, or if nothing in it is whole.
///
/// # Errors
/// [`Failure::File`], [`Failure::Write`]; then there is no file `to`.
pub fn recover(from: &Path, to: &Path) -> Result<Recovered, Failure> {
    let mut input = Input::open(from)?;
    let summary = Summary::read(&mut input)?.ok();
    let mut scan = Scan::new(input, summary.as_ref(), false);
    if summary.is_some() {
        let (recovered, is_sound) = count(&mut scan)?;
        if is_sound {
            return Ok(recovered);
        }
        scan = Scan::new(Input::open(from)?, summary.as_ref(), false);
    }
    let mut keeper = Keeper::new(to, summary);
    let kept = keeper.keep_all(&mut scan);
    match kept.and_then(|()| keeper.finish()) {
        Ok(recovered) => Ok(recovered),
        Err(failure) => {
            // What is there is not what was asked for; if it was there before, it was not touched.
            if keeper.created {
                let _ = fs::remove_file(to);
            }
            Err(failure)
        }
    }
}

/// Whether a file with a summary is sound, and what is in it.
fn count(scan: &mut Scan) -> Result<(Recovered, bool), Failure> {
    let mut tally = Tally::default();
    while let Some(found) = scan.advance()? {
        match found {
            Found::Chunk(chunk) => tally.chunk(&chunk, None, &mut Vec::new()),
            Found::Lost(_) => return Ok((Recovered::default(), false)),
            Found::Header(_) | Found::Record { .. } => {}
        }
    }
    let is_sound = scan.has_ended() && tally.recovered.unknown == 0;
    tally.recovered.complete = true;
    Ok((tally.recovered, is_sound))
}

/// Counts messages, and knows which channels there are.
#[derive(Debug, Default)]
struct Tally {
    kinds: HashMap<u16, Kind>,
    /// Channels that were made up.
    unknown: HashSet<u16>,
    schemas: HashSet<u16>,
    recovered: Recovered,
}

impl Tally {
    /// Counts what is in a chunk. Records of channels and schemas that must stand before it go to `missing`.
    fn chunk(&mut self, chunk: &Chunk<'_>, summary: Option<&Summary>, missing: &mut Vec<u8>) {
        self.recovered.chunks += 1;
        for (_, raw) in chunk.records() {
            self.take(&raw, summary, missing);
        }
    }

    fn take(&mut self, raw: &Raw<'_>, summary: Option<&Summary>, missing: &mut Vec<u8>) {
        if let Some((header, data)) = raw.message() {
            let id = header.channel_id;
            let kind = match self.kinds.get(&id) {
                Some(kind) => *kind,
                None => self.define(id, summary, missing),
            };
            let recovered = &mut self.recovered;
            recovered.bytes += data.len() as u64;
            *match kind {
                _ if self.unknown.contains(&id) => &mut recovered.unknown,
                Kind::Blocks => &mut recovered.blocks,
                Kind::Pieces => &mut recovered.pieces,
                Kind::Events => &mut recovered.events,
                Kind::Other => &mut recovered.others,
            } += 1;
            return;
        }
        match raw.opcode {
            op::SCHEMA | op::CHANNEL => {}
            _ => return,
        }
        match raw.parse() {
            Some(Record::Schema { header, .. }) => {
                self.schemas.insert(header.id);
            }
            Some(Record::Channel(channel)) => self.channel(&channel, summary, missing),
            _ => {}
        }
    }

    fn channel(&mut self, channel: &Channel, summary: Option<&Summary>, missing: &mut Vec<u8>) {
        let schema = channel.schema_id;
        if schema != 0 && self.schemas.insert(schema) {
            // Its record was lost: readers refuse a channel without.
            let known = summary.and_then(|summary| summary.schemas.get(&schema));
            missing.extend(match known {
                Some((known, data)) => schema_record(schema, &known.name, &known.encoding, data),
                None => schema_record(schema, "", "", b""),
            });
        }
        self.kinds.insert(channel.id, Kind::of(&channel.topic));
        self.unknown.remove(&channel.id);
    }

    /// A channel of which the record was lost: that of the summary, or one that is made up, so that its messages
    /// are kept.
    fn define(&mut self, id: u16, summary: Option<&Summary>, missing: &mut Vec<u8>) -> Kind {
        let known = summary.and_then(|summary| summary.channels.get(&id));
        let channel = match known {
            Some(known) => {
                self.channel(known, summary, missing);
                known.clone()
            }
            None => {
                self.unknown.insert(id);
                Channel {
                    id,
                    schema_id: 0,
                    topic: format!("{UNKNOWN_TOPIC}{id}"),
                    message_encoding: "raw".to_owned(),
                    metadata: Default::default(),
                }
            }
        };
        missing.extend(channel_record(&channel));
        let kind = Kind::of(&channel.topic);
        self.kinds.insert(id, kind);
        kind
    }

    fn lose(&mut self, lost: Lost) {
        use super::scan::Why;
        if !lost.why.loses_messages() {
            return;
        }
        let recovered = &mut self.recovered;
        recovered.lost_chunks += u64::from(matches!(lost.why, Why::Chunk(_)));
        recovered.lost_bytes += lost.len;
        if recovered.lost.len() < LOST_MAX {
            recovered.lost.push(lost);
        }
    }
}

/// Writes what is whole.
struct Keeper<'a> {
    to: &'a Path,
    summary: Option<Summary>,
    tally: Tally,
    header: Header,
    header_is_lost: bool,
    sealer: Option<Sealer>,
    created: bool,
    /// Records that stood in no chunk.
    loose: Vec<u8>,
}

impl<'a> Keeper<'a> {
    fn new(to: &'a Path, summary: Option<Summary>) -> Self {
        Self {
            to,
            summary,
            tally: Tally::default(),
            header_is_lost: true,
            header: Header {
                profile: String::new(),
                library: mark::library(None),
            },
            sealer: None,
            created: false,
            loose: Vec::new(),
        }
    }

    fn keep_all(&mut self, scan: &mut Scan) -> Result<(), Failure> {
        while let Some(found) = scan.advance()? {
            match found {
                Found::Header(header) => {
                    self.header = header;
                    self.header_is_lost = false;
                }
                Found::Chunk(chunk) => self.keep(&chunk)?,
                Found::Record { raw, .. } => self.keep_loose(&raw)?,
                Found::Lost(lost) => self.tally.lose(lost),
            }
            if scan.has_ended() {
                // The summary is written anew.
                break;
            }
        }
        Ok(())
    }

    fn keep(&mut self, chunk: &Chunk<'_>) -> Result<(), Failure> {
        self.flush()?;
        if self.header_is_lost && self.sealer.is_none() {
            self.header.library = mark::library(Mark::of_chunk(chunk.records));
        }
        let mut missing = Vec::new();
        let summary = self.summary.as_ref();
        self.tally.chunk(chunk, summary, &mut missing);
        let sealer = self.sealer()?;
        if !missing.is_empty() {
            sealer.records(&missing)?;
        }
        sealer.chunk(chunk)
    }

    fn keep_loose(&mut self, raw: &Raw<'_>) -> Result<(), Failure> {
        match raw.opcode {
            op::MESSAGE | op::CHANNEL | op::SCHEMA => {
                let mut missing = Vec::new();
                let summary = self.summary.as_ref();
                self.tally.take(raw, summary, &mut missing);
                self.loose.extend(missing);
                self.loose.extend(record(raw.opcode, raw.body));
                if LOOSE_LEN <= self.loose.len() {
                    self.flush()?;
                }
                Ok(())
            }
            op::ATTACHMENT | op::METADATA | 0x80.. => self.sealer()?.other(raw),
            // Of a chunk, or of the end: written anew.
            _ => Ok(()),
        }
    }

    fn flush(&mut self) -> Result<(), Failure> {
        if self.loose.is_empty() {
            return Ok(());
        }
        self.tally.recovered.chunks += 1;
        let loose = std::mem::take(&mut self.loose);
        self.sealer()?.records(&loose)
    }

    fn sealer(&mut self) -> Result<&mut Sealer, Failure> {
        if self.sealer.is_none() {
            let sealer = Sealer::create(self.to, &self.header)?;
            self.created = true;
            return Ok(self.sealer.insert(sealer));
        }
        self.sealer.as_mut().ok_or(Failure::BrokenPipe)
    }

    fn finish(&mut self) -> Result<Recovered, Failure> {
        self.flush()?;
        if let Some(sealer) = self.sealer.take() {
            sealer.finish()?;
        }
        Ok(std::mem::take(&mut self.tally.recovered))
    }
}

impl fmt::Display for Recovered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            blocks,
            pieces,
            events,
            bytes,
            ..
        } = self;
        write!(f, "kept {blocks} blocks")?;
        if *pieces != 0 {
            write!(f, ", {pieces} pieces")?;
        }
        if self.others != 0 {
            write!(f, ", {} other messages", self.others)?;
        }
        write!(f, ", {events} events, {bytes} bytes of payload")?;
        if self.unknown != 0 {
            write!(f, ", {} messages of unknown channels", self.unknown)?;
        }
        write!(
            f,
            "; lost {} bytes, {} chunks",
            self.lost_bytes, self.lost_chunks
        )
    }
}
