//! The lock of a folder: a [`Lock`] ensures that one process at a time writes there.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::format::filename::{LOCK, parent};

/// How long locking is retried, and the delay between two attempts.
const LOCK_TIMEOUT: Duration = Duration::from_millis(100);
const LOCK_RETRY: Duration = Duration::from_millis(5);

/// An exclusive lock on a folder, released when dropped. The system also releases it when the process ends.
///
/// # Examples
/// ```
/// use blocksd_recording::{Error, Lock};
///
/// # let folder = tempfile::tempdir()?;
/// # let folder = folder.path();
/// let lock = Lock::take(folder)?;
/// assert!(Lock::is_taken(folder));
/// assert!(matches!(Lock::take(folder), Err(Error::Locked { .. })));
/// drop(lock);
/// assert!(!Lock::is_taken(folder));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    /// Name of the lock file in the folder.
    pub const FILE_NAME: &str = LOCK;

    /// Locks a folder, and creates it if it does not exist. Retries for 100 ms if another process holds the lock.
    ///
    /// # Errors
    /// [`Error::Folder`]; [`Error::Locked`] if another process holds the lock.
    pub fn take(path: &Path) -> Result<Self, Error> {
        make_durable(path).map_err(|error| Error::folder(path, error))?;
        let file = lock(path).map_err(of_folder)?;
        Ok(Self {
            path: path.into(),
            _file: file,
        })
    }

    /// Checks whether a folder can be created or written to, without creating it: writes an unnamed file to the folder,
    /// or to its nearest existing parent.
    ///
    /// # Errors
    /// [`Error::Folder`].
    pub fn check(path: &Path) -> Result<(), Error> {
        let there = path.ancestors().find(|it| it.symlink_metadata().is_ok());
        // If nothing of a relative path exists, it is to be created in the current directory.
        let there = there.unwrap_or_else(|| Path::new("."));
        let tried = there.metadata().and_then(|_| tempfile::tempfile_in(there));
        tried.map_err(|error| Error::folder(path, error))?;
        // Check whether the file system accepts the names that would be created.
        for name in path.strip_prefix(there).unwrap_or(path).components() {
            if let Err(error) = there.join(name).symlink_metadata()
                && error.kind() != io::ErrorKind::NotFound
            {
                return Err(Error::folder(path, error));
            }
        }
        check_lock(path).map_err(of_folder)?;
        // The folder must be readable: a log looks up the numbers of existing files.
        match fs::read_dir(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::folder(path, error))
            }
            _ => Ok(()),
        }
    }

    /// Locks an existing folder. Retries for 100 ms if another process holds the lock.
    ///
    /// # Errors
    /// [`Error::Locked`] if another process holds the lock; [`Error::Write`].
    pub fn existing(path: &Path) -> Result<Self, Error> {
        Ok(Self {
            path: path.into(),
            _file: lock(path)?,
        })
    }

    /// Returns whether a process holds the lock. Takes a shared lock for a moment, which does not disturb a writer.
    #[must_use]
    pub fn is_taken(path: &Path) -> bool {
        is_locked(path)
    }

    /// Returns the path of the folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Locks a folder until the returned file is dropped.
///
/// # Errors
/// [`Error::Locked`] if another process holds the lock; [`Error::Write`].
fn lock(directory: &Path) -> Result<File, Error> {
    let path = directory.join(LOCK);
    let open = open_lock(&path, File::options().create(true).append(true));
    let file = open.map_err(|error| Error::write(&path, error))?;
    let begin = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            // It may be a process that only checks the lock.
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

/// Checks whether the lock file could be opened, without locking it.
///
/// # Errors
/// The error of the system; [`io::ErrorKind::InvalidInput`] if it is not a regular file.
fn check_lock(directory: &Path) -> Result<(), Error> {
    let path = directory.join(LOCK);
    match open_lock(&path, File::options().append(true)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::write(&path, error)),
        _ => Ok(()),
    }
}

/// Whether a process holds the lock of a folder.
#[must_use]
pub(crate) fn is_locked(directory: &Path) -> bool {
    // Held for an instant, and shared: other processes may check at the same time.
    let file = open_lock(&directory.join(LOCK), File::options().read(true));
    file.is_ok_and(|file| {
        let locked = file.try_lock_shared();
        matches!(locked, Err(TryLockError::WouldBlock))
    })
}

/// Converts an error of the lock file to one of its folder.
fn of_folder(error: Error) -> Error {
    match error {
        Error::Write { path, source } => Error::Folder { path, source },
        error => error,
    }
}

/// Creates a folder and its missing parents, and syncs their names to the disk.
fn make_durable(path: &Path) -> io::Result<()> {
    let missing = path.ancestors().take_while(|it| !it.exists());
    let missing: Vec<_> = missing.filter(|it| !it.as_os_str().is_empty()).collect();
    if let Some(link) = missing.iter().find(|it| it.symlink_metadata().is_ok()) {
        // A link whose target does not exist, such as a disk that is not mounted yet: create nothing in its place.
        link.metadata()?;
    }
    fs::create_dir_all(path).map_err(|error| match error.kind() {
        // Report the file that is in the way.
        io::ErrorKind::AlreadyExists => io::Error::from_raw_os_error(libc::ENOTDIR),
        _ => error,
    })?;
    for made in missing {
        // A folder that cannot be opened cannot be synced. It was not created here.
        if let Ok(parent) = File::open(parent(made)) {
            parent.sync_all()?;
        }
    }
    Ok(())
}

/// Opens a lock file. Never blocks: a pipe in its place is refused.
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
