//! Rows as CSV: [`CsvRows`].

use std::io::{self, Write};

use ::csv::Writer;
use jiff::Timestamp;

use crate::error::CommandError;
use crate::escape::terminal;
use crate::fields::columns::{Leaf, flatten};
use crate::fields::rows::{FieldRow, RowSink};
use crate::fields::table::Columns;

/// Writes rows as CSV. A value is written as it was received, and escaped on a terminal.
pub(crate) struct CsvRows {
    writer: Writer<Box<dyn Write + Send>>,
    columns: Columns,
    cells: Vec<String>,
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
        let received = has_received.then(|| "received".to_owned());
        let names = own.into_iter().chain(received).chain(columns.headers());
        let names: Vec<_> = names.collect();
        writer.write_record(&names).map_err(failure)?;
        Ok(Self {
            writer,
            cells: vec![String::new(); columns.len()],
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
        cells.iter_mut().for_each(String::clear);
        flatten(row.object, &[], |name, leaf| {
            let place = columns.note(name, leaf);
            if let Some(cell) = place.and_then(|place| cells.get_mut(place)) {
                match leaf {
                    Leaf::Text(text) | Leaf::Plain(text) => cell.push_str(text),
                    Leaf::Null => {}
                }
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
        if self.has_received {
            own.push(time(row.received));
        }
        let record = own.iter().chain(&self.cells);
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
