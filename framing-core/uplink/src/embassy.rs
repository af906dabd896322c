//! TCP by embassy-net, and the clock of embassy-time. Start with [`Tcp`].

use core::net::SocketAddrV4;

use embassy_futures::select::{Either, select};
use embassy_net::tcp::{Error, State, TcpSocket};
use embassy_net::{IpAddress, Stack};
use embassy_time::{Duration, Instant, Timer};
use embedded_io::{Error as _, ErrorKind, ErrorType};
use embedded_io_async::{Read, Write};

use crate::connect::{Clock, Connect, Split};
pub use crate::frames::{Counted, CountedReceive, CountedSend, Frames};

/// Interval of the checks whether there is an address.
const ADDRESS_POLL: Duration = Duration::from_millis(100);
/// Time limit for getting a connection.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// Time limit for a peer to answer, before the connection counts as dead.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// The same for a peer that accepts no data (a window of zero). The probes of its window are up to 60 s apart, and a peer
/// that is alive answers each of them.
const SILENCE_MAX_ZERO_WINDOW: Duration = Duration::from_secs(75);
/// Interval of the TCP keep-alive probes to a silent peer.
const KEEP_ALIVE: Duration = Duration::from_secs(3);

/// The clock of embassy-time.
#[derive(Clone, Copy, Debug, Default)]
pub struct EmbassyClock;

impl Clock for EmbassyClock {
    fn now_us(&self) -> u64 {
        Instant::now().as_micros()
    }

    async fn sleep_until_us(&self, at_us: u64) {
        Timer::at(Instant::from_micros(at_us)).await;
    }
}

/// Waits until the link is up and the stack has an address.
///
/// It polls, since the stack has room for only one waker ([`Stack::wait_config_up`]): two tasks that wait would wake each
/// other for ever, and the processor would never sleep.
pub async fn wait_for_address(stack: Stack<'_>) {
    while !(stack.is_link_up() && stack.is_config_up()) {
        Timer::after(ADDRESS_POLL).await;
    }
}

/// Where a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Server {
    /// At this address.
    Address(SocketAddrV4),
    /// At the first address of this name, which is resolved for each connection, and at this port.
    #[cfg(feature = "dns")]
    Name(&'static str, u16),
}

impl From<SocketAddrV4> for Server {
    fn from(address: SocketAddrV4) -> Self {
        Self::Address(address)
    }
}

/// TCP to one server.
///
/// Several of them may share a stack: each takes one socket of its `StackResources`, DHCP another one, and so do names.
///
/// ```no_run
/// use framing_uplink::embassy::{EmbassyClock, Tcp};
/// use framing_uplink::{Config, Device, Full, Ring, Session, SessionMemory, Stop};
///
/// static RING: Ring<512> = Ring::new(Full::DropOldest);
/// static STOP: Stop = Stop::new();
///
/// // The stack is that of the board, and `seed` a random number.
/// async fn uplink(stack: embassy_net::Stack<'static>, seed: u32) {
///     let mut memory = SessionMemory::<4096>::new();
///     let device = Device::new("boiler-7").expect("a device id");
///     let mut session = Session::new(device, &mut memory, Full::DropOldest, seed);
///     let (mut receive, mut send) = ([0; 128], [0; 1024]);
///     let server = core::net::SocketAddrV4::new([192, 168, 1, 2].into(), 1060);
///     let mut connect = Tcp::new(stack, server, &mut receive, &mut send);
///     session.run(&Config::new(), &RING, &STOP, &EmbassyClock, &mut connect).await;
/// }
/// ```
#[expect(
    missing_debug_implementations,
    reason = "the network stack does not implement it either"
)]
pub struct Tcp<'a> {
    stack: Stack<'a>,
    server: Server,
    frames: Option<&'a Frames>,
    receive: &'a mut [u8],
    send: &'a mut [u8],
}

impl<'a> Tcp<'a> {
    /// Connects to `server`, with these buffers, in bytes. A receive buffer of 128 is enough. A send buffer takes what the
    /// server has not acknowledged yet; a connection of a plain series that fails may lose its content.
    pub fn new(
        stack: Stack<'a>,
        server: impl Into<Server>,
        receive: &'a mut [u8],
        send: &'a mut [u8],
    ) -> Self {
        Self {
            stack,
            server: server.into(),
            frames: None,
            receive,
            send,
        }
    }

    /// Waits for a server that accepts no data while it answers, by the frames of the driver of this stack ([`Counted`]).
    /// Without them, 10 s of an unread send buffer end the connection of a plain series.
    #[must_use]
    pub const fn with_frames(mut self, frames: &'a Frames) -> Self {
        self.frames = Some(frames);
        self
    }
}

impl Server {
    /// Its address now.
    async fn address(self, _stack: Stack<'_>) -> Result<(IpAddress, u16), ErrorKind> {
        match self {
            Self::Address(address) => Ok((IpAddress::Ipv4(*address.ip()), address.port())),
            #[cfg(feature = "dns")]
            Self::Name(name, port) => {
                let query = _stack.dns_query(name, embassy_net::dns::DnsQueryType::A);
                let addresses = query.await.map_err(|_| ErrorKind::AddrNotAvailable)?;
                let first = addresses.first().ok_or(ErrorKind::AddrNotAvailable)?;
                Ok((*first, port))
            }
        }
    }
}

impl Connect for Tcp<'_> {
    type Connection<'c>
        = Connection<'c>
    where
        Self: 'c;

    /// Waits for an address without a time limit, since nothing was tried yet; then connects.
    async fn connect(&mut self) -> Result<Connection<'_>, ErrorKind> {
        let (stack, server) = (self.stack, self.server);
        wait_for_address(stack).await;
        let mut socket = TcpSocket::new(stack, self.receive, self.send);
        socket.set_timeout(Some(SILENCE_MAX));
        socket.set_keep_alive(Some(KEEP_ALIVE));
        let connecting = async {
            let address = server.address(stack).await?;
            let connected = socket.connect(address).await;
            connected.map_err(|error| error.kind())
        };
        let connected = select(connecting, Timer::after(CONNECT_MAX)).await;
        match connected {
            Either::First(Ok(())) => Ok(Connection {
                socket,
                frames: self.frames,
                unacknowledged: 0,
                has_progress: false,
            }),
            Either::First(Err(kind)) => Err(kind),
            Either::Second(()) => Err(ErrorKind::TimedOut),
        }
    }

    async fn close<'c>(connection: &mut Connection<'c>) -> Result<(), ErrorKind>
    where
        Self: 'c,
    {
        connection.flush().await.map_err(|error| error.kind())?;
        let is_peer_closed = connection.socket.state() == State::CloseWait;
        // Closes the sending direction only.
        connection.socket.close();
        let flushed = connection.watched(async |socket| socket.flush().await);
        flushed.await.map_err(|error| error.kind())?;
        match connection.socket.state() {
            State::FinWait2 | State::TimeWait => Ok(()),
            // The peer had closed its direction, and acknowledged all data: the connection is over.
            State::Closed if is_peer_closed => Ok(()),
            _ => Err(ErrorKind::ConnectionReset),
        }
    }

    async fn abort<'c>(connection: &mut Connection<'c>)
    where
        Self: 'c,
    {
        // Dropping a socket does not send a reset.
        connection.socket.abort();
        let _ = connection.socket.flush().await;
    }

    fn has_progress<'c>(connection: &Connection<'c>) -> bool
    where
        Self: 'c,
    {
        connection.has_progress
    }
}

impl Split for Tcp<'_> {
    type Error = Error;

    /// A peer that accepts no data is waited for as long as for one that is slow to probe; the heartbeats of the session
    /// show earlier whether it is alive.
    fn split<'s, 'c>(
        connection: &'s mut Connection<'c>,
    ) -> (impl Read<Error = Error>, impl Write<Error = Error>)
    where
        Self: 'c,
        'c: 's,
    {
        connection.socket.set_timeout(Some(SILENCE_MAX_ZERO_WINDOW));
        connection.socket.split()
    }

    async fn end<'c>(connection: &mut Connection<'c>, is_graceful: bool)
    where
        Self: 'c,
    {
        if is_graceful {
            connection.socket.close();
        } else {
            connection.socket.abort();
        }
        let _ = connection.socket.flush().await;
    }
}

/// A TCP connection. In contrast to that of [`TcpSocket`], its `flush` fails if the data was not acknowledged, and it waits
/// for a peer that accepts no data while that peer answers.
#[expect(
    missing_debug_implementations,
    reason = "the network stack does not implement it either"
)]
pub struct Connection<'a> {
    socket: TcpSocket<'a>,
    frames: Option<&'a Frames>,
    /// Bytes in the send buffer at the last look.
    unacknowledged: usize,
    /// Whether the peer has acknowledged data.
    has_progress: bool,
}

impl<'a> Connection<'a> {
    /// Runs an operation of the socket. Meanwhile, adapts the time limit for silence to the peer's window.
    ///
    /// Operations of embassy-net keep no state in their futures, so they can be started again.
    async fn watched<R>(&mut self, mut operation: impl AsyncFnMut(&mut TcpSocket<'a>) -> R) -> R {
        loop {
            let has_zero_window = |frames: &Frames| frames.had_zero_window(SILENCE_MAX_ZERO_WINDOW);
            let limit = if self.frames.is_some_and(has_zero_window) {
                SILENCE_MAX_ZERO_WINDOW
            } else {
                SILENCE_MAX
            };
            self.socket.set_timeout(Some(limit));
            let result = select(operation(&mut self.socket), Timer::after(KEEP_ALIVE)).await;
            self.look();
            if let Either::First(result) = result {
                return result;
            }
        }
    }

    /// Notes whether the peer has acknowledged data since the last look.
    fn look(&mut self) {
        // A closed socket may have dropped the contents of its buffer.
        if self.socket.state() != State::Closed {
            let queued = self.socket.send_queue();
            self.has_progress |= queued < self.unacknowledged;
            self.unacknowledged = queued;
        }
    }
}

impl ErrorType for Connection<'_> {
    type Error = Error;
}

impl Read for Connection<'_> {
    async fn read(&mut self, bytes: &mut [u8]) -> Result<usize, Error> {
        self.watched(async |socket| socket.read(bytes).await).await
    }
}

impl Write for Connection<'_> {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Error> {
        self.watched(async |socket| socket.write(bytes).await).await
    }

    /// Waits until the peer has acknowledged all data.
    async fn flush(&mut self) -> Result<(), Error> {
        self.watched(async |socket| socket.flush().await).await?;
        // The flush of a socket also succeeds if the socket was closed by a reset, a timeout, or the loss of its address.
        if self.socket.state() == State::Closed || self.socket.send_queue() != 0 {
            return Err(Error::ConnectionReset);
        }
        Ok(())
    }
}
