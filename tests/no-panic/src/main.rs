//! Links only if no call of `framing-core` or `framing-uplink` can panic: the panic handler calls an undefined symbol, so a panic that is left
//! after optimisation is a linker error.
//!
//! The feature `async` selects the async calls. The compiler puts one panic into each `async fn`, for polling it after it
//! was ready. So there the symbol is defined, and `run` checks its callers.

#![no_std]
#![no_main]
// Each of the two images leaves some of this unused.
#![allow(dead_code, unused_imports)]

#[cfg(feature = "async")]
mod uplink;

use core::convert::Infallible;
use core::hint::black_box;
use core::ptr::{read_volatile, write_volatile};
use core::task::{Context, Poll, Waker};

use embedded_io::{ErrorType, Read, Write};
use framing_core::{
    AnyFraming, Blocks, Buffer, Cobs, CobsCrc16, CobsCrc16Pieces, CobsCrc32, CobsCrc32Pieces, CobsPieces, Decode, Delimited, Fixed, Framing, Length, Limits, Lines,
    Netstring, OctetCounted, Polled, Received, ReceivedPiece, Receiver, Sender, Stream, U8, U16, U16Le, U32, U32Le,
    Varint, encode,
};
use framing_core::session::{Device, Eager, Full, HostClock, Mode, Retained, Saved, SessionReceiver, SessionSender, wire};
use framing_core::{blocking, asynch};

#[cfg(not(feature = "async"))]
unsafe extern "C" {
    fn a_panic_can_be_reached() -> !;
}

#[cfg(feature = "async")]
#[inline(never)]
#[unsafe(no_mangle)]
unsafe extern "C" fn a_panic_can_be_reached() -> ! {
    loop {
        unsafe { write_volatile(DATA, 0) };
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    unsafe { a_panic_can_be_reached() }
}

/// A transport that the compiler knows nothing about: neither the bytes nor their number.
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

impl embedded_io_async::Read for Port {
    fn read(&mut self, buf: &mut [u8]) -> impl Future<Output = Result<usize, Infallible>> {
        core::future::poll_fn(move |_| maybe(|| Read::read(self, buf)))
    }
}

impl embedded_io_async::Write for Port {
    fn write(&mut self, buf: &[u8]) -> impl Future<Output = Result<usize, Infallible>> {
        core::future::poll_fn(move |_| maybe(|| Write::write(self, buf)))
    }

    fn flush(&mut self) -> impl Future<Output = Result<(), Infallible>> {
        core::future::poll_fn(move |_| maybe(|| Write::flush(self)))
    }
}

/// Returns ready or pending, unknown to the compiler.
fn maybe<T>(act: impl FnOnce() -> T) -> Poll<T> {
    if unsafe { read_volatile(COUNT) } == 0 {
        return Poll::Pending;
    }
    Poll::Ready(act())
}

fn fill(bytes: &mut [u8]) {
    let _ = Port.read(bytes);
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
        Received::Message(bytes) => {
            show_bytes(bytes);
            let _ = black_box(received.to_vec::<16>());
        }
        Received::End | Received::Closed => {}
    }
}

fn show_piece(received: ReceivedPiece<'_>) {
    match received {
        ReceivedPiece::Piece { bytes, .. } => {
            show_bytes(bytes);
            let _ = black_box(received.to_vec::<16>());
        }
        ReceivedPiece::End | ReceivedPiece::Closed => {}
    }
}

fn show_bytes(bytes: &[u8]) {
    for byte in bytes {
        unsafe { write_volatile(DATA, *byte) };
    }
}

/// Makes every call of a reader and a writer: blocking ones as they are, async ones with `.await`.
macro_rules! calls {
    ($shell:ident, $framing:ident, $($wait:tt)*) => {{
        let mut buffer: heapless::Vec<u8, 64> = heapless::Vec::new();
        let skip_max = unsafe { read_volatile(COUNT) } as u32;
        let mut reader = $shell::Reader::new(Port, $framing, &mut buffer).with_skip_max(skip_max);
        for _ in 0..unsafe { read_volatile(COUNT) } {
            if let Ok(received) = reader.receive()$($wait)* {
                show(received);
            }
            if let Ok(received) = reader.receive_piece()$($wait)* {
                show_piece(received);
            }
            black_box(reader.is_mid_block());
        }
        black_box(reader.io_mut());
        black_box(reader.into_io());
        let mut bytes = [0; 32];
        fill(&mut bytes);
        let cut = unsafe { read_volatile(COUNT) };
        let (one, two) = bytes.split_at_checked(cut).unwrap_or_default();
        let mut writer = $shell::Writer::new(Port, $framing);
        let _ = black_box(writer.send(one)$($wait)*);
        let _ = black_box(writer.send_parts(&[one, two])$($wait)*);
        let _ = black_box(writer.resume(&[one, two])$($wait)*);
        let _ = black_box(writer.begin(cut as u32));
        let _ = black_box(writer.send_piece(two)$($wait)*);
        let _ = black_box(writer.abandon()$($wait)*);
        let _ = black_box(writer.finish()$($wait)*);
        let _ = black_box(writer.flush()$($wait)*);
        black_box(writer.is_mid_block());
        black_box(writer.io_mut());
        black_box(writer.into_io());
    }};
}

#[cfg(not(feature = "async"))]
#[inline(never)]
fn try_blocking<F: Framing + Copy>(framing: F) {
    calls!(blocking, framing,);
}

#[cfg(feature = "async")]
#[inline(never)]
fn try_async<F: Framing + Copy>(framing: F) {
    let mut future = core::pin::pin!(async { calls!(asynch, framing, .await) });
    let mut context = Context::from_waker(Waker::noop());
    while future.as_mut().poll(&mut context).is_pending() {}
}

/// Makes the calls below the readers and writers: decoder, encoder, sender.
#[cfg(not(feature = "async"))]
#[inline(never)]
fn try_pure<F: Framing + Copy>(framing: F) {
    let mut bytes = [0; 32];
    fill(&mut bytes);
    let cut = unsafe { read_volatile(COUNT) };
    let (one, two) = bytes.split_at_checked(cut).unwrap_or_default();
    let mut out = [0; 48];
    let room = out.get_mut(..cut).unwrap_or_default();
    let _ = black_box(encode(&mut framing.encoder(), &[one, two], room));
    let limits = Limits {
        block_max: cut as u32,
        skip_max: cut as u32,
    };
    let mut decoder = framing.decoder();
    black_box(
        decoder.scan_all::<false>(&mut out, &limits, |at, step| black_box((at, step)).0 < cut),
    );
    black_box(
        decoder.scan_all::<true>(&mut out, &limits, |at, step| black_box((at, step)).0 < cut),
    );
    let _ = black_box(decoder.close(out.len()));
    try_receiver(Receiver::new(framing, &mut out[..]));
    try_receiver(Receiver::new(framing, [0; 40]));
    let mut sender = Sender::new(framing);
    let _ = black_box(sender.begin_whole(&[one, two]));
    let _ = black_box(sender.begin(cut as u32));
    let _ = black_box(sender.begin_piece(one));
    let _ = black_box(sender.resume(one));
    let _ = black_box(sender.begin_end());
    while let chunk @ [_, ..] = sender.chunk(&[one, two]) {
        black_box(chunk);
        sender.advance(unsafe { read_volatile(COUNT) });
    }
    sender.flushed();
    let _ = black_box(sender.abandon());
    while let chunk @ [_, ..] = sender.chunk(&[0_u8; 0]) {
        black_box(chunk);
        sender.advance(unsafe { read_volatile(COUNT) });
    }
    black_box(sender.is_mid_block());
}

#[cfg(not(feature = "async"))]
fn try_receiver<F: Framing, B: Buffer>(receiver: Receiver<F, B>) {
    let mut receiver = receiver.with_skip_max(unsafe { read_volatile(COUNT) } as u32);
    for _ in 0..unsafe { read_volatile(COUNT) } {
        black_box(receiver.space(unsafe { read_volatile(COUNT) }));
        receiver.filled(unsafe { read_volatile(COUNT) });
        for found in [receiver.poll(), receiver.poll_piece()] {
            if let Ok(Polled::Payload { bytes, .. }) = found {
                show_bytes(receiver.payload(bytes));
            }
        }
    }
    let _ = black_box(receiver.close());
    black_box(receiver.is_mid_block());
}

/// Makes every call of a session: that of the sender, of the receiver, and of the frames.
#[cfg(not(feature = "async"))]
#[inline(never)]
fn try_session<M: Mode>() -> SessionSender<[u8; 40], M> {
    let mut bytes = [0; 48];
    fill(&mut bytes);
    let count = || unsafe { read_volatile(COUNT) };
    let (one, two) = bytes.split_at_checked(count()).unwrap_or_default();
    let mut sender = SessionSender::new([0; 40], Full::DropOldest);
    if let Some(Ok(device)) = core::str::from_utf8(one).ok().map(Device::new) {
        let mut hello = [0; wire::HELLO_WIRE_MAX];
        show_bytes(sender.hello(&device.with_eager_start(), count() as u64, &mut hello));
    }
    for _ in 0..count() {
        let _ = black_box(sender.push(one));
        let _ = black_box(sender.push_parts(&[one, two]));
        let _ = black_box(sender.heard(two));
        show_bytes(sender.chunk(count() as u64));
        sender.wrote(count());
        black_box(sender.unacknowledged());
        black_box(sender.session());
        sender.ping();
        sender.end();
        sender.closed();
    }
    sender
}

#[cfg(not(feature = "async"))]
#[inline(never)]
fn try_saved<M: Mode>() {
    let sender = try_session::<M>();
    let mut saved = sender.save().to_bytes();
    fill(&mut saved);
    black_box(SessionSender::<_, M>::restore(sender.into_ring(), Full::Refuse, &Saved::from_bytes(saved)));
}

#[cfg(not(feature = "async"))]
#[inline(never)]
fn try_frames() {
    let mut bytes = [0; 80];
    fill(&mut bytes);
    let count = || unsafe { read_volatile(COUNT) };
    let bytes = bytes.get(..count()).unwrap_or_default();
    black_box(wire::Hello::opening(bytes));
    if let Ok(hello) = black_box(wire::Hello::parse(bytes)) {
        let mut to = [0; 90];
        black_box(hello.encode(&mut to));
        for extension in hello.extensions.iter() {
            black_box(extension);
        }
    }
    if let Ok(cont) = black_box(wire::Cont::parse(bytes)) {
        show_bytes(&cont.encode());
    }
    match black_box(wire::Down::parse(bytes)) {
        Ok(wire::Down::Welcome(welcome)) => show_bytes(&welcome.encode()),
        Ok(wire::Down::Ack(ack)) => show_bytes(&ack.encode().0),
        Ok(wire::Down::Closing(closing)) => show_bytes(&closing.encode().0),
        _ => {}
    }
    let mut clock = HostClock::new();
    clock.heard(wire::time_ns(bytes).unwrap_or(0), count() as u64);
    black_box(clock.at(count() as u64));
    let mut receiver = SessionReceiver::new(count() as u64, count() as u32);
    let mut next = count() as u64;
    let _ = black_box(receiver.hello(count() as u64, next, count() as u32, count() as u32));
    let _ = black_box(receiver.cont(count() as u64, &mut next, count() as u64));
    let _ = black_box(receiver.take(count() as u64, &mut next, count() as u64, count() as u32));
    black_box(receiver.write(count() as u64, count() as u64));
    receiver.synced(count() as u64);
    receiver.closed(count() as u64);
    black_box((receiver.reset(), receiver.acked(next), receiver.is_forgettable()));
}

#[cfg(not(feature = "async"))]
impl embedded_io::ReadReady for Port {
    fn read_ready(&mut self) -> Result<bool, Infallible> {
        Ok(unsafe { read_volatile(COUNT) } != 0)
    }
}

#[cfg(not(feature = "async"))]
#[inline(never)]
fn try_link<M: Mode>() {
    let mut sender = SessionSender::<_, M>::new([0; 40], Full::DropOldest);
    let Ok(device) = Device::new("device") else { return };
    if let Ok(mut link) = blocking::Link::open(&mut sender, Port, Port, &device, 0) {
        let _ = black_box(link.turn(1));
        let _ = black_box(link.push(b"message"));
        let _ = black_box(link.finish(|| 0));
    }
}

#[cfg(feature = "async")]
#[inline(never)]
fn try_link<M: Mode>() {
    let future = async {
        let mut sender = SessionSender::<_, M>::new([0; 40], Full::DropOldest);
        let Ok(device) = Device::new("device") else { return };
        if let Ok(mut link) = asynch::Link::open(&mut sender, Port, Port, &device, 0).await {
            let _ = black_box(link.drive(|| 1).await);
            let _ = black_box(link.push(b"message"));
            let _ = black_box(link.finish(|| 0).await);
        }
    };
    let mut future = core::pin::pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    while future.as_mut().poll(&mut context).is_pending() {}
}

fn try_sessions() {
    try_link::<()>();
    try_link::<Eager>();
    #[cfg(not(feature = "async"))]
    {
        black_box(try_session::<()>());
        try_saved::<Retained>();
        try_saved::<Eager>();
        try_frames();
    }
}

fn try_all<F: Framing + Copy>(framing: F) {
    #[cfg(not(feature = "async"))]
    try_blocking(framing);
    #[cfg(not(feature = "async"))]
    try_pure(framing);
    #[cfg(feature = "async")]
    try_async(framing);
}

#[unsafe(no_mangle)]
extern "C" fn _start() -> ! {
    #[cfg(feature = "async")]
    uplink::try_all();
    try_sessions();
    try_all(Blocks);
    try_all(Stream);
    try_all(Lines);
    try_all(Cobs);
    try_all(CobsPieces);
    try_all(CobsCrc16);
    try_all(CobsCrc16Pieces);
    try_all(CobsCrc32);
    try_all(CobsCrc32Pieces);
    try_all(Length::<U8>::new());
    try_all(Length::<U16>::new());
    try_all(Length::<U16Le>::new());
    try_all(Length::<U32>::new());
    try_all(Length::<U32Le>::new());
    try_all(Varint);
    try_all(Netstring);
    try_all(OctetCounted);
    let mut spec = [0; 24];
    fill(&mut spec);
    if let Some(framing) = Delimited::new(&spec) {
        try_all(framing);
    }
    if let Some(len) = core::num::NonZeroU32::new(unsafe { read_volatile(COUNT) } as u32) {
        try_all(Fixed::new(len));
    }
    if let Some(Ok(framing)) = core::str::from_utf8(&spec)
        .ok()
        .map(str::parse::<AnyFraming>)
    {
        try_all(framing);
    }
    #[cfg(feature = "panics")]
    black_box(spec[unsafe { read_volatile(COUNT) }]);
    loop {}
}
