//! Peers and networks that never make anybody wait: the time limits and a request to stop are heard all the same.

use std::cell::Cell;
use std::convert::Infallible;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use embedded_io_async::{ErrorKind, ErrorType, Read, Write};
use framing_uplink::{
    BackoffBounds, Clock, Config, Connect, Device, Full, Ring, RingSource, Session, SessionMemory,
    Split, Stop, run_series,
};

/// Polls after which a future is taken to be stuck.
const POLLS_MAX: usize = 100_000;

/// A clock that goes on by 1 ms each time somebody looks.
#[derive(Default)]
struct Ticking(Cell<u64>);

impl Clock for Ticking {
    fn now_us(&self) -> u64 {
        self.0.set(self.0.get() + 1_000);
        self.0.get()
    }

    async fn sleep_until_us(&self, at_us: u64) {
        std::future::poll_fn(|context| match at_us <= self.now_us() {
            true => Poll::Ready(()),
            false => {
                context.waker().wake_by_ref();
                Poll::Pending
            }
        })
        .await;
    }
}

/// A network whose server repeats some bytes without end, or that refuses each connection at once.
struct Network(Option<&'static [u8]>);

/// A direction of a connection, and how many operations it has taken.
struct Flood(&'static [u8], usize);

impl Flood {
    /// A future that never yields would never end: stop it here.
    fn count(&mut self) {
        self.1 += 1;
        assert!(self.1 < 10_000_000, "nobody else ran");
    }
}

impl ErrorType for Flood {
    type Error = Infallible;
}

impl Read for Flood {
    async fn read(&mut self, buf: &mut [u8]) -> Result<usize, Infallible> {
        self.count();
        let len = buf.len().min(self.0.len());
        buf[..len].copy_from_slice(&self.0[..len]);
        Ok(len)
    }
}

impl Write for Flood {
    async fn write(&mut self, buf: &[u8]) -> Result<usize, Infallible> {
        self.count();
        Ok(buf.len())
    }

    async fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

struct Both(Flood, Flood);

impl ErrorType for Both {
    type Error = Infallible;
}

impl Read for Both {
    async fn read(&mut self, buf: &mut [u8]) -> Result<usize, Infallible> {
        self.0.read(buf).await
    }
}

impl Write for Both {
    async fn write(&mut self, buf: &[u8]) -> Result<usize, Infallible> {
        self.1.write(buf).await
    }

    async fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

impl Connect for Network {
    type Connection<'a> = Both;

    async fn connect(&mut self) -> Result<Both, ErrorKind> {
        let bytes = self.0.ok_or(ErrorKind::ConnectionRefused)?;
        Ok(Both(Flood(bytes, 0), Flood(bytes, 0)))
    }

    async fn close<'a>(_: &mut Both) -> Result<(), ErrorKind>
    where
        Self: 'a,
    {
        Ok(())
    }
}

impl Split for Network {
    type Error = Infallible;

    fn split<'s, 'a>(
        Both(read, write): &'s mut Both,
    ) -> (
        impl Read<Error = Infallible>,
        impl Write<Error = Infallible>,
    )
    where
        Self: 'a,
        'a: 's,
    {
        (read, write)
    }

    async fn end<'a>(_: &mut Both, _: bool)
    where
        Self: 'a,
    {
    }
}

/// Empty blocks, without end.
const EMPTY: &[u8] = &[0; 64];
/// Bytes that are not a message of any framing.
const NOISE: &[u8] = &[0x55; 64];

fn config() -> Config {
    Config {
        stop_ms: 50,
        backoff: BackoffBounds {
            first_ms: 0,
            last_ms: 0,
            long_ms: 0,
        },
        ..Config::new()
    }
}

#[track_caller]
fn finish<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..POLLS_MAX {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
    }
    panic!("it does not end");
}

#[test]
fn a_session_ends_in_time_whatever_the_host_floods_it_with() {
    for bytes in [Some(EMPTY), Some(NOISE), None] {
        let (ring, stop) = (Ring::<256>::new(Full::Refuse), Stop::new());
        ring.push(b"message").unwrap();
        stop.request();
        let mut memory = SessionMemory::<512>::new();
        let device = Device::new("device").unwrap();
        let mut session = Session::new(device, &mut memory, Full::Refuse, 1);
        let (clock, mut network) = (Ticking::default(), Network(bytes));
        let report = finish(session.run(&config(), &ring, &stop, &clock, &mut network));
        assert!(!report.ended, "{bytes:?}: {report:?}");
        assert_eq!((report.acknowledged, report.left), (0, 1), "{bytes:?}");
    }
}

#[test]
fn a_series_ends_in_time_whatever_the_host_floods_it_with() {
    for bytes in [Some(EMPTY), Some(NOISE), None] {
        let (ring, stop) = (Ring::<256>::new(Full::Refuse), Stop::new());
        stop.request();
        let mut source = RingSource::<256, 64>::new(&ring);
        let (clock, mut network) = (Ticking::default(), Network(bytes));
        let config = config();
        let running = run_series(&config, &mut source, &stop, &clock, &mut network, 1);
        assert!(!finish(running).ended, "{bytes:?}");
    }
}
