//! The memory of unfinished messages: what connections keep between reads, charged exactly, and bounded.
//!
//! Up to half of the bound every connection is read. Above it, an origin and each of its devices may hold their fair share,
//! and some connections have a turn until their message is whole; every other may keep only a little. Paused
//! connections wait, and the origin that holds least resumes first; TCP backpressure holds the devices back. A message that stalls while
//! others wait is closed; at the whole bound, the largest message of the origin that holds most is. `docs/limits.md` has
//! the figures.

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

/// How often all connections are looked at, at most.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How long a turn lasts at least, and how long it may pass without a byte.
const TURN: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(1));
/// Bytes a second that must come for a turn to last longer, where others wait.
const TURN_RATE: u64 = 8 << 10;
/// Bytes by which the memory of a long message grows at once, at most.
pub(crate) const GROWTH_MAX: usize = 8 << 20;
/// Bytes of memory that a message may have beyond the longest message, and fewest that are read into it at once.
pub(crate) const SPARE: usize = 64 << 10;
/// How long a connection waits until it asks again, where nobody wakes it.
pub(super) const ASK_AGAIN: Duration = Duration::from_secs(1);
/// Fewest bytes that a connection may always keep.
const LITTLE_MIN: u64 = 256;

/// How much unfinished messages hold, of all connections: what is known without a lock.
#[derive(Debug, Default)]
pub(super) struct Unfinished {
    limit: AtomicU64,
    /// The longest message, with what is read beyond it.
    longest: AtomicU64,
    /// What every connection may keep, however many there are: an eighth of the bound for all of them.
    little: AtomicU64,
    /// How many connections have a turn: the messages of all of them are a quarter of the bound.
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
        let little = limit / 8 / (bounds.connections.max(1) as u64);
        let turns = limit / 4 / bounds.longest.max(1);
        let turns = usize::try_from(turns).unwrap_or(usize::MAX);
        self.limit.store(limit, Ordering::Relaxed);
        self.longest.store(longest, Ordering::Relaxed);
        self.little.store(little.max(LITTLE_MIN), Ordering::Relaxed);
        self.turns.store(turns.max(1), Ordering::Relaxed);
    }

    pub(super) fn limit(&self) -> u64 {
        self.limit.load(Ordering::Relaxed)
    }

    fn little(&self) -> u64 {
        self.little.load(Ordering::Relaxed)
    }

    pub(super) fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    pub(super) fn paused(&self) -> u64 {
        self.paused.load(Ordering::Relaxed)
    }

    /// Whether more than half of the bound would be held if a connection with `held` bytes read on.
    pub(super) fn is_tight(&self, held: u64) -> bool {
        self.limit() / 2 < self.total() + self.growth(held)
    }

    /// Most bytes by which the memory of a connection with `held` bytes grows at the next read.
    fn growth(&self, held: u64) -> u64 {
        let step = held.clamp(BUFFER_LEN as u64, GROWTH_MAX as u64);
        step.min(
            self.longest
                .load(Ordering::Relaxed)
                .saturating_sub(held)
                .max(SPARE as u64),
        )
    }

    /// Charges a connection for what it holds now. Says whether that is of interest to others.
    pub(super) fn charge(&self, slot: &Slot, bytes: u64) -> bool {
        let before = slot.held();
        if before == bytes {
            // A message that came whole in one read has used its turn, too.
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

    /// Counts one that waits, or no longer does.
    pub(super) fn count_paused(&self, waits: bool) {
        if waits {
            self.paused.fetch_add(1, Ordering::Relaxed);
        } else {
            self.paused.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// What a connection may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Allowance {
    /// Read at most this many bytes.
    Bytes(usize),
    /// Do not read now. Carries the bytes that the origin and the device hold: those that hold least go first.
    Wait(Share),
}

/// Bytes that the origin of a connection holds, and that its device holds.
pub(super) type Share = (u64, u64);

/// The position of a connection among those that wait: by what its origin and its device hold, then by when it came.
pub(super) type Rank = (Share, u64);

/// What is known of the connections while more than half of the bound is held.
#[derive(Debug, Default)]
pub(super) struct Look {
    looked: Option<Moment>,
    sums: Sums,
    turns: Vec<Turn>,
    waiting: BTreeMap<Rank, Arc<Slot>>,
    came: u64,
    closed: u64,
}

/// A connection that is read although others wait.
#[derive(Debug)]
struct Turn {
    slot: Arc<Slot>,
    since: Moment,
    /// What the connection held then.
    held: u64,
}

impl Turn {
    /// Whether another connection may have it.
    fn is_over(&self, now: Moment) -> bool {
        if self.slot.is_blocked() {
            // It would be the same for any other.
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

impl Look {
    /// What a connection may read, when more than half of the bound is held. `line`: its number, if it waits.
    pub(super) fn allowance(
        &mut self,
        unfinished: &Unfinished,
        slot: &Arc<Slot>,
        want: usize,
        line: Option<u64>,
        entries: &Slab<Entry>,
        devices: &Devices,
    ) -> Allowance {
        let now = Moment::now();
        let held = slot.held();
        let growth = unfinished.growth(held);
        let looks = self.looked;
        if looks.is_none_or(|looked| looked.is_past(LOOK_EVERY, now)) {
            self.looked = Some(now);
            self.make_room(unfinished, growth, entries, devices, now);
        }
        let left = unfinished.limit().saturating_sub(unfinished.total());
        let device = entries.get(slot.key()).and_then(|entry| entry.device);
        let little = unfinished.little();
        let (own, share) = self
            .sums
            .share(device, held, unfinished.limit() / 2, little);
        let rank = (own, line.unwrap_or(u64::MAX));
        // A quarter is left to those that have a turn, and an eighth to those that keep a little.
        let has_share = own.0 + growth <= share.0
            && own.1 + growth <= share.1
            && growth + unfinished.limit() / 8 * 3 <= left;
        let little = little.saturating_sub(held).min(left);
        if has_share {
            Allowance::Bytes(BUFFER_LEN)
        } else if little != 0 {
            Allowance::Bytes(usize::try_from(little).unwrap_or(usize::MAX))
        } else if self.take_turn(unfinished, slot, rank, now) && growth <= left {
            // Not beyond the message: what it leaves would be one more unfinished message.
            Allowance::Bytes(want.min(BUFFER_LEN))
        } else {
            Allowance::Wait(own)
        }
    }

    /// Gives a turn to a connection, if there is one for it.
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
            first.call();
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

    /// The message of this connection is whole, or it has closed.
    pub(super) fn give_up_turn(&mut self, slot: &Arc<Slot>) {
        slot.set_turn(false);
        self.turns.retain(|turn| !Arc::ptr_eq(&turn.slot, slot));
    }

    /// The number of one more that waits.
    pub(super) const fn line_up(&mut self) -> u64 {
        self.came += 1;
        self.came
    }

    /// Adds a connection to those that wait, by what its origin and device hold and by its number in line.
    pub(super) fn wait(&mut self, slot: &Arc<Slot>, held: Share, line: u64) -> Rank {
        let rank = (held, line);
        self.waiting.insert(rank, Arc::clone(slot));
        rank
    }

    /// It does not wait any more.
    pub(super) fn leave(&mut self, rank: Rank) {
        self.waiting.remove(&rank);
    }

    /// Has the first of those that wait ask again.
    pub(super) fn call_first(&self) {
        if let Some((_, slot)) = self.waiting.first_key_value() {
            slot.call();
        }
    }

    /// Finds what each origin and each device holds, and closes a connection that stands in the way of one that grows by `growth`.
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
        // A line is never closed; what waits for a queue is whole, and that it is closed would help nobody.
        for (_, Entry { slot, device }) in entries {
            let held = slot.held();
            if slot.is_blocked() {
                blocked += held;
            } else if let Some(device) = *device
                && slot.ordered().is_none()
            {
                self.sums.add(device, devices.origin_of(device), held);
                if unfinished.little() < held
                    && is_silent(slot.heard(), now, SETTLED)
                    && stalled.is_none_or(|other| other.held() < held)
                {
                    stalled = Some(slot);
                }
            }
        }
        self.sums.count_holders(unfinished.little());
        let turns = self.turns.iter().map(|turn| turn.slot.held());
        // As long as one that has a turn can go on, memory comes free.
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
        victim.order(CloseReason::Memory);
        self.closed += 1;
        if self.closed.is_power_of_two() {
            warn!(
                bytes = unfinished.total(),
                limit = unfinished.limit(),
                closed = self.closed,
                "unfinished messages hold too much memory: closing one"
            );
        }
    }

    /// The connection with the largest unfinished message, of the device that holds most in the origin that holds most.
    fn largest<'a>(&self, entries: &'a Slab<Entry>) -> Option<&'a Arc<Slot>> {
        let most = self.sums.most();
        let slots = entries.iter().map(|(_, entry)| entry);
        let slots = slots.filter(|entry| entry.device.is_some() && entry.device == most);
        let slots = slots.map(|entry| &entry.slot);
        slots
            .filter(|slot| !slot.is_blocked() && slot.ordered().is_none())
            .max_by_key(|slot| slot.held())
    }
}
