//! Connection limits, eviction, and the memory limit of unfinished messages: start with [`Connections`].
//!
//! [`Connections`] holds a slot for every open connection. At the connection limit, it evicts the longest-silent
//! connection of the device with the most connections, within the origin with the most connections.

mod bounds;
mod devices;
mod slot;
mod unfinished;

use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use slab::Slab;
use tracing::warn;

pub use self::bounds::Bounds;
use self::devices::{Devices, Target};
pub(crate) use self::slot::Slot;
use self::unfinished::{Allowance, RECHECK_INTERVAL, Rank, ReadScheduler, Unfinished};
pub(crate) use self::unfinished::{GROWTH_MAX, SPARE};
use crate::moment::{Moment, nanos};
use crate::origin::Origin;
use crate::reason::{CloseReason, RefusedReason};

/// Silence after which a connection can be evicted for an origin or a device that has only one connection less.
///
/// Without this condition, a fleet of one-connection devices that is larger than the limit would evict itself in a
/// circle.
pub const SETTLED: Duration = Duration::from_secs(10);

/// Candidates for eviction that one pass over all connections collects.
const VICTIMS: usize = 64;

/// Evicted connections that have not closed yet: at most the limit divided by `CLOSING_PART`, and at least
/// `CLOSING_MIN`.
const CLOSING_PART: usize = 8;
const CLOSING_MIN: usize = 64;

/// The open connections of one engine, with their limits.
#[derive(Debug)]
pub struct Connections {
    /// Changed by [`set_bounds`](Self::set_bounds). Open connections stay open.
    max: AtomicUsize,
    max_per_device: AtomicUsize,
    unfinished: Unfinished,
    open: Mutex<Open>,
}

/// State that changes when a connection opens or closes.
#[derive(Debug, Default)]
struct Open {
    /// Connections that hold a permit and are not evicted.
    taken: usize,
    /// Evicted connections that have not closed yet.
    closing: usize,
    accepted: u64,
    evicted: u64,
    stopping: bool,
    entries: Slab<Entry>,
    devices: Devices,
    victims: Victims,
    scheduler: ReadScheduler,
}

/// A connection that holds a permit.
#[derive(Debug)]
struct Entry {
    slot: Arc<Slot>,
    /// `None` for a serial line or standard input, which is never evicted.
    device: Option<u32>,
}

/// An admitted connection.
#[derive(Debug)]
pub(crate) struct Admitted {
    /// Number of the connection, from 1.
    pub(crate) conn: u64,
    /// Name of the device.
    pub(crate) device: Arc<str>,
    /// The permit, to be held until the connection closes.
    pub(crate) permit: ConnectionPermit,
}

impl Connections {
    /// Creates a table without connections.
    #[must_use]
    pub fn new(bounds: Bounds) -> Arc<Self> {
        let connections = Self {
            max: AtomicUsize::default(),
            max_per_device: AtomicUsize::default(),
            unfinished: Unfinished::new(&bounds),
            open: Mutex::default(),
        };
        connections.set_bounds(&bounds);
        Arc::new(connections)
    }

    /// Changes the limits. Open connections stay open.
    pub fn set_bounds(&self, bounds: &Bounds) {
        self.max.store(bounds.connections, Ordering::Relaxed);
        let per_device = bounds.per_device.unwrap_or(usize::MAX);
        self.max_per_device.store(per_device, Ordering::Relaxed);
        self.unfinished.set_bounds(bounds);
    }

    /// Changes the largest number of connections.
    pub(crate) fn set_max(&self, max: usize) {
        self.max.store(max, Ordering::Relaxed);
    }

    /// Returns how many more connections may be open.
    pub(crate) fn free(&self) -> usize {
        let max = self.max.load(Ordering::Relaxed);
        max.saturating_sub(self.open().taken)
    }

    /// Admits a connection. `name` returns the name of the device for the number of the connection. `origin` is `None`
    /// for a serial line or standard input, which no limit applies to.
    pub(crate) fn admit(
        self: &Arc<Self>,
        name: impl Fn(u64) -> Arc<str>,
        origin: Option<Origin>,
    ) -> Result<Admitted, RefusedReason> {
        let mut open = self.open();
        let conn = open.accepted + 1;
        let device = name(conn);
        if let Some(origin) = &origin {
            let count = open.devices.count_of_name(&device);
            if self.max_per_device.load(Ordering::Relaxed) <= count {
                return Err(RefusedReason::DeviceFull);
            }
            if self.max.load(Ordering::Relaxed) <= open.taken {
                self.make_room(&mut open, origin, &device)?;
            }
        }
        open.accepted = conn;
        open.taken += 1;
        let of_device = origin.map(|origin| open.devices.enter(origin, &device));
        let stopping = open.stopping;
        let entry = open.entries.vacant_entry();
        let slot = Arc::new(Slot::new(entry.key()));
        if stopping {
            slot.request_close(CloseReason::Shutdown);
        }
        entry.insert(Entry {
            slot: Arc::clone(&slot),
            device: of_device,
        });
        let connections = Arc::clone(self);
        Ok(Admitted {
            conn,
            device,
            permit: ConnectionPermit { slot, connections },
        })
    }

    /// Evicts a connection to make room for one of this device.
    fn make_room(
        &self,
        open: &mut Open,
        origin: &Origin,
        device: &Arc<str>,
    ) -> Result<(), RefusedReason> {
        let places = self.max.load(Ordering::Relaxed);
        let closing_max = (places / CLOSING_PART).max(CLOSING_MIN);
        if closing_max <= open.closing {
            return Err(RefusedReason::ConnectionsFull);
        }
        let mut targets = open.devices.targets(origin, device);
        let victim = targets.find_map(|(target, surplus)| open.victim(target, surplus == 1));
        let victim = victim.ok_or(RefusedReason::ConnectionsFull)?;
        if let Some(slot) = open.remove(victim) {
            open.closing += 1;
            open.evicted += 1;
            slot.request_close(CloseReason::Evicted);
            if open.evicted.is_power_of_two() {
                warn!(
                    evicted = open.evicted,
                    "connection limit reached: evicting the longest-silent connection of the origin and device with the most connections"
                );
            }
        }
        Ok(())
    }

    /// Requests every connection to read the data that has already arrived, and then to close.
    pub(crate) fn stop(&self) {
        let mut open = self.open();
        open.stopping = true;
        for (_, entry) in &open.entries {
            entry.slot.request_close(CloseReason::Shutdown);
        }
    }

    /// Has every connection check again whether its peer may stay connected, after the rules have changed.
    pub fn recheck(&self) {
        for (_, entry) in &self.open().entries {
            entry.slot.request_recheck();
        }
    }

    /// Returns the memory of unfinished messages, in bytes.
    #[must_use]
    pub fn unfinished_bytes(&self) -> u64 {
        self.unfinished.total()
    }

    /// Returns the limit on the memory of unfinished messages, in bytes.
    #[must_use]
    pub fn unfinished_limit(&self) -> u64 {
        self.unfinished.limit()
    }

    /// Returns the number of connections that are not read now because unfinished messages hold too much memory.
    #[must_use]
    pub fn paused(&self) -> u64 {
        self.unfinished.paused()
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    /// Finds the longest-silent connection of a target. With `settled`, only one that is silent for at least
    /// [`SETTLED`].
    fn victim(&mut self, target: Target, settled: bool) -> Option<usize> {
        let now = Moment::now();
        for has_searched in [false, true] {
            while let Some((heard, key)) = self.victims.found.pop() {
                if !self.is_victim(key, heard, target) {
                    continue;
                }
                if settled && !slot::is_silent(heard, now, SETTLED) {
                    // A candidate can only become less silent: none can be found before `until`.
                    let until = heard.saturating_add(nanos(SETTLED));
                    self.victims.none_until = Some((target, until));
                    self.victims.found.push((heard, key));
                    return None;
                }
                return Some(key);
            }
            let is_none = |(none, until)| none == target && now.nanos() < until;
            if has_searched || (settled && self.victims.none_until.is_some_and(is_none)) {
                return None;
            }
            self.find_victims(target);
        }
        None
    }

    /// Whether a candidate is still in the target and was silent since it was found.
    fn is_victim(&self, key: usize, heard: u64, target: Target) -> bool {
        let entry = self.entries.get(key);
        entry.is_some_and(|entry| entry.slot.heard() == heard && self.is_of(entry, target))
    }

    fn is_of(&self, entry: &Entry, target: Target) -> bool {
        let device = entry.device;
        device.is_some_and(|device| self.devices.is_of(device, target))
    }

    /// Collects the longest-silent connections of a target. Those that stay silent remain the longest-silent ones, so
    /// that the next admissions need no further pass.
    fn find_victims(&mut self, target: Target) {
        let entries = self.entries.iter();
        let mut found: Vec<_> = entries
            .filter(|(_, entry)| self.is_of(entry, target))
            .map(|(key, entry)| (entry.slot.heard(), key))
            .collect();
        if VICTIMS < found.len() {
            found.select_nth_unstable(VICTIMS);
            found.truncate(VICTIMS);
        }
        // The longest-silent one is last.
        found.sort_unstable_by(|one, other| other.cmp(one));
        self.victims.found = found;
    }

    /// Removes a connection from the table. Returns `None` if it was evicted before.
    fn remove(&mut self, key: usize) -> Option<Arc<Slot>> {
        let entry = self.entries.try_remove(key)?;
        self.taken -= 1;
        if let Some(device) = entry.device {
            self.devices.leave(device);
        }
        Some(entry.slot)
    }

    /// Whether the connection of this slot still holds its permit.
    fn has(&self, slot: &Arc<Slot>) -> bool {
        let entry = self.entries.get(slot.key());
        entry.is_some_and(|entry| Arc::ptr_eq(&entry.slot, slot))
    }
}

/// Candidates for the next evictions.
#[derive(Debug, Default)]
struct Victims {
    /// When each was last heard, and its key. The longest-silent one is last. Each is compared with the target again
    /// before it is evicted: a target changes with every eviction, but most candidates remain in it.
    found: Vec<(u64, usize)>,
    /// No connection of this target is silent for [`SETTLED`] before this time.
    none_until: Option<(Target, u64)>,
}

/// Permission to have a connection open. Dropping it closes the entry in [`Connections`].
#[derive(Debug)]
pub struct ConnectionPermit {
    slot: Arc<Slot>,
    connections: Arc<Connections>,
}

impl ConnectionPermit {
    /// Records that bytes arrived.
    pub(crate) fn heard(&self) -> Moment {
        let now = Moment::now();
        self.slot.hear(now);
        now
    }

    /// Counts the connection as one of this device from now on, unless the device has its largest number of connections and
    /// `replaces` says that no other of them closes. Returns whether it did.
    pub(crate) fn rename(&self, device: &Arc<str>, replaces: bool) -> bool {
        let mut open = self.connections.open();
        let max = self.connections.max_per_device.load(Ordering::Relaxed);
        let Open {
            entries, devices, ..
        } = &mut *open;
        let entry = entries.get_mut(self.slot.key());
        let entry = entry.filter(|entry| Arc::ptr_eq(&entry.slot, &self.slot));
        // A serial line has no limit, and an evicted connection closes.
        let Some(Entry {
            device: Some(former),
            ..
        }) = entry
        else {
            return true;
        };
        if max <= devices.count_of_name(device) && !replaces {
            return false;
        }
        *former = devices.rename(*former, device);
        true
    }

    /// Records that the connection waits for a buffer or a queue. This counts neither as silence nor as a stalled
    /// message.
    pub(crate) fn blocked(&self) {
        self.slot.block();
    }

    /// Returns why the connection must close, if that was requested.
    pub(crate) fn close_request(&self) -> Option<CloseReason> {
        self.slot.close_request()
    }

    /// Returns why the connection must close, if that was requested. Otherwise wakes the task of `context` when it is.
    pub(crate) fn poll_close_request(&self, context: &Context<'_>) -> Option<CloseReason> {
        self.slot.poll_close_request(context)
    }

    /// Has the connection check again whether its peer may stay connected.
    pub(crate) fn request_recheck(&self) {
        self.slot.request_recheck();
    }

    /// Returns whether the connection must check again that its peer may stay connected. Later calls return `false`.
    pub(crate) fn takes_recheck(&self) -> bool {
        self.slot.takes_recheck()
    }

    /// Waits until the connection is requested to close.
    pub(crate) async fn until_close_request(&self) -> CloseReason {
        poll_fn(|context| match self.slot.poll_close_request(context) {
            Some(reason) => Poll::Ready(reason),
            None => Poll::Pending,
        })
        .await
    }

    /// Sets the memory of the unfinished message of this connection, in bytes.
    pub(crate) fn charge(&self, bytes: usize) {
        let connections = &self.connections;
        if connections.unfinished.charge(&self.slot, bytes as u64) {
            let scheduler = &mut connections.open().scheduler;
            scheduler.give_up_turn(&self.slot);
            scheduler.notify_first();
        }
    }

    /// Returns how many bytes may be read now, or `None` if the connection must wait because unfinished messages hold
    /// too much memory. `want` is the number of bytes that can be read without beginning another message.
    pub(crate) fn allowance(&self, want: usize) -> Option<usize> {
        self.request(want, None).ok()
    }

    /// As [`allowance`](Self::allowance). With a ticket, a connection that must wait enters the queue and gets its
    /// rank.
    fn request(&self, want: usize, ticket: Option<u64>) -> Result<usize, Option<Rank>> {
        let Connections {
            unfinished, open, ..
        } = &*self.connections;
        if !unfinished.is_under_pressure(self.slot.held()) {
            return Ok(usize::MAX);
        }
        let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
        let Open {
            entries,
            scheduler,
            devices,
            ..
        } = &mut *open;
        match scheduler.allowance(unfinished, &self.slot, want, ticket, entries, devices) {
            Allowance::Bytes(bytes) => Ok(bytes),
            Allowance::Wait(held) => {
                Err(ticket.map(|ticket| scheduler.wait(&self.slot, held, ticket)))
            }
        }
    }

    /// Waits until the connection may be read, or must close.
    pub(crate) async fn until_allowed(&self) {
        let waiting = Queued::new(self);
        while let Err(rank) = self.request(0, Some(waiting.ticket)) {
            let connections = &self.connections;
            let _position = rank.map(|rank| QueuePosition { connections, rank });
            let notified = poll_fn(|context| self.slot.poll_notified(context));
            // Check again after the interval in any case: turns may end without a notification.
            let _ = tokio::time::timeout(RECHECK_INTERVAL, notified).await;
            if self.close_request().is_some() {
                return;
            }
        }
    }
}

/// A connection that is paused while this exists.
struct Queued<'a> {
    permit: &'a ConnectionPermit,
    /// Its number in the order in which connections began to wait.
    ticket: u64,
}

impl<'a> Queued<'a> {
    fn new(permit: &'a ConnectionPermit) -> Self {
        permit.slot.pause();
        permit.connections.unfinished.count_paused(true);
        let ticket = permit.connections.open().scheduler.next_ticket();
        Self { permit, ticket }
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        let connections = &self.permit.connections;
        connections.unfinished.count_paused(false);
        // There may be room for the next one too.
        connections.open().scheduler.notify_first();
    }
}

/// A position in the queue of paused connections, given up when dropped.
struct QueuePosition<'a> {
    connections: &'a Connections,
    rank: Rank,
}

impl Drop for QueuePosition<'_> {
    fn drop(&mut self) {
        self.connections.open().scheduler.leave(self.rank);
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.charge(0);
        let mut open = self.connections.open();
        if open.has(&self.slot) {
            open.remove(self.slot.key());
        } else {
            open.closing -= 1;
        }
    }
}

#[cfg(test)]
mod tests;
