//! Makes the names of files in a folder durable: [`sync_directory`].

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tracing::warn;

use crate::error::Error;

/// Folders whose file system cannot sync them. Each is reported once.
static REPORTED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// Waits until the names of files in a folder are on the disk. Some file systems cannot sync a folder, such as SMB, 9p and some
/// of FUSE: this is logged once, and is not an error.
///
/// # Errors
/// [`Error::Write`].
pub fn sync_directory(directory: &Path) -> Result<(), Error> {
    match File::open(directory).and_then(|it| it.sync_all()) {
        Err(error) if is_unsupported(&error) => {
            if is_first(directory) {
                let folder = directory.display();
                warn!("recording: {folder}: {}", Unsupported(&error));
            }
            Ok(())
        }
        synced => synced.map_err(|error| Error::write(directory, error)),
    }
}

/// The warning about a folder that cannot be synced.
#[derive(Debug)]
pub(crate) struct Unsupported<'a>(pub &'a io::Error);

impl std::fmt::Display for Unsupported<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "the file system cannot sync a folder ({}); recording continues, but a power failure may undo the newest names",
            self.0
        )
    }
}

/// Whether an error says that the file system cannot sync a folder, rather than that it failed to.
#[must_use]
pub(crate) fn is_unsupported(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidInput, Unsupported};
    matches!(error.kind(), InvalidInput | Unsupported)
        || matches!(
            error.raw_os_error(),
            Some(libc::EBADF | libc::EISDIR | libc::ENOTTY)
        )
}

/// Whether this is the first such report about a folder.
pub(crate) fn is_first(directory: &Path) -> bool {
    let mut reported = REPORTED.lock().unwrap_or_else(PoisonError::into_inner);
    reported.insert(directory.to_owned())
}
