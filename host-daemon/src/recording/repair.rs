//! Brings a directory of recordings in order after a crash. May itself be cut off anywhere, and is then done again.

use std::ffi::OsStr;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::recover::{Recovered, recover};
use crate::failure::Failure;

/// The file that is locked by the one daemon that writes to a directory.
pub const LOCK: &str = "blocksd.lock";
/// How the name of a sealed file ends.
pub const SEALED: &str = "mcap";
/// How the name of a file ends that is being written, or was.
pub const PART: &str = "part";
/// How the name of a file ends that a repair is writing.
pub const NEW: &str = "new";

/// How long a lock is tried for, and how often.
const LOCK_PATIENCE: Duration = Duration::from_millis(100);
const LOCK_RETRY: Duration = Duration::from_millis(5);

/// What was done with a torn file.
#[derive(Clone, Debug)]
pub struct Repaired {
    /// The torn file. It is gone.
    pub from: PathBuf,
    /// The sealed file that is there in its place; none if there was nothing to keep.
    pub to: Option<PathBuf>,
    /// What is in it, and what was lost.
    pub recovered: Recovered,
}

/// Seals every torn file of a directory, in the order of their names. The caller holds the lock of the directory.
///
/// A torn file is removed only when what was kept of it is on the disk under its new name. After a crash in the midst
/// of it, the same again gives the same.
///
/// # Errors
/// [`Failure::File`], [`Failure::Write`]; then the torn file is as it was.
pub fn repair_dir(directory: &Path) -> Result<Vec<Repaired>, Failure> {
    let mut torn = Vec::new();
    for path in files(directory)? {
        if sealed_name(&path, NEW).is_some() {
            remove(&path)?;
        } else if let Some(sealed) = sealed_name(&path, PART) {
            torn.push((path, sealed));
        }
    }
    torn.into_iter()
        .map(|(from, sealed)| repair(directory, from, sealed))
        .collect()
}

/// Locks a directory, for as long as the file is held.
///
/// # Errors
/// [`Failure::Locked`] if another process has it, [`Failure::Write`].
pub fn lock(directory: &Path) -> Result<File, Failure> {
    let path = directory.join(LOCK);
    let open = File::options().create(true).append(true).open(&path);
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

/// Whether a process writes to the directory.
#[must_use]
pub fn is_locked(directory: &Path) -> bool {
    // Held for an instant only, and not alone: others may look at the same time.
    File::open(directory.join(LOCK)).is_ok_and(|file| {
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

/// The name without its ending: `a.mcap` of `a.mcap.part`.
#[must_use]
pub fn sealed_name(path: &Path, ending: &str) -> Option<PathBuf> {
    let is_so = path.extension() == Some(OsStr::new(ending));
    let sealed = path.with_extension("");
    (is_so && sealed.extension() == Some(OsStr::new(SEALED))).then_some(sealed)
}

fn repair(directory: &Path, from: PathBuf, sealed: PathBuf) -> Result<Repaired, Failure> {
    let mut new = sealed.clone().into_os_string();
    new.push(".");
    new.push(NEW);
    let new = PathBuf::from(new);
    let recovered = recover(&from, &new)?;
    if recovered.complete {
        let file = File::open(&from).and_then(|file| file.sync_all());
        file.map_err(|error| write_failure(&from, error))?;
        rename(&from, &sealed)?;
    } else if recovered.chunks == 0 {
        remove(&from)?;
    } else {
        rename(&new, &sealed)?;
        // What is kept has its name before the original goes.
        sync(directory)?;
        remove(&from)?;
    }
    sync(directory)?;
    let to = (recovered.complete || recovered.chunks != 0).then_some(sealed);
    Ok(Repaired {
        from,
        to,
        recovered,
    })
}

fn rename(from: &Path, to: &Path) -> Result<(), Failure> {
    fs::rename(from, to).map_err(|error| write_failure(to, error))
}

fn remove(path: &Path) -> Result<(), Failure> {
    fs::remove_file(path).map_err(|error| write_failure(path, error))
}

fn sync(directory: &Path) -> Result<(), Failure> {
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(|error| write_failure(directory, error))
}

fn write_failure(path: &Path, error: io::Error) -> Failure {
    Failure::Write {
        path: path.into(),
        error,
    }
}
