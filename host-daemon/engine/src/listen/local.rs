//! Connections from this machine: a socket in the file system, and standard input.

use std::fs;
use std::io;
use std::net::Shutdown;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream as Blocking;
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::{UnixListener, UnixStream};

use crate::listen::path::will_have_folder;

/// Listens on a socket in the file system. Who may connect is who may write to the file: what the umask leaves.
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

/// Whether a socket can be made there, as far as that is known without doing it.
///
/// # Errors
/// The path is a file that is not a socket, or its folder does not exist.
pub(super) fn check(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(file) if file.file_type().is_socket() => Ok(()),
        Ok(_) => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "there is a file that is not a socket; remove it, or choose another path",
        )),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::metadata(folder(path)?).map(drop)
        }
        Err(error) => Err(error),
    }
}

/// The same once the folders in `made` are there, and whether its folder can be written to: makes a file there that has
/// no name.
///
/// # Errors
/// As [`check`], and as the folder refuses a file.
pub(super) fn probe(path: &Path, made: &[PathBuf]) -> io::Result<()> {
    match check(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && will_have_folder(path, made) => {
            return Ok(());
        }
        checked => checked?,
    }
    tempfile::tempfile_in(folder(path)?).map(drop)
}

/// A socket that the service manager has opened, and its name.
pub(super) fn passed(
    socket: std::os::unix::net::UnixListener,
) -> io::Result<(UnixListener, String)> {
    socket.set_nonblocking(true)?;
    let address = socket.local_addr()?;
    let path = address.as_pathname().unwrap_or_else(|| Path::new(""));
    let name = format!("unix:{}", path.display());
    Ok((UnixListener::from_std(socket)?, name))
}

/// Whether a file is a socket that nobody listens on: left by a daemon that could not remove it. Never waits: a process
/// that hangs, and whose queue of connections is full, still listens.
fn is_stale(path: &Path) -> bool {
    let connect = || {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.connect(&SockAddr::unix(path)?)
    };
    connect().is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

/// The file of a socket, removed when dropped.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    id: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Not that of another daemon, which has taken its place.
        if id(&self.path).is_ok_and(|id| id == self.id) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The folder of a file, as a path that can be opened.
fn folder(path: &Path) -> io::Result<PathBuf> {
    let mut path = std::path::absolute(path)?;
    path.pop();
    Ok(path)
}

fn id(path: &Path) -> io::Result<(u64, u64)> {
    let file = fs::symlink_metadata(path)?;
    Ok((file.dev(), file.ino()))
}

/// Standard input: one connection, to its end.
#[derive(Debug, Default)]
pub(super) struct Stdin {
    is_taken: bool,
}

impl Stdin {
    /// The connection; `None` the second time.
    pub(super) fn accept(&mut self) -> io::Result<Option<UnixStream>> {
        if std::mem::replace(&mut self.is_taken, true) {
            return Ok(None);
        }
        let (ours, mut theirs) = Blocking::pair()?;
        ours.set_nonblocking(true)?;
        // A thread, since standard input may be a file or a terminal, which cannot be waited for.
        std::thread::Builder::new()
            .name("stdin".to_owned())
            .spawn(move || {
                if let Err(error) = io::copy(&mut io::stdin().lock(), &mut theirs)
                    && error.kind() != io::ErrorKind::BrokenPipe
                {
                    tracing::warn!("standard input cannot be read: {error}");
                }
                let _ = theirs.shutdown(Shutdown::Both);
            })?;
        UnixStream::from_std(ours).map(Some)
    }
}
