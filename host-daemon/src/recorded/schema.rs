//! JSON Schemas for the channels of devices that send JSON or CBOR: [`Schemas`] learns them from a few messages.
//!
//! A recording does not check messages, so a schema describes what was seen when the channel was created. It stays
//! permissive: no property is required, more are allowed, and a property that was seen with several types is not
//! listed. For CBOR it describes the JSON that decoding gives.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::payload::{Decoder, Decoding, Meaning, Shape, ShapeLimits, text_max};
use blocksd_engine::batch::{Batch, Item};
use blocksd_engine::event::ConnectionInfo;
use blocksd_recording::SchemaSpec;

/// Number of first messages of a device that are read. After these, each message whose number is a power of two.
const FIRST: u64 = 8;
/// Maximum length of a message that is read, in bytes.
const LEN_MAX: usize = 16 << 10;
/// Bounds of the schema of one device.
const LIMITS: ShapeLimits = ShapeLimits {
    values: 128,
    depth: 6,
    name_len: 64,
};
/// Bound of the schemas of all devices, in values: about 20 MiB.
const VALUES_MAX: usize = 100_000;
/// The name of a schema begins with this. A digest of the schema follows, so schemas with one name are equal.
const NAME: &str = "blocksd.Message";

/// The schemas of devices.
#[derive(Debug, Default)]
pub struct Schemas {
    devices: HashMap<Arc<str>, Learner>,
    /// Values in all shapes.
    values: usize,
    json: String,
}

#[derive(Debug)]
struct Learner {
    shape: Shape,
    /// Number of messages so far.
    seen: u64,
}

impl Schemas {
    /// Learns from a batch. Returns whether a message contradicts the schema of the device, so that its next message
    /// needs another channel.
    pub fn learn(&mut self, source: &ConnectionInfo, batch: &Batch) -> bool {
        if !is_described(source) {
            return false;
        }
        let learner = match self.devices.get_mut(&source.device) {
            Some(learner) => learner,
            None => {
                let shape = Shape::new(LIMITS);
                let learner = Learner { shape, seen: 0 };
                self.devices
                    .entry(Arc::clone(&source.device))
                    .or_insert(learner)
            }
        };
        let (first, end) = (learner.seen, learner.seen + batch.messages().0);
        learner.seen = end;
        let Some(mut wanted) = next_read(first).filter(|wanted| *wanted < end) else {
            return false;
        };
        let decoder = Decoder::new(Decoding::of(&source.encoding));
        let messages = batch.items().filter_map(|item| match item {
            Item::Message(bytes) => Some(bytes),
            _ => None,
        });
        let mut contradicts = false;
        for (number, bytes) in (first..).zip(messages) {
            if number != wanted {
                continue;
            }
            let len = learner.shape.len();
            if bytes.len() <= LEN_MAX && decode(&decoder, bytes, &mut self.json) {
                learner.shape.allow(VALUES_MAX.saturating_sub(self.values));
                contradicts |= learner.shape.learn(self.json.as_bytes());
                self.values += learner.shape.len() - len;
            }
            match next_read(number + 1).filter(|next| *next < end) {
                Some(next) => wanted = next,
                None => break,
            }
        }
        contradicts
    }

    /// The schema of a device's channel, if its messages are JSON or CBOR.
    #[must_use]
    pub fn of(&self, source: &ConnectionInfo) -> Option<SchemaSpec> {
        if !is_described(source) {
            return None;
        }
        let shape = self.devices.get(&source.device).map(|it| it.shape.schema());
        let schema = shape.unwrap_or_else(|| Shape::new(LIMITS).schema());
        Some(SchemaSpec {
            name: format!("{NAME}.{:08x}", crc32fast::hash(schema.as_bytes())),
            encoding: "jsonschema".to_owned(),
            data: schema.into_bytes(),
        })
    }

    /// Forgets the devices for which `is_kept` is false.
    pub fn retain(&mut self, mut is_kept: impl FnMut(&Arc<str>) -> bool) {
        self.devices.retain(|device, _| is_kept(device));
        self.values = self.devices.values().map(|it| it.shape.len()).sum();
    }
}

/// Whether the messages of a connection have a schema.
fn is_described(source: &ConnectionInfo) -> bool {
    matches!(source.encoding.name, "json" | "cbor" | "msgpack")
}

/// The number of the first message to read, from `number` on. Numbers begin at 0.
fn next_read(number: u64) -> Option<u64> {
    match number < FIRST {
        true => Some(number),
        false => Some(number.checked_add(1)?.checked_next_power_of_two()? - 1),
    }
}

/// Decodes a message to JSON. Returns whether it is valid.
fn decode(decoder: &Decoder, bytes: &[u8], json: &mut String) -> bool {
    json.clear();
    // A panic of a library that parses payloads must not stop the recording.
    let decoded = catch_unwind(AssertUnwindSafe(|| match decoder.read(bytes) {
        Ok(Meaning::Value(value)) => value.write_json(text_max(bytes.len()), json).is_ok(),
        _ => false,
    }));
    decoded.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use framing_core::{AnyFraming, Blocks};

    use super::*;
    use blocksd_engine::event::Encoding;
    use blocksd_engine::pool::Span;

    fn source(device: &str, encoding: &'static str) -> ConnectionInfo {
        ConnectionInfo {
            conn: 1,
            device: device.into(),
            framing: AnyFraming::Blocks(Blocks),
            encoding: Encoding::new(encoding),
            first_seq: 0,
            session: None,
            certificate: None,
            stats: None,
        }
    }

    fn batch<'a>(messages: impl IntoIterator<Item = &'a [u8]>) -> Batch {
        let (mut bytes, mut spans) = (Vec::new(), Vec::new());
        for message in messages {
            let start = bytes.len();
            bytes.extend_from_slice(message);
            spans.push(Span::new(start, bytes.len()));
        }
        Batch::of_messages(bytes, spans)
    }

    fn text(schemas: &Schemas, source: &ConnectionInfo) -> String {
        String::from_utf8(schemas.of(source).expect("a schema").data).expect("text")
    }

    #[test]
    fn structured_values_are_described_and_nothing_else() {
        let mut schemas = Schemas::default();
        let object = r#"{"type":"object"}"#;
        let temp = r#"{"type":"object","properties":{"temp":{"type":"number"}}}"#;
        let messages: [(_, &[u8]); 3] = [
            ("json", b"{\"temp\":21}"),
            ("cbor", b"\xa1\x64temp\x15"),
            ("msgpack", b"\x81\xa4temp\x15"),
        ];
        for (encoding, message) in messages {
            let source = source(encoding, encoding);
            assert_eq!(text(&schemas, &source), object);
            assert!(!schemas.learn(&source, &batch([message])));
            assert_eq!(text(&schemas, &source), temp);
        }
        for encoding in ["raw", "text", "kv", "defmt"] {
            let source = source(encoding, encoding);
            assert!(!schemas.learn(&source, &batch([&b"{}"[..]])));
            assert_eq!(schemas.of(&source), None);
        }
        assert_eq!(schemas.devices.len(), 3);
    }

    #[test]
    fn equal_schemas_have_equal_names_and_others_do_not() {
        let mut schemas = Schemas::default();
        let devices = ["a", "b", "c"].map(|device| source(device, "json"));
        for (device, json) in devices
            .iter()
            .zip(["{\"x\":1}", "{\"x\":2.5}", "{\"y\":1}"])
        {
            schemas.learn(device, &batch([json.as_bytes()]));
        }
        let [a, b, c] = devices.map(|device| schemas.of(&device).expect("a schema"));
        assert_eq!(a, b);
        assert_ne!(a.name, c.name);
    }

    #[test]
    fn the_first_messages_are_read_and_then_those_at_powers_of_two() {
        let read: Vec<_> = (1..=5_000_u64)
            .filter(|it| next_read(it - 1) == Some(it - 1))
            .collect();
        let powers = (4..13).map(|power| 1 << power);
        assert_eq!(read, (1..=8).chain(powers).collect::<Vec<_>>());
        assert_eq!(next_read(u64::MAX), None);
        // However the messages are split into batches.
        for len in [1, 3, 7, 64, 5_000] {
            let mut schemas = Schemas::default();
            let device = source("d", "json");
            let messages: Vec<_> = (1..=5_000).map(|it| format!("{{\"p{it}\":1}}")).collect();
            for part in messages.chunks(len) {
                schemas.learn(&device, &batch(part.iter().map(String::as_bytes)));
            }
            let schema: serde_json::Value =
                serde_json::from_str(&text(&schemas, &device)).expect("JSON");
            let names = schema["properties"].as_object().expect("an object").keys();
            let mut names: Vec<u64> = names.filter_map(|it| it[1..].parse().ok()).collect();
            names.sort_unstable();
            assert_eq!(names, read, "batches of {len}");
        }
    }

    #[test]
    fn a_contradiction_asks_for_another_channel() {
        let mut schemas = Schemas::default();
        let device = source("d", "json");
        let learn =
            |schemas: &mut Schemas, json: &str| schemas.learn(&device, &batch([json.as_bytes()]));
        assert!(!learn(&mut schemas, "{\"a\":1}"));
        assert!(!learn(&mut schemas, "{\"a\":2,\"b\":true}"));
        assert!(learn(&mut schemas, "{\"a\":null}"));
        assert!(!learn(&mut schemas, "not JSON"));
        let want = r#"{"type":"object","properties":{"b":{"type":"boolean"}}}"#;
        assert_eq!(text(&schemas, &device), want);
        assert!(learn(&mut schemas, "[]"));
        assert_eq!(text(&schemas, &device), "{}");
    }

    #[test]
    fn hostile_devices_stay_within_the_bounds() {
        let mut schemas = Schemas::default();
        let hostile = |at: usize| {
            let members = (0..200).map(|it| format!("\"{at}-{it}\":{{\"x\":[1]}}"));
            format!("{{{}}}", members.collect::<Vec<_>>().join(","))
        };
        for at in 0..2_000 {
            let device = source(&format!("device {at}"), "json");
            schemas.learn(&device, &batch([hostile(at).as_bytes()]));
            let shape = &schemas.devices[&device.device].shape;
            assert!(shape.len() <= LIMITS.values, "{}", shape.len());
        }
        // One value for each device, its root, is not optional.
        assert!(schemas.values <= VALUES_MAX + 2_000, "{}", schemas.values);
        // A type that was claimed still widens.
        let first = source("device 0", "json");
        assert!(schemas.learn(&first, &batch([&b"{\"0-0\":7}"[..]])));
        schemas.retain(|device| &**device == "device 0");
        assert!(schemas.values <= LIMITS.values && schemas.devices.len() == 1);
        // Messages that are long, deep, or not valid.
        let device = source("other", "json");
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(LEN_MAX));
        let deep = "[".repeat(10_000);
        for json in [long.as_bytes(), deep.as_bytes(), b"\xff", b""] {
            schemas.learn(&device, &batch([json]));
        }
        assert_eq!(text(&schemas, &device), r#"{"type":"object"}"#);
        let doubling = [&[0xa1; 40][..], &[1], &[0; 40][..]].concat();
        schemas.learn(&source("other", "cbor"), &batch([&doubling[..]]));
    }
}
