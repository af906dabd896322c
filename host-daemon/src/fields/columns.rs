//! The fields of a JSON object as columns: [`flatten`].
//!
//! The name of a column is the path of its field, joined by dots, with the index for an element of an array:
//! `accel.x`, `samples.0`. A key is quoted as in JSON if it is empty or reserved, has white space at an end, ends like a unit
//! of time (`t:ms`), or contains a dot, a quote, a comma, a control character, or a letter of an operator (`<`, `=`, `>`, `!`).
//! So two fields of an object never share a column, and each can be named in an option. The length of a name has a bound.

use std::fmt::Write as _;

use json_event_parser::{JsonEvent, SliceJsonParser};

use crate::cli::TimeUnit;
use crate::escape::is_special;
use crate::escape::json::inside_of_string;

/// Names of columns of an export to CSV or MCAP that fields do not get.
pub(crate) const RESERVED: [&str; 4] = ["_time", "_conn", "_seq", "_received"];

/// Longest name of a column, in bytes.
pub(crate) const NAME_MAX: usize = 1024;

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
    /// Length of its name.
    len: usize,
    is_long: bool,
    /// Number of the next element of an array.
    index: u64,
    is_array: bool,
}

/// Calls `each` for each field of a JSON object, with the name of its column. A top-level key in `reserved` is quoted.
/// Empty arrays and objects have no column. Returns the number of fields without a column, whose names are longer than
/// [`NAME_MAX`]: they cost no more than others.
pub(crate) fn flatten(
    object: &[u8],
    reserved: &[&str],
    mut each: impl FnMut(&str, Leaf<'_>),
) -> u64 {
    let mut parser = SliceJsonParser::new(object);
    let (mut path, mut levels, mut left_out) = (Path::default(), Vec::<OpenPath>::new(), 0);
    while let Ok(event) = parser.parse_next() {
        match &event {
            JsonEvent::Eof => break,
            JsonEvent::ObjectKey(key) => {
                let is_top = levels.len() == 1;
                path.cut(levels.last());
                path.key(key, is_top, is_top && reserved.contains(&&**key));
                continue;
            }
            JsonEvent::EndObject | JsonEvent::EndArray => {
                levels.pop();
                continue;
            }
            _ => {}
        }
        if let Some(level) = levels.last_mut().filter(|level| level.is_array) {
            path.cut(Some(level));
            path.index(level.index);
            level.index += 1;
        }
        let leaf = match &event {
            JsonEvent::StartObject | JsonEvent::StartArray => {
                levels.push(OpenPath {
                    len: path.name.len(),
                    is_long: path.is_long,
                    index: 0,
                    is_array: event == JsonEvent::StartArray,
                });
                continue;
            }
            JsonEvent::String(text) => Leaf::Text(text),
            JsonEvent::Number(digits) => Leaf::Plain(digits),
            JsonEvent::Boolean(true) => Leaf::Plain("true"),
            JsonEvent::Boolean(false) => Leaf::Plain("false"),
            _ => Leaf::Null,
        };
        match path.is_long {
            true => left_out += 1,
            false => each(&path.name, leaf),
        }
    }
    left_out
}

/// The name of the column that a user means: without quotes that its keys do not need. A first key in `reserved` needs them.
pub(crate) fn column_name(given: &str, reserved: &[&str]) -> String {
    let mut path = Path::default();
    let mut rest = given;
    loop {
        let end = end_of_key(rest);
        let (part, after) = rest.split_at(end);
        let inside = match part.starts_with('"') {
            true => serde_json::from_str::<String>(part).ok(),
            false => None,
        };
        let is_first = rest.len() == given.len();
        match inside {
            Some(key) => path.key(&key, is_first, is_first && reserved.contains(&&*key)),
            None => path.plain(part, is_first),
        }
        match after.strip_prefix('.') {
            Some(after) => rest = after,
            None => break,
        }
    }
    match path.is_long {
        true => given.to_owned(),
        false => path.name,
    }
}

/// Length up to the next dot outside of quotes.
fn end_of_key(text: &str) -> usize {
    let (mut is_quoted, mut is_escaped) = (false, false);
    let end = text.find(|letter| {
        is_quoted ^= letter == '"' && !is_escaped;
        is_escaped = is_quoted && letter == '\\' && !is_escaped;
        letter == '.' && !is_quoted
    });
    end.unwrap_or(text.len())
}

/// The name of a column that is being made.
#[derive(Debug, Default)]
struct Path {
    name: String,
    /// It would be longer than [`NAME_MAX`].
    is_long: bool,
}

impl Path {
    /// Goes back to an array or an object.
    fn cut(&mut self, level: Option<&OpenPath>) {
        self.name.truncate(level.map_or(0, |level| level.len));
        self.is_long = level.is_some_and(|level| level.is_long);
    }

    fn key(&mut self, key: &str, is_first: bool, is_reserved: bool) {
        let is_special = |letter: char| {
            matches!(letter, '.' | '"' | ',' | '<' | '=' | '>' | '!') || is_special(letter)
        };
        let is_quoted = is_reserved
            || key.is_empty()
            || key.contains(is_special)
            || key.trim().len() != key.len()
            || key
                .rsplit_once(':')
                .is_some_and(|(_, unit)| TimeUnit::named(unit).is_some());
        if !is_quoted || NAME_MAX < key.len() {
            self.plain(key, is_first);
            return;
        }
        let mut quoted = String::from('"');
        // A write to a string does not fail.
        let _ = inside_of_string(key, &mut quoted);
        quoted.push('"');
        self.plain(&quoted, is_first);
    }

    fn plain(&mut self, part: &str, is_first: bool) {
        let dot = usize::from(!is_first);
        self.is_long |= NAME_MAX < self.name.len() + dot + part.len();
        if self.is_long {
            return;
        }
        if !is_first {
            self.name.push('.');
        }
        self.name.push_str(part);
    }

    fn index(&mut self, index: u64) {
        if self.is_long {
            return;
        }
        // A write to a string does not fail.
        let _ = write!(self.name, ".{index}");
        self.is_long = NAME_MAX < self.name.len();
    }
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
    fn the_work_for_long_names_is_bounded() {
        let key = |len: usize| "k".repeat(len);
        let ones = |count| ["1"; 1000].repeat(count).join(",");
        for (object, leaves) in [
            (
                format!(r#"{{"{}":[{}]}}"#, key(500_000), ones(274)),
                274_000,
            ),
            (
                format!(r#"{{"{}":{{"{}":[{}]}}}}"#, key(600), key(600), ones(9)),
                9_000,
            ),
            (
                format!(r#"{{"{}":[{}]}}"#, "\\u0001".repeat(200), ones(9)),
                9_000,
            ),
            (format!(r#"{{"{}":[{}]}}"#, key(1020), ones(1)), 1_000),
            (format!(r#"{{"{}":1,"{}":2}}"#, key(1025), key(1024)), 2),
        ] {
            let (mut calls, mut longest) = (0, 0);
            let left_out = flatten(object.as_bytes(), &[], |name, _| {
                (calls, longest) = (calls + 1, name.len().max(longest));
            });
            assert!(longest <= NAME_MAX, "{longest}");
            assert_eq!(calls + left_out, leaves);
        }
        // A field after a long one has its name.
        let object = format!(r#"{{"a":{{"{}":[1],"b":2}},"c":[[3]]}}"#, key(5000));
        check(&object, &[("a.b", "2"), ("c.0.0", "3")]);
    }

    #[test]
    fn names_of_users_are_those_of_columns() {
        for (given, want) in [
            ("temp", "temp"),
            ("pos.lat.0", "pos.lat.0"),
            (r#""temp""#, "temp"),
            (r#"a."b".c"#, "a.b.c"),
            (r#"a."b.c""#, r#"a."b.c""#),
            (r#""a,b""#, r#""a,b""#),
            (r#""a\u002cb""#, r#""a,b""#),
            (r#""""#, r#""""#),
            (r#""_seq""#, r#""_seq""#),
            (r#"a."_seq""#, "a._seq"),
            // Not names of columns.
            ("a,b", "a,b"),
            (r#""a"#, r#""a"#),
            (r#""a"b"#, r#""a"b"#),
        ] {
            assert_eq!(column_name(given, &RESERVED), want, "{given}");
        }
        // Every name that a message can have is its own.
        let object = r#"{"a,b":1,"p<q":1,"a=b":1,"n!":1," t ":1,"x:ms":1,"x:y":1,"\u0001\"\\":1,"é. ü":{"":[1]},"\"a":1}"#;
        for (name, _) in fields(object) {
            assert_eq!(column_name(&name, &RESERVED), name);
        }
    }

    #[test]
    fn keys_that_could_be_confused_are_quoted() {
        check(
            r#"{"a.b":1,"a":{"b":2,"":3,"_seq":4},"_seq":5,"\"a\"":6,"":7,"\n":8,"a b":9,
                "a,b":1,"a=b":2,"p<q":3,"p>q":4,"n!":5," t":6,"t ":7,"x:ms":8,"x:y":9,"o":{"a,b":1}}"#,
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
                ("\"a,b\"", "1"),
                ("\"a=b\"", "2"),
                ("\"p<q\"", "3"),
                ("\"p>q\"", "4"),
                ("\"n!\"", "5"),
                ("\" t\"", "6"),
                ("\"t \"", "7"),
                ("\"x:ms\"", "8"),
                ("x:y", "9"),
                ("o.\"a,b\"", "1"),
            ],
        );
    }
}
