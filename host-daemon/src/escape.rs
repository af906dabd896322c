//! Escapes text of devices and files, which must not act on a terminal: [`printable`] for people, [`json`] for programs.
//!
//! [`is_special`] decides for all of them which characters are escaped.

pub(crate) mod json;
pub(crate) mod terminal;

use std::convert::Infallible;
use std::fmt::Display;

use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};

/// Whether a character can act on a terminal, or change how the text around it looks: control characters (C0, DEL, C1),
/// format characters, among them those that change the direction of text, and separators of lines and paragraphs.
pub(crate) fn is_special(character: char) -> bool {
    match character {
        ' '..='~' | '\u{a0}'..='\u{ac}' => false,
        '\0'..='\u{9f}' => true,
        _ => matches!(
            character.general_category(),
            GeneralCategory::Format
                | GeneralCategory::LineSeparator
                | GeneralCategory::ParagraphSeparator
        ),
    }
}

/// Text on one line, with special characters escaped: names of files, and texts from recordings.
pub(crate) fn printable(text: impl Display) -> String {
    let mut line = Vec::new();
    readable_text(&text.to_string(), &mut line);
    String::from_utf8_lossy(&line).into_owned()
}

/// Appends a payload on one line, without the newline at its end. In UTF-8, special characters are escaped; in other
/// bytes, everything except printable ASCII.
pub(crate) fn readable(payload: &[u8], line: &mut Vec<u8>) {
    match std::str::from_utf8(payload) {
        Ok(text) => readable_text(text.strip_suffix('\n').unwrap_or(text), line),
        Err(_) => readable_bytes(payload, line),
    }
}

/// Appends text and escapes special characters.
pub(crate) fn readable_text(text: &str, line: &mut Vec<u8>) {
    let Ok(()) = split(text, false, |part| {
        match part {
            TextPart::Plain(text) => line.extend_from_slice(text.as_bytes()),
            TextPart::Special(character) => {
                line.extend(character.escape_default().map(|it| it as u8));
            }
        }
        Ok::<_, Infallible>(())
    });
}

/// A part of a text.
enum TextPart<'a> {
    /// Without special characters.
    Plain(&'a str),
    /// To be escaped.
    Special(char),
}

/// Splits a text into special characters and the runs between them. With `quotes`, `"` and `\` are special too.
fn split<E>(
    text: &str,
    quotes: bool,
    mut each: impl FnMut(TextPart<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let mut rest = text;
    // `rest[..plain]` contains nothing to escape.
    let mut plain = 0;
    loop {
        let ahead = rest.as_bytes().get(plain..).unwrap_or_default();
        plain += match quotes {
            false => find(ahead, special),
            true => find(ahead, |word| {
                special(word) | equal(word, b'"') | equal(word, b'\\')
            }),
        };
        if plain == rest.len() {
            break;
        }
        let mut found = None;
        for next in rest.get(plain..).unwrap_or_default().chars() {
            if is_special(next) || quotes && matches!(next, '"' | '\\') {
                found = Some(next);
                break;
            }
            if next.is_ascii() {
                break;
            }
            plain += next.len_utf8();
        }
        if let Some(character) = found {
            if plain != 0 {
                each(TextPart::Plain(rest.get(..plain).unwrap_or_default()))?;
            }
            each(TextPart::Special(character))?;
            let after = plain + character.len_utf8();
            rest = rest.get(after..).unwrap_or_default();
            plain = 0;
        }
    }
    each(TextPart::Plain(rest))
}

/// The escape of a byte in a payload that is not UTF-8: its characters, the first in the lowest byte, and their number.
#[derive(Clone, Copy)]
struct Escape {
    characters: u32,
    len: u32,
}

static ESCAPES: [Escape; 256] = {
    let escape = Escape {
        characters: 0,
        len: 0,
    };
    let mut table = [escape; 256];
    let mut byte = 0;
    while byte < table.len() {
        let [high, low] = hex(byte as u8);
        let (characters, len) = match byte as u8 {
            b'\t' => ([b'\\', b't', 0, 0], 2),
            b'\r' => ([b'\\', b'r', 0, 0], 2),
            b'\n' => ([b'\\', b'n', 0, 0], 2),
            quoted @ (b'\'' | b'"' | b'\\') => ([b'\\', quoted, 0, 0], 2),
            plain @ b' '..=b'~' => ([plain, 0, 0, 0], 1),
            _ => ([b'\\', b'x', high, low], 4),
        };
        table[byte] = Escape {
            characters: u32::from_le_bytes(characters),
            len,
        };
        byte += 1;
    }
    table
};

fn readable_bytes(payload: &[u8], line: &mut Vec<u8>) {
    let escape = |byte: &u8| {
        let Escape { characters, len } = ESCAPES[usize::from(*byte)];
        (u64::from(characters), len)
    };
    // Reserve space for the longest escapes. Each step writes eight bytes, and the next one overwrites the unused ones.
    let mut end = line.len();
    line.resize(end + payload.len().next_multiple_of(2) * 4, 0);
    let mut put = |characters: u64, len: u32| {
        if let Some(space) = line.get_mut(end..end + 8) {
            space.copy_from_slice(&characters.to_le_bytes());
        }
        end += len as usize;
    };
    let (pairs, rest) = payload.as_chunks();
    for [one, other] in pairs {
        let ((one, one_len), (other, other_len)) = (escape(one), escape(other));
        put(one | other << (8 * one_len), one_len + other_len);
    }
    if let [last] = rest {
        let (last, len) = escape(last);
        put(last, len);
    }
    line.truncate(end);
}

const fn hex(byte: u8) -> [u8; 2] {
    let digits = b"0123456789abcdef";
    [digits[(byte >> 4) as usize], digits[(byte & 15) as usize]]
}

/// The position of the first matching byte. `marks` sets the highest bit of that byte in a word of eight bytes, and no
/// bit of the bytes before it.
fn find(bytes: &[u8], marks: impl Fn(u64) -> u64) -> usize {
    let (words, rest) = bytes.as_chunks();
    for (index, word) in words.iter().enumerate() {
        let marked = marks(u64::from_le_bytes(*word));
        if marked != 0 {
            return index * 8 + marked.trailing_zeros() as usize / 8;
        }
    }
    // Pad with a letter, which never matches.
    let mut word = [b'a'; 8];
    for (byte, space) in rest.iter().zip(&mut word) {
        *space = *byte;
    }
    let marked = marks(u64::from_le_bytes(word));
    bytes
        .len()
        .min(words.len() * 8 + marked.trailing_zeros() as usize / 8)
}

const ONES: u64 = u64::MAX / 255;
const HIGHEST: u64 = ONES * 0x80;

/// Marks the first byte that is a control character of ASCII, or not ASCII.
const fn special(word: u64) -> u64 {
    below_space(word) | equal(word, 0x7f) | word & HIGHEST
}

/// Marks the first byte that is below a space. A borrow only reaches bytes after a marked one.
const fn below_space(word: u64) -> u64 {
    word.wrapping_sub(ONES * 0x20) & !word & HIGHEST
}

/// Marks the first byte that equals `byte`.
const fn equal(word: u64, byte: u8) -> u64 {
    let other = word ^ (ONES * byte as u64);
    other.wrapping_sub(ONES) & !other & HIGHEST
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(payload: &[u8]) -> String {
        let mut line = b"before ".to_vec();
        readable(payload, &mut line);
        let line = String::from_utf8(line).expect("UTF-8");
        line.strip_prefix("before ").expect("kept").to_owned()
    }

    /// The reference, which escapes character by character.
    fn reference(payload: &[u8]) -> String {
        let Ok(text) = std::str::from_utf8(payload) else {
            return payload.escape_ascii().to_string();
        };
        let text = text.strip_suffix('\n').unwrap_or(text);
        let escape = |character: char| match is_special(character) {
            true => character.escape_default().to_string(),
            false => character.to_string(),
        };
        text.chars().map(escape).collect()
    }

    #[test]
    fn characters_that_act_on_a_terminal_or_are_not_seen_are_special() {
        let controls = ('\0'..' ').chain('\u{7f}'..='\u{9f}');
        let directions = ['\u{61c}', '\u{200e}', '\u{200f}'].into_iter();
        let directions = directions.chain('\u{202a}'..='\u{202e}');
        let directions = directions.chain('\u{2066}'..='\u{2069}');
        let others = "\u{ad}\u{200b}\u{2028}\u{2029}\u{2060}\u{feff}\u{fff9}\u{e0001}\u{e0041}";
        for character in controls.chain(directions).chain(others.chars()) {
            assert!(is_special(character), "{character:?}");
        }
        let plain = " ~\u{a0}é°ßЖ中한🦀\u{300}\u{fe0f}\u{e000}\u{10ffff}";
        for character in plain.chars() {
            assert!(!is_special(character), "{character:?}");
        }
    }

    #[test]
    fn printable_text_is_on_one_line() {
        let text = printable("a\n\u{1b}[2J\u{9b}\u{7f}é\u{202e}");
        assert_eq!(text, r"a\n\u{1b}[2J\u{9b}\u{7f}é\u{202e}");
    }

    fn check(payload: &[u8]) {
        let text = written(payload);
        assert_eq!(text, reference(payload), "{payload:?}");
    }

    #[test]
    fn every_character_is_escaped_as_in_the_reference() {
        for byte in 0..=255 {
            check(&[byte]);
        }
        let characters = (0..0x3000)
            .chain(0xfe00..0x1_0100)
            .chain(0x1_10b0..0x1_10d0)
            .chain(0xe_0000..0xe_0080)
            .chain(0x10_fff0..0x11_0000);
        for character in characters.filter_map(char::from_u32) {
            check(character.to_string().as_bytes());
        }
        let all: Vec<u8> = (0..=255).collect();
        let ascii = &all[..128];
        (0..128).for_each(|start| check(&ascii[start..]));
        (0..256).for_each(|end| check(&all[..end]));
    }

    #[test]
    fn special_characters_are_found_at_every_position_and_next_to_each_other() {
        let special = "\0\u{8}\t\n\u{b}\u{c}\r\u{1b}\u{1f} !\"#'[\\]\u{7e}\u{7f}\u{80}\u{9f}\u{a0}\u{ad}\u{c0}\u{102}\u{202e}\u{3042}";
        for len in 0..20 {
            for at in 0..=len {
                for one in special.chars() {
                    for other in special.chars() {
                        let (before, after) = ("x".repeat(at), "y".repeat(len - at));
                        check(format!("{before}{one}{other}{after}").as_bytes());
                    }
                }
            }
        }
    }

    #[test]
    fn invalid_utf8_is_found_at_every_position() {
        for invalid in [
            &b"\x80"[..],
            b"\xc2",
            b"\xe2\x82",
            b"\xf5",
            b"\xff",
            b"\xc0\x80",
        ] {
            for at in 0..40 {
                let mut payload = b"a\n\"\\'\x1b~ \xc2\x85plain words, and no more ".repeat(2);
                payload.splice(at..at, invalid.iter().copied());
                check(&payload);
            }
        }
    }
}
