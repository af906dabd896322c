//! The fields of a JSON object as columns: [`flatten`].
//!
//! The name of a column is the path of its field, joined by dots, with the index for an element of an array:
//! `accel.x`, `samples.0`. A key that contains a dot, a quote or a control character, an empty one, and one that is
//! reserved is quoted as in JSON, so two fields of an object never share a column.

use std::fmt::Write as _;

use json_event_parser::{JsonEvent, SliceJsonParser};

use crate::escape::is_special;
use crate::escape::json::inside_of_string;

/// Names of columns of an export to CSV or MCAP that fields do not get.
pub(crate) const RESERVED: [&str; 4] = ["_time", "_conn", "_seq", "_received"];

/// The value of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leaf<'a> {
    /// A text.
    Text(&'a str),
    /// A number in its digits, or `true` or `false`.
    Plain(&'a str),
    /// Null.
    Null,
}

/// An array or an object that has not ended.
struct OpenPath {
    /// Length of its path.
    len: usize,
    /// Number of the next element of an array.
    index: u64,
    is_array: bool,
}

/// Calls `each` for each field of a JSON object, with the name of its column. A top-level key in `reserved` is quoted.
/// Empty arrays and objects have no column.
pub(crate) fn flatten(object: &[u8], reserved: &[&str], mut each: impl FnMut(&str, Leaf<'_>)) {
    let mut parser = SliceJsonParser::new(object);
    let (mut path, mut levels) = (String::new(), Vec::<OpenPath>::new());
    while let Ok(event) = parser.parse_next() {
        match &event {
            JsonEvent::Eof => break,
            JsonEvent::ObjectKey(key) => {
                let is_top = levels.len() == 1;
                path.truncate(levels.last().map_or(0, |level| level.len));
                if !is_top {
                    path.push('.');
                }
                let is_reserved = is_top && reserved.contains(&&**key);
                put_key(key, is_reserved, &mut path);
                continue;
            }
            JsonEvent::EndObject | JsonEvent::EndArray => {
                levels.pop();
                continue;
            }
            _ => {}
        }
        if let Some(level) = levels.last_mut().filter(|level| level.is_array) {
            path.truncate(level.len);
            // A write to a string does not fail.
            let _ = write!(path, ".{}", level.index);
            level.index += 1;
        }
        match &event {
            JsonEvent::StartObject | JsonEvent::StartArray => levels.push(OpenPath {
                len: path.len(),
                index: 0,
                is_array: event == JsonEvent::StartArray,
            }),
            JsonEvent::String(text) => each(&path, Leaf::Text(text)),
            JsonEvent::Number(digits) => each(&path, Leaf::Plain(digits)),
            JsonEvent::Boolean(true) => each(&path, Leaf::Plain("true")),
            JsonEvent::Boolean(false) => each(&path, Leaf::Plain("false")),
            _ => each(&path, Leaf::Null),
        }
    }
}

fn put_key(key: &str, is_reserved: bool, path: &mut String) {
    let is_special = |letter: char| letter == '.' || letter == '"' || is_special(letter);
    let is_quoted = is_reserved || key.is_empty() || key.contains(is_special);
    if !is_quoted {
        path.push_str(key);
        return;
    }
    path.push('"');
    // A write to a string does not fail.
    let _ = inside_of_string(key, path);
    path.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(object: &str) -> Vec<(String, String)> {
        let mut fields = Vec::new();
        flatten(object.as_bytes(), &RESERVED, |name, leaf| {
            let value = match leaf {
                Leaf::Text(text) => format!("text {text}"),
                Leaf::Plain(digits) => digits.to_owned(),
                Leaf::Null => "null".to_owned(),
            };
            fields.push((name.to_owned(), value));
        });
        fields
    }

    #[track_caller]
    fn check(object: &str, want: &[(&str, &str)]) {
        let want = want
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        assert_eq!(fields(object), want.collect::<Vec<_>>());
    }

    #[test]
    fn paths_are_joined_by_dots_and_elements_have_their_index() {
        check(
            r#"{"t":1.50,"o":{"x":true,"y":{"z":"a"}},"l":[1,[2,3],{"k":null}],"e":{},"f":[],"g":false}"#,
            &[
                ("t", "1.50"),
                ("o.x", "true"),
                ("o.y.z", "text a"),
                ("l.0", "1"),
                ("l.1.0", "2"),
                ("l.1.1", "3"),
                ("l.2.k", "null"),
                ("g", "false"),
            ],
        );
        check("{}", &[]);
    }

    #[test]
    fn keys_that_could_be_confused_are_quoted() {
        check(
            r#"{"a.b":1,"a":{"b":2,"":3,"_seq":4},"_seq":5,"\"a\"":6,"":7,"\n":8,"a b":9}"#,
            &[
                ("\"a.b\"", "1"),
                ("a.b", "2"),
                ("a.\"\"", "3"),
                ("a._seq", "4"),
                ("\"_seq\"", "5"),
                ("\"\\\"a\\\"\"", "6"),
                ("\"\"", "7"),
                ("\"\\n\"", "8"),
                ("a b", "9"),
            ],
        );
    }
}
