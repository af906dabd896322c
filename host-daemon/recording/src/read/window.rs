//! Random access to a file through a window in memory: [`WindowedFile`].

use std::fs::{File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::Error;
use crate::read::unreadable::{ReadAt, Unreadable, UnreadableRange};

/// Smallest read, in bytes.
const WINDOW_LEN: usize = 1 << 20;

/// A window that is longer than this is released when less is needed, in bytes.
const KEPT_LEN: usize = 16 << 20;

/// A regular file that is read at any offset. Its length is cached until [`refresh`](Self::refresh).
///
/// Bytes that the disk cannot read are returned as zeros, and [`unreadable`](Self::unreadable) says where they are. They are
/// found in blocks of 4 KiB. After 256 failed reads, or some minutes in them, larger ranges are skipped at each failure.
///
/// # Examples
/// ```
/// use blocksd_recording::WindowedFile;
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("file");
/// std::fs::write(&path, "content")?;
/// let mut file = WindowedFile::open(&path)?;
/// assert_eq!(file.len(), 7);
/// assert_eq!(file.at(3, 100)?, b"tent");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct WindowedFile {
    path: PathBuf,
    file: Arc<dyn ReadAt>,
    unreadable: Arc<Mutex<Unreadable>>,
    len: u64,
    /// Nothing after it is read.
    limit: u64,
    window: Vec<u8>,
    start: u64,
}

impl WindowedFile {
    /// Opens a regular file.
    ///
    /// # Errors
    /// [`Error::Read`], also if it is not a regular file.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let failure = |error| Error::read(path, error);
        // Check before opening: opening a pipe blocks until its other end is opened.
        if !path.metadata().map_err(failure)?.is_file() {
            let kind = io::ErrorKind::InvalidInput;
            return Err(failure(io::Error::new(kind, "not a regular file")));
        }
        let file = File::open(path).map_err(failure)?;
        Self::over(path, Arc::new(file))
    }

    /// Reads `file`, and calls it `path`.
    #[doc(hidden)]
    pub fn over(path: &Path, file: Arc<dyn ReadAt>) -> Result<Self, Error> {
        let metadata = file.metadata().map_err(|error| Error::read(path, error))?;
        Ok(Self {
            path: path.into(),
            file,
            unreadable: Arc::default(),
            len: metadata.len(),
            limit: u64::MAX,
            window: Vec::new(),
            start: 0,
        })
    }

    /// Opens the same file a second time, with a window of its own. Both share what is known about unreadable bytes.
    #[must_use]
    pub fn again(&self) -> Self {
        Self {
            path: self.path.clone(),
            file: Arc::clone(&self.file),
            unreadable: Arc::clone(&self.unreadable),
            len: self.len,
            limit: self.limit,
            window: Vec::new(),
            start: 0,
        }
    }

    /// Returns the path under which it was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the metadata of the file, also if its name has changed.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub fn metadata(&self) -> Result<Metadata, Error> {
        self.file.metadata().map_err(|error| self.failure(error))
    }

    /// Returns the cached length in bytes.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Returns whether the file is empty.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Updates the cached length, because another process may be writing.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub fn refresh(&mut self) -> Result<(), Error> {
        self.len = self.metadata()?.len().min(self.limit);
        Ok(())
    }

    /// Sets the length after which nothing is read. [`refresh`](Self::refresh) makes more of the file visible.
    pub(crate) fn limit(&mut self, len: u64) {
        self.limit = len;
        self.len = self.len.min(len);
    }

    /// Returns the unreadable bytes between two offsets, as far as they were read: the first of them, and their number.
    #[must_use]
    pub fn unreadable(&self, from: u64, to: u64) -> Option<UnreadableRange> {
        self.known().within(from, to)
    }

    /// Reads `len` bytes at `offset`, or fewer at the end of the file. Returns how many of them precede the first unreadable
    /// one.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub(crate) fn readable(&mut self, offset: u64, len: usize) -> Result<usize, Error> {
        let len = self.at(offset, len)?.len();
        let bad = self.unreadable(offset, offset + len as u64);
        Ok(bad.map_or(len, |bad| {
            usize::try_from(bad.offset - offset).unwrap_or(len)
        }))
    }

    /// Reads `len` bytes at `offset`. Returns whether all are readable.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub(crate) fn is_readable(&mut self, offset: u64, len: usize) -> Result<bool, Error> {
        Ok(self.at(offset, len)?.len() == self.readable(offset, len)?)
    }

    /// Reads `len` bytes at `offset`, or fewer at the end of the file. Allocates up to `len` bytes, so the caller must
    /// limit it.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub fn at(&mut self, offset: u64, len: usize) -> Result<&[u8], Error> {
        let left = self.len.saturating_sub(offset);
        let len = usize::try_from(left).map_or(len, |left| len.min(left));
        if !self.holds(offset, len) {
            self.load(offset, len, left)?;
        }
        let from = usize::try_from(offset.saturating_sub(self.start)).unwrap_or(usize::MAX);
        let window = self.window.get(from..).unwrap_or_default();
        Ok(window.get(..len).unwrap_or(window))
    }

    /// Returns all bytes from `offset` on that are in memory: at least `len`, or fewer at the end of the file. A
    /// sequence of such calls reads the file once.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub fn window_at(&mut self, offset: u64, len: usize) -> Result<&[u8], Error> {
        self.at(offset, len)?;
        let from = usize::try_from(offset.saturating_sub(self.start)).unwrap_or(usize::MAX);
        Ok(self.window.get(from..).unwrap_or_default())
    }

    /// Returns whether the file contains only zeros from `from` on.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub fn is_zero(&mut self, from: u64) -> Result<bool, Error> {
        let mut at = from;
        loop {
            let bytes = self.window_at(at, 1)?;
            if bytes.is_empty() || bytes.iter().any(|byte| *byte != 0) {
                return Ok(bytes.is_empty());
            }
            at += bytes.len() as u64;
        }
    }

    fn holds(&self, offset: u64, len: usize) -> bool {
        let end = self.start + self.window.len() as u64;
        self.start <= offset && offset + len as u64 <= end
    }

    fn load(&mut self, offset: u64, len: usize, left: u64) -> Result<(), Error> {
        let want = len.max(WINDOW_LEN);
        let want = usize::try_from(left).map_or(want, |left| want.min(left));
        if KEPT_LEN < self.window.len() && want <= KEPT_LEN {
            self.window = Vec::new();
        }
        self.window.resize(want, 0);
        self.start = offset;
        let mut known = self
            .unreadable
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let read = known.read(&*self.file, &mut self.window, offset);
        drop(known);
        // Nothing, if it failed.
        self.window.truncate(read.as_ref().map_or(0, |have| *have));
        read.map(|_| ()).map_err(|error| self.failure(error))
    }

    fn known(&self) -> MutexGuard<'_, Unreadable> {
        self.unreadable
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn failure(&self, error: io::Error) -> Error {
        Error::read(&self.path, error)
    }
}
