//! The stages of a connection before it runs: [`Accepted`], [`Identified`], admitted.

use std::sync::Arc;

use crate::admission::bound::ListenerSettings;
use crate::admission::identity::DeviceBy;
use crate::certificate::PeerCertificate;
use crate::connection::Connection;
use crate::connection::context::EngineContext;
use crate::event::Peer;
use crate::listen::listener::Listener;
use crate::listen::transport::Transport;
use crate::origin::Origin;
use crate::permit::Admitted;
use crate::reason::RefusedReason;

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
    /// Creates it from what the listener, configured with `address`, has accepted.
    pub(super) fn new(
        (transport, peer): (Box<dyn Transport>, Peer),
        (address, listener): (&Arc<str>, &Listener),
        settings: Arc<ListenerSettings>,
    ) -> Self {
        Self {
            transport,
            peer,
            certificate: None,
            listener: (Arc::clone(address), Arc::clone(listener.name())),
            settings,
            is_line: listener.is_line(),
        }
    }

    /// The listener as it is bound.
    pub(super) const fn listener(&self) -> &Arc<str> {
        &self.listener.1
    }

    /// Identifies the device.
    pub(super) fn identify(self, device_by: DeviceBy) -> Identified {
        let (address, listener) = &self.listener;
        let devices = &self.settings.devices;
        let find = |identity: &str| {
            let name = devices.find(&self.peer, address, identity)?;
            Some(DeviceName::OfTable(Arc::clone(name)))
        };
        let device = if let Some(certificate) = &self.certificate {
            // Where the connection comes from does not say who it is.
            let name = &certificate.name;
            let renamed = devices.find_id(name).map(Arc::clone);
            renamed.map_or_else(
                || DeviceName::Identity(Arc::clone(name)),
                DeviceName::OfTable,
            )
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
pub(super) struct Identified {
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
    pub(super) fn admit(
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
        if certificate.is_some() {
            // The rules may have changed since the handshake.
            permit.request_recheck();
        }
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
pub(super) struct RefusedConnection {
    pub(super) reason: RefusedReason,
    pub(super) peer: Peer,
    _transport: Box<dyn Transport>,
}
