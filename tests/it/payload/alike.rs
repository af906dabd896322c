//! Valid payloads: the decoders agree with libraries that build trees (serde_json, ciborium, defmt-decoder).

use std::collections::{BTreeSet, HashSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use blocksd::payload::{DecodeError, Decoder, Decoding, Meaning, Style};
use blocksd_tests::elf::{BUILD, Image, elf, rzcobs};
use blocksd_tests::hostile::{self, Chance};
use ciborium::Value as Cbor;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// The text of a value; `None` if it is undecodable.
fn written(decoding: &Decoding, style: Style, bytes: &[u8]) -> Option<String> {
    let decoder = Decoder::new(decoding.clone());
    let Ok(Meaning::Value(value)) = decoder.read(bytes) else {
        panic!("not a value");
    };
    let mut text = String::new();
    value.write(style, &mut text).ok().map(|()| text)
}

/// The fields of an object in the text format.
fn fields(value: &Value) -> String {
    let Value::Object(members) = value else {
        return value.to_string();
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    let members = members
        .iter()
        .map(|(key, value)| match key.bytes().all(plain) {
            true => format!("{key}={value}"),
            false => format!("{}={value}", Value::from(key.as_str())),
        });
    members.collect::<Vec<_>>().join(" ")
}

/// A JSON value in which no object has two equal keys.
struct Unique;

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UniqueVisitor)
    }
}

struct UniqueVisitor;

impl<'de> Visitor<'de> for UniqueVisitor {
    type Value = Unique;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("unique keys")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_str<E>(self, _: &str) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_unit<E>(self) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Unique, A::Error> {
        while items.next_element::<Unique>()?.is_some() {}
        Ok(Unique)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Unique, A::Error> {
        let mut keys = HashSet::new();
        while let Some((key, _)) = members.next_entry::<String, Unique>()? {
            if !keys.insert(key) {
                return Err(A::Error::custom("two equal keys"));
            }
        }
        Ok(Unique)
    }
}

#[test]
fn json_is_decoded_like_serde_json() {
    let mut decodable = 0;
    for seed in 0..4_000 {
        let bytes = hostile::json(&mut Chance::new(seed), 1 << 10);
        let tree = serde_json::from_slice::<Value>(&bytes);
        let decoded = written(&Decoding::Json, Style::Json, &bytes);
        match (&tree, &decoded) {
            (Ok(tree), Some(decoded)) => {
                decodable += 1;
                assert_eq!(
                    serde_json::from_str::<Value>(decoded).ok().as_ref(),
                    Some(tree),
                    "seed {seed}"
                );
            }
            (Err(_), None) => {}
            (Ok(_), None) if serde_json::from_slice::<Unique>(&bytes).is_err() => {}
            // Nested deeper than the daemon allows, but not deeper than the library allows.
            _ if decoded.is_none()
                && bytes
                    .windows(127)
                    .any(|part| part.iter().all(|byte| b"[{".contains(byte))) => {}
            _ => panic!("seed {seed}: {tree:?}, {decoded:?}"),
        }
    }
    assert!(500 < decodable, "{decodable}");
}

#[test]
fn cbor_is_decoded_like_ciborium() {
    let mut compared = 0;
    for seed in 0..6_000 {
        let bytes = hostile::cbor(&mut Chance::new(seed), 1 << 10);
        let mut rest = &bytes[..];
        let tree = ciborium::from_reader::<Cbor, _>(&mut rest)
            .ok()
            .filter(|_| rest.is_empty());
        let decoded = written(&Decoding::Cbor, Style::Json, &bytes);
        let Some(tree) = tree else {
            assert!(
                decoded.is_none() || is_lenient(&bytes),
                "seed {seed}: {bytes:x?} is {decoded:?}"
            );
            continue;
        };
        let Some(want) = to_json(&tree, 0) else {
            continue;
        };
        // A simple value below 32 takes one byte, but the library also accepts two.
        if decoded.is_none() && bytes.contains(&0xf8) {
            continue;
        }
        let decoded =
            decoded.unwrap_or_else(|| panic!("seed {seed}: {tree:?} of {bytes:x?} is undecodable"));
        let again = serde_json::from_str::<Value>(&decoded).ok();
        assert_eq!(again.as_ref(), Some(&want), "seed {seed}");
        let shown = written(&Decoding::Cbor, Style::Fields, &bytes).expect("decodable");
        let plain = want.to_string();
        if !plain.contains(char::is_control) && plain.is_ascii() {
            // The daemon always quotes byte-string keys.
            let unquoted = |text: &str| text.replace('"', "");
            assert_eq!(unquoted(&shown), unquoted(&fields(&want)), "seed {seed}");
        }
        compared += 1;
    }
    assert!(500 < compared, "{compared}");
}

/// Whether the daemon accepts a payload that the library refuses, since it limits the nesting of tags.
fn is_lenient(bytes: &[u8]) -> bool {
    bytes.iter().filter(|byte| **byte >> 5 == 6).count() > 100
}

/// The expected JSON; `None` where the daemon deliberately differs from a tree: widths of floats, tagged numbers, keys.
fn to_json(item: &Cbor, depth: usize) -> Option<Value> {
    if 126 < depth {
        return None;
    }
    Some(match item {
        Cbor::Integer(number) => {
            let number = i128::from(*number);
            match (u64::try_from(number), i64::try_from(number)) {
                (Ok(number), _) => number.into(),
                (_, Ok(number)) => number.into(),
                _ => number.to_string().into(),
            }
        }
        // The tree does not store the width.
        Cbor::Float(number) if f64::from(*number as f32) == *number => return None,
        Cbor::Float(number) => match number.is_finite() {
            true => (*number).into(),
            false => return None,
        },
        Cbor::Bytes(bytes) => STANDARD.encode(bytes).into(),
        Cbor::Text(text) => text.as_str().into(),
        Cbor::Bool(bool) => (*bool).into(),
        Cbor::Tag(2..=5, _) => return None,
        Cbor::Tag(_, item) => to_json(item, depth)?,
        Cbor::Array(items) => {
            let items = items.iter().map(|item| to_json(item, depth + 1));
            Value::Array(items.collect::<Option<_>>()?)
        }
        Cbor::Map(entries) => {
            let mut members = Map::new();
            let mut keys = BTreeSet::new();
            for (key, value) in entries {
                let key = match to_json(key, 200.min(depth + 1))? {
                    Value::String(key) => key,
                    // A nested key may be refused.
                    Value::Array(_) | Value::Object(_) => return None,
                    key => key.to_string(),
                };
                if !keys.insert(key.clone()) {
                    return None;
                }
                members.insert(key, to_json(value, depth + 1)?);
            }
            Value::Object(members)
        }
        _ => Value::Null,
    })
}

/// An argument of a log statement: its text in the format string, and its bytes in a frame.
type Argument = (String, Vec<u8>);

/// The format strings of a random firmware image.
#[derive(Default)]
struct Firmware {
    formats: Vec<(&'static str, String)>,
}

impl Firmware {
    fn add(&mut self, tag: &'static str, text: String) -> [u8; 2] {
        self.formats.push((tag, text));
        (self.formats.len() as u16).to_le_bytes()
    }

    /// A random format string with the bytes of its arguments.
    fn text(&mut self, chance: &mut Chance, depth: usize) -> Argument {
        let mut made = (String::new(), Vec::new());
        for _ in 0..chance.below(4) {
            made.0 += chance.of(&["", "a ", "{{x}} ", "\n", "é"]);
            let (place, bytes) = self.argument(chance, depth);
            made.0 += &place;
            made.1.extend(bytes);
        }
        made
    }

    fn argument(&mut self, chance: &mut Chance, depth: usize) -> Argument {
        let hint = chance.of(&[
            "", "", ":?", ":x", ":#010X", ":b", ":#06b", ":o", ":#o", ":a", ":05", ":us", ":ms",
            ":tms", ":tus", ":ts", ":unknown",
        ]);
        let mut number = |len: usize| chance.number().to_le_bytes().repeat(2)[..len].to_vec();
        let len = 1_usize << ((hint.len() + depth) % 5);
        let word = number(4);
        let (ty, bytes) = match chance.below(if depth < 4 { 18 } else { 13 }) {
            0 => (
                [("u8"), ("u16"), ("u32"), ("u64"), ("u128")][len.ilog2() as usize].to_owned(),
                chance_bytes(chance, len),
            ),
            1 => (
                [("i8"), ("i16"), ("i32"), ("i64"), ("i128")][len.ilog2() as usize].to_owned(),
                chance_bytes(chance, len),
            ),
            2 => ("bool".to_owned(), vec![(chance.below(2)) as u8]),
            3 => ("f32".to_owned(), word),
            4 => ("f64".to_owned(), chance_bytes(chance, 8)),
            5 => ("char".to_owned(), vec![chance.below(0x80) as u8, 0, 0, 0]),
            6 => (
                "str".to_owned(),
                sized(chance.of(&["", "text", "\u{1b}\"é\n"]).into()),
            ),
            7 => ("[u8]".to_owned(), sized(chance_bytes(chance, len))),
            8 => (format!("[u8; {len}]"), chance_bytes(chance, len)),
            9 => ("__internal_Debug".to_owned(), b"Some(\"x\")\xff".to_vec()),
            10 => {
                let name = format!("interned {}", self.formats.len());
                ("istr".to_owned(), self.add("str", name).to_vec())
            }
            11 => (
                chance
                    .of(&["0..3", "5..12", "8..70", "0..128", "120..128"])
                    .to_owned(),
                vec![],
            ),
            12 => ("isize".to_owned(), chance_bytes(chance, 4)),
            13 | 14 => {
                let (text, bytes) = self.text(chance, depth + 1);
                (
                    "?".to_owned(),
                    [&self.add("derived", text)[..], &bytes].concat(),
                )
            }
            15 => {
                let (text, bytes) = self.text(chance, depth + 1);
                let index = self.add("derived", format!("A|B {text}|C({{=u8}})"));
                ("?".to_owned(), [&index[..], &[1], &bytes].concat())
            }
            16 => {
                let index = self.add(
                    "prim",
                    chance.of(&["{=u8}", "<{=u8:x}>", "{=u8:?}"]).to_owned(),
                );
                let elements = chance_bytes(chance, len);
                match chance.below(2) {
                    0 => (
                        "[?]".to_owned(),
                        [&(len as u32).to_le_bytes()[..], &index, &elements].concat(),
                    ),
                    _ => (format!("[?; {len}]"), [&index[..], &elements].concat()),
                }
            }
            _ => {
                let mut bytes = Vec::new();
                for _ in 0..chance.below(3) {
                    let (text, arguments) = self.text(chance, depth + 1);
                    bytes.extend(self.add("write", text));
                    bytes.extend(arguments);
                }
                (
                    "__internal_FormatSequence".to_owned(),
                    [bytes, vec![0, 0]].concat(),
                )
            }
        };
        let bytes = match ty.split_once("..") {
            Some((start, end)) => {
                let (start, end): (usize, usize) = (start.parse().unwrap(), end.parse().unwrap());
                let len = ((end - 1) / 8 - start / 8 + 1).next_power_of_two();
                chance_bytes(chance, len)
            }
            None => bytes,
        };
        (format!("{{={ty}{hint}}}"), bytes)
    }
}

fn chance_bytes(chance: &mut Chance, len: usize) -> Vec<u8> {
    (0..len).map(|_| chance.number() as u8).collect()
}

fn sized(bytes: Vec<u8>) -> Vec<u8> {
    [&(bytes.len() as u32).to_le_bytes()[..], &bytes].concat()
}

/// Timestamp and message of a frame, or the reason why it is undecodable.
fn shown(decoder: &Decoder, frame: &[u8]) -> Result<(String, String), String> {
    let log = match decoder.read(frame) {
        Ok(Meaning::Log(log)) => log,
        Ok(other) => panic!("{other:?}"),
        Err(undecodable) => return Err(undecodable.reason),
    };
    let (mut time, mut message) = (String::new(), String::new());
    let written = log
        .write_time(&mut time)
        .and_then(|()| log.write_message(&mut message));
    match written {
        Ok(()) => Ok((time, message)),
        Err(DecodeError::TooLong) => panic!("a string is never full"),
        Err(DecodeError::Invalid(reason)) => Err(reason),
        Err(DecodeError::Repeated) => panic!("its formats are known"),
    }
}

#[test]
fn a_log_is_decoded_like_the_defmt_library() {
    let folder = tempfile::tempdir().unwrap();
    let mut compared = 0;
    for seed in 0..60 {
        let mut chance = Chance::new(seed);
        let mut firmware = Firmware::default();
        firmware.add(
            "timestamp",
            chance.of(&["{=u64:us}", "{=u64:tms}", "{=u64}"]).to_owned(),
        );
        let mut frames = Vec::new();
        for _ in 0..40 {
            let (text, bytes) = firmware.text(&mut chance, 0);
            let index = firmware.add(chance.of(&["info", "error", "println"]), text);
            let time = (chance.number() >> chance.below(64)).to_le_bytes();
            frames.push([&index[..], &time, &bytes].concat());
        }
        // Arguments shown out of order, twice, or as bit fields.
        let mixed = [
            "{1=u8:x}{0=u16}{1=u8}",
            "{0=0..4} {0=4..8:b} {1=?} {0=2..7:?}",
            "{2=str}{1=[u8]:a}{0=bool}",
        ];
        let prim = firmware.add("prim", "{=u8}".to_owned());
        for (text, bytes) in mixed.iter().zip([
            vec![1, 2, 3],
            [&[0xa5][..], &prim, &[9]].concat(),
            b"\x01\x02\0\0\0\x07z\x01\0\0\0y".to_vec(),
        ]) {
            let index = firmware.add("debug", (*text).to_owned());
            frames.push([&index[..], &[0; 8], &bytes].concat());
        }
        let formats: Vec<_> = firmware
            .formats
            .iter()
            .map(|(tag, text)| (*tag, &**text))
            .collect();
        let is_encoded = seed % 2 == 1;
        let file = Image {
            formats: &formats,
            encoding: if is_encoded { "rzcobs" } else { "raw" },
            build: Some(BUILD),
        };
        let file = file.elf();
        let path = folder.path().join(format!("{seed}.elf"));
        std::fs::write(&path, &file).unwrap();
        let table = defmt_decoder::Table::parse(&file)
            .unwrap()
            .expect("formats");
        let decoding: Decoding = format!("defmt:{}", path.display())
            .parse()
            .expect("formats");
        let decoder = Decoder::new(decoding);
        let mut stream = table.new_stream_decoder();
        for frame in frames {
            let sent = if is_encoded {
                rzcobs(&frame)
            } else {
                frame.clone()
            };
            stream.received(&sent);
            let want = stream.decode().unwrap_or_else(|error| {
                panic!(
                    "seed {seed}: {error}: {frame:x?} of {:#?}",
                    firmware.formats
                )
            });
            // The library panics at some display hints.
            let want = std::panic::catch_unwind(|| {
                let time = want.display_timestamp().expect("a time").to_string();
                (time, want.display_message().to_string())
            });
            let decoded =
                shown(&decoder, &sent).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            if let Ok(want) = want {
                assert_eq!(decoded, want, "seed {seed}: {frame:x?}");
                compared += 1;
            }
            if is_encoded {
                let separated = [&[0, 0][..], &sent, &[0]].concat();
                for same in [&sent[..sent.len() - 1], &separated] {
                    assert_eq!(shown(&decoder, same).as_ref(), Ok(&decoded));
                }
                let two = [&sent[..], &sent].concat();
                assert!(shown(&decoder, &two).is_err());
                continue;
            }
            for end in 0..frame.len() {
                assert!(
                    shown(&decoder, &frame[..end]).is_err(),
                    "seed {seed}: {end} of {frame:x?}"
                );
            }
            assert!(shown(&decoder, &[&frame[..], &[0]].concat()).is_err());
        }
    }
    assert!(2_000 < compared, "{compared}");
}

#[test]
fn flags_are_shown_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("flags.elf");
    let formats = [
        ("timestamp", "{=u64:us}"),
        ("bitflags_value", "Flags::0::ONE"),
        (
            "info",
            "{=u8:__internal_bitflags_Flags@p@0@c} {=u8:__internal_bitflags_Other@p@0@c}",
        ),
    ];
    std::fs::write(&path, elf(&formats)).unwrap();
    let decoding: Decoding = format!("defmt:{}", path.display())
        .parse()
        .expect("formats");
    let decoded = shown(&Decoder::new(decoding), b"\x03\0\0\0\0\0\0\0\0\0\0\x07");
    // The section is zeroed, so the flag has the value 0 and is set in the number 0.
    assert_eq!(decoded.unwrap().1, "ONE 7");
}

#[test]
fn a_damaged_elf_file_is_refused_or_read_without_a_panic() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("damaged.elf");
    let good = elf(hostile::FORMATS);
    let (mut read, mut refused) = (0, 0);
    for seed in 0..2_000 {
        let mut chance = Chance::new(seed);
        let mut file = good.clone();
        for _ in 0..=chance.below(4) {
            let at = chance.below(file.len());
            file[at] = chance.number() as u8;
        }
        if chance.below(4) == 0 {
            file.truncate(chance.below(file.len()));
        }
        std::fs::write(&path, &file).unwrap();
        match format!("defmt:{}", path.display()).parse::<Decoding>() {
            Ok(decoding) => {
                let frame = hostile::defmt(&mut chance, 1 << 8);
                drop(shown(&Decoder::new(decoding), &frame));
                read += 1;
            }
            Err(_) => refused += 1,
        }
        // In a directory it is ignored, or found by its build id.
        let decoding = format!("defmt:{}", folder.path().display());
        let decoder = Decoder::new(decoding.parse().expect("a directory"));
        for message in [BUILD.to_vec(), hostile::defmt(&mut chance, 1 << 8)] {
            drop(decoder.read(&message));
        }
    }
    assert!(
        100 < read && 100 < refused,
        "{read} read, {refused} refused"
    );
}
