//! In a build without the feature `nats`: [`UnbuiltStream::of`] refuses addresses.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::path::PathBuf;

use crate::cli::Last;
use crate::commands::stream_address::{LastBegin, StreamBegin, stream_of};
use crate::error::{CommandError, ReadStreamError};
use blocksd_recording::{Visitor, Wanted};

/// No stream.
#[derive(Debug)]
pub(super) struct UnbuiltStream(Infallible);

impl UnbuiltStream {
    /// Refuses addresses.
    ///
    /// # Errors
    /// [`ReadStreamError`].
    pub(super) fn of(paths: &[PathBuf]) -> Result<Option<Self>, CommandError> {
        match stream_of(paths)? {
            Some(_) => Err(ReadStreamError::NotBuilt.into()),
            None => Ok(None),
        }
    }

    pub(super) fn name(&self) -> String {
        match self.0 {}
    }

    pub(super) fn last(&self, _: &Wanted, _: Last) -> Result<LastBegin, CommandError> {
        match self.0 {}
    }

    pub(super) fn devices(&self) -> Result<BTreeSet<String>, CommandError> {
        match self.0 {}
    }

    pub(super) fn bounds(&self) -> Result<Option<(u64, u64)>, CommandError> {
        match self.0 {}
    }

    pub(super) fn visit(
        &self,
        _: &Wanted,
        _: StreamBegin,
        _: bool,
        _: &mut dyn Visitor<Error = CommandError>,
    ) -> Result<u64, CommandError> {
        match self.0 {}
    }

    pub(super) fn report_empty(&self, _: &BTreeSet<String>) {
        match self.0 {}
    }
}
