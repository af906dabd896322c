//! Accepts connections and takes each through its stages: [`Accepted`], [`Identified`], admitted. Start with
//! [`Acceptor::serve`].

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, warn};

use crate::admission::bound::{Bound, ListenerSettings};
use crate::admission::identity::DeviceBy;
use crate::admission::opening::{Openings, open};
use crate::certificate::PeerCertificate;
use crate::connection::context::EngineContext;
use crate::connection::{Connection, LAST_READS, QUIET};
use crate::error::panic_message;
use crate::event::Peer;
use crate::listen::listener::{BACKLOG, Listener};
use crate::listen::transport::Transport;
use crate::origin::Origin;
use crate::peer_log::{self, Kind, warn_peer};
use crate::permit::Admitted;
use crate::reason::RefusedReason;

/// Delay after a failed accept: the first, and the longest.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1));
/// Time that connections have to close after the last reads, once the engine is stopping.
const DRAIN: Duration = Duration::from_millis(1000);
/// Longest time for the connections of an engine to close, once it is stopping. Sinks end after that.
pub const STOP_MAX: Duration = LAST_READS.saturating_add(DRAIN).saturating_add(QUIET);

/// Accepts the connections of all listeners.
#[derive(Debug)]
pub(crate) struct Acceptor {
    pub(crate) device_by: DeviceBy,
    /// Serve only the first connection.
    pub(crate) once: bool,
    pub(crate) context: Arc<EngineContext>,
    pub(super) openings: Arc<Openings>,
    /// Cancelled to stop accepting.
    open: CancellationToken,
    tasks: TaskTracker,
}

impl Acceptor {
    pub(crate) fn new(
        device_by: DeviceBy,
        once: bool,
        context: Arc<EngineContext>,
        openings: Arc<Openings>,
    ) -> Self {
        Self {
            device_by,
            once,
            openings,
            open: context.stop.child_token(),
            tasks: TaskTracker::new(),
            context,
        }
    }

    /// Returns the tasks of the connections.
    pub(crate) const fn connections(&self) -> &TaskTracker {
        &self.tasks
    }

    /// Serves all listeners that arrive through `added`. Returns when [`EngineContext::stop`] is cancelled, or when no
    /// listener and no connection is left.
    pub(crate) async fn serve(self, mut added: mpsc::UnboundedReceiver<Bound>) {
        let acceptor = Arc::new(self);
        let served = async {
            let mut accepting = JoinSet::new();
            loop {
                tokio::select! {
                    // `added` goes first: a listener that was added before the last one was removed keeps the engine
                    // running.
                    biased;
                    Some(bound) = added.recv() => {
                        accepting.spawn(Arc::clone(&acceptor).accept(bound));
                    }
                    ended = accepting.join_next() => match ended {
                        None => break,
                        Some(Err(error)) => error!("a listener failed and is closed: {error}"),
                        Some(Ok(())) => {}
                    },
                }
            }
            added.close();
            acceptor.tasks.close();
            acceptor.tasks.wait().await;
        };
        let stopped = async {
            acceptor.context.stop.cancelled().await;
            acceptor.context.connections.stop();
            tokio::time::sleep(LAST_READS + DRAIN).await;
        };
        tokio::select! {
            () = served => {}
            () = stopped => {
                let connections = acceptor.tasks.len();
                warn!(connections, "connections did not close in time; their pending messages are lost");
            }
        }
    }

    /// Accepts the connections of a listener until it must be closed, then closes it.
    async fn accept(self: Arc<Self>, bound: Bound) {
        let Bound {
            address,
            listener,
            settings,
            removed,
            after,
        } = bound;
        for closing in after {
            closing.wait().await;
        }
        let Some((listener, open)) = listener.take() else {
            return;
        };
        let mut accepting = Accepting {
            address,
            listener,
            settings,
        };
        self.accept_all(&mut accepting, &removed).await;
        if self.once {
            return;
        }
        let is_line = accepting.listener.is_line();
        if is_line && removed.is_cancelled() {
            accepting.listener.close_line();
            // The line can be opened with other settings, while its last bytes wait for the sinks.
            drop(open);
            self.accept_rest(&mut accepting).await;
        } else if is_line {
            let rest = self.accept_rest(&mut accepting);
            let _ = tokio::time::timeout(LAST_READS, rest).await;
        } else if !accepting.listener.is_passed() || !self.context.stop.is_cancelled() {
            self.accept_queue(&mut accepting).await;
        }
    }

    /// Accepts the connections of the series that a line has left.
    async fn accept_rest(self: &Arc<Self>, accepting: &mut Accepting) {
        while let Some(accepted) = accepting.listener.accept_rest().await {
            self.receive(Accepted::new(accepted, accepting));
        }
    }

    /// Accepts the peers that are connected already: they may have sent everything. Newcomers are refused as soon as the
    /// listener is closed, which they notice, so it is closed as soon as its queue is empty. Peers of a socket that
    /// systemd passed wait for the next daemon instead. The time is limited: devices that reconnect as soon as their
    /// connection closes could otherwise delay the shutdown for minutes.
    async fn accept_queue(self: &Arc<Self>, accepting: &mut Accepting) {
        if !accepting.listener.has_queue() {
            return;
        }
        let since = Instant::now();
        // The runtime may not have noticed the queue yet.
        let mut wait = QUIET;
        for _ in 0..BACKLOG {
            if LAST_READS < since.elapsed() {
                return;
            }
            match tokio::time::timeout(wait, accepting.listener.accept()).await {
                Ok(Ok(Some(accepted))) => {
                    self.receive(Accepted::new(accepted, accepting));
                    wait = Duration::ZERO;
                }
                _ => return,
            }
        }
    }

    async fn accept_all(self: &Arc<Self>, accepting: &mut Accepting, removed: &CancellationToken) {
        let mut back_off = BACK_OFF.0;
        let until_closed = async {
            tokio::select! {
                () = self.open.cancelled() => {}
                () = removed.cancelled() => {}
            }
        };
        tokio::pin!(until_closed);
        loop {
            let accepted = tokio::select! {
                biased;
                () = &mut until_closed => break,
                accepted = accepting.listener.accept() => accepted,
            };
            match accepted {
                Ok(Some(accepted)) => {
                    back_off = BACK_OFF.0;
                    self.receive(Accepted::new(accepted, accepting));
                }
                Ok(None) => return,
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    // Most likely out of file descriptors. Retry until some are free.
                    warn_peer!(
                        Kind::Accept,
                        accepting.listener.name(),
                        "cannot accept connections, retrying in {back_off:?}: {error}"
                    );
                    if tokio::time::timeout(back_off, &mut until_closed)
                        .await
                        .is_ok()
                    {
                        break;
                    }
                    back_off = (back_off * 2).min(BACK_OFF.1);
                }
            }
        }
    }

    /// Takes a connection through its stages. A panic, such as one of a transport of the embedding program, closes the
    /// connection; the listener continues.
    fn receive(self: &Arc<Self>, accepted: Accepted) {
        if accepted.settings.has_opening() {
            self.tasks.spawn(open(Arc::clone(self), accepted));
            return;
        }
        let peer = accepted.peer.clone();
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.take(accepted))) {
            let message = panic_message(&*panic);
            error!(%peer, "a connection was closed, because a panic occurred: {message}");
        }
    }

    /// Takes a connection, whose handshake is done, through its stages.
    pub(super) fn take(&self, accepted: Accepted) {
        let identified = accepted.identify(self.device_by);
        let listener = Arc::clone(&identified.accepted.listener.1);
        let (mut connection, peer) = match identified.admit(&self.context) {
            Ok(admitted) => admitted,
            Err(refused) => return self.refuse(refused),
        };
        if self.once {
            self.open.cancel();
            if connection.number() != 1 {
                return;
            }
        }
        self.context.counters.connection();
        peer_log::connections::opened(connection.number(), connection.device(), &peer, &listener);
        match connection.opened(peer) {
            Ok(()) => drop(self.tasks.spawn(connection.run())),
            Err(event) => {
                let context = Arc::clone(&self.context);
                self.tasks.spawn(async move {
                    context.fanout.send(event).await;
                    connection.run().await;
                });
            }
        }
    }

    /// Counts and logs a refused connection, then closes it.
    fn refuse(&self, connection: RefusedConnection) {
        let RefusedConnection { reason, peer, .. } = &connection;
        let refused = self.context.counters.refused(*reason);
        let name = peer.to_string();
        warn_peer!(Kind::Refused, &name, %peer, refused, "refused: {reason}");
    }
}

/// A listener that accepts connections.
#[derive(Debug)]
struct Accepting {
    address: Arc<str>,
    listener: Listener,
    settings: watch::Receiver<Arc<ListenerSettings>>,
}

/// A connection that was accepted. Only its peer is known.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) transport: Box<dyn Transport>,
    pub(super) peer: Peer,
    /// The certificate of the peer, after the handshake.
    pub(super) certificate: Option<Arc<PeerCertificate>>,
    /// The address of the listener as it was configured, and as it is bound.
    listener: (Arc<str>, Arc<str>),
    pub(super) settings: Arc<ListenerSettings>,
    /// Whether the listener is a serial line or standard input.
    is_line: bool,
}

impl Accepted {
    fn new((transport, peer): (Box<dyn Transport>, Peer), accepting: &Accepting) -> Self {
        let Accepting {
            address,
            listener,
            settings,
        } = accepting;
        Self {
            transport,
            peer,
            certificate: None,
            listener: (Arc::clone(address), Arc::clone(listener.name())),
            settings: Arc::clone(&settings.borrow()),
            is_line: listener.is_line(),
        }
    }

    /// Identifies the device.
    fn identify(self, device_by: DeviceBy) -> Identified {
        let (address, listener) = &self.listener;
        let devices = &self.settings.devices;
        let find = |identity: &str| {
            let name = devices.find(&self.peer, address, identity)?;
            Some(DeviceName::OfTable(Arc::clone(name)))
        };
        let device = if let Some(certificate) = &self.certificate {
            let name = &certificate.name;
            find(name).unwrap_or_else(|| DeviceName::Identity(Arc::clone(name)))
        } else if device_by.is_numbered(&self.peer) {
            find(listener).unwrap_or(DeviceName::Numbered)
        } else {
            let identity = device_by.name(&self.peer, listener, 0);
            find(&identity).unwrap_or(DeviceName::Identity(identity))
        };
        Identified {
            accepted: self,
            device_by,
            device,
        }
    }
}

/// A connection whose device is identified.
#[derive(Debug)]
struct Identified {
    accepted: Accepted,
    device_by: DeviceBy,
    device: DeviceName,
}

/// The name of a device, before the connection has a number.
#[derive(Debug)]
enum DeviceName {
    /// The table of devices gives the name.
    OfTable(Arc<str>),
    Identity(Arc<str>),
    /// Each connection is its own device, named by the number of the connection.
    Numbered,
}

impl Identified {
    /// Takes a permit and selects the policy of the device.
    fn admit(
        self,
        context: &Arc<EngineContext>,
    ) -> Result<(Box<Connection>, Peer), RefusedConnection> {
        let Accepted {
            transport,
            peer,
            certificate,
            listener: (_, listener),
            settings,
            is_line,
        } = self.accepted;
        let name = |conn| match &self.device {
            DeviceName::OfTable(name) | DeviceName::Identity(name) => Arc::clone(name),
            DeviceName::Numbered => self.device_by.name(&peer, &listener, conn),
        };
        let origin = (!is_line).then(|| Origin::of_peer(&peer));
        let Admitted {
            conn,
            device,
            permit,
        } = match context.connections.admit(name, origin) {
            Ok(admitted) => admitted,
            Err(reason) => {
                return Err(RefusedConnection {
                    reason,
                    peer,
                    _transport: transport,
                });
            }
        };
        // An identity may be equal to the name of another device.
        let policy = Arc::clone(match &self.device {
            DeviceName::OfTable(name) => settings.policies.of(name),
            DeviceName::Identity(_) | DeviceName::Numbered => settings.policies.default_policy(),
        });
        if policy.reply.is_some() {
            transport.set_low_latency();
        }
        let context = Arc::clone(context);
        // Boxed: as a local variable of two futures, it would be in the task twice.
        let connection = Connection::new(conn, device, transport, policy, context, permit);
        Ok((Box::new(connection.with_certificate(certificate)), peer))
    }
}

/// A connection without a permit. Dropping it closes the connection.
#[derive(Debug)]
struct RefusedConnection {
    reason: RefusedReason,
    peer: Peer,
    _transport: Box<dyn Transport>,
}

/// Whether an accept failed because of one connection, rather than the listener.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    )
}
