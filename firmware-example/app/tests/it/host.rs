//! A host of one session in simulated time, whose connections fail at any byte in either direction: [`Host`].

mod state;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::future::{pending, poll_fn};
use std::pin::pin;
use std::task::Poll;

use embassy_futures::select::{Either, select};
use embedded_io::{ErrorKind, ErrorType};
use framing_core::session::wire::ClosingCode;
use framing_uplink::{Clock, Connect, Split};

use crate::support::Time;

pub(crate) use self::state::{HEARTBEAT_S, State};

/// The host's time at the start of the device's clock, in ms since 1970.
pub(crate) const START_MS: u64 = 1_800_000_000_000;

/// What becomes of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Course {
    /// The connection is refused.
    Refused,
    /// The host takes everything and answers nothing, like one that does not speak the protocol.
    Mute,
    /// The host answers the HELLO with this CLOSING.
    Refuses(u8, u16),
    /// After this many bytes up, this happens.
    Up(usize, Failure),
    /// The connection is reset after this many bytes down.
    Down(usize),
    /// The connection does not fail.
    Lives,
}

/// How a connection fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It is reset.
    Reset,
    /// The host closes it.
    Close,
    /// The host sends CLOSING with this code, and closes it.
    Closing(u8),
    /// Nothing is taken any more, and nothing comes.
    Silence,
    /// The connection takes what it is given, and nothing arrives.
    Deaf,
    /// The host is killed: what it did not sync is gone.
    Crash,
}

/// The host, and what it has recorded.
pub(crate) struct Host<'t> {
    time: &'t Time,
    courses: RefCell<VecDeque<Course>>,
    after: Course,
    pub(crate) attempts_ms: RefCell<Vec<u64>>,
    pub(crate) aborts: Cell<usize>,
    /// Bytes up and down on the last connection.
    pub(crate) bytes: Cell<(usize, usize)>,
    /// How much slower the host's clock is than the device's.
    pub(crate) slower_ppm: Cell<u64>,
    state: RefCell<State>,
}

impl<'t> Host<'t> {
    /// Gives the first connections these courses, and all later ones the course `after`.
    pub(crate) fn new(time: &'t Time, courses: &[Course], after: Course) -> Self {
        Self {
            time,
            courses: RefCell::new(courses.iter().copied().collect()),
            after,
            attempts_ms: RefCell::default(),
            aborts: Cell::default(),
            bytes: Cell::default(),
            slower_ppm: Cell::new(0),
            state: RefCell::default(),
        }
    }

    /// The durable samples in the order of their numbers, and the number of gaps. Each number is there once.
    #[track_caller]
    pub(crate) fn recorded(&self) -> (Vec<BTreeMap<String, f64>>, usize) {
        self.state.borrow().recorded()
    }

    /// The host's time at this time of the device's clock, in ns since 1970.
    pub(crate) fn at_ns(&self, uptime_us: u64) -> u64 {
        let slow_ns = uptime_us * self.slower_ppm.get() / 1_000;
        START_MS * 1_000_000 + uptime_us * 1_000 - slow_ns
    }

    fn now_ns(&self) -> u64 {
        self.at_ns(self.time.now_us())
    }
}

/// One connection to the host.
pub(crate) struct Line<'a> {
    host: &'a Host<'a>,
    course: Course,
    up: Cell<usize>,
    down: Cell<usize>,
    heartbeat_us: Cell<u64>,
    is_failed: Cell<bool>,
}

impl Line<'_> {
    /// Fails now, if that is due. Returns whether the direction up is deaf.
    fn fail(&self) -> Result<bool, Failure> {
        let Course::Up(limit, failure) = self.course else {
            return Ok(false);
        };
        if self.up.get() < limit {
            return Ok(false);
        }
        let mut state = self.host.state.borrow_mut();
        if !self.is_failed.replace(true) {
            match failure {
                Failure::Close => state.close(),
                Failure::Closing(code) => {
                    if code == ClosingCode::Again as u8 {
                        state.crash();
                    }
                    state.closing(code, 0);
                }
                Failure::Crash => {
                    state.crash();
                    state.push(&[]);
                }
                Failure::Reset | Failure::Silence | Failure::Deaf => state.push(&[]),
            }
        }
        match failure {
            Failure::Reset | Failure::Crash | Failure::Silence => Err(failure),
            // What the host does not read any more.
            Failure::Close | Failure::Closing(_) | Failure::Deaf => Ok(true),
        }
    }

    async fn failed<T>(&self, failure: Failure) -> Result<T, ErrorKind> {
        match failure {
            Failure::Silence => pending().await,
            _ => Err(ErrorKind::ConnectionReset),
        }
    }

    async fn read(&self, to: &mut [u8]) -> Result<usize, ErrorKind> {
        loop {
            let received = poll_fn(|context| {
                if let Course::Mute = self.course {
                    return Poll::Pending;
                }
                if let Err(failure) = self.fail() {
                    return Poll::Ready(Err(failure));
                }
                let limit = match self.course {
                    Course::Down(limit) => limit - self.down.get(),
                    _ => usize::MAX,
                };
                if limit == 0 {
                    return Poll::Ready(Err(Failure::Reset));
                }
                let mut state = self.host.state.borrow_mut();
                state.waiting = Some(context.waker().clone());
                if self.is_failed.get() && matches!(self.course, Course::Up(_, Failure::Deaf)) {
                    return Poll::Pending;
                }
                if state.down.is_empty() && !state.is_closed {
                    return Poll::Pending;
                }
                // In small pieces, like a busy network.
                let len = state.down.len().min(to.len()).min(limit).min(7);
                for (slot, byte) in to.iter_mut().zip(state.down.drain(..len)) {
                    *slot = byte;
                }
                Poll::Ready(Ok(len))
            });
            let heartbeat = self.host.time.sleep_until_us(self.heartbeat_us.get());
            match select(received, heartbeat).await {
                Either::First(Ok(len)) => {
                    self.down.set(self.down.get() + len);
                    self.host.bytes.set((self.up.get(), self.down.get()));
                    return Ok(len);
                }
                Either::First(Err(failure)) => return self.failed(failure).await,
                Either::Second(()) => {
                    let due_us = self.heartbeat_us.get() + u64::from(HEARTBEAT_S) * 1_000_000;
                    self.heartbeat_us.set(due_us);
                    let now_ns = self.host.now_ns();
                    self.host.state.borrow_mut().acknowledge(now_ns);
                }
            }
        }
    }

    async fn write(&self, bytes: &[u8]) -> Result<usize, ErrorKind> {
        assert!(!bytes.is_empty(), "an empty write");
        let is_deaf = match self.fail() {
            Ok(is_deaf) => is_deaf,
            Err(failure) => return self.failed(failure).await,
        };
        let mut len = bytes.len().min(13);
        if let Course::Up(limit, _) = self.course
            && !is_deaf
        {
            len = len.min(limit - self.up.get());
        }
        self.up.set(self.up.get() + len);
        self.host.bytes.set((self.up.get(), self.down.get()));
        if !is_deaf && !matches!(self.course, Course::Mute) {
            let mut state = self.host.state.borrow_mut();
            state.up.extend_from_slice(&bytes[..len]);
            if let Course::Refuses(code, retry_s) = self.course {
                if !state.is_closed {
                    state.closing(code, retry_s);
                }
            } else {
                state.read(self.host.now_ns());
            }
        }
        // The failure that is due now is noticed by a read, too.
        let _ = self.fail();
        Ok(len)
    }
}

impl Connect for &Host<'_> {
    type Connection<'a>
        = Line<'a>
    where
        Self: 'a;

    async fn connect(&mut self) -> Result<Line<'_>, ErrorKind> {
        self.attempts_ms.borrow_mut().push(self.time.now_ms());
        let course = self.courses.borrow_mut().pop_front().unwrap_or(self.after);
        if let Course::Refused = course {
            return Err(ErrorKind::ConnectionRefused);
        }
        self.state.borrow_mut().accept();
        Ok(Line {
            host: self,
            course,
            up: Cell::new(0),
            down: Cell::new(0),
            heartbeat_us: Cell::new(self.time.now_us() + u64::from(HEARTBEAT_S) * 1_000_000),
            is_failed: Cell::new(false),
        })
    }

    async fn close<'a>(line: &mut Line<'a>) -> Result<(), ErrorKind>
    where
        Self: 'a,
    {
        let _ = line;
        Ok(())
    }
}

impl Split for &Host<'_> {
    type Error = ErrorKind;

    fn split<'s, 'a>(
        line: &'s mut Line<'a>,
    ) -> (
        impl embedded_io_async::Read<Error = ErrorKind>,
        impl embedded_io_async::Write<Error = ErrorKind>,
    )
    where
        Self: 'a,
        'a: 's,
    {
        (Half(line), Half(line))
    }

    async fn end<'a>(line: &mut Line<'a>, is_graceful: bool)
    where
        Self: 'a,
    {
        line.host
            .aborts
            .set(line.host.aborts.get() + usize::from(!is_graceful));
    }
}

/// One direction of a connection.
struct Half<'s, 'a>(&'s Line<'a>);

impl ErrorType for Half<'_, '_> {
    type Error = ErrorKind;
}

impl ErrorType for Line<'_> {
    type Error = ErrorKind;
}

impl embedded_io_async::Read for Half<'_, '_> {
    async fn read(&mut self, to: &mut [u8]) -> Result<usize, ErrorKind> {
        pin!(self.0.read(to)).await
    }
}

impl embedded_io_async::Write for Half<'_, '_> {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, ErrorKind> {
        self.0.write(bytes).await
    }

    async fn flush(&mut self) -> Result<(), ErrorKind> {
        Ok(())
    }
}

// A session does not use these.
impl embedded_io_async::Read for Line<'_> {
    async fn read(&mut self, to: &mut [u8]) -> Result<usize, ErrorKind> {
        Half(self).read(to).await
    }
}

impl embedded_io_async::Write for Line<'_> {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, ErrorKind> {
        Half(self).write(bytes).await
    }

    async fn flush(&mut self) -> Result<(), ErrorKind> {
        Ok(())
    }
}
