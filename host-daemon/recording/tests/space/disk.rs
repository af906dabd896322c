//! A disk whose files are watched after each write, and whose syncs can fail or hang: [`Watched`].

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use blocksd_recording::internals::filename;
use blocksd_recording::internals::storage::{Directory, File, Folder};

/// How the disk behaves, and what was seen of it.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    /// Largest length of all files together after a write.
    pub(crate) most: AtomicU64,
    /// Every second sync of a file fails.
    pub(crate) syncs_fail: AtomicBool,
    pub(crate) syncs: AtomicU64,
    /// Syncs take no time, and make nothing durable.
    pub(crate) syncs_are_skipped: AtomicBool,
    /// Syncs do not return.
    pub(crate) syncs_hang: AtomicBool,
    /// Bytes of the file system that are free when the log has no file; 0 for unknown.
    pub(crate) capacity: AtomicU64,
    /// Deleted files do not become free space.
    pub(crate) keeps_deleted: AtomicBool,
    pub(crate) deleted: AtomicU64,
    /// How often the files were listed.
    pub(crate) lists: AtomicU64,
}

#[derive(Debug)]
pub(crate) struct Watched(pub(crate) Directory, pub(crate) Arc<Disk>);

#[derive(Debug)]
pub(crate) struct WatchedFile {
    file: Arc<dyn File>,
    disk: Arc<Disk>,
    folder: Directory,
}

impl Folder for Watched {
    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(WatchedFile {
            file: self.0.create(name)?,
            disk: Arc::clone(&self.1),
            folder: self.0.clone(),
        }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let len = self.0.list()?.into_iter().find(|(it, _)| it == name);
        self.0.remove(name)?;
        let len = len.map_or(0, |(_, len)| len);
        self.1.deleted.fetch_add(len, Ordering::Relaxed);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.1.hang();
        self.0.sync()
    }

    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        self.1.lists.fetch_add(1, Ordering::Relaxed);
        self.0.list()
    }

    fn free(&self) -> io::Result<u64> {
        match self.1.capacity.load(Ordering::Relaxed) {
            0 => Err(io::ErrorKind::Unsupported.into()),
            capacity => {
                let kept = match self.1.keeps_deleted.load(Ordering::Relaxed) {
                    true => self.1.deleted.load(Ordering::Relaxed),
                    false => 0,
                };
                Ok(capacity.saturating_sub(len(&self.0) + kept))
            }
        }
    }
}

impl File for WatchedFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let written = self.file.write_at(bytes, offset)?;
        self.disk
            .most
            .fetch_max(len(&self.folder), Ordering::Relaxed);
        Ok(written)
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.hang();
        if self.disk.syncs_are_skipped.load(Ordering::Relaxed) {
            return Ok(());
        }
        let count = self.disk.syncs.fetch_add(1, Ordering::Relaxed);
        if self.disk.syncs_fail.load(Ordering::Relaxed) && count % 2 == 1 {
            return Err(io::Error::other("the disk fails"));
        }
        self.file.sync()
    }
}

impl Disk {
    pub(crate) fn hang(&self) {
        while self.syncs_hang.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Total length of the files of a recording, and of nothing else.
pub(crate) fn len(folder: &Directory) -> u64 {
    let files = folder.list().unwrap().into_iter();
    let own = files.filter(|(name, _)| filename::number(name).is_some());
    own.map(|(_, len)| len).sum()
}
