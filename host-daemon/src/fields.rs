//! Decoded messages as a table with a column for each field, in CSV or Parquet. Start with [`Rows`], which decodes
//! messages and passes each to a [`RowSink`].

mod columns;
mod csv;
mod decimal;
mod filter;
#[cfg(not(feature = "parquet"))]
mod not_built;
mod object;
#[cfg(feature = "parquet")]
mod parquet;
mod quiet;
mod report;
mod rows;
mod table;
mod texts;
mod time;

pub(crate) use self::columns::{Leaf, RESERVED, column_name, flatten};
pub(crate) use self::csv::CsvRows;
pub(crate) use self::filter::RowFilter;
#[cfg(not(feature = "parquet"))]
pub(crate) use self::not_built::UnbuiltParquet as ParquetRows;
pub(crate) use self::object::{DecodedKind, Dialect, put as put_object};
#[cfg(feature = "parquet")]
pub(crate) use self::parquet::ParquetRows;
pub(crate) use self::quiet::Quiet;
pub(crate) use self::report::{report, report_long_names, report_messages, report_untimed};
pub(crate) use self::rows::{FieldRow, RowSink, Rows};
pub(crate) use self::table::{Columns, Survey, is_column};
pub(crate) use self::texts::RowTexts;
pub(crate) use self::time::of_field as time_of_field;
