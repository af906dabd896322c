//! The lock of a folder: a [`Lock`] ensures that one process at a time writes there.

mod holder;

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use crate::durable::is_unsupported;
use crate::error::Error;
use crate::format::filename::{LOCK, parent};

/// Name of a lock file that is to replace the present one.
const LOCK_NEW: &str = "blocksd.lock.new";

/// How long locking is retried, and the delay between two attempts.
const LOCK_TIMEOUT: Duration = Duration::from_millis(100);
const LOCK_RETRY: Duration = Duration::from_millis(5);

/// An exclusive lock on a folder, released when dropped. The system also releases it when the process ends.
///
/// The lock is on the file `blocksd.lock`, which only its owner can open, and on the folder. A process that can only read the
/// folder cannot take it, or keep others from taking it. A [`Log`](crate::Log) creates the file again if it was removed.
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
    held: Arc<Mutex<Held>>,
}

/// Renews a [`Lock`] from another thread.
#[derive(Clone, Debug)]
pub(crate) struct LockKeeper {
    path: PathBuf,
    held: Weak<Mutex<Held>>,
}

impl LockKeeper {
    /// Creates the lock file again if it was removed. Without a lock, does nothing.
    ///
    /// # Errors
    /// [`Error::Locked`] if another process holds a lock file that replaced this one; [`Error::Write`].
    pub(crate) fn renew(&self) -> Result<(), Error> {
        match self.held.upgrade() {
            Some(held) => {
                let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
                held.renew(&self.path)
            }
            None => Ok(()),
        }
    }
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
        let held = Held::take(path).map_err(of_folder)?;
        Ok(Self::of(path, held))
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
        Ok(Self::of(path, Held::take(path)?))
    }

    /// Returns whether a process holds the lock. Takes a shared lock for a moment, which does not disturb a process that
    /// holds or takes the lock.
    #[must_use]
    pub fn is_taken(path: &Path) -> bool {
        is_locked(path)
    }

    /// Returns the path of the folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns a handle that renews the lock.
    pub(crate) fn keeper(&self) -> LockKeeper {
        LockKeeper {
            path: self.path.clone(),
            held: Arc::downgrade(&self.held),
        }
    }

    fn of(path: &Path, held: Held) -> Self {
        Self {
            path: path.into(),
            held: Arc::new(Mutex::new(held)),
        }
    }
}

/// The locks on a folder. The lock file is what counts: only a process that may write to it can lock it. The folder is locked
/// in addition, where the file system supports it, so that a second process is refused also if the lock file was removed.
#[derive(Debug)]
struct Held {
    file: File,
    /// The folder. `None` if it cannot be locked, or a process that can only read has locked it.
    folder: Option<File>,
    /// A lock file that a process that can only read holds up. It was replaced. This lock keeps others from taking it.
    _replaced: Option<File>,
}

impl Held {
    /// Locks a folder. Retries if another process holds the lock, which may only check it.
    ///
    /// # Errors
    /// [`Error::Locked`] if another process holds the lock; [`Error::Write`].
    fn take(directory: &Path) -> Result<Self, Error> {
        let begin = Instant::now();
        let folder = lock_folder(directory, begin)?;
        loop {
            let is_late = LOCK_TIMEOUT <= begin.elapsed();
            if let Some((file, replaced)) = lock_file(directory, is_late)? {
                return Ok(Self {
                    file,
                    folder,
                    _replaced: replaced,
                });
            }
            if is_late {
                let path = directory.into();
                return Err(Error::Locked { path });
            }
            std::thread::sleep(LOCK_RETRY);
        }
    }

    /// Creates the lock file again if it was removed, and locks the folder if that was not possible before.
    ///
    /// # Errors
    /// [`Error::Locked`] if another process holds a lock file that replaced this one; [`Error::Write`].
    fn renew(&mut self, directory: &Path) -> Result<(), Error> {
        if self.folder.is_none() {
            let folder = File::open(directory).ok();
            self.folder = folder.filter(|folder| folder.try_lock().is_ok());
        }
        if is_named(&directory.join(LOCK), &self.file) {
            return Ok(());
        }
        match lock_file(directory, false)? {
            Some((file, _)) => {
                self.file = file;
                Ok(())
            }
            None => {
                let path = directory.into();
                Err(Error::Locked { path })
            }
        }
    }
}

/// Locks the folder itself. Returns `None` if its file system does not support this, or if the process that has locked it can
/// only read it.
///
/// # Errors
/// [`Error::Locked`].
fn lock_folder(directory: &Path, begin: Instant) -> Result<Option<File>, Error> {
    let Ok(folder) = File::open(directory) else {
        return Ok(None);
    };
    loop {
        match folder.try_lock() {
            Ok(()) => return Ok(Some(folder)),
            // It may be a process that only checks the lock.
            Err(TryLockError::WouldBlock) if begin.elapsed() < LOCK_TIMEOUT => {
                std::thread::sleep(LOCK_RETRY);
            }
            Err(TryLockError::WouldBlock) => break,
            Err(TryLockError::Error(_)) => return Ok(None),
        }
    }
    match is_held(&folder, directory) {
        true => {
            let path = directory.into();
            Err(Error::Locked { path })
        }
        false => Ok(None),
    }
}

/// Whether a process that may write to the folder has locked a file. Otherwise, this file has a shared lock afterwards, unless a
/// process that can only read has an exclusive one.
fn is_held(file: &File, directory: &Path) -> bool {
    // A process that writes holds an exclusive lock, so a shared one shows that there is none.
    let shared = file.try_lock_shared();
    if !matches!(shared, Err(TryLockError::WouldBlock)) {
        return false;
    }
    match (file.metadata(), directory.metadata()) {
        (Ok(file), Ok(folder)) => holder::may_be_writer(&file, &folder),
        _ => true,
    }
}

/// Creates and locks the lock file. Returns `None` if another process holds it. With `replace`, a file that processes hold
/// that can only read it is replaced, and returned as the second file.
///
/// # Errors
/// [`Error::Write`].
fn lock_file(directory: &Path, replace: bool) -> Result<Option<(File, Option<File>)>, Error> {
    let path = directory.join(LOCK);
    let file = create_lock(&path)?;
    match file.try_lock() {
        // Otherwise it was removed or replaced just now.
        Ok(()) => return Ok(is_named(&path, &file).then_some((file, None))),
        Err(TryLockError::WouldBlock) if replace => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(error)) => return Err(Error::write(&path, error)),
    }
    if is_held(&file, directory) {
        return Ok(None);
    }
    let new_path = directory.join(LOCK_NEW);
    let new = create_lock(&new_path)?;
    // Only one process at a time replaces the file.
    if new.try_lock().is_err() || !is_named(&new_path, &new) || !is_named(&path, &file) {
        return Ok(None);
    }
    let renamed = fs::rename(&new_path, &path);
    renamed.map_err(|error| Error::write(&path, error))?;
    Ok(Some((new, Some(file))))
}

/// Opens a lock file, or creates it. Removes the permission to read it from users who cannot write it: a user who can open a file
/// can lock it.
fn create_lock(path: &Path) -> Result<File, Error> {
    let mut options = File::options();
    options.create(true).append(true).mode(0o600);
    let file = open_lock(path, &mut options).map_err(|error| Error::write(path, error))?;
    if let Ok(metadata) = file.metadata() {
        let mode = metadata.permissions().mode() & 0o777;
        let mut kept = mode;
        for class in [0o040, 0o004] {
            if mode & (class >> 1) == 0 {
                kept &= !class;
            }
        }
        if kept != mode {
            // Fails for a file of another user, or without modes.
            let _ = file.set_permissions(Permissions::from_mode(kept));
        }
    }
    Ok(file)
}

/// Whether a path leads to an open file.
fn is_named(path: &Path, file: &File) -> bool {
    let there = fs::symlink_metadata(path).and_then(|there| Ok((there, file.metadata()?)));
    there.is_ok_and(|(there, file)| (there.dev(), there.ino()) == (file.dev(), file.ino()))
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

/// Whether a process holds the lock of a folder. Locks for an instant, and shared, which a process that takes the lock waits
/// for.
#[must_use]
pub(crate) fn is_locked(directory: &Path) -> bool {
    if File::open(directory).is_ok_and(|folder| is_held(&folder, directory)) {
        return true;
    }
    let path = directory.join(LOCK);
    match open_lock(&path, File::options().read(true)) {
        Ok(file) => is_held(&file, directory),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let metadata = fs::symlink_metadata(&path);
            metadata.is_ok_and(|file| holder::is_locked(&file))
        }
        Err(_) => false,
    }
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
            match parent.sync_all() {
                Err(error) if is_unsupported(&error) => {}
                synced => synced?,
            }
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
