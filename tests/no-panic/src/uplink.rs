//! The calls of `framing-uplink`: a session, a plain series, and a serial line, over transports that the compiler knows nothing
//! about.

use core::hint::black_box;
use core::pin::pin;
use core::ptr::read_volatile;
use core::task::{Context, Waker};

use embedded_io_async::{ErrorKind, Read, Write};
use framing_uplink::serial::UartLine;
use framing_uplink::{
    Clock, Config, Connect, Device, Full, Ring, RingSource, Session, SessionMemory, Split, Stop, run_series,
};

use crate::{COUNT, Port, maybe};

struct NoInterrupts;

critical_section::set_impl!(NoInterrupts);

unsafe impl critical_section::Impl for NoInterrupts {
    unsafe fn acquire() {}

    unsafe fn release((): ()) {}
}

struct Timer;

impl Clock for Timer {
    fn now_us(&self) -> u64 {
        unsafe { read_volatile(COUNT.cast()) }
    }

    async fn sleep_until_us(&self, _: u64) {
        core::future::poll_fn(|_| maybe(|| ())).await;
    }
}

/// Both directions of a connection.
struct Pair(Port, Port);

impl embedded_io::ErrorType for Pair {
    type Error = core::convert::Infallible;
}

impl Read for Pair {
    async fn read(&mut self, buf: &mut [u8]) -> Result<usize, Self::Error> {
        Read::read(&mut self.0, buf).await
    }
}

impl Write for Pair {
    async fn write(&mut self, buf: &[u8]) -> Result<usize, Self::Error> {
        Write::write(&mut self.1, buf).await
    }

    async fn flush(&mut self) -> Result<(), Self::Error> {
        Write::flush(&mut self.1).await
    }
}

struct Network;

impl Connect for Network {
    type Connection<'a> = Pair;

    async fn connect(&mut self) -> Result<Pair, ErrorKind> {
        core::future::poll_fn(|_| maybe(|| ())).await;
        match unsafe { read_volatile(COUNT) } {
            1 => Ok(Pair(Port, Port)),
            _ => Err(ErrorKind::TimedOut),
        }
    }

    async fn close<'a>(connection: &mut Pair) -> Result<(), ErrorKind>
    where
        Self: 'a,
    {
        let _ = connection.flush().await;
        Ok(())
    }
}

impl Split for Network {
    type Error = core::convert::Infallible;

    fn split<'s, 'a>(
        Pair(input, output): &'s mut Pair,
    ) -> (
        impl Read<Error = Self::Error>,
        impl Write<Error = Self::Error>,
    )
    where
        Self: 'a,
        'a: 's,
    {
        (input, output)
    }

    async fn end<'a>(_: &mut Pair, _: bool)
    where
        Self: 'a,
    {
    }
}

static RING: Ring<256> = Ring::new(Full::DropOldest);
static STOP: Stop = Stop::new();

#[inline(never)]
pub(crate) fn try_all() {
    let _ = black_box(RING.push(b"message"));
    run(async {
        let Ok(device) = Device::new("device") else {
            return;
        };
        let mut memory = SessionMemory::<512>::new();
        let seed = unsafe { read_volatile(COUNT) } as u32;
        let mut session = Session::new(device, &mut memory, Full::Refuse, seed);
        black_box(session.run(&Config::new(), &RING, &STOP, &Timer, &mut Network).await);
    });
    run(async {
        let mut source = RingSource::<_, 64>::new(&RING);
        black_box(run_series(&Config::new(), &mut source, &STOP, &Timer, &mut Network, 7).await);
    });
    run(async {
        let mut line = UartLine::new(Port, Port);
        let mut source = RingSource::<_, 64>::new(&RING);
        black_box(run_series(&Config::new(), &mut source, &STOP, &Timer, &mut line, 7).await);
    });
    STOP.request();
    RING.close();
}

fn run(future: impl Future) {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    while future.as_mut().poll(&mut context).is_pending() {}
}
