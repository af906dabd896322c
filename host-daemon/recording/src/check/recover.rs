//! Copies the whole chunks of a torn recording to a sealed one: [`Recovered`].

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::fs;
use std::path::Path;

use mcap::records::{Channel, Record, op};

use crate::check::finding::{Finding, FindingKind};
use crate::check::order::Order;
use crate::check::rebuild::Rebuilder;
use crate::check::sequences::SequenceRanges;
use crate::check::survey::{Definitions, Survey};
use crate::check::verify::{Verified, verify};
use crate::error::Error;
use crate::format::chunk::Chunk;
use crate::format::encode::{channel_record, record, schema_record};
use crate::format::nonce::FileNonce;
use crate::format::record::{GAP, HEAD_LEN, Kind, Raw, UNKNOWN_TOPIC};
use crate::read::loss::{LossCause, LostRange};
use crate::read::scan::{Found, Scan};
use crate::read::window::WindowedFile;

/// Ranges of lost bytes that are listed one by one.
pub const LOST_MAX: usize = 100;
/// Nonces that are reported as possible nonces of the file.
const HINTS_MAX: usize = 10;
/// Bytes of records that stand in no chunk, of which one chunk is made.
const LOOSE_LEN: usize = 1 << 20;

/// The content that was kept of a file, and the losses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The file is sealed and sound as it is. Nothing was written.
    pub complete: bool,
    /// Something was kept: a file was written.
    pub written: bool,
    /// More is lost than a record that was not finished when the writing ended. The original may hold data that was
    /// not recovered, and must be kept.
    pub damaged: bool,
    /// Whole chunks.
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
    /// Messages that are missing by their sequence numbers, though the chunks around them are whole.
    pub missing: u64,
    /// Whole chunks come in another order than they were written in.
    pub is_disordered: bool,
    /// Whole chunks that came twice. They are kept once.
    pub repeated_chunks: u64,
    /// Chunks that are not whole; where not even their lengths could be read they are not counted.
    pub lost_chunks: u64,
    /// Bytes of the file that are not whole.
    pub lost_bytes: u64,
    /// Where they are: the first [`LOST_MAX`] stretches.
    pub lost: Vec<LostRange>,
    /// Nonces of whole chunks that were not taken, since neither the name nor the beginning of the file says which nonce
    /// is its own, and how many of each.
    pub strangers: BTreeMap<FileNonce, u64>,
}

/// See [`Checker::recover`](crate::check::Checker::recover).
pub(super) fn recover(
    from: &Path,
    to: &Path,
    ranges: &dyn SequenceRanges,
) -> Result<Recovered, Error> {
    let survey = Survey::of(from)?;
    let is_complete = survey.is_whole && check(from, ranges)?.is_some();
    let scan = Scan::new(WindowedFile::open(from)?, survey.summary.as_ref(), false);
    let mut scan = scan.of_ours(survey.is_ours);
    let mut salvager = Salvager::new((!is_complete).then_some(to), survey, ranges);
    let kept = salvager.keep_all(&mut scan);
    let finished = kept.and_then(|()| salvager.finish());
    let is_ours = salvager.survey.is_ours;
    let checked = finished.and_then(|mut recovered| {
        recovered.complete = is_complete;
        recovered.damaged &= !is_complete;
        if recovered.written
            && let (_, Some((findings, first))) = soundness(to, ranges)?
        {
            if is_ours {
                return Err(Error::UnsoundRepair {
                    path: from.into(),
                    findings,
                    first: first.to_string(),
                });
            }
            // Of another program: what its records mean is not known.
            recovered.damaged = true;
        }
        Ok(recovered)
    });
    if checked.is_err() && salvager.created {
        // What is there is not what was asked for; if it was there before, it was not touched.
        let _ = fs::remove_file(to);
    }
    checked
}

/// See [`Checker::check`](crate::check::Checker::check).
pub(super) fn check(path: &Path, ranges: &dyn SequenceRanges) -> Result<Option<Verified>, Error> {
    let (verified, defects) = soundness(path, ranges)?;
    Ok(defects.is_none().then_some(verified))
}

/// The content of a file, and its defects except missing messages: their count, and the first.
fn soundness(
    path: &Path,
    ranges: &dyn SequenceRanges,
) -> Result<(Verified, Option<(u64, Finding)>), Error> {
    let mut defects = None;
    let mut report = |finding: &Finding| {
        if !matches!(finding.kind, FindingKind::Sequence { .. }) {
            let (count, _) = defects.get_or_insert_with(|| (0, finding.clone()));
            *count += 1;
        }
    };
    let verified = verify(WindowedFile::open(path)?, false, ranges, &mut report)?;
    Ok((verified, defects))
}

/// Counts messages, and knows which channels there are.
#[derive(Debug, Default)]
struct Tally {
    kinds: HashMap<u16, Kind>,
    /// Channels that were made up.
    unknown: HashSet<u16>,
    /// A message stood before the record of its channel, or without one.
    is_undefined: bool,
    schemas: HashSet<u16>,
    recovered: Recovered,
}

impl Tally {
    /// Counts what is in a chunk. Records of channels and schemas that must stand before it go to `missing`.
    fn chunk(&mut self, chunk: &Chunk<'_>, known: &Definitions, missing: &mut Vec<u8>) {
        self.recovered.chunks += 1;
        for (_, raw) in chunk.records() {
            self.take(&raw, known, missing);
        }
    }

    fn take(&mut self, raw: &Raw<'_>, known: &Definitions, missing: &mut Vec<u8>) {
        if let Some((header, data)) = raw.message() {
            let id = header.channel_id;
            let kind = match self.kinds.get(&id) {
                Some(kind) => *kind,
                None => self.define(id, known, missing),
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
            Some(Record::Channel(channel)) => self.channel(&channel, known, missing),
            _ => {}
        }
    }

    fn channel(&mut self, channel: &Channel, known: &Definitions, missing: &mut Vec<u8>) {
        let schema = channel.schema_id;
        if schema != 0 && self.schemas.insert(schema) {
            // Its record was lost: readers refuse a channel without.
            let (name, encoding, data) = known.schema(schema).unwrap_or_default();
            missing.extend(schema_record(schema, name, encoding, data));
        }
        self.kinds.insert(channel.id, Kind::of(&channel.topic));
        self.unknown.remove(&channel.id);
    }

    /// A channel of which the record was lost, or comes later: that which is known, or one that is made up, so that
    /// its messages are kept.
    fn define(&mut self, id: u16, known: &Definitions, missing: &mut Vec<u8>) -> Kind {
        self.is_undefined = true;
        let channel = match known.channel(id) {
            Some(channel) => {
                self.channel(channel, known, missing);
                channel.clone()
            }
            None => {
                self.unknown.insert(id);
                self.kinds.insert(id, Kind::Other);
                Channel {
                    id,
                    schema_id: 0,
                    topic: format!("{UNKNOWN_TOPIC}{id}"),
                    message_encoding: String::new(),
                    metadata: BTreeMap::new(),
                }
            }
        };
        missing.extend(channel_record(&channel));
        self.kinds.get(&id).copied().unwrap_or(Kind::Other)
    }

    /// `is_last` says that the stretch reaches to the end of the file.
    fn lose(&mut self, lost: LostRange, is_last: bool) {
        let recovered = &mut self.recovered;
        recovered.damaged |= !(is_last && lost.cause.is_tail());
        recovered.lost_bytes += lost.len;
        recovered.lost_chunks += u64::from(matches!(lost.cause, LossCause::Chunk(_)));
        if recovered.lost.len() < LOST_MAX {
            recovered.lost.push(lost);
        }
    }
}

/// Writes what is whole.
struct Salvager<'a> {
    /// None if it is only to be counted.
    to: Option<&'a Path>,
    survey: Survey,
    tally: Tally,
    rebuilder: Option<Rebuilder>,
    created: bool,
    /// What was lost since the last chunk, if messages may be.
    gap: Option<(u64, u64)>,
    order: Order<'a>,
    /// Records that stood in no chunk.
    loose: Vec<u8>,
}

impl<'a> Salvager<'a> {
    fn new(to: Option<&'a Path>, survey: Survey, ranges: &'a dyn SequenceRanges) -> Self {
        let mut tally = Tally::default();
        tally.recovered.strangers = survey.strangers.clone();
        Self {
            to,
            survey,
            tally,
            rebuilder: None,
            created: false,
            gap: None,
            order: Order::new(ranges),
            loose: Vec::new(),
        }
    }

    fn keep_all(&mut self, scan: &mut Scan) -> Result<(), Error> {
        let len = scan.input().len();
        while let Some(found) = scan.advance()? {
            match found {
                Found::Header(_) => {}
                Found::Chunk(chunk) => self.keep(&chunk)?,
                Found::Record { offset, raw } => self.keep_loose(offset, &raw)?,
                Found::Lost(lost) => {
                    if lost.cause.loses_messages() {
                        let (offset, before) = self.gap.unwrap_or((lost.offset, 0));
                        self.gap = Some((offset, before + lost.len));
                    }
                    let is_last = lost.offset + lost.len == len;
                    self.tally.lose(lost, is_last);
                }
            }
            if scan.has_ended() {
                // The summary is written anew.
                break;
            }
        }
        Ok(())
    }

    fn keep(&mut self, chunk: &Chunk<'_>) -> Result<(), Error> {
        let is_ours = self.survey.is_ours;
        if is_ours && self.order.is_repeated(chunk) {
            self.tally.recovered.repeated_chunks += 1;
            self.tally.recovered.damaged = true;
            return Ok(());
        }
        self.flush()?;
        let is_first = self.tally.recovered.chunks == 0;
        let mut missing = Vec::new();
        let mut gap = self.gap.take();
        if gap.is_some() {
            self.order.gap();
        }
        if is_ours && !self.order.follows(chunk, &self.survey.definitions) {
            self.tally.recovered.damaged = true;
            gap = gap.or(Some((chunk.offset, 0)));
        }
        let gap = gap.filter(|_| is_ours && !is_first);
        if let Some((offset, len)) = gap {
            // Message numbers are missing here. The file itself is sound.
            let body = [offset.to_le_bytes(), len.to_le_bytes()].concat();
            missing.extend(record(GAP, &body));
        }
        self.tally
            .chunk(chunk, &self.survey.definitions, &mut missing);
        let Some(rebuilder) = self.rebuilder()? else {
            return Ok(());
        };
        if !missing.is_empty() {
            rebuilder.records(&missing)?;
        }
        rebuilder.chunk(chunk)
    }

    fn keep_loose(&mut self, offset: u64, raw: &Raw<'_>) -> Result<(), Error> {
        match raw.opcode {
            // The daemon writes none of these.
            op::ATTACHMENT | op::METADATA | 0x80.. if self.survey.is_ours => {
                let len = (HEAD_LEN + raw.body.len()) as u64;
                let cause = LossCause::NoRecord;
                self.tally.lose(LostRange { offset, len, cause }, false);
                Ok(())
            }
            op::MESSAGE | op::CHANNEL | op::SCHEMA => {
                let mut missing = Vec::new();
                self.tally.take(raw, &self.survey.definitions, &mut missing);
                self.loose.extend(missing);
                self.loose.extend(record(raw.opcode, raw.body));
                if LOOSE_LEN <= self.loose.len() {
                    self.flush()?;
                }
                Ok(())
            }
            op::ATTACHMENT | op::METADATA | 0x80.. => match self.rebuilder()? {
                Some(rebuilder) => rebuilder.other(raw),
                None => Ok(()),
            },
            // Of a chunk, or of the end: written anew.
            _ => Ok(()),
        }
    }

    fn flush(&mut self) -> Result<(), Error> {
        if self.loose.is_empty() {
            return Ok(());
        }
        self.tally.recovered.chunks += 1;
        let loose = std::mem::take(&mut self.loose);
        match self.rebuilder()? {
            Some(rebuilder) => rebuilder.records(&loose),
            None => Ok(()),
        }
    }

    fn rebuilder(&mut self) -> Result<Option<&mut Rebuilder>, Error> {
        if let (None, Some(to)) = (&self.rebuilder, self.to) {
            self.rebuilder = Some(Rebuilder::create(to, &self.survey.header)?);
            self.created = true;
        }
        Ok(self.rebuilder.as_mut())
    }

    fn finish(&mut self) -> Result<Recovered, Error> {
        self.flush()?;
        if let Some(rebuilder) = self.rebuilder.take() {
            rebuilder.finish()?;
            self.tally.recovered.written = true;
        }
        self.tally.recovered.missing = self.order.missing();
        self.tally.recovered.is_disordered = self.order.is_disordered();
        // The chunk with the record of the channel is missing, or stands later.
        self.tally.recovered.damaged |= self.survey.is_ours && self.tally.is_undefined;
        Ok(std::mem::take(&mut self.tally.recovered))
    }
}

impl Recovered {
    /// A line for each nonce that may be the file's, where that cannot be known.
    pub fn hints(&self) -> impl Iterator<Item = String> {
        let strangers = self.strangers.iter().take(HINTS_MAX);
        strangers.map(|(nonce, count)| {
            format!(
                "{count} chunks with nonce {nonce} were not taken, since neither the name nor the beginning of the file \
                 has it; if they are of this file and not of a payload, rename the file to \
                 NUMBER-TIME-{nonce}.mcap.part and recover it again"
            )
        })
    }
}

impl Recovered {
    /// What is wrong with the order of the chunks; empty if nothing is.
    #[must_use]
    pub fn disorder(&self) -> String {
        let mut text = String::new();
        if self.missing != 0 {
            text += &format!("; {} messages missing between whole chunks", self.missing);
        }
        if self.is_disordered {
            text += "; chunks out of order";
        }
        if self.repeated_chunks != 0 {
            text += &format!("; {} chunks came twice", self.repeated_chunks);
        }
        text
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
            "; lost {} bytes, {} chunks{}",
            self.lost_bytes,
            self.lost_chunks,
            self.disorder()
        )
    }
}
