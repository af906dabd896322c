//! MCAP files as other programs may write them, record by record: start with [`Layout`] and [`File`].

use std::collections::BTreeMap;

use mcap::records::op;

/// Opcode of a record that a later version of MCAP may define.
const LATER: u8 = 0x20;
/// Opcode of a private record.
const PRIVATE: u8 = 0x90;
/// What a later version may add to the end of a record.
const ADDED: &[u8] = b"\x01\xff\xff added";

/// A message: channel, sequence number, log time, payload.
pub type Stored = (u16, u32, u64, Vec<u8>);

/// Where messages are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Messages {
    /// Outside of chunks.
    Loose,
    /// In chunks.
    Chunked,
    /// Before, in, between and after chunks.
    Mixed,
}

/// What is at the end of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The end of the data, the footer and the magic.
    Bare,
    /// Statistics, without an index of chunks.
    Statistics,
    /// Everything.
    Full,
}

/// How a file is written.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Where messages are.
    pub messages: Messages,
    /// Records have fields of a later version.
    pub is_extended: bool,
    /// Records of unknown types are between all others.
    pub has_unknown: bool,
    /// CRCs are stored.
    pub has_crc: bool,
    /// Attachments and metadata are between the messages.
    pub has_others: bool,
    /// What is at the end.
    pub end: End,
    /// The library field of the header.
    pub library: &'static str,
    /// The name of the compression of the chunks: empty, or `zstd`.
    pub compression: &'static str,
}

/// A file of another program.
#[derive(Clone, Debug, Default)]
pub struct File {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its messages, in their order.
    pub stored: Vec<Stored>,
    /// Number of attachments, metadata and records of unknown types in the data section.
    pub others: u64,
    /// Offset of the end of the data section.
    pub data_end: usize,
    chunks: Vec<Vec<u8>>,
}

impl Layout {
    /// All combinations.
    pub fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for messages in [Messages::Loose, Messages::Chunked, Messages::Mixed] {
            for end in [End::Bare, End::Statistics, End::Full] {
                for bits in 0..32_u8 {
                    let has = |bit: u8| bits & (1 << bit) != 0;
                    let libraries = ["", "регистратор 1.0\n", "tool 0123456789abcdef"];
                    all.push(Self {
                        messages,
                        is_extended: has(0),
                        has_unknown: has(1),
                        has_crc: has(2),
                        has_others: has(3),
                        end,
                        library: libraries[usize::from(bits) % 3],
                        compression: if has(4) { "zstd" } else { "" },
                    });
                }
            }
        }
        all
    }

    /// Writes a file with ten messages of two channels, the last one at the latest possible time.
    pub fn write(&self) -> File {
        let mut file = File::default();
        file.bytes.extend_from_slice(mcap::MAGIC);
        self.put(&mut file.bytes, op::HEADER, &header("", self.library));
        let mut number = 0;
        let mut chunk = Vec::new();
        for part in 0..5 {
            let is_loose = match self.messages {
                Messages::Loose => true,
                Messages::Chunked => false,
                Messages::Mixed => part % 2 == 0,
            };
            self.between(&mut file, part);
            let mut records = Vec::new();
            for channel in [1, 2] {
                if part < 2 {
                    // Defined again by each kind of part.
                    self.put(&mut records, op::SCHEMA, &schema(1));
                    self.put(&mut records, op::CHANNEL, &channel_body(channel));
                }
                let time = if number == 9 {
                    u64::MAX
                } else {
                    100 * u64::from(number)
                };
                let payload = format!("message {number}").into_bytes();
                records.extend(message(channel, number, time, &payload));
                file.stored.push((channel, number, time, payload));
                if self.has_unknown {
                    self.put(&mut records, LATER + 1, b"");
                    file.others += u64::from(is_loose);
                }
                number += 1;
            }
            if is_loose {
                file.bytes.extend(records);
            } else {
                chunk.extend(records);
                self.chunk(&mut file, &std::mem::take(&mut chunk));
            }
        }
        if self.messages != Messages::Loose {
            self.chunk(&mut file, b"");
        }
        self.between(&mut file, 5);
        self.finish(&mut file);
        file
    }

    /// Appends a record, with added fields where the specification allows them.
    fn put(&self, to: &mut Vec<u8>, opcode: u8, body: &[u8]) {
        let is_final = matches!(opcode, op::MESSAGE | op::DATA_END | op::FOOTER);
        let added = if self.is_extended && !is_final {
            ADDED
        } else {
            b""
        };
        to.extend(record(opcode, &[body, added].concat()));
    }

    /// Appends what may be between messages.
    fn between(&self, file: &mut File, part: u64) {
        if self.has_unknown {
            self.put(&mut file.bytes, LATER, b"of a later version");
            self.put(&mut file.bytes, PRIVATE, &[0; 40]);
            file.others += 2;
        }
        if self.has_others {
            let attachment = attachment(part, "notes.txt", b"attached", self.has_crc);
            self.put(&mut file.bytes, op::ATTACHMENT, &attachment);
            let pairs = map(&[("key", "value")]);
            let metadata = [text("settings"), pairs].concat();
            self.put(&mut file.bytes, op::METADATA, &metadata);
            file.others += 2;
        }
    }

    /// Appends a chunk and its indexes.
    fn chunk(&self, file: &mut File, records: &[u8]) {
        let begin = file.bytes.len();
        let data = match self.compression {
            "zstd" => raw_zstd(records),
            _ => records.to_vec(),
        };
        let entries = entries(records);
        let times = || entries.values().flatten().map(|(time, _)| *time);
        let bounds = [times().min(), times().max()].map(Option::unwrap_or_default);
        let mut body = numbers(&[bounds[0], bounds[1], records.len() as u64]);
        let crc = if self.has_crc { crc32(records) } else { 0 };
        body.extend(crc.to_le_bytes());
        body.extend(text(self.compression));
        body.extend(numbers(&[data.len() as u64]));
        body.extend(&data);
        self.put(&mut file.bytes, op::CHUNK, &body);
        let len = (file.bytes.len() - begin) as u64;
        let mut index = numbers(&[bounds[0], bounds[1], begin as u64, len]);
        let indexes = file.bytes.len();
        let mut offsets = Vec::new();
        for (channel, entries) in entries {
            offsets.extend(channel.to_le_bytes());
            offsets.extend(numbers(&[file.bytes.len() as u64]));
            let mut body = channel.to_le_bytes().to_vec();
            let pairs: Vec<_> = entries.iter().flat_map(|it| [it.0, it.1]).collect();
            body.extend(prefixed(&numbers(&pairs)));
            self.put(&mut file.bytes, op::MESSAGE_INDEX, &body);
        }
        index.extend(prefixed(&offsets));
        index.extend(numbers(&[(file.bytes.len() - indexes) as u64]));
        index.extend(text(self.compression));
        index.extend(numbers(&[data.len() as u64, records.len() as u64]));
        file.chunks.push(index);
    }

    /// Appends the end of the file.
    fn finish(&self, file: &mut File) {
        file.data_end = file.bytes.len();
        let crc = if self.has_crc { crc32(&file.bytes) } else { 0 };
        self.put(&mut file.bytes, op::DATA_END, &crc.to_le_bytes());
        let start = file.bytes.len();
        if self.end != End::Bare {
            self.put(&mut file.bytes, op::SCHEMA, &schema(1));
            for channel in [1, 2] {
                self.put(&mut file.bytes, op::CHANNEL, &channel_body(channel));
            }
            if self.has_unknown {
                self.put(&mut file.bytes, LATER, b"in the summary");
            }
            let statistics = self.statistics(file);
            self.put(&mut file.bytes, op::STATISTICS, &statistics);
        }
        if self.end == End::Full {
            for index in std::mem::take(&mut file.chunks) {
                self.put(&mut file.bytes, op::CHUNK_INDEX, &index);
            }
        }
        let start = if self.end == End::Bare { 0 } else { start };
        let footer = [numbers(&[start as u64, 0]), vec![0; 4]].concat();
        file.bytes.extend(record(op::FOOTER, &footer));
        if self.has_crc && start != 0 {
            let end = file.bytes.len() - 4;
            let crc = crc32(&file.bytes[start..end]);
            file.bytes[end..].copy_from_slice(&crc.to_le_bytes());
        }
        file.bytes.extend_from_slice(mcap::MAGIC);
    }

    fn statistics(&self, file: &File) -> Vec<u8> {
        let others = if self.has_others { 6_u32 } else { 0 };
        let mut body = numbers(&[file.stored.len() as u64]);
        body.extend(1_u16.to_le_bytes());
        for count in [2, others, others, file.chunks.len() as u32] {
            body.extend(count.to_le_bytes());
        }
        body.extend(numbers(&[0, u64::MAX]));
        let counts = [1_u16, 2].map(|channel| {
            let messages = file.stored.iter().filter(|it| it.0 == channel).count();
            [channel.to_le_bytes().to_vec(), numbers(&[messages as u64])].concat()
        });
        body.extend(prefixed(&counts.concat()));
        body
    }
}

/// A record.
pub fn record(opcode: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![opcode];
    bytes.extend((body.len() as u64).to_le_bytes());
    bytes.extend(body);
    bytes
}

/// The record of a message.
pub fn message(channel: u16, sequence: u32, time: u64, payload: &[u8]) -> Vec<u8> {
    let mut body = channel.to_le_bytes().to_vec();
    body.extend(sequence.to_le_bytes());
    body.extend(numbers(&[time, time]));
    body.extend(payload);
    record(op::MESSAGE, &body)
}

/// The body of a header.
pub fn header(profile: &str, library: &str) -> Vec<u8> {
    [text(profile), text(library)].concat()
}

/// The body of a channel without metadata, whose topic is `/imu/NUMBER`.
pub fn channel_body(id: u16) -> Vec<u8> {
    channel_with(id, &format!("/imu/{id}"), &[])
}

/// The body of a channel.
pub fn channel_with(id: u16, topic: &str, metadata: &[(&str, &str)]) -> Vec<u8> {
    let mut body = id.to_le_bytes().to_vec();
    body.extend(u16::from(metadata.is_empty()).to_le_bytes());
    body.extend(text(topic));
    body.extend(text("json"));
    body.extend(map(metadata));
    body
}

/// The body of a schema.
pub fn schema(id: u16) -> Vec<u8> {
    let mut body = id.to_le_bytes().to_vec();
    for field in ["imu", "jsonschema", "{}"] {
        body.extend(text(field));
    }
    body
}

/// The body of an attachment.
pub fn attachment(time: u64, name: &str, data: &[u8], has_crc: bool) -> Vec<u8> {
    let mut body = numbers(&[time, 0]);
    body.extend(text(name));
    body.extend(text("text/plain"));
    body.extend(numbers(&[data.len() as u64]));
    body.extend(data);
    let crc = if has_crc { crc32(&body) } else { 0 };
    body.extend(crc.to_le_bytes());
    body
}

/// A chunk record of these records, with its CRC.
pub fn chunk(compression: &str, uncompressed: &[u8], data: &[u8]) -> Vec<u8> {
    let mut body = numbers(&[0, 0, uncompressed.len() as u64]);
    body.extend(crc32(uncompressed).to_le_bytes());
    body.extend(text(compression));
    body.extend(numbers(&[data.len() as u64]));
    body.extend(data);
    record(op::CHUNK, &body)
}

/// A file without chunks that holds these records, without its end.
pub fn torn(library: &str, records: &[Vec<u8>]) -> Vec<u8> {
    let header = record(op::HEADER, &header("", library));
    [mcap::MAGIC, &header, &records.concat()].concat()
}

/// Log time and offset of the messages in a chunk, by channel.
fn entries(records: &[u8]) -> BTreeMap<u16, Vec<(u64, u64)>> {
    let mut entries: BTreeMap<_, Vec<_>> = BTreeMap::new();
    let mut at = 0;
    while at < records.len() {
        let long = |at: usize| u64::from_le_bytes(records[at..at + 8].try_into().expect("8 bytes"));
        if records[at] == op::MESSAGE {
            let channel = u16::from_le_bytes([records[at + 9], records[at + 10]]);
            let entry = (long(at + 15), at as u64);
            entries.entry(channel).or_default().push(entry);
        }
        at += 9 + usize::try_from(long(at + 1)).expect("short");
    }
    entries
}

fn numbers(numbers: &[u64]) -> Vec<u8> {
    numbers.iter().flat_map(|it| it.to_le_bytes()).collect()
}

fn prefixed(bytes: &[u8]) -> Vec<u8> {
    let len = u32::try_from(bytes.len()).expect("short");
    [&len.to_le_bytes(), bytes].concat()
}

fn text(text: &str) -> Vec<u8> {
    prefixed(text.as_bytes())
}

fn map(pairs: &[(&str, &str)]) -> Vec<u8> {
    let pairs = pairs
        .iter()
        .map(|(key, value)| [text(key), text(value)].concat());
    prefixed(&pairs.collect::<Vec<_>>().concat())
}

/// A Zstandard frame that holds the bytes uncompressed.
fn raw_zstd(bytes: &[u8]) -> Vec<u8> {
    let len = u32::try_from(bytes.len()).expect("short");
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0xa0];
    frame.extend(len.to_le_bytes());
    frame.extend(&((len << 3) | 1).to_le_bytes()[..3]);
    frame.extend(bytes);
    frame
}

/// The CRC-32 of MCAP, bit by bit.
pub fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            let low = crc & 1;
            crc = (crc >> 1) ^ (0xedb8_8320 * low);
        }
    }
    !crc
}
