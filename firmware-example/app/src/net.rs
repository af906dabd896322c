//! The application over embassy-net and embassy-time. Start with [`Tcp`].

use core::cell::Cell;
use core::net::SocketAddrV4;
use core::task::Context;

use embassy_futures::select::{Either, select};
use embassy_net::Stack;
use embassy_net::tcp::TcpSocket;
use embassy_net_driver::{Capabilities, Driver, HardwareAddress, LinkState, RxToken, TxToken};
use embassy_sync::blocking_mutex::CriticalSectionMutex;
use embassy_time::{Duration, Instant, Timer};
use embedded_io::{Error as _, ErrorKind};

use crate::{Clock, Connect};

/// Time limit for getting an address and a connection.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// Time limit for a peer to acknowledge, before the connection counts as dead.
const SILENCE_MAX: Duration = Duration::from_secs(10);
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

/// TCP to one server.
#[expect(
    missing_debug_implementations,
    reason = "the network stack does not implement it either"
)]
pub struct Tcp<'a> {
    stack: Stack<'a>,
    server: SocketAddrV4,
    receive: &'a mut [u8],
    send: &'a mut [u8],
}

impl<'a> Tcp<'a> {
    /// Connects to `server`, with these buffers. A short receive buffer is enough. A connection that fails may lose the
    /// contents of the send buffer.
    pub const fn new(
        stack: Stack<'a>,
        server: SocketAddrV4,
        receive: &'a mut [u8],
        send: &'a mut [u8],
    ) -> Self {
        Self {
            stack,
            server,
            receive,
            send,
        }
    }
}

impl Connect for Tcp<'_> {
    type Connection<'c>
        = TcpSocket<'c>
    where
        Self: 'c;

    async fn connect(&mut self) -> Result<TcpSocket<'_>, ErrorKind> {
        let mut socket = TcpSocket::new(self.stack, self.receive, self.send);
        socket.set_timeout(Some(SILENCE_MAX));
        socket.set_keep_alive(Some(KEEP_ALIVE));
        let connecting = async {
            self.stack.wait_config_up().await;
            socket.connect(self.server).await
        };
        match select(connecting, Timer::after(CONNECT_MAX)).await {
            Either::First(Ok(())) => Ok(socket),
            Either::First(Err(error)) => Err(error.kind()),
            Either::Second(()) => Err(ErrorKind::TimedOut),
        }
    }

    async fn close<'c>(socket: &mut TcpSocket<'c>) -> Result<(), ErrorKind>
    where
        Self: 'c,
    {
        // Closes the sending direction only; `flush` waits until the peer has acknowledged the FIN too.
        socket.close();
        socket.flush().await.map_err(|error| error.kind())
    }

    async fn abort<'c>(socket: &mut TcpSocket<'c>)
    where
        Self: 'c,
    {
        // Dropping a socket does not send a reset.
        socket.abort();
        let _ = socket.flush().await;
    }
}

/// Counts the frames that a driver has received and sent.
#[derive(Debug)]
pub struct Frames {
    received: CriticalSectionMutex<Cell<u32>>,
    sent: CriticalSectionMutex<Cell<u32>>,
}

impl Frames {
    /// Starts at zero.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            received: CriticalSectionMutex::new(Cell::new(0)),
            sent: CriticalSectionMutex::new(Cell::new(0)),
        }
    }

    /// Frames received.
    pub fn received(&self) -> u32 {
        self.received.lock(Cell::get)
    }

    /// Frames sent.
    pub fn sent(&self) -> u32 {
        self.sent.lock(Cell::get)
    }
}

impl Default for Frames {
    fn default() -> Self {
        Self::new()
    }
}

/// A driver that counts its frames.
#[derive(Debug)]
pub struct Counted<'a, D> {
    driver: D,
    frames: &'a Frames,
}

impl<'a, D: Driver> Counted<'a, D> {
    /// Counts the frames of this driver.
    pub const fn new(driver: D, frames: &'a Frames) -> Self {
        Self { driver, frames }
    }
}

impl<D: Driver> Driver for Counted<'_, D> {
    type RxToken<'t>
        = CountedToken<'t, D::RxToken<'t>>
    where
        Self: 't;
    type TxToken<'t>
        = CountedToken<'t, D::TxToken<'t>>
    where
        Self: 't;

    fn receive(&mut self, cx: &mut Context<'_>) -> Option<(Self::RxToken<'_>, Self::TxToken<'_>)> {
        let frames = self.frames;
        let (receive, send) = self.driver.receive(cx)?;
        Some((
            CountedToken(receive, &frames.received),
            CountedToken(send, &frames.sent),
        ))
    }

    fn transmit(&mut self, cx: &mut Context<'_>) -> Option<Self::TxToken<'_>> {
        let frames = self.frames;
        Some(CountedToken(self.driver.transmit(cx)?, &frames.sent))
    }

    fn link_state(&mut self, cx: &mut Context<'_>) -> LinkState {
        self.driver.link_state(cx)
    }

    fn capabilities(&self) -> Capabilities {
        self.driver.capabilities()
    }

    fn hardware_address(&self) -> HardwareAddress {
        self.driver.hardware_address()
    }
}

/// A frame that is counted when it is used.
#[derive(Debug)]
pub struct CountedToken<'a, T>(T, &'a CriticalSectionMutex<Cell<u32>>);

impl<T: RxToken> RxToken for CountedToken<'_, T> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, f: F) -> R {
        count(self.1);
        self.0.consume(f)
    }
}

impl<T: TxToken> TxToken for CountedToken<'_, T> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        count(self.1);
        self.0.consume(len, f)
    }
}

fn count(counter: &CriticalSectionMutex<Cell<u32>>) {
    counter.lock(|counter| counter.set(counter.get().wrapping_add(1)));
}
