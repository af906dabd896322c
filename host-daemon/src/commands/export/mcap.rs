//! Exports to an MCAP file of JSON messages, with a schema for each topic: [`McapTarget`].

use std::collections::{BTreeMap, HashMap};
use std::fs::Permissions;
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::mcap::records::MessageHeader;
use ::mcap::{McapError, WriteOptions, Writer};
use json_event_parser::{JsonEvent, SliceJsonParser};
use tempfile::NamedTempFile;

use crate::commands::export::target::{Decoded, ExportedTo, Target};
use crate::commands::export::topic;
use crate::error::CommandError;
use crate::escape::json::inside_of_string;
use crate::fields::{DecodedKind, Dialect};
use crate::payload::{Shape, ShapeLimits};
use blocksd_recording::catalog;
use blocksd_recording::parent;
use blocksd_recording::topic::EVENTS_TOPIC;

/// Bounds of the schema of one topic.
const LIMITS: ShapeLimits = ShapeLimits {
    values: 4096,
    depth: 16,
    name_len: 256,
};
/// Bound of all schemas, in values: about 100 MiB.
const VALUES_MAX: usize = 500_000;

/// The schema of logs, as Foxglove publishes it, with two more members.
const LOG_SCHEMA: &str = r#"{"title":"foxglove.Log","type":"object","properties":{"timestamp":{"type":"object","title":"time","properties":{"sec":{"type":"integer","minimum":0},"nsec":{"type":"integer","minimum":0,"maximum":999999999}}},"level":{"title":"foxglove.LogLevel","oneOf":[{"title":"UNKNOWN","const":0},{"title":"DEBUG","const":1},{"title":"INFO","const":2},{"title":"WARNING","const":3},{"title":"ERROR","const":4},{"title":"FATAL","const":5}]},"message":{"type":"string"},"name":{"type":"string"},"file":{"type":"string"},"line":{"type":"integer","minimum":0},"device_time":{"type":"string"},"_conn":{"type":"integer"},"_seq":{"type":"integer"}},"required":["timestamp","level","message","name","file","line"]}"#;
const LOG_SCHEMA_NAME: &str = "foxglove.Log";

/// Most channels of a file: their numbers have 16 bits.
const CHANNELS_MAX: usize = u16::MAX as usize - 1;

/// An MCAP file that is written beside its path, and renamed to it at the end.
pub(super) struct McapTarget {
    path: PathBuf,
    /// The recordings that are exported.
    from: Vec<PathBuf>,
    force: bool,
    dialect: Dialect,
    topics: HashMap<(DecodedKind, Arc<str>), Topic>,
    /// Values in all schemas.
    values: usize,
    writer: Option<Writer<BufWriter<NamedTempFile>>>,
    object: String,
}

struct Topic {
    shape: Shape,
    channel: u16,
}

impl McapTarget {
    /// Exports the recordings `from` to this file.
    pub(super) fn new(path: PathBuf, from: Vec<PathBuf>, force: bool, dialect: Dialect) -> Self {
        Self {
            path,
            from,
            force,
            dialect,
            topics: HashMap::new(),
            values: 0,
            writer: None,
            object: String::new(),
        }
    }

    fn failure(&self, error: McapError) -> CommandError {
        let error = match error {
            McapError::Io(error) => error,
            error => io::Error::other(error),
        };
        let path = self.path.clone();
        CommandError::Write { path, error }
    }

    fn channels(&mut self, writer: &mut Writer<BufWriter<NamedTempFile>>) -> Result<(), McapError> {
        let count = self.topics.len();
        if CHANNELS_MAX < count {
            let too_many = format!(
                "an MCAP file has at most {CHANNELS_MAX} channels, and this one needs {count}; export fewer devices (`--device`), or to \
                 CSV or Parquet"
            );
            return Err(McapError::Io(io::Error::other(too_many)));
        }
        let mut topics: Vec<_> = self.topics.iter_mut().collect();
        topics.sort_unstable_by_key(|(key, _)| (key.0, Arc::clone(&key.1)));
        for ((kind, device), topic) in topics {
            let name = topic::name(device);
            let (path, schema_name) = match kind {
                DecodedKind::Message => {
                    (format!("/device_{name}"), format!("blocksd.device_{name}"))
                }
                DecodedKind::Log => (format!("/device_{name}/log"), format!("blocksd.log_{name}")),
                DecodedKind::Event => (EVENTS_TOPIC.to_owned(), "blocksd.Event".to_owned()),
            };
            let is_log = *kind == DecodedKind::Log && self.dialect == Dialect::Foxglove;
            let schema = match is_log {
                true => writer.add_schema(LOG_SCHEMA_NAME, "jsonschema", LOG_SCHEMA.as_bytes())?,
                false => {
                    let schema = topic.shape.schema();
                    writer.add_schema(&schema_name, "jsonschema", schema.as_bytes())?
                }
            };
            let mut metadata = BTreeMap::new();
            if *kind != DecodedKind::Event {
                metadata.insert("device".to_owned(), device.to_string());
            }
            topic.channel = writer.add_channel(schema, &path, "json", &metadata)?;
        }
        Ok(())
    }
}

impl Target for McapTarget {
    fn dialect(&self) -> Dialect {
        self.dialect
    }

    fn survey(&mut self, decoded: &Decoded<'_>) {
        put_object(decoded, self.dialect, &mut self.object);
        let topic = self
            .topics
            .entry((decoded.kind, Arc::clone(decoded.device)));
        let topic = topic.or_insert_with(|| Topic {
            shape: Shape::new(LIMITS),
            channel: 0,
        });
        let len = topic.shape.len();
        topic.shape.allow(VALUES_MAX.saturating_sub(self.values));
        topic.shape.learn(self.object.as_bytes());
        self.values += topic.shape.len() - len;
    }

    fn begin(&mut self) -> Result<(), CommandError> {
        check_apart(&self.path, &self.from)?;
        check_new(&self.path, self.force)?;
        let mode = Permissions::from_mode(0o666);
        let mut file = tempfile::Builder::new();
        let file = file.prefix(".blocksd-export-").permissions(mode);
        let file = file.tempfile_in(parent(&self.path)).map_err(McapError::Io);
        let options = WriteOptions::new().library(concat!("blocksd ", env!("CARGO_PKG_VERSION")));
        let writer = file.and_then(|file| options.create(BufWriter::new(file)));
        let mut writer = writer.map_err(|error| self.failure(error))?;
        let defined = self.channels(&mut writer);
        defined.map_err(|error| self.failure(error))?;
        self.writer = Some(writer);
        Ok(())
    }

    fn write(&mut self, decoded: &Decoded<'_>) -> Result<(), CommandError> {
        let topic = self.topics.get(&(decoded.kind, Arc::clone(decoded.device)));
        let (Some(writer), Some(topic)) = (&mut self.writer, topic) else {
            return Ok(());
        };
        put_object(decoded, self.dialect, &mut self.object);
        let header = MessageHeader {
            channel_id: topic.channel,
            // Sequence numbers of the format have 32 bits.
            sequence: decoded.seq as u32,
            log_time: decoded.time,
            publish_time: decoded.time,
        };
        let written = writer.write_to_known_channel(&header, self.object.as_bytes());
        written.map_err(|error| self.failure(error))
    }

    fn finish(&mut self) -> Result<ExportedTo, CommandError> {
        if let Some(mut writer) = self.writer.take() {
            writer.finish().map_err(|error| self.failure(error))?;
            let file = writer.into_inner().into_inner();
            let file = file.map_err(|error| self.failure(McapError::Io(error.into_error())))?;
            let kept = match self.force {
                true => file.persist(&self.path),
                false => file.persist_noclobber(&self.path),
            };
            kept.map_err(|error| self.failure(McapError::Io(error.error)))?
                .flush()
                .map_err(|error| self.failure(McapError::Io(error)))?;
        }
        Ok(ExportedTo {
            to: self.path.display().to_string(),
            without_column: 0,
            long_names: 0,
        })
    }
}

/// Checks that a file does not replace a recording, and is not in its directory, where it would be read as a recording.
fn check_apart(path: &Path, from: &[PathBuf]) -> Result<(), CommandError> {
    check_source(path, from)?;
    let would_be_listed = path.extension().is_some_and(|it| it == "mcap");
    let is_inside = |from: &PathBuf| {
        let is_of_recording = would_be_listed && catalog::number(from) != u64::MAX;
        is_same(parent(path), from) || (is_of_recording && is_same(parent(path), parent(from)))
    };
    match from.iter().any(is_inside) {
        false => Ok(()),
        true => Err(recording_is_there(path)),
    }
}

/// Checks that a file does not replace one that is exported.
pub(super) fn check_source(path: &Path, from: &[PathBuf]) -> Result<(), CommandError> {
    match from.iter().any(|from| is_same(path, from)) {
        false => Ok(()),
        true => Err(recording_is_there(path)),
    }
}

fn is_same(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

fn recording_is_there(path: &Path) -> CommandError {
    let reason = "the recording is there; choose another --out";
    CommandError::Write {
        path: path.into(),
        error: io::Error::new(io::ErrorKind::InvalidInput, reason),
    }
}

/// Checks that a file can be created under this path.
pub(super) fn check_new(path: &Path, force: bool) -> Result<(), CommandError> {
    match (path.symlink_metadata().is_ok(), path.is_file(), force) {
        (false, ..) | (true, true, true) => Ok(()),
        (true, true, false) => Err(CommandError::Exists { path: path.into() }),
        (true, false, _) => Err(CommandError::Write {
            path: path.into(),
            error: io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"),
        }),
    }
}

/// Replaces `to` by the object of a message with `_conn` and `_seq`, unless it has members with these names, and
/// without members that are null.
fn put_object(decoded: &Decoded<'_>, dialect: Dialect, to: &mut String) {
    to.clear();
    to.push('{');
    if decoded.kind != DecodedKind::Event {
        if decoded.conn != 0 {
            put_own("_conn", decoded.conn, decoded.object, to);
        }
        put_own("_seq", decoded.seq, decoded.object, to);
        if decoded.received != decoded.time {
            put_own("_received", decoded.received, decoded.object, to);
        }
    }
    if decoded.kind == DecodedKind::Log && dialect == Dialect::Foxglove {
        let (sec, nsec) = (decoded.time / 1_000_000_000, decoded.time % 1_000_000_000);
        separate(to);
        to.push_str(&format!(r#""timestamp":{{"sec":{sec},"nsec":{nsec}}}"#));
    }
    put_members(decoded.object, to);
}

fn put_own(name: &str, value: u64, object: &[u8], to: &mut String) {
    if !has_member(object, name) {
        separate(to);
        to.push_str(&format!("\"{name}\":{value}"));
    }
}

/// Whether an object has a member. Looks for its name first, which is rarely there.
fn has_member(object: &[u8], name: &str) -> bool {
    let text = std::str::from_utf8(object).unwrap_or_default();
    if !text.contains(name) && !text.contains('\\') {
        return false;
    }
    let (mut parser, mut depth) = (SliceJsonParser::new(object), 0_u32);
    while let Ok(event) = parser.parse_next() {
        match event {
            JsonEvent::Eof => break,
            JsonEvent::ObjectKey(key) if depth == 1 && key == name => return true,
            JsonEvent::StartObject | JsonEvent::StartArray => depth += 1,
            JsonEvent::EndObject | JsonEvent::EndArray => depth -= 1,
            _ => {}
        }
    }
    false
}

/// Appends the members of an object that are not null, and its end.
fn put_members(object: &[u8], to: &mut String) {
    let mut parser = SliceJsonParser::new(object);
    let (mut depth, mut key) = (0_u32, None);
    while let Ok(event) = parser.parse_next() {
        match &event {
            JsonEvent::Eof => break,
            JsonEvent::ObjectKey(name) => {
                key = Some(name.clone());
                continue;
            }
            JsonEvent::EndObject | JsonEvent::EndArray => {
                to.push(if event == JsonEvent::EndObject {
                    '}'
                } else {
                    ']'
                });
                depth -= 1;
                continue;
            }
            JsonEvent::StartObject if depth == 0 => {
                depth = 1;
                continue;
            }
            _ => {}
        }
        if let Some(name) = key.take() {
            if is_null(&event) {
                continue;
            }
            separate(to);
            put_string(&name, to);
            to.push(':');
        } else {
            separate(to);
        }
        match &event {
            JsonEvent::StartObject | JsonEvent::StartArray => {
                to.push(if event == JsonEvent::StartObject {
                    '{'
                } else {
                    '['
                });
                depth += 1;
            }
            JsonEvent::String(text) => put_string(text, to),
            JsonEvent::Number(digits) if !is_null(&event) => to.push_str(digits),
            JsonEvent::Boolean(true) => to.push_str("true"),
            JsonEvent::Boolean(false) => to.push_str("false"),
            _ => to.push_str("null"),
        }
    }
}

/// Whether a value is null, or a number that a double cannot hold: PlotJuggler refuses a file with such a number.
fn is_null(value: &JsonEvent<'_>) -> bool {
    match value {
        JsonEvent::Null => true,
        JsonEvent::Number(digits) => !digits.parse().is_ok_and(f64::is_finite),
        _ => false,
    }
}

/// Appends a comma, unless an array or an object has just begun.
fn separate(to: &mut String) {
    if !to.ends_with(['{', '[']) {
        to.push(',');
    }
}

fn put_string(text: &str, to: &mut String) {
    to.push('"');
    // A write to a string does not fail.
    let _ = inside_of_string(text, to);
    to.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(kind: DecodedKind, json: &str) -> String {
        let mut to = "old".to_owned();
        let decoded = Decoded {
            kind,
            device: &"imu".into(),
            conn: 3,
            seq: 7,
            session: None,
            time: 1_500_000_000,
            received: 1_500_000_000,
            object: json.as_bytes(),
        };
        put_object(&decoded, Dialect::Foxglove, &mut to);
        serde_json::from_str::<serde_json::Value>(&to).expect("JSON");
        to
    }

    #[test]
    fn a_message_has_its_connection_and_number() {
        let message = |json| object(DecodedKind::Message, json);
        assert_eq!(message("{}"), r#"{"_conn":3,"_seq":7}"#);
        assert_eq!(
            message(r#"{"a":1.50,"s":"\u0001\"{","l":[1,null,[],{"x":[2]}],"o":{}}"#),
            r#"{"_conn":3,"_seq":7,"a":1.50,"s":"\u0001\"{","l":[1,null,[],{"x":[2]}],"o":{}}"#
        );
        assert_eq!(
            object(DecodedKind::Log, r#"{"level":2}"#),
            r#"{"_conn":3,"_seq":7,"timestamp":{"sec":1,"nsec":500000000},"level":2}"#
        );
        assert_eq!(
            object(DecodedKind::Event, r#"{"event":"open"}"#),
            r#"{"event":"open"}"#
        );
    }

    #[test]
    fn members_that_are_null_are_left_out() {
        let message = |json| object(DecodedKind::Message, json);
        let want = r#"{"_conn":3,"_seq":7,"o":{"y":"{"},"b":true}"#;
        assert_eq!(
            message(r#"{"a":null,"o":{"x":null,"y":"{","z":null},"b":true,"c":null}"#),
            want
        );
        assert_eq!(
            message(r#"{"a":1e999,"l":[-1e999,1e308]}"#),
            r#"{"_conn":3,"_seq":7,"l":[null,1e308]}"#
        );
        assert_eq!(
            message(r#"{"o":{"x":null}}"#),
            r#"{"_conn":3,"_seq":7,"o":{}}"#
        );
    }

    #[test]
    fn members_of_a_payload_are_kept() {
        let message = |json| object(DecodedKind::Message, json);
        assert_eq!(message(r#"{"_seq":"x"}"#), r#"{"_conn":3,"_seq":"x"}"#);
        assert_eq!(message(r#"{"\u005fconn":1}"#), r#"{"_seq":7,"_conn":1}"#);
        assert_eq!(
            message(r#"{"o":{"_seq":1}}"#),
            r#"{"_conn":3,"_seq":7,"o":{"_seq":1}}"#
        );
    }
}
