//! Recordings with the layout of the daemon's, written with the `mcap` crate alone.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use mcap::records::MessageHeader;
use mcap::write::NoSeek;
use mcap::{Compression, WriteOptions, Writer};

/// Time at which the first message of a sample was received, in nanoseconds.
pub const BEGIN: u64 = 1_767_225_600_000_000_000;
/// Time between two messages of a sample, in nanoseconds.
pub const STEP: u64 = 10_000_000;

/// A message that was written or read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StoredMessage {
    /// Topic of its channel.
    pub topic: String,
    /// Sequence number in its channel.
    pub sequence: u32,
    /// Time at which it was received, in nanoseconds.
    pub time: u64,
    /// The payload.
    pub data: Vec<u8>,
}

/// Parameters of a sample file.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Compression of its chunks.
    pub compression: Option<Compression>,
    /// Whether the data section ends with its CRC.
    pub data_crc: bool,
    /// Number of chunks.
    pub chunks: usize,
    /// Number of devices: `d0` and so on.
    pub devices: usize,
    /// Number of blocks of each device in each chunk.
    pub blocks: usize,
    /// Sequence number of the first block of each device.
    pub first: u32,
}

impl Default for Sample {
    fn default() -> Self {
        Self {
            compression: None,
            data_crc: false,
            chunks: 4,
            devices: 2,
            blocks: 2,
            first: 0,
        }
    }
}

impl Sample {
    /// A file without its end, as left by a daemon that is killed between two chunks; and its messages.
    pub fn torn(&self) -> (Vec<u8>, Vec<StoredMessage>) {
        let mut file = File::begin(self.compression, self.data_crc);
        let stored = self.write(&mut file);
        (file.abandon(), stored)
    }

    /// A sealed file, and its messages.
    pub fn sealed(&self) -> (Vec<u8>, Vec<StoredMessage>) {
        let mut file = File::begin(self.compression, self.data_crc);
        let stored = self.write(&mut file);
        (file.seal(), stored)
    }

    fn write(&self, file: &mut File) -> Vec<StoredMessage> {
        let mut stored = Vec::new();
        let mut time = BEGIN;
        for chunk in 0..self.chunks {
            for device in 0..self.devices {
                let name = format!("d{device}");
                if chunk == 0 {
                    let open = format!(
                        r#"{{"event":"open","conn":{},"device":"{name}","peer":"127.0.0.1:4000"}}"#,
                        device + 1
                    );
                    stored.push(file.event(time, &open));
                    time += STEP;
                }
                for block in 0..self.blocks {
                    let number = (chunk * self.blocks + block) as u32;
                    let payload = format!("{name} says {number}, and says it again: {number}");
                    let sequence = self.first.wrapping_add(number);
                    stored.push(file.block(&name, sequence, time, payload.as_bytes()));
                    time += STEP;
                }
            }
            file.end_chunk();
        }
        stored
    }
}

/// A recording that is being written.
pub struct File {
    writer: Writer<NoSeek<Vec<u8>>>,
    channels: BTreeMap<String, u16>,
    events: u32,
}

impl std::fmt::Debug for File {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("File")
            .field("channels", &self.channels)
            .finish_non_exhaustive()
    }
}

impl File {
    /// Begins with a header.
    pub fn begin(compression: Option<Compression>, data_crc: bool) -> Self {
        let options = WriteOptions::new()
            .library("blocksd 0.1.0")
            .compression(compression)
            .chunk_size(None)
            .compression_threads(0)
            .disable_seeking(true)
            .calculate_data_section_crc(data_crc);
        let writer = options.create(NoSeek::new(Vec::new())).expect("memory");
        Self {
            writer,
            channels: BTreeMap::new(),
            events: 0,
        }
    }

    /// Adds a block of a device, in the `blocks` framing, not decoded.
    pub fn block(&mut self, device: &str, sequence: u32, time: u64, data: &[u8]) -> StoredMessage {
        self.message(device, "blocks", ("blocks", "raw"), sequence, time, data)
    }

    /// Adds a message to the device's channel `what`, with this framing and encoding.
    pub fn message(
        &mut self,
        device: &str,
        what: &str,
        (framing, decode): (&str, &str),
        sequence: u32,
        time: u64,
        data: &[u8],
    ) -> StoredMessage {
        let topic = format!("/device/{device}/{what}");
        let pairs = [("device", device), ("framing", framing), ("decode", decode)];
        let metadata = pairs.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let encoding = match decode {
            "json" | "cbor" | "msgpack" => decode,
            _ => "raw",
        };
        let id = *self.channels.entry(topic.clone()).or_insert_with(|| {
            let id = self
                .writer
                .add_channel(0, &topic, encoding, &metadata.into());
            id.expect("a new channel")
        });
        self.put(id, topic, sequence, time, data)
    }

    /// Adds an event.
    pub fn event(&mut self, time: u64, json: &str) -> StoredMessage {
        let topic = "/blocksd/events".to_owned();
        if !self.channels.contains_key(&topic) {
            let schema = br#"{"type":"object"}"#;
            let schema = self
                .writer
                .add_schema("blocksd.Event", "jsonschema", schema);
            let none = BTreeMap::new();
            let schema = schema.expect("a new schema");
            let id = self.writer.add_channel(schema, &topic, "json", &none);
            self.channels
                .insert(topic.clone(), id.expect("a new channel"));
        }
        let id = self.channels[&topic];
        self.events += 1;
        self.put(id, topic, self.events - 1, time, json.as_bytes())
    }

    fn put(
        &mut self,
        id: u16,
        topic: String,
        sequence: u32,
        time: u64,
        data: &[u8],
    ) -> StoredMessage {
        let header = MessageHeader {
            channel_id: id,
            sequence,
            log_time: time,
            publish_time: time,
        };
        let written = self.writer.write_to_known_channel(&header, data);
        written.expect("memory");
        StoredMessage {
            topic,
            sequence,
            time,
            data: data.to_vec(),
        }
    }

    /// Ends a chunk.
    pub fn end_chunk(&mut self) {
        self.writer.flush().expect("memory");
    }

    /// Returns what is written so far, without an end.
    pub fn abandon(mut self) -> Vec<u8> {
        self.end_chunk();
        self.writer.into_inner().into_inner()
    }

    /// Writes the end, and returns the file.
    pub fn seal(mut self) -> Vec<u8> {
        self.writer.finish().expect("memory");
        self.writer.into_inner().into_inner()
    }
}

/// The name of file number `number` of a directory.
pub fn name(directory: &Path, number: u32, ending: &str) -> PathBuf {
    directory.join(format!("{number:08}-20260101T000000Z.{ending}"))
}

/// Writes a file of a directory.
pub fn put(directory: &Path, number: u32, ending: &str, bytes: &[u8]) -> PathBuf {
    let path = name(directory, number, ending);
    // Creates a new file, since overwriting one makes some systems wait for the disk.
    let _ = std::fs::remove_file(&path);
    let mut file = std::fs::File::create_new(&path).expect("a directory of ours");
    file.write_all(bytes).expect("a disk with space");
    path
}
