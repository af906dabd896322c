//! `blocksd read` with a column for each field, as CSV or Parquet. Start with [`read`].

use std::io::{self, IsTerminal as _};

use crate::cli::{FieldNames, Read, ReadOutput, TimeUnit};
use crate::commands::read::{EventPrinter, Printed, Visit, check_losses, selection, visit};
use crate::commands::selection::Selected;
use crate::error::CommandError;
use crate::fields::{
    Columns, CsvRows, ParquetRows, Quiet, RowFilter, RowSink, Rows, Survey, is_column, report,
    report_long_names, report_messages, report_untimed,
};
use crate::output::counted;
use crate::payload::Decoding;
use crate::recorded::from_log::EventReader;
use blocksd_engine::stdio;

/// Fields without a value that are reported.
const UNSEEN_MAX: usize = 10;
/// Letters of a name that a report shows.
const NAME_LEN: usize = 64;

/// Whether the output has a column for each field: Parquet, and CSV of decoded messages.
///
/// # Errors
/// [`CommandError::Conflict`] for options that cannot be combined.
pub(super) fn is_table(arguments: &Read) -> Result<bool, CommandError> {
    let conflict = |one, other| Err(CommandError::Conflict { one, other });
    let table = &arguments.table;
    let is_decoded = |decoding: &Decoding| *decoding != Decoding::Raw;
    match arguments.output {
        ReadOutput::Parquet if arguments.follow => conflict("--output parquet", "--follow"),
        ReadOutput::Parquet => Ok(true),
        ReadOutput::Csv if !table.is_given() => {
            Ok(arguments.decode.as_ref().is_some_and(is_decoded))
        }
        ReadOutput::Csv => Ok(true),
        _ if table.is_given() => conflict(
            "--fields, --where or --time-field",
            "this --output; use --output csv or --output parquet",
        ),
        _ => Ok(false),
    }
}

/// Prints a table. The recording is read twice if the columns are not known before.
///
/// # Errors
/// [`CommandError::NotExported`] if a message has no row, or a value no column; [`CommandError::NotWhole`] if data is lost.
/// Everything else is printed anyway.
pub(super) fn read(arguments: &Read) -> Result<(), CommandError> {
    let table = &arguments.table;
    let fields = table.fields.clone().unwrap_or_default();
    let is_parquet = arguments.output == ReadOutput::Parquet;
    if arguments.follow && fields == FieldNames::All {
        return Err(CommandError::Conflict {
            one: "--follow",
            other: "the columns of all fields; name the fields with --fields",
        });
    }
    if is_parquet {
        ParquetRows::check()?;
        if io::stdout().is_terminal() {
            return Err(CommandError::Conflict {
                one: "--output parquet",
                other: "a terminal; write it to a file, as in > telemetry.parquet",
            });
        }
    }
    let select = selection(arguments)?;
    let selected = Selected::new(&arguments.paths, &select)?;
    let time_field = table.time_field.as_ref();
    let mut pass = TablePass {
        selected: &selected,
        how: Visit::new(arguments),
        decode: arguments.decode.clone(),
        filter: RowFilter::new(&table.conditions, time_field),
        limit: u64::MAX,
    };
    let mut columns = Columns::new(&fields);
    if is_parquet || fields == FieldNames::All {
        let mut survey = pass.printer(Survey(columns));
        visit(&selected, pass.how, &mut Quiet(&mut survey))?;
        pass.limit = survey.printed.counts.read;
        columns = survey.printed.sink.0;
    }
    columns.close();
    let has_received = time_field.is_some();
    if is_parquet {
        let failure = CommandError::stdout;
        let out = Box::new(stdio::stdout());
        let sink = ParquetRows::new(out, columns, has_received).map_err(failure)?;
        let Printing { mut rows, whole } = pass.print(sink)?;
        rows.sink.finish().map_err(failure)?;
        let end = pass.end(&rows, rows.sink.columns(), rows.sink.unfit());
        return whole.and(end);
    }
    let sink = CsvRows::new(columns, has_received)?;
    let Printing { rows, whole } = pass.print(sink)?;
    let end = pass.end(&rows, rows.sink.columns(), 0);
    whole.and(end)
}

/// The end of a pass.
struct Printing<S> {
    rows: Rows<S>,
    whole: Result<(), CommandError>,
}

/// One pass over the recording.
struct TablePass<'a> {
    selected: &'a Selected<'a>,
    how: Visit,
    decode: Option<Decoding>,
    filter: RowFilter,
    /// Number of messages and pieces that the first pass has read. Those after them were recorded since then.
    limit: u64,
}

impl TablePass<'_> {
    fn printer<S: RowSink>(&self, sink: S) -> EventPrinter<Rows<S>> {
        EventPrinter {
            reader: EventReader::new(self.decode.clone()),
            printed: Rows::new(sink, self.filter.clone(), self.limit),
        }
    }

    /// Passes all messages to a sink. Returns it, and whether the recording is whole.
    ///
    /// # Errors
    /// If the sink fails.
    fn print<S: RowSink>(&self, sink: S) -> Result<Printing<S>, CommandError> {
        let mut printer = self.printer(sink);
        let (losses, matched) = visit(self.selected, self.how, &mut printer)?;
        let whole = check_losses(losses).and_then(|()| self.selected.check(&matched));
        let mut rows = printer.printed;
        rows.sink.flush()?;
        Ok(Printing { rows, whole })
    }

    /// Reports messages, values and fields that are not in the table.
    fn end<S: RowSink>(
        &self,
        rows: &Rows<S>,
        columns: &Columns,
        unfit: u64,
    ) -> Result<(), CommandError> {
        let counts = &rows.counts;
        let undecodable = (counts.undecodable, counts.first_undecodable.as_deref());
        report_messages("not in the table", undecodable, counts.pieces);
        let left_out = columns.left_out();
        if left_out.values != 0 {
            let count = counted(left_out.values, "value");
            let names = left_out.names.iter().map(|name| shortened(name));
            report(format_args!(
                "not in the table: {count} of fields beyond the limit of columns; the first fields: {}; name the columns \
                 with --fields",
                names.collect::<Vec<_>>().join(", ")
            ));
        }
        report_long_names("not in the table", left_out.long_names);
        if let Some(field) = self.filter.time_field() {
            report_untimed(field, counts.untimed, TimeUnit::Seconds);
        }
        let mut unseen: Vec<&str> = Vec::new();
        if counts.read != counts.undecodable + counts.pieces {
            unseen.extend(rows.filter.unseen());
        }
        if counts.rows != 0 {
            unseen.extend(columns.unseen());
        }
        for (index, name) in unseen.iter().take(UNSEEN_MAX).enumerate() {
            let before = unseen.iter().take(index);
            if before.into_iter().all(|it| it != name) {
                let hint = hint(name);
                report(format_args!("no message has the field {name:?}{hint}"));
            }
        }
        if self.limit != u64::MAX && counts.read < self.limit {
            return Err(CommandError::Io(io::Error::other(
                "files of the recording were deleted while it was read; some messages are missing",
            )));
        }
        let messages = counts.undecodable + counts.pieces;
        match (messages, left_out.count() + unfit) {
            (0, 0) => Ok(()),
            (messages, values) => Err(CommandError::NotExported { messages, values }),
        }
    }
}

impl<S: RowSink> Printed for Rows<S> {
    const DECODES: bool = S::IS_SHOWN;

    fn flush(&mut self) -> Result<(), CommandError> {
        self.sink.flush()
    }
}

/// What may be meant by a name that is not one of a field.
fn hint(name: &str) -> &'static str {
    match name {
        "device" => "; it is a column, not a field: use --device",
        "time" | "received" => "; it is a column, not a field: use --from and --until",
        "conn" | "seq" | "session" => "; it is a column, not a field",
        _ if is_column(name) => "; a field is named without the _ of its column",
        _ if name.contains('.') && !name.contains('"') => {
            "; a key that contains a dot is written in double quotes"
        }
        _ => "",
    }
}

/// The beginning of a name, which may be as long as a message.
fn shortened(name: &str) -> String {
    match name.char_indices().nth(NAME_LEN) {
        Some((end, _)) => format!("{}…", name.get(..end).unwrap_or_default()),
        None => name.to_owned(),
    }
}
