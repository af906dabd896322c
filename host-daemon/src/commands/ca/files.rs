//! Writes files so that they appear and change in one step, durably, and so that nothing is lost. Start with [`create`]
//! and [`put`].

use std::fs::{self, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use blocksd_recording::{parent, sync_directory};
use tempfile::NamedTempFile;

use super::pem;
use crate::error::CommandError;

/// Permissions of a file with a secret key.
pub(super) const SECRET: u32 = 0o600;
/// Permissions of other files, within a folder that only its owner can enter.
pub(super) const PUBLIC: u32 = 0o644;

/// How the names of unfinished files begin. No finished file has such a name.
pub(super) const UNFINISHED: &str = ".%new-";

/// Writes a new file.
///
/// # Errors
/// [`CommandError::Write`], also if the file exists.
pub(super) fn create(path: &Path, bytes: &[u8], mode: u32) -> Result<(), CommandError> {
    let written = unfinished(path, bytes, mode)
        .and_then(|file| file.persist_noclobber(path).map_err(|error| error.error));
    written.map_err(|error| failure(path, error))?;
    Ok(sync_directory(parent(path))?)
}

/// Writes a file in place of one that can be made again.
///
/// # Errors
/// [`CommandError::Write`].
pub(super) fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), CommandError> {
    let written = unfinished(path, bytes, mode)
        .and_then(|file| file.persist(path).map_err(|error| error.error));
    written.map_err(|error| failure(path, error))?;
    Ok(sync_directory(parent(path))?)
}

/// Writes a file. One that exists is kept first under the next free name `FILE.1`, `FILE.2` and so on, which is returned.
/// The name `path` leads to the old or the new file at each moment.
///
/// # Errors
/// [`CommandError::Write`], [`CommandError::File`].
pub(super) fn put(path: &Path, bytes: &[u8], mode: u32) -> Result<Option<PathBuf>, CommandError> {
    if path.symlink_metadata().is_err() {
        create(path, bytes, mode)?;
        return Ok(None);
    }
    let kept = keep(path, mode)?;
    replace(path, bytes, mode)?;
    Ok(Some(kept))
}

/// Moves a file to the next free name `FILE.1`, `FILE.2` and so on.
///
/// # Errors
/// [`CommandError::Write`], [`CommandError::File`].
pub(super) fn set_aside(path: &Path, mode: u32) -> Result<PathBuf, CommandError> {
    let kept = keep(path, mode)?;
    fs::remove_file(path).map_err(|error| failure(path, error))?;
    sync_directory(parent(path))?;
    Ok(kept)
}

/// Removes the unfinished files of commands that were interrupted.
pub(super) fn remove_unfinished(folder: &Path) {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let is_unfinished = |name: &[u8]| name.starts_with(UNFINISHED.as_bytes());
    for entry in entries.filter(|it| is_unfinished(it.file_name().as_encoded_bytes())) {
        // Such a file is in nobody's way.
        let _ = fs::remove_file(entry.path());
    }
}

/// The error of a file that cannot be written.
pub(super) fn failure(path: &Path, error: io::Error) -> CommandError {
    CommandError::Write {
        path: path.into(),
        error,
    }
}

/// Copies a file to a numbered name.
fn keep(path: &Path, mode: u32) -> Result<PathBuf, CommandError> {
    let bytes = pem::read(path)?;
    let numbered = |number: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{number}"));
        PathBuf::from(name)
    };
    let mut candidates = (1..).map(numbered);
    let free = candidates.find(|it| it.symlink_metadata().is_err());
    let free = free.unwrap_or_else(|| numbered(0));
    create(&free, &bytes, mode)?;
    Ok(free)
}

/// A complete file without its name. It has its permissions from the start.
fn unfinished(path: &Path, bytes: &[u8], mode: u32) -> io::Result<NamedTempFile> {
    let mut file = tempfile::Builder::new()
        .prefix(UNFINISHED)
        .permissions(Permissions::from_mode(mode))
        .tempfile_in(parent(path))?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_file_that_exists_is_kept_under_a_number() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.key");
        assert_eq!(put(&path, b"one", SECRET).unwrap(), None);
        let kept = put(&path, b"two", SECRET).unwrap().unwrap();
        assert_eq!(fs::read(&kept).unwrap(), b"one");
        let kept = put(&path, b"three", SECRET).unwrap().unwrap();
        assert_eq!(kept, folder.path().join("a.key.2"));
        assert_eq!(fs::read(&kept).unwrap(), b"two");
        assert_eq!(fs::read(&path).unwrap(), b"three");
        let kept = set_aside(&path, SECRET).unwrap();
        assert_eq!(fs::read(&kept).unwrap(), b"three");
        assert!(!path.exists());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
        for file in fs::read_dir(folder.path()).unwrap() {
            assert_eq!(mode(&file.unwrap().path()), 0o600);
        }
    }

    #[test]
    fn a_new_file_never_replaces_another() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.pem");
        create(&path, b"one", PUBLIC).unwrap();
        assert_eq!(mode(&path) & !0o644, 0);
        assert!(create(&path, b"two", PUBLIC).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"one");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn only_unfinished_files_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        for name in [".%new-x", ".new-x.pem", "a.pem"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        remove_unfinished(folder.path());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
