//! Rows as a Parquet file: [`ParquetRows`].
//!
//! Rows are collected by column, and written as a row group when they reach a number or a size. So memory has a bound,
//! except for the footer of the file, which describes each column of each row group.

use std::io::{self, Write};
use std::sync::Arc;

use ::parquet::basic::{
    Compression, LogicalType, Repetition, TimeUnit, Type as PhysicalType, ZstdLevel,
};
use ::parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, DoubleType, Int64Type};
use ::parquet::errors::ParquetError;
use ::parquet::file::properties::{EnabledStatistics, WriterProperties};
use ::parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use ::parquet::schema::types::Type;

use crate::error::CommandError;
use crate::fields::columns::Leaf;
use crate::fields::rows::{FieldRow, RowSink};
use crate::fields::table::{ColumnKind, Columns};

/// Maximum number of rows of a row group.
const ROWS_MAX: usize = 1 << 20;
/// Size of the values of a row group at which it is written, in bytes.
const GROUP_LEN: usize = 32 << 20;
/// Memory of a value, in addition to its text: its definition level, and its number or the end of its text.
const VALUE_LEN: usize = 10;

/// Writes rows to a Parquet file.
pub(crate) struct ParquetRows {
    writer: SerializedFileWriter<Output>,
    /// The columns of every table, then those of the fields.
    cells: Vec<Cells>,
    columns: Columns,
    has_session: bool,
    has_received: bool,
    /// Number of rows that were not written yet.
    rows: usize,
    /// Size of their values.
    len: usize,
    /// Values that do not have the type of their column, because the recording changed between the passes, and times and
    /// numbers of its messages beyond 2^63, of which the column has the largest.
    unfit: u64,
}

/// Where a file is written.
type Output = Box<dyn Write + Send>;

/// A failure of the file, or of the library that encodes it.
#[derive(Debug)]
struct ParquetFailure(ParquetError);

/// The values of a column that were not written yet.
struct Cells {
    values: Values,
    /// For each row up to the last value: 1 if it has a value, else 0.
    levels: Vec<i16>,
}

enum Values {
    Integers(Vec<i64>),
    Doubles(Vec<f64>),
    Booleans(Vec<bool>),
    /// The texts one after the other, and the end of each.
    Texts(Vec<u8>, Vec<usize>),
}

impl ParquetRows {
    /// Checks that this build can write Parquet.
    ///
    /// # Errors
    /// [`CommandError::NotBuilt`].
    #[expect(clippy::unnecessary_wraps, reason = "other builds refuse")]
    pub(crate) const fn check() -> Result<(), CommandError> {
        Ok(())
    }

    /// Begins a file with these columns.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn new(to: Output, columns: Columns, has_received: bool) -> io::Result<Self> {
        Ok(Self::begin(to, columns, has_received)?)
    }

    fn begin(to: Output, columns: Columns, has_received: bool) -> Result<Self, ParquetFailure> {
        let has_session = columns.has_session;
        let text = Some(LogicalType::String);
        let time = Some(LogicalType::timestamp(true, TimeUnit::NANOS));
        let mut schema = vec![
            field(
                "time",
                PhysicalType::INT64,
                time.clone(),
                Repetition::REQUIRED,
            )?,
            field(
                "device",
                PhysicalType::BYTE_ARRAY,
                text.clone(),
                Repetition::REQUIRED,
            )?,
            field("conn", PhysicalType::INT64, None, Repetition::OPTIONAL)?,
            field("seq", PhysicalType::INT64, None, Repetition::REQUIRED)?,
        ];
        let mut cells = vec![
            Cells::new(ColumnKind::Integer),
            Cells::new(ColumnKind::Text),
            Cells::new(ColumnKind::Integer),
            Cells::new(ColumnKind::Integer),
        ];
        if has_session {
            schema.push(field(
                "session",
                PhysicalType::BYTE_ARRAY,
                text,
                Repetition::OPTIONAL,
            )?);
            cells.push(Cells::new(ColumnKind::Text));
        }
        if has_received {
            schema.push(field(
                "received",
                PhysicalType::INT64,
                time,
                Repetition::REQUIRED,
            )?);
            cells.push(Cells::new(ColumnKind::Integer));
        }
        for (name, kind) in columns.headers().zip(columns.kinds()) {
            let (physical, logical) = match kind {
                ColumnKind::Integer => (PhysicalType::INT64, None),
                ColumnKind::Unsigned => {
                    (PhysicalType::INT64, Some(LogicalType::integer(64, false)))
                }
                ColumnKind::Double => (PhysicalType::DOUBLE, None),
                ColumnKind::Boolean => (PhysicalType::BOOLEAN, None),
                ColumnKind::Text => (PhysicalType::BYTE_ARRAY, Some(LogicalType::String)),
            };
            schema.push(field(&name, physical, logical, Repetition::OPTIONAL)?);
            cells.push(Cells::new(kind));
        }
        let schema = Type::group_type_builder("blocksd")
            .with_fields(schema)
            .build()?;
        let properties = WriterProperties::builder()
            .set_created_by(concat!("blocksd version ", env!("CARGO_PKG_VERSION")).to_owned())
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_offset_index_disabled(true)
            .build();
        let writer = SerializedFileWriter::new(to, Arc::new(schema), Arc::new(properties))?;
        Ok(Self {
            writer,
            cells,
            columns,
            has_session,
            has_received,
            rows: 0,
            len: 0,
            unfit: 0,
        })
    }

    /// Appends a row.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(crate) fn push(&mut self, row: &FieldRow<'_>) -> io::Result<()> {
        let at = self.rows;
        let mut wide = 0;
        let mut signed = |value: u64| {
            i64::try_from(value).unwrap_or_else(|_| {
                wide += 1;
                i64::MAX
            })
        };
        let mut own = self.cells.iter_mut();
        let mut next = |put: &mut dyn FnMut(&mut Cells)| own.next().map(put);
        next(&mut |cells| cells.integer(at, signed(row.time)));
        next(&mut |cells| cells.text(at, row.device));
        next(&mut |cells| {
            if row.conn != 0 {
                cells.integer(at, signed(row.conn));
            }
        });
        next(&mut |cells| cells.integer(at, signed(row.seq)));
        if self.has_session {
            next(&mut |cells| {
                if let Some(session) = row.session {
                    cells.text(at, &format!("{session:016x}"));
                }
            });
        }
        if self.has_received {
            next(&mut |cells| cells.integer(at, signed(row.received)));
        }
        let fields = own.into_slice();
        let (columns, len, unfit) = (&mut self.columns, &mut self.len, &mut self.unfit);
        *unfit += wide;
        *len += 5 * VALUE_LEN + row.device.len();
        columns.values(row.object, |place, leaf| {
            let Some(cells) = fields.get_mut(place) else {
                return;
            };
            if let Leaf::Text(text) | Leaf::Plain(text) = leaf {
                *len += VALUE_LEN + text.len();
                *unfit += u64::from(!cells.put(at, text));
            }
        });
        self.rows += 1;
        match ROWS_MAX <= self.rows || GROUP_LEN <= self.len + self.rows * 2 * self.cells.len() {
            true => Ok(self.write_group()?),
            false => Ok(()),
        }
    }

    /// Writes the rest and the footer.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        self.write_group()?;
        self.writer.finish().map_err(ParquetFailure)?;
        self.writer.flush()
    }

    /// The columns, with what was found in the rows.
    pub(crate) const fn columns(&self) -> &Columns {
        &self.columns
    }

    /// Number of values that do not have the type of their column.
    pub(crate) const fn unfit(&self) -> u64 {
        self.unfit
    }

    fn write_group(&mut self) -> Result<(), ParquetFailure> {
        if self.rows == 0 {
            return Ok(());
        }
        let mut group = self.writer.next_row_group()?;
        for cells in &mut self.cells {
            cells.levels.resize(self.rows, 0);
            cells.write(&mut group)?;
        }
        group.close()?;
        (self.rows, self.len) = (0, 0);
        Ok(())
    }
}

impl RowSink for ParquetRows {
    const IS_SHOWN: bool = true;

    fn row(&mut self, row: &FieldRow<'_>) -> Result<(), CommandError> {
        self.push(row).map_err(CommandError::stdout)
    }

    fn flush(&mut self) -> Result<(), CommandError> {
        Ok(())
    }
}

impl Cells {
    const fn new(kind: ColumnKind) -> Self {
        let values = match kind {
            ColumnKind::Integer | ColumnKind::Unsigned => Values::Integers(Vec::new()),
            ColumnKind::Double => Values::Doubles(Vec::new()),
            ColumnKind::Boolean => Values::Booleans(Vec::new()),
            ColumnKind::Text => Values::Texts(Vec::new(), Vec::new()),
        };
        Self {
            values,
            levels: Vec::new(),
        }
    }

    /// Puts a value into row number `at`. Returns whether the column can hold it.
    fn put(&mut self, at: usize, text: &str) -> bool {
        let fits = match &mut self.values {
            Values::Integers(values) => match (text.parse::<i64>(), text.parse::<u64>()) {
                (Ok(value), _) => {
                    values.push(value);
                    true
                }
                // The column is unsigned.
                (_, Ok(value)) => {
                    values.push(value.cast_signed());
                    true
                }
                _ => false,
            },
            Values::Doubles(values) => text.parse().is_ok_and(|value| {
                values.push(value);
                true
            }),
            Values::Booleans(values) => text.parse().is_ok_and(|value| {
                values.push(value);
                true
            }),
            Values::Texts(bytes, ends) => {
                bytes.extend_from_slice(text.as_bytes());
                ends.push(bytes.len());
                true
            }
        };
        if fits {
            self.note(at);
        }
        fits
    }

    fn integer(&mut self, at: usize, value: i64) {
        if let Values::Integers(values) = &mut self.values {
            values.push(value);
            self.note(at);
        }
    }

    fn text(&mut self, at: usize, text: &str) {
        self.put(at, text);
    }

    /// Notes that row number `at` has a value.
    fn note(&mut self, at: usize) {
        self.levels.resize(at, 0);
        self.levels.push(1);
    }

    /// Writes the values of a row group, and forgets them.
    fn write(
        &mut self,
        group: &mut SerializedRowGroupWriter<'_, Output>,
    ) -> Result<(), ParquetFailure> {
        match &mut self.values {
            Values::Integers(values) => {
                write::<Int64Type>(group, values, &self.levels)?;
                values.clear();
            }
            Values::Doubles(values) => {
                write::<DoubleType>(group, values, &self.levels)?;
                values.clear();
            }
            Values::Booleans(values) => {
                write::<BoolType>(group, values, &self.levels)?;
                values.clear();
            }
            Values::Texts(bytes, ends) => {
                let all = ByteArray::from(std::mem::take(bytes));
                let mut start = 0;
                let texts = ends.drain(..).map(|end| {
                    let text = all.slice(start, end - start);
                    start = end;
                    text
                });
                let texts: Vec<_> = texts.collect();
                write::<ByteArrayType>(group, &texts, &self.levels)?;
            }
        }
        self.levels.clear();
        Ok(())
    }
}

fn write<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, Output>,
    values: &[T::T],
    levels: &[i16],
) -> Result<(), ParquetFailure> {
    let Some(mut column) = group.next_column()? else {
        return Ok(());
    };
    let writer = column.typed::<T>();
    // A column whose rows all have a value has no levels.
    let levels = (0 < writer.get_descriptor().max_def_level()).then_some(levels);
    writer.write_batch(values, levels, None)?;
    Ok(column.close()?)
}

fn field(
    name: &str,
    physical: PhysicalType,
    logical: Option<LogicalType>,
    repetition: Repetition,
) -> Result<Arc<Type>, ParquetFailure> {
    let builder = Type::primitive_type_builder(name, physical)
        .with_logical_type(logical)
        .with_repetition(repetition);
    Ok(Arc::new(builder.build()?))
}

impl From<ParquetError> for ParquetFailure {
    fn from(error: ParquetError) -> Self {
        Self(error)
    }
}

impl From<ParquetFailure> for io::Error {
    fn from(ParquetFailure(error): ParquetFailure) -> Self {
        match error {
            ParquetError::External(error) => match error.downcast::<Self>() {
                Ok(error) => *error,
                Err(error) => Self::other(error),
            },
            error => Self::other(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::FieldNames;

    #[test]
    fn a_time_that_a_file_cannot_hold_is_the_last_one_and_counted() {
        let mut columns = Columns::new(&FieldNames::All);
        columns.close();
        let mut rows = ParquetRows::new(Box::new(Vec::new()), columns, true).expect("a file");
        let most = i64::MAX.unsigned_abs();
        for (time, unfit) in [(most, 0), (most + 1, 1), (u64::MAX, 2)] {
            let row = FieldRow {
                time,
                received: 1,
                device: "imu",
                conn: 1,
                seq: 0,
                session: None,
                len: 2,
                object: b"{}",
            };
            rows.push(&row).expect("written");
            assert_eq!(rows.unfit(), unfit);
        }
        let Values::Integers(times) = &rows.cells[0].values else {
            panic!("times are integers");
        };
        assert_eq!(times, &[i64::MAX; 3]);
    }
}
