//! JSON (RFC 8259), copied token by token without building a tree. [`copy`] writes one value.

use json_event_parser::{JsonEvent, JsonSyntaxError, SliceJsonParser};
use serde_json::{Map, Value as Tree};

use crate::escape::printable;
use crate::payload::DecodeError;
use crate::payload::emitter::{DEPTH_MAX, Emitter};

/// Maximum number of members that [`members`] keeps.
const MEMBERS_MAX: usize = 64;

/// Copies a message that is one value. Numbers keep their digits, objects the order of their members. An object with
/// two equal keys is refused, since most programs would keep one of the members.
pub(super) fn copy(bytes: &[u8], to: &mut Emitter<'_>) -> Result<(), DecodeError> {
    // A member takes at least four bytes.
    to.expect_keys(bytes.len() / 4 + 1);
    let mut parser = SliceJsonParser::new(bytes);
    loop {
        match parser.parse_next().map_err(syntax)? {
            JsonEvent::Eof => return Ok(()),
            JsonEvent::StartObject => {
                to.begin_value()?;
                to.open(true)?;
            }
            JsonEvent::StartArray => {
                to.begin_value()?;
                to.open(false)?;
            }
            JsonEvent::EndObject | JsonEvent::EndArray => to.close()?,
            JsonEvent::ObjectKey(key) => to.text_key(&key)?,
            JsonEvent::String(text) => {
                to.begin_value()?;
                to.string(&text)?;
            }
            JsonEvent::Number(digits) => {
                to.begin_value()?;
                to.put(&digits)?;
            }
            JsonEvent::Boolean(value) => {
                to.begin_value()?;
                to.put(if value { "true" } else { "false" })?;
            }
            JsonEvent::Null => {
                to.begin_value()?;
                to.put("null")?;
            }
        }
    }
}

/// The scalar members of an object, at most 64: enough for every event of the daemon. Null if `bytes` is not one
/// object.
#[must_use]
pub fn members(bytes: &[u8]) -> Tree {
    find_members(bytes).map_or(Tree::Null, Tree::Object)
}

fn find_members(bytes: &[u8]) -> Option<Map<String, Tree>> {
    let mut parser = SliceJsonParser::new(bytes);
    if parser.parse_next().ok()? != JsonEvent::StartObject {
        return None;
    }
    let mut members = Map::new();
    let mut depth = 1;
    let mut key = None;
    loop {
        let value = match parser.parse_next().ok()? {
            JsonEvent::Eof => return Some(members),
            JsonEvent::StartObject | JsonEvent::StartArray => {
                depth += 1;
                if DEPTH_MAX < depth {
                    return None;
                }
                continue;
            }
            JsonEvent::EndObject | JsonEvent::EndArray => {
                depth -= 1;
                continue;
            }
            JsonEvent::ObjectKey(name) => {
                key = (depth == 1).then_some(name);
                continue;
            }
            JsonEvent::String(text) => Tree::from(&*text),
            JsonEvent::Number(digits) => serde_json::from_str(&digits).ok()?,
            JsonEvent::Boolean(value) => value.into(),
            JsonEvent::Null => Tree::Null,
        };
        if depth == 1
            && let Some(key) = key.take()
            && members.len() < MEMBERS_MAX
        {
            members.insert(key.into_owned(), value);
        }
    }
}

/// The reason without the characters of the payload that the parser's message quotes, because the log shows none.
fn syntax(error: JsonSyntaxError) -> DecodeError {
    let offset = error.location().start.offset;
    let reason = match error.message() {
        message
            if message.starts_with("Unexpected char") || message.starts_with("Unexpected byte") =>
        {
            "unexpected character"
        }
        message if message.starts_with("Unexpected end of file") => "incomplete value",
        message if message.contains('\'') => "invalid character or escape",
        message => message,
    };
    DecodeError::Invalid(format!("{} at byte {offset}", printable(reason)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::payload::reading::read_as;
    use crate::payload::{Decoding, Style, Undecodable};

    fn read(bytes: &[u8], style: Style) -> Result<String, Undecodable> {
        read_as(Decoding::Json, bytes, style)
    }

    #[track_caller]
    fn compact(json: &str) -> String {
        read(json.as_bytes(), Style::Json).expect("valid JSON")
    }

    #[test]
    fn a_value_is_compact_and_keeps_every_digit_and_every_member() {
        for (json, want) in [
            (
                " {\"temp\": 21.5, \"unit\": \"\\u00b0C\"} ",
                "{\"temp\":21.5,\"unit\":\"°C\"}",
            ),
            ("[1, [], {}, [{}], null]", "[1,[],{},[{}],null]"),
            ("-0.10E+5", "-0.10E+5"),
            (
                "123456789012345678901234567890",
                "123456789012345678901234567890",
            ),
            (
                "\"\\ud83d\\ude00\\/\\b\\u0001\u{7f}\"",
                "\"😀/\\b\\u0001\\u007f\"",
            ),
            (
                "{\"a\":{\"a\":1,\"b\":[{\"a\":1}]},\"b\":{\"a\":1}}",
                "{\"a\":{\"a\":1,\"b\":[{\"a\":1}]},\"b\":{\"a\":1}}",
            ),
            (
                "{\"$serde_json::private::Number\":\"42\"}",
                "{\"$serde_json::private::Number\":\"42\"}",
            ),
            (
                "{\"$serde_json::private::Number\":[]}",
                "{\"$serde_json::private::Number\":[]}",
            ),
        ] {
            assert_eq!(compact(json), want);
        }
    }

    #[test]
    fn an_object_with_two_equal_keys_is_refused() {
        for json in [
            r#"{"a":1,"a":2}"#,
            r#"{"a":1,"b":{},"\u0061":1}"#,
            r#"[{"":{"b":[],"c":0,"b":[]}}]"#,
        ] {
            for style in [Style::Json, Style::Finite, Style::Fields] {
                let error = read(json.as_bytes(), style).expect_err("refused");
                assert_eq!(error.reason, "two keys of an object are the same as text");
            }
        }
    }

    #[test]
    fn an_object_is_shown_as_fields() {
        let json = r#"{"temp":21.5,"ok":true,"name":"a b","odd key":[{"x":1}],"":{},"\u001b":"\u001b[2J"}"#;
        let fields = r#"temp=21.5 ok=true name="a b" "odd key"=[{"x":1}] ={} "\u001b"="\u001b[2J""#;
        assert_eq!(read(json.as_bytes(), Style::Fields).unwrap(), fields);
        assert_eq!(
            read(b"[1, {\"a\": 2}]", Style::Fields).unwrap(),
            "[1,{\"a\":2}]"
        );
        assert_eq!(read(b"{}", Style::Fields).unwrap(), "");
    }

    #[test]
    fn text_that_serde_json_refuses_is_refused_with_a_readable_reason() {
        let cut = json!({"a": [1.5e3, "\u{1}é😀", {"b": null}], "c": true}).to_string();
        let mut wrong: Vec<Vec<u8>> = (0..cut.len())
            .map(|end| cut.as_bytes()[..end].into())
            .collect();
        for json in [
            "",
            " ",
            "{}{}",
            "{} x",
            "[1,]",
            "{\"a\":1,}",
            "[,1]",
            "{1:2}",
            "{\"a\" 1}",
            "[1 2]",
            "01",
            "1.",
            ".5",
            "+1",
            "1e",
            "-",
            "nul",
            "True",
            "NaN",
            "'a'",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\ud800\"",
            "\"\\udc00\"",
            "\"\\ud800\\u0041\"",
            "\"\n\"",
            "\"\u{1b}\"",
            "]",
            "}",
            "[}",
            "{]",
        ] {
            wrong.push(json.into());
        }
        wrong.extend([
            b"\"\xff\"".to_vec(),
            b"\xff".to_vec(),
            b"\"\xed\xa0\x80\"".to_vec(),
        ]);
        for bytes in wrong {
            assert!(serde_json::from_slice::<Tree>(&bytes).is_err(), "{bytes:?}");
            let error = read(&bytes, Style::Json).expect_err("refused");
            let is_words = !error.reason.is_empty() && !error.reason.contains(char::is_control);
            assert!(is_words, "{error:?}");
        }
    }

    #[test]
    fn members_are_found_unless_they_are_nested() {
        let event = br#" {"event":"close","conn":7,"more":{"conn":8,"a":[9]},"all":[1,{"b":2}],"ok":true,"n":null} "#;
        let want = json!({"event": "close", "conn": 7, "ok": true, "n": null});
        assert_eq!(members(event), want);
        for other in ["", "[]", "1", "{\"a\":1", "{\"a\":1}{}", "{\"a\":1,}"] {
            assert_eq!(members(other.as_bytes()), Tree::Null);
        }
        let many: Map<_, _> = (0..1_000).map(|it| (it.to_string(), it.into())).collect();
        let found = members(Tree::Object(many).to_string().as_bytes());
        assert_eq!(found.as_object().map(Map::len), Some(MEMBERS_MAX));
        let deep = [
            "{\"a\":1,\"b\":",
            &"[".repeat(100_000),
            &"]".repeat(100_000),
            "}",
        ]
        .concat();
        // No event is nested this deep.
        assert_eq!(members(deep.as_bytes()), Tree::Null);
    }

    #[test]
    fn nesting_has_a_bound() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert_eq!(compact(&nested(DEPTH_MAX)), nested(DEPTH_MAX));
        for text in [
            nested(DEPTH_MAX + 1),
            "[".repeat(100_000),
            "{\"\":".repeat(100_000),
        ] {
            let error = read(text.as_bytes(), Style::Json).unwrap_err();
            assert_eq!(error.reason, "nested deeper than 126 levels");
        }
    }
}
