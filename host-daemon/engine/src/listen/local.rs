//! Local connections: Unix sockets in the file system ([`bind`]), and standard input ([`Stdin`]).

use std::fs;
use std::io;
use std::net::Shutdown;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream as Blocking;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};

use crate::listen::line::{Line, LineTransport, Port};
use crate::listen::path::will_have_folder;
use crate::stdio;

/// Listens on a socket in the file system. The permissions of the file, which the umask limits, decide which users can
/// connect. Replaces a socket file that no process listens on.
pub(super) fn bind(path: PathBuf) -> io::Result<(UnixListener, SocketFile)> {
    check(&path)?;
    let socket = match UnixListener::bind(&path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_stale(&path) => {
            fs::remove_file(&path)?;
            UnixListener::bind(&path)?
        }
        bound => bound?,
    };
    let file = SocketFile {
        id: id(&path)?,
        path,
    };
    Ok((socket, file))
}

/// Checks whether a socket can be created at `path`, without creating it.
///
/// # Errors
/// The path is a file that is not a socket, or its folder does not exist.
pub(super) fn check(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(file) if file.file_type().is_socket() => Ok(()),
        Ok(_) => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the file exists and is not a socket; remove it, or choose another path",
        )),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::metadata(folder(path)?).map(drop)
        }
        Err(error) => Err(error),
    }
}

/// As [`check`], once the folders in `made` exist. Also checks that the folder is writable, by creating an unnamed
/// file.
///
/// # Errors
/// See [`check`]; the error of the system if the folder is not writable.
pub(super) fn probe(path: &Path, made: &[PathBuf]) -> io::Result<()> {
    match check(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && will_have_folder(path, made) => {
            return Ok(());
        }
        checked => checked?,
    }
    tempfile::tempfile_in(folder(path)?).map(drop)
}

/// Takes over a socket that systemd passed, and returns its name.
pub(super) fn passed(
    socket: std::os::unix::net::UnixListener,
) -> io::Result<(UnixListener, String)> {
    socket.set_nonblocking(true)?;
    let address = socket.local_addr()?;
    let path = address.as_pathname().unwrap_or_else(|| Path::new(""));
    let name = format!("unix:{}", path.display());
    Ok((UnixListener::from_std(socket)?, name))
}

/// Whether a socket file is left over from a process that ended without removing it. Probes with a datagram socket: the
/// system refuses it in one way if a stream socket is bound to the file, and in another if no socket is, and a listener
/// does not get a connection.
fn is_stale(path: &Path) -> bool {
    let connect = || Socket::new(Domain::UNIX, Type::DGRAM, None)?.connect(&SockAddr::unix(path)?);
    connect().is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

/// The file of a socket. Removed when dropped.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    id: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Keep it if another process has replaced it.
        if id(&self.path).is_ok_and(|id| id == self.id) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Returns the folder of a file, as an absolute path.
fn folder(path: &Path) -> io::Result<PathBuf> {
    let mut path = std::path::absolute(path)?;
    path.pop();
    Ok(path)
}

fn id(path: &Path) -> io::Result<(u64, u64)> {
    let file = fs::symlink_metadata(path)?;
    Ok((file.dev(), file.ino()))
}

/// Standard input: one connection at a time, until its end.
#[derive(Debug)]
pub(super) struct Stdin {
    line: Line<StdinPort>,
    is_begun: bool,
}

impl Stdin {
    /// # Errors
    /// If standard input is a directory, which can be opened and not read.
    pub(super) fn new() -> io::Result<Self> {
        if fs::metadata("/dev/stdin").is_ok_and(|it| it.is_dir()) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        Ok(Self {
            line: Line::new("-".into()),
            is_begun: false,
        })
    }

    /// Returns the first connection at once, and each further one when the previous one has closed and there are more
    /// bytes. Returns `None` at the end.
    pub(super) async fn accept(&mut self) -> io::Result<Option<LineTransport<StdinPort>>> {
        if !self.is_begun {
            self.line.open(read_stdin()?);
            self.is_begun = true;
            return Ok(Some(self.line.connect()));
        }
        self.line.released().await;
        let has_more = self.line.has_more().await;
        Ok(has_more.then(|| self.line.connect()))
    }

    /// Waits until the previous connection has closed. Returns a connection if it has left bytes.
    pub(super) async fn accept_rest(&mut self) -> Option<LineTransport<StdinPort>> {
        self.line.released().await;
        self.line.has_rest().then(|| self.line.connect())
    }
}

/// One end of a pair, because standard input cannot be polled.
#[derive(Debug)]
pub(super) struct StdinPort {
    stream: UnixStream,
    /// A read of standard input failed. Set before the other end is closed.
    has_failed: Arc<AtomicBool>,
}

impl Port for StdinPort {
    const HAS_REPLIES: bool = false;

    fn poll_readable(&self, context: &mut Context<'_>) -> Option<Poll<io::Result<()>>> {
        Some(self.stream.poll_read_ready(context))
    }

    fn try_read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.stream.try_read(bytes)
    }

    fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Acquire)
    }
}

impl AsyncRead for StdinPort {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for StdinPort {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Returns a socket from which standard input can be read.
fn read_stdin() -> io::Result<StdinPort> {
    let (ours, mut theirs) = Blocking::pair()?;
    ours.set_nonblocking(true)?;
    let has_failed = Arc::new(AtomicBool::new(false));
    let failed = Arc::clone(&has_failed);
    // Use a thread: standard input may be a file or a terminal, which cannot be polled.
    std::thread::Builder::new()
        .name("stdin".to_owned())
        .spawn(move || {
            if let Err(error) = copy_stdin(&mut theirs)
                && error.kind() != io::ErrorKind::BrokenPipe
            {
                tracing::warn!("cannot read standard input: {error}");
                failed.store(true, Ordering::Release);
            }
            let _ = theirs.shutdown(Shutdown::Both);
        })?;
    Ok(StdinPort {
        stream: UnixStream::from_std(ours)?,
        has_failed,
    })
}

/// Copies standard input to `to`, until its end. Does not use [`stdio::stdin`], because this copies pipes and files within
/// the kernel.
fn copy_stdin(to: &mut Blocking) -> io::Result<()> {
    let mut stdin = io::stdin().lock();
    loop {
        // Bytes that were read before an error are copied.
        match io::copy(&mut stdin, to) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                stdio::wait_readable(&stdin)?;
            }
            copied => return copied.map(drop),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_file_in_use_is_probed_without_a_connection_and_a_stale_one_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        listener.set_nonblocking(true).unwrap();
        let refused = bind(path.clone()).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
        let accepted = listener.accept().unwrap_err();
        assert_eq!(accepted.kind(), io::ErrorKind::WouldBlock);
        drop(listener);
        assert!(bind(path).is_ok());
    }
}
