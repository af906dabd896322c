//! How the clients of an attack reach the daemon: plain, or within TLS. Start with [`Route`].

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use socket2::{Domain, Socket, Type};

use crate::pki::{TlsDevice, secure};

/// Time for which an attacker waits for a reply.
const READ_MAX: Duration = Duration::from_millis(100);
/// Time for which it waits until the daemon has read what it sends.
const WRITE_MAX: Duration = Duration::from_secs(2);
/// Time for a handshake, while the daemon is under attack.
const HANDSHAKE_MAX: Duration = Duration::from_secs(20);

/// How clients connect: `None` for plain connections.
#[derive(Clone, Debug, Default)]
pub struct Route(pub Option<Arc<ClientConfig>>);

/// A connection of a client.
#[derive(Debug)]
pub enum Wire {
    /// Without TLS.
    Plain(TcpStream),
    /// Within TLS.
    Tls(Box<TlsDevice>),
}

impl Route {
    /// Performs the handshake on a connection; `None` if it fails.
    pub fn secure(&self, socket: TcpStream) -> Option<Wire> {
        let Some(config) = &self.0 else {
            return Some(Wire::Plain(socket));
        };
        socket.set_read_timeout(Some(HANDSHAKE_MAX)).ok()?;
        let device = secure(config, socket).ok()?;
        device.sock.set_read_timeout(Some(READ_MAX)).ok()?;
        Some(Wire::Tls(Box::new(device)))
    }
}

impl Wire {
    /// The socket below.
    pub fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(device) => &device.sock,
        }
    }

    /// Ends the sending side, with close_notify within TLS.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn end(&mut self) -> io::Result<()> {
        if let Self::Tls(device) = self {
            device.conn.send_close_notify();
            device.flush()?;
        }
        self.socket().shutdown(Shutdown::Write)
    }
}

impl Read for Wire {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(bytes),
            Self::Tls(device) => device.read(bytes),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Tls(device) => device.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.flush(),
            Self::Tls(device) => device.flush(),
        }
    }
}

/// Connects from this loopback address, so that the daemon sees another device; `None` if the connection is reset while
/// it is established.
pub fn connect_from(from: Ipv4Addr, to: SocketAddr) -> Option<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).ok()?;
    socket.bind(&SocketAddr::from((from, 0)).into()).ok()?;
    socket.connect(&to.into()).ok()?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(READ_MAX)).ok()?;
    stream.set_write_timeout(Some(WRITE_MAX)).ok()?;
    Some(stream)
}
