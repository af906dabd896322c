//! A file that is read here and there, through a window.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::error::Error;

/// Bytes that are read at once, at least.
const WINDOW_LEN: usize = 1 << 20;

/// A window is not kept longer than this once less is asked for, in bytes.
const KEPT_LEN: usize = 16 << 20;

/// A file that is read at offsets. Its length is what it was when it was last asked for.
#[derive(Debug)]
pub struct WindowedFile {
    path: PathBuf,
    file: File,
    len: u64,
    window: Vec<u8>,
    start: u64,
}

impl WindowedFile {
    /// Opens a regular file.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub fn open(path: &Path) -> Result<Self, Error> {
        let failure = |error| Error::read(path, error);
        // Looked at before it is opened: opening a pipe waits for its other end.
        if !path.metadata().map_err(failure)?.is_file() {
            let kind = io::ErrorKind::InvalidInput;
            return Err(failure(io::Error::new(kind, "no regular file")));
        }
        let file = File::open(path).map_err(failure)?;
        let len = file.metadata().map_err(failure)?.len();
        Ok(Self {
            path: path.into(),
            file,
            len,
            window: Vec::new(),
            start: 0,
        })
    }

    /// Its path when it was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file itself.
    #[must_use]
    pub const fn file(&self) -> &File {
        &self.file
    }

    /// Its length in bytes.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Whether it has no bytes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Asks for the length again: another process may be writing.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub fn refresh(&mut self) -> Result<(), Error> {
        self.len = self.file.metadata().map_err(|e| self.failure(e))?.len();
        Ok(())
    }

    /// The bytes from `offset` on: `len` of them, or as many as there are. The caller bounds `len`.
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

    /// All that is in memory from `offset` on: `len` bytes at least, or as many as there are. So the file is read once
    /// however often it is asked for.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub fn window_at(&mut self, offset: u64, len: usize) -> Result<&[u8], Error> {
        self.at(offset, len)?;
        let from = usize::try_from(offset.saturating_sub(self.start)).unwrap_or(usize::MAX);
        Ok(self.window.get(from..).unwrap_or_default())
    }

    /// Whether nothing but zeros comes from `from` on.
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
        let mut have = 0;
        while let Some(space) = self
            .window
            .get_mut(have..)
            .filter(|space| !space.is_empty())
        {
            match self.file.read_at(space, offset + have as u64) {
                // Cut since it was looked at.
                Ok(0) => break,
                Ok(len) => have += len,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.window.clear();
                    return Err(self.failure(error));
                }
            }
        }
        self.window.truncate(have);
        Ok(())
    }

    fn failure(&self, error: io::Error) -> Error {
        Error::read(&self.path, error)
    }
}
