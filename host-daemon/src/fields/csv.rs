//! Rows as CSV: [`CsvRows`].

use std::io::{self, Write};

use ::csv::Writer;
use jiff::Timestamp;

use crate::error::CommandError;
use crate::escape::terminal;
use crate::fields::columns::Leaf;
use crate::fields::rows::{FieldRow, RowSink};
use crate::fields::table::Columns;
use crate::fields::texts::RowTexts;

/// Writes rows as CSV. A value is written as it was received, and escaped on a terminal.
pub(crate) struct CsvRows {
    writer: Writer<Box<dyn Write + Send>>,
    columns: Columns,
    cells: RowTexts,
    has_session: bool,
    /// There is a column with the time of reception.
    has_received: bool,
}

impl CsvRows {
    /// Writes the header to standard output.
    ///
    /// # Errors
    /// If standard output cannot be written.
    pub(crate) fn new(columns: Columns, has_received: bool) -> Result<Self, CommandError> {
        Self::to(terminal::stdout(), columns, has_received)
    }

    /// Writes the header there.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn to(
        to: Box<dyn Write + Send>,
        columns: Columns,
        has_received: bool,
    ) -> Result<Self, CommandError> {
        let mut writer = Writer::from_writer(to);
        let own = ["time", "device", "conn", "seq"].map(str::to_owned);
        let has_session = columns.has_session;
        let session = has_session.then(|| "session".to_owned());
        let received = has_received.then(|| "received".to_owned());
        let own = own.into_iter().chain(session).chain(received);
        let names = own.chain(columns.headers());
        let names: Vec<_> = names.collect();
        writer.write_record(&names).map_err(failure)?;
        Ok(Self {
            writer,
            cells: RowTexts::default(),
            has_session,
            columns,
            has_received,
        })
    }

    /// The columns, with what was found in the rows.
    pub(crate) const fn columns(&self) -> &Columns {
        &self.columns
    }
}

impl RowSink for CsvRows {
    const IS_SHOWN: bool = true;

    fn row(&mut self, row: &FieldRow<'_>) -> Result<(), CommandError> {
        let (columns, cells) = (&mut self.columns, &mut self.cells);
        cells.begin(columns.len());
        columns.values(row.object, |place, leaf| {
            if let Leaf::Text(text) | Leaf::Plain(text) = leaf {
                cells.set(place, text);
            }
        });
        let conn = match row.conn {
            0 => String::new(),
            conn => conn.to_string(),
        };
        let mut own = vec![
            time(row.time),
            row.device.to_owned(),
            conn,
            row.seq.to_string(),
        ];
        if self.has_session {
            let session = row.session.map(|session| format!("{session:016x}"));
            own.push(session.unwrap_or_default());
        }
        if self.has_received {
            own.push(time(row.received));
        }
        let record = own.iter().map(String::as_str).chain(self.cells.iter());
        self.writer.write_record(record).map_err(failure)
    }

    fn flush(&mut self) -> Result<(), CommandError> {
        self.writer.flush().map_err(CommandError::stdout)
    }
}

fn time(nanoseconds: u64) -> String {
    let time = Timestamp::from_nanosecond(nanoseconds.into()).unwrap_or(Timestamp::UNIX_EPOCH);
    format!("{time:.9}")
}

fn failure(error: ::csv::Error) -> CommandError {
    match error.into_kind() {
        ::csv::ErrorKind::Io(error) => CommandError::stdout(error),
        kind => CommandError::Io(io::Error::other(format!("{kind:?}"))),
    }
}
