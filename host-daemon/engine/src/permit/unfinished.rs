//! The memory limit of unfinished messages: [`Unfinished`] counts what connections keep between reads, and a
//! [`ReadScheduler`] decides which of them may be read when memory is short.
//!
//! - Up to half of the limit, every connection is read.
//! - Above it, an origin and each of its devices may hold their fair share. Some connections have a turn until their
//!   message is complete. All others may only keep a small guaranteed amount.
//! - Paused connections wait in a queue, and TCP backpressure stops their devices. The origin that holds least resumes
//!   first.
//! - A message that stalls while others wait is closed. At the whole limit, the largest message of the origin that
//!   holds most is closed.
//!
//! `docs/limits.md` has the figures.

mod sums;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use slab::Slab;
use tracing::warn;

use self::sums::Sums;
use crate::moment::Moment;
use crate::permit::devices::Devices;
use crate::permit::slot::{Slot, is_silent};
use crate::permit::{Bounds, Entry, SETTLED};
use crate::pool::BUFFER_LEN;
use crate::reason::CloseReason;

/// Shortest time between two scans of all connections.
const SCAN_INTERVAL: Duration = Duration::from_millis(10);
/// Shortest duration of a turn, and the silence after which it ends.
const TURN: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(1));
/// Lowest rate of a connection, in bytes per second, for a turn to last longer while others wait.
const TURN_RATE: u64 = 8 << 10;
/// Largest growth of the memory of a long message in one step, in bytes.
pub(crate) const GROWTH_MAX: usize = 8 << 20;
/// Memory that a message may have beyond the limit on its length, and the smallest read into a long message, in bytes.
pub(crate) const SPARE: usize = 64 << 10;
/// How long a paused connection waits before it checks again without a notification.
pub(super) const RECHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Lower bound on the guaranteed memory of each connection, in bytes.
const GUARANTEED_MIN: u64 = 256;

/// Memory of the unfinished messages of all connections: the part that is readable without a lock.
#[derive(Debug, Default)]
pub(super) struct Unfinished {
    limit: AtomicU64,
    /// Length of the longest message, and the bytes that may be read beyond it.
    longest: AtomicU64,
    /// Memory that every connection may always keep: an eighth of the limit, divided by the connection limit.
    guaranteed: AtomicU64,
    /// Number of turns: as many as the longest messages that fit into a quarter of the limit.
    turns: AtomicUsize,
    total: AtomicU64,
    paused: AtomicU64,
}

impl Unfinished {
    pub(super) fn new(bounds: &Bounds) -> Self {
        let unfinished = Self::default();
        unfinished.set_bounds(bounds);
        unfinished
    }

    pub(super) fn set_bounds(&self, bounds: &Bounds) {
        let limit = bounds.unfinished;
        let longest = bounds.longest.saturating_add(SPARE as u64);
        let guaranteed = limit / 8 / (bounds.connections.max(1) as u64);
        let turns = limit / 4 / bounds.longest.max(1);
        let turns = usize::try_from(turns).unwrap_or(usize::MAX);
        self.limit.store(limit, Ordering::Relaxed);
        self.longest.store(longest, Ordering::Relaxed);
        self.guaranteed
            .store(guaranteed.max(GUARANTEED_MIN), Ordering::Relaxed);
        self.turns.store(turns.max(1), Ordering::Relaxed);
    }

    pub(super) fn limit(&self) -> u64 {
        self.limit.load(Ordering::Relaxed)
    }

    fn guaranteed(&self) -> u64 {
        self.guaranteed.load(Ordering::Relaxed)
    }

    pub(super) fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    pub(super) fn paused(&self) -> u64 {
        self.paused.load(Ordering::Relaxed)
    }

    /// Whether more than half of the limit would be held after the next read of a connection that holds `held` bytes.
    pub(super) fn is_under_pressure(&self, held: u64) -> bool {
        self.limit() / 2 < self.total() + self.growth(held)
    }

    /// Largest growth in memory at the next read of a connection that holds `held` bytes.
    fn growth(&self, held: u64) -> u64 {
        let step = held.clamp(BUFFER_LEN as u64, GROWTH_MAX as u64);
        step.min(
            self.longest
                .load(Ordering::Relaxed)
                .saturating_sub(held)
                .max(SPARE as u64),
        )
    }

    /// Sets the memory that a connection holds. Returns whether other connections must be notified.
    pub(super) fn charge(&self, slot: &Slot, bytes: u64) -> bool {
        let before = slot.held();
        if before == bytes {
            // A message that was received in one read ends its turn, too.
            return bytes == 0 && slot.has_turn();
        }
        slot.set_held(bytes);
        if before < bytes {
            self.total.fetch_add(bytes - before, Ordering::Relaxed);
            return false;
        }
        self.total.fetch_sub(before - bytes, Ordering::Relaxed);
        self.paused() != 0 || slot.has_turn()
    }

    /// Counts a connection as paused, or as no longer paused.
    pub(super) fn count_paused(&self, waits: bool) {
        if waits {
            self.paused.fetch_add(1, Ordering::Relaxed);
        } else {
            self.paused.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// How much a connection may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Allowance {
    /// Read at most this many bytes.
    Bytes(usize),
    /// Do not read now. Carries the holdings of its origin and device: the connection with the lowest resumes first.
    Wait(Holdings),
}

/// Bytes that the origin of a connection holds, and bytes that its device holds.
pub(super) type Holdings = (u64, u64);

/// The position of a connection in the queue: ordered by holdings, then by ticket.
pub(super) type Rank = (Holdings, u64);

/// Decides which connections may be read while more than half of the limit is held.
#[derive(Debug, Default)]
pub(super) struct ReadScheduler {
    last_scan: Option<Moment>,
    sums: Sums,
    turns: Vec<Turn>,
    waiting: BTreeMap<Rank, Arc<Slot>>,
    tickets: u64,
    closed: u64,
}

/// A connection that may be read although others wait.
#[derive(Debug)]
struct Turn {
    slot: Arc<Slot>,
    since: Moment,
    /// Bytes that the connection held when its turn began.
    held: u64,
}

impl Turn {
    /// Whether the turn may go to another connection.
    fn is_over(&self, now: Moment) -> bool {
        if self.slot.is_blocked() {
            // Any other connection would be blocked as well.
            return false;
        }
        if is_silent(self.slot.heard(), now, TURN.1) {
            return true;
        }
        let seconds = now.seconds_since(self.since);
        let gained = self.slot.held().saturating_sub(self.held);
        TURN.0.as_secs() <= seconds && gained < TURN_RATE * seconds
    }
}

impl ReadScheduler {
    /// Decides how much a connection may read while more than half of the limit is held. `ticket` is its number in the
    /// queue, if it is paused.
    pub(super) fn allowance(
        &mut self,
        unfinished: &Unfinished,
        slot: &Arc<Slot>,
        want: usize,
        ticket: Option<u64>,
        entries: &Slab<Entry>,
        devices: &Devices,
    ) -> Allowance {
        let now = Moment::now();
        let held = slot.held();
        let growth = unfinished.growth(held);
        let last_scan = self.last_scan;
        if last_scan.is_none_or(|last| last.is_past(SCAN_INTERVAL, now)) {
            self.last_scan = Some(now);
            self.make_room(unfinished, growth, entries, devices, now);
        }
        let left = unfinished.limit().saturating_sub(unfinished.total());
        let device = entries.get(slot.key()).and_then(|entry| entry.device);
        let guaranteed = unfinished.guaranteed();
        let (own, fair_share) =
            self.sums
                .fair_share(device, held, unfinished.limit() / 2, guaranteed);
        let rank = (own, ticket.unwrap_or(u64::MAX));
        // Reserve a quarter for the connections with a turn, and an eighth for the guaranteed memory of each
        // connection.
        let is_within_share = own.0 + growth <= fair_share.0
            && own.1 + growth <= fair_share.1
            && growth + unfinished.limit() / 8 * 3 <= left;
        let guaranteed = guaranteed.saturating_sub(held).min(left);
        if is_within_share {
            Allowance::Bytes(BUFFER_LEN)
        } else if guaranteed != 0 {
            Allowance::Bytes(usize::try_from(guaranteed).unwrap_or(usize::MAX))
        } else if self.take_turn(unfinished, slot, rank, now) && growth <= left {
            // Not beyond the message: the surplus would become another unfinished message.
            Allowance::Bytes(want.min(BUFFER_LEN))
        } else {
            Allowance::Wait(own)
        }
    }

    /// Gives a turn to a connection, if one is free. Returns whether it has one.
    fn take_turn(
        &mut self,
        unfinished: &Unfinished,
        slot: &Arc<Slot>,
        rank: Rank,
        now: Moment,
    ) -> bool {
        let first = self.waiting.first_key_value();
        let first = first.map(|(rank, first)| (*rank, Arc::clone(first)));
        let position = |turn: &Turn| Arc::ptr_eq(&turn.slot, slot);
        match self.turns.iter().position(position) {
            Some(at) if first.is_some() && self.turns[at].is_over(now) => {
                self.give_up_turn(slot);
            }
            Some(_) => return true,
            None => {}
        }
        for turn in self.turns.extract_if(.., |turn| turn.is_over(now)) {
            turn.slot.set_turn(false);
        }
        if unfinished.turns.load(Ordering::Relaxed) <= self.turns.len() {
            return false;
        }
        if let Some((of_first, first)) = first
            && of_first < rank
        {
            first.notify();
            return false;
        }
        slot.set_turn(true);
        self.turns.push(Turn {
            slot: Arc::clone(slot),
            since: now,
            held: slot.held(),
        });
        true
    }

    /// Ends the turn of a connection, because its message is complete or it has closed.
    pub(super) fn give_up_turn(&mut self, slot: &Arc<Slot>) {
        slot.set_turn(false);
        self.turns.retain(|turn| !Arc::ptr_eq(&turn.slot, slot));
    }

    /// Returns the next ticket.
    pub(super) const fn next_ticket(&mut self) -> u64 {
        self.tickets += 1;
        self.tickets
    }

    /// Adds a connection to the queue. Returns its position.
    pub(super) fn wait(&mut self, slot: &Arc<Slot>, held: Holdings, ticket: u64) -> Rank {
        let rank = (held, ticket);
        self.waiting.insert(rank, Arc::clone(slot));
        rank
    }

    /// Removes a connection from the queue.
    pub(super) fn leave(&mut self, rank: Rank) {
        self.waiting.remove(&rank);
    }

    /// Notifies the first connection of the queue to check again.
    pub(super) fn notify_first(&self) {
        if let Some((_, slot)) = self.waiting.first_key_value() {
            slot.notify();
        }
    }

    /// Sums up the holdings of each origin and device, and closes a connection if that is needed for one that grows by
    /// `growth`.
    fn make_room(
        &mut self,
        unfinished: &Unfinished,
        growth: u64,
        entries: &Slab<Entry>,
        devices: &Devices,
        now: Moment,
    ) {
        let mut stalled: Option<&Arc<Slot>> = None;
        let mut blocked = 0;
        self.sums.clear();
        // Serial lines are never closed. A message that waits for a queue is complete: closing its connection frees
        // nothing.
        for (_, Entry { slot, device }) in entries {
            let held = slot.held();
            if slot.is_blocked() {
                blocked += held;
            } else if let Some(device) = *device
                && slot.close_request().is_none()
            {
                self.sums.add(device, devices.origin_of(device), held);
                if unfinished.guaranteed() < held
                    && is_silent(slot.heard(), now, SETTLED)
                    && stalled.is_none_or(|other| other.held() < held)
                {
                    stalled = Some(slot);
                }
            }
        }
        self.sums.count_holders(unfinished.guaranteed());
        let turns = self.turns.iter().map(|turn| turn.slot.held());
        // While a connection with a turn can continue, memory becomes free.
        let growth = turns
            .map(|held| unfinished.growth(held))
            .min()
            .unwrap_or(growth);
        let is_over = unfinished.limit() < unfinished.total().saturating_sub(blocked) + growth;
        let victim = match stalled {
            None if is_over => self.largest(entries),
            stalled => stalled,
        };
        let victim = victim.map(Arc::clone);
        let Some(victim) = victim else {
            return;
        };
        victim.request_close(CloseReason::Memory);
        self.closed += 1;
        if self.closed.is_power_of_two() {
            warn!(
                bytes = unfinished.total(),
                limit = unfinished.limit(),
                closed = self.closed,
                "unfinished messages hold too much memory: closing a connection"
            );
        }
    }

    /// Returns the connection with the largest unfinished message, of the device that holds most in the origin that
    /// holds most.
    fn largest<'a>(&self, entries: &'a Slab<Entry>) -> Option<&'a Arc<Slot>> {
        let most = self.sums.most();
        let slots = entries.iter().map(|(_, entry)| entry);
        let slots = slots.filter(|entry| entry.device.is_some() && entry.device == most);
        let slots = slots.map(|entry| &entry.slot);
        slots
            .filter(|slot| !slot.is_blocked() && slot.close_request().is_none())
            .max_by_key(|slot| slot.held())
    }
}
