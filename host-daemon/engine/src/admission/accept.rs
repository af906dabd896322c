//! Accepts connections and takes each through its stages. Start with [`Acceptor::serve`].

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, warn};

use crate::admission::accepted::{Accepted, RefusedConnection};
use crate::admission::bound::{Bound, ListenerSettings};
use crate::admission::identity::DeviceBy;
use crate::admission::opening::{Openings, open};
use crate::connection::context::EngineContext;
use crate::connection::{LAST_READS, QUIET};
use crate::error::panic_message;
use crate::event::Peer;
use crate::listen::listener::{BACKLOG, Listener};
use crate::listen::transport::Transport;
use crate::peer_log::{self, Kind, warn_peer};

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
    openings: Arc<Openings>,
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
            self.receive(accepting.accepted(accepted));
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
                    self.receive(accepting.accepted(accepted));
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
                    self.receive(accepting.accepted(accepted));
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
        if accepted.settings.has_opening(&accepted.peer) {
            let acceptor = Arc::clone(self);
            self.tasks.spawn(async move {
                let Self {
                    context, openings, ..
                } = &*acceptor;
                if let Some(accepted) = open(openings, context, accepted).await {
                    acceptor.take(accepted);
                }
            });
            return;
        }
        let peer = accepted.peer.clone();
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.take(accepted))) {
            let message = panic_message(&*panic);
            error!(%peer, "a connection was closed, because a panic occurred: {message}");
        }
    }

    /// Takes a connection, whose handshake is done, through its stages.
    fn take(&self, accepted: Accepted) {
        let listener = Arc::clone(accepted.listener());
        let identified = accepted.identify(self.device_by);
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

impl Accepting {
    fn accepted(&self, connection: (Box<dyn Transport>, Peer)) -> Accepted {
        let settings = Arc::clone(&self.settings.borrow());
        Accepted::new(connection, (&self.address, &self.listener), settings)
    }
}

/// Whether an accept failed because of one connection, rather than the listener.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    )
}
