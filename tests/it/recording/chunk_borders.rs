//! Repair of files that are damaged exactly at the borders of chunks (missing, repeated, swapped or foreign chunks), and of
//! files with two damages. A repair always writes a sound file.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use blocksd::recorded::ranges::CHECKER;
use blocksd_recording::{Compression, Recovered, WindowedFile};
use blocksd_tests::recorded::record;
use mcap::MessageStream;
use mcap::read::Options;
use tempfile::TempDir;

const CHUNKS: u32 = 6;
/// Messages in each chunk.
const EACH: u32 = 3;

/// A file name of the first versions, without the nonce.
const UNNAMED: &str = "00000001-20260101T000000Z.mcap.part";

/// A torn recording of one device.
struct Torn {
    name: String,
    bytes: Vec<u8>,
    /// Its chunks, each with its indexes.
    chunks: Vec<Range<usize>>,
}

impl Torn {
    fn new(device: &str, compression: Compression) -> Self {
        let folder = folder();
        let block = |number: u32| format!("{device} {number} {}", "x".repeat(40)).into_bytes();
        let blocks =
            (0..CHUNKS).map(|chunk| (0..EACH).map(|at| block(chunk * EACH + at)).collect());
        let path = record(
            folder.path(),
            device,
            compression,
            &blocks.collect::<Vec<_>>(),
        );
        let mut bytes = fs::read(&path).unwrap();
        let summary = mcap::Summary::read(&bytes).unwrap().unwrap();
        let mut chunks: Vec<_> = summary
            .chunk_indexes
            .iter()
            .map(|it| {
                let begin = it.chunk_start_offset as usize;
                begin..begin + (it.chunk_length + it.message_index_length) as usize
            })
            .collect();
        chunks.sort_by_key(|it| it.start);
        bytes.truncate(chunks.last().unwrap().end);
        let name = path.file_name().unwrap().to_str().unwrap();
        Self {
            name: format!("{name}.part"),
            bytes,
            chunks,
        }
    }

    fn chunk(&self, index: usize) -> &[u8] {
        &self.bytes[self.chunks[index].clone()]
    }

    /// A file with these chunks, after the header.
    fn of(&self, chunks: &[usize]) -> Vec<u8> {
        let mut bytes = self.bytes[..self.chunks[0].start].to_vec();
        chunks.iter().for_each(|it| bytes.extend(self.chunk(*it)));
        bytes
    }

    /// The current file name, and the one of earlier versions.
    fn names(&self) -> [&str; 2] {
        [&self.name, UNNAMED]
    }
}

/// The result of a repair.
struct Outcome {
    /// Sequence numbers of the messages in the repaired file, if there is one.
    sequences: Option<Vec<u32>>,
    /// Whether the original was kept.
    is_kept: bool,
    recovered: Recovered,
}

/// Repairs a file, and asserts that the result is sound, has no foreign messages, and that a kept original is unchanged.
#[track_caller]
fn repair(name: &str, bytes: &[u8], context: &str) -> Outcome {
    let folder = folder();
    let torn = folder.path().join(name);
    fs::write(&torn, bytes).unwrap();
    let repaired: Vec<_> = CHECKER.repair_dir(folder.path()).unwrap().collect();
    let [Ok(repaired)] = &repaired[..] else {
        panic!("{context}: {repaired:?}");
    };
    let sealed = torn.with_extension("");
    let lost = with_ending(&sealed, "lost");
    let sequences = sealed.exists().then(|| {
        assert_eq!(wrong(&sealed), [""; 0], "{context}");
        sequences(&sealed, context)
    });
    assert!(
        !lost.exists() || fs::read(&lost).unwrap() == bytes,
        "{context}"
    );
    Outcome {
        sequences,
        is_kept: lost.exists(),
        recovered: repaired.recovered.clone(),
    }
}

#[test]
fn a_chunk_that_is_missing_is_reported_and_the_original_is_kept() {
    let torn = Torn::new("own", Compression::None);
    for name in torn.names() {
        for missing in 1..CHUNKS as usize - 1 {
            let context = format!("{name} without chunk {missing}");
            let kept: Vec<_> = (0..CHUNKS as usize).filter(|it| *it != missing).collect();
            let outcome = repair(name, &torn.of(&kept), &context);
            assert_eq!(outcome.sequences, Some(numbers(&kept)), "{context}");
            assert!(outcome.is_kept, "{context}");
            assert_eq!(outcome.recovered.missing, u64::from(EACH), "{context}");
            let text = outcome.recovered.to_string();
            assert!(text.contains("3 messages missing"), "{text}");
        }
    }
}

#[test]
fn a_duplicated_chunk_is_kept_once() {
    let torn = Torn::new("own", Compression::Zstd);
    let all: Vec<_> = (0..CHUNKS as usize).collect();
    for name in torn.names() {
        for twice in all.iter().copied() {
            for at in [twice + 1, all.len()] {
                let context = format!("{name} with chunk {twice} again at {at}");
                let mut chunks = all.clone();
                chunks.insert(at, twice);
                let outcome = repair(name, &torn.of(&chunks), &context);
                assert_eq!(outcome.sequences, Some(numbers(&all)), "{context}");
                assert!(outcome.is_kept, "{context}");
                assert_eq!(outcome.recovered.repeated_chunks, 1, "{context}");
                assert_eq!(outcome.recovered.missing, 0, "{context}");
            }
        }
    }
}

#[test]
fn swapped_chunks_are_all_kept() {
    let torn = Torn::new("own", Compression::None);
    for name in torn.names() {
        for first in 0..CHUNKS as usize {
            for second in first + 1..CHUNKS as usize {
                let context = format!("{name} with chunks {first} and {second} exchanged");
                let mut chunks: Vec<_> = (0..CHUNKS as usize).collect();
                chunks.swap(first, second);
                let outcome = repair(name, &torn.of(&chunks), &context);
                assert_eq!(outcome.sequences, Some(numbers(&chunks)), "{context}");
                assert!(outcome.is_kept, "{context}");
                assert!(outcome.recovered.is_disordered, "{context}");
            }
        }
    }
}

#[test]
fn an_undamaged_file_is_not_reported_as_damaged() {
    for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
        let torn = Torn::new("own", compression);
        for name in torn.names() {
            let outcome = repair(name, &torn.bytes, name);
            let all: Vec<_> = (0..CHUNKS as usize).collect();
            assert_eq!(outcome.sequences, Some(numbers(&all)));
            assert!(!outcome.is_kept && !outcome.recovered.damaged);
        }
    }
}

#[test]
fn a_foreign_chunk_in_place_of_the_first_is_not_accepted() {
    for compression in [Compression::None, Compression::Zstd] {
        let (own, other) = (
            Torn::new("own", compression),
            Torn::new("other", compression),
        );
        for name in own.names() {
            for replaced in [true, false] {
                let mut bytes = own.of(&[]);
                bytes.extend(other.chunk(0));
                let from = usize::from(replaced);
                (from..CHUNKS as usize).for_each(|it| bytes.extend(own.chunk(it)));
                let context = format!("{name}, replaced: {replaced}");
                let outcome = repair(name, &bytes, &context);
                let own: Vec<_> = (from..CHUNKS as usize).collect();
                assert_eq!(outcome.sequences, Some(numbers(&own)), "{context}");
                assert!(outcome.is_kept, "{context}");
            }
        }
    }
}

#[test]
fn a_foreign_header_after_the_files_own_does_not_admit_its_chunk() {
    let (own, other) = (
        Torn::new("own", Compression::None),
        Torn::new("other", Compression::None),
    );
    let begin = own.chunks[0].start;
    for name in own.names() {
        for offset in begin..begin + 16 {
            let foreign = &other.bytes[..other.chunks[0].end];
            let bytes = [&own.bytes[..offset], foreign, &own.bytes[offset..]].concat();
            let context = format!("{name}, at {offset}");
            let outcome = repair(name, &bytes, &context);
            assert!(outcome.is_kept, "{context}");
            // The chunk that was split is lost.
            let first = usize::from(offset != begin);
            let whole: Vec<_> = (first..CHUNKS as usize).collect();
            assert_eq!(outcome.sequences, Some(numbers(&whole)), "{context}");
        }
    }
}

#[test]
fn two_damaged_bits_of_the_header_and_the_first_chunk_never_make_an_unsound_file() {
    let torn = Torn::new("own", Compression::None);
    let chunk = torn.chunks[0].start;
    let library = (0..chunk)
        .find(|at| torn.bytes[*at..].starts_with(b"blocksd "))
        .unwrap();
    // All of the header, or its text alone, with all of the chunk header, or its opcode alone.
    let header: Vec<_> = (0..chunk * 8)
        .step_by(5)
        .chain(library * 8..(library + 8) * 8)
        .collect();
    let head: Vec<_> = (chunk * 8..(chunk + 1) * 8)
        .chain(((chunk + 1) * 8..(chunk + 90) * 8).step_by(29))
        .collect();
    for one in &header {
        for other in &head {
            let mut bytes = torn.bytes.clone();
            for bit in [one, other] {
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
            let context = format!("bits {one} and {other}");
            let outcome = repair(UNNAMED, &bytes, &context);
            let is_all = outcome
                .sequences
                .is_some_and(|it| it == numbers(&[0, 1, 2, 3, 4, 5]));
            assert!(is_all || outcome.is_kept, "{context}");
        }
    }
}

/// The sequence numbers of the messages of these chunks.
fn numbers(chunks: &[usize]) -> Vec<u32> {
    let of = |chunk: &usize| *chunk as u32 * EACH..(*chunk as u32 + 1) * EACH;
    chunks.iter().flat_map(of).collect()
}

/// The sequence numbers that the `mcap` crate reads. All messages must be of the device.
#[track_caller]
fn sequences(path: &Path, context: &str) -> Vec<u32> {
    let bytes = fs::read(path).unwrap();
    let stream = MessageStream::new_with_options(&bytes, Options::ValidateChunkCrcs.into());
    let messages = stream.unwrap().map(|message| {
        let message = message.unwrap_or_else(|error| panic!("{context}: {error}"));
        assert!(message.data.starts_with(b"own "), "{context}");
        message.sequence
    });
    messages.collect()
}

fn wrong(path: &Path) -> Vec<String> {
    let mut wrong = Vec::new();
    CHECKER
        .verify(WindowedFile::open(path).unwrap(), false, &mut |it| {
            wrong.push(it.to_string());
        })
        .unwrap();
    wrong
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    name.into()
}

/// Creates a folder in memory if possible: there are many repairs, and each waits for the disk.
fn folder() -> TempDir {
    let in_memory = TempDir::new_in("/dev/shm");
    in_memory.or_else(|_| TempDir::new()).unwrap()
}
