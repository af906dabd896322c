//! Lock-free state shared by a connection and the admission table: a [`Slot`].

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use atomic_waker::AtomicWaker;

use crate::moment::Moment;
use crate::permit::nanos;
use crate::reason::CloseReason;

/// The connection waits for the daemon's own queue or pool.
const BLOCKED: u64 = u64::MAX;
/// The connection is not read, since unfinished messages hold too much.
const PAUSED: u64 = u64::MAX - 1;

/// The shared part of one connection. Ten thousand of these wait at a time.
#[derive(Debug)]
pub(crate) struct Slot {
    /// When bytes came last, or why none are read.
    heard: AtomicU64,
    /// Bytes of memory that the unfinished message takes. Only the connection writes it.
    held: AtomicU64,
    waker: AtomicWaker,
    key: u32,
    order: AtomicU8,
    /// The connection may be read although unfinished messages hold too much.
    has_turn: AtomicBool,
    /// The connection waits to be read, and is to ask again.
    is_called: AtomicBool,
}

impl Slot {
    /// Of a connection that has just opened.
    pub(super) fn new(key: usize) -> Self {
        Self {
            heard: AtomicU64::new(Moment::now().nanos()),
            held: AtomicU64::new(0),
            waker: AtomicWaker::new(),
            // Descriptors never exceed this.
            key: u32::try_from(key).unwrap_or(u32::MAX),
            order: AtomicU8::new(0),
            has_turn: AtomicBool::new(false),
            is_called: AtomicBool::new(false),
        }
    }

    /// Its key in the table of connections.
    pub(super) const fn key(&self) -> usize {
        self.key as usize
    }

    /// When bytes came last: greater for a shorter silence, and greatest while the daemon itself does not read.
    pub(super) fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }

    pub(super) fn hear(&self) {
        self.heard.store(Moment::now().nanos(), Ordering::Relaxed);
    }

    pub(super) fn block(&self) {
        self.heard.store(BLOCKED, Ordering::Relaxed);
    }

    pub(super) fn pause(&self) {
        self.heard.store(PAUSED, Ordering::Relaxed);
    }

    /// Whether the connection waits for the daemon's own queue or pool.
    pub(super) fn is_blocked(&self) -> bool {
        self.heard() == BLOCKED
    }

    pub(super) fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    pub(super) fn set_held(&self, bytes: u64) {
        self.held.store(bytes, Ordering::Relaxed);
    }

    pub(super) fn has_turn(&self) -> bool {
        self.has_turn.load(Ordering::Relaxed)
    }

    pub(super) fn set_turn(&self, has_turn: bool) {
        self.has_turn.store(has_turn, Ordering::Relaxed);
    }

    /// Has the connection close for this reason, unless there is one already.
    pub(super) fn order(&self, reason: CloseReason) {
        // 0 means that nothing is ordered.
        let order = reason as u8 + 1;
        let ordered = self
            .order
            .compare_exchange(0, order, Ordering::AcqRel, Ordering::Relaxed);
        if ordered.is_ok() {
            self.waker.wake();
        }
    }

    pub(super) fn ordered(&self) -> Option<CloseReason> {
        let order = self.order.load(Ordering::Acquire);
        let index = usize::from(order).checked_sub(1)?;
        CloseReason::ALL.get(index).copied()
    }

    /// Has the connection ask again whether it may be read.
    pub(super) fn call(&self) {
        if !self.is_called.swap(true, Ordering::AcqRel) {
            self.waker.wake();
        }
    }

    /// Waits for that, or for an order to close.
    pub(super) fn poll_called(&self, context: &Context<'_>) -> Poll<()> {
        let is_ordered = self.poll_ordered(context).is_some();
        if self.is_called.swap(false, Ordering::AcqRel) || is_ordered {
            return Poll::Ready(());
        }
        Poll::Pending
    }

    pub(super) fn poll_ordered(&self, context: &Context<'_>) -> Option<CloseReason> {
        self.waker.register(context.waker());
        // After the waker: an order that comes between the two is seen here.
        self.ordered()
    }
}

/// Whether a connection that was `heard` then is silent for so long.
pub(super) fn is_silent(heard: u64, now: Moment, time: Duration) -> bool {
    heard.saturating_add(nanos(time)) <= now.nanos()
}
