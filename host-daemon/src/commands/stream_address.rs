//! Addresses of streams among the arguments of a command: [`stream_of`].

use std::path::PathBuf;

use crate::config::ForwardConfig;
use crate::error::ReadStreamError;

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
