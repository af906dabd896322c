//! What a device is, and how many connections one may have.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use clap::ValueEnum;

use crate::event::Peer;

/// What the daemon takes for one device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
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

/// How many connections each device has.
#[derive(Debug, Default)]
pub(crate) struct Devices {
    open: Mutex<HashMap<Arc<str>, usize>>,
}

impl Devices {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// One connection more of a device; `None` if it has `most` already.
    pub(crate) fn enter(self: &Arc<Self>, device: &Arc<str>, most: usize) -> Option<DevicePlace> {
        let mut open = self.open();
        let count = open.entry(Arc::clone(device)).or_default();
        if most <= *count {
            return None;
        }
        *count += 1;
        Some(DevicePlace {
            devices: Arc::clone(self),
            device: Arc::clone(device),
        })
    }

    fn open(&self) -> MutexGuard<'_, HashMap<Arc<str>, usize>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a connection occupies while it is open; free again when dropped.
#[derive(Debug)]
pub struct Place {
    taken: Arc<AtomicUsize>,
    _of_device: Option<Box<DevicePlace>>,
}

impl Place {
    /// One of `most` places; `None` if so many are taken.
    pub(crate) fn take(taken: &Arc<AtomicUsize>, most: usize) -> Option<Self> {
        let more = |count| (count < most).then(|| count + 1);
        taken
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, more)
            .ok()?;
        Some(Self {
            taken: Arc::clone(taken),
            _of_device: None,
        })
    }

    /// The same, with the place of its device.
    pub(crate) fn of_device(mut self, place: Option<Box<DevicePlace>>) -> Self {
        self._of_device = place;
        self
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.taken.fetch_sub(1, Ordering::AcqRel);
    }
}

/// One connection of a device; given back when dropped.
#[derive(Debug)]
pub(crate) struct DevicePlace {
    devices: Arc<Devices>,
    device: Arc<str>,
}

impl Drop for DevicePlace {
    fn drop(&mut self) {
        if let Entry::Occupied(mut count) = self.devices.open().entry(Arc::clone(&self.device)) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}
