//! CBOR (RFC 8949) as the JSON value that says the same.

use ciborium::Value as Cbor;
use serde_json::{Map, Number, Value};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Reads one item, which must be all of the block.
pub(super) fn read(bytes: &[u8]) -> Result<Value, String> {
    let mut rest = bytes;
    let item: Cbor = ciborium::from_reader(&mut rest).map_err(|error| error.to_string())?;
    if rest.is_empty() {
        Ok(to_json(&item))
    } else {
        Err(format!("{} bytes behind it", rest.len()))
    }
}

/// Byte strings become base64, keys become text, tags are dropped; a number that JSON lacks becomes text.
fn to_json(item: &Cbor) -> Value {
    match item {
        Cbor::Integer(number) => {
            let number = i128::from(*number);
            match (u64::try_from(number), i64::try_from(number)) {
                (Ok(number), _) => number.into(),
                (_, Ok(number)) => number.into(),
                _ => number.to_string().into(),
            }
        }
        Cbor::Float(number) => {
            Number::from_f64(*number).map_or_else(|| number.to_string().into(), Value::Number)
        }
        Cbor::Bytes(bytes) => STANDARD.encode(bytes).into(),
        Cbor::Text(text) => text.as_str().into(),
        Cbor::Bool(bool) => (*bool).into(),
        Cbor::Tag(_, item) => to_json(item),
        Cbor::Array(items) => items.iter().map(to_json).collect(),
        Cbor::Map(fields) => {
            let fields = fields
                .iter()
                .map(|(key, value)| (key_of(key), to_json(value)));
            Value::Object(fields.collect::<Map<_, _>>())
        }
        // Null, and what a later version of the crate may know.
        _ => Value::Null,
    }
}

fn key_of(key: &Cbor) -> String {
    match to_json(key) {
        Value::String(key) => key,
        key => key.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_kind_of_item_has_its_value() {
        // {"a": 1, "b": [-2, 1.5, true, null], 3: h'ff', "t": 1(0)}
        let bytes = b"\xa4\x61a\x01\x61b\x84\x21\xf9\x3e\x00\xf5\xf6\x03\x41\xff\x61t\xc1\x00";
        let want = json!({"a": 1, "b": [-2, 1.5, true, null], "3": "/w==", "t": 0});
        assert_eq!(read(bytes), Ok(want));
        assert_eq!(
            read(b"\x1b\xff\xff\xff\xff\xff\xff\xff\xff"),
            Ok(json!(u64::MAX))
        );
        assert_eq!(read(b"\xf9\x7e\x00"), Ok(json!("NaN")));
    }

    #[test]
    fn cut_and_trailing_bytes_are_refused_and_a_great_length_takes_no_memory() {
        assert!(read(b"\xa1\x61").is_err());
        assert_eq!(read(b"\x01\x02"), Err("1 bytes behind it".into()));
        assert!(read(b"\x5b\x00\x00\x00\xff\xff\xff\xff\xff").is_err());
        assert!(read(b"\x9b\x00\x00\x00\xff\xff\xff\xff\xff").is_err());
        assert!(read(&[0x81; 100_000]).is_err());
    }
}
