//! What an export writes: a [`Target`] takes decoded messages twice, first to learn their fields, then to write them.

use std::sync::Arc;

use crate::error::CommandError;
use crate::fields::{DecodedKind, Dialect};

/// A decoded message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decoded<'a> {
    /// What it is.
    pub(super) kind: DecodedKind,
    /// The device that sent it.
    pub(super) device: &'a Arc<str>,
    /// Number of its connection, or 0 if that is not known.
    pub(super) conn: u64,
    /// Its sequence number.
    pub(super) seq: u64,
    /// Number of its session.
    pub(super) session: Option<u64>,
    /// Its time, in nanoseconds since 1970.
    pub(super) time: u64,
    /// When it was received, in nanoseconds since 1970.
    pub(super) received: u64,
    /// The message as one JSON object.
    pub(super) object: &'a [u8],
}

/// A format that messages are exported to.
pub(super) trait Target {
    /// The members of objects for this format.
    fn dialect(&self) -> Dialect;

    /// Learns the fields of a message.
    fn survey(&mut self, decoded: &Decoded<'_>);

    /// Begins to write, after all messages were surveyed.
    ///
    /// # Errors
    /// If a file exists, or cannot be created.
    fn begin(&mut self) -> Result<(), CommandError>;

    /// Writes a message.
    ///
    /// # Errors
    /// If it cannot be written.
    fn write(&mut self, decoded: &Decoded<'_>) -> Result<(), CommandError>;

    /// Completes the files.
    ///
    /// # Errors
    /// If they cannot be written.
    fn finish(&mut self) -> Result<ExportedTo, CommandError>;
}

/// What was written.
#[derive(Clone, Debug)]
pub(super) struct ExportedTo {
    /// Where.
    pub(super) to: String,
    /// Number of values without a column, since there are too many.
    pub(super) without_column: u64,
    /// Number of values without a column, since the name of their field is too long.
    pub(super) long_names: u64,
}
