//! Sockets passed by systemd (socket activation): [`Passed::take`].

use std::io;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Weak};

use listenfd::ListenFd;
use socket2::SockRef;

/// The sockets that systemd passed. The environment is read at the first use. Their descriptors stay open, so that a
/// socket can be listened on again after its listener was closed.
#[derive(Debug, Default)]
pub(super) struct Passed(Option<Vec<PassedSocket>>);

#[derive(Debug)]
struct PassedSocket {
    name: String,
    socket: Result<Socket, Unusable>,
    /// The addresses of the open listeners that use it.
    users: Vec<Weak<str>>,
}

/// A passed socket.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Why a passed socket cannot be used.
#[derive(Debug)]
struct Unusable(io::ErrorKind, String);

/// Held by a listener while it uses a passed socket.
pub(super) type SocketUse = Arc<str>;

impl Passed {
    /// Takes all free sockets, or those with the given name, for the listener at `address`. Sockets that listeners at
    /// the addresses in `released` use are free.
    pub(super) fn take(
        &mut self,
        name: Option<&str>,
        address: &str,
        released: &[String],
    ) -> io::Result<(Vec<Socket>, SocketUse)> {
        let sockets = self.0.get_or_insert_with(of_environment);
        let user: SocketUse = address.into();
        let mut taken = Vec::new();
        for passed in sockets {
            let is_other = name.is_some_and(|name| name != passed.name);
            if is_other || !passed.is_free(released) {
                continue;
            }
            taken.push(match &passed.socket {
                Ok(socket) => socket.try_clone()?,
                Err(Unusable(kind, why)) => return Err(io::Error::new(*kind, why.clone())),
            });
            passed.users.push(Arc::downgrade(&user));
        }
        if taken.is_empty() {
            let what = match name {
                Some(name) => format!("systemd did not pass a socket named {name}"),
                None => "systemd did not pass a socket, or all are in use".to_owned(),
            };
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        Ok((taken, user))
    }
}

impl PassedSocket {
    fn is_free(&mut self, released: &[String]) -> bool {
        self.users.retain(|user| user.strong_count() != 0);
        let mut users = self.users.iter().filter_map(Weak::upgrade);
        users.all(|user| released.iter().any(|address| **address == *user))
    }
}

impl Socket {
    fn try_clone(&self) -> io::Result<Self> {
        match self {
            Self::Tcp(socket) => socket.try_clone().map(Self::Tcp),
            Self::Unix(socket) => socket.try_clone().map(Self::Unix),
        }
    }
}

fn of_environment() -> Vec<PassedSocket> {
    // Names are in the order of the sockets, as `FileDescriptorName=` in a socket unit sets them.
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let mut sockets = ListenFd::from_env();
    let passed = (0..sockets.len()).map(|index| {
        let name = names.next().unwrap_or_default();
        PassedSocket {
            name: name.to_owned(),
            socket: take_one(&mut sockets, index, name),
            users: Vec::new(),
        }
    });
    passed.collect()
}

/// Takes a listening socket out of the environment.
fn take_one(sockets: &mut ListenFd, index: usize, name: &str) -> Result<Socket, Unusable> {
    let refuse = |why: &str| {
        let what = format!("the socket `{name}` passed by systemd {why}");
        Unusable(io::ErrorKind::InvalidInput, what)
    };
    let (is_listener, socket) = if let Ok(Some(socket)) = sockets.take_tcp_listener(index) {
        (is_listener(&socket), Socket::Tcp(socket))
    } else if let Ok(Some(socket)) = sockets.take_unix_listener(index) {
        (is_listener(&socket), Socket::Unix(socket))
    } else {
        return Err(refuse(
            "is not a TCP or Unix stream socket; use ListenStream= in the socket unit",
        ));
    };
    match is_listener {
        Ok(true) => Ok(socket),
        Ok(false) => Err(refuse(
            "is not a listening socket; use Accept=no in the socket unit",
        )),
        Err(error) => Err(Unusable(error.kind(), error.to_string())),
    }
}

fn is_listener(socket: &impl AsFd) -> io::Result<bool> {
    SockRef::from(socket).is_listener()
}
