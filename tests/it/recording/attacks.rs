//! Torn recordings with several damages, or with complete chunks missing, doubled or swapped: a repair writes a sound and
//! genuine file, and keeps the original if more than its end is lost.

use std::collections::HashSet;
use std::fs;
use std::io::Write;
use std::ops::Range;
use std::path::Path;
use std::time::Instant;

use blocksd::recorded::ranges::CHECKER;
use blocksd_recording::{Compression, Recovered};
use blocksd_tests::disk::Chance;
use blocksd_tests::process::{DEADLINE, Server, run};
use blocksd_tests::recorded::{payload, planted};
use blocksd_tests::recording::{self, Sample};
use mcap::MessageStream;
use mcap::read::Options;

use super::planted::{COMPRESSIONS, Messages, Torn, UNNAMED, folder, wrong};

/// Number of damaged files of each kind, unless all are tried; `BLOCKSD_TEST_DAMAGES` overrides it.
const DAMAGES: usize = 300;

fn damages() -> usize {
    let given = std::env::var("BLOCKSD_TEST_DAMAGES").ok();
    given.map_or(DAMAGES, |given| given.parse().expect("a number"))
}

/// A torn file and all its messages.
struct File {
    bytes: Vec<u8>,
    genuine: Messages,
}

/// Result of a repair: the messages of the sealed file, the report, and whether the original is kept.
struct Outcome {
    read: Messages,
    recovered: Option<Recovered>,
    has_original: bool,
}

impl File {
    fn of(torn: &Torn) -> Self {
        let messages = torn.chunks.iter().flat_map(|(_, messages)| messages);
        Self {
            bytes: torn.bytes.clone(),
            genuine: messages.cloned().collect(),
        }
    }

    /// Repairs a damaged form of the file, and asserts the property.
    #[track_caller]
    fn check(&self, name: &str, damaged: &[u8], context: &str) -> Outcome {
        let folder = folder();
        let torn = folder.path().join(name);
        fs::write(&torn, damaged).unwrap();
        let outcomes: Vec<_> = CHECKER.repair_dir(folder.path()).unwrap().collect();
        assert_eq!(outcomes.len(), 1, "{context}");
        let sealed = torn.with_extension("");
        let mut read = Messages::new();
        if sealed.exists() {
            assert_eq!(wrong(&sealed), [""; 0], "{context}");
            read = messages(&sealed);
        }
        let genuine: HashSet<_> = self.genuine.iter().collect();
        let distinct: HashSet<_> = read.iter().collect();
        assert!(distinct.is_subset(&genuine), "{context}: not genuine");
        assert_eq!(
            distinct.len(),
            read.len(),
            "{context}: a message is duplicated"
        );
        let lost = sealed.with_extension("mcap.lost");
        let original = [&lost, &torn].into_iter().find(|path| path.exists());
        assert!(original.is_none_or(|path| fs::read(path).unwrap() == damaged));
        // A cut tail, and damage inside the lost tail, which cannot be detected.
        let zeros = damaged.iter().rev().take_while(|byte| **byte == 0).count();
        let is_cut = self.bytes.starts_with(&damaged[..damaged.len() - zeros]);
        let is_short = damaged.len() < self.bytes.len() && self.genuine.starts_with(&read);
        if read.len() < self.genuine.len() && !is_cut && !is_short {
            assert!(original.is_some(), "{context}: the original is missing");
        }
        if damaged.len() <= self.bytes.len() && self.bytes.starts_with(damaged) {
            assert!(original.is_none(), "{context}: the original was kept");
        }
        Outcome {
            read,
            recovered: outcomes
                .into_iter()
                .next()
                .unwrap()
                .ok()
                .map(|it| it.recovered),
            has_original: original.is_some(),
        }
    }
}

/// Files without a nonce in their names: of this version, with planted chunks and with one chunk, and of the version
/// without nonces.
fn unnamed() -> Vec<File> {
    let (bytes, stored) = Sample::default().torn();
    let stored = stored.into_iter().map(|it| (it.sequence, it.data));
    let old = File {
        bytes,
        genuine: stored.collect(),
    };
    let one = [vec![b"one".to_vec(), planted()[0].clone()]];
    vec![
        File::of(&Torn::with_planted(Compression::None)),
        File::of(&Torn::new(Compression::None, &one)),
        old,
    ]
}

/// The messages that the `mcap` crate reads.
fn messages(path: &Path) -> Messages {
    let bytes = fs::read(path).unwrap();
    let stream = MessageStream::new_with_options(&bytes, Options::ValidateChunkCrcs.into());
    let messages = stream.unwrap().map(Result::unwrap);
    messages.map(|it| (it.sequence, it.data.to_vec())).collect()
}

fn flip(bytes: &mut [u8], bit: usize) {
    bytes[bit / 8] ^= 1 << (bit % 8);
}

/// Offset of the first chunk.
fn first_chunk(bytes: &[u8]) -> usize {
    let len: [u8; 8] = bytes[9..17].try_into().unwrap();
    17 + usize::try_from(u64::from_le_bytes(len)).unwrap()
}

/// Offsets of the chunks of an undamaged file.
fn chunk_begins(bytes: &[u8]) -> Vec<usize> {
    let (mut at, mut begins) = (first_chunk(bytes), Vec::new());
    while at < bytes.len() {
        begins.extend((bytes[at] == 6).then_some(at));
        let len: [u8; 8] = bytes[at + 1..at + 9].try_into().unwrap();
        at += 9 + usize::try_from(u64::from_le_bytes(len)).unwrap();
    }
    begins
}

#[test]
fn every_pair_of_flipped_bits_in_library_and_first_opcode_is_survived() {
    for (number, file) in unnamed().iter().enumerate() {
        let first = first_chunk(&file.bytes);
        // The name of the program, and the opcode.
        for library in 25 * 8..33 * 8 {
            for opcode in first * 8..first * 8 + 8 {
                let mut bytes = file.bytes.clone();
                flip(&mut bytes, library);
                flip(&mut bytes, opcode);
                file.check(
                    UNNAMED,
                    &bytes,
                    &format!("file {number}, {library}, {opcode}"),
                );
            }
        }
    }
}

#[test]
fn every_flipped_bit_of_the_header_with_some_of_the_first_chunk_is_survived() {
    for (number, file) in unnamed().iter().enumerate() {
        let (first, mut chance) = (first_chunk(&file.bytes), Chance(number as u64));
        for header in 0..first * 8 {
            let opcode = first * 8 + chance.of(0..=7);
            let other = first * 8 + chance.of(0..=74 * 8 - 1);
            for other in [opcode, other] {
                let mut bytes = file.bytes.clone();
                flip(&mut bytes, header);
                flip(&mut bytes, other);
                file.check(
                    UNNAMED,
                    &bytes,
                    &format!("file {number}, {header}, {other}"),
                );
            }
        }
        // And any two, three or four bits of both.
        for damage in 0..damages() {
            let mut bytes = file.bytes.clone();
            for _ in 0..=chance.of(1..=3) {
                flip(&mut bytes, chance.of(0..=(first + 74) * 8 - 1));
            }
            file.check(UNNAMED, &bytes, &format!("file {number}, damage {damage}"));
        }
    }
}

#[test]
fn a_damaged_byte_of_the_library_and_any_first_opcode_are_survived() {
    for (number, file) in unnamed().iter().enumerate() {
        let first = first_chunk(&file.bytes);
        for opcode in 0..=255 {
            let mut bytes = file.bytes.clone();
            bytes[27] = b'x';
            bytes[first] = opcode;
            file.check(
                UNNAMED,
                &bytes,
                &format!("file {number}, opcode {opcode:#x}"),
            );
        }
    }
}

#[test]
fn a_file_cut_at_any_byte_keeps_its_complete_chunks_and_no_original() {
    for compression in COMPRESSIONS {
        let blocks: Vec<_> = (0..3).map(|n| vec![payload(n), payload(n + 10)]).collect();
        let torn = Torn::new(compression, &blocks);
        let file = File::of(&torn);
        for cut in 0..=torn.bytes.len() {
            let context = format!("{compression:?}, {cut}");
            for name in [torn.name.as_str(), UNNAMED] {
                let outcome = file.check(name, &torn.bytes[..cut], &context);
                let whole = torn.chunks.iter().filter(|(range, _)| range.end <= cut);
                assert_eq!(outcome.read.len(), whole.count() * 2, "{context}");
            }
        }
    }
}

/// Chunks with their indexes, one index for each.
fn parts(torn: &Torn) -> Vec<Range<usize>> {
    let begins = torn.chunks.iter().map(|(range, _)| range.start);
    let ends = begins.clone().skip(1).chain([torn.bytes.len()]);
    begins.zip(ends).map(|(begin, end)| begin..end).collect()
}

/// The file with these of its chunks, in this order.
fn arranged(torn: &Torn, order: &[usize], has_indexes: bool) -> Vec<u8> {
    let parts = parts(torn);
    let mut bytes = torn.bytes[..parts[0].start].to_vec();
    for &number in order {
        let part = match has_indexes {
            true => parts[number].clone(),
            false => torn.chunks[number].0.clone(),
        };
        bytes.extend(&torn.bytes[part]);
    }
    bytes
}

#[test]
fn missing_doubled_or_swapped_chunks_leave_the_original() {
    let orders: &[(&[usize], u64, u64, bool)] = &[
        // Order, messages missing, repeated chunks, and whether chunks are out of order: then no message counts as missing.
        (&[0, 2, 3, 4], 2, 0, false),
        (&[0, 1, 4], 4, 0, false),
        (&[0, 4], 6, 0, false),
        (&[0, 2, 4], 4, 0, false),
        (&[0, 0, 1, 2, 3, 4], 0, 1, false),
        (&[0, 1, 1, 1, 2, 3, 4], 0, 2, false),
        (&[0, 1, 2, 3, 4, 4], 0, 1, false),
        (&[0, 1, 2, 0, 3, 4], 0, 1, false),
        (&[0, 2, 1, 3, 4], 0, 0, true),
        (&[0, 1, 2, 4, 3], 0, 0, true),
        (&[0, 4, 3, 2, 1], 0, 0, true),
        (&[0, 3, 1, 3, 4], 0, 1, true),
        // The channel record is in the first chunk.
        (&[1, 2, 3, 4], 0, 0, false),
        (&[1, 0, 2, 3, 4], 0, 0, true),
        (&[4, 3, 2, 1, 0], 0, 0, true),
    ];
    for compression in COMPRESSIONS {
        let blocks: Vec<_> = (0..5).map(|n| vec![payload(n), payload(n + 10)]).collect();
        let torn = Torn::new(compression, &blocks);
        let file = File::of(&torn);
        for &(order, missing, repeated, disordered) in orders {
            for has_indexes in [true, false] {
                let bytes = arranged(&torn, order, has_indexes);
                let context = format!("{compression:?}, {order:?}, {has_indexes}");
                for name in [torn.name.as_str(), UNNAMED] {
                    let outcome = file.check(name, &bytes, &context);
                    assert!(outcome.has_original, "{context}");
                    let distinct: HashSet<_> = order.iter().collect();
                    assert_eq!(outcome.read.len(), distinct.len() * 2, "{context}");
                    let recovered = outcome.recovered.expect("a repaired file");
                    let Recovered {
                        missing: is_missing,
                        repeated_chunks,
                        is_disordered,
                        ..
                    } = recovered;
                    let found = (is_missing, repeated_chunks, is_disordered);
                    assert_eq!(found, (missing, repeated, disordered), "{context}");
                }
            }
        }
    }
}

#[test]
fn complete_chunks_without_an_index_are_not_damage() {
    let blocks: Vec<_> = (0..3).map(|n| vec![payload(n)]).collect();
    let torn = Torn::new(Compression::None, &blocks);
    let bytes = arranged(&torn, &[0, 1, 2], false);
    for name in [torn.name.as_str(), UNNAMED] {
        let outcome = File::of(&torn).check(name, &bytes, "no index");
        assert!(!outcome.has_original);
        assert_eq!(outcome.read.len(), 3);
    }
}

#[test]
fn missing_messages_of_one_of_several_devices_are_counted_and_numbers_may_wrap() {
    for first in [0, 7, u32::MAX - 2] {
        let sample = Sample {
            chunks: 4,
            devices: 3,
            first,
            ..Sample::default()
        };
        let (bytes, stored) = sample.torn();
        let stored = stored.into_iter().map(|it| (it.sequence, it.data));
        let file = File {
            bytes: bytes.clone(),
            genuine: stored.collect(),
        };
        let outcome = file.check(UNNAMED, &bytes, "whole");
        assert!(!outcome.has_original, "{first}");
        let recovered = outcome.recovered.unwrap();
        assert_eq!((recovered.missing, recovered.is_disordered), (0, false));
        // Without the third chunk.
        let begins = chunk_begins(&bytes);
        let without = [&bytes[..begins[2]], &bytes[begins[3]..]].concat();
        let outcome = file.check(UNNAMED, &without, "without the third");
        assert!(outcome.has_original);
        assert_eq!(outcome.recovered.unwrap().missing, 6, "{first}");
    }
}

#[test]
fn a_missing_chunk_with_only_events_leaves_the_original() {
    let mut file = recording::File::begin(None, false);
    let event = r#"{"event":"open","conn":1,"device":"d0","peer":"127.0.0.1:4000"}"#;
    let mut stored = vec![file.event(1, event), file.block("d0", 0, 2, b"one")];
    file.end_chunk();
    stored.push(file.event(3, event));
    file.end_chunk();
    stored.extend([file.event(4, event), file.block("d0", 1, 5, b"two")]);
    let file = File {
        bytes: file.abandon(),
        genuine: stored
            .into_iter()
            .map(|it| (it.sequence, it.data))
            .collect(),
    };
    assert!(!file.check(UNNAMED, &file.bytes, "whole").has_original);
    let begins = chunk_begins(&file.bytes);
    let without = [&file.bytes[..begins[1]], &file.bytes[begins[2]..]].concat();
    let outcome = file.check(UNNAMED, &without, "without the second");
    assert!(outcome.has_original);
    assert_eq!(outcome.recovered.unwrap().missing, 1);
}

#[test]
fn messages_that_are_recorded_as_counts_are_not_missing() {
    let folder = folder();
    let record = folder.path().to_str().unwrap();
    let args = [
        "--record",
        record,
        "--record-sync",
        "50",
        "--framing",
        "lines",
    ];
    let server = Server::start(&args);
    let mut stream = server.connect();
    let sent = [b"first\n".as_slice(), &[b'\n'; 5000], b"second\n"].concat();
    stream.write_all(&sent).unwrap();
    let begin = Instant::now();
    let read = || run(&["read", record, "--output", "raw"], b"").stdout;
    while !read().ends_with(b"second") {
        assert!(begin.elapsed() < DEADLINE, "not recorded in time");
    }
    server.process.signal("KILL");
    drop(server.process.end());
    let repaired: Vec<_> = CHECKER.repair_dir(folder.path()).unwrap().collect();
    let [Ok(repaired)] = &repaired[..] else {
        panic!("{repaired:?}");
    };
    // The budget recorded most of them as counts.
    assert!(repaired.recovered.blocks < 5000, "{}", repaired.recovered);
    assert_eq!(repaired.recovered.missing, 0, "{}", repaired.recovered);
    assert!(repaired.original.is_none(), "{}", repaired.recovered);
    assert_eq!(wrong(repaired.to.as_deref().unwrap()), [""; 0]);
}

#[test]
fn a_chunk_from_a_payload_in_place_of_the_first_is_refused_if_the_header_names_the_nonce() {
    let torn = Torn::with_planted(Compression::None);
    let file = File::of(&torn);
    let first = torn.chunks[0].0.clone();
    let begin = planted()[0].windows(49).position(|it| {
        it[0] == 6 && it[1..9] != [0; 8] && it[37..41] == [0; 4] && it[25..33] == it[41..49]
    });
    let begin = begin.expect("a chunk");
    let len = 9 + u64::from_le_bytes(planted()[0][begin + 1..begin + 9].try_into().unwrap());
    let planted = &planted()[0][begin..begin + usize::try_from(len).unwrap()];
    let header = &torn.bytes[..first.start];
    let rest = &torn.bytes[first.end..];
    // In place of the first chunk, before it, and at any distance from the header.
    for between in [0, 1, 7, 40, 70] {
        let between = vec![0; between];
        for rest in [rest, &torn.bytes[first.start..]] {
            let bytes = [header, &between, planted, rest].concat();
            let outcome = file.check(UNNAMED, &bytes, &format!("{} zeros", between.len()));
            assert!(outcome.has_original);
            assert!(!outcome.read.is_empty());
            // The same with a damaged header.
            for byte in 0..first.start {
                let mut bytes = bytes.clone();
                bytes[byte] ^= 1;
                file.check(UNNAMED, &bytes, &format!("byte {byte}"));
            }
        }
    }
}

#[test]
fn random_damage_with_chunks_moved_is_survived() {
    for (number, compression) in COMPRESSIONS.into_iter().enumerate() {
        let torn = Torn::with_planted(compression);
        let (file, mut chance) = (File::of(&torn), Chance(number as u64));
        for damage in 0..damages() {
            let count = chance.of(1..=7);
            let order: Vec<_> = (0..count).map(|_| chance.of(0..=4)).collect();
            let mut bytes = arranged(&torn, &order, chance.of(0..=1) == 0);
            for _ in 0..chance.of(0..=2) {
                let bit = chance.of(0..=bytes.len() * 8 - 1);
                flip(&mut bytes, bit);
            }
            file.check(
                &torn.name,
                &bytes,
                &format!("{compression:?}, {damage}: {order:?}"),
            );
        }
    }
}
