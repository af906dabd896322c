//! Messages of a device as CSV with a column for each field: [`CsvTable`].

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use crate::cli::FieldNames;
use crate::error::CommandError;
use crate::fields::{Columns, CsvRows, FieldRow, RowSink, Survey};

/// Most rows of a table.
const ROWS_MAX: usize = 100_000;
/// Most bytes of all messages of a table, as JSON.
const BYTES_MAX: usize = 16 << 20;

/// Messages that wait until all columns are known.
#[derive(Debug, Default)]
pub(super) struct CsvTable {
    rows: Vec<CsvRow>,
    bytes: usize,
}

#[derive(Debug)]
struct CsvRow {
    time: u64,
    conn: u64,
    seq: u64,
    session: Option<u64>,
    object: Box<[u8]>,
}

impl CsvTable {
    /// Adds a message. Returns `false`, and adds nothing, if the table is full.
    pub(super) fn add(&mut self, row: &FieldRow<'_>) -> bool {
        if ROWS_MAX <= self.rows.len() || BYTES_MAX < self.bytes + row.object.len() {
            return false;
        }
        self.bytes += row.object.len();
        self.rows.push(CsvRow {
            time: row.time,
            conn: row.conn,
            seq: row.seq,
            session: row.session,
            object: row.object.into(),
        });
        true
    }

    /// The table, in the order of time.
    ///
    /// # Errors
    /// None: a write to memory does not fail.
    pub(super) fn write(mut self, device: &str) -> Result<Vec<u8>, CommandError> {
        self.rows.sort_by_key(|row| (row.time, row.conn, row.seq));
        let mut survey = Survey(Columns::new(&FieldNames::All));
        for row in &self.rows {
            survey.row(&row.of(device))?;
        }
        let Survey(mut columns) = survey;
        columns.close();
        let memory = SharedMemory::default();
        let mut csv = CsvRows::to(Box::new(memory.clone()), columns, false)?;
        for row in &self.rows {
            csv.row(&row.of(device))?;
        }
        csv.flush()?;
        drop(csv);
        let mut bytes = memory.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(std::mem::take(&mut *bytes))
    }
}

impl CsvRow {
    fn of<'a>(&'a self, device: &'a str) -> FieldRow<'a> {
        FieldRow {
            time: self.time,
            received: self.time,
            device,
            conn: self.conn,
            seq: self.seq,
            session: self.session,
            object: &self.object,
        }
    }
}

/// Memory that the writer of a table shares with its reader.
#[derive(Clone, Debug, Default)]
struct SharedMemory(Arc<Mutex<Vec<u8>>>);

impl Write for SharedMemory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
