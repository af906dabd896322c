//! With a disk that is slow to sync, the log keeps writing while files wait to be sealed, up to a limit.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use blocksd_recording::internals::storage::{Directory, File, Folder};
use blocksd_recording::{
    Channel, ChannelSpec, Compression, Log, LogContext, LogOptions, Retention, Stats,
};
use tempfile::TempDir;

/// A gate that blocks every sync while it is closed.
#[derive(Debug, Default)]
struct Gate {
    is_closed: Mutex<bool>,
    opened: Condvar,
    /// Number of syncs of the folder.
    folder_syncs: AtomicUsize,
}

impl Gate {
    fn close(&self) {
        *self.is_closed.lock().unwrap() = true;
    }

    fn open(&self) {
        *self.is_closed.lock().unwrap() = false;
        self.opened.notify_all();
    }

    fn pass(&self) {
        let is_closed = self.is_closed.lock().unwrap();
        drop(self.opened.wait_while(is_closed, |it| *it).unwrap());
    }
}

#[derive(Debug)]
struct SlowFolder(Directory, Arc<Gate>);

#[derive(Debug)]
struct SlowFile(Arc<dyn File>, Arc<Gate>);

impl Folder for SlowFolder {
    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let file = self.0.create(name)?;
        Ok(Arc::new(SlowFile(file, Arc::clone(&self.1))))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.remove(name)
    }

    fn sync(&self) -> io::Result<()> {
        self.1.pass();
        self.1.folder_syncs.fetch_add(1, Ordering::Relaxed);
        self.0.sync()
    }

    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        self.0.list()
    }
}

impl File for SlowFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.0.write_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.1.pass();
        self.0.sync()
    }
}

fn log_on(folder: &Path, gate: &Arc<Gate>, options: LogOptions) -> Log {
    let slow = SlowFolder(Directory::open(folder).unwrap(), Arc::clone(gate));
    let stats = Arc::<Stats>::default();
    let context = LogContext::new(folder, Arc::new(slow), stats, Retention::new(None));
    Log::new(options, Arc::new(context), 1)
}

/// Total length of the files in a folder.
fn len(folder: &Path) -> u64 {
    let files = folder.read_dir().unwrap();
    files.map(|it| it.unwrap().metadata().unwrap().len()).sum()
}

const OPTIONS: LogOptions = LogOptions {
    compression: Compression::None,
    rotate_bytes: 2_000,
    rotate_after: Duration::from_secs(3_600),
    sync_after: Duration::from_millis(20),
};

/// Appends a message that fills a file, and begins the next file.
fn fill_a_file(log: &mut Log, channel: &mut Channel, sequence: u32) {
    let of_file = log.channel(channel, ChannelSpec::default).unwrap();
    log.append(of_file, sequence, 1, &[7; 3_000]).unwrap();
    log.commit().unwrap();
    assert!(log.rotate_if_due().unwrap());
}

/// A log with 60 full files on a disk whose syncs hang. All messages are written to the operating system, and none is synced.
fn stalled_log(folder: &Path) -> (Arc<Gate>, Log, Channel) {
    let gate = Arc::<Gate>::default();
    gate.close();
    let mut log = log_on(folder, &gate, OPTIONS);
    let mut channel = Channel::default();
    for sequence in 0..60 {
        fill_a_file(&mut log, &mut channel, sequence);
    }
    (gate, log, channel)
}

#[test]
fn writing_continues_while_files_wait_to_be_sealed_up_to_a_limit() {
    let folder = TempDir::new().unwrap();
    let (gate, mut log, mut channel) = stalled_log(folder.path());
    assert!(60 * 3_000 < len(folder.path()));
    assert_eq!(log.stats().read().chunks_synced, 0);
    // The log waits at the limit of 64 files.
    let (filled, fills) = mpsc::channel();
    let writer = std::thread::spawn(move || {
        for sequence in 60..100 {
            fill_a_file(&mut log, &mut channel, sequence);
            filled.send(sequence).unwrap();
        }
        log
    });
    let mut last = 0;
    while let Ok(sequence) = fills.recv_timeout(Duration::from_secs(1)) {
        last = sequence;
    }
    assert_eq!(last, 63);
    gate.open();
    let log = writer.join().unwrap();
    let stats = Arc::clone(log.stats());
    log.finish().unwrap();
    assert_eq!(stats.read().files_sealed, 100);
}

#[test]
fn files_that_wait_to_be_sealed_share_the_syncs_of_the_folder() {
    let folder = TempDir::new().unwrap();
    let (gate, log, _) = stalled_log(folder.path());
    gate.open();
    let stats = Arc::clone(log.stats());
    log.finish().unwrap();
    assert_eq!(stats.read().files_sealed, 60);
    // At least one for the first names and one for the last renames; at most two more for each 16 files.
    let syncs = gate.folder_syncs.load(Ordering::Relaxed);
    assert!((2..=10).contains(&syncs), "{syncs} syncs of the folder");
}

#[test]
fn messages_reach_the_system_in_time_while_a_commit_is_in_progress() {
    let folder = TempDir::new().unwrap();
    let gate = Arc::<Gate>::default();
    let options = LogOptions {
        rotate_bytes: 1 << 30,
        ..OPTIONS
    };
    let mut log = log_on(folder.path(), &gate, options);
    gate.close();
    let mut channel = Channel::default();
    let channel = log.channel(&mut channel, ChannelSpec::default).unwrap();
    log.append(channel, 0, 1, b"first").unwrap();
    log.commit().unwrap();
    let before = len(folder.path());
    log.append(channel, 1, 1, b"second").unwrap();
    log.tick().unwrap();
    assert_eq!(
        len(folder.path()),
        before,
        "the message was written too early"
    );
    let due = log.due().expect("a message that waits");
    std::thread::sleep(due.saturating_duration_since(std::time::Instant::now()));
    log.tick().unwrap();
    assert!(log.is_syncing());
    assert!(before < len(folder.path()));
    // Until the commit is done, only the rotation is due.
    assert!(
        log.due()
            .is_some_and(|due| options.rotate_after / 2 < due - std::time::Instant::now())
    );
    gate.open();
    log.finish().unwrap();
}
