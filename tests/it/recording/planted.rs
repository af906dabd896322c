//! Torn recordings whose payloads contain recordings, with every kind of damage: a repair keeps each genuine chunk once,
//! in order, and nothing else; the result is sound; the original is kept if more than its end is lost.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use blocksd::recorded::ranges::CHECKER;
use blocksd_recording::{Compression, WindowedFile};
use blocksd_tests::disk::Chance;
use blocksd_tests::recorded::{planted, record};
use mcap::MessageStream;
use mcap::read::Options;
use tempfile::TempDir;

pub(crate) const COMPRESSIONS: [Compression; 3] =
    [Compression::None, Compression::Lz4, Compression::Zstd];

/// Number of bytes that a disk writes atomically.
const SECTOR: usize = 512;

/// Number of random damages; `BLOCKSD_TEST_DAMAGES` overrides it.
const DAMAGES: usize = 300;

/// Sequence number and payload of each message of a chunk.
pub(crate) type Messages = Vec<(u32, Vec<u8>)>;

/// A recording without its end.
pub(crate) struct Torn {
    /// The file name given by the daemon.
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
    /// The file without compression.
    is_plain: bool,
    /// Positions of its chunks, and their messages.
    pub(crate) chunks: Vec<(Range<usize>, Messages)>,
}

impl Torn {
    /// Records these blocks, each inner list in its own chunk.
    pub(crate) fn new(compression: Compression, blocks: &[Vec<Vec<u8>>]) -> Self {
        let folder = folder();
        let path = record(folder.path(), "device", compression, blocks);
        let mut bytes = fs::read(&path).unwrap();
        let summary = mcap::Summary::read(&bytes).unwrap().unwrap();
        let mut indexes = summary.chunk_indexes.clone();
        indexes.sort_by_key(|chunk| chunk.chunk_start_offset);
        let (mut chunks, mut end) = (Vec::new(), 0);
        for (index, blocks) in indexes.iter().zip(blocks) {
            let begin = index.chunk_start_offset as usize;
            let range = begin..begin + index.chunk_length as usize;
            end = range.end + index.message_index_length as usize;
            let messages = summary.stream_chunk(&bytes, index).unwrap();
            let messages = messages.map(|it| {
                let it = it.unwrap();
                (it.sequence, it.data.to_vec())
            });
            let messages: Messages = messages.collect();
            assert_eq!(messages.len(), blocks.len());
            chunks.push((range, messages));
        }
        bytes.truncate(end);
        let name = path.file_name().unwrap().to_str().unwrap();
        Self {
            name: format!("{name}.part"),
            bytes,
            is_plain: compression == Compression::None,
            chunks,
        }
    }

    /// Some ordinary blocks, and all kinds of planted ones.
    pub(crate) fn with_planted(compression: Compression) -> Self {
        let plain = |text: &str| text.as_bytes().to_vec();
        let mut first = vec![plain("first")];
        first.extend_from_slice(planted());
        let chunks = [
            first,
            vec![plain("second"), planted()[0].clone()],
            vec![plain("third")],
            [planted(), &[plain("fourth")]].concat(),
            vec![plain("last"), planted()[1].clone()],
        ];
        Self::new(compression, &chunks)
    }

    /// Number of messages.
    fn messages(&self) -> usize {
        let messages = self.chunks.iter().map(|(_, messages)| messages.len());
        messages.sum()
    }

    /// The messages of the chunks that are complete in the damaged file, in the order of that file. Message times are not
    /// covered by a checksum.
    fn whole(&self, damaged: &[u8]) -> Messages {
        let mut found = Vec::new();
        for (range, messages) in &self.chunks {
            let chunk = &self.bytes[range.clone()];
            let is_here = |begin: usize| {
                let there = &damaged[begin..begin + chunk.len()];
                there[..9] == chunk[..9] && there[25..] == chunk[25..]
            };
            let last = (damaged.len() + 1).saturating_sub(chunk.len());
            found.extend(
                (0..last)
                    .find(|begin| is_here(*begin))
                    .map(|begin| (begin, messages)),
            );
        }
        found.sort_by_key(|(begin, _)| *begin);
        found.into_iter().flat_map(|(_, it)| it.clone()).collect()
    }

    /// Repairs the damaged file under this name, and asserts that the result is right. `is_cut`: only the end of the file is
    /// missing; `is_whole`: no message may be left out.
    #[track_caller]
    fn check(&self, name: &str, damaged: &[u8], is_cut: bool, context: &str) {
        self.check_as(name, damaged, is_cut, true, context);
    }

    #[track_caller]
    fn check_as(&self, name: &str, damaged: &[u8], is_cut: bool, is_all: bool, context: &str) {
        let folder = folder();
        let torn = folder.path().join(name);
        fs::write(&torn, damaged).unwrap();
        repair(folder.path());
        let sealed = torn.with_extension("");
        let want = self.whole(damaged);
        let mut read = Messages::new();
        if sealed.exists() {
            assert_eq!(wrong(&sealed), [""; 0], "{context}");
            read = messages(&sealed);
        }
        // Some bits of compressed data have no effect.
        let all: Messages = self.chunks.iter().flat_map(|it| it.1.clone()).collect();
        if self.is_plain && is_all {
            assert_eq!(shown(&read), shown(&want), "{context}");
        } else if is_all {
            assert!(is_among(&want, &read), "{context}: {:?}", shown(&read));
        }
        assert!(read.iter().all(|it| all.contains(it)), "{context}");
        let lost = sealed.with_extension("mcap.lost");
        // Damage in the truncated chunk cannot be detected.
        let is_short = damaged.len() < self.bytes.len() && all.starts_with(&read);
        let zeros = damaged.iter().rev().take_while(|byte| **byte == 0).count();
        if is_cut {
            assert!(!lost.exists(), "{context}: the original was kept");
        } else if is_short || self.bytes.starts_with(&damaged[..damaged.len() - zeros]) {
            // It may be a cut tail.
        } else if read.len() < self.messages() {
            assert!(lost.exists(), "{context}: the original is missing");
        }
        assert!(!lost.exists() || fs::read(&lost).unwrap() == damaged);
        let left = fs::read_dir(folder.path()).unwrap().map(Result::unwrap);
        let left: Vec<_> = left.map(|entry| entry.path()).collect();
        let is_known = |path: &PathBuf| *path == sealed || *path == lost;
        assert!(left.iter().all(is_known), "{context}: {left:?}");
    }

    /// The same under the file name given by the daemon, and under one without a nonce.
    #[track_caller]
    fn check_both(&self, damaged: &[u8], context: &str) {
        self.check(&self.name, damaged, false, context);
        self.check(UNNAMED, damaged, false, context);
    }
}

/// A file name of earlier versions.
pub(crate) const UNNAMED: &str = "00000001-20260101T000000Z.mcap.part";

/// Whether `those` contains all of `these`, in the same order.
fn is_among(these: &Messages, those: &Messages) -> bool {
    let mut rest = those.iter();
    these.iter().all(|it| rest.any(|other| other == it))
}

/// Creates a folder in memory if possible: there are many repairs, and each waits for the disk.
pub(crate) fn folder() -> TempDir {
    let in_memory = TempDir::new_in("/dev/shm");
    in_memory.or_else(|_| TempDir::new()).unwrap()
}

fn repair(folder: &Path) {
    // One after the other.
    assert!(CHECKER.repair_dir(folder).unwrap().count() <= 1);
}

pub(crate) fn wrong(path: &Path) -> Vec<String> {
    let mut wrong = Vec::new();
    CHECKER
        .verify(WindowedFile::open(path).unwrap(), false, &mut |it| {
            wrong.push(it.to_string());
        })
        .unwrap();
    wrong
}

/// The messages that the `mcap` crate reads.
fn messages(path: &Path) -> Messages {
    let bytes = fs::read(path).unwrap();
    let stream = MessageStream::new_with_options(&bytes, Options::ValidateChunkCrcs.into());
    let messages = stream.unwrap().map(Result::unwrap);
    let messages = messages.map(|it| {
        let topic = it.channel.topic.as_str();
        let is_ours = topic == "/device/device/blocks" || topic.starts_with("/blocksd/unknown/");
        assert!(is_ours, "{topic}");
        (it.sequence, it.data.to_vec())
    });
    messages.collect()
}

/// A short form for error messages.
fn shown(messages: &Messages) -> Vec<(u32, usize, u32)> {
    let shown = messages.iter().map(|(sequence, data)| {
        let crc = data
            .iter()
            .fold(0_u32, |sum, byte| sum.rotate_left(5) ^ u32::from(*byte));
        (*sequence, data.len(), crc)
    });
    shown.collect()
}

#[test]
fn undamaged_data_is_never_lost() {
    for compression in COMPRESSIONS {
        let torn = Torn::with_planted(compression);
        let want = torn.whole(&torn.bytes);
        assert_eq!(want.len(), torn.messages());
        torn.check(&torn.name, &torn.bytes, true, "as it is");
        torn.check(UNNAMED, &torn.bytes, true, "as it is");
    }
}

#[test]
fn a_cut_file_loses_only_its_tail_and_the_original_is_removed() {
    let torn = Torn::with_planted(Compression::None);
    let len = torn.bytes.len();
    // Every place in the header and in the first chunk header, and some more.
    let cuts = (0..300).chain((300..len).step_by(37));
    for cut in cuts {
        torn.check(
            &torn.name,
            &torn.bytes[..cut],
            true,
            &format!("cut at {cut}"),
        );
    }
    // Zeros hold no data.
    let (last, _) = &torn.chunks[3];
    let index = torn.chunks[4].0.start;
    for end in [index, len] {
        for zeros in [1, 8, 100, 5000] {
            let mut bytes = torn.bytes[..end].to_vec();
            bytes.resize(end + zeros, 0);
            torn.check(&torn.name, &bytes, true, &format!("{zeros} zeros at {end}"));
        }
    }
    for zeros in [1, 55, 5000] {
        torn.check(&torn.name, &vec![0; zeros], true, "only zeros");
    }
    // A chunk whose end was not written, in a file of full length, does not count as a cut tail.
    let mut bytes = torn.bytes[..last.end].to_vec();
    bytes[last.end - 600..].fill(0);
    torn.check(&torn.name, &bytes, false, "zeros in a chunk");
    // Neither does a chunk whose header declares more than its content.
    let mut bytes = torn.bytes.clone();
    let claim = planted().last().unwrap();
    bytes[index..index + claim.len()].copy_from_slice(claim);
    torn.check(&torn.name, &bytes, false, "a false head");
}

#[test]
fn a_payload_that_ends_like_a_recording_is_not_the_end_of_the_file() {
    let torn = Torn::with_planted(Compression::None);
    let (range, _) = &torn.chunks[3];
    for (number, block) in planted().iter().enumerate() {
        let chunk = &torn.bytes[range.clone()];
        let at = chunk
            .windows(block.len())
            .position(|it| it == block)
            .unwrap();
        let mut bytes = torn.bytes[..range.start + at + block.len()].to_vec();
        torn.check(&torn.name, &bytes, true, &format!("cut after {number}"));
        bytes[3] ^= 1;
        torn.check_both(
            &bytes,
            &format!("cut after {number}, and the magic damaged"),
        );
    }
}

#[test]
fn every_flipped_bit_of_header_and_first_chunk_header_loses_at_most_one_chunk() {
    for compression in COMPRESSIONS {
        let torn = Torn::with_planted(compression);
        let head = torn.chunks[0].0.start + 49 + 17 + 8;
        // Every bit if nothing is compressed.
        let step = if compression == Compression::None {
            1
        } else {
            5
        };
        for bit in (0..head * 8).step_by(step) {
            let mut bytes = torn.bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let context = format!("{compression:?}, bit {} of byte {}", bit % 8, bit / 8);
            torn.check(&torn.name, &bytes, false, &context);
            if bit % 3 == 0 {
                torn.check(UNNAMED, &bytes, false, &context);
            }
        }
    }
}

#[test]
fn a_damaged_header_and_first_chunk_do_not_admit_payload() {
    for compression in COMPRESSIONS {
        let torn = Torn::with_planted(compression);
        let first = &torn.chunks[0].0;
        // The first bytes, and a bit of the magic or of the header with one of the first chunk's CRC.
        let mut bytes = torn.bytes.clone();
        bytes[..64].fill(0);
        torn.check_both(&bytes, &format!("{compression:?}, 64 bytes"));
        for at in [0, 5, 9, 12, 20, 26, 34, 38, 40, 54] {
            let mut bytes = torn.bytes.clone();
            bytes[at] ^= 4;
            bytes[first.start + 33] ^= 1;
            torn.check_both(&bytes, &format!("{compression:?}, byte {at} and a CRC"));
        }
        // And every chunk but one.
        for kept in 0..torn.chunks.len() {
            let mut bytes = torn.bytes.clone();
            bytes[4] ^= 1;
            for (number, (range, _)) in torn.chunks.iter().enumerate() {
                bytes[range.start + 3] ^= u8::from(number != kept);
            }
            torn.check_both(&bytes, &format!("{compression:?}, all but {kept}"));
        }
    }
}

#[test]
fn a_file_whose_only_chunk_is_damaged_is_kept() {
    let torn = Torn::new(
        Compression::None,
        &[vec![b"one".to_vec(), planted()[0].clone()]],
    );
    for at in (0..torn.bytes.len()).rev().step_by(11) {
        let mut bytes = torn.bytes.clone();
        bytes[at] ^= 1 << (at % 8);
        torn.check_both(&bytes, &format!("byte {at}"));
    }
}

#[test]
fn zeroed_ranges_and_missing_sectors_admit_no_payload() {
    for compression in COMPRESSIONS {
        let torn = Torn::with_planted(compression);
        let len = torn.bytes.len();
        for unit in [16, SECTOR, 8 * SECTOR] {
            let last = if unit == 16 { 30 } else { len.div_ceil(unit) };
            for from in 0..last {
                for count in [1, 3] {
                    let mut bytes = torn.bytes.clone();
                    let begin = (from * unit).min(len);
                    bytes[begin..len.min((from + count) * unit)].fill(0);
                    let context = format!("{compression:?}, {count} of {unit} at {from}");
                    torn.check(&torn.name, &bytes, false, &context);
                    // Without a known nonce, all chunks may be left out.
                    torn.check_as(UNNAMED, &bytes, false, unit == 16, &context);
                }
            }
        }
    }
}

#[test]
fn a_file_that_lost_its_beginning_gives_its_complete_chunks() {
    let torn = Torn::with_planted(Compression::None);
    let starts = (1..800)
        .step_by(3)
        .chain((800..torn.bytes.len()).step_by(61));
    // And exactly at the beginning of a planted recording.
    let begins = torn.bytes.windows(8).enumerate().skip(1);
    let begins = begins
        .filter(|(_, it)| *it == mcap::MAGIC)
        .map(|(at, _)| at);
    for start in starts.chain(begins) {
        let bytes = &torn.bytes[start..];
        torn.check(&torn.name, bytes, false, &format!("from {start} on"));
    }
}

#[test]
fn swapped_sectors_give_complete_chunks_and_no_payload() {
    let torn = Torn::with_planted(Compression::None);
    let count = torn.bytes.len() / SECTOR;
    for one in 0..count {
        for other in (one + 1..count).step_by(1 + one % 3) {
            let mut bytes = torn.bytes.clone();
            for at in 0..SECTOR {
                bytes.swap(one * SECTOR + at, other * SECTOR + at);
            }
            torn.check(&torn.name, &bytes, false, &format!("{one} and {other}"));
        }
    }
}

#[test]
fn chunks_after_a_flood_of_false_headers_are_found() {
    // Chunk headers that declare much of the rest of the file, so that checking each would take minutes.
    let mut head = planted().last().unwrap().clone();
    for at in [1, 25, 41] {
        let len = if at == 1 { 900_040_u64 } else { 900_000 };
        head[at..at + 8].copy_from_slice(&len.to_le_bytes());
    }
    let flood = head.repeat(20_000);
    let blocks = [
        vec![b"one".to_vec()],
        vec![flood.clone()],
        vec![flood],
        vec![b"two".to_vec()],
    ];
    let torn = Torn::new(Compression::None, &blocks);
    let mut bytes = torn.bytes.clone();
    bytes[torn.chunks[1].0.start + 2] ^= 1;
    torn.check_both(&bytes, "head of a chunk");
    bytes[4] ^= 1;
    bytes[torn.chunks[0].0.start + 33] ^= 1;
    torn.check_both(&bytes, "head of a chunk, header and a CRC");
}

#[test]
fn random_damage_admits_no_payload() {
    let given = std::env::var("BLOCKSD_TEST_DAMAGES").ok();
    let damages = given.map_or(DAMAGES, |given| given.parse().expect("a number"));
    for (number, compression) in COMPRESSIONS.into_iter().enumerate() {
        let torn = Torn::with_planted(compression);
        let mut chance = Chance(number as u64);
        for damage in 0..damages {
            let mut bytes = torn.bytes.clone();
            for _ in 0..=chance.of(0..=3) {
                damage_somewhere(&mut bytes, &torn, &mut chance);
            }
            // Other tests check whether only the end is lost.
            let is_cut = torn.bytes.starts_with(&bytes);
            let context = format!("{compression:?}, damage {damage}");
            torn.check(&torn.name, &bytes, is_cut, &context);
        }
    }
}

fn damage_somewhere(bytes: &mut Vec<u8>, torn: &Torn, chance: &mut Chance) {
    let len = bytes.len();
    // Mostly at sensitive places: the header, chunk headers, payloads.
    let (range, _) = &torn.chunks[chance.of(0..=torn.chunks.len() - 1)];
    let at = match chance.of(0..=2) {
        0 => chance.of(0..=127),
        1 => range.start + chance.of(0..=70),
        _ => chance.of(0..=len - 1),
    };
    let at = at.min(len - 1);
    let end = len.min(at + 1 + chance.of(0..=700));
    match chance.of(0..=6) {
        0 | 1 => bytes[at] ^= 1 << chance.of(0..=7),
        2 => bytes[at..end].fill(0),
        3 => {
            let sector = at / SECTOR * SECTOR;
            bytes[sector..len.min(sector + SECTOR)].fill(0);
        }
        4 => {
            let block = &planted()[chance.of(0..=planted().len() - 1)];
            let len = block.len().min(len - at);
            bytes[at..at + len].copy_from_slice(&block[..len]);
        }
        5 => bytes.truncate(at.max(1)),
        _ => {
            let count = len / SECTOR;
            if count == 0 {
                return;
            }
            let (one, other) = (chance.of(0..=count - 1), chance.of(0..=count - 1));
            for at in 0..SECTOR {
                bytes.swap(one * SECTOR + at, other * SECTOR + at);
            }
        }
    }
}
