//! Sources of connections: TCP, Unix sockets, serial lines and standard input. Start with [`Binder`].

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::sockopt::IpBindAddressNoPort;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc;

use crate::event::Peer;
use crate::listen::address::{Address, AddressError};
use crate::listen::local::{SocketFile, Stdin};
use crate::listen::resolve::resolve;
use crate::listen::serial::Serial;
use crate::listen::socket_activation::{Passed, SocketUse};
use crate::listen::transport::Transport;
use crate::listen::{local, serial, socket_activation};

/// Length of the kernel's queue of connections to be accepted: as many as a busy daemon accepts in a second or two.
/// `net.core.somaxconn` may reduce it.
pub(crate) const BACKLOG: i32 = 4096;

/// TCP keepalive: the interval between probes, and the number of unanswered probes after which the connection fails.
const PROBES: (Duration, u32) = (Duration::from_secs(10), 3);

/// Socket options of all TCP listeners.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sockets {
    /// Silence after which TCP keepalive probes a peer; `None` for no keepalive.
    pub keepalive: Option<Duration>,
    /// Size of the kernel's receive buffer, in bytes; `None` to let the kernel choose.
    pub receive_buffer: Option<u32>,
}

/// An open source of connections.
#[derive(Debug)]
pub struct Listener {
    socket: ListenerKind,
    name: Arc<str>,
    /// Marks the socket as in use, if systemd passed it.
    _use: Option<SocketUse>,
}

#[derive(Debug)]
enum ListenerKind {
    Tcp(TcpListener),
    Unix {
        socket: UnixListener,
        /// Removed when dropped; `None` if the socket was passed by systemd.
        _file: Option<SocketFile>,
    },
    Serial(Box<Serial>),
    Stdin(Stdin),
    Channel(mpsc::Receiver<(Box<dyn Transport>, Peer)>),
}

/// Opens listeners, all with the same socket options.
///
/// # Examples
/// ```
/// use blocksd_engine::listen::listener::{Binder, Sockets};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let mut listeners = Binder::new(Sockets::default()).bind("127.0.0.1:0")?;
/// let address = listeners[0].name().to_string();
/// let _device = tokio::net::TcpStream::connect(address).await?;
/// let accepted = listeners[0].accept().await?;
/// assert!(accepted.is_some());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Binder {
    sockets: Sockets,
    passed: Passed,
}

impl Binder {
    /// Creates a binder with these socket options.
    #[must_use]
    pub fn new(sockets: Sockets) -> Self {
        Self {
            sockets,
            passed: Passed::default(),
        }
    }

    /// Listens on an [`Address`]. Returns several listeners if systemd passed several sockets. Must be called within a
    /// Tokio runtime.
    ///
    /// Sockets that systemd passed stay open when their listeners are closed, and can be listened on again.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] if the address can never work. Any other kind if it is not available now.
    pub fn bind(&mut self, address: &str) -> io::Result<Vec<Listener>> {
        self.bind_replacing(address, &[])
    }

    /// As [`bind`](Self::bind), while the listeners at the addresses in `released` are about to be closed: the sockets
    /// of theirs that systemd passed can be listened on again.
    pub(crate) fn bind_replacing(
        &mut self,
        text: &str,
        released: &[String],
    ) -> io::Result<Vec<Listener>> {
        let address: Address = text.parse().map_err(invalid)?;
        let listener = |(socket, name): (ListenerKind, String)| Listener {
            socket,
            name: name.into(),
            _use: None,
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
                serial::probe(&line.path)?;
                let name = format!("serial:{}", line.path);
                (ListenerKind::Serial(Box::new(Serial::new(line))), name)
            }
            Address::Stdin => (ListenerKind::Stdin(Stdin::new()?), "-".to_owned()),
            Address::Systemd(name) => {
                let (sockets, user) = self.passed.take(name.as_deref(), text, released)?;
                let opened = sockets.into_iter().map(|socket| match socket {
                    socket_activation::Socket::Tcp(socket) => self.passed_tcp(socket),
                    socket_activation::Socket::Unix(socket) => {
                        let (socket, name) = local::passed(socket)?;
                        let _file = None;
                        Ok((ListenerKind::Unix { socket, _file }, name))
                    }
                });
                let listener = |opened| Listener {
                    _use: Some(Arc::clone(&user)),
                    ..listener(opened)
                };
                return opened.map(|opened| opened.map(listener)).collect();
            }
        };
        Ok(vec![listener(opened)])
    }

    /// Listens on the first free address of a host name.
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
            // Do not depend on the default of the system: `[::]` accepts IPv6 and IPv4.
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

    /// Sets options that accepted connections inherit, so that they need not be set for each.
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
    /// Creates a listener that takes connections from a channel instead of a socket, until all senders are dropped.
    /// `name` stands for its address.
    #[must_use]
    pub fn from_channel(
        name: impl Into<Arc<str>>,
        connections: mpsc::Receiver<(Box<dyn Transport>, Peer)>,
    ) -> Self {
        // A simulation replaces the clock, and the origin of all moments must be before its start.
        crate::moment::origin();
        Self {
            socket: ListenerKind::Channel(connections),
            name: name.into(),
            _use: None,
        }
    }

    /// Returns the bound address, with the port that the system chose.
    #[must_use]
    pub const fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Whether the kernel may hold connections that were not accepted yet.
    #[must_use]
    pub(crate) const fn has_queue(&self) -> bool {
        matches!(
            self.socket,
            ListenerKind::Tcp(_) | ListenerKind::Unix { .. }
        )
    }

    /// Whether the listener is a serial line or standard input, with one connection at a time.
    #[must_use]
    pub(crate) const fn is_line(&self) -> bool {
        matches!(
            self.socket,
            ListenerKind::Serial(_) | ListenerKind::Stdin(_)
        )
    }

    /// Whether systemd passed the socket, and keeps it open.
    #[must_use]
    pub(crate) const fn is_passed(&self) -> bool {
        self._use.is_some()
    }

    /// Closes a serial line. Its connection reads what has arrived, then the end of the stream.
    pub(crate) fn close_line(&mut self) {
        if let ListenerKind::Serial(serial) = &mut self.socket {
            serial.close();
        }
    }

    /// Waits until the connection of a line has closed. Returns a connection if it has left bytes: the beginning of
    /// another series.
    pub(crate) async fn accept_rest(&mut self) -> Option<(Box<dyn Transport>, Peer)> {
        let transport: Box<dyn Transport> = match &mut self.socket {
            ListenerKind::Serial(serial) => Box::new(serial.accept_rest().await?),
            ListenerKind::Stdin(stdin) => Box::new(stdin.accept_rest().await?),
            _ => return None,
        };
        Some((transport, Peer::Local(Arc::clone(&self.name))))
    }

    /// Accepts the next connection. Returns `None` if no more can come.
    ///
    /// Cancel-safe: if the future is dropped, no connection is lost.
    ///
    /// # Errors
    /// The error of the operating system. The listener can be used again.
    pub async fn accept(&mut self) -> io::Result<Option<(Box<dyn Transport>, Peer)>> {
        let local = || Peer::Local(Arc::clone(&self.name));
        let (transport, peer): (Box<dyn Transport>, Peer) = match &mut self.socket {
            ListenerKind::Tcp(socket) => {
                let (stream, peer) = socket.accept().await?;
                (Box::new(stream), Peer::Network(peer))
            }
            ListenerKind::Unix { socket, .. } => (Box::new(socket.accept().await?.0), local()),
            ListenerKind::Serial(serial) => (Box::new(serial.accept().await), local()),
            ListenerKind::Stdin(stdin) => match stdin.accept().await? {
                Some(transport) => (Box::new(transport), local()),
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

/// Checks whether an address can be listened on once the folders in `made` exist, as far as the file system and the
/// addresses of this machine show. Takes no port.
///
/// # Errors
/// See [`Binder::bind`].
pub fn check(address: &str, made: &[PathBuf]) -> io::Result<()> {
    match address.parse().map_err(invalid)? {
        Address::Unix(path) => local::probe(&path, made),
        Address::Serial(line) => serial::check(&line.path),
        Address::Tcp(address) => check_network(&address),
        _ => Ok(()),
    }
}

/// Checks whether one of the addresses of `HOST:PORT` belongs to this machine, and whether this process may listen on its
/// port. Takes no port of these addresses.
///
/// # Errors
/// See [`Binder::bind`].
pub fn check_network(address: &str) -> io::Result<()> {
    let mut failure = io::ErrorKind::AddrNotAvailable.into();
    for address in resolve(address)? {
        match check_permission(address).and_then(|()| check_presence(address)) {
            Ok(()) => return Ok(()),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// Checks whether this process may listen on a port. Asks the kernel with a socket that is bound to a free loopback port
/// already: the kernel checks the permission first, and then refuses to bind the socket twice.
fn check_permission(address: SocketAddr) -> io::Result<()> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    let loopback = match address {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::LOCALHOST, 0)),
    };
    if address.port() == 0 || socket.bind(&loopback.into()).is_err() {
        // The system chooses a permitted port, or the kernel cannot be asked.
        return Ok(());
    }
    match socket.bind(&address.into()) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(error),
        _ => Ok(()),
    }
}

/// Checks whether an address belongs to this machine.
fn check_presence(mut address: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    // The kernel assigns a port only when such a socket connects or listens.
    nix::sys::socket::setsockopt(&socket, IpBindAddressNoPort, &true)?;
    address.set_port(0);
    socket.bind(&address.into())
}

fn invalid(error: AddressError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, error)
}
