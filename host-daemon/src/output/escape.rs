//! Escapes payloads for people: [`readable`]. It copies runs and looks escapes up in a table, without `std::fmt`.

/// Appends a payload on one line, without the newline at its end. In UTF-8, control characters are escaped; in other
/// bytes, everything except printable ASCII.
pub(super) fn readable(payload: &[u8], line: &mut Vec<u8>) {
    match std::str::from_utf8(payload) {
        Ok(text) => readable_text(text.strip_suffix('\n').unwrap_or(text), line),
        Err(_) => readable_bytes(payload, line),
    }
}

/// Appends text and escapes control characters.
pub(super) fn readable_text(text: &str, line: &mut Vec<u8>) {
    let mut rest = text.as_bytes();
    // `rest[..plain]` contains nothing to escape.
    let mut plain = 0;
    loop {
        plain += find(rest.get(plain..).unwrap_or_default(), |word| {
            below_space(word) | equal(word, 0x7f) | equal(word, 0xc2)
        });
        // In UTF-8, the control characters from U+0080 on begin with this byte, and so do printable ones.
        let (control, len) = match rest.get(plain..).unwrap_or_default() {
            [0xc2, next, ..] if *next < 0xa0 => (*next, 2),
            [0xc2, ..] => {
                plain += 2;
                continue;
            }
            [control, ..] => (*control, 1),
            [] => break,
        };
        line.extend_from_slice(rest.get(..plain).unwrap_or_default());
        match control {
            b'\t' => line.extend_from_slice(br"\t"),
            b'\r' => line.extend_from_slice(br"\r"),
            b'\n' => line.extend_from_slice(br"\n"),
            _ => {
                let hex = hex(control);
                // Without leading zeros.
                let digits = if control < 0x10 { &hex[1..] } else { &hex };
                line.extend_from_slice(br"\u{");
                line.extend_from_slice(digits);
                line.push(b'}');
            }
        }
        rest = rest.get(plain + len..).unwrap_or_default();
        plain = 0;
    }
    line.extend_from_slice(rest);
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
        let escape = |character: char| match character.is_control() {
            true => character.escape_default().to_string(),
            false => character.to_string(),
        };
        text.chars().map(escape).collect()
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
            .chain(0xff00..0x1_0100)
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
        let special = "\0\u{8}\t\n\u{b}\u{c}\r\u{1b}\u{1f} !\"#'[\\]\u{7e}\u{7f}\u{80}\u{9f}\u{a0}\u{bf}\u{c0}\u{102}";
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
