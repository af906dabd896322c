//! JSON whose special characters are escaped: its value stays the same. [`inside_of_string`] escapes a text,
//! [`write_json`] writes a value.

use std::fmt;
use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

use crate::escape::{TextPart, split};

/// Appends text as the inside of a JSON string.
pub(crate) fn inside_of_string(text: &str, to: &mut (impl fmt::Write + ?Sized)) -> fmt::Result {
    split(text, true, |part| match part {
        TextPart::Plain(text) => to.write_str(text),
        TextPart::Special('"') => to.write_str("\\\""),
        TextPart::Special('\\') => to.write_str("\\\\"),
        TextPart::Special('\n') => to.write_str("\\n"),
        TextPart::Special('\r') => to.write_str("\\r"),
        TextPart::Special('\t') => to.write_str("\\t"),
        TextPart::Special('\u{8}') => to.write_str("\\b"),
        TextPart::Special('\u{c}') => to.write_str("\\f"),
        TextPart::Special(character) => {
            for unit in character.encode_utf16(&mut [0; 2]) {
                write!(to, "\\u{unit:04x}")?;
            }
            Ok(())
        }
    })
}

/// Appends text as a JSON string.
pub(crate) fn write_string(text: &str, line: &mut Vec<u8>) {
    line.push(b'"');
    // Writing to memory does not fail.
    let _ = inside_of_string(text, &mut Line(line));
    line.push(b'"');
}

/// Writes a value as compact JSON.
///
/// # Errors
/// If `to` cannot be written.
pub(crate) fn write_json(to: impl Write, value: &(impl Serialize + ?Sized)) -> io::Result<()> {
    value.serialize(&mut Serializer::with_formatter(to, Escaping))?;
    Ok(())
}

/// Writes compact JSON. The serializer has escaped what JSON requires; this escapes the other special characters.
struct Escaping;

impl Formatter for Escaping {
    fn write_string_fragment<W: Write + ?Sized>(
        &mut self,
        to: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        split(fragment, false, |part| match part {
            TextPart::Plain(text) => to.write_all(text.as_bytes()),
            TextPart::Special(character) => {
                let mut text = String::new();
                // Writing to memory does not fail.
                let _ = inside_of_string(character.encode_utf8(&mut [0; 4]), &mut text);
                to.write_all(text.as_bytes())
            }
        })
    }
}

/// A line of bytes as a writer of text.
struct Line<'a>(&'a mut Vec<u8>);

impl fmt::Write for Line<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::escape::is_special;

    #[test]
    fn a_string_is_escaped_and_keeps_its_value() {
        let codes = (0..0x300).chain(0x600..0x620).chain(0x2000..0x2070);
        let codes = codes.chain(0xfe00..0x1_0010).chain(0x1_d170..0x1_d180);
        for character in codes.filter_map(char::from_u32) {
            for text in [format!("{character}"), format!("a{character}{character}z")] {
                let mut line = Vec::new();
                write_string(&text, &mut line);
                let mut value = Vec::new();
                write_json(&mut value, &text).expect("room");
                assert_eq!(line, value);
                let escaped = String::from_utf8(line).expect("UTF-8");
                assert!(!escaped.contains(is_special), "{escaped:?}");
                let again: String = serde_json::from_str(&escaped).expect("a string");
                assert_eq!(again, text);
                if !is_special(character) {
                    let want = serde_json::to_string(&text).expect("a string");
                    assert_eq!(escaped, want);
                }
            }
        }
    }

    #[test]
    fn keys_and_values_of_an_object_are_escaped() {
        let mut line = Vec::new();
        let value = serde_json::json!({"a\u{9b}": ["\u{202e}", {"\u{e0041}": 1.5}], "b": null});
        write_json(&mut line, &value).expect("room");
        let want = r#"{"a\u009b":["\u202e",{"\udb40\udc41":1.5}],"b":null}"#;
        assert_eq!(String::from_utf8_lossy(&line), want);
    }
}
