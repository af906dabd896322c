//! Hostile payloads from a seed: deep, wide, with false counts, truncated, full of characters that need escapes. One
//! generator for each decoder: [`cbor`], [`json`], [`msgpack`], [`kv`], [`defmt`](fn@defmt).

mod packed;

use std::iter::repeat_with;

pub use self::packed::{kv, msgpack};

/// A random number generator with a seed.
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// A generator with this seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next random number.
    pub const fn number(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A random number below `end`.
    pub const fn below(&mut self, end: usize) -> usize {
        (self.number() >> 33) as usize % end
    }

    /// A random one of these.
    pub fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    /// A random length with a uniform number of bits.
    pub fn len(&mut self, max: usize) -> usize {
        let bits = self.below(max.ilog2() as usize + 1);
        self.below(2 << bits).min(max)
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        repeat_with(|| self.number() as u8).take(len).collect()
    }
}

/// Characters with long escapes, and some without.
const CHARACTERS: &[&str] = &[
    "\u{1}", "\u{1b}", "\"", "\\", "\n", "\u{7f}", "\u{85}", "a", "é", "😀", "' ", "|",
];

fn text(chance: &mut Chance, len: usize) -> String {
    let one = chance.of(CHARACTERS);
    let other = chance.of(CHARACTERS);
    repeat_with(|| if chance.below(8) == 0 { other } else { one })
        .take(len)
        .collect()
}

/// Truncates the payload, flips some of its bits, or returns it unchanged.
fn spoil(mut payload: Vec<u8>, chance: &mut Chance) -> Vec<u8> {
    match chance.below(6) {
        0 => payload.truncate(chance.below(payload.len() + 1)),
        1 => {
            for _ in 0..=chance.below(3) {
                if !payload.is_empty() {
                    let at = chance.below(payload.len());
                    payload[at] ^= 1 << chance.below(8);
                }
            }
        }
        2 => payload.push(chance.number() as u8),
        _ => {}
    }
    payload
}

/// A random payload that is CBOR or close to it.
pub fn cbor(chance: &mut Chance, max: usize) -> Vec<u8> {
    let len = chance.len(max);
    let repeated = |pattern: &[u8], end: &[u8]| {
        let count = len / (pattern.len() + end.len()).max(1);
        [pattern.repeat(count), vec![0], end.repeat(count)].concat()
    };
    let head = |major: u8, count: u64| {
        let mut head = vec![major << 5 | 27];
        head.extend(count.to_be_bytes());
        head
    };
    let count = chance.of(&[0, 1, 23, len as u64 / 2, u32::MAX.into(), u64::MAX]);
    let payload = match chance.below(14) {
        // Deeply nested.
        0 => repeated(
            chance.of(&[
                &b"\x81"[..],
                b"\x9f",
                b"\xa1\x00",
                b"\xbf\x00",
                b"\xc1",
                b"\xc2",
                b"\xc4\x82\x00",
            ]),
            b"",
        ),
        1 => repeated(
            chance.of(&[&b"\xa1"[..], b"\xbf", b"\xa1\x81", b"\xa2\x00\x00"]),
            chance.of(&[&b"\x00"[..], b"\xff", b"\x00\xff"]),
        ),
        2 => repeated(
            chance.of(&[&b"\x9f"[..], b"\xbf\x61k", b"\x9f\xc1"]),
            b"\xff",
        ),
        // Wide.
        3 => {
            let element = chance.of(&[
                &b"\x80"[..],
                b"\xa0",
                b"\x00",
                b"\xf4",
                b"\x40",
                b"\x60",
                b"\xa1\x00\x00",
                b"\xf9\xfb\xff",
                b"\x5f\xff",
                b"\xfb\x80\x00\x00\x00\x00\x00\x00\x01",
                b"\x3b\xff\xff\xff\xff\xff\xff\xff\xff",
                b"\xc3\x40",
                b"\xc1\x00",
                b"\xfa\x80\x00\x00\x01",
                b"\xc5\x82\x00\x00",
                b"\xa1\x60\xf4",
            ]);
            [&b"\x9f"[..], &element.repeat(len / element.len()), b"\xff"].concat()
        }
        4 | 5 => {
            let mut map = vec![0xbf];
            while map.len() < len {
                match chance.below(4) {
                    0 => map.push(0),
                    1 => map.extend([0x19, chance.number() as u8, chance.number() as u8]),
                    2 => map.extend([0x61, 1 + chance.number() as u8 % 0x7e]),
                    _ => map.extend([0x1a, 0, chance.number() as u8, chance.number() as u8, 1]),
                }
                map.extend_from_slice(chance.of(&[
                    &b"\xf4"[..],
                    b"\x00",
                    b"\x80",
                    b"\xf9\x7c\x00",
                ]));
            }
            map.push(0xff);
            map
        }
        // With a false count.
        6 => [
            head(chance.of(&[2, 3, 4, 5]), count),
            vec![chance.of(&[0, 0x60, 0x40, 0xf4]); len],
        ]
        .concat(),
        7 => repeated(&head(chance.of(&[4, 5]), count), b"\x00"),
        // Long texts and byte strings, in one piece and in several.
        8 => {
            let text = text(chance, len);
            [head(3, text.len() as u64), text.into_bytes()].concat()
        }
        9 => {
            let text = text(chance, len);
            let key = [head(3, text.len() as u64), text.into_bytes()].concat();
            [
                chance.of(&[&b"\xa1"[..], b"\xa1\x81", b"\xa1\xa1", b"\xa1\x9f"]),
                &key,
                chance.of(&[&b"\x00"[..], b"\x00\x00", b"\xff\x00"]),
            ]
            .concat()
        }
        10 => [
            &[chance.of(&[0x5f, 0x7f])][..],
            &chance
                .of(&[&b"\x61\x01"[..], b"\x41\x00", b"\x40", b"\x60"])
                .repeat(len / 2),
            b"\xff",
        ]
        .concat(),
        11 => [
            chance.of(&[&b"\xc2"[..], b"\xc3", b""]),
            &head(2, len as u64),
            &vec![chance.of(&[0, 0xff, 1]); len],
        ]
        .concat(),
        12 => chance.bytes(len),
        _ => tree(chance, &mut len.clone(), 0),
    };
    spoil(payload, chance)
}

/// A random item.
fn tree(chance: &mut Chance, left: &mut usize, depth: usize) -> Vec<u8> {
    *left = left.saturating_sub(1);
    let kind = if *left == 0 || 200 < depth {
        chance.below(6)
    } else {
        chance.below(12)
    };
    let count = 1 + chance.below(4);
    match kind {
        0 => vec![chance.below(24) as u8],
        1 => vec![0x20 | chance.below(24) as u8],
        2 => vec![0xf4 + chance.below(4) as u8],
        3 => [vec![0xfa + chance.below(2) as u8], chance.bytes(8)].concat(),
        4 => {
            let text = text(chance, count);
            [vec![0x78, text.len() as u8], text.into_bytes()].concat()
        }
        5 => [vec![0x40 | count as u8], chance.bytes(count)].concat(),
        6 => [
            vec![0xc0 | chance.below(24) as u8],
            tree(chance, left, depth + 1),
        ]
        .concat(),
        7 | 8 => {
            let mut array = vec![chance.of(&[0x9f, 0x80 | count as u8])];
            (0..count).for_each(|_| array.extend(tree(chance, left, depth + 1)));
            if array[0] == 0x9f {
                array.push(0xff);
            }
            array
        }
        _ => {
            let mut map = vec![chance.of(&[0xbf, 0xa0 | count as u8])];
            (0..2 * count).for_each(|_| map.extend(tree(chance, left, depth + 1)));
            if map[0] == 0xbf {
                map.push(0xff);
            }
            map
        }
    }
}

/// A random payload that is JSON or close to it.
pub fn json(chance: &mut Chance, max: usize) -> Vec<u8> {
    let len = chance.len(max);
    let list = |element: &str, (open, end): (&str, &str)| {
        let count = len / (element.len() + 1);
        [open, &vec![element; count].join(","), end].concat()
    };
    let payload = match chance.below(9) {
        0 => {
            let (open, end) = chance.of(&[
                ("[", "]"),
                ("{\"\":", "}"),
                ("[{\"a\":", "}]"),
                ("[[],", "]"),
            ]);
            let count = len / (open.len() + end.len());
            [&open.repeat(count), "0", &end.repeat(count)].concat()
        }
        1 => list(
            chance.of(&[
                "[]",
                "{}",
                "0",
                "\"\"",
                "null",
                "-0.0e-0",
                "[[]]",
                "{\"\":0}",
                "\"\\u0001\"",
                "1E400",
                "\"\\/\"",
            ]),
            ("[", "]"),
        ),
        2 => list(
            chance.of(&["\"\":0", "\"a\":[]", "\"\\u001b\":{}"]),
            ("{", "}"),
        ),
        3 => {
            let names = (0..len / 8).map(|number| format!("\"{number}\":0"));
            ["{", &names.collect::<Vec<_>>().join(","), "}"].concat()
        }
        4 => serde_json::to_string(&text(chance, len)).expect("a string"),
        5 => [
            "{",
            &serde_json::to_string(&text(chance, len)).expect("a string"),
            ":0}",
        ]
        .concat(),
        6 => chance
            .of(&["9", "0.1", "1e9", " ", "\t[", "\\", "\"\\u00e9"])
            .repeat(len / 3),
        7 => [
            "\"",
            &chance
                .of(&[
                    "\\ud83d\\ude00",
                    "\\u0000",
                    "\\u0041",
                    "\\n",
                    "\\ud800",
                    "\u{7f}",
                    "\u{85}",
                ])
                .repeat(len / 6),
            "\"",
        ]
        .concat(),
        _ => return spoil(chance.bytes(len), chance),
    };
    spoil(payload.into_bytes(), chance)
}

/// Format strings for hostile frames. The first is the timestamp's.
pub const FORMATS: &[(&str, &str)] = &[
    ("timestamp", "{=u64:us}"),
    ("info", "{=?}"),
    ("warn", "{=[?]:a} {=[u8]:#04x} {=str:?}"),
    ("prim", "None|Some({=?})"),
    ("prim", "{=u8}"),
    ("derived", ""),
    ("derived", "{=[?]}"),
    ("derived", "{0=?}{0}{0=?}"),
    ("derived", "{1=?}{0=u8:x}"),
    (
        "derived",
        "A {{ long: {=?}, name: {=bool}, of: {=u64:#066b} }}|B|C({=[?;4]})",
    ),
    (
        "str",
        "an interned string with a \u{1b} and more words than it is worth to be sent as a number",
    ),
    ("debug", "{=istr} {=[?]}"),
    (
        "error",
        "{=__internal_Debug} {=__internal_Display:?} {=__internal_FormatSequence}",
    ),
    ("derived", "{0=0..3} {0=3..60:b} {1=8..16:a} {1=0..128:x}"),
    ("derived", "{=[u8;4000000000]}"),
    ("derived", "{=[?;4000000000]}"),
    (
        "println",
        "{=u8:065535} {=i128:o} {=f32} {=f64} {=char} {=i8:x}",
    ),
    ("println", "{=u8:0999999999}"),
    (
        "println",
        "{=[u8]:cbor} {=u64:iso8601ms} {=u128:tus} {=usize:?}",
    ),
    ("derived", "{=istr}"),
    ("derived", "{=[?;0]}"),
    ("derived", "{0=[?]}{0=[?]}{0=[?]}"),
    ("println", "{4000000000=u8}"),
];

/// A random payload that is a log frame of [`FORMATS`] or close to it.
pub fn defmt(chance: &mut Chance, max: usize) -> Vec<u8> {
    let len = chance.len(max);
    let number = |index: usize| [index as u8, 0];
    let index = |chance: &mut Chance| number(2 + chance.below(FORMATS.len() - 1));
    let mut frame = Vec::from(match chance.below(3) {
        0 => index(chance),
        _ => number(chance.of(&[2, 3, 12, 13, 17, 19])),
    });
    frame.extend(chance.bytes(8));
    match chance.below(10) {
        // Valid unless nested too deeply.
        8 => {
            let depth = chance.below(len.min(200) + 1);
            frame = [&number(2)[..], &[0; 8]].concat();
            frame.extend([&number(4)[..], &[1]].concat().repeat(depth));
            frame.extend([&number(4)[..], &[0]].concat());
        }
        9 => {
            frame = [&number(2)[..], &[0; 8], &number(7)].concat();
            frame.extend((len as u32).to_le_bytes());
            frame.extend(number(5));
            frame.extend(vec![chance.number() as u8; len]);
        }
        // Deeply nested.
        0 => frame.extend([&number(4)[..], &[1]].concat().repeat(len / 3)),
        1 => frame.extend(number(8).repeat(len / 2)),
        2 => frame.extend([&number(7)[..], &[1, 0, 0, 0]].concat().repeat(len / 6)),
        // With a false count.
        3 => {
            let count = chance.of(&[len as u32, 20_000_000, u32::MAX]);
            frame.extend(count.to_le_bytes());
            frame.extend(index(chance));
            frame.extend(vec![chance.of(&[0, 1, 0x41, 0xff]); len]);
        }
        4 => frame.extend([&index(chance)[..], &[1, 0]].concat().repeat(len / 4)),
        5 => {
            let text = text(chance, len);
            frame.extend((text.len() as u32).to_le_bytes());
            frame.extend(text.into_bytes());
            frame.extend([0xff; 40]);
        }
        6 => {
            while frame.len() < len {
                frame.extend(index(chance));
                frame.extend(chance.of(&[
                    &b"\x01"[..],
                    b"\x00",
                    b"\x05\0\0\0",
                    b"",
                    b"\xff",
                    b"\x02\x01",
                ]));
            }
        }
        _ => frame.extend(chance.bytes(len)),
    }
    spoil(frame, chance)
}
