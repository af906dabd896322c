//! How a file is cut into messages, and messages into chunks: [`FileChunks`].

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use framing_core::{AnyFraming, Refusal};

use crate::connection::responder::ReplyError;

/// Bytes read from a file at a time.
pub const CHUNK: usize = 64 << 10;

/// A plan to send a file as one message; in `fixed:N`, as one for each `N` bytes.
#[derive(Debug)]
pub struct FileChunks {
    /// Bytes of the file that have not been read.
    left: u64,
    /// Bytes of the present message that have not been read.
    in_message: u64,
    /// Length of each message.
    message: u64,
    begun: bool,
}

/// The next thing to do to send a file.
#[derive(Debug)]
pub struct FileChunk<'a> {
    /// Length of the message that begins with this chunk, if one begins.
    pub begin: Option<u32>,
    /// The next bytes of it.
    pub bytes: &'a [u8],
}

impl FileChunks {
    /// Opens a file, and plans to send as many bytes as it has now.
    ///
    /// # Errors
    /// [`ReplyError::Read`] if it cannot be read, or is not a regular file, so that its length is not known;
    /// [`ReplyError::Refused`] if the framing cannot express its length.
    pub fn open(path: &Path, framing: AnyFraming) -> Result<(File, Self), ReplyError> {
        let failure = |source| ReplyError::Read {
            path: path.into(),
            source,
        };
        // Looked at before it is opened: opening a pipe waits for its other end.
        let metadata = path.metadata().map_err(failure)?;
        if !metadata.is_file() {
            return Err(failure(io::Error::new(
                io::ErrorKind::InvalidInput,
                "no regular file",
            )));
        }
        let file = File::open(path).map_err(failure)?;
        let left = metadata.len();
        let message = match framing {
            AnyFraming::Fixed(fixed) => u64::from(fixed.len()),
            // Pieces of a stream are nothing on the wire: of any length.
            AnyFraming::Stream(_) => CHUNK as u64,
            _ => left,
        };
        if u64::from(u32::MAX) < message {
            return Err(Refusal::TooLong {
                len: u32::MAX,
                max: u32::MAX,
            }
            .into());
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

    /// Reads the next chunk into `buffer`; `None` at the end.
    ///
    /// # Errors
    /// The error of the system, and [`io::ErrorKind::UnexpectedEof`] if the file has become shorter.
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
