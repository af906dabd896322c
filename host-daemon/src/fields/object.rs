//! A message as one JSON object: [`put`].

use std::fmt::Write as _;

use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;

use crate::output::{BoundedLine, write_meaning};
use crate::payload::{DecodeError, Decoder, LogFrame, Meaning, Style, Undecodable, is_number};

/// The kind of a decoded message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum DecodedKind {
    /// A message of a device.
    Message,
    /// A line of a device's log.
    Log,
    /// An event of the daemon.
    Event,
}

/// The members of an object that depend on the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// Logs are `foxglove.Log`. Numbers that JSON lacks are left out.
    Foxglove,
    /// The same without the time of logs, which would be plotted as two more series.
    Plotjuggler,
    /// Levels of logs are text. Numbers that JSON lacks are text.
    Csv,
}

/// Levels of `foxglove.Log`: unknown, and those of defmt.
const LEVELS: [(&str, u8); 5] = [
    ("trace", 1),
    ("debug", 1),
    ("info", 2),
    ("warn", 3),
    ("error", 4),
];
const LEVEL_UNKNOWN: u8 = 0;

/// Replaces `to` by the next message of a connection, as one JSON object:
///
/// - an object of JSON or CBOR as it is, any other value as `value`;
/// - a line of a log with `level`, `message`, `name` (the device), `file`, `line` and `device_time`;
/// - a text that is a number as `value`, a text of `key=value` with these keys, any other as `text`;
/// - bytes that are not UTF-8 as `base64`.
///
/// # Errors
/// If it cannot be decoded.
pub(crate) fn put(
    decoder: &Decoder,
    bytes: &[u8],
    device: &str,
    dialect: Dialect,
    to: &mut Vec<u8>,
) -> Result<DecodedKind, Undecodable> {
    to.clear();
    let mut kind = DecodedKind::Message;
    write_meaning(decoder, bytes, to, |meaning, to| match meaning {
        Meaning::Raw(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => put_text(text, to),
            Err(_) => Ok(write!(
                to,
                r#"{{"base64":"{}"}}"#,
                Base64Display::new(bytes, &STANDARD)
            )?),
        },
        Meaning::Value(value) => {
            let style = match dialect {
                Dialect::Csv => Style::Json,
                Dialect::Foxglove | Dialect::Plotjuggler => Style::Finite,
            };
            value.write(style, to)
        }
        Meaning::Log(log) => {
            kind = DecodedKind::Log;
            put_log(log, device, dialect, to)
        }
        Meaning::Build { id, known } => {
            kind = DecodedKind::Log;
            let note = match known {
                Some(true) => "",
                Some(false) => ", of which the ELF file is missing",
                None => "; the ELF file has no build id",
            };
            let message = format!("firmware build {id}{note}");
            put_level(Some("info"), dialect, to)?;
            put_member("message", &message, to)?;
            if dialect != Dialect::Csv {
                put_member("name", device, to)?;
            }
            Ok(to.write_str(r#","file":"","line":0}"#)?)
        }
    })?;
    if to.first() != Some(&b'{') {
        to.splice(..0, *br#"{"value":"#);
        to.push(b'}');
    }
    Ok(kind)
}

fn put_log(
    log: &LogFrame<'_>,
    device: &str,
    dialect: Dialect,
    to: &mut BoundedLine<'_>,
) -> Result<(), DecodeError> {
    put_level(log.level(), dialect, to)?;
    to.write_str(r#","message":""#)?;
    log.write_message(&mut to.json_string())?;
    to.write_str("\"")?;
    if dialect != Dialect::Csv {
        put_member("name", device, to)?;
    }
    let place = log.place();
    let (file, line) = place.map_or_else(Default::default, |(file, line)| {
        (file.display().to_string(), line)
    });
    put_member("file", &file, to)?;
    write!(to, r#","line":{line}"#)?;
    if log.has_time() {
        to.write_str(r#","device_time":""#)?;
        log.write_time(&mut to.json_string())?;
        to.write_str("\"")?;
    }
    Ok(to.write_str("}")?)
}

/// Writes the level as the first member.
fn put_level(
    level: Option<&str>,
    dialect: Dialect,
    to: &mut BoundedLine<'_>,
) -> Result<(), DecodeError> {
    let level = level.unwrap_or_default();
    if dialect == Dialect::Csv {
        return Ok(write!(to, r#"{{"level":"{level}""#)?);
    }
    let is_level = |(name, _): &&(&str, u8)| name.eq_ignore_ascii_case(level);
    let number = LEVELS
        .iter()
        .find(is_level)
        .map_or(LEVEL_UNKNOWN, |(_, number)| *number);
    Ok(write!(to, r#"{{"level":{number}"#)?)
}

/// Writes a further member that is text.
fn put_member(name: &str, value: &str, to: &mut BoundedLine<'_>) -> Result<(), DecodeError> {
    write!(to, r#","{name}":""#)?;
    to.json_string().write_str(value)?;
    Ok(to.write_str("\"")?)
}

fn put_text(text: &str, to: &mut BoundedLine<'_>) -> Result<(), DecodeError> {
    let trimmed = text.trim();
    if is_number(trimmed) {
        return Ok(write!(to, r#"{{"value":{trimmed}}}"#)?);
    }
    if let Some(pairs) = pairs(trimmed) {
        let mut separator = '{';
        for (key, value) in pairs {
            write!(to, "{separator}\"")?;
            separator = ',';
            to.json_string().write_str(key)?;
            to.write_str("\":")?;
            match value {
                PairValue::Bare(word) if is_number(word) || matches!(word, "true" | "false") => {
                    to.write_str(word)?;
                }
                PairValue::Bare(word) | PairValue::Quoted(word) => {
                    to.write_str("\"")?;
                    to.json_string().write_str(word)?;
                    to.write_str("\"")?;
                }
            }
        }
        return Ok(to.write_str("}")?);
    }
    to.write_str(r#"{"text":""#)?;
    to.json_string().write_str(text)?;
    Ok(to.write_str("\"}")?)
}

/// A value of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PairValue<'a> {
    Bare(&'a str),
    Quoted(&'a str),
}

/// The pairs of a text of `key=value`, separated by spaces or commas. A value may be in double quotes, inside of which
/// nothing is escaped.
fn pairs(text: &str) -> Option<Vec<(&str, PairValue<'_>)>> {
    let is_separator = |letter: char| letter == ',' || letter.is_whitespace();
    let (mut pairs, mut rest) = (Vec::new(), text);
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=')?;
        if key.is_empty() || key.contains(|letter| is_separator(letter) || letter == '"') {
            return None;
        }
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => {
                let (value, after) = quoted.split_once('"')?;
                (PairValue::Quoted(value), after)
            }
            None => {
                let end = after.find(is_separator).unwrap_or(after.len());
                let (value, after) = after.split_at(end);
                if value.contains(['"', '=']) {
                    return None;
                }
                (PairValue::Bare(value), after)
            }
        };
        if !after.is_empty() && !after.starts_with(is_separator) {
            return None;
        }
        pairs.push((key, value));
        rest = after.trim_start_matches(is_separator);
    }
    (!pairs.is_empty()).then_some(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::Decoding;

    fn object(decoding: Decoding, bytes: &[u8], dialect: Dialect) -> Result<String, String> {
        let mut to = b"old".to_vec();
        let decoder = Decoder::new(decoding);
        match put(&decoder, bytes, "imu", dialect, &mut to) {
            Ok(_) => Ok(String::from_utf8(to).expect("text")),
            Err(error) => Err(error.to_string()),
        }
    }

    #[track_caller]
    fn check(decoding: Decoding, bytes: impl AsRef<[u8]>, want: &str) {
        assert_eq!(
            object(decoding, bytes.as_ref(), Dialect::Foxglove).as_deref(),
            Ok(want)
        );
        serde_json::from_str::<serde_json::Value>(want).expect("JSON");
    }

    #[test]
    fn values_are_objects() {
        check(Decoding::Json, "{\"a\": 1e2}", r#"{"a":1e2}"#);
        check(Decoding::Json, "[1, 2]", r#"{"value":[1,2]}"#);
        check(Decoding::Json, "23.5", r#"{"value":23.5}"#);
        check(Decoding::Cbor, b"\xa1\x61a\x01", r#"{"a":1}"#);
        check(Decoding::Cbor, b"\x18\x64", r#"{"value":100}"#);
        assert!(object(Decoding::Json, b"{", Dialect::Csv).is_err());
        assert!(object(Decoding::Cbor, b"", Dialect::Csv).is_err());
    }

    #[test]
    fn a_number_that_json_lacks_is_null_or_text() {
        // {"a": NaN, "b": [-Infinity], NaN: 1}
        let cbor = b"\xa3\x61a\xf9\x7e\x00\x61b\x81\xf9\xfc\x00\xf9\x7e\x00\x01";
        check(Decoding::Cbor, cbor, r#"{"a":null,"b":[null],"NaN":1}"#);
        let csv = object(Decoding::Cbor, cbor, Dialect::Csv);
        assert_eq!(csv.as_deref(), Ok(r#"{"a":"NaN","b":["-inf"],"NaN":1}"#));
    }

    #[test]
    fn texts_are_numbers_pairs_or_text() {
        for decoding in [Decoding::Text, Decoding::Raw] {
            for (text, want) in [
                ("23.5", r#"{"value":23.5}"#),
                (" -1e-05\r", r#"{"value":-1e-05}"#),
                ("0x10", r#"{"text":"0x10"}"#),
                ("nan", r#"{"text":"nan"}"#),
                ("1e999", r#"{"text":"1e999"}"#),
                ("1.", r#"{"text":"1."}"#),
                ("", r#"{"text":""}"#),
                (" hi \"you\"\n", r#"{"text":" hi \"you\"\n"}"#),
                ("t=21.5 rh=40,ok=true", r#"{"t":21.5,"rh":40,"ok":true}"#),
                (
                    "a=\"x = y, z\"  b=, c=d",
                    r#"{"a":"x = y, z","b":"","c":"d"}"#,
                ),
                ("a=\"1\"", r#"{"a":"1"}"#),
                ("a=1 and b=2", r#"{"text":"a=1 and b=2"}"#),
                ("a=b=c", r#"{"text":"a=b=c"}"#),
                ("=1", r#"{"text":"=1"}"#),
                ("a=\"b", r#"{"text":"a=\"b"}"#),
                ("a=\"b\"c", r#"{"text":"a=\"b\"c"}"#),
            ] {
                check(decoding.clone(), text, want);
            }
        }
        check(Decoding::Raw, b"\xff\x00", r#"{"base64":"/wA="}"#);
        assert!(object(Decoding::Text, b"\xff", Dialect::Csv).is_err());
    }
}
