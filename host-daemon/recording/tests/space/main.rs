//! A log stays within the limits on its space at every moment, whatever the disk does.

mod disk;
mod kept;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use blocksd_recording::internals::filename;
use blocksd_recording::internals::storage::{Directory, Folder};
use blocksd_recording::{
    Channel, ChannelSpec, Compression, Log, LogContext, LogOptions, Message, Packer, Reader,
    Retention, Visitor, Wanted,
};
use tempfile::TempDir;

use self::disk::{Disk, Watched, len};

/// A log on a watched disk.
struct Fixture {
    folder: TempDir,
    disk: Arc<Disk>,
    retention: Arc<Retention>,
    context: Arc<LogContext>,
    reports: Arc<Mutex<Vec<String>>>,
}

const OPTIONS: LogOptions = LogOptions {
    compression: Compression::None,
    rotate_bytes: 1 << 30,
    rotate_after: Duration::from_secs(3_600),
    sync_after: Duration::from_millis(5),
};

const MESSAGE_LEN: usize = 4_000;

impl Fixture {
    fn new(max_bytes: Option<u64>) -> Self {
        let folder = TempDir::new().unwrap();
        let disk = Arc::<Disk>::default();
        let retention = Retention::new(max_bytes);
        let watched = Watched(Directory::open(folder.path()).unwrap(), Arc::clone(&disk));
        let reports = Arc::<Mutex<Vec<String>>>::default();
        let context = LogContext::new(
            folder.path(),
            Arc::new(watched),
            Arc::default(),
            Arc::clone(&retention),
        );
        let context = {
            let reports = Arc::clone(&reports);
            context
                .reporting_to(move |report| reports.lock().unwrap().push(format!("{report}")))
                .counting_with(|path| Some(messages(path).len() as u64))
        };
        Self {
            folder,
            disk,
            retention,
            context: Arc::new(context),
            reports,
        }
    }

    fn log(&self) -> Log {
        Log::after_others(OPTIONS, Arc::clone(&self.context)).unwrap()
    }

    fn most(&self) -> u64 {
        self.disk.most.load(Ordering::Relaxed)
    }

    fn files(&self) -> Vec<(String, u64)> {
        let mut files = Directory::open(self.folder.path()).unwrap().list().unwrap();
        files.sort();
        files
    }

    fn reports_have(&self, text: &str) -> bool {
        let reports = self.reports.lock().unwrap();
        reports.iter().any(|report| report.contains(text))
    }
}

/// Appends messages with these numbers as fast as the log accepts them.
fn write(log: &mut Log, channel: &mut Channel, numbers: std::ops::Range<u32>) {
    for number in numbers {
        let mut payload = vec![0; MESSAGE_LEN];
        payload[..4].copy_from_slice(&number.to_le_bytes());
        let of_file = log.channel(channel, spec).unwrap();
        log.append(of_file, number, u64::from(number), &payload)
            .unwrap();
        log.tick().unwrap();
    }
}

fn spec() -> ChannelSpec {
    ChannelSpec {
        topic: "/device/a/blocks".to_owned(),
        is_counted: true,
        ..ChannelSpec::default()
    }
}

/// The sequence numbers of the messages in a file or folder.
fn messages(path: &Path) -> Vec<u32> {
    struct Numbers(Vec<u32>);
    impl Visitor for Numbers {
        type Error = blocksd_recording::Error;
        fn message(&mut self, message: &Message<'_>) -> Result<(), Self::Error> {
            self.0.push(message.sequence);
            Ok(())
        }
        fn lost(&mut self, _: &Path, _: &blocksd_recording::LostRange) -> Result<(), Self::Error> {
            Ok(())
        }
        fn idle(&mut self) -> Result<(), Self::Error> {
            Ok(())
        }
    }
    let mut numbers = Numbers(Vec::new());
    Reader::new(vec![path.into()], Wanted::default())
        .visit(&mut numbers)
        .unwrap();
    numbers.0
}

const MAX_BYTES: u64 = 8 << 20;

#[test]
fn the_files_never_exceed_the_limit_at_full_speed() {
    let fixture = Fixture::new(Some(MAX_BYTES));
    let mut log = fixture.log();
    write(&mut log, &mut Channel::default(), 0..20_000);
    let written = log.stats().read().bytes_written;
    log.finish().unwrap();
    assert!(9 * MAX_BYTES < written, "{written}");
    assert!(fixture.most() <= MAX_BYTES, "{}", fixture.most());
    // The newest messages are kept, and the space is used.
    let left = messages(fixture.folder.path());
    assert!(left.iter().copied().eq(left[0]..20_000));
    let stats = fixture.context.stats.read();
    assert!(MAX_BYTES / 2 < stats.bytes_on_disk, "{stats:?}");
    let on_disk: u64 = fixture.files().iter().map(|(_, len)| len).sum();
    assert_eq!(stats.bytes_on_disk, on_disk);
    assert_eq!(stats.messages_deleted + left.len() as u64, 20_000);
}

#[test]
fn files_whose_sync_failed_count_and_are_deleted() {
    let fixture = Fixture::new(Some(MAX_BYTES));
    fixture.disk.syncs_fail.store(true, Ordering::Relaxed);
    let mut log = fixture.log();
    write(&mut log, &mut Channel::default(), 0..10_000);
    assert!(4 * MAX_BYTES < log.stats().read().bytes_written);
    log.finish().unwrap();
    assert!(fixture.most() <= MAX_BYTES, "{}", fixture.most());
    let is_torn = |(name, _): &(String, u64)| name.ends_with(".part");
    assert!(fixture.files().iter().any(is_torn), "{:?}", fixture.files());
    assert!(fixture.reports_have("cannot sync"));
    assert_ne!(fixture.context.stats.read().files_deleted, 0);
}

#[test]
fn files_that_wait_for_a_disk_that_hangs_do_not_displace_those_on_the_disk() {
    let fixture = Fixture::new(Some(MAX_BYTES));
    let mut log = fixture.log();
    let mut channel = Channel::default();
    write(&mut log, &mut channel, 0..4_000);
    fixture.disk.syncs_hang.store(true, Ordering::Relaxed);
    let (done, is_done) = mpsc::channel();
    let writer = std::thread::spawn(move || {
        write(&mut log, &mut channel, 4_000..8_000);
        done.send(()).unwrap();
        log
    });
    let begun = Instant::now();
    while !fixture.context.stats.read().retrying {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "the log does not wait"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(is_done.try_recv().is_err());
    assert!(fixture.reports_have("cannot stay within 8388608 bytes"));
    // At least a quarter of the limit is left to sealed files.
    let sealed = fixture.files().into_iter();
    let sealed = sealed.filter(|(name, _)| filename::is_sealed(name));
    let sealed: u64 = sealed.map(|(_, len)| len).sum();
    assert!(MAX_BYTES / 4 < sealed, "{sealed}");
    fixture.disk.syncs_hang.store(false, Ordering::Relaxed);
    writer.join().unwrap().finish().unwrap();
    assert!(!fixture.context.stats.read().retrying);
    assert!(fixture.most() <= MAX_BYTES, "{}", fixture.most());
    let left = messages(fixture.folder.path());
    assert!(left.iter().copied().eq(left[0]..8_000));
}

#[test]
fn every_file_of_the_recording_counts_and_no_other() {
    let fixture = Fixture::new(Some(1 << 20));
    let time = "20260101T000000Z";
    let fill = |name: &str| {
        let path = fixture.folder.path().join(name);
        std::fs::write(path, vec![0; 300 << 10]).unwrap();
    };
    // Torn, the original of a repair, and an interrupted repair; then files of others.
    let own = ["part", "lost"].map(|ending| format!("00000001-{time}.mcap.{ending}"));
    own.iter().for_each(|name| fill(name));
    fill(&format!("00000003-{time}.mcap.new"));
    let others = ["notes.txt", "00000001-backup.mcap", "flight.mcap"];
    others.iter().for_each(|name| fill(name));
    let mut log = fixture.log();
    write(&mut log, &mut Channel::default(), 0..150);
    log.finish().unwrap();
    assert!(fixture.most() <= 1 << 20, "{}", fixture.most());
    let left: Vec<_> = fixture.files().into_iter().map(|(name, _)| name).collect();
    assert!(
        !left.contains(&own[0]) && !left.contains(&own[1]),
        "{left:?}"
    );
    assert!(
        others
            .iter()
            .all(|other| left.iter().any(|name| name == other))
    );
    assert!(messages(fixture.folder.path()).into_iter().eq(0..150));
}

#[test]
fn the_copy_of_a_packed_file_counts() {
    let fixture = Fixture::new(Some(1 << 20));
    let options = LogOptions {
        compression: Compression::Auto,
        ..OPTIONS
    };
    fixture
        .disk
        .syncs_are_skipped
        .store(true, Ordering::Relaxed);
    let packer = Packer::start(&fixture.context, options.compression);
    let mut log = Log::after_others(options, Arc::clone(&fixture.context)).unwrap();
    let mut channel = Channel::default();
    let stop = Arc::<AtomicBool>::default();
    let watcher = {
        let (stop, folder) = (
            Arc::clone(&stop),
            Directory::open(fixture.folder.path()).unwrap(),
        );
        std::thread::spawn(move || {
            let mut most = 0;
            while !stop.load(Ordering::Relaxed) {
                most = most.max(len(&folder));
            }
            most
        })
    };
    for number in 0..12_000_u32 {
        let of_file = log.channel(&mut channel, spec).unwrap();
        let text = format!("{number} {:x}", number.wrapping_mul(0x9e37_79b1));
        log.append(of_file, number, 1, text.as_bytes()).unwrap();
        log.commit().unwrap();
        log.rotate_if_due().unwrap();
    }
    log.finish().unwrap();
    packer.finish(Duration::from_secs(60));
    stop.store(true, Ordering::Relaxed);
    let most = watcher.join().unwrap().max(fixture.most());
    let stats = fixture.context.stats.read();
    assert!(
        0 < stats.files_packed && 0 < stats.files_deleted,
        "{stats:?}"
    );
    assert!(most <= 1 << 20, "{most}");
    let on_disk: u64 = fixture.files().iter().map(|(_, len)| len).sum();
    assert_eq!(stats.bytes_on_disk, on_disk);
}

#[test]
fn a_message_longer_than_the_limit_is_recorded() {
    let fixture = Fixture::new(Some(1 << 20));
    let mut log = fixture.log();
    let mut channel = Channel::default();
    write(&mut log, &mut channel, 0..400);
    let of_file = log.channel(&mut channel, spec).unwrap();
    log.append(of_file, 400, 1, &vec![7; 3 << 20]).unwrap();
    log.tick().unwrap();
    write(&mut log, &mut channel, 401..402);
    log.finish().unwrap();
    // It is deleted when another file is sealed after it.
    let stats = fixture.context.stats.read();
    assert_eq!((stats.blocks_synced, stats.messages_deleted), (402, 401));
    assert!(3 << 20 < fixture.most() && fixture.most() < 4 << 20);
    assert_eq!(messages(fixture.folder.path()), [401]);
}

#[test]
fn a_smaller_limit_applies_to_files_that_exist() {
    let fixture = Fixture::new(None);
    let mut log = fixture.log();
    let mut channel = Channel::default();
    write(&mut log, &mut channel, 0..1_000);
    log.finish().unwrap();
    fixture.retention.set(Some(1 << 20));
    // At the start, before anything is written.
    let log = fixture.log();
    log.finish().unwrap();
    assert_eq!(fixture.context.stats.read().bytes_on_disk, 0);
    assert_eq!(fixture.context.stats.read().messages_deleted, 1_000);
}

#[test]
fn the_minimum_of_free_space_is_kept() {
    let fixture = Fixture::new(None);
    fixture.disk.capacity.store(12 << 20, Ordering::Relaxed);
    fixture.retention.set_min_free(Some(4 << 20));
    let mut log = fixture.log();
    write(&mut log, &mut Channel::default(), 0..10_000);
    log.finish().unwrap();
    assert!(fixture.most() <= 8 << 20, "{}", fixture.most());
    assert!(6 << 20 < fixture.most(), "{}", fixture.most());
    let left = messages(fixture.folder.path());
    assert!(left.iter().copied().eq(left[0]..10_000));
    let stats = fixture.context.stats.read();
    assert!(4 << 20 <= stats.bytes_free, "{stats:?}");
    assert_eq!(stats.errors, [0; 3]);
    assert!(fixture.reports_have("deleted, to keep 4194304 bytes free"));
}

#[test]
fn without_a_file_to_delete_the_log_waits_for_free_space() {
    let fixture = Fixture::new(None);
    fixture.disk.capacity.store(1 << 20, Ordering::Relaxed);
    fixture.retention.set_min_free(Some(2 << 20));
    let mut log = fixture.log();
    let writer = std::thread::spawn(move || {
        write(&mut log, &mut Channel::default(), 0..1_000);
        log
    });
    let begun = Instant::now();
    while !fixture.reports_have("cannot keep 2097152 bytes free") {
        assert!(begun.elapsed() < Duration::from_secs(60), "no report");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(fixture.most(), 0);
    assert!(fixture.context.stats.read().retrying);
    fixture.disk.capacity.store(20 << 20, Ordering::Relaxed);
    writer.join().unwrap().finish().unwrap();
    assert!(messages(fixture.folder.path()).into_iter().eq(0..1_000));
    assert!(fixture.reports_have("the disk accepts data again"));
}

#[test]
fn files_are_not_deleted_one_after_another_if_that_frees_nothing() {
    let fixture = Fixture::new(None);
    let mut log = fixture.log();
    let mut channel = Channel::default();
    for number in 0..20 {
        write(&mut log, &mut channel, number * 100..number * 100 + 100);
        log.finish().unwrap();
        log = fixture.log();
    }
    assert_eq!(fixture.files().len(), 20);
    // A snapshot keeps deleted files.
    fixture.disk.keeps_deleted.store(true, Ordering::Relaxed);
    fixture.disk.capacity.store(10 << 20, Ordering::Relaxed);
    fixture.retention.set_min_free(Some(3 << 20));
    let writer = std::thread::spawn(move || {
        write(&mut log, &mut channel, 2_000..3_000);
        log.finish().unwrap();
    });
    while !fixture.reports_have("cannot keep 3145728 bytes free") {
        std::thread::sleep(Duration::from_millis(10));
    }
    // One round of deletions, for the missing 1 MiB. Then the log waits, and leaves the free space alone.
    let left = fixture.files().len();
    assert!((15..=18).contains(&left), "{left}");
    assert!(fixture.disk.deleted.load(Ordering::Relaxed) != 0);
    fixture.disk.capacity.store(1 << 30, Ordering::Relaxed);
    writer.join().unwrap();
    let left = messages(fixture.folder.path());
    assert!(
        1_900 < left.len() && left.ends_with(&[2_999]),
        "{}",
        left.len()
    );
}

#[test]
fn a_limit_on_free_space_does_not_lower_the_limit_on_the_files() {
    let fixture = Fixture::new(Some(MAX_BYTES));
    fixture.disk.capacity.store(8 << 30, Ordering::Relaxed);
    fixture.retention.set_min_free(Some(1 << 30));
    let mut log = fixture.log();
    write(&mut log, &mut Channel::default(), 0..1_500);
    log.finish().unwrap();
    assert!(messages(fixture.folder.path()).into_iter().eq(0..1_500));
    assert_eq!(fixture.context.stats.read().messages_deleted, 0);
}

#[test]
fn the_newest_file_stays_although_too_little_space_is_free() {
    let fixture = Fixture::new(None);
    let mut log = fixture.log();
    let mut channel = Channel::default();
    write(&mut log, &mut channel, 0..100);
    log.finish().unwrap();
    fixture.disk.capacity.store(1 << 20, Ordering::Relaxed);
    fixture.retention.set_min_free(Some(900 << 30));
    let mut log = fixture.log();
    let context = Arc::clone(&fixture.context);
    let writer = std::thread::spawn(move || {
        let of_file = log.channel(&mut Channel::default(), spec).unwrap();
        log.append(of_file, 100, 100, b"the last message").unwrap();
        // Waits for space until the log gives up, as at the stop of a daemon.
        log.end()
    });
    while !fixture.reports_have("and no older file is left to delete") {
        std::thread::sleep(Duration::from_millis(10));
    }
    context.give_up();
    let (ended, unwritten) = writer.join().unwrap();
    assert!(ended.is_ok(), "{ended:?}");
    assert_eq!(unwritten, 0);
    assert_eq!(messages(fixture.folder.path()).last(), Some(&100));
}
