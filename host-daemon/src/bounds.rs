//! How many connections there may be. Read at each accept, so that a reload can change it.

use std::sync::atomic::{AtomicUsize, Ordering};

/// The bounds of one daemon.
#[derive(Debug)]
pub struct Bounds {
    connections: AtomicUsize,
    per_device: AtomicUsize,
}

impl Bounds {
    /// So many connections at once, and so many of one device, where that has a bound.
    #[must_use]
    pub fn new(connections: usize, per_device: Option<usize>) -> Self {
        Self {
            connections: connections.into(),
            per_device: per_device.unwrap_or(usize::MAX).into(),
        }
    }

    /// So many connections at once from now on. Those that are open stay open.
    pub fn set_connections(&self, connections: usize) {
        self.connections.store(connections, Ordering::Relaxed);
    }

    /// So many connections of one device from now on. Those that are open stay open.
    pub fn set_per_device(&self, per_device: Option<usize>) {
        let per_device = per_device.unwrap_or(usize::MAX);
        self.per_device.store(per_device, Ordering::Relaxed);
    }

    /// Connections at once.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Connections at once of one device.
    pub(crate) fn per_device(&self) -> usize {
        self.per_device.load(Ordering::Relaxed)
    }
}
