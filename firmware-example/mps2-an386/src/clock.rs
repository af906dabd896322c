//! The time driver of embassy-time, on the board's dual timer: one half counts, the other is the alarm. Tickless.

use core::cell::RefCell;
use core::task::Waker;

use critical_section::Mutex;
use embassy_time_driver::{Driver, time_driver_impl};
use embassy_time_queue_utils::Queue;

/// Number of the dual timer's interrupt.
pub const INTERRUPT: i16 = 10;

/// Both halves count down at 25 MHz.
const TICKS_PER_US: u64 = 25;
/// Longest alarm, in microseconds: the counter must be read before it wraps, after 171 s.
const ALARM_MAX_US: u64 = 100_000_000;

/// Base address of the first half of the dual timer (CMSDK). The registers of a half follow below.
const COUNTER: usize = 0x4000_2000;
/// Base address of the second half.
const ALARM: usize = 0x4000_2020;
/// Start value of the countdown.
const LOAD: usize = 0x00;
/// Current value of the countdown.
const VALUE: usize = 0x04;
/// Bits 7: on; 6: periodic; 5: interrupts; 1: all 32 bits; 0: stops at zero.
const CONTROL: usize = 0x08;
/// Any write clears the interrupt.
const CLEAR: usize = 0x0c;

const ON: u32 = 1 << 7;
const INTERRUPTS: u32 = 1 << 5;
const WIDE: u32 = 1 << 1;
const ONCE: u32 = 1 << 0;

time_driver_impl!(static CLOCK: Clock = Clock {
    state: Mutex::new(RefCell::new(State { queue: Queue::new(), last: 0, wraps: 0 })),
});

/// Starts the counter. Before that, the time does not advance.
pub fn start() {
    write(COUNTER + LOAD, u32::MAX);
    write(COUNTER + CONTROL, ON | WIDE);
}

/// Handles [`INTERRUPT`].
pub fn on_interrupt() {
    write(ALARM + CLEAR, 0);
    critical_section::with(|cs| CLOCK.state.borrow_ref_mut(cs).set_alarm());
}

struct Clock {
    state: Mutex<RefCell<State>>,
}

struct State {
    queue: Queue,
    /// Value of the counter at the last read.
    last: u32,
    /// Number of times that the counter has wrapped.
    wraps: u32,
}

impl Driver for Clock {
    fn now(&self) -> u64 {
        critical_section::with(|cs| self.state.borrow_ref_mut(cs).now_us())
    }

    fn schedule_wake(&self, at: u64, waker: &Waker) {
        critical_section::with(|cs| {
            let mut state = self.state.borrow_ref_mut(cs);
            if state.queue.schedule_wake(at, waker) {
                state.set_alarm();
            }
        });
    }
}

impl State {
    fn now_us(&mut self) -> u64 {
        let count = !read(COUNTER + VALUE);
        if count < self.last {
            self.wraps += 1;
        }
        self.last = count;
        (u64::from(self.wraps) << 32 | u64::from(count)) / TICKS_PER_US
    }

    /// Wakes the tasks that are due, and sets the alarm for the next one.
    fn set_alarm(&mut self) {
        let now_us = self.now_us();
        let wait_us = self.queue.next_expiration(now_us).saturating_sub(now_us);
        // At most 2.5e9, so it fits. If that moment has passed meanwhile, the alarm fires at once.
        let ticks = wait_us.clamp(1, ALARM_MAX_US) * TICKS_PER_US;
        write(ALARM + CONTROL, 0);
        write(ALARM + LOAD, ticks as u32);
        write(ALARM + CONTROL, ON | INTERRUPTS | WIDE | ONCE);
    }
}

fn read(register: usize) -> u32 {
    // SAFETY: called only with registers of the dual timer, which reading does not change.
    unsafe { (register as *const u32).read_volatile() }
}

fn write(register: usize, value: u32) {
    // SAFETY: called only with registers of the dual timer, which nothing else uses.
    unsafe { (register as *mut u32).write_volatile(value) }
}
