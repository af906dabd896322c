//! Text of `key=value`, copied token by token to a JSON object. [`copy`] writes one message, [`pairs`] splits it.
//!
//! Pairs are separated by spaces or commas. A value may be in double quotes, inside of which a backslash escapes.

use std::borrow::Cow;

use crate::payload::DecodeError;
use crate::payload::emitter::Emitter;

/// The value of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KvValue<'a> {
    /// A word without quotes.
    Bare(&'a str),
    /// The text between two quotes, with its escapes.
    Quoted(&'a str),
}

/// Copies a message that consists of pairs, as one object. A bare word that is a number of JSON, `true` or `false` is
/// one; any other value is text. Two equal keys are refused, since most programs would keep one of the values.
pub(super) fn copy(bytes: &[u8], to: &mut Emitter<'_>) -> Result<(), DecodeError> {
    let text = std::str::from_utf8(bytes).map_err(|error| invalid(error.to_string()))?;
    // A pair takes at least two bytes, and a separator.
    to.expect_keys(bytes.len() / 3 + 1);
    to.begin_value()?;
    to.open(true)?;
    let mut rest = text.trim_start_matches(is_separator);
    if rest.is_empty() {
        return Err(invalid("it has no `key=value`".to_owned()));
    }
    while !rest.is_empty() {
        let at = text.len() - rest.len();
        let (key, value, after) =
            next(rest).map_err(|reason| invalid(format!("{reason} at byte {at}")))?;
        to.text_key(key)?;
        to.begin_value()?;
        match value {
            KvValue::Bare(word) if is_number(word) || matches!(word, "true" | "false") => {
                to.put(word)?;
            }
            KvValue::Bare(word) => to.string(word)?,
            KvValue::Quoted(inside) => to.string(&unescaped(inside))?,
        }
        rest = after.trim_start_matches(is_separator);
    }
    to.close()
}

/// Whether a text is a number of JSON that a double can hold.
pub(crate) fn is_number(text: &str) -> bool {
    text.ends_with(|last: char| last.is_ascii_digit()) && serde_json::from_str::<f64>(text).is_ok()
}

/// The next pair, and the text after it.
fn next(text: &str) -> Result<(&str, KvValue<'_>, &str), &'static str> {
    let end = text
        .find(|letter| letter == '=' || is_separator(letter))
        .unwrap_or(text.len());
    let (key, after) = text.split_at(end);
    if key.contains('"') {
        return Err("a quote in a key");
    }
    let after = after.strip_prefix('=').ok_or("a key without `=`")?;
    if key.is_empty() {
        return Err("a value without a key");
    }
    let (value, after) = match after.strip_prefix('"') {
        Some(quoted) => {
            let end = closing_quote(quoted).ok_or("a quoted value that does not end")?;
            let (inside, after) = quoted.split_at(end);
            (KvValue::Quoted(inside), after.get(1..).unwrap_or_default())
        }
        None => {
            let end = after.find(is_separator).unwrap_or(after.len());
            let (word, after) = after.split_at(end);
            if word.contains('"') {
                return Err("a quote in a value that does not begin with one");
            }
            (KvValue::Bare(word), after)
        }
    };
    match after.is_empty() || after.starts_with(is_separator) {
        true => Ok((key, value, after)),
        false => Err("text after a quoted value"),
    }
}

fn is_separator(letter: char) -> bool {
    letter == ',' || letter.is_whitespace()
}

/// Position of the first quote that is not escaped.
fn closing_quote(text: &str) -> Option<usize> {
    let mut is_escaped = false;
    text.bytes().position(|byte| {
        let is_end = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        is_end
    })
}

/// The text without its escapes: `\"`, `\\`, `\n`, `\r` and `\t`. Any other backslash stays.
fn unescaped(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return text.into();
    }
    let mut plain = String::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        let mut ahead = letters.clone();
        let escaped = match (letter, ahead.next()) {
            ('\\', Some(same @ ('"' | '\\'))) => Some(same),
            ('\\', Some('n')) => Some('\n'),
            ('\\', Some('r')) => Some('\r'),
            ('\\', Some('t')) => Some('\t'),
            _ => None,
        };
        if escaped.is_some() {
            letters = ahead;
        }
        plain.push(escaped.unwrap_or(letter));
    }
    plain.into()
}

fn invalid(reason: String) -> DecodeError {
    DecodeError::Invalid(reason)
}

#[cfg(test)]
mod tests {
    use crate::payload::reading::read_as;
    use crate::payload::{Decoding, Style};

    fn read(text: impl AsRef<[u8]>, style: Style) -> Result<String, String> {
        let read = read_as(Decoding::Kv, text.as_ref(), style);
        read.map_err(|error| error.to_string())
    }

    #[track_caller]
    fn check(text: &str, want: &str) {
        assert_eq!(read(text, Style::Json).as_deref(), Ok(want), "{text}");
        serde_json::from_str::<serde_json::Value>(want).expect("JSON");
    }

    #[track_caller]
    fn refused(text: impl AsRef<[u8]>, want: &str) {
        let error = read(text, Style::Json).expect_err("undecodable");
        assert_eq!(error, format!("message is not valid kv: {want}"));
    }

    #[test]
    fn values_are_numbers_words_or_texts() {
        check("t=21.5 rh=40,ok=true", r#"{"t":21.5,"rh":40,"ok":true}"#);
        check("  a=-1e-05 , b=x\r\n", r#"{"a":-1e-05,"b":"x"}"#);
        check(
            "a=007 b=+1 c=.5 d=1. e=0x10",
            r#"{"a":"007","b":"+1","c":".5","d":"1.","e":"0x10"}"#,
        );
        check(
            "a=nan b=1e999 c=null",
            r#"{"a":"nan","b":"1e999","c":"null"}"#,
        );
        check("n=123456789012345678901", r#"{"n":123456789012345678901}"#);
        check(
            "url=http://x/?a=b c==",
            r#"{"url":"http://x/?a=b","c":"="}"#,
        );
        check("pos.lat=1 é=ü a/b=2", r#"{"pos.lat":1,"é":"ü","a/b":2}"#);
        check("a=\t,b=\n", r#"{"a":"","b":""}"#);
    }

    #[test]
    fn quotes_hold_separators_and_escapes() {
        check(
            "a=\"x = y, z\"  b=\"\" c=d",
            r#"{"a":"x = y, z","b":"","c":"d"}"#,
        );
        check("a=\"1\" b=\"true\"", r#"{"a":"1","b":"true"}"#);
        check(
            r#"a="\"\\" b="\n\r\t" c="\x""#,
            r#"{"a":"\"\\","b":"\n\r\t","c":"\\x"}"#,
        );
        check(r#"p="C:\dir\file""#, r#"{"p":"C:\\dir\\file"}"#);
        check("a=b\\n", r#"{"a":"b\\n"}"#);
    }

    #[test]
    fn a_text_that_is_not_pairs_is_refused_with_its_place() {
        refused("", "it has no `key=value`");
        refused(" ,, \n", "it has no `key=value`");
        refused("hello", "a key without `=` at byte 0");
        refused("a=1 and b=2", "a key without `=` at byte 4");
        refused("a=1 =2", "a value without a key at byte 4");
        refused("a=\"b", "a quoted value that does not end at byte 0");
        refused("a=\"b\\\"", "a quoted value that does not end at byte 0");
        refused("a=\"b\"c", "text after a quoted value at byte 0");
        refused(
            "a=b\"c",
            "a quote in a value that does not begin with one at byte 0",
        );
        refused("\"a\"=1", "a quote in a key at byte 0");
        refused("a=1 b=2 a=3", "two keys of an object are the same as text");
        refused(b"a=\xff", "invalid utf-8 sequence of 1 bytes from index 2");
    }

    #[test]
    fn the_text_output_shows_the_pairs() {
        let shown = read("t=1 u=\"°C\" 'k=x", Style::Fields);
        assert_eq!(shown.as_deref(), Ok(r#"t=1 u="°C" "'k"="x""#));
    }
}
