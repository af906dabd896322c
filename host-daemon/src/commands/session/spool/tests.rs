//! Tests of the spool: interrupted writes are undone, and damage is an error.

use super::*;
use crate::commands::session::spool::format::{SECTOR, parse};

const NONCE: u64 = 0x1122_3344_5566_7788;

/// A spool of three records, the last of several sectors. Returns the position of each record, and of the end.
fn sample() -> (Vec<u8>, Vec<usize>) {
    sample_of(0)
}

/// A sample whose longest message consists of this byte.
fn sample_of(byte: u8) -> (Vec<u8>, Vec<usize>) {
    let header = Header {
        device: "boiler-7".to_owned(),
        nonce: NONCE,
    };
    let mut bytes = header.encode();
    let long = vec![byte; 3 * SECTOR];
    let records: [&[&[u8]]; 3] = [&[], &[b"one", b"two"], &[b"three", &long, b"five"]];
    let (mut at, mut number) = (Vec::new(), 7);
    for (sequence, messages) in (1..).zip(records) {
        at.push(bytes.len());
        let state = RecordState {
            session: 9,
            first: 7 + u64::from(sequence == 3),
            number,
        };
        number += messages.len() as u64;
        bytes.extend(format::encode(
            NONCE,
            sequence,
            state,
            messages.iter().copied(),
        ));
    }
    at.push(bytes.len());
    (bytes, at)
}

/// The number of the first message, and the messages.
fn content(bytes: &[u8]) -> (u64, Vec<Vec<u8>>) {
    let parsed = parse(bytes).unwrap();
    (parsed.first, parsed.messages)
}

#[test]
fn a_record_that_is_torn_at_any_byte_is_undone() {
    let (bytes, at) = sample();
    let whole = parse(&bytes).unwrap();
    assert_eq!((whole.session, whole.first, whole.len), (9, 8, bytes.len()));
    assert_eq!(whole.messages.len(), 4);
    assert_eq!(whole.header.device, "boiler-7");
    for (record, before) in [(1, (7, 0)), (2, (7, 2))] {
        for len in at[record]..at[record + 1] {
            let parsed = parse(&bytes[..len]).unwrap();
            assert_eq!((parsed.first, parsed.messages.len()), before, "{len} bytes");
            assert_eq!(parsed.len, at[record]);
        }
    }
}

#[test]
fn a_record_with_sectors_that_were_not_written_is_undone() {
    let (bytes, at) = sample();
    let sectors = (at[3] - at[2]) / SECTOR;
    assert!(3 < sectors);
    for unwritten in 1..1 << sectors {
        let mut torn = bytes.clone();
        for sector in (0..sectors).filter(|sector| unwritten & 1 << sector != 0) {
            torn[at[2] + sector * SECTOR..][..SECTOR].fill(0);
        }
        // The long message has sectors of zeros, which nothing can tell from those that were written.
        let parsed = parse(&torn).unwrap();
        assert!(parsed.len == at[2] || torn == bytes, "{unwritten:b}");
    }
}

#[test]
fn every_changed_bit_is_damage() {
    let (mut changed, _) = sample_of(0xa5);
    for index in 0..changed.len() {
        for bit in [1, 0x10, 0x80] {
            changed[index] ^= bit;
            // The rest of the first sector is not used.
            let is_unused = (92..SECTOR).contains(&index);
            assert_eq!(parse(&changed).is_ok(), is_unused, "byte {index}");
            changed[index] ^= bit;
        }
    }
    // A sector of zeros in the last record is taken for one that was not written, and the record is dropped with a report.
    let (mut changed, at) = sample();
    changed[at[3] - SECTOR] ^= 1;
    assert_eq!(parse(&changed).unwrap().len, at[2]);
}

#[test]
fn a_synced_record_without_its_sectors_is_damage() {
    let (bytes, at) = sample();
    for record in [0, 1] {
        let mut damaged = bytes.clone();
        damaged[at[record]..at[record + 1]].fill(0);
        let fault = parse(&damaged);
        assert!(
            matches!(fault, Err(SpoolFault::Damaged { offset }) if offset == at[record] as u64),
            "{fault:?}"
        );
    }
    // The last record in the place of the second.
    let mut damaged = bytes[..at[1]].to_vec();
    damaged.extend(&bytes[at[2]..]);
    assert!(parse(&damaged).is_err());
}

#[test]
fn whatever_happens_to_a_file_no_other_messages_are_read() {
    let (bytes, at) = sample_of(0xa5);
    // What each number of records says.
    let states: Vec<_> = (1..at.len())
        .map(|end| content(&bytes[..at[end]]))
        .collect();
    let mut seed = 1_u64;
    let mut below = |bound: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) as usize % bound
    };
    let mut accepted = 0;
    for _ in 0..20_000 {
        let mut changed = bytes.clone();
        for _ in 0..=below(3) {
            let len = changed.len();
            let (from, to) = (below(len), below(len));
            let count = below(1 + len - from.max(to)).min(below(1500));
            match below(4) {
                0 => changed.truncate(1 + from),
                1 => changed[from..from + count].fill(0),
                2 => changed.copy_within(from..from + count, to),
                _ => drop(changed.splice(from..from + count, bytes[..below(600)].to_vec())),
            }
        }
        if let Ok(parsed) = parse(&changed) {
            accepted += 1;
            assert!(states.contains(&(parsed.first, parsed.messages)));
            assert_eq!(parsed.session, 9);
        }
    }
    assert!(100 < accepted, "{accepted}");
}

#[test]
fn another_file_is_not_a_spool() {
    for other in [&b""[..], b"text", &[0; 2 * SECTOR]] {
        assert!(matches!(parse(other), Err(SpoolFault::NotSpool)));
    }
    let (bytes, at) = sample();
    let mut later = bytes.clone();
    later[8] = 2;
    assert!(matches!(
        parse(&later),
        Err(SpoolFault::Version { version: 2 })
    ));
    assert!(matches!(
        parse(&bytes[..at[0]]),
        Err(SpoolFault::Damaged { .. })
    ));
}

#[test]
fn what_is_committed_is_there_after_each_end_of_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("spool");
    let (mut first, mut kept) = (0, Vec::<Vec<u8>>::new());
    for round in 0..40_u64 {
        let (mut spool, spooled) = Spool::open(&path, None, "boiler-7").unwrap();
        assert_eq!((spooled.first, &spooled.messages), (first, &kept));
        assert_eq!(spooled.torn_len, 0);
        for message in 0..round % 5 {
            let message = vec![b'x'; 1 + (round * 7919 + message * 104_729) as usize % 300_000];
            kept.push(message.clone());
            spool.add(message);
        }
        spool.commit(9, first, first + kept.len() as u64).unwrap();
        // Acknowledgements reach the file with the next record.
        let acked = kept.len() / 2;
        kept.drain(..acked);
        first += acked as u64;
        kept.push(b"last".to_vec());
        spool.add(b"last".to_vec());
        spool.commit(10, first, first + kept.len() as u64).unwrap();
        // Not committed.
        spool.add(b"lost".to_vec());
        assert!(matches!(
            Spool::open(&path, None, "boiler-7"),
            Err(SessionError::Spool {
                fault: SpoolFault::Locked,
                ..
            })
        ));
    }
    let (mut spool, spooled) = Spool::open(&path, None, "other").unwrap();
    assert_eq!((spool.device(), spooled.session), ("boiler-7", 10));
    let len = path.metadata().unwrap().len();
    assert!(len < 3 * COMPACT_LEN, "{len} bytes");
    first += kept.len() as u64;
    spool.settle(11, first).unwrap();
    drop(spool);
    assert_eq!(path.metadata().unwrap().len(), 2 * SECTOR as u64);
    let (_, spooled) = Spool::open(&path, Some("boiler-7"), "").unwrap();
    assert_eq!(
        (spooled.session, spooled.first, spooled.messages.len()),
        (11, first, 0)
    );
    let names = folder.path().read_dir().unwrap().count();
    assert_eq!(names, 1, "nothing is left beside it");
}

#[test]
fn a_torn_record_is_cut_off_and_the_file_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("spool");
    let (bytes, at) = sample();
    fs::write(&path, &bytes[..at[3] - 1]).unwrap();
    let (mut spool, spooled) = Spool::open(&path, None, "").unwrap();
    assert_eq!(spooled.torn_len, (at[3] - 1 - at[2]) as u64);
    spool.add(b"next".to_vec());
    spool.commit(9, 7, 10).unwrap();
    drop(spool);
    let wanted = [&b"one"[..], b"two", b"next"].map(<[u8]>::to_vec);
    assert_eq!(content(&fs::read(&path).unwrap()), (7, wanted.to_vec()));
}

#[test]
fn a_record_is_written_at_the_end_wherever_the_file_was_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("spool");
    let (mut spool, _) = Spool::open(&path, None, "boiler-7").unwrap();
    spool.add(b"one".to_vec());
    spool.commit(9, 0, 1).unwrap();
    // A compaction that failed has read a part of the file.
    spool.file.seek(SeekFrom::Start(SECTOR as u64)).unwrap();
    spool.add(b"two".to_vec());
    spool.commit(9, 0, 2).unwrap();
    drop(spool);
    let wanted = [&b"one"[..], b"two"].map(<[u8]>::to_vec);
    assert_eq!(content(&fs::read(&path).unwrap()), (0, wanted.to_vec()));
}

#[test]
fn a_spool_of_another_device_or_in_a_missing_folder_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("spool");
    drop(Spool::open(&path, Some("one"), "").unwrap());
    let fault = Spool::open(&path, Some("two"), "").unwrap_err().to_string();
    assert!(fault.contains("of device one, not of two"), "{fault}");
    assert!(Spool::open(&folder.path().join("no/spool"), None, "one").is_err());
    assert!(Spool::open(folder.path(), None, "one").is_err());
}
