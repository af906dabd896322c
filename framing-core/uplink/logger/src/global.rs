//! The global logger of an image.

use core::cell::UnsafeCell;
use core::future::poll_fn;
use core::ptr::addr_of;
use core::task::Poll;

use critical_section::RestoreState;
use defmt::Encoder;
use embassy_sync::waitqueue::AtomicWaker;
use framing_uplink::logs::LogFrames;

use crate::RING_LEN;
use crate::ring::Ring;

unsafe extern "C" {
    // Defined by build-id.x.
    static __build_id_start: u8;
    static __build_id_end: u8;
}

/// The frames of the logger of this image.
#[derive(Clone, Copy, Debug, Default)]
pub struct DefmtFrames;

impl LogFrames for DefmtFrames {
    fn take(&self, frame: &mut [u8]) -> Option<usize> {
        with(|ring| ring.take(frame))
    }

    fn is_empty(&self) -> bool {
        with(|ring| ring.is_empty())
    }

    fn lost(&self) -> u32 {
        with(|ring| ring.lost())
    }

    /// Only one task may wait.
    async fn ready(&self) {
        poll_fn(|context| {
            WAITING.register(context.waker());
            if self.is_empty() {
                Poll::Pending
            } else {
                Poll::Ready(())
            }
        })
        .await;
    }

    fn build_id(&self) -> &[u8] {
        let start = addr_of!(__build_id_start);
        let len = addr_of!(__build_id_end).addr() - start.addr();
        // SAFETY: the whole section lies between the two symbols, in flash.
        unsafe { core::slice::from_raw_parts(start, len) }
    }
}

/// The waker of the task that waits for a frame.
static WAITING: AtomicWaker = AtomicWaker::new();

static SHARED: Shared = Shared(UnsafeCell::new(State {
    ring: Ring::new(),
    encoder: Encoder::new(),
    before: None,
}));

struct Shared(UnsafeCell<State>);

// SAFETY: accessed only in critical sections.
unsafe impl Sync for Shared {}

struct State {
    ring: Ring<RING_LEN>,
    encoder: Encoder,
    /// The interrupt state to restore, while a frame is being written.
    before: Option<RestoreState>,
}

fn with<R>(f: impl FnOnce(&mut Ring<RING_LEN>) -> R) -> R {
    critical_section::with(|_| {
        // SAFETY: in a critical section, and no frame is being written, since writing is a critical section too; `f` is
        // defined in this file, and does not call this function.
        f(unsafe { &mut (*SHARED.0.get()).ring })
    })
}

#[defmt::global_logger]
struct Logger;

// SAFETY: one critical section lasts from `acquire` to `release`.
unsafe impl defmt::Logger for Logger {
    fn acquire() {
        // SAFETY: released in `release`, which defmt calls after this.
        let before = unsafe { critical_section::acquire() };
        // SAFETY: in a critical section.
        let state = unsafe { &mut *SHARED.0.get() };
        assert!(state.before.is_none(), "a log frame within a log frame");
        state.before = Some(before);
        state.ring.begin();
        state.encoder.start_frame(|bytes| state.ring.write(bytes));
    }

    unsafe fn flush() {
        // Frames are sent by the network task.
    }

    unsafe fn release() {
        // SAFETY: in the critical section that `acquire` began.
        let state = unsafe { &mut *SHARED.0.get() };
        state.encoder.end_frame(|bytes| state.ring.write(bytes));
        state.ring.end();
        WAITING.wake();
        if let Some(before) = state.before.take() {
            // SAFETY: the state returned in `acquire`, restored in reverse order.
            unsafe { critical_section::release(before) };
        }
    }

    unsafe fn write(bytes: &[u8]) {
        // SAFETY: in the critical section that `acquire` began.
        let state = unsafe { &mut *SHARED.0.get() };
        state.encoder.write(bytes, |bytes| state.ring.write(bytes));
    }
}
