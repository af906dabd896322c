//! Messages of a device as CSV with a column for each field: [`CsvTable`].

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use crate::cli::FieldNames;
use crate::error::CommandError;
use crate::fields::{Columns, CsvRows, FieldRow, RowSink, Survey};
use crate::view::history::PastSink;

/// Most rows of a table.
const ROWS_MAX: usize = 100_000;
/// Most bytes of all messages of a table, as JSON.
const BYTES_MAX: usize = 16 << 20;

/// Most bytes of the text of a table.
const TEXT_MAX: usize = 32 << 20;
/// Bytes of a row besides its values, at least.
const ROW_COST: usize = 64;
/// The device of the last row, if messages are left out.
const CUT: &str = "older messages are left out";

/// Messages that wait until all columns are known: the newest ones, if there are too many.
#[derive(Debug, Default)]
pub(super) struct CsvTable {
    rows: Vec<CsvRow>,
    /// The part of the past that is being read, which is before `rows`. Of a part, the oldest messages come first.
    part: VecDeque<CsvRow>,
    /// Bytes of all messages.
    bytes: usize,
    /// Older messages are left out.
    is_cut: bool,
}

#[derive(Debug)]
struct CsvRow {
    time: u64,
    conn: u64,
    seq: u64,
    session: Option<u64>,
    len: usize,
    object: Box<[u8]>,
}

impl CsvTable {
    /// Notes that older messages are left out.
    pub(super) const fn cut(&mut self) {
        self.is_cut = true;
    }

    fn has_room(&self) -> bool {
        self.rows.len() + self.part.len() <= ROWS_MAX && self.bytes <= BYTES_MAX
    }

    /// The table, in the order of time. If messages are left out, its last row says so.
    ///
    /// # Errors
    /// None: a write to memory does not fail.
    pub(super) fn write(mut self, device: &str) -> Result<Vec<u8>, CommandError> {
        self.end_part();
        self.rows.sort_by_key(|row| (row.time, row.conn, row.seq));
        let mut survey = Survey(Columns::new(&FieldNames::All));
        for row in &self.rows {
            survey.row(&row.of(device))?;
        }
        let Survey(mut columns) = survey;
        columns.close();
        self.keep_newest(columns.len());
        let no_values = ",".repeat(columns.len());
        let memory = SharedMemory::default();
        let mut csv = CsvRows::to(Box::new(memory.clone()), columns, false)?;
        for row in &self.rows {
            csv.row(&row.of(device))?;
        }
        csv.flush()?;
        drop(csv);
        let mut bytes = memory.0.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_cut {
            let row = format!(",{CUT},,{no_values}\n");
            bytes.extend_from_slice(row.as_bytes());
        }
        Ok(std::mem::take(&mut *bytes))
    }

    /// Leaves out the oldest rows, until the text has room.
    fn keep_newest(&mut self, columns: usize) {
        let mut room = TEXT_MAX;
        let fits = |row: &&CsvRow| {
            let len = row.object.len() + columns + ROW_COST;
            let has_room = len <= room;
            room = room.saturating_sub(len);
            has_room
        };
        let kept = self.rows.iter().rev().take_while(fits).count();
        let left_out = self.rows.len() - kept;
        self.is_cut |= left_out != 0;
        self.rows.drain(..left_out);
    }
}

impl PastSink for CsvTable {
    fn row(&mut self, row: &FieldRow<'_>) -> bool {
        self.bytes += row.object.len();
        self.part.push_back(CsvRow {
            time: row.time,
            conn: row.conn,
            seq: row.seq,
            session: row.session,
            len: row.len,
            object: row.object.into(),
        });
        while !self.has_room() {
            self.is_cut = true;
            match self.part.pop_front() {
                Some(oldest) => self.bytes -= oldest.object.len(),
                None => break,
            }
        }
        true
    }

    fn end_part(&mut self) -> bool {
        self.rows.extend(self.part.drain(..));
        !self.is_cut
    }

    fn abort_part(&mut self) {
        let bytes = self.part.drain(..).map(|row| row.object.len());
        self.bytes -= bytes.sum::<usize>();
        self.cut();
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
            len: self.len,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn row(time: u64, seq: u64, object: &[u8]) -> FieldRow<'_> {
        FieldRow {
            time,
            received: time,
            device: "a",
            conn: 3,
            seq,
            session: None,
            len: object.len(),
            object,
        }
    }

    fn lines(table: CsvTable) -> Vec<String> {
        let text = String::from_utf8(table.write("a").expect("memory")).expect("UTF-8");
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn rows_are_in_the_order_of_time_and_have_all_columns() {
        let mut table = CsvTable::default();
        assert!(table.row(&row(2_000_000_000, 1, br#"{"b":2}"#)));
        assert!(table.row(&row(1_000_000_000, 1, br#"{"a":"x,y"}"#)));
        assert!(table.row(&row(1_000_000_000, 0, br#"{"a":1}"#)));
        let want = [
            "time,device,conn,seq,a,b",
            "1970-01-01T00:00:01.000000000Z,a,3,0,1,",
            "1970-01-01T00:00:01.000000000Z,a,3,1,\"x,y\",",
            "1970-01-01T00:00:02.000000000Z,a,3,1,,2",
        ];
        assert_eq!(lines(table), want);
    }

    #[test]
    fn a_full_table_says_so_in_its_last_row() {
        let mut table = CsvTable::default();
        // Of a part with too many, the newest ones are kept, and no earlier part is wanted.
        for seq in 0..ROWS_MAX as u64 + 7 {
            assert!(table.row(&row(seq, seq, br#"{"a":1}"#)));
        }
        assert!(!table.end_part());
        let lines = lines(table);
        assert_eq!(lines.len(), ROWS_MAX + 2);
        assert!(lines[1].contains(",a,3,7,"), "{}", lines[1]);
        let newest = format!(",a,3,{},", ROWS_MAX + 6);
        assert!(lines[ROWS_MAX].contains(&newest), "{}", lines[ROWS_MAX]);
        assert_eq!(
            lines.last().map(String::as_str),
            Some(",older messages are left out,,,")
        );
        let mut table = CsvTable::default();
        let long = format!(r#"{{"a":"{}"}}"#, "x".repeat(BYTES_MAX / 2));
        table.row(&row(0, 0, long.as_bytes()));
        table.row(&row(1, 1, long.as_bytes()));
        assert!(!table.end_part());
        assert_eq!((table.rows.len(), table.rows[0].seq), (1, 1));
        // Of a part that took too long, the oldest messages are known: they would stand before a hole.
        let mut table = CsvTable::default();
        table.row(&row(9, 9, b"{}"));
        assert!(table.end_part());
        table.row(&row(1, 1, b"{}"));
        table.abort_part();
        assert_eq!((table.rows.len(), table.bytes, table.is_cut), (1, 2, true));
        assert!(table.part.is_empty());
    }

    #[test]
    fn the_newest_rows_are_kept_if_columns_take_the_room() {
        let mut table = CsvTable::default();
        let wide: Vec<_> = (0..1000).map(|at| format!(r#""f{at}":1"#)).collect();
        table.row(&row(0, 0, format!("{{{}}}", wide.join(",")).as_bytes()));
        for seq in 1..50_000 {
            assert!(table.row(&row(seq, seq, b"{}")));
        }
        let text = table.write("a").expect("memory");
        assert!(text.len() <= TEXT_MAX + (64 << 10), "{}", text.len());
        assert!(TEXT_MAX / 2 < text.len(), "{}", text.len());
        let text = String::from_utf8(text).expect("UTF-8");
        let mut last = text.lines().rev();
        assert!(
            last.next()
                .is_some_and(|line| line.starts_with(",older messages"))
        );
        assert!(last.next().is_some_and(|line| line.contains(",a,3,49999,")));
    }
}
