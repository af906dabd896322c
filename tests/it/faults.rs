//! A folder that does not do what the recording wants of it: what is still promised, kept and counted.

use std::fs;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use blocksd_recording::error::LogError;
use blocksd_recording::format::filename;
use blocksd_recording::write::log::{Log, LogOptions};
use blocksd_recording::write::retention::Retention;
use blocksd_recording::write::retry::LogContext;
use blocksd_recording::write::segment::Compression;
use blocksd_recording::write::stats::Stats;
use blocksd_recording::write::storage::{Directory, File, Folder};
use host_daemon::engine::event::{Event, Peer, What};
use host_daemon::recorded::to_log::EventWriter;
use tempfile::TempDir;
use tests::disk::{Fault, Simulated};
use tests::process::{DEADLINE, Server};
use tests::recorded::{event, read_back, source};

const SETTINGS: LogOptions = LogOptions {
    compression: Compression::None,
    rotate_bytes: 1 << 30,
    rotate_after: Duration::from_secs(3600),
    sync_after: Duration::from_millis(20),
};

/// A real folder in which nothing can be deleted, and in which one write is cut and the next refused.
#[derive(Debug)]
struct Stubborn {
    folder: Directory,
    /// Writes that were asked for.
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

/// Nothing that fails is tried twice: a test that would hang fails.
fn impatient(folder: impl Folder + 'static, max_bytes: Option<u64>) -> Arc<LogContext> {
    Arc::new(LogContext {
        path: std::path::PathBuf::new(),
        folder: Arc::new(folder),
        stats: Arc::default(),
        abandon: AtomicBool::new(true),
        retention: Retention::new(max_bytes),
    })
}

#[test]
fn a_file_that_is_within_the_limit_is_not_deleted_when_it_is_sealed() {
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
fn a_file_that_cannot_be_deleted_does_not_keep_others_from_being_synced() {
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
    assert_ne!(stats.errors, [0; 3], "what could not be deleted is told");
    assert!(!stats.retrying);
    assert!(read_back(folder.path()).into_iter().eq(0..1000));
}

#[test]
fn a_part_that_somebody_takes_away_holds_nothing_up() {
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
fn a_disk_that_never_syncs_gets_one_file_and_not_one_after_another() {
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
fn what_was_written_before_the_disk_was_given_up_is_not_written_twice() {
    let folder = TempDir::new().unwrap();
    let stubborn = Stubborn {
        folder: Directory::open(folder.path()).unwrap(),
        writes: Arc::default(),
    };
    let mut writer = EventWriter::new(Log::new(SETTINGS, impatient(stubborn, None), 1));
    let event = event(&source(1), 0..20_000, b"");
    assert_eq!(writer.event(&event), Err(LogError::GaveUp));
    assert_eq!(writer.given(), 20_000);
    // It takes data again, just now.
    writer.finish().unwrap();
    let read = read_back(folder.path());
    assert!(!read.is_empty() && read.iter().copied().eq(0..read.len() as u64));
}

#[test]
fn who_connects_and_says_nothing_is_not_remembered() {
    let disk = Simulated::new(Arc::default(), None);
    let mut writer = EventWriter::new(Log::new(SETTINGS, impatient(disk, None), 1));
    let device = source(1);
    let told = |what| Event {
        what,
        ..event(&device, 0..0, b"")
    };
    let opened = What::Opened {
        peer: Peer::Local("test".into()),
    };
    writer.event(&told(opened)).unwrap();
    assert_eq!(writer.devices(), 1);
    let closed = What::Closed {
        blocks: 0,
        bytes: 0,
        reason: host_daemon::engine::event::Reason::Eof,
    };
    writer.event(&told(closed)).unwrap();
    assert_eq!(writer.devices(), 0);
    writer.finish().unwrap();
}

#[test]
fn blocks_of_a_file_that_was_lost_are_told_at_the_end() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().to_str().unwrap();
    let server = Server::start(&["--record", path, "--record-sync-ms", "10"]);
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
