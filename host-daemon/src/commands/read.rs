//! `blocksd read`: prints a recording as `serve` would have printed it, as a table, or as payloads alone. Start with
//! [`read`].

use std::io::{self, IsTerminal, Write};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::Value;

use crate::cli::{Read, ReadOutput, Selection};
use crate::commands::filter::Filtered;
use crate::commands::selection::{Matched, Selected};
use crate::commands::unique::Unique;
use crate::error::CommandError;
use crate::escape::{printable, terminal};
use crate::output::{Format, Hex, Json, Out, Text};
use crate::payload::{self, Style, members};
use crate::recorded::from_log::{EventReader, EventVisitor};
use crate::recorded::lifecycle::Lifecycle;
use crate::service::log::print_status;
use blocksd_engine::batch::Item;
use blocksd_engine::event::{Event, EventKind};
use blocksd_engine::stdio;
use blocksd_recording::{Error, Losses, LostRange, Message, Missed, Visitor, Wanted};

/// Prints recorded messages.
///
/// # Errors
/// [`CommandError::NotWhole`] if data is lost; the intact data is printed anyway. [`CommandError::Recording`].
pub fn read(arguments: &Read) -> Result<(), CommandError> {
    let select = selection(arguments)?;
    let selected = Selected::new(&arguments.paths, &select)?;
    let how = Visit::new(arguments);
    let reader = EventReader::new(arguments.decode.clone());
    let format: Box<dyn Format> = match arguments.output {
        ReadOutput::Text => Box::new(Text::new(io::stdout().is_terminal())),
        ReadOutput::Json => Box::new(Json::default()),
        ReadOutput::Hex => Box::new(Hex::new()),
        ReadOutput::Csv | ReadOutput::Parquet => {
            let printed = Csv::new()?;
            return run(&selected, how, &mut EventPrinter { reader, printed });
        }
        ReadOutput::Raw => {
            let out = io::BufWriter::with_capacity(1 << 16, terminal::stdout());
            return run(&selected, how, &mut Payload(out));
        }
    };
    let mut printer = EventPrinter {
        reader,
        printed: Screen {
            format,
            out: Out::new(Box::new(stdio::stdout()), None),
            wanted: selected.wanted().clone(),
        },
    };
    run(&selected, how, &mut printer)
}

/// The selected messages, after a check of the other options.
///
/// # Errors
/// [`CommandError::Conflict`].
pub(super) fn selection(arguments: &Read) -> Result<Selection, CommandError> {
    let mut select = arguments.select.clone();
    if let Some(until) = arguments.to {
        print_status(format_args!(
            "blocksd: --to: old name of --until; use the new name"
        ));
        select.until = Some(until);
    }
    if let (true, [_, _, ..]) = (arguments.follow, arguments.paths.as_slice()) {
        return Err(CommandError::Conflict {
            one: "--follow",
            other: "more than one file or directory",
        });
    }
    Ok(select)
}

/// How messages are visited.
#[derive(Clone, Copy, Debug)]
pub(super) struct Visit {
    /// Waits for more messages.
    follow: bool,
    /// Passes each message of a session on once.
    unique: bool,
}

impl Visit {
    pub(super) const fn new(arguments: &Read) -> Self {
        Self {
            follow: arguments.follow,
            unique: arguments.unique,
        }
    }
}

/// Hands the selected messages to a visitor, and checks that they are whole.
///
/// # Errors
/// Those of the visitor, and [`CommandError::NotWhole`].
fn run(
    selected: &Selected<'_>,
    how: Visit,
    visitor: &mut dyn Visitor<Error = CommandError>,
) -> Result<(), CommandError> {
    let (losses, matched) = visit(selected, how, visitor)?;
    check_losses(losses).and_then(|()| selected.check(&matched))
}

/// Hands the selected messages to a visitor.
///
/// # Errors
/// Those of the visitor.
pub(super) fn visit(
    selected: &Selected<'_>,
    Visit { follow, unique }: Visit,
    visitor: &mut dyn Visitor<Error = CommandError>,
) -> Result<(Losses, Matched), CommandError> {
    let mut first_ones;
    let visitor = match unique {
        true => {
            first_ones = Filtered::new(Unique::default(), visitor);
            &mut first_ones
        }
        false => visitor,
    };
    match follow {
        true => selected.follow(visitor),
        false => selected.visit(visitor),
    }
}

/// Returns the error of a command that read a recording with these losses.
pub(super) fn check_losses(losses: Losses) -> Result<(), CommandError> {
    let Losses { bytes, files } = losses;
    match losses.is_none() {
        true => Ok(()),
        false => Err(CommandError::NotWhole {
            lost: bytes,
            unread: files,
        }),
    }
}

/// Prints a line about a file of a recording that cannot be read.
pub(super) fn report_unreadable(error: Error) {
    let failure = printable(CommandError::from(error));
    print_status(format_args!("blocksd: {failure}"));
}

/// Prints a line about lost bytes of a recording.
pub(super) fn report_lost(file: &Path, lost: &LostRange) {
    print_status(format_args!(
        "blocksd: {}: {lost}",
        printable(file.display())
    ));
}

/// Prints a line about files that were deleted before they were read.
pub(super) fn report_missed(path: &Path, missed: &Missed) {
    print_status(format_args!(
        "blocksd: {}: {missed}",
        printable(path.display())
    ));
}

/// Prints a line about a directory that does not exist.
fn report_missing(directory: &Path) {
    let directory = printable(directory.display());
    print_status(format_args!(
        "blocksd: {directory}: does not exist; waiting until it is created"
    ));
}

/// Prints a line about frames that cannot be decoded without a file, once.
fn report_formats(reader: &mut EventReader) {
    if let Some(device) = reader.lacks_formats() {
        let device = printable(device);
        print_status(format_args!(
            "blocksd: {device} sent defmt frames, which are not decoded; to decode them, add --decode defmt:ELF with \
             the firmware's ELF file"
        ));
    }
}

/// Prints events.
pub(super) struct EventPrinter<P> {
    pub(super) reader: EventReader,
    pub(super) printed: P,
}

/// An output of events.
pub(super) trait Printed: EventVisitor<Error = CommandError> {
    /// Whether payloads are decoded.
    const DECODES: bool;

    /// Writes what is buffered.
    ///
    /// # Errors
    /// If standard output cannot be written.
    fn flush(&mut self) -> Result<(), CommandError>;
}

/// Prints in a format of `serve`.
struct Screen {
    format: Box<dyn Format>,
    out: Out,
    wanted: Wanted,
}

impl<P: Printed> Visitor for EventPrinter<P> {
    type Error = CommandError;

    fn message(&mut self, message: &Message<'_>) -> Result<(), CommandError> {
        self.reader.message(message, &mut self.printed)?;
        if P::DECODES {
            report_formats(&mut self.reader);
        }
        Ok(())
    }

    fn lost(&mut self, file: &Path, lost: &LostRange) -> Result<(), CommandError> {
        report_lost(file, lost);
        self.gap()
    }

    fn gap(&mut self) -> Result<(), CommandError> {
        self.reader.finish(&mut self.printed)
    }

    fn unreadable(&mut self, error: Error) -> Result<(), CommandError> {
        report_unreadable(error);
        Ok(())
    }

    fn missed(&mut self, path: &Path, missed: &Missed) -> Result<(), CommandError> {
        report_missed(path, missed);
        self.gap()
    }

    fn missing(&mut self, directory: &Path) -> Result<(), CommandError> {
        report_missing(directory);
        Ok(())
    }

    fn idle(&mut self) -> Result<(), CommandError> {
        self.reader.finish(&mut self.printed)?;
        self.printed.flush()
    }
}

impl Printed for Screen {
    const DECODES: bool = true;

    fn flush(&mut self) -> Result<(), CommandError> {
        self.out.flush().map_err(CommandError::stdout)
    }
}

impl EventVisitor for Screen {
    type Error = CommandError;

    fn event(&mut self, event: &Event) -> Result<(), CommandError> {
        if !self.wanted.has(&event.source.device) {
            return Ok(());
        }
        let written = self.format.event(event, &mut self.out);
        written.map_err(CommandError::stdout)
    }

    fn lifecycle(&mut self, event: &Lifecycle<'_>) -> Result<(), CommandError> {
        // With `--device`, only events of these devices are wanted.
        if !self.wanted.devices.is_empty() {
            return Ok(());
        }
        let written = self.format.lifecycle(event, &mut self.out);
        written.map_err(CommandError::stdout)
    }

    fn other(&mut self, json: &[u8]) -> Result<(), CommandError> {
        let known = members(json);
        let device = known.get("device").and_then(Value::as_str);
        if device.is_some_and(|device| !self.wanted.has(device)) {
            return Ok(());
        }
        // Copied as compact JSON, which is on one line and never longer than its source.
        let mut text = String::with_capacity(json.len());
        if payload::Value::json(json)
            .write(Style::Json, &mut text)
            .is_err()
        {
            text = "null".to_owned();
        }
        self.out.line().extend_from_slice(text.as_bytes());
        self.out.end_line().map_err(CommandError::stdout)
    }
}

/// Prints a row for each message and each piece. The last column says which of them are pieces.
struct Csv(csv::Writer<Box<dyn Write + Send>>);

impl Csv {
    fn new() -> Result<Self, CommandError> {
        let mut writer = csv::Writer::from_writer(terminal::stdout());
        let names = [
            "time", "device", "seq", "len", "text", "base64", "conn", "part", "session",
        ];
        writer.write_record(names).map_err(csv_failure)?;
        Ok(Self(writer))
    }
}

impl EventVisitor for Csv {
    type Error = CommandError;

    fn event(&mut self, event: &Event) -> Result<(), CommandError> {
        let EventKind::Batch { batch, position } = &event.kind else {
            return Ok(());
        };
        let time = Timestamp::try_from(event.time).unwrap_or(Timestamp::UNIX_EPOCH);
        let time = format!("{time:.9}");
        // Empty if it is not known.
        let conn = match event.source.conn {
            0 => String::new(),
            conn => conn.to_string(),
        };
        let session = event.source.session.as_ref();
        let session = session.map_or_else(String::new, |it| format!("{:016x}", it.number()));
        let mut position = *position;
        for item in batch.items() {
            if let Item::Message(bytes) | Item::Piece { bytes, .. } = item {
                // One of the two columns is empty: data that is not UTF-8 is in base64.
                let text = std::str::from_utf8(bytes);
                let base64 = text.map_or_else(|_| STANDARD.encode(bytes), |_| String::new());
                let part = match item {
                    Item::Piece {
                        truncated: true, ..
                    } => "truncated",
                    Item::Piece { last: true, .. } => "last",
                    Item::Piece { .. } => "piece",
                    _ => "",
                };
                let row = [
                    &time,
                    &*event.source.device,
                    &position.seq.to_string(),
                    &bytes.len().to_string(),
                    text.unwrap_or_default(),
                    &base64,
                    &conn,
                    part,
                    &session,
                ];
                self.0.write_record(row).map_err(csv_failure)?;
            }
            position.pass(&item);
        }
        Ok(())
    }
}

impl Printed for Csv {
    const DECODES: bool = false;

    fn flush(&mut self) -> Result<(), CommandError> {
        self.0.flush().map_err(CommandError::stdout)
    }
}

fn csv_failure(error: csv::Error) -> CommandError {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => CommandError::stdout(error),
        kind => CommandError::Io(io::Error::other(format!("{kind:?}"))),
    }
}

/// Prints the payloads alone.
struct Payload<W>(W);

impl<W: Write> Visitor for Payload<W> {
    type Error = CommandError;

    fn message(&mut self, message: &Message<'_>) -> Result<(), CommandError> {
        if !message.channel.kind.is_payload() {
            return Ok(());
        }
        self.0.write_all(message.data).map_err(CommandError::stdout)
    }

    fn lost(&mut self, file: &Path, lost: &LostRange) -> Result<(), CommandError> {
        report_lost(file, lost);
        Ok(())
    }

    fn unreadable(&mut self, error: Error) -> Result<(), CommandError> {
        report_unreadable(error);
        Ok(())
    }

    fn missed(&mut self, path: &Path, missed: &Missed) -> Result<(), CommandError> {
        report_missed(path, missed);
        Ok(())
    }

    fn missing(&mut self, directory: &Path) -> Result<(), CommandError> {
        report_missing(directory);
        Ok(())
    }

    fn idle(&mut self) -> Result<(), CommandError> {
        self.0.flush().map_err(CommandError::stdout)
    }
}
