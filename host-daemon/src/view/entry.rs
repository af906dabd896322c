//! A message, a fault or another event in the view: an [`ViewEntry`].

use std::fmt::Write as _;
use std::sync::Arc;

use crate::api::level::LogLevel;
use crate::payload::Decoding;

/// Memory of an entry besides its line and its payload, in bytes.
const ENTRY_COST: usize = 96;

/// The most bytes of the names of its number and of hexadecimal digits.
const AROUND_MAX: usize = 80;

/// Bytes of a payload that are shown in hexadecimal.
const HEX_MAX: usize = 1024;

/// A message, a fault or another event.
#[derive(Clone, Debug)]
pub(super) struct ViewEntry {
    pub(super) device: Arc<str>,
    /// The level, if it is a line of a log.
    pub(super) level: Option<LogLevel>,
    /// The event as a JSON object.
    pub(super) line: Arc<[u8]>,
    /// Where in the line its content begins, after what it has in common with others.
    pub(super) content_at: usize,
    /// The payload as it was received; empty for faults and events.
    pub(super) payload: Arc<[u8]>,
    /// How the payload is decoded.
    pub(super) decoding: Decoding,
}

impl ViewEntry {
    /// Its memory, in bytes.
    pub(super) fn cost(&self) -> usize {
        ENTRY_COST + self.line.len() + self.payload.len()
    }

    /// The most bytes that it has as a JSON object.
    pub(super) fn written_len(&self, with_hex: bool) -> usize {
        let hex = if with_hex {
            HEX_MAX.min(self.payload.len())
        } else {
            0
        };
        self.line.len() + 2 * hex + AROUND_MAX
    }

    /// Appends the entry as a JSON object that begins with its number.
    pub(super) fn write(&self, id: u64, with_hex: bool, to: &mut Vec<u8>) {
        to.extend_from_slice(format!(r#"{{"id":{id},"#).as_bytes());
        to.extend_from_slice(self.line.get(1..).unwrap_or_default());
        if !with_hex || self.payload.is_empty() {
            return;
        }
        to.pop();
        let shown = self.payload.get(..HEX_MAX).unwrap_or(&self.payload);
        let mut hex = String::with_capacity(2 * shown.len() + 32);
        hex.push_str(r#","hex":""#);
        for byte in shown {
            // A write to memory does not fail.
            let _ = write!(hex, "{byte:02x}");
        }
        hex.push('"');
        let more = self.payload.len() - shown.len();
        if more != 0 {
            let _ = write!(hex, r#","hex_more":{more}"#);
        }
        hex.push('}');
        to.extend_from_slice(hex.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(text: &str) -> ViewEntry {
        ViewEntry {
            device: "a".into(),
            level: None,
            line: format!(r#"{{"event":"block","text":"{text}"}}"#)
                .into_bytes()
                .into(),
            content_at: 0,
            payload: text.as_bytes().into(),
            decoding: Decoding::Raw,
        }
    }

    #[test]
    fn an_entry_has_its_number_and_its_bytes() {
        let written = |entry: &ViewEntry, hex| {
            let mut line = Vec::new();
            entry.write(7, hex, &mut line);
            String::from_utf8(line).unwrap()
        };
        let short = entry("hi");
        assert_eq!(
            written(&short, false),
            r#"{"id":7,"event":"block","text":"hi"}"#
        );
        let want = r#"{"id":7,"event":"block","text":"hi","hex":"6869"}"#;
        assert_eq!(written(&short, true), want);
        let long = written(&entry(&"x".repeat(1030)), true);
        assert!(long.ends_with(r#"78","hex_more":6}"#), "{long}");
        for text in ["", "hi", &*"x".repeat(5000)] {
            for hex in [false, true] {
                let entry = entry(text);
                let mut line = Vec::new();
                entry.write(u64::MAX, hex, &mut line);
                assert!(line.len() <= entry.written_len(hex), "{}", text.len());
            }
        }
    }
}
