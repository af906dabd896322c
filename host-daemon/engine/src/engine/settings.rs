//! What an engine listens on, and what can change while it runs: [`ListenerSpec`] and [`Settings`].

use std::sync::Arc;

use framing_core::AnyFraming;

use crate::admission::bound::ListenerSettings;
use crate::admission::identity::DeviceTable;
use crate::connection::policy::Policies;
use crate::listen::handshake::Handshake;
use crate::permit::Bounds;

/// An address to listen on, and the policies of its connections.
///
/// # Examples
/// ```
/// use blocksd_engine::ListenerSpec;
/// use blocksd_engine::connection::policy::Policy;
/// use framing_core::{AnyFraming, Lines};
///
/// let spec = ListenerSpec::new("unix:/run/sensors.sock", Policy::new(AnyFraming::Lines(Lines)));
/// assert_eq!(spec.address, "unix:/run/sensors.sock");
/// ```
#[derive(Clone, Debug)]
pub struct ListenerSpec {
    /// The address, in the syntax of [`Address`](crate::listen::address::Address).
    pub address: String,
    /// The policies of its connections.
    pub policies: Policies,
    /// Secures its connections; `None` for plain ones.
    pub handshake: Option<Arc<dyn Handshake>>,
}

impl ListenerSpec {
    /// Creates a specification. A single [`Policy`](crate::connection::policy::Policy) converts to [`Policies`].
    #[must_use]
    pub fn new(address: impl Into<String>, policies: impl Into<Policies>) -> Self {
        Self {
            address: address.into(),
            policies: policies.into(),
            handshake: None,
        }
    }
}

impl ListenerSpec {
    pub(super) fn settings(self, devices: &Arc<DeviceTable>) -> ListenerSettings {
        ListenerSettings {
            devices: Arc::clone(devices),
            policies: self.policies,
            handshake: self.handshake,
        }
    }
}

/// The settings that can change while an engine runs; see [`EngineHandle::apply`](crate::EngineHandle::apply).
#[derive(Clone, Debug)]
pub struct Settings {
    /// All listeners. Listeners that are not listed are closed.
    pub listeners: Vec<ListenerSpec>,
    /// The limits that apply to all connections together.
    pub bounds: Bounds,
    /// The devices with configured names.
    pub devices: DeviceTable,
}

/// The changes that [`EngineHandle::apply`](crate::EngineHandle::apply) made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Listeners that were opened.
    pub added: Vec<Listening>,
    /// Addresses of listeners that were closed.
    pub removed: Vec<String>,
}

/// An open listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listening {
    /// The address as it was configured.
    pub address: String,
    /// The bound address, with the port that the system chose.
    pub name: Arc<str>,
    /// Default framing of its connections.
    pub framing: AnyFraming,
}
