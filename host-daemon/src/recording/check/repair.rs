//! Brings a directory of recordings in order after a crash. May itself be cut off anywhere, and is then done again.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::Failure;
use crate::recording::check::recover::{Recovered, check, recover};
use crate::recording::format::filename::{self, State};
use crate::recording::read::messages::{Message, Visitor, Wanted, visit};
use crate::recording::read::window::Input;

/// The file that is locked by the one daemon that writes to a directory.
pub const LOCK: &str = "blocksd.lock";
/// How the name of a sealed file ends.
pub const SEALED: &str = "mcap";
/// How the name of a file ends that is being written, or was.
pub const PART: &str = "part";
/// How the name of a file ends that a repair is writing.
pub const NEW: &str = "new";
/// How the name of the original ends where a repair lost more than a record that was not finished.
pub const LOST: &str = "lost";

/// How long a lock is tried for, and how often.
const LOCK_PATIENCE: Duration = Duration::from_millis(100);
const LOCK_RETRY: Duration = Duration::from_millis(5);

/// Bytes of two files that are compared at once.
const COMPARE_LEN: usize = 1 << 20;

/// What was done with a torn file.
#[derive(Clone, Debug)]
pub struct Repaired {
    /// The torn file. It no longer has this name.
    pub from: PathBuf,
    /// The sealed file that is there in its place; none if there was nothing to keep.
    pub to: Option<PathBuf>,
    /// Where the original is, if more is lost than a record that was not finished.
    pub original: Option<PathBuf>,
    /// What is in it, and what was lost.
    pub recovered: Recovered,
}

/// A torn file that could not be repaired. It is as it was.
#[derive(Debug)]
pub struct Unrepaired {
    /// The torn file.
    pub path: PathBuf,
    /// Why.
    pub failure: Failure,
}

/// Seals every torn file of a directory, in the order of their names, each by itself: one that cannot be repaired does
/// not keep the others from it. A file is repaired when the iterator comes to it. The caller holds the lock of the
/// directory.
///
/// A torn file is removed only when all that it held is on the disk under its new name, but for a record that was not
/// finished when the writing ended. If more is lost, it is kept under the sealed name with the ending [`LOST`]. After a
/// crash in the midst of it, the same again gives the same.
///
/// # Errors
/// [`Failure::File`] if the directory cannot be read.
pub fn repair_dir(
    directory: &Path,
) -> Result<impl Iterator<Item = Result<Repaired, Unrepaired>>, Failure> {
    let mut torn = Vec::new();
    for path in files(directory)? {
        let name = path.file_name().unwrap_or_default();
        if name.to_str().and_then(filename::state) == Some(State::Part) {
            torn.push(path);
        }
    }
    let directory = directory.to_owned();
    Ok(torn.into_iter().map(move |from| {
        let sealed = from.with_extension("");
        repair(&directory, &from, &sealed).map_err(|failure| Unrepaired {
            path: from,
            failure,
        })
    }))
}

/// Locks a directory, for as long as the file is held.
///
/// # Errors
/// [`Failure::Locked`] if another process has it, [`Failure::Write`].
pub fn lock(directory: &Path) -> Result<File, Failure> {
    let path = directory.join(LOCK);
    let open = open_lock(&path, File::options().create(true).append(true));
    let file = open.map_err(|error| write_failure(&path, error))?;
    let begin = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            // It may be somebody who only looks.
            Err(TryLockError::WouldBlock) if begin.elapsed() < LOCK_PATIENCE => {
                std::thread::sleep(LOCK_RETRY);
            }
            Err(TryLockError::WouldBlock) => {
                let path = directory.into();
                return Err(Failure::Locked { path });
            }
            Err(TryLockError::Error(error)) => return Err(write_failure(&path, error)),
        }
    }
}

/// Whether the lock of a directory could be taken, as far as the file system shows it. Does not lock.
///
/// # Errors
/// As the system refuses the file; [`io::ErrorKind::InvalidInput`] if it is not a regular file.
pub fn check_lock(directory: &Path) -> Result<(), Failure> {
    let path = directory.join(LOCK);
    match open_lock(&path, File::options().append(true)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(write_failure(&path, error)),
        _ => Ok(()),
    }
}

/// Whether a process writes to the directory.
#[must_use]
pub fn is_locked(directory: &Path) -> bool {
    // Held for an instant only, and not alone: others may look at the same time.
    let file = open_lock(&directory.join(LOCK), File::options().read(true));
    file.is_ok_and(|file| {
        let locked = file.try_lock_shared();
        matches!(locked, Err(TryLockError::WouldBlock))
    })
}

/// The regular files of a directory, in the order of their names.
///
/// # Errors
/// [`Failure::File`].
pub fn files(directory: &Path) -> Result<Vec<PathBuf>, Failure> {
    let failure = |error| Failure::File {
        path: directory.into(),
        error,
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).map_err(failure)? {
        let path = entry.map_err(failure)?.path();
        if path.is_file() {
            files.push(path);
        }
    }
    files.sort_unstable();
    Ok(files)
}

/// Waits until the names of a directory are on the disk.
///
/// # Errors
/// [`Failure::Write`].
pub fn sync(directory: &Path) -> Result<(), Failure> {
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(|error| write_failure(directory, error))
}

/// The name without its ending: `a.mcap` of `a.mcap.part`.
#[must_use]
pub fn sealed_name(path: &Path, ending: &str) -> Option<PathBuf> {
    let is_so = path.extension() == Some(OsStr::new(ending));
    let sealed = path.with_extension("");
    (is_so && sealed.extension() == Some(OsStr::new(SEALED))).then_some(sealed)
}

/// Opens the file of a lock. Never waits: a pipe in its place is refused, not opened.
fn open_lock(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let there = fs::symlink_metadata(path);
    if there.is_ok_and(|there| !there.is_file()) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file; remove it",
        ));
    }
    let flags = libc::O_NONBLOCK | libc::O_NOFOLLOW;
    options.custom_flags(flags).open(path)
}

fn repair(directory: &Path, from: &Path, sealed: &Path) -> Result<Repaired, Failure> {
    let new = with_ending(sealed, NEW);
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(write_failure(&new, error));
        }
        _ => {}
    }
    let recovered = recover(from, &new)?;
    let mut original = None;
    if recovered.complete {
        sync_file(from)?;
        place(from, sealed)?;
    } else {
        if recovered.written {
            place(&new, sealed).inspect_err(|_| {
                let _ = fs::remove_file(&new);
            })?;
            // What is kept has its name before the original goes.
            sync(directory)?;
        }
        if recovered.damaged {
            let lost = with_ending(sealed, LOST);
            sync_file(from)?;
            place(from, &lost)?;
            original = Some(lost);
        } else {
            remove(from)?;
        }
    }
    sync(directory)?;
    let to = (recovered.complete || recovered.written).then(|| sealed.to_owned());
    Ok(Repaired {
        from: from.to_owned(),
        to,
        original,
        recovered,
    })
}

/// Gives a file a name. One that has it already is never replaced: if it holds the same, as after a repair that was cut
/// off, it stays.
fn place(from: &Path, to: &Path) -> Result<(), Failure> {
    if !fs::exists(to).map_err(|error| write_failure(to, error))? {
        return fs::rename(from, to).map_err(|error| write_failure(to, error));
    }
    if holds_the_same(from, to)? {
        return remove(from);
    }
    let error = io::Error::new(
        io::ErrorKind::AlreadyExists,
        "there is another file of this name; move it away and start again",
    );
    Err(write_failure(to, error))
}

/// Whether two files have the same bytes, or are two sound recordings with the same messages: what a repair writes
/// has a header of its own each time.
fn holds_the_same(one: &Path, other: &Path) -> Result<bool, Failure> {
    if has_the_same_bytes(&mut Input::open(one)?, &mut Input::open(other)?)? {
        return Ok(true);
    }
    let is_sound = check(one)?.is_some() && check(other)?.is_some();
    Ok(is_sound && Digest::of(one)? == Digest::of(other)?)
}

/// Of all messages of a recording, with their topics, numbers and times.
#[derive(Debug, Default)]
struct Digest(DefaultHasher);

impl Digest {
    fn of(path: &Path) -> Result<u64, Failure> {
        let all = Wanted {
            devices: Vec::new(),
            from: 0,
            to: u64::MAX,
        };
        let mut digest = Self::default();
        visit(&[path.into()], &all, &mut digest)?;
        Ok(digest.0.finish())
    }
}

impl Visitor for Digest {
    fn message(&mut self, message: &Message<'_>) -> Result<(), Failure> {
        let topic = &message.known.channel.topic;
        (topic, message.sequence, message.time, message.data).hash(&mut self.0);
        Ok(())
    }

    fn idle(&mut self) -> Result<(), Failure> {
        Ok(())
    }
}

fn has_the_same_bytes(one: &mut Input, other: &mut Input) -> Result<bool, Failure> {
    if one.len() != other.len() {
        return Ok(false);
    }
    let mut at = 0;
    while at < one.len() {
        let bytes = one.at(at, COMPARE_LEN)?;
        if bytes.is_empty() || bytes != other.at(at, COMPARE_LEN)? {
            return Ok(false);
        }
        at += bytes.len() as u64;
    }
    Ok(true)
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    name.into()
}

fn sync_file(path: &Path) -> Result<(), Failure> {
    let synced = File::open(path).and_then(|file| file.sync_all());
    synced.map_err(|error| write_failure(path, error))
}

fn remove(path: &Path) -> Result<(), Failure> {
    fs::remove_file(path).map_err(|error| write_failure(path, error))
}

fn write_failure(path: &Path, error: io::Error) -> Failure {
    Failure::Write {
        path: path.into(),
        error,
    }
}
