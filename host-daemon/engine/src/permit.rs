//! Admission: how many connections there may be, of which devices, and which one makes room when all places are taken.
//!
//! [`Connections`] knows every open connection by its slot. It evicts the longest-silent connection of the origin that
//! has most, and there of the device that has most. It bounds the memory of unfinished messages.

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

use self::devices::{Devices, Target};
pub(crate) use self::slot::Slot;
use self::unfinished::{ASK_AGAIN, Allowance, Look, Rank, Unfinished};
pub(crate) use self::unfinished::{GROWTH_MAX, SPARE};
use crate::moment::{Moment, nanos};
use crate::origin::Origin;
use crate::reason::{CloseReason, RefusedReason};

/// How long a connection must be silent before one of an origin, or of a device, with only one connection less may have
/// its place.
/// Without it, a fleet of one-connection devices that is larger than the limit would evict itself in a circle.
pub const SETTLED: Duration = Duration::from_secs(10);

/// Victims found in one pass over all connections.
const VICTIMS: usize = 64;

/// Of how many places one may be a connection that was evicted and has not closed yet; and how many at least.
const LEAVING_PART: usize = 8;
const LEAVING_MIN: usize = 64;

/// The bounds that all connections share.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Connections at once.
    pub connections: usize,
    /// Connections at once of one device; `None` if only eviction limits them.
    pub per_device: Option<usize>,
    /// Bytes of memory for unfinished messages, of all connections.
    pub unfinished: u64,
    /// Bytes of the longest message that is taken; four must fit into the bound.
    pub longest: u64,
}

impl Default for Bounds {
    /// 10,000 connections, and 64 MiB of unfinished messages of up to 1 MiB each.
    fn default() -> Self {
        Self {
            connections: 10_000,
            per_device: None,
            unfinished: 64 << 20,
            longest: 1 << 20,
        }
    }
}

/// The open connections of one daemon.
#[derive(Debug)]
pub struct Connections {
    /// A reload may change them. Those that are open stay open.
    max: AtomicUsize,
    max_per_device: AtomicUsize,
    unfinished: Unfinished,
    open: Mutex<Open>,
}

/// Everything that changes when a connection opens or closes.
#[derive(Debug, Default)]
struct Open {
    /// Places that are taken.
    taken: usize,
    /// Evicted connections that have not closed yet.
    leaving: usize,
    accepted: u64,
    evicted: u64,
    stopping: bool,
    entries: Slab<Entry>,
    devices: Devices,
    victims: Victims,
    look: Look,
}

/// A connection that has a place.
#[derive(Debug)]
struct Entry {
    slot: Arc<Slot>,
    /// `None` for a serial line or standard input, which is never evicted.
    device: Option<u32>,
}

/// A connection was admitted.
#[derive(Debug)]
pub(crate) struct Admitted {
    /// Its number, from 1.
    pub(crate) conn: u64,
    /// Its device.
    pub(crate) device: Arc<str>,
    /// Its place.
    pub(crate) permit: ConnectionPermit,
}

impl Connections {
    /// With no connection yet.
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

    /// Changes the bounds. Open connections stay open.
    pub fn set_bounds(&self, bounds: &Bounds) {
        self.max.store(bounds.connections, Ordering::Relaxed);
        let per_device = bounds.per_device.unwrap_or(usize::MAX);
        self.max_per_device.store(per_device, Ordering::Relaxed);
        self.unfinished.set_bounds(bounds);
    }

    /// Gives a place to a connection of the device that `name` returns for its number. `origin` is `None` for a serial
    /// line or standard input, which always has a place.
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
            slot.order(CloseReason::Shutdown);
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

    /// Evicts a connection for one of this device.
    fn make_room(
        &self,
        open: &mut Open,
        origin: &Origin,
        device: &Arc<str>,
    ) -> Result<(), RefusedReason> {
        let places = self.max.load(Ordering::Relaxed);
        let leaving_max = (places / LEAVING_PART).max(LEAVING_MIN);
        if leaving_max <= open.leaving {
            return Err(RefusedReason::ConnectionsFull);
        }
        let mut targets = open.devices.targets(origin, device);
        let victim = targets.find_map(|(target, surplus)| open.victim(target, surplus == 1));
        let victim = victim.ok_or(RefusedReason::ConnectionsFull)?;
        if let Some(slot) = open.remove(victim) {
            open.leaving += 1;
            open.evicted += 1;
            slot.order(CloseReason::Evicted);
            if open.evicted.is_power_of_two() {
                warn!(
                    evicted = open.evicted,
                    "all places are taken: evicting the longest-silent connection of the origin and device that have most"
                );
            }
        }
        Ok(())
    }

    /// Has every connection read what has arrived, and close.
    pub(crate) fn stop(&self) {
        let mut open = self.open();
        open.stopping = true;
        for (_, entry) in &open.entries {
            entry.slot.order(CloseReason::Shutdown);
        }
    }

    /// Bytes of memory that unfinished messages hold now.
    #[must_use]
    pub fn unfinished_bytes(&self) -> u64 {
        self.unfinished.total()
    }

    /// Bytes of memory that unfinished messages may hold.
    #[must_use]
    pub fn unfinished_limit(&self) -> u64 {
        self.unfinished.limit()
    }

    /// Connections that are not read now, since unfinished messages hold too much.
    #[must_use]
    pub fn paused(&self) -> u64 {
        self.unfinished.paused()
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    /// The longest-silent connection of a target; `settled`: only one that is silent for [`SETTLED`].
    fn victim(&mut self, target: Target, settled: bool) -> Option<usize> {
        let now = Moment::now();
        for has_looked in [false, true] {
            while let Some((heard, key)) = self.victims.found.pop() {
                if !self.is_victim(key, heard, target) {
                    continue;
                }
                if settled && !slot::is_silent(heard, now, SETTLED) {
                    // Silence only gets shorter: until then there is nothing to find.
                    let until = heard.saturating_add(nanos(SETTLED));
                    self.victims.none_until = Some((target, until));
                    self.victims.found.push((heard, key));
                    return None;
                }
                return Some(key);
            }
            let is_none = |(none, until)| none == target && now.nanos() < until;
            if has_looked || (settled && self.victims.none_until.is_some_and(is_none)) {
                return None;
            }
            self.find_victims(target);
        }
        None
    }

    /// Whether what is known of a connection still holds.
    fn is_victim(&self, key: usize, heard: u64, target: Target) -> bool {
        let entry = self.entries.get(key);
        entry.is_some_and(|entry| entry.slot.heard() == heard && self.is_of(entry, target))
    }

    fn is_of(&self, entry: &Entry, target: Target) -> bool {
        let device = entry.device;
        device.is_some_and(|device| self.devices.is_of(device, target))
    }

    /// Finds the longest-silent connections of a target. Those that stay silent stay the longest-silent: the next
    /// newcomers need not look again.
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
        // The longest-silent is the last.
        found.sort_unstable_by(|one, other| other.cmp(one));
        self.victims.found = found;
    }

    /// Takes the place of a connection away. `None` if it has none.
    fn remove(&mut self, key: usize) -> Option<Arc<Slot>> {
        let entry = self.entries.try_remove(key)?;
        self.taken -= 1;
        if let Some(device) = entry.device {
            self.devices.leave(device);
        }
        Some(entry.slot)
    }

    /// Whether the connection of this slot has its place still.
    fn has(&self, slot: &Arc<Slot>) -> bool {
        let entry = self.entries.get(slot.key());
        entry.is_some_and(|entry| Arc::ptr_eq(&entry.slot, slot))
    }
}

/// Connections that may be evicted next.
#[derive(Debug, Default)]
struct Victims {
    /// When each was heard last, and its key; the longest-silent is the last. Each is checked against the target once
    /// more: of a target that changes by one connection with every eviction, most are still there.
    found: Vec<(u64, usize)>,
    /// Until then no connection of this target is silent for [`SETTLED`].
    none_until: Option<(Target, u64)>,
}

/// The place of a connection; free again when dropped.
#[derive(Debug)]
pub struct ConnectionPermit {
    slot: Arc<Slot>,
    connections: Arc<Connections>,
}

impl ConnectionPermit {
    /// Bytes have come.
    pub(crate) fn heard(&self) {
        self.slot.hear();
    }

    /// The connection waits for a buffer, or for a queue: that is neither silence nor an unfinished message.
    pub(crate) fn blocked(&self) {
        self.slot.block();
    }

    /// Why the connection is to close, if somebody has decided that it is.
    pub(crate) fn ordered(&self) -> Option<CloseReason> {
        self.slot.ordered()
    }

    /// The same, and wakes the task of `context` when it is decided.
    pub(crate) fn poll_ordered(&self, context: &Context<'_>) -> Option<CloseReason> {
        self.slot.poll_ordered(context)
    }

    /// Waits until the connection is to close.
    pub(crate) async fn until_ordered(&self) -> CloseReason {
        poll_fn(|context| match self.slot.poll_ordered(context) {
            Some(reason) => Poll::Ready(reason),
            None => Poll::Pending,
        })
        .await
    }

    /// Sets the bytes of memory that the connection's unfinished message takes.
    pub(crate) fn charge(&self, bytes: usize) {
        let connections = &self.connections;
        if connections.unfinished.charge(&self.slot, bytes as u64) {
            let look = &mut connections.open().look;
            look.give_up_turn(&self.slot);
            look.call_first();
        }
    }

    /// How many bytes may be read; `None` if that must wait, since unfinished messages hold too much. `want`: as many
    /// as do not begin another message.
    pub(crate) fn allowance(&self, want: usize) -> Option<usize> {
        self.ask(want, None).ok()
    }

    /// The same. One that has waited before says since when, and waits on; it is given its place.
    fn ask(&self, want: usize, line: Option<u64>) -> Result<usize, Option<Rank>> {
        let Connections {
            unfinished, open, ..
        } = &*self.connections;
        if !unfinished.is_tight(self.slot.held()) {
            return Ok(usize::MAX);
        }
        let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
        let Open {
            entries,
            look,
            devices,
            ..
        } = &mut *open;
        match look.allowance(unfinished, &self.slot, want, line, entries, devices) {
            Allowance::Bytes(bytes) => Ok(bytes),
            Allowance::Wait(held) => Err(line.map(|line| look.wait(&self.slot, held, line))),
        }
    }

    /// Waits until the connection may be read, or is to close.
    pub(crate) async fn until_allowed(&self) {
        let waiting = Queued::new(self);
        while let Err(rank) = self.ask(0, Some(waiting.line)) {
            let connections = &self.connections;
            let _place = rank.map(|rank| QueuePlace { connections, rank });
            let called = poll_fn(|context| self.slot.poll_called(context));
            // It asks again in any case: that a turn is over is not reported to anybody.
            let _ = tokio::time::timeout(ASK_AGAIN, called).await;
            if self.ordered().is_some() {
                return;
            }
        }
    }
}

/// A connection that is not read, counted while this is alive.
struct Queued<'a> {
    permit: &'a ConnectionPermit,
    /// Its number among all that ever waited.
    line: u64,
}

impl<'a> Queued<'a> {
    fn new(permit: &'a ConnectionPermit) -> Self {
        permit.slot.pause();
        permit.connections.unfinished.count_paused(true);
        let line = permit.connections.open().look.line_up();
        Self { permit, line }
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        let connections = &self.permit.connections;
        connections.unfinished.count_paused(false);
        // There may be room for the next one too.
        connections.open().look.call_first();
    }
}

/// A place among those that wait; given up when dropped.
struct QueuePlace<'a> {
    connections: &'a Connections,
    rank: Rank,
}

impl Drop for QueuePlace<'_> {
    fn drop(&mut self) {
        self.connections.open().look.leave(self.rank);
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.charge(0);
        let mut open = self.connections.open();
        if open.has(&self.slot) {
            open.remove(self.slot.key());
        } else {
            open.leaving -= 1;
        }
    }
}

#[cfg(test)]
mod tests;
