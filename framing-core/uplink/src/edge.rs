//! TCP and names by the traits of edge-nal, as on ESP-IDF. Start with [`EdgeTcp`].

use core::net::{SocketAddr, SocketAddrV4};

use edge_nal::{AddrType, Close, Dns, TcpConnect, TcpShutdown, TcpSplit};
use embassy_futures::select::{Either, select};
use embedded_io::Error as _;
use embedded_io_async::{ErrorKind, Read, Write};

use crate::connect::{Clock, Connect, Split};

/// Time limit for getting a connection, with the name of its server, in milliseconds.
const CONNECT_MAX_MS: u32 = 10_000;

/// Where a server is: an address, or an [`EdgeName`].
#[allow(
    async_fn_in_trait,
    reason = "for a single-threaded executor, as in embedded-io-async"
)]
pub trait EdgeServer {
    /// Its address now.
    ///
    /// # Errors
    /// The kind of the failure.
    async fn address(&self) -> Result<SocketAddr, ErrorKind>;
}

impl EdgeServer for SocketAddr {
    async fn address(&self) -> Result<Self, ErrorKind> {
        Ok(*self)
    }
}

impl EdgeServer for SocketAddrV4 {
    async fn address(&self) -> Result<SocketAddr, ErrorKind> {
        Ok(SocketAddr::V4(*self))
    }
}

/// A server by its name, which is resolved for each connection.
#[derive(Clone, Copy, Debug)]
pub struct EdgeName<'a, D> {
    dns: D,
    name: &'a str,
    port: u16,
}

impl<'a, D: Dns> EdgeName<'a, D> {
    /// The first address of `name`, of IPv4 or IPv6, and this port.
    pub const fn new(dns: D, name: &'a str, port: u16) -> Self {
        Self { dns, name, port }
    }
}

impl<D: Dns> EdgeServer for EdgeName<'_, D> {
    /// An error of the resolver is [`AddrNotAvailable`](ErrorKind::AddrNotAvailable).
    async fn address(&self) -> Result<SocketAddr, ErrorKind> {
        let resolving = self.dns.get_host_by_name(self.name, AddrType::Either);
        let address = resolving.await.map_err(|_| ErrorKind::AddrNotAvailable)?;
        Ok(SocketAddr::new(address, self.port))
    }
}

/// TCP to one server, over a network of edge-nal. Name and connection together have 10 s.
///
/// The traits have no keep-alive and no time limit for silence. The heartbeats of a session find a dead connection; a plain
/// series waits as long as the network does. [`SeriesReport::ended`](crate::SeriesReport::ended) means what closing the sending
/// direction means there: a stack of a microcontroller waits for the acknowledgement, and an operating system does not.
///
/// ```no_run
/// use edge_nal::{Dns, TcpConnect};
/// use framing_uplink::edge::{EdgeName, EdgeTcp};
/// use framing_uplink::{Clock, Config, Device, Full, Ring, Session, SessionMemory, Stop};
///
/// static RING: Ring<512> = Ring::new(Full::DropOldest);
/// static STOP: Stop = Stop::new();
///
/// // The network and the clock are those of the board, and `seed` a random number.
/// async fn uplink(network: impl TcpConnect + Dns, clock: impl Clock, seed: u32) {
///     let mut memory = SessionMemory::<4096>::new();
///     let device = Device::new("boiler-7").expect("a device id");
///     let mut session = Session::new(device, &mut memory, Full::DropOldest, seed);
///     let server = EdgeName::new(&network, "daemon.example", 1060);
///     let mut connect = EdgeTcp::new(&network, server, &clock);
///     session.run(&Config::new(), &RING, &STOP, &clock, &mut connect).await;
/// }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct EdgeTcp<N, S, C> {
    network: N,
    server: S,
    clock: C,
}

impl<N: TcpConnect, S: EdgeServer, C: Clock> EdgeTcp<N, S, C> {
    /// Connects to `server`. The clock limits the time for that.
    pub const fn new(network: N, server: S, clock: C) -> Self {
        Self {
            network,
            server,
            clock,
        }
    }
}

impl<N: TcpConnect, S: EdgeServer, C: Clock> Connect for EdgeTcp<N, S, C> {
    type Connection<'a>
        = N::Socket<'a>
    where
        Self: 'a;

    async fn connect(&mut self) -> Result<N::Socket<'_>, ErrorKind> {
        let connecting = async {
            let address = self.server.address().await?;
            let connected = self.network.connect(address).await;
            connected.map_err(|error| error.kind())
        };
        match select(connecting, self.clock.sleep_ms(CONNECT_MAX_MS)).await {
            Either::First(connected) => connected,
            Either::Second(()) => Err(ErrorKind::TimedOut),
        }
    }

    async fn close<'a>(connection: &mut N::Socket<'a>) -> Result<(), ErrorKind>
    where
        Self: 'a,
    {
        connection.flush().await.map_err(|error| error.kind())?;
        let closed = connection.close(Close::Write).await;
        closed.map_err(|error| error.kind())
    }

    async fn abort<'a>(connection: &mut N::Socket<'a>)
    where
        Self: 'a,
    {
        let _ = connection.abort().await;
    }
}

impl<N: TcpConnect, S: EdgeServer, C: Clock> Split for EdgeTcp<N, S, C> {
    type Error = N::Error;

    fn split<'s, 'a>(
        connection: &'s mut N::Socket<'a>,
    ) -> (impl Read<Error = N::Error>, impl Write<Error = N::Error>)
    where
        Self: 'a,
        'a: 's,
    {
        TcpSplit::split(connection)
    }

    async fn end<'a>(connection: &mut N::Socket<'a>, is_graceful: bool)
    where
        Self: 'a,
    {
        // It fails if the connection is over.
        let _ = if is_graceful {
            connection.close(Close::Write).await
        } else {
            connection.abort().await
        };
    }
}
