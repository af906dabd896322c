//! The transport: bytes that the emulator has put into memory, and that the compiler cannot know.

use core::convert::Infallible;
use core::ptr::{addr_of_mut, read_volatile, write_volatile};

use embedded_io::ErrorType;

/// Parameters from the emulator, and the bytes that follow them.
const PARAMETERS: *const u32 = 0x2010_0000 as *const u32;
const BYTES: *const u8 = 0x2010_1000 as *const u8;

/// Length of an image's buffer: the longest message, with what a library adds to it.
pub const BUFFER_LEN: usize = 512;
static mut BUFFER: [u8; BUFFER_LEN] = [0; BUFFER_LEN];

/// Number of messages, bytes and faults.
static mut COUNTS: [u32; 3] = [0; 3];

fn parameter(at: usize) -> usize {
    unsafe { read_volatile(PARAMETERS.add(at)) as usize }
}

/// Whether the transport is not ready, which is never the case.
#[cfg(feature = "async")]
fn is_busy() -> bool {
    parameter(3) != 0
}

/// Number of messages to send.
pub fn messages() -> usize {
    parameter(2)
}

/// The message to send.
pub fn message() -> &'static [u8] {
    unsafe { core::slice::from_raw_parts(BYTES, parameter(1)) }
}

/// The buffer of an image. May be called once.
pub fn buffer() -> &'static mut [u8] {
    core::hint::black_box(unsafe { &mut *addr_of_mut!(BUFFER) })
}

fn count(at: usize, by: usize) {
    unsafe {
        let slot = addr_of_mut!(COUNTS).cast::<u32>().add(at);
        write_volatile(slot, read_volatile(slot) + by as u32);
    }
}

/// Counts a received message.
#[inline(never)]
pub fn received(bytes: &[u8]) {
    count(0, 1);
    count(1, core::hint::black_box(bytes).len());
}

/// Counts a fault.
#[inline(never)]
pub fn failed() {
    count(2, 1);
}

/// Number of messages, bytes, and faults.
pub fn counts() -> [u32; 3] {
    unsafe { read_volatile(addr_of_mut!(COUNTS)) }
}

/// One end of the transport.
pub struct Port {
    done: usize,
}

/// Not known to be zero at compile time, like a real socket: the compiler would merge a zero with its neighbours.
impl Default for Port {
    fn default() -> Self {
        Self {
            done: core::hint::black_box(0),
        }
    }
}

impl ErrorType for Port {
    type Error = Infallible;
}

impl Port {
    #[inline(never)]
    fn take(&mut self, buffer: &mut [u8]) -> usize {
        let len = buffer.len().min(parameter(0) - self.done);
        for (at, byte) in buffer.iter_mut().take(len).enumerate() {
            *byte = unsafe { read_volatile(BYTES.add(self.done + at)) };
        }
        self.done += len;
        len.min(parameter(4))
    }

    #[inline(never)]
    fn give(&mut self, bytes: &[u8]) -> usize {
        count(0, 1);
        count(1, core::hint::black_box(bytes).len());
        bytes.len().min(parameter(4))
    }
}

#[cfg(not(feature = "async"))]
impl embedded_io::Read for Port {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Infallible> {
        Ok(self.take(buffer))
    }
}

#[cfg(not(feature = "async"))]
impl embedded_io::Write for Port {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        Ok(self.give(bytes))
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

#[cfg(feature = "async")]
impl embedded_io_async::Read for Port {
    fn read(&mut self, buffer: &mut [u8]) -> impl Future<Output = Result<usize, Infallible>> {
        core::future::poll_fn(move |_| ready(|| self.take(buffer)))
    }
}

#[cfg(feature = "async")]
impl embedded_io_async::Write for Port {
    fn write(&mut self, bytes: &[u8]) -> impl Future<Output = Result<usize, Infallible>> {
        core::future::poll_fn(move |_| ready(|| self.give(bytes)))
    }

    fn flush(&mut self) -> impl Future<Output = Result<(), Infallible>> {
        core::future::ready(Ok(()))
    }
}

#[cfg(feature = "async")]
fn ready(act: impl FnOnce() -> usize) -> core::task::Poll<Result<usize, Infallible>> {
    if is_busy() {
        core::task::Poll::Pending
    } else {
        core::task::Poll::Ready(Ok(act()))
    }
}
