//! Reads payloads in the tests of the decoders.

use crate::payload::{Decoder, Decoding, Meaning, Style, Undecodable};

/// The text of a payload that is a value.
pub(super) fn read_as(
    decoding: Decoding,
    bytes: &[u8],
    style: Style,
) -> Result<String, Undecodable> {
    let Meaning::Value(value) = Decoder::new(decoding.clone()).read(bytes)? else {
        panic!("not a value");
    };
    let mut text = String::new();
    let written = value.write(style, &mut text);
    written.map_err(|error| decoding.undecodable(error))?;
    Ok(text)
}

/// The text of a payload as JSON, which it must be.
#[track_caller]
pub(super) fn json_of(decoding: Decoding, bytes: &[u8]) -> String {
    let text = read_as(decoding, bytes, Style::Json).expect("decodable");
    assert!(
        serde_json::from_str::<serde_json::Value>(&text).is_ok(),
        "{text}"
    );
    text
}

/// Why a payload cannot be decoded.
#[track_caller]
pub(super) fn refusal_of(decoding: Decoding, bytes: &[u8]) -> String {
    let error = read_as(decoding, bytes, Style::Json).expect_err("undecodable");
    error.reason
}
