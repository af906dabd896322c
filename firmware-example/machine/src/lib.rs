//! Shared by the boards here: memory that outlives a reset ([`retained`]); and for Cortex-M, an executor that sleeps when idle
//! (`run`), and the measurement of stack use.

#![no_std]

#[cfg(target_arch = "arm")]
mod cortex;

use core::mem::MaybeUninit;

#[cfg(target_arch = "arm")]
pub use self::cortex::{executor, rounds, run, stack_size_bytes, stack_used_bytes};

/// Returns memory with the bytes that a reset has left in it. Place it in a section that the start-up code
/// leaves as it is: `.uninit` with cortex-m-rt. After power-on it has any bytes.
///
/// # Safety
/// Nothing else uses this memory, and any bytes are a valid `T` without padding.
pub unsafe fn retained<T>(memory: *mut MaybeUninit<T>) -> &'static mut T {
    let bytes = memory.cast::<u8>();
    for at in 0..size_of::<T>() {
        // SAFETY: within the memory. To the compiler, the bytes are initialised by this write.
        unsafe {
            let byte = bytes.add(at);
            byte.write_volatile(byte.read_volatile());
        }
    }
    // SAFETY: the caller's, and every byte is initialised.
    unsafe { &mut *memory.cast::<T>() }
}
