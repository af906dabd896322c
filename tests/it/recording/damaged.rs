//! Torn and damaged recordings: readers and repairs keep the complete chunks and nothing else, and count the losses.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use blocksd::recorded::ranges::CHECKER;
use blocksd_recording::scan::{Found, Raw, Scan, Summary};
use blocksd_recording::{FindingKind, LostRange};
use blocksd_tests::recording::{File, Sample, StoredMessage, name, put};
use mcap::Compression;
use mcap::records::Record;

const COMPRESSIONS: [Option<Compression>; 3] =
    [None, Some(Compression::Lz4), Some(Compression::Zstd)];

/// The messages of a file, and its losses. Messages of unknown channels have no topic.
fn read(path: &Path) -> (Vec<StoredMessage>, Vec<LostRange>) {
    let mut scan = Scan::open(path, false).unwrap();
    let summary = Summary::read(&mut blocksd_recording::WindowedFile::open(path).unwrap());
    let mut topics: HashMap<u16, String> = HashMap::new();
    if let Ok(Ok(summary)) = summary {
        topics.extend(summary.channels.into_iter().map(|(id, it)| (id, it.topic)));
    }
    let (mut stored, mut lost) = (Vec::new(), Vec::new());
    let mut take = |raw: &Raw<'_>| match raw.parse() {
        Some(Record::Channel(channel)) => {
            topics.insert(channel.id, channel.topic);
        }
        Some(Record::Message { header, data }) => stored.push(StoredMessage {
            topic: topics.get(&header.channel_id).cloned().unwrap_or_default(),
            sequence: header.sequence,
            time: header.log_time,
            data: data.into_owned(),
        }),
        _ => {}
    };
    while let Some(found) = scan.advance().unwrap() {
        match found {
            Found::Header(_) => {}
            Found::Chunk(chunk) => chunk.records().for_each(|(_, raw)| take(&raw)),
            Found::Record { raw, .. } => take(&raw),
            Found::Lost(stretch) => lost.push(stretch),
        }
        if scan.has_ended() {
            break;
        }
    }
    (stored, lost)
}

/// Asserts that every message read was written, and in the same order; returns the number of missing messages.
#[track_caller]
fn missing(stored: &[StoredMessage], read: &[StoredMessage], at: usize) -> usize {
    let mut rest = stored.iter();
    for message in read {
        let found = rest.any(|it| {
            let same_topic = message.topic.is_empty() || it.topic == message.topic;
            same_topic
                && (it.sequence, it.time, &it.data)
                    == (message.sequence, message.time, &message.data)
        });
        assert!(found, "{message:?} was never written (damage at {at})");
    }
    stored.len() - read.len()
}

#[test]
fn a_sound_file_is_read_completely() {
    let directory = tempfile::tempdir().unwrap();
    for compression in COMPRESSIONS {
        let sample = Sample {
            compression,
            ..Sample::default()
        };
        for (bytes, stored) in [sample.sealed(), sample.torn()] {
            let path = put(directory.path(), 1, "mcap", &bytes);
            assert_eq!(read(&path), (stored, vec![]));
        }
    }
}

#[test]
fn a_truncated_file_loses_only_the_data_after_its_last_complete_chunk() {
    let directory = tempfile::tempdir().unwrap();
    for compression in COMPRESSIONS {
        let sample = Sample {
            compression,
            ..Sample::default()
        };
        let (bytes, stored) = sample.sealed();
        let mut before = 0;
        for len in 0..bytes.len() {
            let path = put(directory.path(), 1, "mcap.part", &bytes[..len]);
            let (read, lost) = read(&path);
            missing(&stored, &read, len);
            assert!(read.len() >= before, "{len}: fewer messages than before");
            before = read.len();
            let lost_bytes: u64 = lost.iter().map(|lost| lost.len).sum();
            assert!(lost_bytes <= len as u64, "{len}: {lost:?}");
            // All other messages are there.
            assert!(lost.len() <= 1, "{len}: {lost:?}");
            assert_eq!(stored[..read.len()], read);
        }
        assert_eq!(before, stored.len());
    }
}

#[test]
fn a_damaged_byte_loses_at_most_one_chunk_and_gives_no_wrong_message() {
    let directory = tempfile::tempdir().unwrap();
    for compression in COMPRESSIONS {
        let sample = Sample {
            compression,
            ..Sample::default()
        };
        for (bytes, stored) in [sample.sealed(), sample.torn()] {
            let in_chunk = stored.len() / sample.chunks + sample.devices;
            for at in 0..bytes.len() {
                for flip in [0xff, 1 << (at % 8)] {
                    let mut bytes = bytes.clone();
                    bytes[at] ^= flip;
                    let path = put(directory.path(), 1, "mcap", &bytes);
                    let (read, lost) = read(&path);
                    let missing = missing(&stored, &read, at);
                    assert!(missing <= in_chunk, "{missing} missing, damage at {at}");
                    assert!(
                        missing == 0 || !lost.is_empty(),
                        "no loss reported, damage at {at}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_recovered_file_is_sealed_and_has_all_complete_chunks() {
    let directory = tempfile::tempdir().unwrap();
    for compression in COMPRESSIONS {
        let sample = Sample {
            compression,
            ..Sample::default()
        };
        let (bytes, _) = sample.torn();
        for cut in (0..bytes.len()).step_by(7) {
            for zeros in [0, 100] {
                // After a power failure, zeros may replace the last written bytes.
                let mut bytes = bytes[..cut].to_vec();
                bytes.resize(cut + zeros, 0);
                let from = put(directory.path(), 1, "mcap.part", &bytes);
                let to = name(directory.path(), 1, "mcap.new");
                let (whole, _) = read(&from);
                let recovered = CHECKER.recover(&from, &to).unwrap();
                assert!(!recovered.complete);
                assert_eq!(to.exists(), recovered.chunks != 0);
                let blocks = whole.iter().filter(|it| it.topic.ends_with("/blocks"));
                assert_eq!(recovered.blocks, blocks.count() as u64);
                let events = whole.len() as u64 - recovered.blocks;
                assert_eq!(recovered.events, events);
                if to.exists() {
                    assert_eq!(read(&to), (whole.clone(), vec![]));
                    assert_eq!(by_the_crate(&to), whole);
                    fs::remove_file(&to).unwrap();
                }
            }
        }
    }
}

/// The messages that the `mcap` crate reads, with all its checks.
fn by_the_crate(path: &Path) -> Vec<StoredMessage> {
    let bytes = fs::read(path).unwrap();
    let summary = Summary::read(&mut blocksd_recording::WindowedFile::open(path).unwrap());
    assert!(summary.unwrap().is_ok());
    let theirs = mcap::Summary::read(&bytes).unwrap().unwrap();
    let statistics = theirs.stats.clone().unwrap();
    let options = mcap::read::Options::ValidateChunkCrcs;
    let stream = mcap::MessageStream::new_with_options(&bytes, options.into()).unwrap();
    let stored: Vec<_> = stream
        .map(|message| {
            let message = message.unwrap();
            StoredMessage {
                topic: message.channel.topic.clone(),
                sequence: message.sequence,
                time: message.log_time,
                data: message.data.to_vec(),
            }
        })
        .collect();
    assert_eq!(statistics.message_count, stored.len() as u64);
    // The index must find each message, too.
    let mut indexed = 0;
    let chunks = theirs.chunk_indexes.iter();
    for chunk in chunks.filter(|chunk| chunk.message_index_length != 0) {
        let indexes = theirs.read_message_indexes(&bytes, chunk).unwrap();
        for entry in indexes.values().flatten() {
            let message = theirs.seek_message(&bytes, chunk, entry).unwrap();
            assert_eq!(message.log_time, entry.log_time);
            indexed += 1;
        }
    }
    assert_eq!(indexed, stored.len());
    stored
}

#[test]
fn a_message_whose_channel_is_lost_is_kept_under_another_topic() {
    let directory = tempfile::tempdir().unwrap();
    let (bytes, stored) = Sample::default().torn();
    let mut damaged = bytes.clone();
    // Damage the first chunk, which defines the channels.
    damaged[300] ^= 1;
    let from = put(directory.path(), 1, "mcap.part", &damaged);
    let to = name(directory.path(), 1, "mcap");
    let recovered = CHECKER.recover(&from, &to).unwrap();
    assert_eq!((recovered.chunks, recovered.lost_chunks), (3, 1));
    assert_eq!((recovered.blocks, recovered.unknown), (0, 12));
    let read = by_the_crate(&to);
    assert_eq!(read.len(), 12);
    for (read, stored) in read.iter().zip(&stored[stored.len() - 12..]) {
        assert!(read.topic.starts_with("/blocksd/unknown/"), "{read:?}");
        assert_eq!((read.sequence, &read.data), (stored.sequence, &stored.data));
    }
    // A sealed file repeats its channels in the summary.
    let (mut bytes, stored) = Sample::default().sealed();
    bytes[300] ^= 1;
    let from = put(directory.path(), 2, "mcap", &bytes);
    let to = name(directory.path(), 3, "mcap");
    let recovered = CHECKER.recover(&from, &to).unwrap();
    assert_eq!((recovered.blocks, recovered.unknown), (12, 0));
    assert_eq!(by_the_crate(&to), stored[stored.len() - 12..]);
}

#[test]
fn a_repair_that_was_interrupted_anywhere_is_completed_later() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let (torn, stored) = Sample::default().torn();
    let (sealed, _) = Sample::default().sealed();
    put(directory, 1, "mcap", &sealed);
    put(directory, 2, "mcap.part", &torn[..torn.len() - 30]);
    put(directory, 2, "mcap.new", b"an interrupted repair");
    put(directory, 3, "mcap.part", &sealed);
    put(directory, 4, "mcap.part", &torn[..20]);
    put(directory, 5, "mcap.part", b"");
    // Renamed, and interrupted before the original was removed.
    put(directory, 6, "mcap", &sealed);
    put(directory, 6, "mcap.part", &torn);
    fs::write(directory.join("blocksd.lock"), b"").unwrap();
    fs::write(directory.join("notes.part"), b"not ours").unwrap();

    let repaired: Vec<_> = CHECKER
        .repair_dir(directory)
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let numbers: Vec<_> = repaired.iter().map(|it| it.to.clone()).collect();
    let sealed_name = |number| Some(name(directory, number, "mcap"));
    assert_eq!(
        numbers,
        [sealed_name(2), sealed_name(3), None, None, sealed_name(6)]
    );
    let complete: Vec<_> = repaired.iter().map(|it| it.recovered.complete).collect();
    assert_eq!(complete, [false, true, false, false, false]);
    // No message is lost, only half of an index.
    let recovered = &repaired[0].recovered;
    assert_eq!((recovered.lost_chunks, recovered.lost_bytes), (0, 17));
    assert_eq!(repaired[2].recovered.lost_bytes, 20);
    // A complete file is written anew.
    let anew = CHECKER.check(&name(directory, 3, "mcap")).unwrap();
    assert!(repaired[1].recovered.written && anew.is_some());
    for number in [1, 2, 3, 6] {
        assert_eq!(by_the_crate(&name(directory, number, "mcap")), stored);
    }
    let mut left: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|it| it.unwrap().file_name())
        .collect();
    left.sort();
    assert_eq!(left.len(), 6, "{left:?}");
    assert_eq!(CHECKER.repair_dir(directory).unwrap().count(), 0);
}

#[test]
fn a_payload_that_contains_a_recording_is_not_taken_for_one() {
    let directory = tempfile::tempdir().unwrap();
    let (inner, _) = Sample::default().sealed();
    let mut file = File::begin(None, false);
    let mut stored = Vec::new();
    for sequence in 0..3 {
        stored.push(file.block("a", sequence, 1, &inner));
        file.end_chunk();
    }
    let bytes = file.abandon();
    // Damaged content, and a truncated chunk.
    let mut damaged = bytes.clone();
    let third = bytes.len() / 3;
    damaged[third + 500] ^= 1;
    damaged.truncate(bytes.len() - 300);
    let (read, lost) = read(&put(directory.path(), 1, "mcap.part", &damaged));
    assert_eq!(read, [stored[0].clone()]);
    assert_eq!(lost.len(), 2, "{lost:?}");
}

#[test]
fn a_file_of_false_chunk_headers_is_read_in_linear_time_and_memory() {
    let directory = tempfile::tempdir().unwrap();
    let (whole, stored) = Sample::default().torn();
    // Chunk headers that extend to the end of the file, one after the other, the first of them damaged.
    let heads = 20_000_u64;
    let len = heads * 49;
    let mut bytes = whole.clone();
    bytes.push(0xee);
    for head in 0..heads {
        let left = len - head * 49 - 49;
        bytes.push(6);
        bytes.extend((left + 40).to_le_bytes());
        bytes.extend([0; 16]);
        bytes.extend(left.to_le_bytes());
        bytes.extend([1; 4]);
        bytes.extend([0; 4]);
        bytes.extend(left.to_le_bytes());
    }
    let (read_back, lost) = read(&put(directory.path(), 1, "mcap.part", &bytes));
    assert_eq!(read_back, stored);
    assert_eq!(lost.len(), 1);
    assert_eq!(lost[0].len, len + 1);
    // Small headers, so many that reading a megabyte for each would take minutes.
    let mut bytes = whole.clone();
    bytes.push(0xee);
    for _ in 0..200_000 {
        bytes.push(6);
        bytes.extend(41_u64.to_le_bytes());
        bytes.extend([0; 16]);
        bytes.extend(1_u64.to_le_bytes());
        bytes.extend([1; 4]);
        bytes.extend([0; 4]);
        bytes.extend(1_u64.to_le_bytes());
        bytes.push(0);
    }
    // Followed by a complete chunk.
    bytes.extend_from_slice(&whole[whole.len() / 2..]);
    let (read_back, lost) = read(&put(directory.path(), 1, "mcap.part", &bytes));
    assert!(
        stored.len() < read_back.len(),
        "nothing was found after the false headers"
    );
    assert_eq!(lost.len(), 1);
    // Half a gigabyte declared, in a few bytes.
    let mut bytes = whole;
    bytes.push(6);
    bytes.extend((40 + 4 + 9_u64).to_le_bytes());
    bytes.extend([0; 16]);
    bytes.extend((1_u64 << 29).to_le_bytes());
    bytes.extend([1; 4]);
    bytes.extend(4_u32.to_le_bytes());
    bytes.extend(b"zstd");
    bytes.extend(9_u64.to_le_bytes());
    bytes.extend(b"\x28\xb5\x2f\xfd\x20\x00\x01\x00\x00");
    let (read_back, lost) = read(&put(directory.path(), 1, "mcap.part", &bytes));
    assert_eq!((read_back.len(), lost.len()), (stored.len(), 1));
}

/// A deterministic sequence of pseudo-random numbers.
fn scramble(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

#[test]
fn no_file_makes_a_reader_panic() {
    let directory = tempfile::tempdir().unwrap();
    let mut state = 0x2545_f491_4f6c_dd1d;
    for round in 0..600 {
        let compression = COMPRESSIONS[round % 3];
        let sample = Sample {
            compression,
            data_crc: round % 2 == 0,
            ..Sample::default()
        };
        let (mut bytes, _) = if round % 5 == 0 {
            sample.torn()
        } else {
            sample.sealed()
        };
        for _ in 0..=scramble(&mut state) % 4 {
            let len = bytes.len() as u64;
            let at = (scramble(&mut state) % len) as usize;
            let other = (scramble(&mut state) % len) as usize;
            match scramble(&mut state) % 5 {
                // A length far beyond the file, or an almost correct one.
                0 => {
                    let extremes = [
                        0,
                        1,
                        8,
                        u32::MAX.into(),
                        1 << 62,
                        u64::MAX,
                        u64::MAX - 8,
                        len,
                    ];
                    let extreme = extremes[(scramble(&mut state) % 8) as usize];
                    let end = bytes.len().min(at + 8);
                    bytes[at..end].copy_from_slice(&extreme.to_le_bytes()[..end - at]);
                }
                1 => bytes.truncate(at.max(1)),
                2 => drop(bytes.drain(at.min(other)..at.max(other))),
                3 => {
                    let part = bytes[at.min(other)..at.max(other)].to_vec();
                    bytes.splice(at..at, part);
                }
                _ => bytes[at] = scramble(&mut state) as u8,
            }
            if bytes.is_empty() {
                bytes.push(0);
            }
        }
        let path = put(directory.path(), 1, "mcap", &bytes);
        let to = name(directory.path(), 2, "mcap");
        let input = blocksd_recording::WindowedFile::open(&path).unwrap();
        CHECKER.verify(input, round % 7 == 0, &mut |_| {}).unwrap();
        read(&path);
        let recovered = CHECKER.recover(&path, &to).unwrap();
        if to.exists() {
            let (_, lost) = read(&to);
            assert_eq!(lost, [], "round {round}");
            let mut wrong = Vec::new();
            let input = blocksd_recording::WindowedFile::open(&to).unwrap();
            CHECKER
                .verify(input, false, &mut |it| {
                    wrong.push(it.kind.clone());
                })
                .unwrap();
            // A repair keeps gaps and the name of the writer. In a file with a duplicated part, a lost channel may reappear
            // after its messages, with another definition.
            let made_up = recovered.unknown != 0;
            wrong.retain(|it| match it {
                FindingKind::Sequence { .. } | FindingKind::Library(_) => false,
                FindingKind::Channel { .. } => !made_up,
                _ => true,
            });
            assert_eq!(wrong, [], "round {round}: {recovered:?}");
            fs::remove_file(&to).unwrap();
        }
    }
}
