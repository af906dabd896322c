//! The recording's files after a crash and after a power failure, at any moment of a simulated disk.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use blocksd::recorded::ranges::CHECKER;
use blocksd::recorded::to_log::EventWriter;
use blocksd_recording::internals::filename::{self, Suffix};
use blocksd_recording::{Compression, Log, LogContext, LogOptions, Retention, Stats};
use blocksd_tests::disk::{Chance, End, Fault, Simulated};
use blocksd_tests::recorded::{assert_kept, event, planted, read_back, source};
use tempfile::TempDir;

/// Number of moments of each kind; `BLOCKSD_TEST_MOMENTS` overrides it.
const MOMENTS: usize = 150;

/// Number of blocks in the recording of a test.
const BLOCKS: u64 = 4000;

fn moments() -> usize {
    let given = std::env::var("BLOCKSD_TEST_MOMENTS").ok();
    given.map_or(MOMENTS, |given| given.parse().expect("a number"))
}

/// Records numbered blocks of some devices on this disk, with commits at any time. Returns for each block the count of
/// numbered blocks before it; the other blocks are recordings.
fn record(
    disk: &Simulated,
    stats: &Arc<Stats>,
    compression: Compression,
    chance: &mut Chance,
) -> Vec<u64> {
    let common = Arc::new(LogContext::new(
        Path::new(""),
        Arc::new(disk.clone()),
        Arc::clone(stats),
        Retention::new(None),
    ));
    let settings = LogOptions {
        compression,
        rotate_bytes: 60_000,
        rotate_after: Duration::from_secs(3600),
        sync_after: Duration::from_secs(3600),
    };
    let mut writer = EventWriter::new(Log::new(settings, common, 1));
    let sources: Vec<_> = (1..=3).map(source).collect();
    let planter = source(9);
    let mut numbered = Vec::new();
    let mut next = 0;
    while next < BLOCKS {
        let until = (next + chance.of(1..=20) as u64).min(BLOCKS);
        // Some series end, and some messages are refused.
        let tail: &[u8] = [&b""[..], b"\0\0\0\0", b"\xff\xff\xff\xff"][chance.of(0..=2)];
        let of = &sources[chance.of(0..=2)];
        writer
            .event(&event(of, next..until, tail))
            .expect("a disk that works in the end");
        numbered.extend(next..until);
        next = until;
        if chance.of(0..=7) == 0 {
            // A device sends a recording, or a part of one.
            let block = &planted()[chance.of(0..=planted().len() - 1)];
            let len = u32::try_from(block.len()).expect("short").to_be_bytes();
            let wire = [&len[..], block].concat();
            writer
                .event(&event(&planter, 0..0, &wire))
                .expect("a disk that works in the end");
            numbered.push(next);
        }
        if chance.of(0..=3) == 0 {
            while writer.log().is_syncing() {
                std::thread::yield_now();
            }
            writer.commit().expect("a disk that works in the end");
        }
    }
    writer.finish().expect("a disk that works in the end");
    numbered.push(next);
    numbered
}

/// Restores moments of a recording, repairs the files, and asserts that no promised block is missing.
fn survives(end: End, compression: Compression, seed: u64) {
    let stats = Arc::<Stats>::default();
    let disk = Simulated::new(Arc::clone(&stats), None);
    let mut chance = Chance(seed);
    let numbered = record(&disk, &stats, compression, &mut chance);
    assert_eq!(stats.read().blocks_synced, numbered.len() as u64 - 1);
    let last = disk.moments() - 1;
    let mut recovered = 0;
    for _ in 0..moments() {
        let moment = chance.of(0..=last);
        let folder = TempDir::new().expect("a folder");
        disk.leave(moment, end, &mut chance, folder.path())
            .expect("space on the disk");
        let before = snapshot(folder.path());
        let repaired = repair(folder.path());
        let read = read_back(folder.path());
        let promised = numbered[usize::try_from(disk.promised(moment)).expect("few")];
        let context =
            format!("{end:?}, {compression:?}, seed {seed}, moment {moment} of {last}: {before:?}");
        let kept = std::panic::catch_unwind(|| assert_kept(&read, promised));
        assert!(kept.is_ok(), "{context}");
        for (name, len) in snapshot(folder.path()) {
            let path = folder.path().join(&name);
            match filename::suffix(&name) {
                Some(Suffix::Sealed) => {
                    assert!(CHECKER.check(&path).unwrap().is_some(), "{context}: {name}");
                }
                // The unchanged original, if more than its end is lost.
                Some(Suffix::Lost) => {
                    let torn = (name.replace(".lost", ".part"), len);
                    assert!(before.contains(&torn), "{context}: {name}");
                    assert_eq!(end, End::Power, "{context}: {name}");
                }
                _ => panic!("{context}: {name}"),
            }
        }
        recovered += repaired;
    }
    assert!(recovered > 0, "no moment left anything to repair");
}

fn snapshot(folder: &Path) -> Vec<(String, u64)> {
    let entries = std::fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry"));
    let mut files: Vec<_> = entries
        .map(|entry| {
            (
                entry.file_name().to_string_lossy().into_owned(),
                entry.metadata().expect("a file").len(),
            )
        })
        .collect();
    files.sort();
    files
}

#[test]
fn promised_blocks_survive_a_crash_at_any_moment() {
    survives(End::Kill, Compression::None, 1);
    survives(End::Kill, Compression::Lz4, 2);
}

#[test]
fn promised_blocks_survive_a_power_failure_at_any_moment() {
    survives(End::Power, Compression::None, 3);
    survives(End::Power, Compression::Lz4, 4);
    survives(End::Power, Compression::Zstd, 5);
}

#[test]
fn a_disk_that_refuses_and_shortens_writes_loses_nothing() {
    let stats = Arc::<Stats>::default();
    let fault = Fault {
        writes: 40,
        syncs: usize::MAX,
        names: 5,
    };
    let disk = Simulated::new(Arc::clone(&stats), Some(fault));
    record(&disk, &stats, Compression::None, &mut Chance(6));
    let folder = TempDir::new().expect("a folder");
    let last = disk.moments() - 1;
    disk.leave(last, End::Kill, &mut Chance(7), folder.path())
        .expect("space on the disk");
    assert_eq!(read_back(folder.path()), (0..BLOCKS).collect::<Vec<_>>());
    assert!(stats.read().errors.iter().sum::<u64>() > 0);
    assert!(!stats.read().retrying);
}

#[test]
fn a_failed_sync_promises_nothing_and_begins_a_new_file() {
    let stats = Arc::<Stats>::default();
    let fault = Fault {
        writes: usize::MAX,
        syncs: 7,
        names: usize::MAX,
    };
    let disk = Simulated::new(Arc::clone(&stats), Some(fault));
    let numbered = record(&disk, &stats, Compression::None, &mut Chance(8));
    assert!(stats.read().blocks_synced + 1 < numbered.len() as u64);
    let folder = TempDir::new().expect("a folder");
    let last = disk.moments() - 1;
    disk.leave(last, End::Kill, &mut Chance(9), folder.path())
        .expect("space on the disk");
    let unsealed = snapshot(folder.path())
        .iter()
        .filter(|(name, _)| name.ends_with(".part"))
        .count();
    assert!(unsealed > 0, "files whose sync failed must not be sealed");
    repair(folder.path());
    // The simulated kernel did not lose their data.
    assert!(read_back(folder.path()).into_iter().eq(0..BLOCKS));
}

/// Returns the number of recovered blocks.
fn repair(folder: &Path) -> u64 {
    let repaired = CHECKER
        .repair_dir(folder)
        .expect("a folder that can be written to");
    repaired
        .map(|repaired| repaired.expect("a disk that works").recovered.blocks)
        .sum()
}
