//! A clock that jumps to the next time that somebody waits for: [`Time`].

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use framing_uplink::Clock;

/// A clock that advances only when every task waits for it.
#[derive(Default)]
pub(crate) struct Time {
    now_us: Cell<u64>,
    next_us: Cell<u64>,
}

impl Time {
    pub(crate) fn now_ms(&self) -> u64 {
        self.now_us.get() / 1_000
    }

    /// Runs a future to its end.
    #[track_caller]
    pub(crate) fn run<F: Future>(&self, future: F) -> F::Output {
        self.run_for(5_000_000, future).expect("it ends")
    }

    /// Polls a future this many times, or to its end, then drops it.
    #[track_caller]
    pub(crate) fn run_for<F: Future>(&self, polls: usize, future: F) -> Option<F::Output> {
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut future = pin!(future);
        for _ in 0..polls {
            self.next_us.set(u64::MAX);
            if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return Some(output);
            }
            if !woken.0.swap(false, Ordering::Relaxed) {
                assert_ne!(self.next_us.get(), u64::MAX, "the future never completes");
                self.now_us.set(self.next_us.get());
            }
        }
        None
    }
}

impl Clock for Time {
    fn now_us(&self) -> u64 {
        self.now_us.get()
    }

    async fn sleep_until_us(&self, at_us: u64) {
        poll_fn(|_| {
            if self.now_us.get() >= at_us {
                return Poll::Ready(());
            }
            self.next_us.set(self.next_us.get().min(at_us));
            Poll::Pending
        })
        .await;
    }
}

/// Lets everything else run once.
pub(crate) async fn yield_once() {
    let mut is_done = false;
    poll_fn(|context| {
        if is_done {
            return Poll::Ready(());
        }
        is_done = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}
