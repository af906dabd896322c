//! Where connections come from: the network, this machine, a serial line, standard input.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc;

use crate::event::Peer;
use crate::listen::address::{Address, AddressError};
use crate::listen::local::{SocketFile, Stdin};
use crate::listen::resolve::resolve;
use crate::listen::serial::Serial;
use crate::listen::socket_activation::Passed;
use crate::listen::transport::Transport;
use crate::listen::{local, socket_activation};

/// Connections that the system may keep waiting to be accepted, if it keeps so many (`net.core.somaxconn`): as many as
/// a busy daemon accepts in a second or two.
pub(crate) const BACKLOG: i32 = 4096;

/// How often, and how many times, a silent peer is asked whether it is there before it is given up.
const PROBES: (Duration, u32) = (Duration::from_secs(10), 3);

/// How the sockets of all listeners are set.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sockets {
    /// How long a peer may be silent until it is asked whether it is there; `None`: it never is.
    pub keepalive: Option<Duration>,
    /// Length of the kernel's receive buffer, in bytes; `None`: the kernel finds it by itself.
    pub receive_buffer: Option<u32>,
}

/// A source of connections.
#[derive(Debug)]
pub struct Listener {
    socket: ListenerKind,
    name: Arc<str>,
}

#[derive(Debug)]
enum ListenerKind {
    Tcp(TcpListener),
    Unix {
        socket: UnixListener,
        /// To remove at the end; not where the socket was passed.
        _file: Option<SocketFile>,
    },
    Serial(Box<Serial>),
    Stdin(Stdin),
    Channel(mpsc::Receiver<(Box<dyn Transport>, Peer)>),
}

/// Opens listeners, all with the same settings.
#[derive(Debug)]
pub struct Binder {
    sockets: Sockets,
    passed: Passed,
}

impl Binder {
    /// For sockets with these settings.
    #[must_use]
    pub fn new(sockets: Sockets) -> Self {
        Self {
            sockets,
            passed: Passed::default(),
        }
    }

    /// Listens on an [`Address`]; on several sockets if the service manager has passed several. Must be called in a Tokio
    /// runtime.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] where the address can never be had; else where it is not free.
    pub fn bind(&mut self, address: &str) -> io::Result<Vec<Listener>> {
        let address: Address = address.parse().map_err(invalid)?;
        let listener = |(socket, name): (ListenerKind, String)| Listener {
            socket,
            name: name.into(),
        };
        let opened = match address {
            Address::Tcp(address) => self.tcp(&address)?,
            Address::Unix(path) => {
                let name = format!("unix:{}", path.display());
                let (socket, file) = local::bind(path)?;
                let _file = Some(file);
                (ListenerKind::Unix { socket, _file }, name)
            }
            Address::Serial(line) => {
                let name = format!("serial:{}", line.path);
                (ListenerKind::Serial(Box::new(Serial::new(line))), name)
            }
            Address::Stdin => (ListenerKind::Stdin(Stdin::default()), "-".to_owned()),
            Address::Systemd(name) => {
                let sockets = self.passed.take(name.as_deref())?.into_iter();
                let opened = sockets.map(|socket| match socket {
                    socket_activation::Socket::Tcp(socket) => self.passed_tcp(socket),
                    socket_activation::Socket::Unix(socket) => {
                        let (socket, name) = local::passed(socket)?;
                        let _file = None;
                        Ok((ListenerKind::Unix { socket, _file }, name))
                    }
                });
                return opened.map(|opened| opened.map(listener)).collect();
            }
        };
        Ok(vec![listener(opened)])
    }

    /// The first of the addresses of a name that is free.
    fn tcp(&self, address: &str) -> io::Result<(ListenerKind, String)> {
        let mut failure = io::ErrorKind::AddrNotAvailable.into();
        for address in resolve(address)? {
            match self.listen(address) {
                Ok(socket) => {
                    let name = socket.local_addr()?.to_string();
                    return Ok((ListenerKind::Tcp(socket), name));
                }
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    fn listen(&self, address: SocketAddr) -> io::Result<TcpListener> {
        let domain = Domain::for_address(address);
        let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        if address.is_ipv6() && address.ip().is_unspecified() {
            // Whatever the system's default is: `[::]` is all of IPv6, and all of IPv4.
            socket.set_only_v6(false)?;
        }
        socket.set_nonblocking(true)?;
        self.set(&SockRef::from(&socket))?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into())
    }

    fn passed_tcp(&self, socket: std::net::TcpListener) -> io::Result<(ListenerKind, String)> {
        socket.set_nonblocking(true)?;
        self.set(&SockRef::from(&socket))?;
        let name = socket.local_addr()?.to_string();
        Ok((ListenerKind::Tcp(TcpListener::from_std(socket)?), name))
    }

    /// What connections take over from the socket that accepts them: set once, not a thousand times a second.
    fn set(&self, socket: &SockRef<'_>) -> io::Result<()> {
        if let Some(time) = self.sockets.keepalive {
            let (interval, retries) = PROBES;
            let keepalive = TcpKeepalive::new().with_time(time);
            let keepalive = keepalive.with_interval(interval).with_retries(retries);
            socket.set_tcp_keepalive(&keepalive)?;
        }
        if let Some(len) = self.sockets.receive_buffer {
            let len = len as usize;
            socket.set_recv_buffer_size(len)?;
            // The kernel reports twice what it allows.
            let allowed = socket.recv_buffer_size()? / 2;
            if allowed < len {
                tracing::warn!(
                    "receive-buffer {len}: the kernel allows {allowed} (net.core.rmem_max)"
                );
            }
        }
        Ok(())
    }
}

impl Listener {
    /// Takes connections from a channel instead of a socket, until all senders of the channel are dropped. `name`
    /// stands for its address.
    #[must_use]
    pub fn from_channel(
        name: impl Into<Arc<str>>,
        connections: mpsc::Receiver<(Box<dyn Transport>, Peer)>,
    ) -> Self {
        // A simulation has a clock of its own, and the origin of all moments must lie before its start.
        crate::moment::origin();
        Self {
            socket: ListenerKind::Channel(connections),
            name: name.into(),
        }
    }

    /// Where it listens, with the port that the system chose.
    #[must_use]
    pub const fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Whether connections may be waiting that nobody has seen.
    #[must_use]
    pub(crate) const fn has_queue(&self) -> bool {
        matches!(
            self.socket,
            ListenerKind::Tcp(_) | ListenerKind::Unix { .. }
        )
    }

    /// Whether its connections come from one line or pipe of this machine, one at a time.
    #[must_use]
    pub(crate) const fn is_line(&self) -> bool {
        matches!(
            self.socket,
            ListenerKind::Serial(_) | ListenerKind::Stdin(_)
        )
    }

    /// The next connection; `None` if there will be no more.
    ///
    /// Cancel-safe: dropped, it has accepted nothing.
    ///
    /// # Errors
    /// As the system says.
    pub async fn accept(&mut self) -> io::Result<Option<(Box<dyn Transport>, Peer)>> {
        let local = || Peer::Local(Arc::clone(&self.name));
        let (transport, peer): (Box<dyn Transport>, Peer) = match &mut self.socket {
            ListenerKind::Tcp(socket) => {
                let (stream, peer) = socket.accept().await?;
                (Box::new(stream), Peer::Network(peer))
            }
            ListenerKind::Unix { socket, .. } => (Box::new(socket.accept().await?.0), local()),
            ListenerKind::Serial(serial) => (Box::new(serial.accept().await?), local()),
            ListenerKind::Stdin(stdin) => match stdin.accept()? {
                Some(socket) => (Box::new(socket), local()),
                None => return Ok(None),
            },
            ListenerKind::Channel(connections) => match connections.recv().await {
                Some(connection) => connection,
                None => return Ok(None),
            },
        };
        Ok(Some((transport, peer)))
    }
}

/// Whether an address can be listened on once the folders in `made` are there, as far as the file system shows it.
/// Opens nothing.
///
/// # Errors
/// As [`Binder::bind`] for the same reason.
pub fn check(address: &str, made: &[PathBuf]) -> io::Result<()> {
    match address.parse().map_err(invalid)? {
        Address::Unix(path) => local::probe(&path, made),
        _ => Ok(()),
    }
}

fn invalid(error: AddressError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, error)
}
