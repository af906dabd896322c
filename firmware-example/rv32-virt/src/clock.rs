//! The time driver of embassy-time, on the timer of the core (CLINT). The board wakes up each millisecond, and looks then.

use core::cell::RefCell;
use core::task::Waker;

use critical_section::Mutex;
use embassy_time_driver::{Driver, time_driver_impl};
use embassy_time_queue_utils::Queue;

/// The comparison value of hart 0, and the counter, at 10 MHz.
const COMPARE: *mut u32 = 0x0200_4000 as *mut u32;
const COUNTER: *const u32 = 0x0200_bff8 as *const u32;
const TICKS_PER_US: u64 = 10;

time_driver_impl!(static CLOCK: Clock = Clock(Mutex::new(RefCell::new(Queue::new()))));

struct Clock(Mutex<RefCell<Queue>>);

impl Driver for Clock {
    fn now(&self) -> u64 {
        ticks() / TICKS_PER_US
    }

    fn schedule_wake(&self, at: u64, waker: &Waker) {
        critical_section::with(|cs| self.0.borrow_ref_mut(cs).schedule_wake(at, waker));
    }
}

/// Sleeps for a millisecond, and wakes the tasks that are due. The interrupt ends the sleep, and is never taken: interrupts are off.
pub(crate) fn sleep_ms() {
    let at = ticks() + 1_000 * TICKS_PER_US;
    // SAFETY: registers of the timer; interrupts are off, so that nothing else runs when it fires.
    unsafe {
        COMPARE.write_volatile(u32::MAX);
        COMPARE.add(1).write_volatile((at >> 32) as u32);
        COMPARE.write_volatile(at as u32);
        riscv::register::mie::set_mtimer();
    }
    riscv::asm::wfi();
    critical_section::with(|cs| {
        let mut queue = CLOCK.0.borrow_ref_mut(cs);
        queue.next_expiration(CLOCK.now())
    });
}

fn ticks() -> u64 {
    // SAFETY: the two halves of the counter, which reading does not change.
    let half = |at| u64::from(unsafe { COUNTER.add(at).read_volatile() });
    loop {
        let (high, low) = (half(1), half(0));
        if half(1) == high {
            return high << 32 | low;
        }
    }
}
