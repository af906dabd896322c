//! A simulated service manager: [`Manager`] receives the notifications of a daemon.

use std::ffi::OsString;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::Command;

use tempfile::TempDir;

use crate::process::DEADLINE;

/// The socket of a service manager.
#[derive(Debug)]
pub struct Manager {
    socket: UnixDatagram,
    /// The value of the environment variable.
    name: OsString,
    /// The folder of the socket, unless it is abstract.
    _folder: Option<TempDir>,
}

impl Manager {
    /// Binds a socket in the file system.
    #[must_use]
    pub fn start() -> Self {
        let folder = TempDir::new().expect("a folder for temporary files");
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("a new path");
        Self::of(socket, path.into(), Some(folder))
    }

    /// Binds an abstract socket.
    #[must_use]
    pub fn with_abstract_socket() -> Self {
        let name = format!("blocksd-notify-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("a short name");
        let socket = UnixDatagram::bind_addr(&address).expect("a new name");
        Self::of(socket, format!("@{name}").into(), None)
    }

    fn of(socket: UnixDatagram, name: OsString, _folder: Option<TempDir>) -> Self {
        socket.set_read_timeout(Some(DEADLINE)).expect("not zero");
        Self {
            socket,
            name,
            _folder,
        }
    }

    /// Sets the environment variable of a command to the socket.
    pub fn supervise(&self, command: &mut Command) {
        command.env("NOTIFY_SOCKET", &self.name);
    }

    /// Waits for the next notification.
    #[track_caller]
    pub fn notification(&self) -> String {
        let mut buffer = [0; 200];
        let len = self.socket.recv(&mut buffer).expect("a notification");
        String::from_utf8_lossy(&buffer[..len]).into_owned()
    }

    /// Whether a notification has arrived and is not read yet.
    pub fn is_notified(&self) -> bool {
        self.socket.set_nonblocking(true).expect("a live socket");
        let received = self.socket.recv(&mut [0; 1]);
        self.socket.set_nonblocking(false).expect("a live socket");
        received.is_ok()
    }
}
