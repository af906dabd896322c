//! How many connections each device has, and the most that any has.

use std::collections::HashMap;
use std::sync::Arc;

use slab::Slab;

/// How many connections each device has.
#[derive(Debug, Default)]
pub(super) struct Devices {
    pub(super) keys: HashMap<Arc<str>, usize>,
    pub(super) counts: Slab<(Arc<str>, usize)>,
    /// How many devices have one connection, two, and so on.
    devices: Vec<usize>,
}

impl Devices {
    pub(super) fn count(&self, device: &Arc<str>) -> usize {
        self.count_of(self.keys.get(device).copied())
    }

    /// 0 for a connection that is of no device.
    pub(super) fn count_of(&self, key: Option<usize>) -> usize {
        let device = key.and_then(|key| self.counts.get(key));
        device.map_or(0, |(_, count)| *count)
    }

    /// The most connections that a device has.
    pub(super) fn most(&self) -> usize {
        self.devices.len()
    }

    pub(super) fn enter(&mut self, device: &Arc<str>) -> usize {
        let counts = &mut self.counts;
        let key = self.keys.entry(Arc::clone(device));
        let key = *key.or_insert_with(|| counts.insert((Arc::clone(device), 0)));
        if let Some((_, count)) = self.counts.get_mut(key) {
            *count += 1;
            let (from, to) = (*count - 1, *count);
            self.moved(from, to);
        }
        key
    }

    pub(super) fn leave(&mut self, key: usize) {
        let Some((_, count)) = self.counts.get_mut(key) else {
            return;
        };
        *count -= 1;
        let to = *count;
        self.moved(to + 1, to);
        if to == 0 {
            let (device, _) = self.counts.remove(key);
            self.keys.remove(&device);
        }
    }

    /// A device had `from` connections, and has `to`.
    fn moved(&mut self, from: usize, to: usize) {
        if self.devices.len() < to {
            self.devices.push(0);
        }
        if let Some(count) = from.checked_sub(1).and_then(|at| self.devices.get_mut(at)) {
            *count -= 1;
        }
        if let Some(count) = to.checked_sub(1).and_then(|at| self.devices.get_mut(at)) {
            *count += 1;
        }
        while self.devices.last() == Some(&0) {
            self.devices.pop();
        }
    }
}
