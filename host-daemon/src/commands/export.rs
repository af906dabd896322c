//! `blocksd export`: writes decoded messages for analysis, as MCAP for Foxglove or PlotJuggler, as CSV or as
//! Parquet. Start with [`export`].
//!
//! The recording is read twice: first to learn the fields of each device, then to write. Memory is bounded by the
//! number of devices and of different fields, not by the length of the recording.

mod csv;
mod mcap;
mod parquet;
mod target;
mod topic;

use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value as Tree;

use self::csv::CsvTarget;
use self::mcap::McapTarget;
use self::parquet::ParquetTarget;
use self::target::{Decoded, ExportedTo, Target};
use crate::cli::{Export, ExportFormat, TimeField, TimeUnit};
use crate::commands::read::{check_losses, report_lost, report_unreadable};
use crate::commands::selection::Selected;
use crate::error::CommandError;
use crate::fields::{
    DecodedKind, Dialect, RESERVED, column_name, put_object, report, report_long_names,
    report_messages, report_untimed, time_of_field,
};
use crate::output::counted;
use crate::payload::{Decoders, Style, Value, members};
use crate::recorded::from_log::{EventReader, EventVisitor};
use crate::recorded::time::nanoseconds;
use blocksd_engine::batch::{Batch, Item};
use blocksd_engine::event::{Event, EventKind, StreamPosition};
use blocksd_engine::stdio;
use blocksd_recording::topic::Kind;
use blocksd_recording::{Error, LostRange, Message, Visitor, Wanted};

/// Exports recordings.
///
/// # Errors
/// [`CommandError::Exists`]; [`CommandError::NotExported`] or [`CommandError::NotWhole`] if not everything can be
/// exported: everything else is exported anyway.
pub fn export(arguments: &Export) -> Result<(), CommandError> {
    let selected = Selected::new(&arguments.paths, &arguments.select)?;
    let wanted = selected.wanted();
    let mut target = target(arguments)?;
    let mut survey = Pass::new(arguments, wanted, &mut *target, None);
    let (lost, matched) = selected.visit(&mut survey)?;
    let surveyed = survey.exporter.counts;
    let checked = selected.check(&matched);
    if matched.is_empty() && checked.is_err() {
        return checked;
    }
    target.begin()?;
    let mut writing = Pass::new(arguments, wanted, &mut *target, Some(surveyed.read));
    selected.visit(&mut writing)?;
    let counts = writing.exporter.counts;
    let written = target.finish()?;
    let done = summarize(&counts, &written, arguments.time_field.as_ref());
    if counts.read < surveyed.read {
        return Err(CommandError::Io(io::Error::other(
            "files of the recording were deleted during the export; some messages are missing",
        )));
    }
    let left_out = counts.undecodable + counts.pieces + counts.truncated;
    let complete = match (left_out, written.without_column + written.long_names) {
        (0, 0) => Ok(()),
        (messages, values) => Err(CommandError::NotExported { messages, values }),
    };
    match check_losses(lost).and(complete).and(checked) {
        Ok(()) => writeln!(stdio::stdout(), "{done}").map_err(CommandError::stdout),
        Err(failure) => Err(CommandError::Partly {
            failure: Box::new(failure),
            done,
        }),
    }
}

fn target(arguments: &Export) -> Result<Box<dyn Target>, CommandError> {
    let out = |default: &str| {
        arguments
            .out
            .clone()
            .unwrap_or_else(|| PathBuf::from(default))
    };
    let (from, force) = (arguments.paths.clone(), arguments.force);
    let has_received = arguments.time_field.is_some();
    let dialect = match arguments.to {
        ExportFormat::Csv => {
            let out = out("blocksd-export");
            return Ok(Box::new(CsvTarget::new(out, from, force, has_received)));
        }
        ExportFormat::Parquet => {
            let out = out("blocksd-export.parquet");
            let target = ParquetTarget::new(out, from, force, has_received)?;
            return Ok(Box::new(target));
        }
        ExportFormat::Foxglove => Dialect::Foxglove,
        ExportFormat::Plotjuggler => Dialect::Plotjuggler,
    };
    let out = out("blocksd-export.mcap");
    Ok(Box::new(McapTarget::new(out, from, force, dialect)))
}

/// Reports missing messages, and returns the summary.
fn summarize(counts: &ExportCounts, written: &ExportedTo, field: Option<&TimeField>) -> String {
    let undecodable = (counts.undecodable, counts.first_undecodable.as_deref());
    report_messages("not exported", undecodable, counts.pieces);
    if counts.truncated != 0 {
        let count = counted(counts.truncated, "message");
        report(format_args!(
            "not exported: {count} cut by the end of a connection; `blocksd read` shows what was received"
        ));
    }
    if written.without_column != 0 {
        let count = counted(written.without_column, "value");
        report(format_args!(
            "not exported: {count} of fields beyond the limit of columns"
        ));
    }
    report_long_names("not exported", written.long_names);
    if let Some(field) = field {
        report_untimed(field, counts.untimed, TimeUnit::Nanoseconds);
    }
    for device in &counts.without_elf {
        report(format_args!(
            "the log of {device:?} is not decoded; name the firmware's ELF file with --decode defmt:ELF"
        ));
    }
    let messages = counted(counts.exported, "message");
    let devices = counted(counts.devices.len() as u64, "device");
    format!("exported {messages} of {devices} to {}", written.to)
}

/// What was found in a recording.
#[derive(Debug, Default)]
struct ExportCounts {
    /// Records that were read.
    read: u64,
    exported: u64,
    undecodable: u64,
    first_undecodable: Option<String>,
    pieces: u64,
    /// Messages that were cut, received as one piece.
    truncated: u64,
    /// Messages without a time in the chosen field.
    untimed: u64,
    devices: BTreeSet<Arc<str>>,
    /// Devices with logs whose ELF file was not named.
    without_elf: BTreeSet<Arc<str>>,
}

/// One pass over the recording.
struct Pass<'a> {
    reader: EventReader,
    exporter: Exporter<'a>,
    /// The records of the first pass, or `None` in the first pass. What was recorded since then is not exported.
    limit: Option<u64>,
}

/// Decodes messages, and passes them to the target.
struct Exporter<'a> {
    arguments: &'a Export,
    /// The field with the time, by the name of its column.
    time_field: Option<TimeField>,
    wanted: &'a Wanted,
    target: &'a mut dyn Target,
    is_survey: bool,
    decoders: Decoders,
    object: Vec<u8>,
    no_device: Arc<str>,
    counts: ExportCounts,
}

impl<'a> Pass<'a> {
    fn new(
        arguments: &'a Export,
        wanted: &'a Wanted,
        target: &'a mut dyn Target,
        limit: Option<u64>,
    ) -> Self {
        Self {
            reader: EventReader::new(arguments.decode.clone()),
            exporter: Exporter {
                arguments,
                time_field: arguments.time_field.as_ref().map(|time| TimeField {
                    field: column_name(&time.field, &RESERVED),
                    unit: time.unit,
                }),
                wanted,
                target,
                is_survey: limit.is_none(),
                decoders: Decoders::default(),
                object: Vec::new(),
                no_device: "".into(),
                counts: ExportCounts::default(),
            },
            limit,
        }
    }
}

impl Visitor for Pass<'_> {
    type Error = CommandError;

    fn message(&mut self, message: &Message<'_>) -> Result<(), CommandError> {
        if self
            .limit
            .is_some_and(|limit| limit <= self.exporter.counts.read)
        {
            return Ok(());
        }
        self.exporter.counts.read += 1;
        let channel = message.channel;
        if channel.kind == Kind::Events {
            self.exporter.note(message)?;
        }
        let decode = channel.record.metadata.get("decode");
        if self.exporter.arguments.decode.is_none()
            && decode.is_some_and(|it| it.starts_with("defmt"))
        {
            let devices = &mut self.exporter.counts.without_elf;
            devices.insert(Arc::clone(&channel.device));
        }
        self.reader.message(message, &mut self.exporter)
    }

    fn lost(&mut self, file: &Path, lost: &LostRange) -> Result<(), CommandError> {
        if self.limit.is_none() {
            report_lost(file, lost);
        }
        self.gap()
    }

    fn gap(&mut self) -> Result<(), CommandError> {
        self.reader.finish(&mut self.exporter)
    }

    fn unreadable(&mut self, error: Error) -> Result<(), CommandError> {
        if self.limit.is_none() {
            report_unreadable(error);
        }
        Ok(())
    }

    fn idle(&mut self) -> Result<(), CommandError> {
        self.reader.finish(&mut self.exporter)
    }
}

impl EventVisitor for Exporter<'_> {
    type Error = CommandError;

    fn event(&mut self, event: &Event) -> Result<(), CommandError> {
        match &event.kind {
            EventKind::Batch { batch, position } => self.batch(event, batch, *position),
            _ => Ok(()),
        }
    }
}

impl Exporter<'_> {
    fn batch(
        &mut self,
        event: &Event,
        batch: &Batch,
        mut position: StreamPosition,
    ) -> Result<(), CommandError> {
        let source = &event.source;
        let received = nanoseconds(event.time);
        let dialect = self.target.dialect();
        let decoder = self.decoders.of(source);
        for item in batch.items() {
            let seq = position.seq;
            position.pass(&item);
            let bytes = match item {
                Item::Message(bytes) => bytes,
                Item::Piece {
                    first, truncated, ..
                } => {
                    // The pieces of a long message that was cut are counted one by one.
                    match first && truncated {
                        true => self.counts.truncated += 1,
                        false => self.counts.pieces += 1,
                    }
                    continue;
                }
                Item::End | Item::Fault(_) | Item::Reset | Item::AfterEnd { .. } => continue,
            };
            let object = &mut self.object;
            let kind = match put_object(decoder, bytes, &source.device, dialect, object) {
                Ok(kind) => kind,
                Err(error) => {
                    self.counts.undecodable += 1;
                    let first = || format!("number {seq} of {:?}: {error}", source.device);
                    self.counts.first_undecodable.get_or_insert_with(first);
                    continue;
                }
            };
            let field = self.time_field.as_ref();
            let time = field.map(|field| time_of_field(object, field));
            self.counts.untimed += u64::from(time == Some(None));
            self.counts.exported += 1;
            if !self.counts.devices.contains(&source.device) {
                self.counts.devices.insert(Arc::clone(&source.device));
            }
            let decoded = Decoded {
                kind,
                device: &source.device,
                conn: source.conn,
                seq,
                session: source.session.as_ref().map(|session| session.number()),
                time: time.flatten().unwrap_or(received),
                received,
                object,
            };
            match self.is_survey {
                true => self.target.survey(&decoded),
                false => self.target.write(&decoded)?,
            }
        }
        Ok(())
    }

    /// Exports an event of the daemon.
    fn note(&mut self, message: &Message<'_>) -> Result<(), CommandError> {
        let known = members(message.data);
        let device = known.get("device").and_then(Tree::as_str);
        // With `--device`, only events of these devices are wanted.
        let is_wanted = device.map_or(self.wanted.devices.is_empty(), |it| self.wanted.has(it));
        let mut text = String::with_capacity(message.data.len());
        let copied = Value::json(message.data).write(Style::Json, &mut text);
        if !is_wanted || copied.is_err() || !text.starts_with('{') {
            return Ok(());
        }
        let decoded = Decoded {
            kind: DecodedKind::Event,
            device: &self.no_device,
            conn: 0,
            seq: message.sequence.into(),
            session: None,
            time: message.time,
            received: message.time,
            object: text.as_bytes(),
        };
        match self.is_survey {
            true => self.target.survey(&decoded),
            false => return self.target.write(&decoded),
        }
        Ok(())
    }
}
