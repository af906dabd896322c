//! The answers of the HTTP API, as the daemon writes them and as its clients read them: [`devices`], [`device`], [`tail`],
//! [`plot`] and [`daemon`].
//!
//! A reader ignores members that it does not know, so a client may be older or newer than its daemon.

pub mod daemon;
pub mod device;
pub mod devices;
pub mod level;
pub mod plot;
pub mod tail;

use std::io;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::escape::json::write_json;

/// Writes an answer as JSON, with a line break at its end.
#[must_use]
pub fn to_json(answer: &impl Serialize) -> String {
    let mut json = Vec::new();
    // A write to memory does not fail, and JSON is UTF-8.
    let _ = write_json(&mut json, answer);
    json.push(b'\n');
    String::from_utf8(json).unwrap_or_default()
}

/// Reads an answer from JSON.
///
/// # Errors
/// If it is not such an answer.
pub fn from_json<T: DeserializeOwned>(json: &[u8]) -> io::Result<T> {
    serde_json::from_slice(json).map_err(Into::into)
}
