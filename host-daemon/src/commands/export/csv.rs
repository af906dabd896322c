//! Exports to CSV files, one for each device, with a column for each field: [`CsvTarget`].

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::csv::{Terminator, Writer, WriterBuilder};
use jiff::Timestamp;

use crate::commands::export::mcap::{check_new, check_source};
use crate::commands::export::target::{Decoded, ExportedTo, Target};
use crate::commands::export::topic;
use crate::error::CommandError;
use crate::fields::{DecodedKind, Dialect, Leaf, RESERVED, RowTexts, flatten};

/// Maximum number of columns of a file.
const COLUMNS_MAX: usize = 4096;
/// Maximum length of the names of all columns of all files, in bytes.
const NAMES_MAX: usize = 64 << 20;
/// Maximum number of files that are open at a time.
const OPEN_MAX: usize = 128;
/// Maximum length of a file's name before `.csv`.
const NAME_LEN: usize = 200;

/// A directory of CSV files, or one file.
pub(super) struct CsvTarget {
    out: PathBuf,
    /// The paths that are exported.
    from: Vec<PathBuf>,
    force: bool,
    /// There is a column with the time of reception.
    has_received: bool,
    sheets: HashMap<Arc<str>, Sheet>,
    /// Length of the names of all columns.
    names_len: usize,
    open: usize,
    without_column: u64,
    long_names: u64,
    cells: RowTexts,
}

/// The file of a device.
struct Sheet {
    /// Number of the device, in the order of their first messages.
    number: usize,
    columns: HashMap<Box<str>, usize>,
    path: PathBuf,
    writer: Option<Writer<File>>,
}

impl CsvTarget {
    /// Exports to this directory, or to this file if it ends in `.csv`.
    pub(super) fn new(out: PathBuf, from: Vec<PathBuf>, force: bool, has_received: bool) -> Self {
        Self {
            out,
            from,
            force,
            has_received,
            sheets: HashMap::new(),
            names_len: 0,
            open: 0,
            without_column: 0,
            long_names: 0,
            cells: RowTexts::default(),
        }
    }

    fn is_file(&self) -> bool {
        self.out.extension().is_some_and(|ending| ending == "csv") && !self.out.is_dir()
    }

    /// The columns that every file has.
    fn own_columns(&self) -> &'static [&'static str] {
        let [own @ .., _] = &RESERVED;
        if self.has_received { &RESERVED } else { own }
    }

    fn close_all(&mut self) -> Result<(), CommandError> {
        for sheet in self.sheets.values_mut() {
            if let Some(mut writer) = sheet.writer.take() {
                writer
                    .flush()
                    .map_err(|error| failure(&sheet.path, error))?;
            }
        }
        self.open = 0;
        Ok(())
    }

    fn open(&mut self, device: &Arc<str>) -> Result<(), CommandError> {
        let is_open = self
            .sheets
            .get(device)
            .is_none_or(|sheet| sheet.writer.is_some());
        if is_open {
            return Ok(());
        }
        if self.open == OPEN_MAX {
            self.close_all()?;
        }
        if let Some(sheet) = self.sheets.get_mut(device) {
            let file = OpenOptions::new().append(true).open(&sheet.path);
            sheet.writer = Some(writer(file.map_err(|error| failure(&sheet.path, error))?));
            self.open += 1;
        }
        Ok(())
    }
}

impl Target for CsvTarget {
    fn dialect(&self) -> Dialect {
        Dialect::Csv
    }

    fn survey(&mut self, decoded: &Decoded<'_>) {
        if decoded.kind == DecodedKind::Event {
            return;
        }
        let number = self.sheets.len();
        let sheet = self
            .sheets
            .entry(Arc::clone(decoded.device))
            .or_insert_with(|| Sheet {
                number,
                columns: HashMap::new(),
                path: PathBuf::new(),
                writer: None,
            });
        // Values of longer names are counted when the others are written.
        let _ = flatten(decoded.object, &RESERVED, |name, _| {
            let (count, len) = (sheet.columns.len(), self.names_len + name.len());
            if !sheet.columns.contains_key(name) && count < COLUMNS_MAX && len <= NAMES_MAX {
                sheet.columns.insert(name.into(), count);
                self.names_len = len;
            }
        });
    }

    fn begin(&mut self) -> Result<(), CommandError> {
        let is_file = self.is_file();
        if is_file && 1 < self.sheets.len() {
            return Err(CommandError::Conflict {
                one: "--out with a file",
                other: "more than one device; name a directory, or one device with --device",
            });
        }
        for (device, sheet) in &mut self.sheets {
            sheet.path = match is_file {
                true => self.out.clone(),
                false => self.out.join(file_name(device, sheet.number)),
            };
            check_source(&sheet.path, &self.from)?;
            check_new(&sheet.path, self.force)?;
        }
        if !is_file {
            fs::create_dir_all(&self.out).map_err(|error| failure(&self.out, error))?;
        }
        let own = self.own_columns();
        for sheet in self.sheets.values_mut() {
            let mut names: Vec<_> = sheet.columns.iter().collect();
            names.sort_unstable_by_key(|(_, number)| **number);
            let names = names.into_iter().map(|(name, _)| &**name);
            let mut options = OpenOptions::new();
            let options = match self.force {
                true => options.create(true).truncate(true),
                false => options.create_new(true),
            };
            let file = options.write(true).open(&sheet.path);
            let mut writer = writer(file.map_err(|error| failure(&sheet.path, error))?);
            let header = writer.write_record(own.iter().copied().chain(names));
            header.map_err(|error| csv_failure(&sheet.path, error))?;
            writer
                .flush()
                .map_err(|error| failure(&sheet.path, error))?;
        }
        Ok(())
    }

    fn write(&mut self, decoded: &Decoded<'_>) -> Result<(), CommandError> {
        if decoded.kind == DecodedKind::Event {
            return Ok(());
        }
        self.open(decoded.device)?;
        let Some(sheet) = self.sheets.get_mut(decoded.device) else {
            return Ok(());
        };
        let Some(writer) = &mut sheet.writer else {
            return Ok(());
        };
        let (cells, without) = (&mut self.cells, &mut self.without_column);
        cells.begin(sheet.columns.len());
        self.long_names += flatten(decoded.object, &RESERVED, |name, leaf| {
            let text = match leaf {
                Leaf::Text(text) | Leaf::Plain(text) => text,
                Leaf::Null => "",
            };
            let column = sheet.columns.get(name);
            *without += u64::from(!column.is_some_and(|column| cells.set(*column, text)));
        });
        let conn = match decoded.conn {
            0 => String::new(),
            conn => conn.to_string(),
        };
        let mut own = vec![time(decoded.time), conn, decoded.seq.to_string()];
        if self.has_received {
            own.push(time(decoded.received));
        }
        let row = own.iter().map(String::as_str).chain(self.cells.iter());
        let written = writer.write_record(row);
        written.map_err(|error| csv_failure(&sheet.path, error))
    }

    fn finish(&mut self) -> Result<ExportedTo, CommandError> {
        self.close_all()?;
        Ok(ExportedTo {
            to: self.out.display().to_string(),
            without_column: self.without_column,
            long_names: self.long_names,
        })
    }
}

/// The name of a device's file. A name that is too long is cut, and gets the number of the device.
fn file_name(device: &str, number: usize) -> String {
    let name = topic::name(device);
    match name.get(..NAME_LEN) {
        // No other name contains three hyphens.
        Some(start) if NAME_LEN < name.len() => format!("{start}---{number}.csv"),
        _ => format!("device_{name}.csv"),
    }
}

fn time(nanoseconds: u64) -> String {
    let time = Timestamp::from_nanosecond(nanoseconds.into()).unwrap_or(Timestamp::UNIX_EPOCH);
    format!("{time:.9}")
}

/// Writes CSV as in RFC 4180.
fn writer(file: File) -> Writer<File> {
    let mut options = WriterBuilder::new();
    options.terminator(Terminator::CRLF).from_writer(file)
}

fn failure(path: &Path, error: io::Error) -> CommandError {
    CommandError::Write {
        path: path.into(),
        error,
    }
}

fn csv_failure(path: &Path, error: ::csv::Error) -> CommandError {
    let error = match error.into_kind() {
        ::csv::ErrorKind::Io(error) => error,
        kind => io::Error::other(format!("{kind:?}")),
    };
    failure(path, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_safe_and_different_names() {
        assert_eq!(file_name("10.0.0.7", 0), "device_10_0_0_7.csv");
        assert_eq!(file_name("../x", 0), "device_--2e--2e--2fx.csv");
        let long = ["/", "."].map(|device| file_name(&device.repeat(500), 4));
        assert!(
            long.iter()
                .all(|name| name.len() <= 255 && name.ends_with("---4.csv")),
            "{long:?}"
        );
        assert_ne!(
            file_name(&"/".repeat(500), 4),
            file_name(&"/".repeat(501), 5)
        );
    }
}
