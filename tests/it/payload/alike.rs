//! Valid payloads: the decoders agree with libraries that build trees (serde_json, ciborium, rmpv).

use std::collections::{BTreeSet, HashSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use blocksd::payload::{Decoder, Decoding, Meaning, Style};
use blocksd_tests::hostile::{self, Chance};
use ciborium::Value as Cbor;
use rmpv::ValueRef;
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

#[test]
fn messagepack_is_decoded_like_rmpv() {
    let mut compared = 0;
    for seed in 0..6_000 {
        let bytes = hostile::msgpack(&mut Chance::new(seed), 1 << 10);
        let mut rest = &bytes[..];
        // The library counts each level twice. Its default of 1024 overflows the stack of a test.
        let tree = rmpv::decode::read_value_ref_with_max_depth(&mut rest, 300)
            .ok()
            .filter(|_| rest.is_empty());
        let decoded = written(&Decoding::MsgPack, Style::Json, &bytes);
        let Some(tree) = tree else {
            assert_eq!(decoded, None, "seed {seed}: {bytes:x?}");
            continue;
        };
        let Some(want) = packed_to_json(&tree, 0) else {
            continue;
        };
        // The library takes the byte c1, which is not used, as nil.
        if decoded.is_none() && bytes.contains(&0xc1) {
            continue;
        }
        let decoded =
            decoded.unwrap_or_else(|| panic!("seed {seed}: {tree:?} of {bytes:x?} is undecodable"));
        let again = serde_json::from_str::<Value>(&decoded).ok();
        assert_eq!(again.as_ref(), Some(&want), "seed {seed}");
        compared += 1;
    }
    assert!(500 < compared, "{compared}");
}

/// The expected JSON; `None` where the daemon deliberately refuses, or differs from a tree: floats of 32 bits.
fn packed_to_json(value: &ValueRef<'_>, depth: usize) -> Option<Value> {
    if 126 < depth {
        return None;
    }
    Some(match value {
        ValueRef::Nil => Value::Null,
        ValueRef::Boolean(value) => (*value).into(),
        ValueRef::Integer(number) => match (number.as_u64(), number.as_i64()) {
            (Some(number), _) => number.into(),
            (_, number) => number?.into(),
        },
        ValueRef::F32(_) => return None,
        ValueRef::F64(number) => match number.is_finite() {
            true => (*number).into(),
            false => return None,
        },
        ValueRef::String(text) => text.as_str()?.into(),
        ValueRef::Binary(bytes) => STANDARD.encode(bytes).into(),
        ValueRef::Ext(-1, _) => return None,
        ValueRef::Ext(kind, bytes) => serde_json::json!([kind, STANDARD.encode(bytes)]),
        ValueRef::Array(items) => {
            let items = items.iter().map(|item| packed_to_json(item, depth + 1));
            Value::Array(items.collect::<Option<_>>()?)
        }
        ValueRef::Map(entries) => {
            let mut members = Map::new();
            for (key, value) in entries {
                let key = match (key, packed_to_json(key, depth + 1)?) {
                    (_, Value::String(key)) => key,
                    // A nested key may be refused.
                    (ValueRef::Array(_) | ValueRef::Map(_), _) => return None,
                    (_, key) => key.to_string(),
                };
                let value = packed_to_json(value, depth + 1)?;
                if members.insert(key, value).is_some() {
                    return None;
                }
            }
            Value::Object(members)
        }
    })
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
