//! Lines about opened and closed connections. Their target is this module, so that
//! `blocksd_engine::peer_log::connections=debug` enables them alone.

use tracing::debug;

use crate::event::{ConnectionInfo, Peer};
use crate::reason::CloseReason;

/// Logs that a connection was accepted, at level `debug`.
pub(crate) fn opened(conn: u64, device: &str, peer: &Peer, listener: &str) {
    debug!(conn, %device, %peer, %listener, "connection opened");
}

/// Logs that a connection was closed, with its totals, at level `debug`.
pub(crate) fn closed(source: &ConnectionInfo, reason: CloseReason, totals: ReceivedTotals) {
    let ConnectionInfo { conn, device, .. } = source;
    let ReceivedTotals {
        messages,
        bytes,
        faults,
    } = totals;
    debug!(conn, %device, %reason, messages, bytes, faults, "connection closed");
}

/// What was received on a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReceivedTotals {
    /// Whole messages.
    pub(crate) messages: u64,
    /// Bytes of payload.
    pub(crate) bytes: u64,
    /// Faults, up to 65,535.
    pub(crate) faults: u32,
}
