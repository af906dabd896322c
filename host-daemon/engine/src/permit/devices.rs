//! Counts connections by origin and by device, and finds the largest of each: [`Devices`].

use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Arc;

use hashbrown::HashTable;
use slab::Slab;

use crate::origin::Origin;

/// The group of all origins in [`Devices::having`].
const ROOT: u32 = u32::MAX;

/// Counts of connections by origin, and by device within an origin.
///
/// The hash tables hold keys of 4 bytes only, because ten thousand connections may have as many origins.
#[derive(Debug, Default)]
pub(super) struct Devices {
    origins: Counts<Origin>,
    /// Devices by name, of any origin.
    names: Counts<Arc<str>>,
    /// Devices of an origin, by the keys of the origin and of the name.
    devices: Counts<(u32, u32)>,
    /// How many members of a group have a given number of connections. A group is an origin with its devices, or
    /// [`ROOT`].
    having: Counts<(u32, u32)>,
    /// The largest number of connections of a device, by the key of its origin.
    most: Vec<u32>,
    most_of_origins: u32,
}

/// A set of connections that may be evicted: those of the devices with the most connections in their origin, for
/// certain origins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// All origins with this number of connections.
    Origins(u32),
    /// One origin, and the largest number of connections of a device there.
    Origin(u32, u32),
}

impl Devices {
    /// Counts the connections of all devices with this name.
    pub(super) fn count_of_name(&self, name: &Arc<str>) -> usize {
        let key = self.names.find(name);
        key.map_or(0, |key| self.names.count(key) as usize)
    }

    /// Returns the targets that may be evicted for a new connection of this device. Each comes with its surplus: how
    /// many connections more than the origin, or the device, of the new connection the target has.
    pub(super) fn targets(
        &self,
        origin: &Origin,
        name: &Arc<str>,
    ) -> impl Iterator<Item = (Target, u32)> + use<> {
        let origin = self.origins.find(origin);
        let count = origin.map_or(0, |origin| self.origins.count(origin));
        let others = (
            Target::Origins(self.most_of_origins),
            self.most_of_origins - count,
        );
        let own = origin.map(|origin| {
            let name = self.names.find(name);
            let device = name.and_then(|name| self.devices.find(&(origin, name)));
            let count = device.map_or(0, |device| self.devices.count(device));
            let most = self.most_of(origin);
            (Target::Origin(origin, most), most - count)
        });
        let targets = std::iter::once(others).chain(own);
        targets.filter(|(_, surplus)| *surplus != 0)
    }

    /// Whether a device belongs to the target.
    pub(super) fn is_of(&self, device: u32, target: Target) -> bool {
        let Some(origin) = self.origin_of(device) else {
            return false;
        };
        let is_of = match target {
            Target::Origins(count) => self.origins.count(origin) == count,
            Target::Origin(of, most) => of == origin && self.most_of(of) == most,
        };
        is_of && self.devices.count(device) == self.most_of(origin)
    }

    /// Returns the key of the device's origin.
    pub(super) fn origin_of(&self, device: u32) -> Option<u32> {
        self.devices.get(device).map(|(origin, _)| *origin)
    }

    /// Counts a new connection. Returns the key of its device.
    pub(super) fn enter(&mut self, origin: Origin, name: &Arc<str>) -> u32 {
        let (origin, count) = self.origins.add(origin);
        self.moved(ROOT, count - 1, count);
        let (name, _) = self.names.add(Arc::clone(name));
        let (device, count) = self.devices.add((origin, name));
        self.moved(origin, count - 1, count);
        device
    }

    /// Counts a connection of this device as one of the device with this name, of the same origin. Returns its key.
    pub(super) fn rename(&mut self, device: u32, name: &Arc<str>) -> u32 {
        let Some((origin, former)) = self.devices.get(device).copied() else {
            return device;
        };
        let (name, _) = self.names.add(Arc::clone(name));
        let (renamed, count) = self.devices.add((origin, name));
        self.moved(origin, count - 1, count);
        let count = self.devices.remove(device);
        self.moved(origin, count + 1, count);
        self.names.remove(former);
        renamed
    }

    /// Counts a connection of this device as closed.
    pub(super) fn leave(&mut self, device: u32) {
        let Some((origin, name)) = self.devices.get(device).copied() else {
            return;
        };
        let count = self.devices.remove(device);
        self.moved(origin, count + 1, count);
        self.names.remove(name);
        let count = self.origins.remove(origin);
        self.moved(ROOT, count + 1, count);
    }

    /// Returns the largest number of connections of an origin.
    #[cfg(test)]
    pub(super) const fn most_of_origins(&self) -> usize {
        self.most_of_origins as usize
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        let Self {
            origins,
            names,
            devices,
            having,
            most,
            most_of_origins,
        } = self;
        origins.items.is_empty()
            && names.items.is_empty()
            && devices.items.is_empty()
            && having.items.is_empty()
            && most.iter().chain([most_of_origins]).all(|most| *most == 0)
    }

    fn most_of(&self, origin: u32) -> u32 {
        self.most.get(origin as usize).copied().unwrap_or_default()
    }

    /// Records that the count of a group's member changed from `from` to `to`, by one.
    fn moved(&mut self, group: u32, from: u32, to: u32) {
        let before = self.having.find(&(group, from));
        let left = before.map_or(0, |key| self.having.remove(key));
        if to != 0 {
            self.having.add((group, to));
        }
        let most = match group {
            ROOT => &mut self.most_of_origins,
            origin => {
                let at = origin as usize;
                if self.most.len() <= at {
                    self.most.resize(at + 1, 0);
                }
                &mut self.most[at]
            }
        };
        // After a decrement, the member still has the most, unless another one has its previous count.
        if *most < to || (*most == from && left == 0) {
            *most = to;
        }
    }
}

/// Counts by a small key. A key is assigned to a value while its count is not 0.
#[derive(Debug)]
struct Counts<T> {
    hasher: RandomState,
    keys: HashTable<u32>,
    items: Slab<(T, u32)>,
}

impl<T> Default for Counts<T> {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
            keys: HashTable::new(),
            items: Slab::new(),
        }
    }
}

impl<T: Hash + Eq> Counts<T> {
    fn find(&self, value: &T) -> Option<u32> {
        let hash = self.hasher.hash_one(value);
        let key = self
            .keys
            .find(hash, |key| self.get(*key).is_some_and(|it| it == value));
        key.copied()
    }

    fn get(&self, key: u32) -> Option<&T> {
        self.items.get(key as usize).map(|(value, _)| value)
    }

    fn count(&self, key: u32) -> u32 {
        self.items.get(key as usize).map_or(0, |(_, count)| *count)
    }

    /// Adds one. Returns the key of the value, and its new count.
    fn add(&mut self, value: T) -> (u32, u32) {
        let Some(key) = self.find(&value) else {
            let hash = self.hasher.hash_one(&value);
            let Self {
                hasher,
                keys,
                items,
            } = self;
            // The number of file descriptors is far below 2^32.
            let key = u32::try_from(items.insert((value, 1))).unwrap_or(u32::MAX);
            keys.insert_unique(hash, key, |key| {
                let item = items.get(*key as usize);
                item.map_or(0, |(value, _)| hasher.hash_one(value))
            });
            return (key, 1);
        };
        let item = self.items.get_mut(key as usize);
        let count = item.map_or(0, |(_, count)| {
            *count += 1;
            *count
        });
        (key, count)
    }

    /// Subtracts one. Returns the remaining count.
    fn remove(&mut self, key: u32) -> u32 {
        let Some((value, count)) = self.items.get_mut(key as usize) else {
            return 0;
        };
        *count -= 1;
        let left = *count;
        if left == 0 {
            let hash = self.hasher.hash_one(&*value);
            if let Ok(found) = self.keys.find_entry(hash, |it| *it == key) {
                found.remove();
            }
            self.items.remove(key as usize);
        }
        left
    }
}
