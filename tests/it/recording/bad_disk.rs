//! Every command, and the start of the daemon, on a disk with an unreadable sector and a file that cannot be opened, and on a
//! file system that cannot sync or lock folders.

use std::fs;
use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use blocksd_recording::internals::storage::{Directory, File, Folder};
use blocksd_recording::scan::{Found, Scan};
use blocksd_recording::{
    Channel, ChannelSpec, Compression, Log, LogContext, LogOptions, Retention, repair_dir,
};
use blocksd_tests::bad_disk::BadDisk;
use blocksd_tests::disk::Chance;
use blocksd_tests::process::{Ended, Process, Server, blocksd, finish, run, wait_until};
use tempfile::TempDir;

/// Blocks in each file.
const BLOCKS: usize = 15;
/// The unreadable sector.
const SECTOR: Range<u64> = 8192..12_288;
/// The same in words.
const UNREADABLE: &str = "unreadable: 4096 bytes at 8192: Input/output error";

/// Four sealed files with a chunk for each block, and a torn one.
struct Recording {
    folder: TempDir,
    files: Vec<PathBuf>,
    torn: PathBuf,
}

impl Recording {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let options = LogOptions {
            compression: Compression::None,
            ..LogOptions::default()
        };
        for _ in 0..5 {
            let mut log = Log::open(folder.path(), options).unwrap();
            let mut channel = Channel::default();
            for sequence in 0..BLOCKS {
                let spec = || ChannelSpec {
                    topic: "/device/10.0.0.1/blocks".to_owned(),
                    encoding: "raw".to_owned(),
                    ..ChannelSpec::default()
                };
                let channel = log.channel(&mut channel, spec).unwrap();
                let time = 1_800_000_000_000_000_000;
                log.append(channel, sequence as u32, time, &[b'x'; 1500])
                    .unwrap();
                log.commit().unwrap();
            }
            log.finish().unwrap();
        }
        let mut files = blocksd_tests::recorded::sealed(folder.path());
        let last = files.pop().unwrap();
        let torn = last.with_extension("mcap.part");
        let bytes = fs::read(&last).unwrap();
        // In the middle of a record.
        fs::write(&torn, &bytes[..bytes.len() - 3000]).unwrap();
        fs::remove_file(last).unwrap();
        Self {
            folder,
            files,
            torn,
        }
    }

    fn path(&self) -> &str {
        self.folder.path().to_str().unwrap()
    }

    /// The failures: a sector of the second file and of the torn one, and the third file as a whole.
    fn reads(&self) -> String {
        let sector = format!("{}-{}", SECTOR.start, SECTOR.end);
        // Only under its own name.
        let torn = self.torn.file_name().unwrap().to_str().unwrap();
        format!("/00000002-:{sector},/{torn}:{sector}")
    }

    fn on(&self, disk: &BadDisk, command: Command) -> Command {
        let command = disk.failing("BAD_READS", self.reads(), command);
        disk.failing("BAD_OPENS", "/00000003-", command)
    }

    fn run(&self, disk: &BadDisk, args: &[&str]) -> Ended {
        finish(self.on(disk, blocksd(args)), b"")
    }
}

/// Number of blocks in the chunks of a file that do not reach into a range.
fn readable(path: &Path, bad: &Range<u64>) -> usize {
    let mut scan = Scan::open(path, false).unwrap();
    let mut count = 0;
    while let Some(found) = scan.advance().unwrap() {
        if let Found::Chunk(chunk) = found {
            let end = chunk.offset + chunk.bytes.len() as u64;
            if end <= bad.start || bad.end <= chunk.offset {
                let messages = chunk.records().filter(|(_, raw)| raw.message().is_some());
                count += messages.count();
            }
        }
        if scan.has_ended() {
            break;
        }
    }
    count
}

fn blocks(ended: &Ended) -> usize {
    let output = ended.stdout_text();
    let is_block = |line: &&str| line.contains(r#""event":"block""#);
    output.lines().filter(is_block).count()
}

#[test]
fn an_unreadable_sector_and_an_unreadable_file_cost_only_themselves_in_every_command() {
    let name = "an_unreadable_sector_and_an_unreadable_file_cost_only_themselves_in_every_command";
    let Some(disk) = BadDisk::build(name) else {
        return;
    };
    let recording = Recording::new();
    let folder = recording.path();
    let second = readable(&recording.files[1], &SECTOR);
    let torn = readable(&recording.torn, &SECTOR);
    assert!(8 < second && second < BLOCKS, "{second}");
    assert!(6 < torn && torn < second, "{torn}");
    let expected = 2 * BLOCKS + second + torn;
    let is_reported = |ended: &Ended| {
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert_eq!(ended.stderr.matches(UNREADABLE).count(), 2, "{ended:?}");
        assert!(ended.stderr.contains("/00000003-"), "{ended:?}");
        assert!(ended.stderr.contains("Permission denied"), "{ended:?}");
        let end = "are lost, and 1 file of the recording cannot be read";
        assert!(ended.stderr.contains(end), "{ended:?}");
    };

    let ended = recording.run(&disk, &["read", folder, "--output", "json"]);
    is_reported(&ended);
    assert_eq!(blocks(&ended), expected);
    for output in ["text", "hex", "csv", "raw"] {
        is_reported(&recording.run(&disk, &["read", folder, "--output", output]));
    }

    let ended = recording.run(&disk, &["verify", folder]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let output = ended.stdout_text();
    assert_eq!(output.matches(UNREADABLE).count(), 2, "{output}");
    assert_eq!(
        output.matches("cannot be read: Permission denied").count(),
        1
    );
    assert_eq!(output.matches(": ok: 15 blocks").count(), 2, "{output}");
    assert!(
        ended.stderr.contains("3 of 5 files are not sound"),
        "{ended:?}"
    );

    let ended = recording.run(&disk, &["recordings", folder]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let output = ended.stdout_text();
    let states = ["sealed", "sealed", "unreadable", "torn"];
    let counts = states.map(|state| output.matches(&format!(" {state} ")).count());
    assert_eq!(counts, [3, 3, 1, 1], "{output}");
    assert!(
        ended.stderr.contains("cannot be read: Permission denied"),
        "{ended:?}"
    );
    let ended = recording.run(&disk, &["recordings", folder, "--json"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let error = r#""error":"cannot be read: Permission denied (os error 13)"}"#;
    assert_eq!(ended.stdout_text().matches(error).count(), 1, "{ended:?}");

    let mut server = Server::start(&["--once"]);
    let address = server.addr().to_string();
    let replay = ["replay", folder, "--to", &address, "--speed", "max"];
    is_reported(&recording.run(&disk, &replay));
    server.wait_for("close", 1);
    let (_, events) = server.end();
    let sent = events.iter().filter(|event| event["event"] == "block");
    assert_eq!(sent.count(), expected);

    let follow = blocksd(&["read", "--follow", folder, "--output", "json"]);
    let follow = Process::start(recording.on(&disk, follow));
    follow.wait_for_errors(UNREADABLE, 2);
    let len = run(&["read", folder, "--output", "json"], b"").stdout.len();
    let line = len / (4 * BLOCKS + readable(&recording.torn, &(0..0)));
    wait_until("all blocks are shown", || {
        expected * line * 9 / 10 < follow.printed()
    });
    drop(follow);

    // A single file that cannot be opened is an error of the command line.
    let third = recording.files[2].to_str().unwrap();
    for command in ["read", "verify"] {
        let ended = recording.run(&disk, &[command, third]);
        ended.assert_refused(2, "Permission denied");
    }
    let to = recording.folder.path().join("copy");
    let to = to.to_str().unwrap();
    let ended = recording.run(
        &disk,
        &[
            "recover",
            recording.files[1].to_str().unwrap(),
            "--output",
            to,
        ],
    );
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout_text().contains(UNREADABLE), "{ended:?}");
    assert_eq!(readable(Path::new(to), &(0..0)), second);
}

#[test]
fn a_repair_saves_what_is_readable_and_keeps_the_original() {
    let Some(disk) = BadDisk::build("a_repair_saves_what_is_readable_and_keeps_the_original")
    else {
        return;
    };
    for at_start in [false, true] {
        let recording = Recording::new();
        // Another torn file, which cannot be opened, and a sound one after it.
        let unopened = recording
            .folder
            .path()
            .join("00000003-20261127T000000Z.mcap.part");
        let sound = recording
            .folder
            .path()
            .join("00000009-20261127T000000Z.mcap.part");
        fs::copy(&recording.torn, &unopened).unwrap();
        fs::copy(&recording.torn, &sound).unwrap();
        let torn = readable(&recording.torn, &SECTOR);
        let whole = readable(&sound, &(0..0));
        let before = fs::read(&recording.torn).unwrap();
        let report = if at_start {
            let args = ["--record", recording.path(), "--record-max-bytes", "17M"];
            let daemon = recording.on(&disk, Server::command(&args));
            let mut server = Server::of(Process::start(daemon), &args);
            server.connect().write_all(b"\0\0\0\x01x\0\0\0\0").unwrap();
            server.wait_for("close", 1);
            let (ended, _) = server.stop();
            assert_eq!(ended.code, Some(0), "{ended:?}");
            assert!(ended.stderr.contains("original is kept"), "{ended:?}");
            ended.stderr
        } else {
            let ended = recording.run(&disk, &["recover", recording.path()]);
            assert_eq!(ended.code, Some(1), "{ended:?}");
            let end = "1 of 3 torn files could not be repaired";
            assert!(ended.stderr.contains(end), "{ended:?}");
            assert!(ended.stdout_text().contains(UNREADABLE), "{ended:?}");
            ended.stderr
        };
        assert!(report.contains("Permission denied"), "{report}");
        let sealed = recording.torn.with_extension("");
        let original = sealed.with_extension("mcap.lost");
        assert_eq!(fs::read(original).unwrap(), before);
        assert_eq!(readable(&sealed, &(0..0)), torn);
        assert_eq!(readable(&sound.with_extension(""), &(0..0)), whole);
        assert!(unopened.exists());
        let numbers = blocksd_tests::recorded::sealed(recording.folder.path());
        let last = numbers
            .last()
            .unwrap()
            .file_name()
            .unwrap()
            .to_str()
            .unwrap();
        assert!(
            last.starts_with(if at_start { "00000010-" } else { "00000009-" }),
            "{last}"
        );
    }
}

#[test]
fn retention_and_packing_go_on_beside_unreadable_files() {
    let Some(disk) = BadDisk::build("retention_and_packing_go_on_beside_unreadable_files") else {
        return;
    };
    let recording = Recording::new();
    // The newest sealed file is to be packed, and is unreadable.
    let args = [
        "--record",
        recording.path(),
        "--record-compression",
        "zstd",
        "--record-max-bytes",
        "16777216",
    ];
    let daemon = disk.failing("BAD_READS", "/00000004-:0-100000", Server::command(&args));
    let daemon = disk.failing("BAD_OPENS", "/00000001-", daemon);
    let server = Server::of(Process::start(daemon), &args);
    let mut device = server.connect();
    let exists = |at: usize| recording.files[at].exists();
    let mut chance = Chance(1);
    wait_until("the oldest files are deleted", || {
        // Different bytes each time, so that compression does not shorten them.
        let noise = (0..100_000).map(|_| chance.of(0..=255) as u8);
        let noise: Vec<_> = noise.collect();
        device
            .write_all(&[&100_000_u32.to_be_bytes()[..], &noise].concat())
            .unwrap();
        !exists(0) && !exists(1)
    });
    drop(device);
    let (ended, _) = server.stop();
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

#[test]
fn a_file_system_that_cannot_sync_folders_is_reported_once() {
    let Some(disk) = BadDisk::build("a_file_system_that_cannot_sync_folders_is_reported_once")
    else {
        return;
    };
    for error in [libc::EINVAL, libc::ENOTSUP, libc::ENOSYS, libc::EBADF] {
        let recording = Recording::new();
        let new = recording.folder.path().join("new/below");
        let error = error.to_string();
        for folder in [recording.folder.path(), &new] {
            let args = [
                "--record",
                folder.to_str().unwrap(),
                "--record-rotate-size",
                "4096",
            ];
            let daemon = disk.failing("BAD_FOLDER_SYNCS", &error, Server::command(&args));
            let mut server = Server::of(Process::start(daemon), &args);
            let mut device = server.connect();
            let message = [&[0, 0, 7, 208][..], &[b'x'; 2000]].concat();
            for _ in 0..10 {
                device.write_all(&message).unwrap();
                std::thread::sleep(Duration::from_millis(10));
            }
            device.write_all(&[0; 4]).unwrap();
            server.wait_for("close", 1);
            let (ended, _) = server.stop();
            assert_eq!(ended.code, Some(0), "{ended:?}");
            let warnings = ended.stderr.matches("cannot sync a folder").count();
            assert_eq!(warnings, 1, "{ended:?}");
        }
        assert!(!recording.torn.exists());
        assert!(!blocksd_tests::recorded::sealed(&new).is_empty());
        let torn = Recording::new();
        let recover = blocksd(&["recover", torn.path()]);
        let ended = finish(disk.failing("BAD_FOLDER_SYNCS", &error, recover), b"");
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert_eq!(ended.stderr.matches("cannot sync a folder").count(), 1);
    }
    // A disk that fails is not such a file system.
    let torn = Recording::new();
    let recover = blocksd(&["recover", torn.path()]);
    let eio = libc::EIO.to_string();
    let ended = finish(disk.failing("BAD_FOLDER_SYNCS", &eio, recover), b"");
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(torn.torn.exists());
}

/// A folder that cannot be synced, with this error.
#[derive(Debug)]
struct Unsynced {
    folder: Directory,
    error: i32,
}

impl Folder for Unsynced {
    fn create(&self, name: &str) -> std::io::Result<Arc<dyn File>> {
        self.folder.create(name)
    }

    fn rename(&self, from: &str, to: &str) -> std::io::Result<()> {
        self.folder.rename(from, to)
    }

    fn remove(&self, name: &str) -> std::io::Result<()> {
        self.folder.remove(name)
    }

    fn sync(&self) -> std::io::Result<()> {
        Err(std::io::Error::from_raw_os_error(self.error))
    }

    fn list(&self) -> std::io::Result<Vec<(String, u64)>> {
        self.folder.list()
    }
}

#[test]
fn a_log_continues_only_if_the_folder_cannot_be_synced_at_all() {
    for (error, is_sealed) in [
        (libc::EINVAL, true),
        (libc::EOPNOTSUPP, true),
        (libc::EIO, false),
    ] {
        let folder = TempDir::new().unwrap();
        let unsynced = Unsynced {
            folder: Directory::open(folder.path()).unwrap(),
            error,
        };
        let context = LogContext::new(
            Path::new(""),
            Arc::new(unsynced),
            Arc::default(),
            Retention::new(None),
        );
        let context = Arc::new(context);
        context.give_up();
        let mut log = Log::new(LogOptions::default(), Arc::clone(&context), 1);
        let channel = log
            .channel(&mut Channel::default(), ChannelSpec::default)
            .unwrap();
        log.append(channel, 0, 0, b"message").unwrap();
        assert_eq!(log.finish().is_ok(), is_sealed, "{error}");
        assert_eq!(context.stats.read().files_sealed, u64::from(is_sealed));
        assert_eq!(context.stats.read().retrying, !is_sealed);
        assert!(repair_dir(folder.path()).unwrap().all(|it| it.is_ok()));
    }
}
