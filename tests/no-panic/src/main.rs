//! Links only if no blocking call of `framing-core` can panic: the panic handler names a symbol that does not
//! exist, so a panic that is left after optimisation is an error of the linker.

#![no_std]
#![no_main]

use core::convert::Infallible;
use core::hint::black_box;
use core::ptr::{read_volatile, write_volatile};

use embedded_io::{ErrorType, Read, Write};
use framing_core::blocking::{Reader, Writer};
use framing_core::{
    AnyFraming, Blocks, Cobs, Delimited, Fixed, Framing, Length, Lines, Netstring, OctetCounted, Received,
    Stream, U8, U16, U16Le, U32, U32Le, Varint, encode,
};

unsafe extern "C" {
    fn a_panic_can_be_reached() -> !;
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    unsafe { a_panic_can_be_reached() }
}

/// A transport of which the compiler can know nothing: neither the bytes nor how many there are.
struct Port;

const DATA: *mut u8 = 0x4000_4000 as *mut u8;
const COUNT: *mut usize = 0x4000_4004 as *mut usize;

impl ErrorType for Port {
    type Error = Infallible;
}

impl Read for Port {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, Infallible> {
        for byte in buf {
            *byte = unsafe { read_volatile(DATA) };
        }
        Ok(unsafe { read_volatile(COUNT) })
    }
}

impl Write for Port {
    fn write(&mut self, buf: &[u8]) -> Result<usize, Infallible> {
        for byte in buf {
            unsafe { write_volatile(DATA, *byte) };
        }
        Ok(unsafe { read_volatile(COUNT) })
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

fn show(received: Received<'_>) {
    match received {
        Received::Block(bytes) | Received::Piece { bytes, .. } => {
            for byte in bytes {
                unsafe { write_volatile(DATA, *byte) };
            }
            let _ = black_box(received.to_vec::<16>());
        }
        Received::End | Received::Closed => {}
    }
}

#[inline(never)]
fn try_all<F: Framing + Copy>(framing: F) {
    let mut buffer: heapless::Vec<u8, 64> = heapless::Vec::new();
    let mut reader = Reader::new(Port, framing, &mut buffer);
    reader.set_skip_max(unsafe { read_volatile(COUNT) } as u32);
    for _ in 0..unsafe { read_volatile(COUNT) } {
        if let Ok(received) = reader.receive() {
            show(received);
        }
        if let Ok(received) = reader.receive_piece() {
            show(received);
        }
        black_box(reader.is_mid_block());
    }
    let mut bytes = [0; 32];
    let _ = Port.read(&mut bytes);
    let cut = unsafe { read_volatile(COUNT) };
    let (one, two) = bytes.split_at_checked(cut).unwrap_or_default();
    let mut writer = Writer::new(Port, framing);
    let _ = black_box(writer.send(one));
    let _ = black_box(writer.send_parts(&[one, two]));
    let _ = black_box(writer.resume(&[one, two]));
    let _ = black_box(writer.begin(cut as u32));
    let _ = black_box(writer.send_piece(two));
    let _ = black_box(writer.finish());
    black_box(writer.is_mid_block());
    let mut out = [0; 48];
    let room = out.get_mut(..cut).unwrap_or_default();
    let _ = black_box(encode(&mut framing.encoder(), &[one, two], room));
    let _ = black_box(out);
}

#[unsafe(no_mangle)]
extern "C" fn _start() -> ! {
    try_all(Blocks);
    try_all(Stream);
    try_all(Lines);
    try_all(Cobs);
    try_all(Length::<U8>::new());
    try_all(Length::<U16>::new());
    try_all(Length::<U16Le>::new());
    try_all(Length::<U32>::new());
    try_all(Length::<U32Le>::new());
    try_all(Varint);
    try_all(Netstring);
    try_all(OctetCounted);
    let mut spec = [0; 24];
    let _ = Port.read(&mut spec);
    if let Some(framing) = Delimited::new(&spec) {
        try_all(framing);
    }
    if let Some(len) = core::num::NonZeroU32::new(unsafe { read_volatile(COUNT) } as u32) {
        try_all(Fixed::new(len));
    }
    if let Some(Ok(framing)) = core::str::from_utf8(&spec).ok().map(str::parse::<AnyFraming>) {
        try_all(framing);
    }
    #[cfg(feature = "panics")]
    black_box(spec[unsafe { read_volatile(COUNT) }]);
    loop {}
}
