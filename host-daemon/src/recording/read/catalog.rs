//! The files of recordings: which there are, in which order, and in which state.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::error::Failure;
use crate::path::parent;
use crate::recording::check::repair::{PART, SEALED, files, is_locked, sealed_name};

/// A file of a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Where it is.
    pub path: PathBuf,
    /// Whether a daemon is writing it.
    pub is_open: bool,
}

/// In which state a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It has its end.
    Sealed,
    /// A daemon is writing it.
    Open,
    /// It has no end, and nobody is writing it.
    Torn,
}

/// The recordings that are meant by files and directories, those of a directory in their order.
///
/// # Errors
/// [`Failure::File`] for what is not there.
pub fn list(paths: &[PathBuf]) -> Result<Vec<Listed>, Failure> {
    let mut listed = Vec::new();
    for path in paths {
        let failure = |error| Failure::File {
            path: path.clone(),
            error,
        };
        if path.metadata().map_err(failure)?.is_dir() {
            listed.extend(list_directory(path)?);
        } else {
            listed.push(Listed::of(path.clone()));
        }
    }
    Ok(listed)
}

impl Listed {
    /// A file by itself.
    #[must_use]
    pub fn of(path: PathBuf) -> Self {
        let is_open = sealed_name(&path, PART).is_some() && is_locked(parent(&path));
        Self { path, is_open }
    }
}

/// The recordings of a directory, in their order.
///
/// # Errors
/// [`Failure::File`].
pub fn list_directory(directory: &Path) -> Result<Vec<Listed>, Failure> {
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
            listed.push(Listed {
                path: path.clone(),
                is_open: is_part && is_locked,
            });
        }
    }
    listed.sort_by_cached_key(|it| (number(&it.path), it.path.clone()));
    Ok(listed)
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

impl State {
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

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
