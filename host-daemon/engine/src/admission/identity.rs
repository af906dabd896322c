//! What the daemon takes for one device.

use std::sync::Arc;

use crate::event::Peer;

/// What the daemon takes for one device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceBy {
    /// Who comes from one address; of this machine, through one listener.
    #[default]
    Ip,
    /// Each connection: address and port; of this machine, the listener and the connection's number.
    Peer,
    /// Who comes through one listener.
    Listener,
}

impl DeviceBy {
    /// The device of connection number `conn`, which came through `listener`.
    #[must_use]
    pub fn name(self, peer: &Peer, listener: &Arc<str>, conn: u64) -> Arc<str> {
        match (self, peer) {
            (Self::Listener, _) | (Self::Ip, Peer::Local(_)) => Arc::clone(listener),
            // An IPv4 address is the same device, whether its socket speaks IPv6 or not.
            (Self::Ip, Peer::Network(peer)) => peer.ip().to_canonical().to_string().into(),
            (Self::Peer, Peer::Network(peer)) => peer.to_string().into(),
            (Self::Peer, Peer::Local(_)) => format!("{listener}#{conn}").into(),
        }
    }
}
