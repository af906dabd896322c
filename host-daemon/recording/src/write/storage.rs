//! Storage of a recording: the traits [`Folder`] and [`File`] have the few operations that it needs, and say what each
//! guarantees after a power failure.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A folder. Changes of its names survive a power failure once [`sync`](Self::sync) has returned.
pub trait Folder: fmt::Debug + Send + Sync {
    /// Creates a file.
    ///
    /// # Errors
    /// The error of the system; [`AlreadyExists`](io::ErrorKind::AlreadyExists) if there is a file with this name.
    fn create(&self, name: &str) -> io::Result<Arc<dyn File>>;

    /// Renames a file, and replaces any file with the new name.
    ///
    /// # Errors
    /// The error of the system.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// The error of the system.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Waits until all changes of names are on the disk.
    ///
    /// # Errors
    /// The error of the system.
    fn sync(&self) -> io::Result<()>;

    /// Returns the names and lengths in bytes of all regular files, in no particular order.
    ///
    /// # Errors
    /// The error of the system.
    fn list(&self) -> io::Result<Vec<(String, u64)>>;

    /// Returns the number of bytes that are free in the file system for this process.
    ///
    /// # Errors
    /// The error of the system; [`Unsupported`](io::ErrorKind::Unsupported) if that is unknown.
    fn free(&self) -> io::Result<u64> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// A file that is written sequentially.
pub trait File: fmt::Debug + Send + Sync {
    /// Writes some of the bytes at this offset, and returns how many. They survive a crash of the process. They survive
    /// a power failure once [`sync`](Self::sync) has returned.
    ///
    /// # Errors
    /// The error of the system.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;

    /// Waits until everything written so far is on the disk.
    ///
    /// # Errors
    /// The error of the system. Data that was not on the disk before may then be lost, even if a later sync succeeds.
    /// [`NotFound`](io::ErrorKind::NotFound) if the file was removed.
    fn sync(&self) -> io::Result<()>;
}

/// A folder in the file system.
#[derive(Clone, Debug)]
pub struct Directory {
    path: PathBuf,
}

impl Directory {
    /// Opens a folder, and creates it if it does not exist.
    ///
    /// # Errors
    /// The error of the system.
    pub fn open(path: &Path) -> io::Result<Self> {
        fs::create_dir_all(path)?;
        Ok(Self { path: path.into() })
    }
}

impl Folder for Directory {
    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let mut options = fs::OpenOptions::new();
        let file = options
            .write(true)
            .create_new(true)
            .open(self.path.join(name))?;
        Ok(Arc::new(DiskFile(file)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn sync(&self) -> io::Result<()> {
        fs::File::open(&self.path)?.sync_all()
    }

    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            // Names that are not valid UTF-8 do not belong to a recording.
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            match entry.metadata() {
                Ok(metadata) if metadata.is_file() => files.push((name, metadata.len())),
                Ok(_) => {}
                // The file was just removed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                // The length is unknown, but its number is taken.
                Err(_) => files.push((name, 0)),
            }
        }
        Ok(files)
    }

    fn free(&self) -> io::Result<u64> {
        let system = rustix::fs::statvfs(&self.path)?;
        Ok(system.f_bavail.saturating_mul(system.f_frsize))
    }
}

#[derive(Debug)]
struct DiskFile(fs::File);

impl File for DiskFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.0.write_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()?;
        // Writes to a removed file succeed, but its data is lost when it is closed.
        if self.0.metadata()?.nlink() == 0 {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(())
    }
}
