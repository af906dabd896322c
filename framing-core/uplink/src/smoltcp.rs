//! TCP by smoltcp, in a loop that polls its interface, without an executor. Start with [`SharedStack`].

use core::cell::{Cell, RefCell};
use core::future::poll_fn;
use core::net::SocketAddrV4;
use core::task::{Context, Poll};

use ::smoltcp::iface::{Interface, PollResult, SocketHandle, SocketSet};
use ::smoltcp::phy::Device;
use ::smoltcp::socket::AnySocket;
use ::smoltcp::socket::tcp::{RecvError, Socket, State};
use ::smoltcp::time::{Duration, Instant};
use ::smoltcp::wire::IpAddress;
use embassy_futures::select::{Either, select};
use embedded_io_async::{ErrorKind, ErrorType, Read, Write};

use crate::connect::{Clock, Connect, Split};

/// Time limit for getting a connection, in milliseconds.
const CONNECT_MAX_MS: u32 = 10_000;
/// Time limit for a peer to answer, before the connection counts as dead.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// The same in a session, which finds a dead peer by its heartbeats, and waits for one that accepts no data.
const SILENCE_MAX_SESSION: Duration = Duration::from_secs(75);
/// Interval of the TCP keep-alive probes to a silent peer.
const KEEP_ALIVE: Duration = Duration::from_secs(3);
/// The local ports: the dynamic ones.
const FIRST_PORT: u16 = 49_152;

/// The interface and the sockets of a board, which its loop polls and its uplinks use. It is their [`Clock`], too: the time is that
/// of the last [`poll`](Self::poll).
///
/// ```no_run
/// use std::pin::pin;
///
/// use framing_uplink::smoltcp::{SharedStack, SmolTcp};
/// use framing_uplink::{Config, Device, Full, Ring, Session, SessionMemory, Stop, blocking};
/// use smoltcp::iface::{Interface, SocketSet};
/// use smoltcp::socket::tcp::{Socket, SocketBuffer};
/// use smoltcp::time::Instant;
///
/// static RING: Ring<512> = Ring::new(Full::DropOldest);
/// static STOP: Stop = Stop::new();
///
/// // The interface has an address, and a random seed; `now` is the timer of the board.
/// fn uplink(mut device: impl smoltcp::phy::Device, mut interface: Interface, now: fn() -> Instant, seed: u32) {
///     let (mut receive, mut send, mut places) = ([0; 128], [0; 1024], [const { smoltcp::iface::SocketStorage::EMPTY }; 1]);
///     let mut sockets = SocketSet::new(&mut places[..]);
///     let socket = Socket::new(SocketBuffer::new(&mut receive[..]), SocketBuffer::new(&mut send[..]));
///     let handle = sockets.add(socket);
///     let stack = SharedStack::new(&mut interface, &mut sockets);
///
///     let mut memory = SessionMemory::<4096>::new();
///     let name = Device::new("boiler-7").expect("a device id");
///     let mut session = Session::new(name, &mut memory, Full::DropOldest, seed);
///     let server = core::net::SocketAddrV4::new([192, 168, 1, 2].into(), 1060);
///     let (config, mut connect) = (Config::new(), SmolTcp::new(&stack, handle, server, seed));
///     let mut running = pin!(session.run(&config, &RING, &STOP, &stack, &mut connect));
///     stack.poll(now(), &mut device);
///     while blocking::poll_once(running.as_mut()).is_none() {
///         stack.poll(now(), &mut device);
///         // Samples, and other work that does not wait.
///     }
/// }
/// ```
#[expect(
    missing_debug_implementations,
    reason = "the interface does not implement it either"
)]
pub struct SharedStack<'a, 's> {
    parts: RefCell<(&'a mut Interface, &'a mut SocketSet<'s>)>,
    now_us: Cell<u64>,
}

impl<'a, 's> SharedStack<'a, 's> {
    /// Shares these. The time is 0 until the first [`poll`](Self::poll): poll it before an uplink.
    pub fn new(interface: &'a mut Interface, sockets: &'a mut SocketSet<'s>) -> Self {
        Self {
            parts: RefCell::new((interface, sockets)),
            now_us: Cell::new(0),
        }
    }

    /// Receives and sends what the device can at once. Call it often, in turn with the uplink. The time must not go back.
    pub fn poll(&self, now: Instant, device: &mut (impl Device + ?Sized)) -> PollResult {
        let now_us = u64::try_from(now.total_micros()).unwrap_or(0);
        self.now_us.set(now_us.max(self.now_us.get()));
        self.with(|interface, sockets| interface.poll(now, device, sockets))
            .unwrap_or(PollResult::None)
    }

    /// Uses the interface and the sockets, such as one of DHCP. `None` within another use of them.
    pub fn with<R>(&self, f: impl FnOnce(&mut Interface, &mut SocketSet<'s>) -> R) -> Option<R> {
        let mut parts = self.parts.try_borrow_mut().ok()?;
        let (interface, sockets) = &mut *parts;
        Some(f(interface, sockets))
    }

    /// Uses one socket of TCP. `None` if there is none of this handle.
    fn socket<R>(
        &self,
        handle: SocketHandle,
        f: impl FnOnce(&mut Interface, &mut Socket<'s>) -> R,
    ) -> Option<R> {
        self.with(|interface, sockets| {
            // `SocketSet::get_mut` panics if there is none.
            let (_, socket) = sockets.iter_mut().find(|(it, _)| *it == handle)?;
            Some(f(interface, Socket::downcast_mut(socket)?))
        })
        .flatten()
    }
}

impl Clock for SharedStack<'_, '_> {
    fn now_us(&self) -> u64 {
        self.now_us.get()
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

/// TCP to one server, by one socket of a [`SharedStack`]. Several of them may share a stack, each with a socket of its own.
///
/// A receive buffer of 128 bytes is enough. A send buffer takes what the server has not acknowledged yet; a connection of a plain
/// series that fails may lose its content, and 10 s of an unread send buffer end that connection.
///
/// Its futures ask to be polled again at once: drive them with [`blocking::poll_once`](crate::blocking::poll_once) in the loop that
/// polls the stack, or with [`blocking::run`](crate::blocking::run) and a poll of the stack as `idle`.
#[expect(
    missing_debug_implementations,
    reason = "the interface does not implement it either"
)]
pub struct SmolTcp<'n, 'a, 's> {
    at: At<'n, 'a, 's>,
    server: SocketAddrV4,
    port: u16,
}

impl<'n, 'a, 's> SmolTcp<'n, 'a, 's> {
    /// Connects the socket of TCP at `handle` to `server`. A random `seed` gives the local port of the first connection; the
    /// same one in each run may meet a connection of the last run.
    pub fn new(
        stack: &'n SharedStack<'a, 's>,
        handle: SocketHandle,
        server: SocketAddrV4,
        seed: u32,
    ) -> Self {
        let [.., high, low] = seed.to_be_bytes();
        Self {
            at: At { stack, handle },
            server,
            port: u16::from_be_bytes([high, low]) | FIRST_PORT,
        }
    }
}

impl<'a, 's> Connect for SmolTcp<'_, 'a, 's> {
    type Connection<'c>
        = SmolConnection<'c, 'a, 's>
    where
        Self: 'c;

    /// Waits for an address without a time limit, since nothing was tried yet; then connects.
    async fn connect(&mut self) -> Result<SmolConnection<'_, 'a, 's>, ErrorKind> {
        let stack = self.at.stack;
        poll_fn(|context| {
            let has_address = stack.with(|interface, _| !interface.ip_addrs().is_empty());
            if has_address == Some(true) {
                return Poll::Ready(());
            }
            again(context)
        })
        .await;
        self.port = self.port.checked_add(1).unwrap_or(FIRST_PORT);
        let (server, port) = (self.server, self.port);
        let opened = self.at.with(|interface, socket| {
            socket.abort();
            // The clock limits the time to connect.
            socket.set_timeout(None);
            socket.set_keep_alive(Some(KEEP_ALIVE));
            let address = (IpAddress::Ipv4(*server.ip()), server.port());
            let opened = socket.connect(interface.context(), address, port);
            opened.map_err(|_| ErrorKind::AddrNotAvailable)
        });
        opened.unwrap_or(Err(ErrorKind::NotConnected))?;
        let connection = SmolConnection {
            at: self.at,
            unacknowledged: 0,
            has_progress: false,
        };
        let connected = poll_fn(|context| match self.at.state() {
            State::SynSent | State::SynReceived => again(context),
            State::Closed => Poll::Ready(Err(ErrorKind::ConnectionRefused)),
            _ => Poll::Ready(Ok(())),
        });
        match select(connected, stack.sleep_ms(CONNECT_MAX_MS)).await {
            Either::First(Ok(())) => {
                self.at
                    .with(|_, socket| socket.set_timeout(Some(SILENCE_MAX)));
                Ok(connection)
            }
            Either::First(Err(kind)) => Err(kind),
            Either::Second(()) => Err(ErrorKind::TimedOut),
        }
    }

    async fn close<'c>(connection: &mut SmolConnection<'c, 'a, 's>) -> Result<(), ErrorKind>
    where
        Self: 'c,
    {
        connection.flush().await?;
        let is_peer_closed = connection.at.state() == State::CloseWait;
        // Closes the sending direction only.
        connection.at.with(|_, socket| socket.close());
        connection.at.flushed().await;
        match connection.at.state() {
            State::FinWait2 | State::TimeWait => Ok(()),
            // The peer had closed its direction, and acknowledged all data: the connection is over.
            State::Closed if is_peer_closed => Ok(()),
            _ => Err(ErrorKind::ConnectionReset),
        }
    }

    async fn abort<'c>(connection: &mut SmolConnection<'c, 'a, 's>)
    where
        Self: 'c,
    {
        connection.at.with(|_, socket| socket.abort());
        connection.at.flushed().await;
    }

    fn has_progress<'c>(connection: &SmolConnection<'c, 'a, 's>) -> bool
    where
        Self: 'c,
    {
        connection.has_progress
    }
}

impl<'a, 's> Split for SmolTcp<'_, 'a, 's> {
    type Error = ErrorKind;

    /// A peer that accepts no data is waited for; the heartbeats of the session show whether it is alive.
    fn split<'t, 'c>(
        connection: &'t mut SmolConnection<'c, 'a, 's>,
    ) -> (impl Read<Error = ErrorKind>, impl Write<Error = ErrorKind>)
    where
        Self: 'c,
        'c: 't,
    {
        let at = connection.at;
        at.with(|_, socket| socket.set_timeout(Some(SILENCE_MAX_SESSION)));
        (at, at)
    }

    async fn end<'c>(connection: &mut SmolConnection<'c, 'a, 's>, is_graceful: bool)
    where
        Self: 'c,
    {
        connection.at.with(|_, socket| {
            if is_graceful {
                socket.close();
            } else {
                socket.abort();
            }
        });
        connection.at.flushed().await;
    }
}

/// A TCP connection. Its `flush` waits until the peer has acknowledged all data, and fails if it has not. Dropping it resets the
/// connection, unless its sending direction was closed.
#[expect(
    missing_debug_implementations,
    reason = "the interface does not implement it either"
)]
pub struct SmolConnection<'n, 'a, 's> {
    at: At<'n, 'a, 's>,
    /// Bytes in the send buffer at the last look.
    unacknowledged: usize,
    /// Whether the peer has acknowledged data.
    has_progress: bool,
}

impl SmolConnection<'_, '_, '_> {
    /// Notes whether the peer has acknowledged data since the last look.
    fn look(&mut self) {
        let queued = self.at.with(|_, socket| {
            // A closed socket may have dropped the contents of its buffer.
            (socket.state() != State::Closed).then(|| socket.send_queue())
        });
        if let Some(Some(queued)) = queued {
            self.has_progress |= queued < self.unacknowledged;
            self.unacknowledged = queued;
        }
    }
}

impl Drop for SmolConnection<'_, '_, '_> {
    fn drop(&mut self) {
        let is_sending = |state| {
            matches!(
                state,
                State::SynSent | State::SynReceived | State::Established | State::CloseWait
            )
        };
        self.at.with(|_, socket| {
            if is_sending(socket.state()) {
                socket.abort();
            }
        });
    }
}

impl ErrorType for SmolConnection<'_, '_, '_> {
    type Error = ErrorKind;
}

impl Read for SmolConnection<'_, '_, '_> {
    async fn read(&mut self, bytes: &mut [u8]) -> Result<usize, ErrorKind> {
        poll_fn(|context| {
            self.look();
            self.at.poll_read(context, bytes)
        })
        .await
    }
}

impl Write for SmolConnection<'_, '_, '_> {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, ErrorKind> {
        poll_fn(|context| {
            self.look();
            let written = self.at.poll_write(context, bytes);
            if let Poll::Ready(Ok(len)) = written {
                self.unacknowledged = self.unacknowledged.saturating_add(len);
            }
            written
        })
        .await
    }

    async fn flush(&mut self) -> Result<(), ErrorKind> {
        poll_fn(|context| {
            self.look();
            self.at.poll_flush(context)
        })
        .await;
        self.at.check_flushed()
    }
}

/// One socket of a stack; both directions of a connection in a session.
#[derive(Clone, Copy)]
struct At<'n, 'a, 's> {
    stack: &'n SharedStack<'a, 's>,
    handle: SocketHandle,
}

impl<'s> At<'_, '_, 's> {
    fn with<R>(&self, f: impl FnOnce(&mut Interface, &mut Socket<'s>) -> R) -> Option<R> {
        self.stack.socket(self.handle, f)
    }

    fn state(&self) -> State {
        let state = self.with(|_, socket| socket.state());
        state.unwrap_or(State::Closed)
    }

    fn poll_read(&self, context: &Context<'_>, bytes: &mut [u8]) -> Poll<Result<usize, ErrorKind>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        match self.with(|_, socket| socket.recv_slice(bytes)) {
            Some(Ok(0)) => again(context),
            Some(Ok(len)) => Poll::Ready(Ok(len)),
            Some(Err(RecvError::Finished)) => Poll::Ready(Ok(0)),
            Some(Err(RecvError::InvalidState)) | None => {
                Poll::Ready(Err(ErrorKind::ConnectionReset))
            }
        }
    }

    fn poll_write(&self, context: &Context<'_>, bytes: &[u8]) -> Poll<Result<usize, ErrorKind>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        match self.with(|_, socket| socket.send_slice(bytes)) {
            Some(Ok(0)) => again(context),
            Some(Ok(len)) => Poll::Ready(Ok(len)),
            Some(Err(_)) | None => Poll::Ready(Err(ErrorKind::ConnectionReset)),
        }
    }

    /// Ready if nothing is left to send or to be acknowledged: data, a FIN, or a reset.
    fn poll_flush(&self, context: &Context<'_>) -> Poll<()> {
        let is_pending = self.with(|_, socket| match socket.state() {
            State::Closed => socket.remote_endpoint().is_some(),
            State::FinWait1 | State::Closing | State::LastAck => true,
            _ => socket.send_queue() != 0,
        });
        if is_pending == Some(true) {
            again(context)
        } else {
            Poll::Ready(())
        }
    }

    async fn flushed(&self) {
        poll_fn(|context| self.poll_flush(context)).await;
    }

    /// After a flush: a reset or a timeout ends it, too.
    fn check_flushed(&self) -> Result<(), ErrorKind> {
        let is_done =
            self.with(|_, socket| socket.state() != State::Closed && socket.send_queue() == 0);
        if is_done == Some(true) {
            Ok(())
        } else {
            Err(ErrorKind::ConnectionReset)
        }
    }
}

impl ErrorType for At<'_, '_, '_> {
    type Error = ErrorKind;
}

impl Read for At<'_, '_, '_> {
    async fn read(&mut self, bytes: &mut [u8]) -> Result<usize, ErrorKind> {
        poll_fn(|context| self.poll_read(context, bytes)).await
    }
}

impl Write for At<'_, '_, '_> {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, ErrorKind> {
        poll_fn(|context| self.poll_write(context, bytes)).await
    }

    async fn flush(&mut self) -> Result<(), ErrorKind> {
        self.flushed().await;
        self.check_flushed()
    }
}

/// Not yet: asks to be polled again.
fn again<T>(context: &Context<'_>) -> Poll<T> {
    context.waker().wake_by_ref();
    Poll::Pending
}
