//! An open listener on its way to the task that accepts its connections: [`Bound`].

use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::admission::identity::DeviceTable;
use crate::connection::policy::Policies;
use crate::listen::handshake::Handshake;
use crate::listen::listener::Listener;

/// An open listener, and the settings of its connections.
#[derive(Debug)]
pub(crate) struct Bound {
    /// The address as it was configured.
    pub(crate) address: Arc<str>,
    pub(crate) listener: ListenerSlot,
    /// A connection gets the settings that are current when it is accepted.
    pub(crate) settings: watch::Receiver<Arc<ListenerSettings>>,
    /// Cancelled to close the listener.
    pub(crate) removed: CancellationToken,
    /// Listeners that must be closed before this one accepts.
    pub(crate) after: Vec<TaskTracker>,
}

/// The settings of new connections of one listener. They change together, so that the name of a device and its policy
/// belong to the same configuration.
#[derive(Debug)]
pub(crate) struct ListenerSettings {
    /// The devices with configured names.
    pub(crate) devices: Arc<DeviceTable>,
    pub(crate) policies: Policies,
    /// Secures connections before their device is known.
    pub(crate) handshake: Option<Arc<dyn Handshake>>,
}

impl ListenerSettings {
    /// Whether a connection needs a step before its device is known.
    pub(crate) fn has_opening(&self) -> bool {
        self.handshake.is_some()
    }
}

/// A listener that waits for the task that accepts, or for its removal.
#[derive(Debug)]
pub(crate) struct ListenerSlot(Arc<Mutex<Option<HeldListener>>>);

/// Closes a listener that no task accepts for, and that is not dropped yet.
#[derive(Debug)]
pub(crate) struct ListenerCloser(Weak<Mutex<Option<HeldListener>>>);

/// A listener with its mark as open.
pub(crate) type HeldListener = (Listener, TaskTrackerToken);

impl ListenerSlot {
    /// `open` tracks the listener until it is closed.
    pub(crate) fn new(listener: Listener, open: &TaskTracker) -> Self {
        Self(Arc::new(Mutex::new(Some((listener, open.token())))))
    }

    /// Returns what closes the listener while it waits.
    pub(crate) fn closer(&self) -> ListenerCloser {
        ListenerCloser(Arc::downgrade(&self.0))
    }

    /// Takes the listener, unless that was done before.
    pub(crate) fn take(&self) -> Option<HeldListener> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl ListenerCloser {
    /// Closes the listener, unless a task accepts its connections.
    pub(crate) fn close(&self) {
        let slot = self.0.upgrade().map(ListenerSlot);
        drop(slot.and_then(|slot| slot.take()));
    }
}
