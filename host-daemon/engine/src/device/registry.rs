//! The devices of an engine: a [`DeviceRegistry`], which keeps a bounded number of devices that are gone.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use crate::device::watch::is_ahead;
use crate::device::{DeviceList, DeviceSnapshot, DeviceStats, WATCHED};
use crate::moment::Moment;

/// The devices of one engine: those that are connected, and the last ones that are gone.
///
/// See [`DeviceStats`] for an example.
#[derive(Debug)]
pub struct DeviceRegistry {
    max_gone: AtomicUsize,
    known: Mutex<Known>,
    /// Silences that ended before they could be emitted, because of the rate limit.
    pub(crate) unannounced: AtomicU64,
    /// Devices that are first seen before this are watched: a [`Moment`], or 0.
    watch_new_until: AtomicU64,
}

#[derive(Debug, Default)]
struct Known {
    devices: HashMap<Arc<str>, Arc<DeviceStats>>,
    /// Those without a connection, the oldest first.
    gone: BTreeMap<u64, Arc<str>>,
    /// Devices that were gone so far: the key of the last one.
    gone_so_far: u64,
    dropped: u64,
}

impl DeviceRegistry {
    /// Creates a registry without devices. It keeps `max_gone` devices without a connection.
    #[must_use]
    pub fn new(max_gone: usize) -> Arc<Self> {
        Arc::new(Self {
            max_gone: AtomicUsize::new(max_gone),
            known: Mutex::default(),
            unannounced: AtomicU64::default(),
            watch_new_until: AtomicU64::default(),
        })
    }

    /// Requests copies of all messages of devices that are first seen within [`WATCHED`](crate::device::WATCHED), from their
    /// first message on, as [`DeviceStats::watch`] does.
    pub fn watch_new(&self) {
        let until = Moment::now().later(WATCHED).nanos();
        self.watch_new_until.store(until, Ordering::Relaxed);
    }

    /// Sets how many devices without a connection are kept.
    pub fn set_max_gone(&self, max_gone: usize) {
        self.max_gone.store(max_gone, Ordering::Relaxed);
        self.known().drop_oldest(max_gone);
    }

    /// Counts a connection of a device that was opened at `time`. [Close](Self::close) it once.
    #[must_use]
    pub fn open(&self, name: &Arc<str>, time: SystemTime) -> Arc<DeviceStats> {
        let stats = self.known().open(name, time);
        self.watch_if_new(&stats);
        stats
    }

    /// Counts a connection that may [become](Self::rename) that of another device: its first bytes can be a HELLO. Until it
    /// is [decided](Self::decide), it is not a reconnect of this device, which was not seen by it either.
    pub(crate) fn open_undecided(&self, name: &Arc<str>, time: SystemTime) -> Arc<DeviceStats> {
        let stats = self.known().enter(name, time);
        self.watch_if_new(&stats);
        stats
    }

    /// Decides that an undecided connection, which was opened or sent its first byte at `time`, is one of this device.
    pub(crate) fn decide(&self, stats: &DeviceStats, time: SystemTime) {
        // With the lock, no other connection is opened or closed meanwhile.
        let _known = self.known();
        stats.decided(time);
    }

    /// Counts a connection as closed. If it was the last one, the device is gone.
    pub fn close(&self, stats: &Arc<DeviceStats>) {
        let max_gone = self.max_gone.load(Ordering::Relaxed);
        let mut known = self.known();
        if known.close(stats) {
            self.unannounced.fetch_add(1, Ordering::Relaxed);
        }
        known.drop_oldest(max_gone);
    }

    /// Moves an undecided connection, which has sent nothing but its HELLO, to the device that this names. If `replaces`, it
    /// continues a session of another connection. Its HELLO arrived at `time`.
    #[must_use]
    pub fn rename(
        &self,
        former: &Arc<DeviceStats>,
        name: &Arc<str>,
        replaces: bool,
        time: SystemTime,
    ) -> Arc<DeviceStats> {
        let max_gone = self.max_gone.load(Ordering::Relaxed);
        let mut known = self.known();
        if former.name == *name {
            let replaced = u64::from(replaces);
            former.decided(time);
            former.reconnects.fetch_add(replaced, Ordering::Relaxed);
            return Arc::clone(former);
        }
        let stats = known.open(name, time);
        let was_connected = 1 < stats.connections.load(Ordering::Relaxed);
        let replaced = u64::from(replaces && was_connected);
        stats.reconnects.fetch_add(replaced, Ordering::Relaxed);
        if known.undo(former) {
            self.unannounced.fetch_add(1, Ordering::Relaxed);
        }
        known.drop_oldest(max_gone);
        drop(known);
        self.watch_if_new(&stats);
        stats
    }

    /// Returns what is known of all devices now.
    #[must_use]
    pub fn list(&self) -> DeviceList {
        let (devices, dropped) = self.all();
        let devices = devices.iter().map(|stats| DeviceSnapshot::of(stats));
        DeviceList {
            devices: devices.collect(),
            dropped,
        }
    }

    /// Returns the device with this name, if it is connected, or gone and not dropped.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Arc<DeviceStats>> {
        self.known().devices.get(name).cloned()
    }

    /// Returns the devices with these names, connected or gone, in no order.
    pub fn matching(&self, mut wanted: impl FnMut(&str) -> bool) -> Vec<Arc<DeviceStats>> {
        // Connections open and close meanwhile.
        let (mut devices, _) = self.all();
        devices.retain(|stats| wanted(&stats.name));
        devices
    }

    /// Returns the devices, and how many were dropped.
    pub(crate) fn all(&self) -> (Vec<Arc<DeviceStats>>, u64) {
        let known = self.known();
        (known.devices.values().cloned().collect(), known.dropped)
    }

    /// Returns the number of silences that ended before they could be emitted, because of the rate limit.
    #[must_use]
    pub fn unannounced(&self) -> u64 {
        self.unannounced.load(Ordering::Relaxed)
    }

    fn watch_if_new(&self, stats: &DeviceStats) {
        let is_new = stats.connections_total.load(Ordering::Relaxed) == 1;
        if is_new && is_ahead(&self.watch_new_until) {
            stats.watch();
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn open(&mut self, name: &Arc<str>, time: SystemTime) -> Arc<DeviceStats> {
        let stats = self.enter(name, time);
        stats.decided(time);
        stats
    }

    /// Counts an undecided connection.
    fn enter(&mut self, name: &Arc<str>, time: SystemTime) -> Arc<DeviceStats> {
        let stats = self
            .devices
            .entry(Arc::clone(name))
            .or_insert_with(|| Arc::new(DeviceStats::new(Arc::clone(name), time)));
        let stats = Arc::clone(stats);
        // It keeps its key: it may be gone again, as if this connection had never been.
        self.gone.remove(&stats.gone_key.load(Ordering::Relaxed));
        if stats.connections.fetch_add(1, Ordering::Relaxed) == 0 {
            let now = Moment::now().nanos();
            stats.reads_since.store(now, Ordering::Relaxed);
        }
        stats.connections_total.fetch_add(1, Ordering::Relaxed);
        stats
    }

    /// Counts a connection as closed. Returns whether this ends a silence that could not be emitted yet.
    fn close(&mut self, stats: &DeviceStats) -> bool {
        if stats.connections.fetch_sub(1, Ordering::Relaxed) != 1 {
            return false;
        }
        let key = match stats.gone_key.load(Ordering::Relaxed) {
            0 => {
                self.gone_so_far += 1;
                self.gone_so_far
            }
            key => key,
        };
        stats.gone_key.store(key, Ordering::Relaxed);
        self.gone.insert(key, Arc::clone(&stats.name));
        stats.drop_postponed()
    }

    /// Takes an undecided connection back. Returns the same as [`Self::close`].
    fn undo(&mut self, stats: &DeviceStats) -> bool {
        let begun = stats.connections_total.fetch_sub(1, Ordering::Relaxed);
        let ends_silence = self.close(stats);
        if begun == 1 {
            // It was never more than the address of this connection.
            self.gone.remove(&stats.gone_key.load(Ordering::Relaxed));
            self.devices.remove(&stats.name);
        }
        ends_silence
    }

    fn drop_oldest(&mut self, max_gone: usize) {
        while max_gone < self.gone.len()
            && let Some((_, name)) = self.gone.pop_first()
        {
            self.devices.remove(&name);
            self.dropped += 1;
        }
    }
}
