//! A host of one session in simulated time, whose connections fail at any byte in either direction: [`Host`].

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::future::{pending, poll_fn};
use std::pin::pin;
use std::task::{Poll, Waker};

use embassy_futures::select::{Either, select};
use embedded_io::{ErrorKind, ErrorType};
use firmware_example::{Clock, Connect, Split};
use framing_core::session::wire::{Ack, Closing, ClosingCode, Cont, Hello, SYNCED, Welcome};
use framing_core::session::{Gap, SessionReceiver, Written, crc32};

use crate::support::{Time, decode};

/// The host's time at the start of the device's clock, in ms since 1970.
pub(crate) const START_MS: u64 = 1_800_000_000_000;
/// Interval of the host's heartbeats.
pub(crate) const HEARTBEAT_S: u16 = 10;
/// The number of messages after which the host syncs and acknowledges.
const SYNC_AFTER: u64 = 3;
const SESSION: u64 = 0x9f3a_5c77_11d2_e4b6;

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

#[derive(Default)]
struct State {
    receiver: Option<SessionReceiver>,
    conn: u64,
    next: u64,
    acked: u64,
    /// Bytes that arrived, and are not a whole message yet.
    up: Vec<u8>,
    down: VecDeque<u8>,
    is_control: bool,
    is_welcomed: bool,
    is_closed: bool,
    waiting: Option<Waker>,
    /// Messages by number; a gap has no payload.
    log: Vec<(u64, u64, Option<Vec<u8>>)>,
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
        let state = self.state.borrow();
        let (mut next, mut samples, mut gaps) = (0, Vec::new(), 0);
        let durable = state.receiver.map_or(0, |receiver| receiver.durable());
        for (from, to, payload) in &state.log {
            assert_eq!(*from, next, "the recording is contiguous");
            next = *to;
            if durable < next {
                break;
            }
            match payload {
                Some(payload) => samples.push(decode(payload)),
                None => gaps += 1,
            }
        }
        (samples, gaps)
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

impl State {
    fn accept(&mut self) {
        let Self {
            receiver,
            conn,
            log,
            acked,
            ..
        } = std::mem::take(self);
        *self = Self {
            receiver,
            conn: conn + 1,
            log,
            acked,
            is_control: true,
            ..Self::default()
        };
    }

    fn push(&mut self, frame: &[u8]) {
        self.down.extend(frame);
        if let Some(waiting) = &self.waiting {
            waiting.wake_by_ref();
        }
    }

    fn closing(&mut self, code: u8, retry_s: u16) {
        let closing = Closing {
            code,
            retry_s,
            number: 0,
            text: b"",
        };
        let (bytes, len) = closing.encode();
        self.push(&bytes[..len]);
        self.close();
    }

    fn close(&mut self) {
        self.is_closed = true;
        self.push(&[]);
    }

    fn acknowledge(&mut self, time_ns: u64) {
        let Some(receiver) = self.receiver.filter(|_| self.is_welcomed) else {
            return;
        };
        self.acked = receiver.acked(self.next);
        let ack = Ack {
            acked: self.acked,
            time_ns: Some(time_ns),
        };
        let (bytes, len) = ack.encode();
        self.push(&bytes[..len]);
    }

    /// Takes what has arrived.
    fn read(&mut self, now_ns: u64) {
        while let Some(header) = self.up.first_chunk::<4>()
            && let end = 4 + u32::from_be_bytes(*header) as usize
            && end <= self.up.len()
        {
            let message: Vec<u8> = self.up.drain(..end).skip(4).collect();
            if message.is_empty() {
                self.is_control = true;
            } else if !std::mem::take(&mut self.is_control) {
                self.take(message);
            } else if self.is_welcomed {
                self.cont(&Cont::parse(&message).expect("a CONT"), now_ns);
            } else {
                self.is_control = true;
                self.hello(&Hello::parse(&message).expect("a HELLO"), now_ns);
            }
            let receiver = self.receiver.as_mut().expect("after a HELLO");
            let is_due = SYNC_AFTER <= receiver.written() - receiver.durable();
            if is_due || self.is_control && receiver.durable() < receiver.written() {
                receiver.synced(receiver.written());
                self.acknowledge(now_ns);
            }
        }
    }

    fn hello(&mut self, hello: &Hello<'_>, now_ns: u64) {
        let new = || SessionReceiver::new(hello.first, hello.lost);
        let receiver = self.receiver.get_or_insert_with(new);
        let resumed = receiver.hello(self.conn, hello.first, hello.held, hello.lost);
        let resumed = resumed.expect("the session of this ring");
        assert!(
            hello.session == SESSION || receiver.taken() == hello.first,
            "{hello:?}"
        );
        let welcome = Welcome {
            acked: resumed.acked,
            resume: resumed.resume,
            session: SESSION,
            time_ns: now_ns,
            block_max: 1 << 20,
            heartbeat_s: HEARTBEAT_S,
            flags: SYNCED,
            check: resumed.check,
        };
        (self.next, self.acked, self.is_welcomed) = (resumed.resume, resumed.acked, true);
        self.gap(resumed.gap);
        self.push(&welcome.encode());
    }

    fn cont(&mut self, cont: &Cont<'_>, now_ns: u64) {
        let receiver = self.receiver.as_mut().expect("after a HELLO");
        let continued = receiver.cont(self.conn, &mut self.next, cont.number);
        let continued = continued.expect("the owner");
        self.gap(continued.gap);
        if continued.is_ping {
            self.acknowledge(now_ns);
        }
    }

    fn gap(&mut self, gap: Option<Gap>) {
        let Some(gap) = gap else { return };
        let receiver = self.receiver.as_mut().expect("after a HELLO");
        assert_eq!(
            gap.unknown_below, gap.from,
            "nothing acknowledged is missing"
        );
        let written = receiver.write(gap.from, gap.to - gap.from);
        assert_eq!(written, Written::Write { skip: 0 });
        self.log.push((gap.from, gap.to, None));
    }

    fn take(&mut self, message: Vec<u8>) {
        let receiver = self.receiver.as_mut().expect("after a HELLO");
        let check = crc32(message.iter().copied());
        let counted = receiver.take(self.conn, &mut self.next, 1, check);
        let counted = counted.expect("the owner");
        if counted.skip == 0 {
            let first = counted.first;
            assert_eq!(receiver.write(first, 1), Written::Write { skip: 0 });
            self.log.push((first, first + 1, Some(message)));
        }
    }

    /// The process ends: what is not durable is lost.
    fn crash(&mut self) {
        let Some(receiver) = &mut self.receiver else {
            return;
        };
        let durable = receiver.durable();
        self.log.retain(|(_, to, _)| *to <= durable);
        let last = self.log.last().and_then(|(_, _, payload)| payload.as_ref());
        let check = last.map_or(0, |payload| crc32(payload.iter().copied()));
        *receiver = SessionReceiver::recovered(durable, check);
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
