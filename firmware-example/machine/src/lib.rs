//! What every Cortex-M board here shares: an executor that truly sleeps, and the mark that the stack has left.

#![no_std]

use core::ptr::{addr_of, read_volatile};
use core::sync::atomic::{AtomicBool, Ordering};

use embassy_executor::{Spawner, raw};

/// A task may have something to do.
static WOKEN: AtomicBool = AtomicBool::new(true);

unsafe extern "C" {
    // Set by the linker script of cortex-m-rt.
    static _stack_end: u32;
    static _stack_start: u32;
}

/// Runs the tasks that `init` spawns, and sleeps in WFI while none has anything to do.
///
/// The executor that embassy-executor has for Cortex-M sleeps in WFE, which QEMU takes for a yield, and spins.
pub fn run(executor: &'static mut raw::Executor, init: impl FnOnce(Spawner)) -> ! {
    init(executor.spawner());
    loop {
        // Interrupts are off between the question and the sleep, so that none comes in between unseen; one that
        // is pending ends WFI all the same.
        cortex_m::interrupt::disable();
        if WOKEN.load(Ordering::Relaxed) {
            WOKEN.store(false, Ordering::Relaxed);
        } else {
            cortex_m::asm::wfi();
        }
        // SAFETY: nothing here relies on interrupts being off, and they were on before.
        unsafe { cortex_m::interrupt::enable() };
        // SAFETY: it is polled here only, never from within itself.
        unsafe { executor.poll() };
    }
}

/// An executor for [`run`].
pub fn executor() -> raw::Executor {
    raw::Executor::new(core::ptr::null_mut())
}

/// Most bytes of the stack that were ever used: up to where its paint (cortex-m-rt, `paint-stack`) has gone.
pub fn stack_used_bytes() -> u32 {
    let start = addr_of!(_stack_start);
    let mut mark = addr_of!(_stack_end);
    // SAFETY: from the stack's end to its start is memory, and words of it are only looked at.
    while mark < start && unsafe { read_volatile(mark) } == cortex_m_rt::STACK_PAINT_VALUE {
        mark = mark.wrapping_add(1);
    }
    bytes(mark, start)
}

/// Bytes that the stack has.
pub fn stack_size_bytes() -> u32 {
    bytes(addr_of!(_stack_end), addr_of!(_stack_start))
}

fn bytes(from: *const u32, to: *const u32) -> u32 {
    u32::try_from(to.addr().saturating_sub(from.addr())).unwrap_or(u32::MAX)
}

/// Called by the executor when a task was woken.
// SAFETY: nothing else defines this name, since no platform of embassy-executor is turned on.
#[unsafe(export_name = "__pender")]
fn pender(_context: *mut ()) {
    WOKEN.store(true, Ordering::Relaxed);
}
