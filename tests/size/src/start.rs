//! Start and end of an image: counts instructions and stack, and prints them through the emulator.

use core::ptr::write_volatile;

#[cfg(target_arch = "arm")]
mod board {
    use core::arch::asm;
    use core::ptr::{read_volatile, write_volatile};

    #[unsafe(link_section = ".vectors")]
    #[used]
    static VECTORS: (u32, unsafe extern "C" fn() -> !) = (0x2004_0000, super::_start);

    const SYSTICK: *mut u32 = 0xe000_e010 as *mut u32;
    const FPU: *mut u32 = 0xe000_ed88 as *mut u32;
    const PAINT: u32 = 0xa5a5_5a5a;
    const PAINTED: u32 = 4096;

    /// Runs the measured code; returns clock ticks, and bytes of stack.
    #[inline(never)]
    pub(super) fn measure() -> [u32; 2] {
        unsafe {
            write_volatile(FPU, read_volatile(FPU) | 0xf << 20);
            let top: u32;
            asm!("mov {}, sp", out(reg) top);
            let mut at = top - PAINTED;
            while at < top {
                write_volatile(at as *mut u32, PAINT);
                at += 4;
            }
            write_volatile(SYSTICK.add(1), 0x00ff_ffff);
            write_volatile(SYSTICK.add(2), 0);
            write_volatile(SYSTICK, 5);
            let before = read_volatile(SYSTICK.add(2));
            crate::measured();
            let after = read_volatile(SYSTICK.add(2));
            let mut low = top - PAINTED;
            while low < top && read_volatile(low as *const u32) == PAINT {
                low += 4;
            }
            [before.wrapping_sub(after) & 0x00ff_ffff, top - low]
        }
    }

    pub(super) fn print(byte: u8) {
        let at = &raw const byte;
        unsafe { asm!("bkpt 0xab", inout("r0") 3 => _, in("r1") at) };
    }

    pub(super) fn end() -> ! {
        loop {
            unsafe { asm!("bkpt 0xab", inout("r0") 0x18 => _, in("r1") 0x20026) };
        }
    }
}

/// Linked and inspected, but not run.
#[cfg(not(target_arch = "arm"))]
mod board {
    pub(super) fn measure() -> [u32; 2] {
        crate::measured();
        [0, 0]
    }

    pub(super) fn print(byte: u8) {
        unsafe { core::ptr::write_volatile(0x4000_4000 as *mut u8, byte) };
    }

    pub(super) fn end() -> ! {
        loop {
            print(0);
        }
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn _start() -> ! {
    let measured = board::measure();
    for number in measured.iter().chain(&crate::port::counts()) {
        for nibble in (0..8).rev() {
            board::print(b"0123456789abcdef"[(number >> (4 * nibble)) as usize & 15]);
        }
        board::print(b' ');
    }
    board::print(b'\n');
    board::end();
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    unsafe { a_panic_can_be_reached() }
}

/// Linked only into an image that can panic.
#[inline(never)]
#[unsafe(no_mangle)]
unsafe extern "C" fn a_panic_can_be_reached() -> ! {
    loop {
        unsafe { write_volatile(0x4000_4000 as *mut u8, b'!') };
    }
}
