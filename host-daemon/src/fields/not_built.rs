//! In a build without the feature `parquet`: [`UnbuiltParquet`] refuses to write it.

use std::io::{self, ErrorKind, Write};

use crate::error::CommandError;
use crate::fields::rows::{FieldRow, RowSink};
use crate::fields::table::Columns;

/// Is never made in this build.
pub(crate) struct UnbuiltParquet {
    columns: Columns,
}

impl UnbuiltParquet {
    /// Refuses.
    ///
    /// # Errors
    /// [`CommandError::NotBuilt`].
    pub(crate) const fn check() -> Result<(), CommandError> {
        Err(CommandError::NotBuilt {
            format: "Parquet",
            feature: "parquet",
        })
    }

    /// Refuses.
    ///
    /// # Errors
    /// Always.
    pub(crate) fn new(_: Box<dyn Write + Send>, _: Columns, _: bool) -> io::Result<Self> {
        Err(ErrorKind::Unsupported.into())
    }

    /// Refuses.
    ///
    /// # Errors
    /// Always.
    pub(crate) fn push(&mut self, _: &FieldRow<'_>) -> io::Result<()> {
        Err(ErrorKind::Unsupported.into())
    }

    /// Refuses.
    ///
    /// # Errors
    /// Always.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        Err(ErrorKind::Unsupported.into())
    }

    /// The columns.
    pub(crate) const fn columns(&self) -> &Columns {
        &self.columns
    }

    /// No value.
    pub(crate) const fn unfit(&self) -> u64 {
        0
    }
}

impl RowSink for UnbuiltParquet {
    const IS_SHOWN: bool = true;

    fn row(&mut self, row: &FieldRow<'_>) -> Result<(), CommandError> {
        self.push(row).map_err(CommandError::stdout)
    }

    fn flush(&mut self) -> Result<(), CommandError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    #[test]
    fn a_build_without_parquet_says_which_one_has_it() {
        let error = UnbuiltParquet::check().expect_err("it is not built");
        assert_eq!(error.code(), Code::Wrong);
        assert_eq!(
            error.to_string(),
            "this build of blocksd cannot write Parquet; the builds of a release can, and those of `cargo install --locked --path host-daemon --features parquet`"
        );
    }
}
