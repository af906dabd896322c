//! A simulated service manager: [`Manager`] receives the notifications of a daemon.

use std::os::unix::net::UnixDatagram;
use std::process::Command;

use tempfile::TempDir;

use crate::process::DEADLINE;

/// The socket of a service manager.
#[derive(Debug)]
pub struct Manager {
    socket: UnixDatagram,
    folder: TempDir,
}

impl Manager {
    /// Binds the socket.
    #[must_use]
    pub fn start() -> Self {
        let folder = TempDir::new().expect("a folder for temporary files");
        let socket = UnixDatagram::bind(folder.path().join("notify")).expect("a new path");
        socket.set_read_timeout(Some(DEADLINE)).expect("not zero");
        Self { socket, folder }
    }

    /// Sets the environment variable of a command to the socket.
    pub fn supervise(&self, command: &mut Command) {
        command.env("NOTIFY_SOCKET", self.folder.path().join("notify"));
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
