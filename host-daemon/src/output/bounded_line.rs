//! A line of output with a bound on its length. [`write_meaning`] decodes a message into it.

use std::fmt::{self, Write};

use crate::escape::readable_text;
use crate::payload::{DecodeError, Decoder, JsonString, Meaning, Undecodable};

/// Bytes of text escaped between two checks of the bound.
const PIECE_LEN: usize = 256;

/// The end of a line, with a bound on its length.
#[derive(Debug)]
pub(crate) struct BoundedLine<'a> {
    line: &'a mut Vec<u8>,
    /// Maximum length of the line.
    end: usize,
}

/// Decodes a message and appends it with `write`. On failure the line is unchanged.
pub(crate) fn write_meaning(
    decoder: &Decoder,
    bytes: &[u8],
    line: &mut Vec<u8>,
    write: impl FnOnce(&Meaning<'_>, &mut BoundedLine<'_>) -> Result<(), DecodeError>,
) -> Result<(), Undecodable> {
    let start = line.len();
    let written = decoder.write(bytes, |meaning| {
        let end = start.saturating_add(meaning.text_max(bytes.len()));
        write(meaning, &mut BoundedLine { line, end })
    });
    if written.is_err() {
        line.truncate(start);
    }
    written
}

impl BoundedLine<'_> {
    /// A writer that escapes text as the inside of a JSON string.
    pub(crate) const fn json_string(&mut self) -> JsonString<'_, Self> {
        JsonString(self)
    }

    fn append(&mut self, more: &[u8]) -> fmt::Result {
        let left = self.end.saturating_sub(self.line.len());
        if left < more.len() {
            return Err(fmt::Error);
        }
        // Grows once, to the bound: growing in steps may hold two large buffers at a time.
        if self.line.capacity() - self.line.len() < more.len()
            && self.line.try_reserve_exact(left).is_err()
            && self.line.try_reserve(more.len()).is_err()
        {
            return Err(fmt::Error);
        }
        self.line.extend_from_slice(more);
        Ok(())
    }
}

impl Write for BoundedLine<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.append(text.as_bytes())
    }
}

/// Escapes text for people, without a newline at its end.
pub(super) struct Readable<'r, 'a> {
    bounded: &'r mut BoundedLine<'a>,
    newline: bool,
}

impl<'r, 'a> Readable<'r, 'a> {
    pub(super) const fn new(bounded: &'r mut BoundedLine<'a>) -> Self {
        Self {
            bounded,
            newline: false,
        }
    }
}

impl Write for Readable<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if text.is_empty() {
            return Ok(());
        }
        if std::mem::take(&mut self.newline) {
            self.bounded.write_str("\\n")?;
        }
        let mut rest = match text.strip_suffix('\n') {
            Some(text) => {
                self.newline = true;
                text
            }
            None => text,
        };
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(rest.floor_char_boundary(PIECE_LEN));
            readable_text(piece, self.bounded.line);
            if self.bounded.end < self.bounded.line.len() {
                return Err(fmt::Error);
            }
            rest = after;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::Decoding;

    #[test]
    fn a_line_accepts_text_up_to_its_bound() {
        let mut line = b"head ".to_vec();
        let mut bounded = BoundedLine {
            line: &mut line,
            end: 9,
        };
        assert!(bounded.write_str("abc").is_ok());
        assert!(bounded.write_str("de").is_err());
        assert!(bounded.json_string().write_str("\n").is_err());
        assert!(bounded.write_str("d").is_ok());
        assert!(Readable::new(&mut bounded).write_str("").is_ok());
        assert!(Readable::new(&mut bounded).write_str("e").is_err());
        assert!(line.starts_with(b"head abcd"));
    }

    #[test]
    fn a_line_is_unchanged_if_a_message_cannot_be_written() {
        let decoder = Decoder::new(Decoding::Cbor);
        let mut line = b"head ".to_vec();
        let failed = write_meaning(&decoder, b"\x01", &mut line, |_, bounded| {
            bounded.write_str("half")?;
            panic!("as a library might")
        });
        assert_eq!(
            failed.map_err(|it| it.reason),
            Err("its decoder failed".to_owned())
        );
        assert_eq!(line, b"head ");
    }

    #[test]
    fn text_in_parts_is_escaped_as_in_one() {
        let long = "ä\u{1b}\u{85} ".repeat(100);
        for (parts, want) in [
            (&["a\n", "b\n"][..], "a\\nb"),
            (&["a\n", "\n", "", "\n"], "a\\n\\n"),
            (&["\n"], ""),
            (&["a", "\u{1b}"], "a\\u{1b}"),
            (&[&long], &"ä\\u{1b}\\u{85} ".repeat(100)),
        ] {
            let mut line = Vec::new();
            let mut bounded = BoundedLine {
                line: &mut line,
                end: 10_000,
            };
            let mut readable = Readable::new(&mut bounded);
            for part in parts {
                readable.write_str(part).expect("fits");
            }
            assert_eq!(line, want.as_bytes());
        }
    }
}
