//! The lock of a folder, so that one process at a time writes there: [`Lock`].

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::format::filename::{LOCK, parent};

/// How long taking a lock is tried, and the pause between two attempts.
const LOCK_TIMEOUT: Duration = Duration::from_millis(100);
const LOCK_RETRY: Duration = Duration::from_millis(5);

/// A folder that is locked, so that one daemon writes there.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    /// The name of the file that is locked in the folder.
    pub const FILE_NAME: &str = LOCK;

    /// Locks a folder, which is made if there is none. The lock ends with the process.
    ///
    /// # Errors
    /// [`Error::Folder`]; [`Error::Locked`] if somebody has locked it.
    pub fn take(path: &Path) -> Result<Self, Error> {
        make_durable(path).map_err(|error| Error::folder(path, error))?;
        let file = lock(path).map_err(of_folder)?;
        Ok(Self {
            path: path.into(),
            _file: file,
        })
    }

    /// Whether a folder can be written to, or made, as far as that is known without doing it: writes a file that has
    /// no name, in the folder or where it would be made.
    ///
    /// # Errors
    /// [`Error::Folder`].
    pub fn check(path: &Path) -> Result<(), Error> {
        let there = path.ancestors().find(|it| it.symlink_metadata().is_ok());
        // Of a relative path that is not there, all is to be made where we are.
        let there = there.unwrap_or_else(|| Path::new("."));
        let tried = there.metadata().and_then(|_| tempfile::tempfile_in(there));
        tried.map_err(|error| Error::folder(path, error))?;
        // Whether the file system could have the names that are to be made.
        for name in path.strip_prefix(there).unwrap_or(path).components() {
            if let Err(error) = there.join(name).symlink_metadata()
                && error.kind() != io::ErrorKind::NotFound
            {
                return Err(Error::folder(path, error));
            }
        }
        check_lock(path).map_err(of_folder)?;
        // The numbers of its files are looked up at the start.
        match fs::read_dir(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::folder(path, error))
            }
            _ => Ok(()),
        }
    }

    /// Locks a folder that is there.
    ///
    /// # Errors
    /// [`Error::Locked`] if another process has locked it, [`Error::Write`].
    pub fn existing(path: &Path) -> Result<Self, Error> {
        Ok(Self {
            path: path.into(),
            _file: lock(path)?,
        })
    }

    /// Whether a process writes to the folder.
    #[must_use]
    pub fn is_taken(path: &Path) -> bool {
        is_locked(path)
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Locks a directory, for as long as the file is held.
///
/// # Errors
/// [`Error::Locked`] if another process has it, [`Error::Write`].
fn lock(directory: &Path) -> Result<File, Error> {
    let path = directory.join(LOCK);
    let open = open_lock(&path, File::options().create(true).append(true));
    let file = open.map_err(|error| Error::write(&path, error))?;
    let begin = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            // It may be somebody who only looks.
            Err(TryLockError::WouldBlock) if begin.elapsed() < LOCK_TIMEOUT => {
                std::thread::sleep(LOCK_RETRY);
            }
            Err(TryLockError::WouldBlock) => {
                let path = directory.into();
                return Err(Error::Locked { path });
            }
            Err(TryLockError::Error(error)) => return Err(Error::write(&path, error)),
        }
    }
}

/// Whether the lock of a directory could be taken, as far as the file system shows it. Does not lock.
///
/// # Errors
/// As the system refuses the file; [`io::ErrorKind::InvalidInput`] if it is not a regular file.
fn check_lock(directory: &Path) -> Result<(), Error> {
    let path = directory.join(LOCK);
    match open_lock(&path, File::options().append(true)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::write(&path, error)),
        _ => Ok(()),
    }
}

/// Whether a process writes to the directory.
#[must_use]
pub(crate) fn is_locked(directory: &Path) -> bool {
    // Held for an instant only, and not alone: others may look at the same time.
    let file = open_lock(&directory.join(LOCK), File::options().read(true));
    file.is_ok_and(|file| {
        let locked = file.try_lock_shared();
        matches!(locked, Err(TryLockError::WouldBlock))
    })
}

/// A failure of the lock, as one of its folder.
fn of_folder(error: Error) -> Error {
    match error {
        Error::Write { path, source } => Error::Folder { path, source },
        error => error,
    }
}

/// Makes a folder, and those that it is in, where there are none, and has their names on the disk.
fn make_durable(path: &Path) -> io::Result<()> {
    let missing = path.ancestors().take_while(|it| !it.exists());
    let missing: Vec<_> = missing.filter(|it| !it.as_os_str().is_empty()).collect();
    if let Some(link) = missing.iter().find(|it| it.symlink_metadata().is_ok()) {
        // A link to what is not there, such as a disk that is not mounted yet: nothing is made in its place.
        link.metadata()?;
    }
    fs::create_dir_all(path).map_err(|error| match error.kind() {
        // The file in its place is what is wrong.
        io::ErrorKind::AlreadyExists => io::Error::from_raw_os_error(libc::ENOTDIR),
        _ => error,
    })?;
    for made in missing {
        // One that may not be read cannot be synced, and is none of ours.
        if let Ok(parent) = File::open(parent(made)) {
            parent.sync_all()?;
        }
    }
    Ok(())
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
