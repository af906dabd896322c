//! Decoded messages as a table with a column for each field, in CSV or Parquet. Start with [`Rows`], which decodes
//! messages and passes each to a [`RowSink`].

mod columns;
mod csv;
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
mod time;

pub(super) use self::columns::{Leaf, RESERVED, flatten};
pub(super) use self::csv::CsvRows;
pub(super) use self::filter::RowFilter;
#[cfg(not(feature = "parquet"))]
pub(super) use self::not_built::UnbuiltParquet as ParquetRows;
pub(super) use self::object::{DecodedKind, Dialect, put as put_object};
#[cfg(feature = "parquet")]
pub(super) use self::parquet::ParquetRows;
pub(super) use self::quiet::Quiet;
pub(super) use self::report::{report, report_messages, report_untimed};
pub(super) use self::rows::{FieldRow, RowCounts, RowSink, Rows};
pub(super) use self::table::{Columns, Survey};
pub(super) use self::time::of_field as time_of_field;
