//! Splits a file into messages, and messages into chunks: [`FileChunks`].

use std::fs::File;
use std::io::{self, Cursor, Read, Seek, Write};
use std::path::Path;

use embedded_io_adapters::std::FromStd;
use framing_core::{AnyFraming, Refusal, SendError, blocking};

use crate::connection::responder::ReplyError;

/// Bytes read from a file at a time.
pub const CHUNK: usize = 64 << 10;

/// Plans how to send a file: as one message, or with the framing `fixed:N` as one message for each `N` bytes.
///
/// # Examples
/// ```
/// use std::io::Write;
/// use blocksd_engine::connection::reply::file::{CHUNK, FileChunks};
/// use framing_core::{AnyFraming, Blocks};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut written = tempfile::NamedTempFile::new()?;
/// written.write_all(b"content")?;
/// let (mut file, mut chunks) = FileChunks::open(written.path(), AnyFraming::Blocks(Blocks))?;
/// let mut buffer = vec![0; CHUNK];
/// let chunk = chunks.next(&mut file, &mut buffer)?.expect("a chunk");
/// assert_eq!((chunk.begin, chunk.bytes), (Some(7), &b"content"[..]));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct FileChunks {
    /// Bytes of the file that are not read yet.
    left: u64,
    /// Bytes of the current message that are not read yet.
    in_message: u64,
    /// Length of each message, in bytes.
    message: u64,
    begun: bool,
}

/// The content of a file.
#[derive(Debug)]
pub enum FileSource {
    /// The content of a short file, in memory.
    Short(Cursor<Vec<u8>>),
    /// A long file.
    Long(File),
}

impl FileSource {
    /// Reads a short file. Returns the content, and its length in bytes.
    fn of(mut file: File, stated: u64) -> io::Result<(Self, u64)> {
        if CHUNK as u64 <= stated {
            return Ok((Self::Long(file), stated));
        }
        let mut content = Vec::new();
        let read = (&mut file).take(CHUNK as u64).read_to_end(&mut content)?;
        if read < CHUNK {
            return Ok((Self::Short(Cursor::new(content)), read as u64));
        }
        // The file is longer than its stated length. The copy has exactly the sent length, and is bounded by it.
        let mut copy = tempfile::tempfile()?;
        copy.write_all(&content)?;
        let more = io::copy(&mut file.take(u64::from(u32::MAX)), &mut copy)?;
        copy.rewind()?;
        Ok((Self::Long(copy), read as u64 + more))
    }
}

impl Read for FileSource {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Short(content) => content.read(buffer),
            Self::Long(file) => file.read(buffer),
        }
    }
}

/// The length of the longest message in a framing, in bytes.
fn longest(framing: AnyFraming) -> u32 {
    let begun = blocking::Writer::new(FromStd::new(io::sink()), framing).begin(u32::MAX);
    match begun {
        Err(SendError::Refused(Refusal::TooLong { max, .. })) => max,
        _ => u32::MAX,
    }
}

/// The next bytes to send.
#[derive(Debug)]
pub struct FileChunk<'a> {
    /// Length of the message that begins with this chunk; `None` within a message.
    pub begin: Option<u32>,
    /// The bytes of the chunk.
    pub bytes: &'a [u8],
}

impl FileChunks {
    /// Opens a file. Its current length decides how much is sent. Files of `/proc` and `/sys` state another length than they
    /// have, so the length of a short file is that of its content.
    ///
    /// # Errors
    /// [`ReplyError::Read`] if it cannot be opened, or is not a regular file and therefore has no known length.
    /// [`ReplyError::TooLong`] if no framing, or not this one, can express its length.
    pub fn open(path: &Path, framing: AnyFraming) -> Result<(FileSource, Self), ReplyError> {
        let failure = |source| ReplyError::Read {
            path: path.into(),
            source,
        };
        // Check before opening: opening a pipe blocks until its other end is opened.
        let metadata = path.metadata().map_err(failure)?;
        if !metadata.is_file() {
            return Err(failure(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not a regular file",
            )));
        }
        let file = File::open(path).map_err(failure)?;
        let (file, left) = FileSource::of(file, metadata.len()).map_err(failure)?;
        let message = match framing {
            AnyFraming::Fixed(fixed) => u64::from(fixed.len()),
            // Pieces of a stream leave no trace on the wire, so any length works.
            AnyFraming::Stream(_) => CHUNK as u64,
            _ => left,
        };
        if u64::from(u32::MAX) < message {
            return Err(ReplyError::TooLong {
                path: path.into(),
                len: message,
                max: longest(framing),
            });
        }
        Ok((
            file,
            Self {
                left,
                in_message: 0,
                message,
                begun: false,
            },
        ))
    }

    /// Reads the next chunk into `buffer`. Returns `None` at the end.
    ///
    /// # Errors
    /// The error of the system, or [`io::ErrorKind::UnexpectedEof`] if the file has become shorter.
    pub fn next<'a>(
        &mut self,
        file: &mut impl Read,
        buffer: &'a mut [u8],
    ) -> io::Result<Option<FileChunk<'a>>> {
        if self.begun && self.left == 0 && self.in_message == 0 {
            return Ok(None);
        }
        self.begun = true;
        let begin = (self.in_message == 0).then(|| {
            self.in_message = self.message.min(self.left);
            u32::try_from(self.in_message).unwrap_or(u32::MAX)
        });
        let len = self.in_message.min(buffer.len() as u64);
        let bytes = buffer
            .get_mut(..usize::try_from(len).unwrap_or_default())
            .unwrap_or_default();
        file.read_exact(bytes)?;
        self.left -= len;
        self.in_message -= len;
        Ok(Some(FileChunk { begin, bytes }))
    }
}
