//! Decoded messages as a table with a column for each field, in CSV or Parquet. Start with [`Rows`], which decodes
//! messages and passes each to a [`RowSink`].

mod columns;
mod csv;
mod filter;
mod object;
#[cfg_attr(not(feature = "parquet"), path = "fields/not_built.rs")]
mod parquet;
mod quiet;
mod rows;
mod table;
mod time;

pub(super) use self::columns::{Leaf, RESERVED, flatten};
pub(super) use self::csv::CsvRows;
pub(super) use self::filter::Filter;
pub(super) use self::object::{DecodedKind, Dialect, put as put_object};
pub(super) use self::parquet::ParquetRows;
pub(super) use self::quiet::Quiet;
pub(super) use self::rows::{Row, RowCounts, RowSink, Rows};
pub(super) use self::table::{Columns, Survey};
pub(super) use self::time::of_field as time_of_field;
