//! What a device is, and how many connections one may have.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use clap::ValueEnum;
use tokio::sync::Semaphore;

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
#[derive(Debug)]
pub(crate) struct Devices {
    most: usize,
    open: Mutex<HashMap<Arc<str>, usize>>,
}

impl Devices {
    /// Where no device may have more than `most`.
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            open: Mutex::default(),
        })
    }

    /// One connection more of a device; `None` if it has as many as it may.
    pub(crate) fn enter(self: &Arc<Self>, device: &Arc<str>) -> Option<DevicePlace> {
        let mut open = self.open();
        let count = open.entry(Arc::clone(device)).or_default();
        if self.most <= *count {
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
    places: Arc<Semaphore>,
    _of_device: Option<Box<DevicePlace>>,
}

impl Place {
    /// One of the `places`, whose permit was forgotten; and one of its device, where there is a limit.
    pub(crate) const fn new(places: Arc<Semaphore>, of_device: Option<Box<DevicePlace>>) -> Self {
        Self {
            places,
            _of_device: of_device,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.add_permits(1);
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
