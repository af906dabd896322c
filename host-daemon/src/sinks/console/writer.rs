//! Writes to standard output until it is interrupted: a [`ConsoleWriter`] and its [`Interrupt`].

use std::io::{self, ErrorKind, PipeReader, PipeWriter, Write};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

/// Longest write, in bytes. A pipe that can be written to accepts it at once and as a whole, so that it is known which
/// bytes were accepted.
const WRITE_MAX: usize = rustix::pipe::PIPE_BUF;

/// Writes to standard output. Waits for its reader, whether it is non-blocking or not.
#[derive(Debug)]
pub(super) struct ConsoleWriter {
    interrupted: PipeReader,
}

/// Interrupts a [`ConsoleWriter`] that waits.
#[derive(Clone, Debug)]
pub(super) struct Interrupt(Arc<Mutex<Option<PipeWriter>>>);

/// The error of an interrupted write. Nothing of it was written.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the write was interrupted")]
struct Interrupted;

/// Creates a writer.
///
/// # Errors
/// If the system has no descriptors left.
pub(super) fn new() -> io::Result<(ConsoleWriter, Interrupt)> {
    let (interrupted, open) = io::pipe()?;
    let interrupt = Interrupt(Arc::new(Mutex::new(Some(open))));
    Ok((ConsoleWriter { interrupted }, interrupt))
}

/// Whether a write failed because it was interrupted.
pub(super) fn is_interrupted(error: &io::Error) -> bool {
    error
        .get_ref()
        .is_some_and(|error| error.is::<Interrupted>())
}

impl Interrupt {
    /// Makes all writes fail from now on.
    pub(super) fn interrupt(&self) {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Closes the pipe, which the writer polls.
        drop(open.take());
    }
}

impl Write for ConsoleWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let stdout = io::stdout();
        let bytes = bytes.get(..WRITE_MAX).unwrap_or(bytes);
        loop {
            let mut polled = [
                PollFd::new(&stdout, PollFlags::OUT),
                PollFd::new(&self.interrupted, PollFlags::IN),
            ];
            match poll(&mut polled, None) {
                Err(Errno::INTR) => continue,
                polled => polled?,
            };
            let [stdout_polled, interrupted] = polled.each_ref().map(PollFd::revents);
            if !interrupted.is_empty() {
                return Err(io::Error::new(ErrorKind::TimedOut, Interrupted));
            }
            if stdout_polled.is_empty() {
                continue;
            }
            match rustix::io::write(&stdout, bytes) {
                Err(Errno::INTR | Errno::AGAIN) => {}
                written => return written.map_err(io::Error::from),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
