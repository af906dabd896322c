//! A failing folder: the promises, the kept data and the counts still hold.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use blocksd::recorded::to_log::EventWriter;
use blocksd_engine::event::{Event, EventKind, Peer};
use blocksd_recording::internals::filename;
use blocksd_recording::internals::storage::{Directory, File, Folder};
use blocksd_recording::{Compression, Log, LogContext, LogError, LogOptions, Retention, Stats};
use blocksd_tests::disk::{Fault, Simulated};
use blocksd_tests::process::{DEADLINE, Process, Server, run};
use blocksd_tests::recorded::{event, read_back, source};
use tempfile::TempDir;

const SETTINGS: LogOptions = LogOptions {
    compression: Compression::None,
    rotate_bytes: 1 << 30,
    rotate_after: Duration::from_secs(3600),
    sync_after: Duration::from_millis(20),
};

/// A real folder in which nothing can be deleted, and one write is short and the next one refused.
#[derive(Debug)]
struct Stubborn {
    folder: Directory,
    /// Number of requested writes.
    writes: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct StubbornFile {
    file: Arc<dyn File>,
    writes: Arc<AtomicUsize>,
}

impl Folder for Stubborn {
    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let (file, writes) = (self.folder.create(name)?, Arc::clone(&self.writes));
        Ok(Arc::new(StubbornFile { file, writes }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.folder.rename(from, to)
    }

    fn remove(&self, _: &str) -> io::Result<()> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn sync(&self) -> io::Result<()> {
        self.folder.sync()
    }

    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        self.folder.list()
    }
}

impl File for StubbornFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        match self.writes.fetch_add(1, Ordering::Relaxed) {
            0 => self.file.write_at(&bytes[..bytes.len() / 2], offset),
            1 => Err(io::ErrorKind::StorageFull.into()),
            _ => self.file.write_at(bytes, offset),
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }
}

/// Settings without retries, so that a test that would hang fails.
fn impatient(folder: impl Folder + 'static, max_bytes: Option<u64>) -> Arc<LogContext> {
    {
        let context = LogContext::new(
            Path::new(""),
            Arc::new(folder),
            Arc::default(),
            Retention::new(max_bytes),
        );
        context.give_up();
        Arc::new(context)
    }
}

#[test]
fn a_file_within_the_limit_is_not_deleted_when_it_is_sealed() {
    let folder = TempDir::new().unwrap();
    let common = impatient(Directory::open(folder.path()).unwrap(), Some(100_000));
    let mut writer = EventWriter::new(Log::new(SETTINGS, Arc::clone(&common), 1));
    writer.event(&event(&source(1), 0..450, b"")).unwrap();
    writer.finish().unwrap();
    let len = common.stats.read().bytes_synced;
    assert!((50_001..100_000).contains(&len), "{len}");
    assert!(read_back(folder.path()).into_iter().eq(0..450));
}

#[test]
fn a_file_that_cannot_be_deleted_does_not_block_the_sync_of_others() {
    let folder = TempDir::new().unwrap();
    let stubborn = Stubborn {
        folder: Directory::open(folder.path()).unwrap(),
        writes: Arc::new(AtomicUsize::new(2)),
    };
    let settings = LogOptions {
        rotate_bytes: 20_000,
        ..SETTINGS
    };
    let common = impatient(stubborn, Some(40_000));
    let mut writer = EventWriter::new(Log::new(settings, Arc::clone(&common), 1));
    let device = source(1);
    for n in 0..100 {
        let event = event(&device, n * 10..n * 10 + 10, b"");
        writer.event(&event).unwrap();
        writer.commit().unwrap();
    }
    writer.finish().unwrap();
    let stats = common.stats.read();
    assert_eq!(stats.blocks_synced, 1000);
    assert_ne!(stats.errors, [0; 3], "failed deletions are counted");
    assert!(!stats.retrying);
    assert!(read_back(folder.path()).into_iter().eq(0..1000));
}

#[test]
fn a_part_that_is_removed_by_others_does_not_block_the_recording() {
    let disk = Simulated::new(Arc::<Stats>::default(), None);
    let common = impatient(disk.clone(), None);
    let mut writer = EventWriter::new(Log::new(SETTINGS, Arc::clone(&common), 1));
    writer.event(&event(&source(1), 0..10, b"")).unwrap();
    let (name, _) = disk.list().unwrap().remove(0);
    disk.rename(&name, "elsewhere").unwrap();
    writer.finish().unwrap();
    let stats = common.stats.read();
    assert_eq!((stats.blocks_synced, stats.files_sealed), (10, 0));
}

#[test]
fn a_disk_that_never_syncs_gets_only_one_file() {
    let fault = Fault {
        writes: usize::MAX,
        syncs: 1,
        names: usize::MAX,
    };
    let disk = Simulated::new(Arc::default(), Some(fault));
    let common = impatient(disk.clone(), None);
    let mut writer = EventWriter::new(Log::new(SETTINGS, Arc::clone(&common), 1));
    let device = source(1);
    let mut given = 0;
    let until = Instant::now() + DEADLINE;
    let ended = loop {
        let written = writer.event(&event(&device, given..given + 1, b""));
        given += 1;
        if let Err(ended) = written.and_then(|()| writer.commit()) {
            break ended;
        }
        assert!(
            Instant::now() < until,
            "{given} blocks are lost, one by one"
        );
        std::thread::sleep(Duration::from_millis(1));
    };
    assert_eq!((ended, writer.given()), (LogError::GaveUp, given));
    assert_eq!(disk.list().unwrap().len(), 1);
    assert_eq!(common.stats.read().blocks_synced, 0);
}

#[test]
fn data_written_before_the_file_was_given_up_is_not_written_twice() {
    let folder = TempDir::new().unwrap();
    let stubborn = Stubborn {
        folder: Directory::open(folder.path()).unwrap(),
        writes: Arc::default(),
    };
    let mut writer = EventWriter::new(Log::new(SETTINGS, impatient(stubborn, None), 1));
    let event = event(&source(1), 0..20_000, b"");
    assert_eq!(writer.event(&event), Err(LogError::GaveUp));
    assert_eq!(writer.given(), 20_000);
    // The disk accepts data again.
    writer.finish().unwrap();
    let read = read_back(folder.path());
    assert!(!read.is_empty() && read.iter().copied().eq(0..read.len() as u64));
}

#[test]
fn messages_that_are_recorded_as_counts_are_counted_as_recorded() {
    let folder = TempDir::new().unwrap();
    let context = impatient(Directory::open(folder.path()).unwrap(), None);
    let mut writer = EventWriter::new(Log::new(SETTINGS, Arc::clone(&context), 1));
    let mut device = Arc::into_inner(source(1)).unwrap();
    device.framing = "lines".parse().unwrap();
    let device = Arc::new(device);
    for _ in 0..20 {
        writer.event(&event(&device, 0..0, &[b'\n'; 100])).unwrap();
    }
    assert_eq!(writer.given(), 2000);
    writer.finish().unwrap();
    assert_eq!(context.stats.read().blocks_synced, 2000);
}

#[test]
fn the_device_of_a_silent_connection_is_forgotten() {
    let disk = Simulated::new(Arc::default(), None);
    let mut writer = EventWriter::new(Log::new(SETTINGS, impatient(disk, None), 1));
    let device = source(1);
    let of_kind = |kind| Event {
        kind,
        ..event(&device, 0..0, b"")
    };
    let opened = EventKind::Opened {
        peer: Peer::Local("test".into()),
    };
    writer.event(&of_kind(opened)).unwrap();
    assert_eq!(writer.devices(), 1);
    let closed = EventKind::Closed {
        messages: 0,
        bytes: 0,
        reason: blocksd_engine::reason::CloseReason::Eof,
        series_open: false,
    };
    writer.event(&of_kind(closed)).unwrap();
    assert_eq!(writer.devices(), 0);
    writer.finish().unwrap();
}

#[test]
fn blocks_of_a_lost_file_are_reported_at_the_end() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().to_str().unwrap();
    let server = Server::start(&["--record", path, "--record-sync", "10"]);
    let mut stream = server.connect();
    let is_open = |entry: &fs::DirEntry| {
        let name = entry.file_name().into_string().unwrap();
        filename::number(&name).is_some() && !filename::is_sealed(&name)
    };
    let until = Instant::now() + DEADLINE;
    while !server.process.error_text().contains("cannot sync") {
        assert!(Instant::now() < until, "{}", server.process.error_text());
        for entry in fs::read_dir(folder.path()).unwrap().map(Result::unwrap) {
            if is_open(&entry) {
                fs::remove_file(entry.path()).ok();
            }
        }
        stream.write_all(b"\0\0\0\x01x").unwrap();
        std::thread::sleep(Duration::from_millis(1));
    }
    let (ended, _) = server.stop();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("are not recorded"), "{ended:?}");
}

/// A real folder on a disk with limited space.
#[derive(Debug)]
struct Full {
    folder: Directory,
    room: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct FullFile {
    file: Arc<dyn File>,
    room: Arc<AtomicUsize>,
}

impl Folder for Full {
    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let (file, room) = (self.folder.create(name)?, Arc::clone(&self.room));
        Ok(Arc::new(FullFile { file, room }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.folder.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.folder.remove(name)
    }

    fn sync(&self) -> io::Result<()> {
        self.folder.sync()
    }

    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        self.folder.list()
    }
}

impl File for FullFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let room = self.room.load(Ordering::Relaxed);
        if room == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let len = bytes.len().min(room);
        let written = self.file.write_at(&bytes[..len], offset)?;
        self.room.fetch_sub(written, Ordering::Relaxed);
        Ok(written)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }
}

#[test]
fn the_number_of_unrecorded_blocks_is_never_overstated() {
    const BATCH: u64 = 50;
    let mut certain = 0;
    let rooms = (0..40)
        .map(|n| n * 97)
        .chain((0..40).map(|n| n * 40_009 + 5_000));
    for (n, room) in rooms.enumerate() {
        let folder = TempDir::new().unwrap();
        let full = Full {
            folder: Directory::open(folder.path()).unwrap(),
            room: Arc::new(room.into()),
        };
        let settings = LogOptions {
            rotate_bytes: if n % 2 == 0 { 1 << 30 } else { 200_000 },
            ..SETTINGS
        };
        let common = impatient(full, None);
        let mut writer = EventWriter::new(Log::new(settings, Arc::clone(&common), 1));
        let device = source(1);
        let mut given = 0;
        loop {
            let written = writer.event(&event(&device, given..given + BATCH, b""));
            given += BATCH;
            // With occasional commits, so that a part of the written data is synced.
            let is_due = given.is_multiple_of(BATCH * 7 * (1 + n as u64 % 5));
            let committed = written.and_then(|()| match is_due {
                true => writer.commit(),
                false => Ok(()),
            });
            if committed.is_err() {
                break;
            }
        }
        assert_eq!(writer.given(), given);
        // A file that was given up before is not retried, so there may be nothing to end.
        let (_, least) = writer.end();
        let most = given - common.stats.read().blocks_synced;
        let path = folder.path().to_str().unwrap();
        // Its exit code is 1 if there is no complete chunk.
        run(&["recover", path], b"");
        let kept = read_back(folder.path());
        assert!(kept.iter().copied().eq(0..kept.len() as u64));
        let truth = given - kept.len() as u64;
        assert!(
            least <= truth && truth <= most,
            "room {room}: {least} <= {truth} <= {most}"
        );
        certain += least;
    }
    assert!(0 < certain, "not even on a disk without space");
}

#[test]
fn a_stop_with_a_failing_disk_logs_it_once_with_correct_figures() {
    for rotate in ["4096", "1000000000"] {
        let folder = TempDir::new().unwrap();
        let path = folder.path().to_str().unwrap();
        let args = [
            "--record",
            path,
            "--output",
            "none",
            "--record-rotate-size",
            rotate,
            "--record-sync",
            "50",
        ];
        let daemon = Server::command(&args);
        let mut command = std::process::Command::new("sh");
        // In blocks of 512 or 1024 bytes, depending on the shell. One message does not fit.
        command
            .args(["-c", "ulimit -f 64; exec \"$0\" \"$@\""])
            .arg(daemon.get_program())
            .args(daemon.get_args());
        let server = Server::of(Process::start(command), &args);
        let mut device = server.connect();
        for _ in 0..3 {
            device.write_all(b"\0\0\0\x05small").unwrap();
        }
        let message = [&200_000_u32.to_be_bytes()[..], &[b'x'; 200_000]].concat();
        for _ in 0..3 {
            device.write_all(&message).unwrap();
        }
        server.process.wait_for_error("devices are held back");
        let (ended, _) = server.stop();
        assert_eq!(ended.code, Some(1), "{ended:?}");
        let errors = ended.stderr.matches("recording: cannot write").count();
        assert_eq!(errors, 1, "{}", ended.stderr);
        let line = ended.stderr.lines().last().unwrap();
        let (_, figures) = line.split_once("recording incomplete: ").unwrap();
        let mut figures = figures.split_whitespace().filter_map(|it| it.parse().ok());
        let figures: (Option<u64>, Option<u64>) = (figures.next(), figures.next());
        let (least, most) = match figures {
            (Some(most), None) => (0, most),
            (Some(least), Some(most)) => (least, most),
            _ => panic!("{line}"),
        };
        run(&["recover", path], b"");
        let read = run(&["read", "--output", "csv", path], b"").stdout_text();
        let kept = read.lines().skip(1).count() as u64;
        let truth = ended.totals()["block"] - kept;
        assert!(
            least <= truth && truth <= most,
            "{line}; {truth} are missing"
        );
    }
}
