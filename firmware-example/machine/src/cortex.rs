//! An executor for Cortex-M that sleeps when idle ([`run`]), and the measurement of stack use.

use core::ptr::{addr_of, read_volatile};
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use embassy_executor::{Spawner, raw};

/// Set when a task was woken.
static WOKEN: AtomicBool = AtomicBool::new(true);
/// Number of rounds in which tasks were polled.
static ROUNDS: AtomicU32 = AtomicU32::new(0);

unsafe extern "C" {
    // Defined by the linker script of cortex-m-rt.
    static _stack_end: u32;
    static _stack_start: u32;
}

/// Runs the tasks that `init` spawns, and sleeps in WFI while all of them wait.
///
/// The Cortex-M executor of embassy-executor sleeps in WFE, which QEMU treats as a yield, so it would spin.
pub fn run(executor: &'static mut raw::Executor, init: impl FnOnce(Spawner)) -> ! {
    init(executor.spawner());
    loop {
        // Interrupts are disabled between the check and WFI, so that no wake-up is missed; a pending interrupt ends WFI
        // even while they are disabled.
        cortex_m::interrupt::disable();
        if WOKEN.load(Ordering::Relaxed) {
            WOKEN.store(false, Ordering::Relaxed);
            ROUNDS.store(rounds().wrapping_add(1), Ordering::Relaxed);
        } else {
            cortex_m::asm::wfi();
        }
        // SAFETY: this code does not rely on interrupts being disabled, and they were enabled before.
        unsafe { cortex_m::interrupt::enable() };
        // SAFETY: polled only here, and never from within a task.
        unsafe { executor.poll() };
    }
}

/// Number of times that tasks were woken, and polled. A processor that sleeps when idle has few: about ten a second for
/// each task that waits for an address.
pub fn rounds() -> u32 {
    ROUNDS.load(Ordering::Relaxed)
}

/// Creates an executor for [`run`].
pub fn executor() -> raw::Executor {
    raw::Executor::new(core::ptr::null_mut())
}

/// Highest stack use, in bytes: how much of the stack paint (cortex-m-rt, `paint-stack`) was overwritten.
pub fn stack_used_bytes() -> u32 {
    let start = addr_of!(_stack_start);
    let mut unused = addr_of!(_stack_end);
    // SAFETY: everything from the stack's end to its start is memory, and it is only read.
    while unused < start && unsafe { read_volatile(unused) } == cortex_m_rt::STACK_PAINT_VALUE {
        unused = unused.wrapping_add(1);
    }
    bytes(unused, start)
}

/// Size of the stack, in bytes.
pub fn stack_size_bytes() -> u32 {
    bytes(addr_of!(_stack_end), addr_of!(_stack_start))
}

fn bytes(from: *const u32, to: *const u32) -> u32 {
    u32::try_from(to.addr().saturating_sub(from.addr())).unwrap_or(u32::MAX)
}

/// Called by the executor when a task was woken.
// SAFETY: this name is defined nowhere else, since every platform feature of embassy-executor is off.
#[unsafe(export_name = "__pender")]
fn pender(_context: *mut ()) {
    WOKEN.store(true, Ordering::Relaxed);
}
