//! What happens in the task of a connection before its device is known: the header of a proxy, then a handshake. Start
//! with [`open`].

use std::future::poll_fn;
use std::sync::Arc;

use tokio::time::{Instant, sleep, sleep_until};

use crate::admission::accept::{Accepted, Acceptor};
use crate::admission::handshakes::Handshakes;
use crate::connection::LAST_READS;
use crate::event::Peer;
use crate::listen::handshake::{HANDSHAKE_TIMEOUT, HandshakeError};
use crate::origin::Origin;
use crate::peer_log::{Kind, warn_peer};
use crate::permit::{Bounds, ConnectionPermit, Connections};
use crate::reason::{HandshakeRefusal, RefusedReason};

/// Connections that may be opening in any case. Beyond it, opening and open connections are at most as many as may be open.
pub const OPENINGS_MIN: usize = 256;

/// The connections that are not admitted yet.
#[derive(Debug)]
pub(crate) struct Openings {
    /// Those that wait for their peer. Like admitted ones, they are evicted fairly.
    connections: Arc<Connections>,
    handshakes: Arc<Handshakes>,
}

impl Openings {
    pub(crate) fn new(bounds: &Bounds) -> Arc<Self> {
        Arc::new(Self {
            connections: Connections::new(Bounds {
                per_device: None,
                ..*bounds
            }),
            handshakes: Handshakes::new(bounds.handshakes),
        })
    }

    /// Changes the limits.
    pub(crate) fn set_bounds(&self, bounds: &Bounds) {
        self.handshakes.set_max(bounds.handshakes);
    }

    /// Admits a connection to those that are opening.
    fn admit(&self, peer: &Peer, open: &Connections) -> Result<ConnectionPermit, RefusedReason> {
        self.connections.set_max(open.free().max(OPENINGS_MIN));
        let name: Arc<str> = peer.to_string().into();
        let origin = Origin::of_peer(peer);
        let admitted = self.connections.admit(|_| Arc::clone(&name), Some(origin));
        admitted.map(|admitted| admitted.permit)
    }
}

/// Opens a connection, and has it admitted. A connection that fails is counted, logged, and closed.
pub(super) async fn open(acceptor: Arc<Acceptor>, accepted: Accepted) {
    let peer = accepted.peer.clone();
    match opened(&acceptor, accepted).await {
        Ok(accepted) => acceptor.take(accepted),
        Err(error) => refuse(&acceptor, &peer, &error),
    }
}

/// Performs all steps within the timeout. During a shutdown, they have the time of the last reads.
async fn opened(acceptor: &Acceptor, accepted: Accepted) -> Result<Accepted, HandshakeError> {
    let late = Instant::now() + HANDSHAKE_TIMEOUT;
    let open = &acceptor.context.connections;
    let Ok(permit) = acceptor.openings.admit(&accepted.peer, open) else {
        return Err(HandshakeError::of(HandshakeRefusal::Full));
    };
    let stopped = async {
        acceptor.context.stop.cancelled().await;
        sleep(LAST_READS).await;
    };
    tokio::select! {
        biased;
        opened = steps(acceptor, accepted) => opened,
        _ = permit.until_close_request() => Err(HandshakeError::of(HandshakeRefusal::Full)),
        () = sleep_until(late) => Err(HandshakeError::of(HandshakeRefusal::Timeout)),
        () = stopped => Err(HandshakeError::of(HandshakeRefusal::Closed)),
    }
}

async fn steps(acceptor: &Acceptor, mut accepted: Accepted) -> Result<Accepted, HandshakeError> {
    let Some(handshake) = accepted.settings.handshake.clone() else {
        return Ok(accepted);
    };
    // A peer that sends nothing takes no place.
    let readable = poll_fn(|context| accepted.transport.poll_readable(context)).await;
    readable.map_err(|error| HandshakeError {
        source: Some(error.into()),
        ..HandshakeError::of(HandshakeRefusal::Closed)
    })?;
    let origin = Origin::of_peer(&accepted.peer);
    let place = acceptor.openings.handshakes.place(&origin).await;
    let secured = tokio::select! {
        biased;
        secured = handshake.handshake(accepted.transport) => secured?,
        () = place.until_ended() => return Err(HandshakeError::of(HandshakeRefusal::Full)),
    };
    acceptor.context.counters.handshake();
    accepted.transport = secured.transport;
    accepted.certificate = secured.certificate;
    Ok(accepted)
}

/// Counts and logs a connection that could not be opened. Of each reason, the first, second, fourth and so on are logged.
fn refuse(acceptor: &Acceptor, peer: &Peer, error: &HandshakeError) {
    let refused = acceptor.context.counters.handshake_refused(error.reason);
    if refused.is_power_of_two() {
        let name = peer.to_string();
        warn_peer!(Kind::Refused, &name, %peer, refused, reason = error.reason.as_str(), "refused: {error}");
    } else {
        tracing::debug!(%peer, refused, reason = error.reason.as_str(), "refused: {error}");
    }
}
