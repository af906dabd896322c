//! Sockets passed by systemd (socket activation): [`Passed::take`].

use std::io;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;

use listenfd::ListenFd;
use socket2::SockRef;

/// The passed sockets that were not taken yet. The environment is read at the first use.
#[derive(Default)]
pub(super) struct Passed(Option<(ListenFd, Vec<String>)>);

/// A passed socket.
pub(super) enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Passed {
    /// Takes all remaining sockets, or those with the given name.
    pub(super) fn take(&mut self, name: Option<&str>) -> io::Result<Vec<Socket>> {
        let (sockets, names) = self.0.get_or_insert_with(|| {
            // Names are in the order of the sockets, as `FileDescriptorName=` in a socket unit sets them.
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
            taken.extend(take_one(sockets, index, own_name)?);
        }
        if taken.is_empty() {
            let what = match name {
                Some(name) => format!("systemd did not pass a socket named {name}"),
                None => "systemd did not pass a socket, or all are in use".to_owned(),
            };
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        Ok(taken)
    }
}

/// Takes a listening socket; `None` if it was taken before.
fn take_one(sockets: &mut ListenFd, index: usize, name: &str) -> io::Result<Option<Socket>> {
    let refuse = |why: &str| {
        let what = format!("the socket `{name}` passed by systemd {why}");
        io::Error::new(io::ErrorKind::InvalidInput, what)
    };
    let (is_listener, socket) = if let Ok(socket) = sockets.take_tcp_listener(index) {
        let Some(socket) = socket else {
            return Ok(None);
        };
        (is_listener(&socket), Socket::Tcp(socket))
    } else if let Ok(Some(socket)) = sockets.take_unix_listener(index) {
        (is_listener(&socket), Socket::Unix(socket))
    } else {
        return Err(refuse(
            "is not a TCP or Unix stream socket; use ListenStream= in the socket unit",
        ));
    };
    match is_listener {
        Ok(true) => Ok(Some(socket)),
        Ok(false) => Err(refuse(
            "is not a listening socket; use Accept=no in the socket unit",
        )),
        Err(error) => Err(error),
    }
}

fn is_listener(socket: &impl AsFd) -> io::Result<bool> {
    SockRef::from(socket).is_listener()
}

impl std::fmt::Debug for Passed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = self.0.as_ref().map(|(_, names)| names);
        f.debug_tuple("Passed").field(&names).finish()
    }
}
