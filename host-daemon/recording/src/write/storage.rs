//! The folder that a recording is kept in: the few operations on it, and what each promises when the power fails.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A folder. What is done to its names survives a power failure once [`sync`](Self::sync) has returned.
pub trait Folder: fmt::Debug + Send + Sync {
    /// Begins a file.
    ///
    /// # Errors
    /// As the system says; [`AlreadyExists`](io::ErrorKind::AlreadyExists) if there is one of this name.
    fn create(&self, name: &str) -> io::Result<Arc<dyn File>>;

    /// Gives a file another name, in the place of any file that has it.
    ///
    /// # Errors
    /// As the system says.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// As the system says.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Waits until the names are on the disk.
    ///
    /// # Errors
    /// As the system says.
    fn sync(&self) -> io::Result<()>;

    /// The files with their lengths in bytes, in no order.
    ///
    /// # Errors
    /// As the system says.
    fn list(&self) -> io::Result<Vec<(String, u64)>>;
}

/// A file that is written from its beginning to its end.
pub trait File: fmt::Debug + Send + Sync {
    /// Writes some of the bytes at this offset, and says how many. They survive a crash of the daemon; a power
    /// failure once [`sync`](Self::sync) has returned.
    ///
    /// # Errors
    /// As the system says.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;

    /// Waits until all that was written before is on the disk.
    ///
    /// # Errors
    /// As the system says. What was not on the disk before may then be lost, whatever a later call says.
    /// [`NotFound`](io::ErrorKind::NotFound) if somebody has removed the file.
    fn sync(&self) -> io::Result<()>;
}

/// A folder of this machine.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
}

impl Directory {
    /// The folder with this path, which is made if there is none.
    ///
    /// # Errors
    /// As the system says.
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
            // A name that is no text is not one of ours, and a file may just have been removed.
            if let (Ok(name), Ok(metadata)) = (entry.file_name().into_string(), entry.metadata()) {
                files.push((name, metadata.len()));
            }
        }
        Ok(files)
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
        // A file without a name is written to like any other, and lost when it is closed.
        if self.0.metadata()?.nlink() == 0 {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(())
    }
}
