//! Copies the whole chunks of a torn recording to a sealed one, and reports the result as [`Recovered`].

use std::fs;
use std::path::Path;

use mcap::records::op;

use crate::check::finding::{Finding, FindingKind};
use crate::check::order::Order;
use crate::check::rebuild::Rebuilder;
use crate::check::sequences::SequenceRanges;
use crate::check::set_aside::{Confirmed, SetAside};
use crate::check::survey::Survey;
use crate::check::tally::Tally;
use crate::check::verify::{Verified, verify};
use crate::error::Error;
use crate::format::chunk::Chunk;
use crate::format::encode::record;
use crate::format::record::{GAP, HEAD_LEN, Raw, is_unknown};
use crate::read::loss::{LossCause, LostRange};
use crate::read::scan::{Found, Scan};
use crate::read::window::WindowedFile;

pub use crate::check::recovered::{LOST_MAX, Recovered};

/// Bytes of records outside of chunks that are collected into one chunk.
const LOOSE_LEN: usize = 1 << 20;

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
    rewrite(input, to, ranges, Confirmed::Unknown, false)
}

/// As [`recover`], with the statements of other files about the messages. Writes a file of this library also if it is sound:
/// after a failed sync, a file may be sound in the memory of the system and not on the disk.
pub(super) fn recover_anew(
    from: &Path,
    to: &Path,
    ranges: &dyn SequenceRanges,
    confirmed: Confirmed,
) -> Result<Recovered, Error> {
    rewrite(&WindowedFile::open(from)?, to, ranges, confirmed, true)
}

fn rewrite(
    input: &WindowedFile,
    to: &Path,
    ranges: &dyn SequenceRanges,
    confirmed: Confirmed,
    is_anew: bool,
) -> Result<Recovered, Error> {
    let survey = Survey::of(input)?;
    let is_complete = survey.is_whole && soundness(input.again(), ranges)?.1.is_none();
    let is_written = !is_complete || (is_anew && survey.is_ours);
    let scan = Scan::new(input.again(), survey.summary.as_ref(), false);
    let mut scan = scan.of_ours(survey.is_ours);
    let set_aside = SetAside::new(input, &survey, confirmed);
    let mut salvager = Salvager::new(is_written.then_some(to), survey, set_aside, ranges);
    let kept = salvager.keep_all(&mut scan);
    let finished = kept.and_then(|()| salvager.finish());
    let is_ours = salvager.survey.is_ours;
    // Messages were left out.
    let is_full = salvager.set_aside.is_full;
    let checked = finished.and_then(|mut recovered| {
        recovered.complete = is_complete;
        recovered.damaged = (recovered.damaged && !is_complete) || is_full;
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

/// Copies the whole parts of a file.
struct Salvager<'a> {
    /// The file to write; `None` to only count.
    to: Option<&'a Path>,
    survey: Survey,
    set_aside: SetAside,
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
    fn new(
        to: Option<&'a Path>,
        survey: Survey,
        set_aside: SetAside,
        ranges: &'a dyn SequenceRanges,
    ) -> Self {
        let mut tally = Tally::default();
        tally.recovered.strangers = survey.strangers.clone();
        Self {
            to,
            survey,
            set_aside,
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
                        self.set_aside.hole(&lost);
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
        let changed = self.set_aside.chunk(chunk, &self.survey);
        let records = changed.as_deref().unwrap_or(chunk.records);
        self.tally
            .chunk(records, &self.survey.definitions, &mut missing);
        let Some(rebuilder) = self.rebuilder()? else {
            return Ok(());
        };
        if !missing.is_empty() {
            rebuilder.records(&missing)?;
        }
        match changed {
            Some(records) => rebuilder.records(&records),
            None => rebuilder.chunk(chunk),
        }
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
