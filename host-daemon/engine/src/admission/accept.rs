//! Accepts connections and takes each through its stages: [`Accepted`], [`Identified`], admitted. Start with
//! [`Acceptor::serve`].

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::admission::identity::{DeviceBy, DeviceTable};
use crate::connection::context::EngineContext;
use crate::connection::policy::Policies;
use crate::connection::{Connection, LAST_READS, QUIET};
use crate::event::Peer;
use crate::listen::listener::{BACKLOG, Listener};
use crate::listen::transport::Transport;
use crate::origin::Origin;
use crate::peer_log::{Kind, warn_peer};
use crate::permit::Admitted;
use crate::reason::RefusedReason;

/// Delay after a failed accept: the first, and the longest.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1));
/// Time that connections have to close after the last reads, once the engine is stopping.
const DRAIN: Duration = Duration::from_millis(1000);

/// An open listener, and the policies of its connections.
#[derive(Debug)]
pub(crate) struct Bound {
    /// The address as it was configured.
    pub(crate) address: Arc<str>,
    pub(crate) listener: Listener,
    /// A connection gets the policy that is current when it is accepted.
    pub(crate) policies: watch::Receiver<Arc<Policies>>,
    /// Cancelled to close the listener.
    pub(crate) removed: CancellationToken,
}

/// Accepts the connections of all listeners.
#[derive(Debug)]
pub(crate) struct Acceptor {
    pub(crate) device_by: DeviceBy,
    /// Serve only the first connection.
    pub(crate) once: bool,
    /// The devices with configured names.
    pub(crate) devices: watch::Receiver<Arc<DeviceTable>>,
    pub(crate) context: Arc<EngineContext>,
    /// Cancelled to stop accepting.
    open: CancellationToken,
    tasks: TaskTracker,
}

impl Acceptor {
    pub(crate) fn new(
        device_by: DeviceBy,
        once: bool,
        devices: watch::Receiver<Arc<DeviceTable>>,
        context: Arc<EngineContext>,
    ) -> Self {
        Self {
            device_by,
            once,
            devices,
            open: context.stop.child_token(),
            tasks: TaskTracker::new(),
            context,
        }
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
                    ended = accepting.join_next() => if ended.is_none() {
                        break;
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

    async fn accept(self: Arc<Self>, mut bound: Bound) {
        let mut back_off = BACK_OFF.0;
        let removed = bound.removed.clone();
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
                accepted = bound.listener.accept() => accepted,
            };
            match accepted {
                Ok(Some(accepted)) => {
                    back_off = BACK_OFF.0;
                    self.receive(Accepted::new(accepted, &bound));
                }
                Ok(None) => return,
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    // Most likely out of file descriptors. Retry until some are free.
                    warn_peer!(
                        Kind::Accept,
                        bound.listener.name(),
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
        if self.once || !bound.listener.has_queue() {
            return;
        }
        // Peers that are connected already may have sent everything: accept them, for a limited time. Devices that
        // reconnect as soon as their connection closes could otherwise delay the shutdown for minutes.
        let since = Instant::now();
        for _ in 0..BACKLOG {
            if LAST_READS < since.elapsed() {
                return;
            }
            match tokio::time::timeout(QUIET, bound.listener.accept()).await {
                Ok(Ok(Some(accepted))) => {
                    self.receive(Accepted::new(accepted, &bound));
                }
                _ => return,
            }
        }
    }

    /// Takes a connection through its stages. A stage that takes time, such as a handshake, belongs into the task of
    /// the connection, before the device is identified.
    fn receive(&self, accepted: Accepted) {
        let devices = Arc::clone(&self.devices.borrow());
        let identified = accepted.identify(self.device_by, &devices);
        let (connection, peer) = match identified.admit(&self.context) {
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

/// A connection that was accepted. Only its peer is known.
#[derive(Debug)]
struct Accepted {
    transport: Box<dyn Transport>,
    peer: Peer,
    /// The address of the listener as it was configured, and as it is bound.
    listener: (Arc<str>, Arc<str>),
    policies: Arc<Policies>,
    /// Whether the listener is a serial line or standard input.
    is_line: bool,
}

impl Accepted {
    fn new((transport, peer): (Box<dyn Transport>, Peer), bound: &Bound) -> Self {
        Self {
            transport,
            peer,
            listener: (
                Arc::clone(&bound.address),
                Arc::clone(bound.listener.name()),
            ),
            policies: Arc::clone(&bound.policies.borrow()),
            is_line: bound.listener.is_line(),
        }
    }

    /// Identifies the device.
    fn identify(self, device_by: DeviceBy, devices: &DeviceTable) -> Identified {
        let (address, listener) = &self.listener;
        let device = if device_by.is_numbered(&self.peer) {
            let named = devices.find(&self.peer, address, listener);
            named.map_or(DeviceName::Numbered, |name| {
                DeviceName::Known(Arc::clone(name))
            })
        } else {
            let identity = device_by.name(&self.peer, listener, 0);
            let named = devices.find(&self.peer, address, &identity);
            DeviceName::Known(named.map_or(identity, Arc::clone))
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
    Known(Arc<str>),
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
            listener: (_, listener),
            policies,
            is_line,
        } = self.accepted;
        let name = |conn| match &self.device {
            DeviceName::Known(name) => Arc::clone(name),
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
        let policy = Arc::clone(policies.of(&device));
        if policy.reply.is_some() {
            transport.set_low_latency();
        }
        let context = Arc::clone(context);
        // Boxed: as a local variable of two futures, it would be in the task twice.
        let connection = Connection::new(conn, device, transport, policy, context, permit);
        Ok((Box::new(connection), peer))
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
