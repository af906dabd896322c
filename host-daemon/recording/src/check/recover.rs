//! Copies the whole chunks of a torn recording to a sealed one, and reports the result as [`Recovered`].

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
use crate::format::record::{GAP, HEAD_LEN, Kind, Raw, UNKNOWN_TOPIC, is_unknown};
use crate::read::loss::{LossCause, LostRange};
use crate::read::scan::{Found, Scan};
use crate::read::window::WindowedFile;

/// Largest number of lost ranges that are listed one by one.
pub const LOST_MAX: usize = 100;
/// Largest number of nonces that [`Recovered::hints`] lists.
const HINTS_MAX: usize = 10;
/// Bytes of records outside of chunks that are collected into one chunk.
const LOOSE_LEN: usize = 1 << 20;

/// The result of a recovery: the content that was kept, and the losses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The file is sealed and sound. Nothing was written.
    pub complete: bool,
    /// Something was kept, and a file was written.
    pub written: bool,
    /// More is lost than an unfinished record at the end of the file. Keep the original, because it may hold data that
    /// was not recovered.
    pub damaged: bool,
    /// Number of whole chunks.
    pub chunks: u64,
    /// Complete messages of devices.
    pub blocks: u64,
    /// Pieces of oversize messages.
    pub pieces: u64,
    /// Other events.
    pub events: u64,
    /// Messages of known channels of other programs.
    pub others: u64,
    /// Messages whose channel was lost. They are kept in channels with special topics.
    pub unknown: u64,
    /// Attachments, metadata, and records of unknown types, which other programs have written.
    pub records: u64,
    /// Payload bytes of all kept messages except events.
    pub bytes: u64,
    /// Messages that are missing between whole chunks, according to their sequence numbers.
    pub missing: u64,
    /// Whole chunks are out of order.
    pub is_disordered: bool,
    /// Whole chunks that are repeated. They are kept once.
    pub repeated_chunks: u64,
    /// Chunks that are not whole. Chunks without a readable length are not counted.
    pub lost_chunks: u64,
    /// Bytes of the file that are lost.
    pub lost_bytes: u64,
    /// The first [`LOST_MAX`] lost ranges.
    pub lost: Vec<LostRange>,
    /// Nonces of whole chunks that were skipped, with the number of chunks: neither the name nor the beginning of the
    /// file says which nonce is that of the file.
    pub strangers: BTreeMap<FileNonce, u64>,
}

/// See [`Checker::recover`](crate::check::Checker::recover).
pub(super) fn recover(
    from: &Path,
    to: &Path,
    ranges: &dyn SequenceRanges,
) -> Result<Recovered, Error> {
    recover_file(&WindowedFile::open(from)?, to, ranges)
}

/// As [`recover`], for an open file.
pub(super) fn recover_file(
    input: &WindowedFile,
    to: &Path,
    ranges: &dyn SequenceRanges,
) -> Result<Recovered, Error> {
    let survey = Survey::of(input)?;
    let is_complete = survey.is_whole && soundness(input.again(), ranges)?.1.is_none();
    let scan = Scan::new(input.again(), survey.summary.as_ref(), false);
    let mut scan = scan.of_ours(survey.is_ours);
    let mut salvager = Salvager::new((!is_complete).then_some(to), survey, ranges);
    let kept = salvager.keep_all(&mut scan);
    let finished = kept.and_then(|()| salvager.finish());
    let is_ours = salvager.survey.is_ours;
    let checked = finished.and_then(|mut recovered| {
        recovered.complete = is_complete;
        recovered.damaged &= !is_complete;
        // Another attempt, or another disk, may read more.
        recovered.damaged |= input.unreadable(0, u64::MAX).is_some();
        if recovered.written
            && let (_, Some((findings, first))) = soundness(WindowedFile::open(to)?, ranges)?
        {
            if is_ours {
                return Err(Error::UnsoundRepair {
                    path: input.path().into(),
                    findings,
                    first: first.to_string(),
                });
            }
            // Another program wrote it, so the meaning of its records is not known.
            recovered.damaged = true;
        }
        Ok(recovered)
    });
    if checked.is_err() && salvager.created {
        // Remove the incomplete file. If `to` existed before, it was not created here, and is unchanged.
        let _ = fs::remove_file(to);
    }
    checked
}

/// See [`Checker::check`](crate::check::Checker::check).
pub(super) fn check(path: &Path, ranges: &dyn SequenceRanges) -> Result<Option<Verified>, Error> {
    let (verified, defects) = soundness(WindowedFile::open(path)?, ranges)?;
    Ok(defects.is_none().then_some(verified))
}

/// Checks a file. Returns its content, and its defects except missing messages: their number, and the first.
fn soundness(
    input: WindowedFile,
    ranges: &dyn SequenceRanges,
) -> Result<(Verified, Option<(u64, Finding)>), Error> {
    let mut defects = None;
    let mut report = |finding: &Finding| {
        if !matches!(finding.kind, FindingKind::Sequence { .. }) {
            let (count, _) = defects.get_or_insert_with(|| (0, finding.clone()));
            *count += 1;
        }
    };
    let verified = verify(input, false, ranges, &mut report)?;
    Ok((verified, defects))
}

/// Counts messages, and tracks the defined channels.
#[derive(Debug, Default)]
struct Tally {
    kinds: HashMap<u16, Kind>,
    /// Channels that were invented because their record is lost.
    unknown: HashSet<u16>,
    /// A message came before the record of its channel, or without one.
    is_undefined: bool,
    schemas: HashSet<u16>,
    recovered: Recovered,
}

impl Tally {
    /// Counts the content of a chunk. Appends the records of channels and schemas that must precede it to `missing`.
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
            if kind != Kind::Events {
                recovered.bytes += data.len() as u64;
            }
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
            // The record of the schema was lost. Readers refuse a channel without it.
            let (name, encoding, data) = known.schema(schema).unwrap_or_default();
            missing.extend(schema_record(schema, name, encoding, data));
        }
        self.kinds.insert(channel.id, Kind::of(&channel.topic));
        self.unknown.remove(&channel.id);
    }

    /// Defines a channel whose record was lost or comes later: as it is known from elsewhere, or as an invented one, so
    /// that its messages are kept.
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

    /// Records a loss. `is_tail` says that a crash of this library may have left it.
    fn lose(&mut self, lost: LostRange, is_tail: bool) {
        let recovered = &mut self.recovered;
        recovered.damaged |= !is_tail;
        recovered.lost_bytes += lost.len;
        recovered.lost_chunks += u64::from(matches!(lost.cause, LossCause::Chunk(_)));
        if recovered.lost.len() < LOST_MAX {
            recovered.lost.push(lost);
        }
    }
}

/// Copies the whole parts of a file.
struct Salvager<'a> {
    /// The file to write; `None` to only count.
    to: Option<&'a Path>,
    survey: Survey,
    tally: Tally,
    rebuilder: Option<Rebuilder>,
    created: bool,
    /// Offset and length of the losses since the last chunk, if messages may be among them.
    gap: Option<(u64, u64)>,
    order: Order<'a>,
    /// Records from outside of chunks.
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
                    // The end of a file of another program may hold more than an unfinished chunk of messages.
                    let is_unknown = self.survey.is_foreign && lost.cause.loses_messages();
                    let is_tail = is_last && lost.cause.is_tail() && !is_unknown;
                    self.tally.lose(lost, is_tail);
                }
            }
            if scan.has_ended() {
                // A new summary is written.
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
            // Sequence numbers are missing here, but the new file is sound.
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
            op::ATTACHMENT | op::METADATA if raw.parse().is_none() => {
                self.lose(offset, raw);
                Ok(())
            }
            // This library writes none of these.
            op::ATTACHMENT | op::METADATA | op::SCHEMA..=op::MESSAGE if self.survey.is_ours => {
                self.lose(offset, raw);
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
            op::ATTACHMENT | op::METADATA => self.copy(raw),
            // Records of other programs, or of later versions of the specification.
            opcode if is_unknown(opcode) && !self.survey.is_ours => self.copy(raw),
            // Indexes and the end of the file are rebuilt.
            _ => Ok(()),
        }
    }

    fn lose(&mut self, offset: u64, raw: &Raw<'_>) {
        let len = (HEAD_LEN + raw.body.len()) as u64;
        let cause = LossCause::NoRecord;
        self.tally.lose(LostRange { offset, len, cause }, false);
    }

    /// Copies a record that is not in a chunk, in the order of the file.
    fn copy(&mut self, raw: &Raw<'_>) -> Result<(), Error> {
        self.flush()?;
        self.tally.recovered.records += 1;
        match self.rebuilder()? {
            Some(rebuilder) => rebuilder.other(raw),
            None => Ok(()),
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
        // The chunk with the record of the channel is missing, or comes later.
        self.tally.recovered.damaged |= self.survey.is_ours && self.tally.is_undefined;
        Ok(std::mem::take(&mut self.tally.recovered))
    }
}

impl Recovered {
    /// Returns a line for each nonce that may be that of the file, if that is not known. A line says what to do.
    pub fn hints(&self) -> impl Iterator<Item = String> {
        let strangers = self.strangers.iter().take(HINTS_MAX);
        strangers.map(|(nonce, count)| {
            format!(
                "{count} chunks with nonce {nonce} were skipped, because neither the name nor the beginning of the file \
                 has it; if they belong to this file and are not payload, rename the file to \
                 NUMBER-TIME-{nonce}.mcap.part and recover it again"
            )
        })
    }
}

impl Recovered {
    /// Describes what is wrong with the order of the chunks. Empty if nothing is.
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
            text += &format!("; {} chunks are repeated", self.repeated_chunks);
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
        if self.records != 0 {
            write!(f, ", {} attachments or other records", self.records)?;
        }
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
