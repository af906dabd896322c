//! Sends messages over a UART, on the smallest core: no network stack, no executor, no panic.
//!
//! A UART loses and damages bytes, so each message has a checksum (`cobs-crc32`): the daemon refuses a damaged message, and
//! finds the next one. A zero before the first message ends what an earlier program, or noise, may have left on the line.
//!
//! QEMU's `mps2-an385` has a Cortex-M3, which runs this code for a Cortex-M0. QEMU connects the UART to TCP.

#![no_std]
#![no_main]

use core::convert::Infallible;
use core::panic::PanicInfo;

use cortex_m_rt::entry;
use cortex_m_semihosting::debug;
use embedded_io::{ErrorType, Write};
use framing_core::{CobsCrc32, blocking::Writer};

/// Number of messages. Each is a CBOR map of one key, `n`, to a number under 24.
const MESSAGES: u8 = 20;

#[entry]
fn main() -> ! {
    let mut uart = Uart::start();
    let mut well = uart.write(&[0]).is_ok();
    let mut writer = Writer::new(uart, CobsCrc32);
    for number in 0..MESSAGES {
        well &= writer.send(&[0xa1, 0x61, b'n', number]).is_ok();
    }
    well &= writer.finish().is_ok();
    loop {
        // Ends the emulator. Exit status 0 means that the UART took every byte, not that the daemon has them.
        debug::exit(if well { Ok(()) } else { Err(()) });
    }
}

/// UART 0 of the board (CMSDK).
struct Uart;

impl Uart {
    /// The next byte to send.
    const DATA: *mut u32 = 0x4000_4000 as *mut u32;
    /// Bit 0: the transmitter is busy with the previous byte.
    const STATE: *const u32 = 0x4000_4004 as *const u32;
    /// Bit 0: transmitter on.
    const CONTROL: *mut u32 = 0x4000_4008 as *mut u32;
    /// Clock ticks per bit, at least 16.
    const DIVISOR: *mut u32 = 0x4000_4010 as *mut u32;

    fn start() -> Self {
        // SAFETY: registers of the UART, which nothing else uses.
        unsafe {
            // 115,200 bit/s from 25 MHz.
            Self::DIVISOR.write_volatile(217);
            Self::CONTROL.write_volatile(1);
        }
        Self
    }

    fn is_busy() -> bool {
        // SAFETY: a register of the UART, which reading does not change.
        unsafe { Self::STATE.read_volatile() & 1 != 0 }
    }
}

impl ErrorType for Uart {
    type Error = Infallible;
}

impl Write for Uart {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        let Some(&byte) = bytes.first() else {
            return Ok(0);
        };
        while Self::is_busy() {}
        // SAFETY: a register of the UART, which nothing else uses.
        unsafe { Self::DATA.write_volatile(byte.into()) };
        Ok(1)
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        while Self::is_busy() {}
        Ok(())
    }
}

/// Never called: a test of the symbols shows that the image contains no panicking code.
#[panic_handler]
fn on_panic(_: &PanicInfo<'_>) -> ! {
    loop {}
}
