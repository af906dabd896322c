//! Listens, accepts, refuses, stops.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::engine::admission::identity::DeviceBy;
use crate::engine::connection::{Connection, LAST_READS, QUIET, Shared};
use crate::engine::counters::Refused;
use crate::engine::event::Peer;
use crate::engine::listen::listener::{BACKLOG, Listener};
use crate::engine::listen::transport::Transport;
use crate::engine::origin::Origin;
use crate::engine::peer_log::{Kind, warn_peer};
use crate::engine::permit::Admitted;

/// How long to wait after a failed accept, at first and at most.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1));
/// How long connections may take to end once the daemon is stopping.
const DRAIN: Duration = Duration::from_millis(1000);

/// Which connections are served; how many, [`Shared::connections`] decides.
#[derive(Clone, Copy, Debug)]
pub struct Admission {
    /// What one device is.
    pub device_by: DeviceBy,
    /// Only the first is served.
    pub once: bool,
}

/// Serves until [`Shared::stop`] is cancelled, or until the only connection has ended.
pub async fn serve(listeners: Vec<Listener>, admission: Admission, shared: Arc<Shared>) {
    let door = Arc::new(Door {
        device_by: admission.device_by,
        once: admission.once,
        open: shared.stop.child_token(),
        inside: TaskTracker::new(),
        shared,
    });
    let served = async {
        let mut accepting = JoinSet::new();
        for listener in listeners {
            accepting.spawn(Arc::clone(&door).accept(listener));
        }
        while accepting.join_next().await.is_some() {}
        door.inside.close();
        door.inside.wait().await;
    };
    let stopped = async {
        door.shared.stop.cancelled().await;
        door.shared.connections.stop();
        tokio::time::sleep(LAST_READS + DRAIN).await;
    };
    tokio::select! {
        () = served => {}
        () = stopped => {
            warn!(connections = door.inside.len(), "still busy; what they hold is not written out");
        }
    }
}

/// What connections come in through.
#[derive(Debug)]
struct Door {
    device_by: DeviceBy,
    once: bool,
    /// Cancelled when no more are to be accepted.
    open: CancellationToken,
    inside: TaskTracker,
    shared: Arc<Shared>,
}

impl Door {
    async fn accept(self: Arc<Self>, mut listener: Listener) {
        let mut back_off = BACK_OFF.0;
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.open.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok(Some((stream, peer))) => {
                    back_off = BACK_OFF.0;
                    self.admit(stream, peer, &listener);
                }
                Ok(None) => return,
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    // Out of descriptors, most likely: there will be some again.
                    warn_peer!(
                        Kind::Accept,
                        listener.name(),
                        "cannot accept, trying again in {back_off:?}: {error}"
                    );
                    let _ = tokio::time::timeout(back_off, self.open.cancelled()).await;
                    back_off = (back_off * 2).min(BACK_OFF.1);
                }
            }
        }
        if self.once || !listener.has_queue() {
            return;
        }
        // Who has connected already, and may have sent everything, is not turned away.
        // Devices that connect again at once when they are let go could keep this up for minutes.
        let since = Instant::now();
        for _ in 0..BACKLOG {
            if LAST_READS < since.elapsed() {
                return;
            }
            match tokio::time::timeout(QUIET, listener.accept()).await {
                Ok(Ok(Some((stream, peer)))) => self.admit(stream, peer, &listener),
                _ => return,
            }
        }
    }

    fn admit(&self, stream: Box<dyn Transport>, peer: Peer, listener: &Listener) {
        let name = |conn| self.device_by.name(&peer, listener.name(), conn);
        let origin = (!listener.is_line()).then(|| Origin::of_peer(&peer));
        let admitted = self.shared.connections.admit(name, origin);
        let Admitted {
            conn,
            device,
            permit,
        } = match admitted {
            Ok(admitted) => admitted,
            Err(why) => return self.refuse(why, &peer),
        };
        if self.once {
            self.open.cancel();
            if conn != 1 {
                return;
            }
        }
        self.shared.counters.connection();
        let (policy, shared) = (listener.policy(), Arc::clone(&self.shared));
        // Boxed: as a local variable of two futures, it would be in the task twice.
        let connection = Connection::new(conn, device, stream, policy, shared, permit);
        let connection = Box::new(connection);
        match connection.opened(peer) {
            Ok(()) => drop(self.inside.spawn(connection.run())),
            Err(event) => {
                let shared = Arc::clone(&self.shared);
                self.inside.spawn(async move {
                    shared.sinks.send(event).await;
                    connection.run().await;
                });
            }
        }
    }

    /// Closes a connection at once, and logs it.
    fn refuse(&self, why: Refused, peer: &Peer) {
        let refused = self.shared.counters.refused(why);
        let name = peer.to_string();
        warn_peer!(Kind::Refused, &name, %peer, refused, "refused: {why}");
    }
}

/// Whether an accept failed because of the connection, not of the listener.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    )
}
