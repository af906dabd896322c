//! TCP and the clock of an operating system, for [`blocking::run`](crate::blocking::run). Start with [`OsTcp`].
//!
//! It also serves systems for microcontrollers that have Rust's standard library, such as ESP-IDF.

extern crate std;

use core::future::poll_fn;
use core::task::{Context, Poll};
use core::time::Duration;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::string::String;
use std::time::Instant;

use embedded_io_async::{ErrorKind, ErrorType, Read, Write};
use socket2::{SockRef, TcpKeepalive};

use crate::connect::{Clock, Connect, Split};

/// Time limit for each address of a server.
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// Silence after which the peer is probed, and the time between two probes.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// Time limit for the acknowledgement of data, and for the peer to make room for more.
#[cfg(any(target_os = "android", target_os = "linux"))]
const SILENCE_MAX: Duration = Duration::from_secs(75);

/// A clock that starts when it is made.
#[derive(Clone, Copy, Debug)]
pub struct OsClock(Instant);

impl OsClock {
    /// A clock that starts now.
    #[must_use]
    pub fn new() -> Self {
        Self(Instant::now())
    }
}

impl Default for OsClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for OsClock {
    fn now_us(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    async fn sleep_until_us(&self, at_us: u64) {
        poll_fn(|context| {
            if at_us <= self.now_us() {
                return Poll::Ready(());
            }
            again(context)
        })
        .await;
    }
}

/// TCP to one server, by sockets that do not block. Its futures ask to be polled again at once: drive them with
/// [`blocking::run`](crate::blocking::run) in a thread of their own, and let `idle` sleep for some milliseconds.
///
/// Names are resolved for each connection. A peer that is silent is probed, so that a connection that is dead ends: on Linux within
/// 75 s. To connect blocks the thread, for at most 10 s for each address, also after a request to
/// stop. [`SeriesReport::ended`](crate::SeriesReport::ended) means that the system has taken the end of a series; only a receipt
/// shows that it arrived.
///
/// ```no_run
/// use std::thread;
/// use std::time::Duration;
///
/// use framing_uplink::os::{OsClock, OsTcp};
/// use framing_uplink::{Config, Device, Full, Ring, Session, SessionMemory, Stop, blocking};
///
/// static RING: Ring<65_536> = Ring::new(Full::DropOldest);
/// static STOP: Stop = Stop::new();
///
/// let uplink = thread::spawn(|| {
///     let mut memory = SessionMemory::<65_536>::new();
///     let device = Device::new("gateway-7").expect("a device id");
///     let mut session = Session::new(device, &mut memory, Full::DropOldest, 7);
///     let (clock, mut connect) = (OsClock::new(), OsTcp::new("daemon.example:1060"));
///     let config = Config::new();
///     let running = session.run(&config, &RING, &STOP, &clock, &mut connect);
///     blocking::run(running, || thread::sleep(Duration::from_millis(5)))
/// });
/// RING.push(b"temperature=21.5").expect("it is short");
/// RING.close();
/// println!("{:?}", uplink.join());
/// ```
#[derive(Clone, Debug)]
pub struct OsTcp {
    server: String,
}

impl OsTcp {
    /// Connects to a server, such as `daemon.example:1060` or `192.168.1.2:1060`.
    #[must_use]
    pub fn new(server: impl Into<String>) -> Self {
        Self {
            server: server.into(),
        }
    }

    fn open(&self) -> io::Result<TcpStream> {
        let mut failure = io::ErrorKind::AddrNotAvailable.into();
        for address in self.server.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, CONNECT_MAX) {
                Ok(stream) => {
                    stream.set_nonblocking(true)?;
                    stream.set_nodelay(true)?;
                    keep_alive(&stream)?;
                    return Ok(stream);
                }
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }
}

/// Has the system find out that the peer is gone: on Linux within 75 s, elsewhere within the time that the system takes.
fn keep_alive(stream: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(stream);
    let probes = TcpKeepalive::new().with_time(KEEP_ALIVE);
    #[cfg(any(target_os = "android", target_os = "linux"))]
    let probes = {
        socket.set_tcp_user_timeout(Some(SILENCE_MAX))?;
        probes.with_interval(KEEP_ALIVE)
    };
    socket.set_tcp_keepalive(&probes)
}

/// A connection, and each direction of one.
#[derive(Debug)]
pub struct OsConnection<S = TcpStream>(S);

impl Connect for OsTcp {
    type Connection<'a> = OsConnection;

    async fn connect(&mut self) -> Result<OsConnection, ErrorKind> {
        self.open().map(OsConnection).map_err(|error| kind(&error))
    }

    async fn close<'a>(connection: &mut OsConnection) -> Result<(), ErrorKind>
    where
        Self: 'a,
    {
        let closed = connection.0.shutdown(Shutdown::Write);
        closed.map_err(|error| kind(&error))
    }
}

impl Split for OsTcp {
    type Error = ErrorKind;

    fn split<'s, 'a>(
        connection: &'s mut OsConnection,
    ) -> (impl Read<Error = ErrorKind>, impl Write<Error = ErrorKind>)
    where
        Self: 'a,
        'a: 's,
    {
        (OsConnection(&connection.0), OsConnection(&connection.0))
    }

    /// Without grace, closing a socket with unread bytes resets the connection; otherwise the peer sees its end.
    async fn end<'a>(connection: &mut OsConnection, is_graceful: bool)
    where
        Self: 'a,
    {
        let how = if is_graceful {
            Shutdown::Write
        } else {
            Shutdown::Both
        };
        // It fails if the connection is over.
        let _ = connection.0.shutdown(how);
    }
}

/// What a socket is: one of its own, or a shared one.
trait Socket {
    fn socket(&self) -> &TcpStream;
}

impl Socket for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }
}

impl Socket for &TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }
}

impl<S> ErrorType for OsConnection<S> {
    type Error = ErrorKind;
}

impl<S: Socket> Read for OsConnection<S> {
    async fn read(&mut self, bytes: &mut [u8]) -> Result<usize, ErrorKind> {
        poll_fn(|context| poll(context, self.0.socket().read(bytes))).await
    }
}

impl<S: Socket> Write for OsConnection<S> {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, ErrorKind> {
        poll_fn(|context| poll(context, self.0.socket().write(bytes))).await
    }

    async fn flush(&mut self) -> Result<(), ErrorKind> {
        Ok(())
    }
}

fn poll(context: &Context<'_>, done: io::Result<usize>) -> Poll<Result<usize, ErrorKind>> {
    match done {
        Ok(len) => Poll::Ready(Ok(len)),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
            ) =>
        {
            again(context)
        }
        Err(error) => Poll::Ready(Err(kind(&error))),
    }
}

/// Not yet: asks to be polled again.
fn again<T>(context: &Context<'_>) -> Poll<T> {
    context.waker().wake_by_ref();
    Poll::Pending
}

fn kind(error: &io::Error) -> ErrorKind {
    error.kind().into()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests {
    use std::net::TcpListener;
    use std::string::ToString as _;

    use super::*;

    /// What the system does then takes it minutes to show.
    #[test]
    fn a_silent_peer_is_probed() {
        let host = TcpListener::bind("127.0.0.1:0").unwrap();
        let tcp = OsTcp::new(host.local_addr().unwrap().to_string());
        let stream = tcp.open().unwrap();
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().unwrap());
        #[cfg(target_os = "linux")]
        assert_eq!(
            (
                socket.tcp_keepalive_time().unwrap(),
                socket.tcp_keepalive_interval().unwrap(),
                socket.tcp_user_timeout().unwrap(),
            ),
            (KEEP_ALIVE, KEEP_ALIVE, Some(SILENCE_MAX))
        );
    }
}
