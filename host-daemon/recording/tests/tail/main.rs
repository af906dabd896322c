//! A tail shows every new message once, or reports how many it missed, whatever happens to the files.

mod damage;
mod position;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use blocksd_recording::catalog::list_directory;
use blocksd_recording::{
    Channel, ChannelSpec, Compression, Error, Lock, Log, LogContext, LogOptions, Losses, LostRange,
    Message, Missed, Packer, Retention, Tail, TailPosition, Visitor, Wanted, repair_dir,
};
use tempfile::TempDir;

const DEADLINE: Duration = Duration::from_secs(60);

/// What a visitor saw.
#[derive(Clone, Debug, Default)]
struct Seen {
    messages: Vec<u32>,
    files_missed: u64,
    messages_missed: u64,
    waits_for_directory: u64,
    lost: u64,
    position: Option<TailPosition>,
    positions: Vec<TailPosition>,
}

/// Collects what it sees. Blocks while it is paused.
#[derive(Clone, Debug, Default)]
struct Collect {
    seen: Arc<Mutex<Seen>>,
    is_paused: Arc<AtomicBool>,
    is_stopped: Arc<AtomicBool>,
}

/// The end of a tail, or an error.
#[derive(Debug)]
struct Ended(Option<Error>);

impl From<Error> for Ended {
    fn from(error: Error) -> Self {
        Self(Some(error))
    }
}

impl Visitor for Collect {
    type Error = Ended;

    fn message(&mut self, message: &Message<'_>) -> Result<(), Ended> {
        while self.is_paused.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(1));
        }
        let number = message.data.first_chunk().expect("a number");
        let number = u32::from_le_bytes(*number);
        self.seen.lock().unwrap().messages.push(number);
        Ok(())
    }

    fn lost(&mut self, _: &Path, lost: &LostRange) -> Result<(), Ended> {
        self.seen.lock().unwrap().lost += lost.len;
        Ok(())
    }

    fn missed(&mut self, _: &Path, missed: &Missed) -> Result<(), Ended> {
        let mut seen = self.seen.lock().unwrap();
        seen.files_missed += missed.files;
        seen.messages_missed += missed.messages;
        Ok(())
    }

    fn missing(&mut self, _: &Path) -> Result<(), Ended> {
        self.seen.lock().unwrap().waits_for_directory += 1;
        Ok(())
    }

    fn reached(&mut self, position: &TailPosition) -> Result<(), Ended> {
        let mut seen = self.seen.lock().unwrap();
        seen.position = Some(*position);
        seen.positions.push(*position);
        Ok(())
    }

    fn idle(&mut self) -> Result<(), Ended> {
        match self.is_stopped.load(Ordering::Relaxed) {
            true => Err(Ended(None)),
            false => Ok(()),
        }
    }
}

/// A tail on a thread of its own.
struct Following {
    collect: Collect,
    thread: JoinHandle<Result<Losses, Ended>>,
}

impl Following {
    fn start(tail: Tail) -> Self {
        let collect = Collect::default();
        let thread = {
            let mut collect = collect.clone();
            std::thread::spawn(move || tail.visit(&mut collect))
        };
        Self { collect, thread }
    }

    fn of(path: &Path) -> Self {
        Self::start(Tail::new(path.into(), Wanted::default()))
    }

    fn seen(&self) -> Seen {
        self.collect.seen.lock().unwrap().clone()
    }

    /// Waits for a condition.
    #[track_caller]
    fn wait(&self, is_so: impl Fn(&Seen) -> bool) {
        let begun = Instant::now();
        while !is_so(&self.seen()) {
            let seen = self.seen();
            assert!(
                begun.elapsed() < DEADLINE,
                "{} messages, {seen:?}",
                seen.messages.len()
            );
            assert!(!self.thread.is_finished(), "the tail has ended");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits until this many messages were seen, and that there are no more.
    #[track_caller]
    fn expect(&self, messages: impl IntoIterator<Item = u32>) {
        let expected: Vec<_> = messages.into_iter().collect();
        self.wait(|seen| expected.len() <= seen.messages.len());
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(self.seen().messages, expected);
    }

    fn stop(self) -> Seen {
        self.collect.is_stopped.store(true, Ordering::Relaxed);
        let ended = self.thread.join().unwrap();
        assert!(matches!(ended, Err(Ended(None))), "{ended:?}");
        self.collect.seen.lock().unwrap().clone()
    }
}

const OPTIONS: LogOptions = LogOptions {
    compression: Compression::None,
    rotate_bytes: 1 << 30,
    rotate_after: Duration::from_secs(3_600),
    sync_after: Duration::from_millis(5),
};

/// A log whose messages are numbers.
struct Numbers {
    log: Log,
    channel: Channel,
}

impl Numbers {
    fn open(folder: &Path) -> Self {
        Self::of(Log::open(folder, OPTIONS).unwrap())
    }

    fn of(log: Log) -> Self {
        Self {
            log,
            channel: Channel::default(),
        }
    }

    fn write(&mut self, numbers: std::ops::Range<u32>) {
        for number in numbers {
            let spec = || ChannelSpec {
                topic: "/device/a/blocks".to_owned(),
                is_counted: true,
                ..ChannelSpec::default()
            };
            let channel = self.log.channel(&mut self.channel, spec).unwrap();
            let payload = [&number.to_le_bytes()[..], &[b'.'; 96]].concat();
            let time = u64::from(number);
            self.log.append(channel, number, time, &payload).unwrap();
        }
        self.log.commit().unwrap();
        self.log.rotate_if_due().unwrap();
    }
}

/// The sealed and torn files of a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let files = list_directory(folder).unwrap().into_iter();
    files.map(|file| file.path).collect()
}

fn record(folder: &Path, numbers: std::ops::Range<u32>) {
    let mut log = Numbers::open(folder);
    log.write(numbers);
    log.log.finish().unwrap();
}

#[test]
fn a_copy_beside_a_recording_is_not_repeated_and_hides_nothing() {
    let folder = TempDir::new().unwrap();
    record(folder.path(), 0..10);
    let copy = folder.path().join("copy-of-yesterday.mcap");
    fs::copy(&files(folder.path())[0], &copy).unwrap();
    let following = Following::of(folder.path());
    following.expect(0..10);
    let mut log = Numbers::open(folder.path());
    log.write(10..20);
    following.expect(0..20);
    log.log.finish().unwrap();
    // A copy that sorts before the original, and one of another recording.
    fs::rename(&copy, folder.path().join("00000000-copy.mcap")).unwrap();
    let other = TempDir::new().unwrap();
    record(other.path(), 100..110);
    fs::copy(&files(other.path())[0], folder.path().join("other.mcap")).unwrap();
    following.expect((0..20).chain(100..110));
    assert_eq!(following.stop().files_missed, 0);
}

#[test]
fn numbers_that_begin_again_and_a_number_twice_are_read() {
    let folder = TempDir::new().unwrap();
    for first in [0, 10, 20] {
        record(folder.path(), first..first + 10);
    }
    let following = Following::of(folder.path());
    following.expect(0..30);
    // Another file with the highest number.
    let other = TempDir::new().unwrap();
    record(other.path(), 30..40);
    let path = &files(other.path())[0];
    let name = path.file_name().unwrap().to_str().unwrap();
    fs::copy(
        path,
        folder.path().join(name.replace("00000001-", "00000003-")),
    )
    .unwrap();
    following.expect(0..40);
    // All files are moved away.
    let away = TempDir::new().unwrap();
    for path in files(folder.path()) {
        fs::rename(&path, away.path().join(path.file_name().unwrap())).unwrap();
    }
    record(folder.path(), 40..50);
    record(folder.path(), 50..60);
    following.expect(0..60);
    let seen = following.stop();
    assert_eq!((seen.files_missed, seen.messages_missed), (0, 0));
}

#[test]
fn messages_of_deleted_files_are_counted_exactly() {
    let folder = TempDir::new().unwrap();
    let context = LogContext::open(folder.path(), Arc::default(), Retention::new(Some(60_000)));
    let context = Arc::new(context.unwrap());
    let mut log = Numbers::of(Log::new(OPTIONS, Arc::clone(&context), 1));
    log.write(0..10);
    let following = Following::of(folder.path());
    following.wait(|seen| seen.messages.len() == 10);
    for round in 1..4 {
        following.collect.is_paused.store(true, Ordering::Relaxed);
        for first in 0..300 {
            let first = first * 10 + (round - 1) * 3_000 + 10;
            log.write(first..first + 10);
        }
        let stats = context.stats.read();
        assert!(u64::from(round) * 8 < stats.files_deleted, "{stats:?}");
        following.collect.is_paused.store(false, Ordering::Relaxed);
        let last = round * 3_000 + 9;
        following.wait(|seen| seen.messages.last() == Some(&last));
        following.wait(|seen| {
            let shown = seen.messages.len() as u64;
            shown + seen.messages_missed == u64::from(last) + 1
        });
        assert!(following.seen().files_missed > u64::from(round));
    }
    log.log.finish().unwrap();
    let seen = following.stop();
    assert!(seen.messages.is_sorted());
    assert!(3_000 < seen.messages_missed);
}

/// The rest of a file that is being read comes before what was missed after it.
#[test]
fn the_rest_of_a_file_does_not_hide_what_was_missed_after_it() {
    let folder = TempDir::new().unwrap();
    let mut log = Numbers::open(folder.path());
    log.write(0..5);
    let following = Following::of(folder.path());
    following.expect(0..5);
    following.collect.is_paused.store(true, Ordering::Relaxed);
    log.write(5..10);
    std::thread::sleep(Duration::from_millis(200));
    log.write(10..20);
    log.log.finish().unwrap();
    for first in [20, 30, 40, 50] {
        record(folder.path(), first..first + 10);
    }
    let all = files(folder.path());
    fs::remove_file(&all[2]).unwrap();
    fs::remove_file(&all[3]).unwrap();
    following.collect.is_paused.store(false, Ordering::Relaxed);
    following.expect((0..30).chain(50..60));
    following.wait(|seen| (seen.files_missed, seen.messages_missed) == (2, 20));
    following.stop();
}

#[test]
fn a_device_that_begins_in_a_deleted_file_is_counted() {
    let folder = TempDir::new().unwrap();
    let following = Following::of(folder.path());
    std::thread::sleep(Duration::from_millis(100));
    let elsewhere = TempDir::new().unwrap();
    for first in [0, 10, 20] {
        let mut log = Numbers::open(elsewhere.path());
        log.write(first..first + 10);
        log.log.finish().unwrap();
    }
    // The first two files are deleted before the directory is listed.
    let last = files(elsewhere.path()).pop().unwrap();
    fs::rename(&last, folder.path().join(last.file_name().unwrap())).unwrap();
    following.expect(20..30);
    let seen = following.stop();
    assert_eq!((seen.files_missed, seen.messages_missed), (2, 20));
}

#[test]
fn a_file_that_is_sealed_and_packed_is_read_once() {
    let folder = TempDir::new().unwrap();
    let context = LogContext::open(folder.path(), Arc::default(), Retention::new(None));
    let context = Arc::new(context.unwrap());
    let packer = Packer::start(&context, Compression::Auto);
    let following = Following::of(folder.path());
    let options = LogOptions {
        rotate_bytes: 20_000,
        ..OPTIONS
    };
    let mut log = Numbers::of(Log::new(options, Arc::clone(&context), 1));
    for first in 0..200 {
        log.write(first * 5..first * 5 + 5);
        if first % 20 == 0 {
            std::thread::sleep(Duration::from_millis(60));
        }
    }
    log.log.finish().unwrap();
    packer.finish(DEADLINE);
    assert!(4 < context.stats.read().files_packed);
    following.expect(0..1_000);
    let seen = following.stop();
    assert_eq!((seen.files_missed, seen.lost), (0, 0));
    // A tail that begins with packed files reads the same.
    let following = Following::of(folder.path());
    following.expect(0..1_000);
    following.stop();
}

#[test]
fn a_repaired_file_is_not_read_again() {
    let folder = TempDir::new().unwrap();
    let following = Following::of(folder.path());
    for round in 0..3 {
        let mut log = Numbers::open(folder.path());
        log.write(round * 10..round * 10 + 10);
        let path = files(folder.path()).pop().unwrap();
        following.wait(|seen| seen.messages.len() as u32 == round * 10 + 10);
        // A crash in the middle of a record.
        drop(log);
        let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"\x06\0\x10\0\0\0\0\0\0cut").unwrap();
        if round == 1 {
            // The file is read as torn before it is repaired.
            following.wait(|seen| seen.lost != 0);
        }
        let lock = Lock::existing(folder.path()).unwrap();
        for repaired in repair_dir(folder.path()).unwrap() {
            assert_eq!(repaired.unwrap().recovered.blocks, 10);
        }
        drop(lock);
    }
    following.expect(0..30);
    assert_eq!(following.stop().files_missed, 0);
}

#[test]
fn a_directory_may_be_created_later_and_again() {
    let folder = TempDir::new().unwrap();
    let directory = folder.path().join("recording");
    let following = Following::of(&directory);
    following.wait(|seen| seen.waits_for_directory == 1);
    fs::create_dir(&directory).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    record(&directory, 0..10);
    following.expect(0..10);
    fs::remove_dir_all(&directory).unwrap();
    following.wait(|seen| seen.waits_for_directory == 2);
    record(&directory, 10..20);
    following.expect(0..20);
    assert_eq!(following.stop().files_missed, 0);
    // A mistake in the path is an error.
    let mistake = Tail::new(directory.join("a/b/c"), Wanted::default());
    let ended = mistake.visit(&mut Collect::default());
    assert!(matches!(ended, Err(Ended(Some(_)))), "{ended:?}");
}

#[test]
fn a_torn_file_in_the_folder_of_a_running_log_does_not_stop_the_tail() {
    let folder = TempDir::new().unwrap();
    let mut log = Numbers::open(folder.path());
    log.write(0..10);
    drop(log);
    // Not repaired, as after an error.
    let torn = files(folder.path()).pop().unwrap();
    assert!(torn.extension().is_some_and(|it| it == "part"));
    let mut log = Numbers::open(folder.path());
    log.write(10..20);
    let following = Following::of(folder.path());
    following.expect(0..20);
    log.write(20..30);
    following.expect(0..30);
    log.log.finish().unwrap();
    record(folder.path(), 30..40);
    following.expect(0..40);
    following.stop();
}

#[test]
fn a_file_that_is_copied_slowly_is_read_completely() {
    let other = TempDir::new().unwrap();
    let mut log = Numbers::open(other.path());
    for first in [0, 10, 20] {
        log.write(first..first + 10);
    }
    log.log.finish().unwrap();
    let bytes = fs::read(&files(other.path())[0]).unwrap();
    let folder = TempDir::new().unwrap();
    let following = Following::of(folder.path());
    let mut copy = fs::File::create(folder.path().join("copy.mcap")).unwrap();
    for part in bytes.chunks(bytes.len() / 8) {
        copy.write_all(part).unwrap();
        std::thread::sleep(Duration::from_millis(150));
    }
    following.expect(0..30);
    assert_eq!(following.stop().lost, 0);
}
