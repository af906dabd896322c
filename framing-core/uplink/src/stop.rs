//! The request to stop: from a button, a command, or a plan that is done.

use core::fmt;
use core::future::poll_fn;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::Poll;

use embassy_sync::waitqueue::AtomicWaker;

/// A request to stop, which cannot be taken back. May be requested from an interrupt; one task at a time waits for it.
pub struct Stop {
    requested: AtomicBool,
    waiting: AtomicWaker,
}

impl Stop {
    /// Starts as not requested.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            requested: AtomicBool::new(false),
            waiting: AtomicWaker::new(),
        }
    }

    /// Requests the stop.
    pub fn request(&self) {
        self.requested.store(true, Ordering::Release);
        self.waiting.wake();
    }

    /// Whether the stop was requested.
    pub fn is_requested(&self) -> bool {
        self.requested.load(Ordering::Acquire)
    }

    /// Waits for the request.
    pub async fn requested(&self) {
        poll_fn(|cx| {
            self.waiting.register(cx.waker());
            if self.is_requested() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }
}

impl Default for Stop {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Stop").field(&self.is_requested()).finish()
    }
}
