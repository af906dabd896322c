//! The lock of a folder: it excludes a second daemon whatever happens to its file, and no reader can take it.

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use blocksd_recording::Lock;
use blocksd_tests::bad_disk::BadDisk;
use blocksd_tests::process::{Process, Server, finish, run, wait_until};
use blocksd_tests::skip::skipped;
use tempfile::TempDir;

const REFUSED: i32 = 75;

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_second_daemon_is_refused_after_the_lock_file_was_removed() {
    let folder = TempDir::new().unwrap();
    let record = text(folder.path());
    let mut server = Server::start(&["--record", record]);
    let mut device = server.connect();
    device.write_all(b"\0\0\0\x01x").unwrap();
    server.wait_for("block", 1);
    let path = folder.path().join(Lock::FILE_NAME);
    for replacement in [None, Some("another file")] {
        fs::remove_file(&path).unwrap();
        if let Some(content) = replacement {
            fs::write(&path, content).unwrap();
        }
        assert!(Lock::is_taken(folder.path()));
        let second = run(
            &["serve", "--listen", "127.0.0.1:0", "--record", record],
            b"",
        );
        second.assert_refused(REFUSED, "a daemon is recording to");
        run(&["recover", record], b"").assert_refused(REFUSED, "stop it first");
        // The next commit locks the file again, which also keeps earlier versions out.
        wait_until("the file is locked", || {
            device.write_all(b"\0\0\0\x01x").unwrap();
            File::open(&path).is_ok_and(|file| file.try_lock().is_err())
        });
    }
    let (ended, _) = server.stop();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(!Lock::is_taken(folder.path()));
}

#[test]
fn daemons_that_lock_only_the_file_are_excluded() {
    let folder = TempDir::new().unwrap();
    let record = text(folder.path());
    let path = folder.path().join(Lock::FILE_NAME);
    // As earlier versions do.
    let file = File::create(&path).unwrap();
    file.lock().unwrap();
    assert!(Lock::is_taken(folder.path()));
    let second = run(
        &["serve", "--listen", "127.0.0.1:0", "--record", record],
        b"",
    );
    second.assert_refused(REFUSED, "a daemon is recording to");
    drop(file);
    let server = Server::start(&["--record", record]);
    assert!(File::open(&path).unwrap().try_lock().is_err());
    server.stop();
}

#[test]
fn a_user_who_can_only_read_cannot_keep_the_daemon_from_recording() {
    let name = "a_user_who_can_only_read_cannot_keep_the_daemon_from_recording";
    let folder = TempDir::new().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let path = folder.path().join(Lock::FILE_NAME);
    let both = [&*path, folder.path()];
    for (how, what) in both
        .into_iter()
        .flat_map(|what| [("-s", what), ("-x", what)])
    {
        // A file of an earlier version, which everybody can read.
        let _ = fs::remove_file(&path);
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let mut reader = Command::new("setpriv");
        reader.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
        reader.args([
            "flock",
            "--close",
            how,
            text(what),
            "sh",
            "-c",
            "echo locked; exec sleep 60",
        ]);
        if reader.output_is_refused() {
            skipped(
                name,
                "this user cannot become another, or `flock` is missing",
            );
            return;
        }
        let mut holder = Process::start(reader);
        holder.line("locked");
        let record = text(folder.path());
        let mut server = Server::start(&["--record", record]);
        assert_eq!(mode(&path), 0o600);
        assert!(holder.runs());
        server.connect().write_all(b"\0\0\0\x01x").unwrap();
        server.wait_for("block", 1);
        assert!(Lock::is_taken(folder.path()));
        let second = run(
            &["serve", "--listen", "127.0.0.1:0", "--record", record],
            b"",
        );
        second.assert_refused(REFUSED, "a daemon is recording to");
        // The reader cannot open the file again.
        let mut again = Command::new("setpriv");
        again.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
        again.args(["flock", "-n", "-s", text(&path), "true"]);
        assert_ne!(finish(again, b"").code, Some(0));
        let (ended, _) = server.stop();
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
}

/// Whether a program cannot be started as another user.
trait Refused {
    fn output_is_refused(&self) -> bool;
}

impl Refused for Command {
    fn output_is_refused(&self) -> bool {
        let user = self.get_args().take_while(|it| *it != "flock");
        let mut probe = Self::new(self.get_program());
        probe.args(user).args(["flock", "--version"]);
        !probe.output().is_ok_and(|output| output.status.success())
    }
}

#[test]
fn a_link_in_place_of_the_lock_is_refused_and_not_followed() {
    for (kind, is_dangling) in [("lock", true), ("file", false)] {
        let folder = TempDir::new().unwrap();
        let target = folder.path().join(kind);
        if !is_dangling {
            fs::write(&target, "mine").unwrap();
        }
        let record = folder.path().join("rec");
        fs::create_dir(&record).unwrap();
        symlink(&target, record.join(Lock::FILE_NAME)).unwrap();
        let args = [
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--record",
            text(&record),
        ];
        run(&args, b"").assert_refused(2, "not a regular file; remove it");
        assert_eq!(target.exists(), !is_dangling);
        if !is_dangling {
            assert_eq!(fs::read_to_string(&target).unwrap(), "mine");
            assert_eq!(File::open(&target).unwrap().try_lock().ok(), Some(()));
        }
    }
}

#[test]
fn readers_that_check_the_lock_do_not_disturb_a_start() {
    let folder = TempDir::new().unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let _ = Lock::is_taken(folder.path());
                }
            });
        }
        let taken: Vec<_> = (0..50)
            .map(|_| Lock::take(folder.path()).map(drop))
            .collect();
        stop.store(true, Ordering::Relaxed);
        assert!(taken.iter().all(Result::is_ok), "{taken:?}");
    });
}

#[test]
fn only_one_of_many_starts_takes_the_lock() {
    for round in 0..20 {
        let folder = TempDir::new().unwrap();
        // Half of the rounds begin with a file that a reader holds up.
        let path = folder.path().join(Lock::FILE_NAME);
        let reader = (round % 2 == 0).then(|| File::create(&path).unwrap());
        if let Some(reader) = &reader {
            reader.lock_shared().unwrap();
        }
        let locks: Vec<_> = std::thread::scope(|scope| {
            let threads = (0..8).map(|_| scope.spawn(|| Lock::take(folder.path())));
            let threads: Vec<_> = threads.collect();
            threads.into_iter().map(|it| it.join().unwrap()).collect()
        });
        assert_eq!(locks.iter().filter(|it| it.is_ok()).count(), 1, "{locks:?}");
    }
}

#[test]
fn the_lock_file_alone_excludes_where_folders_cannot_be_locked() {
    let name = "the_lock_file_alone_excludes_where_folders_cannot_be_locked";
    let Some(disk) = BadDisk::build(name) else {
        return;
    };
    let folder = TempDir::new().unwrap();
    let record = text(folder.path());
    let args = ["--record", record];
    for error in [libc::EBADF, libc::ENOTSUP, libc::ENOLCK] {
        let daemon = |command| disk.failing("BAD_FOLDER_LOCKS", error.to_string(), command);
        let server = Server::of(Process::start(daemon(Server::command(&args))), &args);
        let second = finish(daemon(Server::command(&args)), b"");
        second.assert_refused(REFUSED, "a daemon is recording to");
        let (ended, _) = server.stop();
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
}
