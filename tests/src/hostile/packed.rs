//! Hostile payloads of MessagePack and of `key=value`: [`msgpack`], [`kv`].

use super::{Chance, spoil, text};

/// A random payload that is MessagePack or close to it.
pub fn msgpack(chance: &mut Chance, max: usize) -> Vec<u8> {
    let len = chance.len(max);
    let head = |marker: u8, count: u32| [&[marker][..], &count.to_be_bytes()].concat();
    let repeated = |pattern: &[u8]| [&pattern.repeat(len / pattern.len()), &b"\xc0"[..]].concat();
    let count = chance.of(&[0, 1, 31, len as u32 / 2, u32::MAX]);
    let payload = match chance.below(10) {
        // Deeply nested.
        0 => repeated(chance.of(&[
            &b"\x91"[..],
            b"\x81\xc0",
            b"\x81\x91",
            b"\x81\x81",
            b"\xdc\x00\x01",
            b"\x92\xc0",
        ])),
        // Wide.
        1 | 2 => {
            let element = chance.of(&[
                &b"\xc0"[..],
                b"\xc2",
                b"\x90",
                b"\x80",
                b"\xa0",
                b"\xc4\x00",
                b"\x81\xc0\xc0",
                b"\xd4\x80\x00",
                b"\xc7\x00\x80",
                b"\xd6\xff\xff\xff\xff\xff",
                b"\xca\x80\x00\x00\x01",
                b"\xcb\x80\x00\x00\x00\x00\x00\x00\x01",
                b"\xd3\x80\x00\x00\x00\x00\x00\x00\x00",
                b"\xa1\x01",
                b"\xa1\x7f",
            ]);
            let count = len / element.len();
            [head(0xdd, count as u32), element.repeat(count)].concat()
        }
        // Maps with many keys, of which some are equal.
        3 | 4 => {
            let (mut entries, mut count) = (Vec::new(), 0);
            while entries.len() < len {
                match chance.below(5) {
                    0 => entries.push(0),
                    1 => entries.extend([0xcd, chance.number() as u8, chance.number() as u8]),
                    2 => entries.extend([0xa1, 1 + chance.number() as u8 % 0x7e]),
                    3 => entries.extend([0xd4, 1, chance.number() as u8]),
                    _ => entries.extend([0xce, 0, chance.number() as u8, chance.number() as u8, 1]),
                }
                entries.extend_from_slice(chance.of(&[
                    &b"\xc2"[..],
                    b"\x00",
                    b"\x80",
                    b"\xca\x7f\xc0\x00\x00",
                ]));
                count += 1;
            }
            [head(0xdf, count), entries].concat()
        }
        // With a false count.
        5 => [
            head(chance.of(&[0xdd, 0xdf, 0xdb, 0xc6, 0xc9]), count),
            vec![chance.of(&[0, 0xa0, 0xc0, 0xc2]); len],
        ]
        .concat(),
        // Long texts, and as a key.
        6 => {
            let text = text(chance, len);
            let key = [head(0xdb, text.len() as u32), text.into_bytes()].concat();
            let (open, end) = chance.of(&[
                (&b""[..], &b""[..]),
                (b"\x81", b"\x00"),
                (b"\x81\x91", b"\x00"),
                (b"\x81\x81", b"\x00\x00"),
            ]);
            [open, &key, end].concat()
        }
        7 => [
            head(chance.of(&[0xc6, 0xdb]), len as u32),
            vec![chance.of(&[0, 1, 0xff]); len],
        ]
        .concat(),
        8 => chance.bytes(len),
        _ => tree(chance, &mut len.clone(), 0),
    };
    spoil(payload, chance)
}

/// A random value.
fn tree(chance: &mut Chance, left: &mut usize, depth: usize) -> Vec<u8> {
    *left = left.saturating_sub(1);
    let kind = if *left == 0 || 200 < depth {
        chance.below(7)
    } else {
        chance.below(11)
    };
    let count = 1 + chance.below(4);
    match kind {
        0 => vec![chance.number() as u8 & 0x7f],
        1 => vec![0xe0 | chance.number() as u8],
        2 => vec![chance.of(&[0xc0, 0xc2, 0xc3])],
        3 => {
            let (marker, len) = chance.of(&[
                (0xca, 4),
                (0xcb, 8),
                (0xcf, 8),
                (0xd3, 8),
                (0xd1, 2),
                (0xcc, 1),
            ]);
            [vec![marker], chance.bytes(len)].concat()
        }
        4 => {
            let text = text(chance, count);
            [vec![0xd9, text.len() as u8], text.into_bytes()].concat()
        }
        5 => [vec![0xc4, count as u8], chance.bytes(count)].concat(),
        6 => [vec![0xc7, count as u8, 5], chance.bytes(count)].concat(),
        7 | 8 => {
            let mut array = vec![0x90 | count as u8];
            (0..count).for_each(|_| array.extend(tree(chance, left, depth + 1)));
            array
        }
        _ => {
            let mut map = vec![0x80 | count as u8];
            (0..2 * count).for_each(|_| map.extend(tree(chance, left, depth + 1)));
            map
        }
    }
}

/// A random payload that is text of `key=value` or close to it.
pub fn kv(chance: &mut Chance, max: usize) -> Vec<u8> {
    let len = chance.len(max);
    let payload = match chance.below(8) {
        0 | 1 => {
            let names = (0..len / 8).map(|number| {
                let value =
                    chance.of(&["0", "", "x", "\"\"", "\"\\\\\"", "1e999", "true", "\u{1}"]);
                format!("{number}={value}")
            });
            let names: Vec<_> = names.collect();
            names.join(chance.of(&[" ", ",", ", \n"]))
        }
        2 => chance
            .of(&["a= ", "=", "a=1,", " ", ",", "\"", "a=\"\","])
            .repeat(len / 5),
        3 => format!("a={}", text(chance, len)),
        4 => format!("a=\"{}\"", text(chance, len)),
        5 => format!(
            "a=\"{}\"",
            chance
                .of(&["\\\"", "\\\\", "\\n", "\\", "\\x"])
                .repeat(len / 2)
        ),
        6 => format!("{}=1", text(chance, len)),
        _ => return spoil(chance.bytes(len), chance),
    };
    spoil(payload.into_bytes(), chance)
}
