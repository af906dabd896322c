//! The files of a recording, their order and state: [`list`] and [`RecordingFile`].

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::format::filename::{self, PART, SEALED, Suffix, parent, sealed_name};
use crate::format::nonce::FileNonce;
use crate::lock::is_locked;
use crate::read::window::WindowedFile;

/// Most listings of a directory that changes all the time.
const LISTINGS_MAX: usize = 10;

/// A file of a recording.
///
/// # Examples
/// ```
/// use blocksd_recording::catalog::{RecordingFile, list_directory};
///
/// # let folder = tempfile::tempdir()?;
/// # let folder = folder.path();
/// std::fs::write(folder.join("00000002-20261123T082501Z.mcap.part"), "")?;
/// std::fs::write(folder.join("00000001-20261123T072501Z.mcap"), "")?;
/// let files = list_directory(folder)?;
/// assert_eq!(files.len(), 2);
/// assert!(files[0].path.ends_with("00000001-20261123T072501Z.mcap"));
/// // No process holds the lock of the folder.
/// assert!(files.iter().all(|file| !file.is_open));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordingFile {
    /// The path of the file.
    pub path: PathBuf,
    /// Whether a process is writing the file.
    pub is_open: bool,
}

/// The state of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileState {
    /// It is complete, with its summary at the end.
    Sealed,
    /// A process is writing it.
    Open,
    /// It has no end, and no process is writing it.
    Torn,
    /// It cannot be opened.
    Unreadable,
}

/// Lists files, and the recordings in directories in their order.
///
/// # Errors
/// [`Error::Read`] if a path does not exist or cannot be read.
pub fn list(paths: &[PathBuf]) -> Result<Vec<RecordingFile>, Error> {
    let mut listed = Vec::new();
    for path in paths {
        let failure = |error| Error::read(path, error);
        if path.metadata().map_err(failure)?.is_dir() {
            listed.extend(list_directory(path)?);
        } else {
            listed.push(RecordingFile::of(path.clone()));
        }
    }
    Ok(listed)
}

impl RecordingFile {
    /// Describes a single file.
    #[must_use]
    pub fn of(path: PathBuf) -> Self {
        let is_open = sealed_of_part(&path).is_some() && is_locked(parent(&path));
        Self { path, is_open }
    }

    /// Returns the path that the file has once it is sealed, or `None` if its name is not that of an unsealed file.
    #[must_use]
    pub fn sealed_path(&self) -> Option<PathBuf> {
        sealed_name(&self.path, PART)
    }

    /// Opens the file under its current name. Also returns whether it is still being written. Returns `None` if the
    /// file was removed since it was listed, for example by retention.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub fn open(&self) -> Result<Option<(WindowedFile, bool)>, Error> {
        let sealed = self.sealed_path();
        let mut opened = WindowedFile::open(&self.path).map(|input| (input, self.is_open));
        if let (true, Some(sealed)) = (opened.as_ref().is_err_and(Error::is_not_found), sealed) {
            opened = WindowedFile::open(&sealed).map(|input| (input, false));
        }
        match opened.as_ref().is_err_and(Error::is_not_found) {
            true => Ok(None),
            false => opened.map(Some),
        }
    }
}

/// Lists the recordings of a directory in their order: files of this library by their number, then files of other
/// programs whose names end with `.mcap`. Files with the ending `.mcap.part` are listed only if their names have exactly
/// the form of this library.
///
/// # Errors
/// [`Error::Read`].
pub fn list_directory(directory: &Path) -> Result<Vec<RecordingFile>, Error> {
    // Check before and after, so that a process that starts or ends in the meantime is not missed.
    let was_locked = is_locked(directory);
    let files = stable_files(directory)?;
    let is_locked = was_locked || is_locked(directory);
    let mut listed = Vec::new();
    for path in &files {
        let part = sealed_of_part(path);
        // Both exist if a repair was interrupted before it removed the original.
        let is_part = part.is_some_and(|sealed| !files.contains(&sealed));
        if is_part || path.extension().is_some_and(|ending| ending == SEALED) {
            listed.push(RecordingFile {
                path: path.clone(),
                is_open: is_part && is_locked,
            });
        }
    }
    listed.sort_by_cached_key(|it| (number(&it.path), it.path.clone()));
    Ok(listed)
}

/// Lists the files of a directory until two listings are equal. A file that is renamed meanwhile, because it was sealed,
/// may be in a listing under neither name.
fn stable_files(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut before = entries(directory)?;
    let mut listings = 1..LISTINGS_MAX;
    loop {
        let now = entries(directory)?;
        let is_stable = now == before;
        before = now;
        if is_stable || listings.next().is_none() {
            let mut is_gone = false;
            let mut files = before.clone();
            files.retain(|path| match path.metadata() {
                Ok(file) => file.is_file(),
                Err(error) => {
                    let is_missing = error.kind() == io::ErrorKind::NotFound;
                    is_gone |= is_missing && fs::symlink_metadata(path).is_err();
                    false
                }
            });
            // It was renamed or removed after the listing.
            if !is_gone || listings.next().is_none() {
                return Ok(files);
            }
        }
    }
}

/// Lists the regular files of a directory, ordered by name.
///
/// # Errors
/// [`Error::Read`].
pub fn files(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut files = entries(directory)?;
    // A file whose metadata cannot be read is listed, so that a reader reports it.
    let is_other = |path: &PathBuf| match path.metadata() {
        Ok(metadata) => !metadata.is_file(),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    };
    files.retain(|path| !is_other(path));
    Ok(files)
}

/// Lists the entries of a directory, ordered by name.
pub(crate) fn entries(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let failure = |error| Error::read(directory, error);
    let entries = fs::read_dir(directory).map_err(failure)?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    let mut paths: Vec<_> = paths.collect::<io::Result<_>>().map_err(failure)?;
    paths.sort_unstable();
    Ok(paths)
}

/// Returns the number in the name of a file, or `u64::MAX` if the name does not have the form of this library.
#[must_use]
pub fn number(path: &Path) -> u64 {
    name_of(path).and_then(filename::number).unwrap_or(u64::MAX)
}

/// Returns the nonce in the name of a file, if there is one.
#[must_use]
pub fn nonce(path: &Path) -> Option<FileNonce> {
    name_of(path).and_then(filename::nonce)
}

/// Returns the path of a file once it is sealed, if its name is that of an unsealed file of this library.
fn sealed_of_part(path: &Path) -> Option<PathBuf> {
    let suffix = name_of(path).and_then(filename::suffix);
    (suffix == Some(Suffix::Part)).then(|| path.with_extension(""))
}

fn name_of(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}

impl FileState {
    /// Returns the name of the state: `sealed`, `open`, `torn` or `unreadable`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sealed => "sealed",
            Self::Open => "open",
            Self::Torn => "torn",
            Self::Unreadable => "unreadable",
        }
    }
}

impl fmt::Display for FileState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
