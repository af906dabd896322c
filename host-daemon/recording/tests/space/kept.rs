//! Files that are kept are not deleted, and the log says what that costs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use blocksd_recording::internals::filename;
use blocksd_recording::{Channel, Compression, LogOptions, Packer};

use crate::{Fixture, OPTIONS, messages, write};

const PATIENCE: Duration = Duration::from_secs(60);

/// The numbers of the files, in their order.
fn numbers(fixture: &Fixture) -> Vec<u64> {
    let files = fixture.files().into_iter();
    files
        .filter_map(|(name, _)| filename::number(&name))
        .collect()
}

fn on_disk(fixture: &Fixture) -> u64 {
    fixture.files().iter().map(|(_, len)| len).sum()
}

fn reports(fixture: &Fixture, text: &str) -> usize {
    let reports = fixture.reports.lock().unwrap();
    reports
        .iter()
        .filter(|report| report.contains(text))
        .count()
}

#[test]
fn files_that_are_kept_exceed_the_limit_and_are_reported_once() {
    const MAX: u64 = 4 << 20;
    let fixture = Fixture::new(Some(MAX));
    fixture.retention.keep_from(Some(3));
    let mut log = fixture.log();
    let mut channel = Channel::default();
    let over = "the files exceed the limit of 4194304 bytes by";
    write(&mut log, &mut channel, 0..4_000);
    log.finish().unwrap();
    // The first two files went first.
    let left = numbers(&fixture);
    let last = *left.last().unwrap();
    assert!(left.iter().copied().eq(3..=last) && 10 < last, "{left:?}");
    assert_eq!(fixture.context.stats.read().files_deleted, 2);
    assert_eq!(reports(&fixture, over), 1);
    assert!(fixture.reports_have("because those from number 3 on are kept"));
    let stats = fixture.context.stats.read();
    assert_eq!(stats.bytes_over_limit, on_disk(&fixture) - MAX);
    assert!(!stats.retrying && stats.errors == [0; 3]);

    // What is not kept any more is deleted, and no more than that.
    fixture.retention.keep_from(Some(last - 1));
    let mut log = fixture.log();
    write(&mut log, &mut channel, 4_000..4_001);
    log.finish().unwrap();
    assert!(on_disk(&fixture) <= MAX);
    assert!(numbers(&fixture).contains(&(last - 1)));
    assert!(!numbers(&fixture).contains(&3));
    assert_eq!(fixture.context.stats.read().bytes_over_limit, 0);
    assert_eq!(reports(&fixture, over), 1);

    // Another time.
    let mut log = fixture.log();
    write(&mut log, &mut channel, 4_001..8_000);
    log.finish().unwrap();
    assert_eq!(reports(&fixture, over), 2);
    let left = messages(fixture.folder.path());
    assert!(left.iter().copied().eq(left[0]..8_000));
    assert_eq!(numbers(&fixture)[0], last - 1);
    // Without the limit, nothing exceeds it.
    fixture.retention.set(None);
    fixture.log().finish().unwrap();
    assert_eq!(fixture.context.stats.read().bytes_over_limit, 0);
}

#[test]
fn the_folder_is_not_listed_at_each_write_while_files_are_kept() {
    let fixture = Fixture::new(Some(1 << 20));
    fixture.retention.keep_from(Some(0));
    fixture
        .disk
        .syncs_are_skipped
        .store(true, Ordering::Relaxed);
    let mut log = fixture.log();
    let mut channel = Channel::default();
    write(&mut log, &mut channel, 0..500);
    let lists = || fixture.disk.lists.load(Ordering::Relaxed);
    let (before, files, begun) = (lists(), numbers(&fixture).len(), Instant::now());
    for number in 500..1_500 {
        write(&mut log, &mut channel, number..number + 1);
        log.commit().unwrap();
    }
    // At each seal, and once a second.
    let files = numbers(&fixture).len() - files;
    let most = 4 * files as u64 + 10 + 2 * begun.elapsed().as_secs();
    assert!(lists() - before <= most, "{} {most}", lists() - before);
    log.finish().unwrap();
    assert!(messages(fixture.folder.path()).into_iter().eq(0..1_500));
}

#[test]
fn with_a_limit_on_free_space_the_log_waits_for_files_that_are_kept() {
    let fixture = Fixture::new(None);
    fixture.disk.capacity.store(8 << 20, Ordering::Relaxed);
    fixture.retention.set_min_free(Some(4 << 20));
    fixture.retention.keep_from(Some(2));
    let mut log = fixture.log();
    let writer = std::thread::spawn(move || {
        write(&mut log, &mut Channel::default(), 0..3_000);
        log
    });
    let begun = Instant::now();
    while !fixture.reports_have("all files that are left are kept") {
        assert!(begun.elapsed() < PATIENCE, "no report");
        std::thread::sleep(Duration::from_millis(10));
    }
    // More can be free than the limit: the figures say why that is not enough.
    let reports = fixture.reports.lock().unwrap().clone();
    let report = reports.iter().find(|it| it.contains("are kept")).unwrap();
    let figures: Vec<u64> = report
        .split(|it: char| !it.is_ascii_digit())
        .filter_map(|it| it.parse().ok())
        .collect();
    let &[min, free, len] = figures.as_slice() else {
        panic!("{report}");
    };
    assert!(min == 4 << 20 && free < min + len, "{report}");
    assert_eq!(free, (8 << 20) - on_disk(&fixture), "{report}");
    assert_eq!(numbers(&fixture)[0], 2);
    assert!(on_disk(&fixture) <= 4 << 20);
    // It goes on once they are not kept.
    fixture.retention.keep_from(None);
    writer.join().unwrap().finish().unwrap();
    assert!(on_disk(&fixture) <= 4 << 20);
    assert_eq!(messages(fixture.folder.path()).last(), Some(&2_999));
    assert_eq!(fixture.context.stats.read().bytes_over_limit, 0);
}

#[test]
fn no_file_is_deleted_once_it_is_kept_whatever_is_in_progress() {
    let fixture = Fixture::new(Some(1 << 20));
    fixture
        .disk
        .syncs_are_skipped
        .store(true, Ordering::Relaxed);
    let is_stopped = Arc::<AtomicBool>::default();
    let options = LogOptions {
        compression: Compression::Auto,
        ..OPTIONS
    };
    let packer = Packer::start(&fixture.context, options.compression);
    let mut log = fixture.log();
    let stop = Arc::clone(&is_stopped);
    let writer = std::thread::spawn(move || {
        let mut channel = Channel::default();
        let mut number = 0;
        while !stop.load(Ordering::Relaxed) {
            write(&mut log, &mut channel, number..number + 1);
            // Short chunks, which are packed.
            log.commit().unwrap();
            number += 1;
        }
        log
    });
    let begun = Instant::now();
    let is_deleted = || fixture.context.stats.read().files_deleted != 0;
    for round in 0_u64.. {
        // A busy machine may delete none in the first rounds.
        if 40 <= round && (is_deleted() || PATIENCE < begun.elapsed()) {
            break;
        }
        fixture.retention.keep_from(None);
        std::thread::sleep(Duration::from_millis(20 + round % 7));
        let all = numbers(&fixture);
        let Some(from) = all.get(all.len() / 2).copied() else {
            continue;
        };
        fixture.retention.keep_from(Some(from));
        let sealed = |numbers: Vec<u64>| numbers.into_iter().filter(move |it| from <= *it);
        let mut kept: Vec<_> = sealed(numbers(&fixture)).collect();
        std::thread::sleep(Duration::from_millis(30));
        let now: Vec<_> = sealed(numbers(&fixture)).collect();
        // A file and its packed copy have the same number.
        kept.dedup();
        assert!(kept.iter().all(|it| now.contains(it)), "{kept:?} {now:?}");
    }
    is_stopped.store(true, Ordering::Relaxed);
    writer.join().unwrap().finish().unwrap();
    packer.finish(PATIENCE);
    let stats = fixture.context.stats.read();
    assert!(0 < stats.files_deleted, "{stats:?}");
}
