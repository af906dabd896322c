//! What happens in the task of a connection before its device is known: the header of a proxy, then a handshake. Start
//! with [`open`].

use std::future::{Future, poll_fn};
use std::io;
use std::sync::Arc;

use tokio::io::AsyncReadExt as _;
use tokio::time::{Instant, sleep, sleep_until};

use crate::admission::accepted::Accepted;
use crate::admission::handshakes::Handshakes;
use crate::connection::LAST_READS;
use crate::connection::context::EngineContext;
use crate::event::Peer;
use crate::listen::handshake::{HANDSHAKE_TIMEOUT, HandshakeError};
use crate::listen::proxy::{self, Parsed, ProxiedPeer};
use crate::listen::transport::Transport;
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

/// Opens a connection. One that fails is counted, logged, and closed.
pub(super) async fn open(
    openings: &Openings,
    engine: &EngineContext,
    accepted: Accepted,
) -> Option<Accepted> {
    let mut peer = accepted.peer.clone();
    match opened(openings, engine, accepted, &mut peer).await {
        Ok(accepted) => Some(accepted),
        Err(error) => {
            refuse(engine, &peer, &error);
            None
        }
    }
}

/// Performs all steps within the timeout. During a shutdown, they have the time of the last reads. Sets `peer` to the one that
/// a proxy names.
async fn opened(
    openings: &Openings,
    engine: &EngineContext,
    mut accepted: Accepted,
    peer: &mut Peer,
) -> Result<Accepted, HandshakeError> {
    let late = Instant::now() + HANDSHAKE_TIMEOUT;
    if accepted.settings.expects_proxy(peer) {
        let header = read_header(&mut *accepted.transport);
        if let ProxiedPeer::Tcp(source) = within(openings, engine, peer, late, header).await? {
            *peer = Peer::Network(source);
            accepted.peer = peer.clone();
        }
    }
    // From here on, the connection counts for the device before the proxy.
    let secured = secured(openings, engine, accepted);
    within(openings, engine, peer, late, secured).await
}

/// Performs a step while the connection has a place among those of its peer.
async fn within<T>(
    openings: &Openings,
    engine: &EngineContext,
    peer: &Peer,
    late: Instant,
    step: impl Future<Output = Result<T, HandshakeError>>,
) -> Result<T, HandshakeError> {
    let Ok(permit) = openings.admit(peer, &engine.connections) else {
        return Err(HandshakeError::of(HandshakeRefusal::Full));
    };
    let stopped = async {
        engine.stop.cancelled().await;
        sleep(LAST_READS).await;
    };
    tokio::select! {
        biased;
        done = step => done,
        _ = permit.until_close_request() => Err(HandshakeError::of(HandshakeRefusal::Full)),
        () = sleep_until(late) => Err(HandshakeError::of(HandshakeRefusal::Timeout)),
        () = stopped => Err(HandshakeError::of(HandshakeRefusal::Closed)),
    }
}

/// Performs the handshake of the listener, if it has one, in its turn.
async fn secured(
    openings: &Openings,
    engine: &EngineContext,
    mut accepted: Accepted,
) -> Result<Accepted, HandshakeError> {
    let Some(handshake) = accepted.settings.handshake.clone() else {
        return Ok(accepted);
    };
    // A peer that sends nothing takes no place.
    let readable = poll_fn(|context| accepted.transport.poll_readable(context)).await;
    readable.map_err(closed)?;
    let origin = Origin::of_peer(&accepted.peer);
    let place = openings.handshakes.place(&origin).await;
    let secured = tokio::select! {
        biased;
        secured = handshake.handshake(accepted.transport) => secured?,
        () = place.until_ended() => return Err(HandshakeError::of(HandshakeRefusal::Full)),
    };
    engine.counters.handshake();
    accepted.transport = secured.transport;
    accepted.certificate = secured.certificate;
    Ok(accepted)
}

/// Reads the header of a proxy, and no byte beyond it.
async fn read_header(transport: &mut dyn Transport) -> Result<ProxiedPeer, HandshakeError> {
    let mut header = Vec::new();
    loop {
        let refused = |error: proxy::ProxyError| HandshakeError {
            text: error.to_string(),
            reason: HandshakeRefusal::ProxyHeader,
            source: Some(error.into()),
        };
        match proxy::parse(&header).map_err(refused)? {
            Parsed::Complete { source, .. } => return Ok(source),
            Parsed::Incomplete { at_least } => {
                let mut rest = (&mut *transport).take(at_least as u64);
                match rest.read_buf(&mut header).await {
                    Ok(0) => return Err(HandshakeError::of(HandshakeRefusal::Closed)),
                    Ok(_) => {}
                    Err(error) => return Err(closed(error)),
                }
            }
        }
    }
}

fn closed(error: io::Error) -> HandshakeError {
    HandshakeError {
        source: Some(error.into()),
        ..HandshakeError::of(HandshakeRefusal::Closed)
    }
}

/// Counts and logs a connection that could not be opened. Of each reason, the first, second, fourth and so on are logged.
fn refuse(engine: &EngineContext, peer: &Peer, error: &HandshakeError) {
    let refused = engine.counters.handshake_refused(error.reason);
    if refused.is_power_of_two() {
        let name = peer.to_string();
        warn_peer!(Kind::Refused, &name, %peer, refused, reason = error.reason.as_str(), "refused: {error}");
    } else {
        tracing::debug!(%peer, refused, reason = error.reason.as_str(), "refused: {error}");
    }
}
