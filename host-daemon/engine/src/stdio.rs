//! Standard streams that wait where a non-blocking stream would fail. Start with [`stdin`], [`stdout`] and [`stderr`].
//!
//! `O_NONBLOCK` belongs to an open file description, which processes share: `ssh`, `node` or `expect` may leave it set on
//! a terminal, pipe or socket that this process inherits, or set it at any time. Clearing it would break the other
//! process, so the flag is never changed.

use std::io::{self, ErrorKind, Read, StderrLock, StdinLock, Stdout, Write};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

/// A stream whose reads and writes wait until they can proceed, whether it is non-blocking or not.
///
/// # Examples
/// ```
/// use std::io::{Read, Write};
///
/// use blocksd_engine::stdio::Waiting;
///
/// let (reader, mut writer) = std::io::pipe()?;
/// writer.write_all(b"text")?;
/// drop(writer);
/// let mut text = String::new();
/// Waiting::new(reader).read_to_string(&mut text)?;
/// assert_eq!(text, "text");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Waiting<T>(T);

/// Returns standard input, locked.
#[must_use]
pub fn stdin() -> Waiting<StdinLock<'static>> {
    Waiting(io::stdin().lock())
}

/// Returns standard output. Every write locks it.
#[must_use]
pub fn stdout() -> Waiting<Stdout> {
    Waiting(io::stdout())
}

/// Returns standard error, locked.
#[must_use]
pub fn stderr() -> Waiting<StderrLock<'static>> {
    Waiting(io::stderr().lock())
}

/// Waits until a read of the stream can proceed: there are bytes, an end or an error.
///
/// # Errors
/// The error of the system.
pub fn wait_readable(stream: impl AsFd) -> io::Result<()> {
    wait(stream.as_fd(), PollFlags::IN)
}

/// Waits until a write to the stream can proceed: there is room, or an error.
///
/// # Errors
/// The error of the system.
pub fn wait_writable(stream: impl AsFd) -> io::Result<()> {
    wait(stream.as_fd(), PollFlags::OUT)
}

impl<T> Waiting<T> {
    /// Wraps a stream.
    pub const fn new(stream: T) -> Self {
        Self(stream)
    }
}

impl<T: Read + AsFd> Read for Waiting<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => wait_readable(&self.0)?,
                read => return read,
            }
        }
    }
}

impl<T: Write + AsFd> Write for Waiting<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.0.write(bytes) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => wait_writable(&self.0)?,
                written => return written,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        loop {
            match self.0.flush() {
                Err(error) if error.kind() == ErrorKind::WouldBlock => wait_writable(&self.0)?,
                flushed => return flushed,
            }
        }
    }
}

fn wait(stream: BorrowedFd<'_>, until: PollFlags) -> io::Result<()> {
    loop {
        match poll(&mut [PollFd::from_borrowed_fd(stream, until)], None) {
            Err(Errno::INTR) => {}
            polled => return polled.map(drop).map_err(io::Error::from),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_non_blocking_stream_is_written_and_read_completely_by_slow_peers() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        theirs.set_nonblocking(true).unwrap();
        let bytes: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 251) as u8).collect();
        let sent = bytes.clone();
        let writer = std::thread::spawn(move || {
            let mut writer = Waiting::new(theirs);
            std::thread::sleep(Duration::from_millis(20));
            writer.write_all(&sent).and_then(|()| writer.flush())
        });
        let mut received = Vec::new();
        Waiting::new(&ours).read_to_end(&mut received).unwrap();
        writer.join().unwrap().unwrap();
        assert!(received == bytes);
    }
}
