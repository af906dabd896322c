//! Sockets that the service manager has opened for the daemon.

use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use listenfd::ListenFd;

/// What was passed and is not taken yet; looked up when first asked for.
#[derive(Default)]
pub(super) struct Passed(Option<(ListenFd, Vec<String>)>);

/// A socket that was passed.
pub(super) enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Passed {
    /// All that are left, or those of one name.
    pub(super) fn take(&mut self, name: Option<&str>) -> io::Result<Vec<Socket>> {
        let (sockets, names) = self.0.get_or_insert_with(|| {
            // Names in the order of the sockets, as `FileDescriptorName=` of a socket unit gives them.
            let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
            let names = names.split(':').map(str::to_owned).collect();
            (ListenFd::from_env(), names)
        });
        let mut taken = Vec::new();
        for index in 0..sockets.len() {
            let own_name = names.get(index).map_or("", String::as_str);
            if name.is_some_and(|name| name != own_name) {
                continue;
            }
            let socket = match sockets.take_tcp_listener(index) {
                Ok(socket) => socket.map(Socket::Tcp),
                Err(_) => sockets.take_unix_listener(index)?.map(Socket::Unix),
            };
            taken.extend(socket);
        }
        if taken.is_empty() {
            let what = match name {
                Some(name) => format!("the service manager has passed no socket called {name}"),
                None => "the service manager has passed no socket, or they are taken".to_owned(),
            };
            return Err(io::Error::new(io::ErrorKind::NotFound, what));
        }
        Ok(taken)
    }
}

impl std::fmt::Debug for Passed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = self.0.as_ref().map(|(_, names)| names);
        f.debug_tuple("Passed").field(&names).finish()
    }
}
