//! A folder whose syncs take no time, for measurements of size.

use std::io;
use std::path::Path;
use std::sync::Arc;

use blocksd_recording::internals::storage::{Directory, File, Folder};

/// A folder that never syncs.
#[derive(Debug)]
pub(crate) struct Unsynced(Directory);

#[derive(Debug)]
struct UnsyncedFile(Arc<dyn File>);

impl Unsynced {
    /// Opens a folder.
    ///
    /// # Errors
    /// The error of the system.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Directory::open(path).map(Self)
    }
}

impl Folder for Unsynced {
    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(UnsyncedFile(self.0.create(name)?)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.remove(name)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        self.0.list()
    }
}

impl File for UnsyncedFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.0.write_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}
