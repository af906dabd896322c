//! The files of recordings, their order and state: [`list`] and [`RecordingFile`].

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::format::filename::{PART, SEALED, parent, sealed_name};
use crate::lock::is_locked;
use crate::read::window::WindowedFile;

/// A file of a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordingFile {
    /// Its path.
    pub path: PathBuf,
    /// Whether a daemon is writing it.
    pub is_open: bool,
}

/// The state of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileState {
    /// It has its end.
    Sealed,
    /// A daemon is writing it.
    Open,
    /// It has no end, and nobody is writing it.
    Torn,
}

/// Files, and the recordings in directories in their order.
///
/// # Errors
/// [`Error::Read`] for what is not there.
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
    /// A file by itself.
    #[must_use]
    pub fn of(path: PathBuf) -> Self {
        let is_open = sealed_name(&path, PART).is_some() && is_locked(parent(&path));
        Self { path, is_open }
    }

    /// The path that the file has once it is sealed, if its name is that of an unsealed file.
    #[must_use]
    pub fn sealed_path(&self) -> Option<PathBuf> {
        sealed_name(&self.path, PART)
    }

    /// Opens it, under the name that it has now; and whether it is still being written. None if it was removed since
    /// it was listed: a daemon may keep the latest files only.
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

/// The recordings of a directory, in their order.
///
/// # Errors
/// [`Error::Read`].
pub fn list_directory(directory: &Path) -> Result<Vec<RecordingFile>, Error> {
    // Asked before and after: a daemon that begins, or ends, in the meantime is not missed.
    let was_locked = is_locked(directory);
    let files = files(directory)?;
    let is_locked = was_locked || is_locked(directory);
    let mut listed = Vec::new();
    for path in &files {
        let part = sealed_name(path, PART);
        // Both are there where a repair was cut off before the original went.
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

/// The regular files of a directory, in the order of their names.
///
/// # Errors
/// [`Error::Read`].
pub fn files(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut files = entries(directory)?;
    files.retain(|path| path.is_file());
    Ok(files)
}

/// What is in a directory, in the order of the names.
pub(crate) fn entries(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let failure = |error| Error::read(directory, error);
    let entries = fs::read_dir(directory).map_err(failure)?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    let mut paths: Vec<_> = paths.collect::<io::Result<_>>().map_err(failure)?;
    paths.sort_unstable();
    Ok(paths)
}

/// The number that the name of a file begins with.
#[must_use]
pub fn number(path: &Path) -> u64 {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let digits = name.split(|letter: char| !letter.is_ascii_digit()).next();
    digits
        .and_then(|digits| digits.parse().ok())
        .unwrap_or(u64::MAX)
}

impl FileState {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sealed => "sealed",
            Self::Open => "open",
            Self::Torn => "torn",
        }
    }
}

impl fmt::Display for FileState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
