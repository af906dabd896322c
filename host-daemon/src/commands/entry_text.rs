//! Messages, faults and events of a running daemon as lines for people, like those of `serve --output text`. Start with
//! [`EntryText`].

use std::io::{self, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize as _;
use serde_json::{Map, Value};

use crate::escape::{printable, readable, readable_text};
use crate::output::{Clock, Format as _, Out, Text, counted};
use crate::payload::{self, Style};
use crate::recorded::from_log::event_of;
use crate::recorded::note::Note;
use crate::recorded::time::Time;

/// Members of an entry that its line begins with, or that are not for people.
const KNOWN: [&str; 5] = ["id", "event", "time", "device", "conn"];

/// Writes entries. All text that comes from devices is escaped.
pub(super) struct EntryText {
    clock: Clock,
    text: Text,
    /// Its buffer is taken after each event, so nothing is written to the sink.
    out: Out,
    colour: bool,
}

impl EntryText {
    /// Shows times by this clock, and log levels in colour if `colour` is set.
    pub(super) fn new(clock: Clock, colour: bool) -> Self {
        Self {
            clock: clock.clone(),
            text: Text::with_clock(clock, colour),
            out: Out::new(Box::new(io::sink()), None),
            colour,
        }
    }

    /// A time of day, to the second.
    #[cfg(feature = "top")]
    pub(super) fn time_of_day(&self, time: Time) -> String {
        self.clock.time_of_day(time.0).to_string()
    }

    /// Appends the line of an entry, with a line break at its end, and a dump of its bytes if it has them.
    pub(super) fn write(&mut self, entry: &Map<String, Value>, line: &mut Vec<u8>) {
        match text_of(entry, "event") {
            "block" | "piece" => {
                self.write_prefix(entry, true, line);
                self.write_payload(entry, line);
                line.push(b'\n');
                if let Some(hex) = entry.get("hex").and_then(Value::as_str) {
                    write_dump(hex, entry, line);
                }
            }
            "lost" => self.write_lost(entry, line),
            _ => self.write_event(entry, line),
        }
    }

    /// The line of an entry, without a line break.
    #[cfg(any(feature = "top", test))]
    pub(super) fn line(&mut self, entry: &Map<String, Value>) -> String {
        let mut line = Vec::new();
        self.write(entry, &mut line);
        let line = String::from_utf8_lossy(&line);
        line.trim_end_matches('\n').to_owned()
    }

    fn write_prefix(&self, entry: &Map<String, Value>, is_message: bool, line: &mut Vec<u8>) {
        let time = entry.get("time").and_then(|it| Time::deserialize(it).ok());
        match time {
            Some(time) => put(line, format_args!("{} ", self.clock.show(time.0))),
            None => line.extend_from_slice(b"- "),
        }
        if let Some(device) = entry.get("device").and_then(Value::as_str) {
            readable_text(device, line);
            line.push(b' ');
        }
        let conn = entry.get("conn").and_then(Value::as_u64);
        let is_truncated = entry.get("truncated") == Some(&Value::Bool(true));
        match (conn, is_message, is_truncated) {
            (Some(conn), true, false) => put(line, format_args!("#{conn}: ")),
            (Some(conn), ..) => put(line, format_args!("#{conn} ")),
            (None, ..) => {}
        }
        if is_truncated {
            line.extend_from_slice(b"truncated: ");
        }
    }

    fn write_payload(&self, entry: &Map<String, Value>, line: &mut Vec<u8>) {
        if let Some(value) = entry.get("value") {
            let json = serde_json::to_vec(value).unwrap_or_default();
            let mut fields = String::new();
            match payload::Value::json(&json).write(Style::Fields, &mut fields) {
                Ok(()) => line.extend_from_slice(fields.as_bytes()),
                // Two equal keys, or a value that is nested too deeply.
                Err(_) => readable(&json, line),
            }
        } else if let Some(message) = entry.get("message").and_then(Value::as_str) {
            self.write_log(entry, message, line);
        } else if let Some(text) = entry.get("text").and_then(Value::as_str) {
            readable(text.as_bytes(), line);
        } else if let Some(text) = entry.get("base64").and_then(Value::as_str) {
            match STANDARD.decode(text) {
                Ok(bytes) => readable(&bytes, line),
                Err(_) => readable_text(text, line),
            }
        } else if let Some(build) = entry.get("build").and_then(Value::as_str) {
            put(line, format_args!("firmware build {}", printable(build)));
        } else if let Some(len) = entry.get("len").and_then(Value::as_u64) {
            put(line, counted(len, "byte"));
        }
        if entry.get("cut") == Some(&Value::Bool(true)) {
            line.extend_from_slice("…".as_bytes());
        }
    }

    fn write_log(&self, entry: &Map<String, Value>, message: &str, line: &mut Vec<u8>) {
        let dimmed = match self.colour {
            true => anstyle::Style::new().dimmed(),
            false => anstyle::Style::new(),
        };
        if let Some(level) = entry.get("level").and_then(Value::as_str) {
            let style = match self.colour {
                true => Text::level_style(level),
                false => anstyle::Style::new(),
            };
            let level = printable(level.to_uppercase());
            put(line, format_args!("{style}{level:<5}{style:#} "));
        }
        if let Some(timestamp) = entry.get("timestamp").and_then(Value::as_str) {
            readable_text(timestamp, line);
            line.push(b' ');
        }
        readable(message.as_bytes(), line);
        if let Some(location) = entry.get("location").and_then(Value::as_str) {
            put(line, format_args!(" {dimmed}("));
            readable_text(location, line);
            put(line, format_args!("){dimmed:#}"));
        }
    }

    fn write_lost(&self, entry: &Map<String, Value>, line: &mut Vec<u8>) {
        self.write_prefix(entry, false, line);
        let number = |name| entry.get(name).and_then(Value::as_u64).unwrap_or_default();
        put(line, counted(number("blocks"), "block"));
        if number("events") != 0 {
            put(
                line,
                format_args!(" and {}", counted(number("events"), "other event")),
            );
        }
        line.extend_from_slice(b" not shown: they arrived too fast\n");
    }

    fn write_event(&mut self, entry: &Map<String, Value>, line: &mut Vec<u8>) {
        let time = entry.get("time").and_then(|it| Time::deserialize(it).ok());
        let note = Note::deserialize(entry).ok();
        let event = note.and_then(|note| event_of(&note, time.unwrap_or_default().0));
        if let Some(event) = event
            && self.text.event(&event, &mut self.out).is_ok()
        {
            line.append(self.out.line());
            return;
        }
        // An event of a later version.
        self.write_prefix(entry, false, line);
        readable_text(text_of(entry, "event"), line);
        for (name, value) in entry.iter().filter(|(name, _)| !KNOWN.contains(&&***name)) {
            put(line, format_args!(" {}=", printable(name)));
            put(line, printable(value));
        }
        line.push(b'\n');
    }
}

/// Appends the bytes as `--output hex` does.
fn write_dump(hex: &str, entry: &Map<String, Value>, line: &mut Vec<u8>) {
    let pairs = hex.as_bytes().as_chunks::<2>().0;
    let bytes: Vec<_> = pairs
        .iter()
        .filter_map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect();
    for (offset, row) in Text::dump_rows(&bytes) {
        Text::write_dump_row(offset, row, line);
        line.push(b'\n');
    }
    if let Some(more) = entry.get("hex_more").and_then(Value::as_u64) {
        put(line, format_args!("  and {} more\n", counted(more, "byte")));
    }
}

fn text_of<'a>(entry: &'a Map<String, Value>, name: &str) -> &'a str {
    entry.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn put(line: &mut Vec<u8>, text: impl std::fmt::Display) {
    // A write to memory does not fail.
    let _ = write!(line, "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The line of an entry, without its time.
    fn line(entry: &str) -> String {
        let Value::Object(entry) = serde_json::from_str(entry).expect(entry) else {
            panic!("{entry}");
        };
        let line = EntryText::new(Clock::new(), false).line(&entry);
        let (_, line) = line.split_once(":00.000 ").expect("a time");
        line.to_owned()
    }

    #[test]
    fn entries_look_like_text_output() {
        let head = r#""id":7,"conn":1,"device":"boiler","time":"2026-11-28T12:00:00.000000000Z""#;
        for (entry, want) in [
            (
                r#""event":"block","seq":7,"len":3,"text":"hi\n""#,
                "boiler #1: hi",
            ),
            (
                r#""event":"block","seq":7,"len":3,"value":{"temp":24.10,"unit":"°C","x y":[1,{"a":null}]}"#,
                r#"boiler #1: temp=24.10 unit="°C" "x y"=[1,{"a":null}]"#,
            ),
            (
                r#""event":"block","seq":7,"len":3,"value":[1,2]"#,
                "boiler #1: [1,2]",
            ),
            (
                r#""event":"block","seq":7,"len":2,"base64":"/wE=""#,
                r"boiler #1: \xff\x01",
            ),
            (
                r#""event":"block","seq":7,"len":9000,"text":"hi","cut":true"#,
                "boiler #1: hi…",
            ),
            (
                r#""event":"block","seq":1,"len":9,"level":"warn","timestamp":"1.5","message":"hot","location":"a.rs:3""#,
                "boiler #1: WARN  1.5 hot (a.rs:3)",
            ),
            (
                r#""event":"piece","seq":1,"len":2,"text":"ab","first":true,"last":true,"truncated":true"#,
                "boiler #1 truncated: ab",
            ),
            (
                r#""event":"fault","fault":"too_long","declared":6000,"limit":4096,"lost":false"#,
                "boiler #1 fault: message of 6000 bytes is over the limit of 4096",
            ),
            (
                r#""event":"close","blocks":1,"bytes":2,"reason":"eof""#,
                "boiler #1 closed (eof): 1 block, 2 bytes",
            ),
            (
                r#""event":"open","peer":"10.0.0.7:1""#,
                "boiler #1 opened by 10.0.0.7:1",
            ),
            (
                r#""event":"later","x":"a","y":1"#,
                r#"boiler #1 later x="a" y=1"#,
            ),
        ] {
            assert_eq!(line(&format!("{{{head},{entry}}}")), want);
        }
        let lost =
            r#"{"event":"lost","time":"2026-11-28T12:00:00.000000000Z","blocks":12,"events":0}"#;
        assert_eq!(line(lost), "12 blocks not shown: they arrived too fast");
    }

    #[test]
    fn nothing_hostile_reaches_the_terminal() {
        let evil = r"\u001b[2J\u0007\n\u202e\u009b";
        let head =
            format!(r#""id":7,"conn":1,"device":"{evil}","time":"2026-11-28T12:00:00.000000000Z""#);
        for entry in [
            format!(r#""event":"block","text":"{evil}""#),
            format!(r#""event":"block","value":{{"{evil}":"{evil}"}}"#),
            r#""event":"block","base64":"G1sySg==""#.to_owned(),
            format!(r#""event":"block","base64":"{evil}""#),
            format!(r#""event":"block","build":"{evil}""#),
            format!(
                r#""event":"block","level":"{evil}","timestamp":"{evil}","message":"{evil}","location":"{evil}""#
            ),
            format!(r#""event":"open","peer":"{evil}""#),
            format!(
                r#""event":"fault","fault":"undecodable","seq":1,"as":"{evil}","reason":"{evil}""#
            ),
            format!(r#""event":"{evil}","{evil}":"{evil}""#),
            format!(r#""event":"close","blocks":1,"bytes":2,"reason":"{evil}""#),
        ] {
            let line = line(&format!("{{{head},{entry}}}"));
            assert!(!line.chars().any(crate::escape::is_special), "{line:?}");
        }
    }
}
