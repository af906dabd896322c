//! Lock-free state that a connection shares with [`Connections`](super::Connections): a [`Slot`].

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use atomic_waker::AtomicWaker;

use crate::moment::Moment;
use crate::permit::nanos;
use crate::reason::CloseReason;

/// In [`Slot::heard`]: the connection waits for a queue or the pool.
const BLOCKED: u64 = u64::MAX;
/// In [`Slot::heard`]: the connection is not read because unfinished messages hold too much memory.
const PAUSED: u64 = u64::MAX - 1;

/// The shared state of one connection. There may be ten thousand, so it is kept small.
#[derive(Debug)]
pub(crate) struct Slot {
    /// When bytes last arrived, in nanoseconds, or `BLOCKED` or `PAUSED`.
    heard: AtomicU64,
    /// Memory of the unfinished message, in bytes. Only the connection writes it.
    held: AtomicU64,
    waker: AtomicWaker,
    key: u32,
    close_request: AtomicU8,
    /// Whether the connection may be read although unfinished messages hold too much memory.
    has_turn: AtomicBool,
    /// Whether the connection was notified to check again whether it may be read.
    is_notified: AtomicBool,
    /// Whether the connection must check again that its peer may stay connected.
    recheck: AtomicBool,
}

impl Slot {
    /// Creates the slot of a connection that has just opened.
    pub(super) fn new(key: usize) -> Self {
        Self {
            heard: AtomicU64::new(Moment::now().nanos()),
            held: AtomicU64::new(0),
            waker: AtomicWaker::new(),
            // The number of file descriptors is far below 2^32.
            key: u32::try_from(key).unwrap_or(u32::MAX),
            close_request: AtomicU8::new(0),
            has_turn: AtomicBool::new(false),
            is_notified: AtomicBool::new(false),
            recheck: AtomicBool::new(false),
        }
    }

    /// Returns the key in the table of connections.
    pub(super) const fn key(&self) -> usize {
        self.key as usize
    }

    /// Returns when bytes last arrived. The value is greatest while the daemon itself does not read, so that such a
    /// connection never counts as silent.
    pub(super) fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }

    pub(super) fn hear(&self, now: Moment) {
        self.heard.store(now.nanos(), Ordering::Relaxed);
    }

    pub(super) fn block(&self) {
        self.heard.store(BLOCKED, Ordering::Relaxed);
    }

    pub(super) fn pause(&self) {
        self.heard.store(PAUSED, Ordering::Relaxed);
    }

    /// Whether the connection waits for a queue or the pool.
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

    /// Requests the connection to close, unless that was requested before.
    pub(super) fn request_close(&self, reason: CloseReason) {
        // 0 means that nothing is requested.
        let order = reason as u8 + 1;
        let requested =
            self.close_request
                .compare_exchange(0, order, Ordering::AcqRel, Ordering::Relaxed);
        if requested.is_ok() {
            self.waker.wake();
        }
    }

    pub(super) fn close_request(&self) -> Option<CloseReason> {
        let order = self.close_request.load(Ordering::Acquire);
        let index = usize::from(order).checked_sub(1)?;
        CloseReason::ALL.get(index).copied()
    }

    pub(super) fn request_recheck(&self) {
        self.recheck.store(true, Ordering::Release);
        self.waker.wake();
    }

    pub(super) fn takes_recheck(&self) -> bool {
        // Nearly always false, and then cheap.
        self.recheck.load(Ordering::Relaxed) && self.recheck.swap(false, Ordering::AcqRel)
    }

    /// Notifies the connection to check again whether it may be read.
    pub(super) fn notify(&self) {
        if !self.is_notified.swap(true, Ordering::AcqRel) {
            self.waker.wake();
        }
    }

    /// Waits for a notification, or for a request to close.
    pub(super) fn poll_notified(&self, context: &Context<'_>) -> Poll<()> {
        let is_requested = self.poll_close_request(context).is_some();
        if self.is_notified.swap(false, Ordering::AcqRel) || is_requested {
            return Poll::Ready(());
        }
        Poll::Pending
    }

    pub(super) fn poll_close_request(&self, context: &Context<'_>) -> Option<CloseReason> {
        self.waker.register(context.waker());
        // Load after registering the waker, so that a request between the two is not missed.
        self.close_request()
    }
}

/// Whether a connection that was last heard at `heard` is silent for at least `time`.
pub(super) fn is_silent(heard: u64, now: Moment, time: Duration) -> bool {
    heard.saturating_add(nanos(time)) <= now.nanos()
}
