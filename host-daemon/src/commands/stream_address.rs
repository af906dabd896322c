//! Addresses of streams among the arguments of a command: [`stream_of`], and where a stream is read.

use std::path::PathBuf;

use crate::config::ForwardConfig;
use crate::error::ReadStreamError;

/// Where a visit of a stream begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct StreamBegin {
    /// A sequence number, if one is known.
    #[cfg_attr(
        not(feature = "nats"),
        expect(dead_code, reason = "for the builds that read streams")
    )]
    pub(super) sequence: Option<u64>,
}

/// Where the last messages of a stream begin.
#[derive(Clone, Copy, Debug)]
pub(super) struct LastBegin {
    /// The time from which on to read.
    pub(super) from: u64,
    /// The place in the stream.
    pub(super) begin: StreamBegin,
    /// How many of the selected messages precede the last ones.
    pub(super) skip: u64,
}

/// The stream that the arguments of a command name, if they name one.
///
/// # Errors
/// [`ReadStreamError`], if it cannot be used, or something else is named, too.
pub(super) fn stream_of(paths: &[PathBuf]) -> Result<Option<ForwardConfig>, ReadStreamError> {
    let mut texts = paths.iter().filter_map(|path| path.to_str());
    let Some(address) = texts.find(|text| ForwardConfig::is_address(text)) else {
        return Ok(None);
    };
    if paths.len() != 1 {
        return Err(ReadStreamError::NotAlone);
    }
    let parsed = ForwardConfig::parse_reading(address);
    parsed.map(Some).map_err(ReadStreamError::Address)
}

/// Refuses the address of a stream for a command that takes recordings only.
///
/// # Errors
/// [`ReadStreamError::OnlyRecordings`].
pub(super) fn only_recordings(
    command: &'static str,
    paths: &[PathBuf],
) -> Result<(), ReadStreamError> {
    let mut texts = paths.iter().filter_map(|path| path.to_str());
    match texts.any(ForwardConfig::is_address) {
        true => Err(ReadStreamError::OnlyRecordings { command }),
        false => Ok(()),
    }
}
