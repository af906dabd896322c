//! Limits the space that events without payload take in a recording. Start with [`Budget`].
//!
//! An open, a close, a fault, the end of a series and an empty message take up to 350 bytes of the recording each, for
//! a few bytes on the wire or none. Without a limit, an attacker could push the data of devices out of a recording with
//! retention. Therefore:
//!
//! - Payload pays. Each byte of payload earns its connection a credit of 16 bytes of the recording. The first 512 bytes
//!   of credit pay for the open and the close, and give back the tokens that these took. A device that sends data is
//!   recorded event by event.
//! - Other events take tokens, from a bucket of their origin and from one of all origins. A token is a byte of the
//!   recording.
//! - Events without credit and without tokens are held, and written as counts: a [`Suppressed`]. The counts are
//!   complete.
//!
//! Messages with at least one byte of payload are always recorded, even if their connection has no budget left.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use blocksd_engine::event::{ConnectionInfo, Event, Peer, Suppressed};
use blocksd_engine::limit::{Cell, Limiter, Rate};
use blocksd_engine::origin::Origin;
use blocksd_engine::reason::FaultKind;

/// Tokens for the events without payload of one origin: 64 events, and one every 2 seconds.
pub const EACH: Rate = Rate {
    burst: 64 * EVENT_COST,
    interval: Duration::from_nanos(2_000_000_000 / EVENT_COST as u64),
};
/// Tokens for the events of all origins together: 512 events, and two per second.
pub const ALL: Rate = Rate {
    burst: 512 * EVENT_COST,
    interval: Duration::from_nanos(500_000_000 / EVENT_COST as u64),
};
/// How long counts are collected before they are written.
pub const SUMS_AFTER: Duration = Duration::from_secs(5);

/// Credit for a byte of payload, in bytes of the recording.
const BYTE_CREDIT: u64 = 16;
/// Cost of an event, in bytes of the recording.
const EVENT_COST: u32 = 256;
/// Cost of the end of a series.
const END_COST: u32 = 192;
/// Cost of an empty message.
const EMPTY_COST: u32 = 48;
/// Cost of the open of a connection and its close together.
const OPEN_COST: u32 = 2 * EVENT_COST;
/// Maximum credit that a connection keeps from batch to batch: 256 events.
const CREDIT_MAX: u32 = 256 * EVENT_COST;
/// A run of up to this many empty messages takes less space as messages than as an event.
const SHORT_RUN: usize = 4;

/// The budget of a recording.
#[derive(Debug)]
pub struct Budget {
    limiter: Limiter,
    /// Counts of connections whose open was never recorded.
    total: Option<Total>,
    due: Option<Instant>,
}

/// Sums of more than one connection.
#[derive(Debug)]
struct Total {
    sums: Suppressed,
    /// The device, if all are of one.
    device: Option<Arc<str>>,
}

/// The budget of one connection.
#[derive(Debug, Default)]
pub struct Account {
    cell: Cell,
    /// Tokens that its open took and that payload has not given back yet.
    owed: u32,
    credit: u32,
    held: Option<Box<Held>>,
}

/// Events of a connection that are not recorded yet.
#[derive(Debug)]
pub struct Held {
    /// The connection.
    pub source: Arc<ConnectionInfo>,
    /// Its open.
    pub opened: Option<(Peer, SystemTime)>,
    /// The counts of its other events. The empty messages follow each other in the connection, and `seq` is the number
    /// of the first.
    pub sums: Suppressed,
    /// The times of the empty messages, while these are few.
    empty_times: Vec<SystemTime>,
}

/// An event without payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// An empty message, with its number in the connection.
    Empty(u64),
    /// The end of a series.
    End,
    /// A fault.
    Fault(FaultKind),
    /// Bytes after the end mark that closes the connection.
    AfterEnd,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            limiter: Limiter::new(EACH, ALL),
            total: None,
            due: None,
        }
    }
}

impl Budget {
    /// The account of a connection that was opened. Its open is recorded unless it is [held](Account::is_open_held).
    pub fn open(&mut self, event: &Event, peer: &Peer, now: Instant) -> Account {
        let cell = self.limiter.cell(&Origin::of_peer(peer));
        let mut account = Account {
            cell,
            ..Account::default()
        };
        if self.limiter.take(cell, OPEN_COST, now) {
            account.owed = OPEN_COST;
        } else {
            account.held(event).opened = Some((peer.clone(), event.time));
            self.hold(now);
        }
        account
    }

    /// Adds received bytes of payload, which first give back the tokens of the open, and then earn credit.
    pub fn earn(&mut self, account: &mut Account, bytes: u64) {
        let earned = bytes.saturating_mul(BYTE_CREDIT);
        let earned = u32::try_from(earned).unwrap_or(u32::MAX);
        let back = earned.min(account.owed);
        if back != 0 {
            account.owed -= back;
            self.limiter.give_back(account.cell, back);
        }
        account.credit = account.credit.saturating_add(earned - back);
    }

    /// Pays for the open of a connection, with credit and then with tokens. Returns whether it can be recorded now.
    pub fn pay_open(&mut self, account: &mut Account, now: impl FnOnce() -> Instant) -> bool {
        let missing = OPEN_COST.saturating_sub(account.credit);
        if missing != 0 && !self.limiter.take(account.cell, missing, now()) {
            return false;
        }
        account.credit -= OPEN_COST - missing;
        account.owed = missing;
        true
    }

    /// Pays for an event without payload. Returns whether it is recorded now; otherwise it is held.
    pub fn admit(
        &mut self,
        account: &mut Account,
        event: &Event,
        evidence: Evidence,
        now: impl FnOnce() -> Instant,
    ) -> bool {
        let cost = match evidence {
            Evidence::Empty(_) => EMPTY_COST,
            Evidence::End => END_COST,
            Evidence::Fault(_) | Evidence::AfterEnd => EVENT_COST,
        };
        let is_empty = matches!(evidence, Evidence::Empty(_));
        let keeps_order = !is_empty || !account.has_empties();
        if cost <= account.credit && keeps_order && !account.is_open_held() {
            account.credit -= cost;
            return true;
        }
        let now = now();
        // Empty messages are paid for together, after the batch. While events are held, tokens are kept for their
        // counts.
        let is_tried = !is_empty && account.held.is_none();
        if is_tried && self.limiter.take(account.cell, cost, now) {
            return true;
        }
        account.held(event).add(evidence, event.time);
        self.hold(now);
        false
    }

    /// Pays for an event that need not be recorded. Returns whether it is.
    pub fn pay_event(&mut self, account: &mut Account, now: impl FnOnce() -> Instant) -> bool {
        if account.is_held() {
            return false;
        }
        if END_COST <= account.credit {
            account.credit -= END_COST;
            return true;
        }
        self.limiter.take(account.cell, END_COST, now())
    }

    /// Takes the tokens that the held events of a connection need, if there are enough.
    pub fn pay(&mut self, account: &mut Account, now: Instant) -> bool {
        let Some(held) = &account.held else {
            return false;
        };
        let open = u32::from(held.opened.is_some()) * OPEN_COST;
        let sums = u32::from(!held.sums.is_empty()) * EVENT_COST;
        self.limiter.take(account.cell, open + sums, now)
    }

    /// Adds the held events of a connection that is not recorded.
    pub fn total(&mut self, held: &Held, now: Instant) {
        let device = &held.source.device;
        let total = self.total.get_or_insert_with(|| Total {
            sums: Suppressed::since(held.since()),
            device: Some(Arc::clone(device)),
        });
        total.sums.since = total.sums.since.min(held.since());
        total.sums.add(&held.sums);
        total.sums.connections += u64::from(held.opened.is_some());
        total.device.take_if(|known| known != device);
        self.hold(now);
    }

    /// The sums of all connections that were not recorded, and their device if it is the same.
    pub fn take_total(&mut self) -> Option<(Suppressed, Option<Arc<str>>)> {
        self.total.take().map(|total| (total.sums, total.device))
    }

    /// When to write the held events for which there are tokens.
    #[must_use]
    pub const fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Notes that the held events for which there were tokens were written. `is_left`: some events are still held.
    pub fn settled(&mut self, is_left: bool, now: Instant) {
        self.due = is_left.then(|| now + SUMS_AFTER);
    }

    fn hold(&mut self, now: Instant) {
        self.due.get_or_insert_with(|| now + SUMS_AFTER);
    }
}

impl Account {
    /// Limits the credit after a batch.
    pub fn save(&mut self) {
        self.credit = self.credit.min(CREDIT_MAX);
    }

    /// Whether the open of the connection is not recorded yet.
    #[must_use]
    pub fn is_open_held(&self) -> bool {
        self.held.as_ref().is_some_and(|it| it.opened.is_some())
    }

    /// Whether empty messages are held.
    #[must_use]
    pub fn has_empties(&self) -> bool {
        self.held.as_ref().is_some_and(|it| it.sums.empty != 0)
    }

    /// Whether events are held.
    #[must_use]
    pub const fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// The device, if events are held.
    #[must_use]
    pub fn device(&self) -> Option<Arc<str>> {
        let held = self.held.as_ref()?;
        Some(Arc::clone(&held.source.device))
    }

    /// Takes the held events.
    pub fn take(&mut self) -> Option<Box<Held>> {
        self.held.take()
    }

    /// Puts back the rest of the held events.
    pub fn put_back(&mut self, held: Box<Held>) {
        let is_left = held.opened.is_some() || !held.sums.is_empty();
        self.held = is_left.then_some(held);
    }

    fn held(&mut self, event: &Event) -> &mut Held {
        self.held.get_or_insert_with(|| {
            Box::new(Held {
                source: Arc::clone(&event.source),
                opened: None,
                sums: Suppressed::since(event.time),
                empty_times: Vec::new(),
            })
        })
    }
}

impl Held {
    /// Takes the empty messages out of the counts if they take less space one by one; returns the number of the first, and
    /// their times.
    pub fn take_short_run(&mut self) -> Option<(u64, Vec<SystemTime>)> {
        let run = std::mem::take(&mut self.empty_times);
        if run.len() as u64 != self.sums.empty {
            return None;
        }
        self.sums.empty = 0;
        Some((self.sums.seq.take()?, run))
    }

    fn since(&self) -> SystemTime {
        let opened = self.opened.as_ref().map(|(_, time)| *time);
        opened.map_or(self.sums.since, |time| time.min(self.sums.since))
    }

    fn add(&mut self, evidence: Evidence, time: SystemTime) {
        if self.sums.is_empty() {
            self.sums.since = time;
        }
        match evidence {
            Evidence::Empty(seq) => {
                self.sums.empty += 1;
                self.sums.seq.get_or_insert(seq);
                if self.empty_times.len() < SHORT_RUN {
                    self.empty_times.push(time);
                }
            }
            Evidence::End => self.sums.ends += 1,
            Evidence::Fault(kind) => self.sums.fault(kind),
            Evidence::AfterEnd => self.sums.after_end += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use blocksd_engine::event::Encoding;
    use blocksd_engine::event::EventKind;
    use framing_core::{AnyFraming, Lines};

    /// Opens a connection from this address that sends `bytes` of payload; returns whether its open is recorded.
    fn is_recorded(budget: &mut Budget, host: u8, bytes: u64, now: Instant) -> bool {
        let peer = Peer::Network(([10, 0, 0, host], 9).into());
        let opened = Event {
            source: Arc::new(ConnectionInfo {
                conn: 1,
                device: "device".into(),
                framing: AnyFraming::Lines(Lines),
                encoding: Encoding::default(),
                first_seq: 0,
                session: None,
                certificate: None,
                stats: None,
            }),
            time: SystemTime::now(),
            kind: EventKind::Opened { peer: peer.clone() },
        };
        let mut account = budget.open(&opened, &peer, now);
        budget.earn(&mut account, bytes);
        !account.is_open_held() || budget.pay_open(&mut account, || now)
    }

    #[test]
    fn devices_that_reconnect_for_each_line_are_recorded_event_by_event() {
        let mut budget = Budget::default();
        let begin = Instant::now();
        // Three devices that send a line of 30 bytes each second, for a day.
        for second in 0..86_400 {
            let now = begin + Duration::from_secs(second);
            for host in 0..3 {
                assert!(is_recorded(&mut budget, host, 30, now), "{second}");
            }
        }
    }

    #[test]
    fn tokens_come_back_in_proportion_to_payload() {
        for (bytes, opens) in [(0, 32), (1, 33), (16, 63), (30, 500)] {
            let mut budget = Budget::default();
            let now = Instant::now();
            let recorded = (0..2_000).filter(|_| is_recorded(&mut budget, 1, bytes, now));
            let recorded = recorded.count();
            assert!(
                (opens..=opens + 12).contains(&recorded),
                "{bytes}: {recorded}"
            );
        }
        let mut budget = Budget::default();
        let now = Instant::now();
        assert!((0..2_000).all(|_| is_recorded(&mut budget, 1, 32, now)));
    }
}
