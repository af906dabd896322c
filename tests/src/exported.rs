//! Recordings for `blocksd export` ([`DecodableFile`]), and the MCAP files that it writes ([`exported`]).

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use mcap::MessageStream;
use serde_json::{Value, json};

use crate::recording::{BEGIN, File, STEP, put};

/// A recording of one file with messages that can be decoded.
#[derive(Debug)]
pub struct DecodableFile {
    /// The file.
    pub file: File,
    /// The time of the next message.
    pub time: u64,
    sequences: BTreeMap<String, u32>,
}

/// A message of an exported MCAP file.
#[derive(Debug)]
pub struct Exported {
    /// Topic of its channel.
    pub topic: String,
    /// Name of its schema.
    pub schema: String,
    /// Sequence number.
    pub sequence: u32,
    /// Time, in nanoseconds since 1970.
    pub time: u64,
    /// Its JSON.
    pub object: Value,
}

impl DecodableFile {
    /// Begins with a header.
    pub fn begin() -> Self {
        Self {
            file: File::begin(None, false),
            time: BEGIN,
            sequences: BTreeMap::new(),
        }
    }

    /// Adds a message of a device, received 10 ms after the one before it.
    pub fn add(&mut self, device: &str, decode: &str, data: impl AsRef<[u8]>) {
        let sequence = self.sequences.entry(device.to_owned()).or_default();
        let kind = ("blocks", decode);
        self.file
            .message(device, "blocks", kind, *sequence, self.time, data.as_ref());
        *sequence += 1;
        self.time += STEP;
    }

    /// Adds the open of a connection.
    pub fn open(&mut self, device: &str, conn: u64) {
        let open = json!({"event": "open", "conn": conn, "device": device, "time": "2026-01-01T00:00:00Z", "peer": "p"});
        self.file.event(self.time, &open.to_string());
    }

    /// Writes the file into a folder.
    pub fn seal(self, folder: &Path) {
        put(folder, 1, "mcap", &self.file.seal());
    }
}

/// The messages of an exported MCAP file. Asserts that each is valid by its schema as far as types of members go, and
/// that Foxglove, Lichtblick and PlotJuggler would accept the schema and the topic.
///
/// # Panics
/// If one is not.
#[track_caller]
pub fn exported(path: &Path) -> Vec<Exported> {
    let bytes = fs::read(path).unwrap();
    let messages = MessageStream::new(&bytes).unwrap().map(|message| {
        let message = message.unwrap();
        let channel = &message.channel;
        assert_eq!(channel.message_encoding, "json");
        assert_eq!(message.log_time, message.publish_time);
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_/-".contains(&byte);
        assert!(
            channel.topic.bytes().all(plain),
            "{} needs quotes in a message path",
            channel.topic
        );
        let schema = channel
            .schema
            .as_ref()
            .expect("PlotJuggler skips channels without a schema");
        assert_eq!(schema.encoding, "jsonschema");
        let object: Value = serde_json::from_slice(&message.data).unwrap();
        let described: Value = serde_json::from_slice(&schema.data).unwrap();
        assert_accepted(&described);
        assert_valid(&object, &described);
        Exported {
            topic: channel.topic.clone(),
            schema: schema.name.clone(),
            sequence: message.sequence,
            time: message.log_time,
            object,
        }
    });
    messages.collect()
}

/// Asserts that Lichtblick's parser of schemas would accept this one: every object has the type `object`, every property
/// one type, and items of arrays are not arrays.
fn assert_accepted(schema: &Value) {
    assert_eq!(schema["type"], "object", "{schema}");
    let properties = schema["properties"].as_object();
    for (name, property) in properties.into_iter().flatten() {
        if let Some(values) = property["oneOf"].as_array() {
            assert!(
                values.iter().all(|it| it["const"].is_number()),
                "{name}: {property}"
            );
            continue;
        }
        let mut described = property;
        if described["type"] == "array" {
            described = &described["items"];
            assert_ne!(described["type"], "array", "{name}: {property}");
        }
        match described["type"].as_str() {
            Some("boolean" | "string" | "number" | "integer") => {}
            Some("object") => assert_accepted(described),
            _ => panic!("{name}: {property}"),
        }
    }
}

/// Asserts that a value has the types that a schema claims.
fn assert_valid(value: &Value, schema: &Value) {
    let Some(claimed) = schema["type"].as_str() else {
        return;
    };
    let is_valid = match claimed {
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "number" | "integer" => value.is_number(),
        "array" => value.is_array(),
        _ => value.is_object(),
    };
    assert!(is_valid, "{value} is not {schema}");
    for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
        if let Some(value) = value.get(name) {
            assert_valid(value, schema);
        }
    }
    for value in value.as_array().into_iter().flatten() {
        assert_valid(value, &schema["items"]);
    }
}
