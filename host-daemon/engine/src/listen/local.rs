//! Local connections: Unix sockets in the file system ([`bind`]), and standard input ([`Stdin`]).

use std::fs;
use std::io;
use std::net::Shutdown;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream as Blocking;
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::{UnixListener, UnixStream};

use crate::listen::path::will_have_folder;

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

/// Whether a socket file is left over from a process that ended without removing it. Does not block: a process that
/// hangs with a full accept queue still listens.
fn is_stale(path: &Path) -> bool {
    let connect = || {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.connect(&SockAddr::unix(path)?)
    };
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

/// Standard input: a single connection, until its end.
#[derive(Debug, Default)]
pub(super) struct Stdin {
    is_taken: bool,
}

impl Stdin {
    /// Returns the connection at the first call, and `None` after that.
    pub(super) fn accept(&mut self) -> io::Result<Option<UnixStream>> {
        if std::mem::replace(&mut self.is_taken, true) {
            return Ok(None);
        }
        let (ours, mut theirs) = Blocking::pair()?;
        ours.set_nonblocking(true)?;
        // Use a thread: standard input may be a file or a terminal, which cannot be polled.
        std::thread::Builder::new()
            .name("stdin".to_owned())
            .spawn(move || {
                if let Err(error) = io::copy(&mut io::stdin().lock(), &mut theirs)
                    && error.kind() != io::ErrorKind::BrokenPipe
                {
                    tracing::warn!("cannot read standard input: {error}");
                }
                let _ = theirs.shutdown(Shutdown::Both);
            })?;
        UnixStream::from_std(ours).map(Some)
    }
}
