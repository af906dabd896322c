//! Listens, accepts, refuses, stops.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::connection::{Connection, Policy, QUIET, Shared};

/// Connections that the system may keep waiting to be accepted.
const BACKLOG: i32 = 1024;
/// How long to wait after a failed accept, at first and at most.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1));
/// How long connections may take to end once the daemon is stopping.
const DRAIN: Duration = Duration::from_millis(1000);

/// An address that is listened on, and how its connections are treated.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    policy: Arc<Policy>,
}

impl Listener {
    /// Listens on an address, such as `127.0.0.1:1060`. Must be called in a Tokio runtime.
    ///
    /// # Errors
    /// Where the address is none, or is not free.
    pub fn bind(address: &str, policy: Policy) -> io::Result<Self> {
        let mut failure = io::ErrorKind::AddrNotAvailable.into();
        for address in address.to_socket_addrs()? {
            match listen(address) {
                Ok(socket) => {
                    return Ok(Self {
                        socket,
                        policy: Arc::new(policy),
                    });
                }
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// The address, with the port that the system chose.
    ///
    /// # Errors
    /// As the system says.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// How its connections are treated.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }
}

/// How many connections there may be.
#[derive(Clone, Copy, Debug)]
pub struct Admission {
    /// At once; one more is closed at once, and counted.
    pub max_connections: usize,
    /// Only the first is served.
    pub once: bool,
}

/// Serves until [`Shared::stop`] is cancelled, or until the only connection has ended.
pub async fn serve(listeners: Vec<Listener>, admission: Admission, shared: Arc<Shared>) {
    let door = Arc::new(Door {
        places: Arc::new(Semaphore::new(
            admission.max_connections.min(Semaphore::MAX_PERMITS),
        )),
        once: admission.once,
        accepted: AtomicU64::new(0),
        open: shared.stop.child_token(),
        inside: TaskTracker::new(),
        shared,
    });
    let mut accepting = JoinSet::new();
    for listener in listeners {
        accepting.spawn(Arc::clone(&door).accept(listener));
    }
    while accepting.join_next().await.is_some() {}
    door.inside.close();
    let stopping = async {
        door.shared.stop.cancelled().await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        () = door.inside.wait() => {}
        () = stopping => {
            warn!(connections = door.inside.len(), "still busy; what they hold is not written out");
        }
    }
}

/// What connections come in through.
#[derive(Debug)]
struct Door {
    places: Arc<Semaphore>,
    once: bool,
    accepted: AtomicU64,
    /// Cancelled when no more are to be accepted.
    open: CancellationToken,
    inside: TaskTracker,
    shared: Arc<Shared>,
}

impl Door {
    async fn accept(self: Arc<Self>, listener: Listener) {
        let mut back_off = BACK_OFF.0;
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.open.cancelled() => break,
                accepted = listener.socket.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    back_off = BACK_OFF.0;
                    self.admit(stream, peer, &listener.policy);
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    // Out of descriptors, most likely: there will be some again.
                    warn!("cannot accept, trying again in {back_off:?}: {error}");
                    let _ = tokio::time::timeout(back_off, self.open.cancelled()).await;
                    back_off = (back_off * 2).min(BACK_OFF.1);
                }
            }
        }
        if self.once {
            return;
        }
        // Who has connected already, and may have sent everything, is not turned away.
        for _ in 0..BACKLOG {
            match tokio::time::timeout(QUIET, listener.socket.accept()).await {
                Ok(Ok((stream, peer))) => self.admit(stream, peer, &listener.policy),
                Ok(Err(_)) | Err(_) => return,
            }
        }
    }

    fn admit(&self, stream: tokio::net::TcpStream, peer: SocketAddr, policy: &Arc<Policy>) {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            let refused = self.shared.counters.refused();
            if refused.is_power_of_two() {
                warn!(%peer, refused, "refused: all places are taken");
            }
            return;
        };
        let conn = self.accepted.fetch_add(1, Ordering::Relaxed) + 1;
        if self.once {
            self.open.cancel();
            if conn != 1 {
                return;
            }
        }
        self.shared.counters.connection();
        // Boxed: as a local variable of two futures, it would be in the task twice.
        let (policy, shared) = (Arc::clone(policy), Arc::clone(&self.shared));
        let connection = Box::new(Connection::new(conn, peer, stream, policy, shared));
        self.inside.spawn(connection.run(peer, place));
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Whether an accept failed because of the connection, not of the listener.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    )
}
