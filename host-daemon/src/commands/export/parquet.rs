//! Exports to one Parquet file of all devices: [`ParquetTarget`].

use std::fs::{File, OpenOptions};
use std::io;
use std::path::PathBuf;

use crate::cli::FieldNames;
use crate::commands::export::mcap::{check_new, check_source};
use crate::commands::export::target::{Decoded, ExportedTo, Target};
use crate::error::CommandError;
use crate::fields::{Columns, DecodedKind, Dialect, FieldRow, ParquetRows};

/// A Parquet file.
pub(super) struct ParquetTarget {
    out: PathBuf,
    /// The paths that are exported.
    from: Vec<PathBuf>,
    force: bool,
    /// There is a column with the time of reception.
    has_received: bool,
    /// Until the file is begun.
    columns: Columns,
    rows: Option<ParquetRows>,
}

impl ParquetTarget {
    /// Exports to this file.
    ///
    /// # Errors
    /// [`CommandError::NotBuilt`].
    pub(super) fn new(
        out: PathBuf,
        from: Vec<PathBuf>,
        force: bool,
        has_received: bool,
    ) -> Result<Self, CommandError> {
        ParquetRows::check()?;
        Ok(Self {
            out,
            from,
            force,
            has_received,
            columns: Columns::new(&FieldNames::All),
            rows: None,
        })
    }

    fn failure(&self, error: io::Error) -> CommandError {
        CommandError::Write {
            path: self.out.clone(),
            error,
        }
    }

    fn create(&self) -> io::Result<File> {
        let mut options = OpenOptions::new();
        let options = match self.force {
            true => options.create(true).truncate(true),
            false => options.create_new(true),
        };
        options.write(true).open(&self.out)
    }
}

impl Target for ParquetTarget {
    fn dialect(&self) -> Dialect {
        Dialect::Csv
    }

    fn survey(&mut self, decoded: &Decoded<'_>) {
        if decoded.kind == DecodedKind::Event {
            return;
        }
        self.columns.has_session |= decoded.session.is_some();
        self.columns.values(decoded.object, |_, _| {});
    }

    fn begin(&mut self) -> Result<(), CommandError> {
        check_source(&self.out, &self.from)?;
        check_new(&self.out, self.force)?;
        let file = self.create().map_err(|error| self.failure(error))?;
        let mut columns = std::mem::take(&mut self.columns);
        columns.close();
        let rows = ParquetRows::new(Box::new(file), columns, self.has_received);
        self.rows = Some(rows.map_err(|error| self.failure(error))?);
        Ok(())
    }

    fn write(&mut self, decoded: &Decoded<'_>) -> Result<(), CommandError> {
        let Some(rows) = &mut self.rows else {
            return Ok(());
        };
        if decoded.kind == DecodedKind::Event {
            return Ok(());
        }
        let row = FieldRow {
            time: decoded.time,
            received: decoded.received,
            device: decoded.device,
            conn: decoded.conn,
            seq: decoded.seq,
            session: decoded.session,
            len: decoded.object.len(),
            object: decoded.object,
        };
        let pushed = rows.push(&row);
        pushed.map_err(|error| self.failure(error))
    }

    fn finish(&mut self) -> Result<ExportedTo, CommandError> {
        let (mut without_column, mut long_names) = (0, 0);
        if let Some(mut rows) = self.rows.take() {
            rows.finish().map_err(|error| self.failure(error))?;
            let left_out = rows.columns().left_out();
            long_names = left_out.long_names;
            without_column = left_out.values + rows.unfit();
        }
        Ok(ExportedTo {
            to: self.out.display().to_string(),
            without_column,
            long_names,
        })
    }
}
