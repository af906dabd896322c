//! A connection of `send` for code that blocks: [`BlockingStream`].

use std::io::{self, Read, Write};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::runtime::Runtime;
use tokio::time::timeout;

use crate::tls::client::ClientStream;

/// A connection, and the runtime that drives it.
#[derive(Debug)]
pub(super) struct BlockingStream<'a> {
    runtime: &'a Runtime,
    stream: ClientStream,
    /// A read without data for this time fails.
    read_timeout: Option<Duration>,
}

impl<'a> BlockingStream<'a> {
    pub(super) const fn new(runtime: &'a Runtime, stream: ClientStream) -> Self {
        Self {
            runtime,
            stream,
            read_timeout: None,
        }
    }

    pub(super) const fn set_read_timeout(&mut self, read_timeout: Duration) {
        self.read_timeout = Some(read_timeout);
    }

    /// Ends the sending side.
    ///
    /// # Errors
    /// As [`ClientStream::close_write`].
    pub(super) fn close_write(&mut self) -> io::Result<()> {
        self.runtime.block_on(self.stream.close_write())
    }

    /// The error of the socket that no call has reported.
    pub(super) fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.stream.tcp().take_error()
    }
}

impl Read for BlockingStream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (stream, read_timeout) = (&mut self.stream, self.read_timeout);
        self.runtime.block_on(async {
            let read = stream.read(buffer);
            match read_timeout {
                Some(limit) => timeout(limit, read).await?,
                None => read.await,
            }
        })
    }
}

impl Write for BlockingStream<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.runtime.block_on(self.stream.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.runtime.block_on(self.stream.flush())
    }
}
