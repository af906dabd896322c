//! A host of one session over TLS, in simulated time: [`TlsHost`].

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{Read as _, Write as _};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use embassy_futures::select::{Either, select};
use embedded_io::{ErrorKind, ErrorType};
use embedded_io_async::{Read, Write};
use framing_uplink::{Clock, Connect, Split};
use rustls::{ServerConfig, ServerConnection};

use crate::host::{HEARTBEAT_S, START_MS, State};
use crate::support::Time;

/// What becomes of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Course {
    /// It does not fail by itself.
    Lives,
    /// It is reset after this many bytes up.
    Up(usize),
    /// It is reset after this many bytes down.
    Down(usize),
    /// This byte down is another one.
    Spoils(usize),
    /// It is reset as soon as the host refuses something, and its alert is lost.
    LosesAlert,
    /// Somebody on the way adds these records after this many bytes down.
    Adds(usize, &'static [u8]),
}

/// A host, its connections, and what it has recorded.
pub(crate) struct TlsHost<'t> {
    time: &'t Time,
    /// The server of each connection, and what becomes of it. The last one is for all further connections.
    courses: RefCell<VecDeque<(Arc<ServerConfig>, Course)>>,
    /// Bytes at most of each read and write.
    pub(crate) piece: Cell<usize>,
    pub(crate) attempts_ms: RefCell<Vec<u64>>,
    /// Bytes up and down on the last connection.
    pub(crate) bytes: Cell<(usize, usize)>,
    /// Records of the last connection after the handshake: their lengths.
    pub(crate) records: RefCell<Vec<usize>>,
    /// Where the records down of the last connection begin.
    pub(crate) begins: RefCell<Vec<usize>>,
    /// Connections that ended with `close_notify`.
    pub(crate) notified: Cell<usize>,
    /// What the host refused.
    pub(crate) refused: RefCell<Vec<String>>,
    pub(crate) state: RefCell<State>,
}

impl<'t> TlsHost<'t> {
    pub(crate) fn new(time: &'t Time, courses: &[(Arc<ServerConfig>, Course)]) -> Self {
        Self {
            time,
            courses: RefCell::new(courses.iter().cloned().collect()),
            piece: Cell::new(61),
            attempts_ms: RefCell::default(),
            bytes: Cell::default(),
            records: RefCell::default(),
            begins: RefCell::default(),
            notified: Cell::default(),
            refused: RefCell::default(),
            state: RefCell::default(),
        }
    }

    fn now_ns(&self) -> u64 {
        (START_MS * 1_000 + self.time.now_us()) * 1_000
    }
}

/// One connection to the host.
pub(crate) struct Line<'a> {
    host: &'a TlsHost<'a>,
    course: Course,
    tls: RefCell<ServerConnection>,
    down: RefCell<VecDeque<u8>>,
    read: Cell<usize>,
    written: Cell<usize>,
    /// A part of a record that has arrived.
    part: RefCell<Vec<u8>>,
    heartbeat_us: Cell<u64>,
    /// The host has refused something, or closed.
    is_over: Cell<bool>,
    is_notified: Cell<bool>,
    read_turn: Cell<bool>,
    write_turn: Cell<bool>,
}

impl Line<'_> {
    fn is_reset(&self) -> bool {
        match self.course {
            Course::Up(limit) => limit <= self.written.get(),
            Course::Down(limit) => limit <= self.read.get(),
            Course::LosesAlert => self.is_over.get(),
            Course::Lives | Course::Spoils(_) | Course::Adds(..) => false,
        }
    }

    /// Moves what the host writes to the device.
    fn answer(&self) {
        let (mut tls, mut state) = (self.tls.borrow_mut(), self.host.state.borrow_mut());
        let plain: Vec<u8> = state.down.drain(..).collect();
        tls.writer().write_all(&plain).unwrap();
        if state.is_closed && !self.is_over.replace(true) {
            tls.send_close_notify();
        }
        let mut bytes = Vec::new();
        while tls.wants_write() {
            tls.write_tls(&mut bytes).unwrap();
        }
        let mut down = self.down.borrow_mut();
        let (mut at, mut rest) = (self.read.get() + down.len(), &bytes[..]);
        while let Some([_, _, _, high, low]) = rest.first_chunk() {
            self.host.begins.borrow_mut().push(at);
            let len = 5 + usize::from(u16::from_be_bytes([*high, *low]));
            (at, rest) = (at + len, &rest[len..]);
        }
        down.extend(bytes);
    }

    /// Gives bytes of the device to the host.
    fn hear(&self, mut bytes: &[u8]) {
        let (mut tls, mut state) = (self.tls.borrow_mut(), self.host.state.borrow_mut());
        if !tls.is_handshaking() {
            self.note_records(bytes);
        }
        while !bytes.is_empty() && !self.is_over.get() {
            tls.read_tls(&mut bytes).unwrap();
            match tls.process_new_packets() {
                Ok(io) => {
                    let is_closed = io.peer_has_closed() && !self.is_notified.replace(true);
                    let notified = &self.host.notified;
                    notified.set(notified.get() + usize::from(is_closed));
                }
                Err(error) => {
                    self.host.refused.borrow_mut().push(error.to_string());
                    self.is_over.set(true);
                }
            }
            let mut plain = [0; 4096];
            while let Ok(len @ 1..) = tls.reader().read(&mut plain) {
                state.up.extend_from_slice(&plain[..len]);
            }
            state.read(self.host.now_ns());
        }
        if let Some(waiting) = &state.waiting {
            waiting.wake_by_ref();
        }
    }

    fn note_records(&self, bytes: &[u8]) {
        let mut part = self.part.borrow_mut();
        part.extend_from_slice(bytes);
        while let Some(header) = part.first_chunk::<5>()
            && let len = 5 + usize::from(u16::from_be_bytes([header[3], header[4]]))
            && len <= part.len()
        {
            part.drain(..len);
            self.host.records.borrow_mut().push(len);
        }
    }

    async fn read(&self, to: &mut [u8]) -> Result<usize, ErrorKind> {
        loop {
            let received = poll_fn(|context| {
                if hesitates(&self.read_turn, context).is_pending() {
                    return Poll::Pending;
                }
                self.answer();
                if self.is_reset() {
                    return Poll::Ready(Err(ErrorKind::ConnectionReset));
                }
                let mut down = self.down.borrow_mut();
                let at = self.read.get();
                if let Course::Adds(place, records) = self.course
                    && at == place
                {
                    for byte in records.iter().rev() {
                        down.push_front(*byte);
                    }
                }
                if down.is_empty() && self.is_over.get() {
                    return Poll::Ready(Ok(0));
                }
                if down.is_empty() {
                    self.host.state.borrow_mut().waiting = Some(context.waker().clone());
                    return Poll::Pending;
                }
                let mut len = down.len().min(to.len()).min(self.host.piece.get());
                match self.course {
                    Course::Down(limit) => len = len.min(limit - at),
                    Course::Adds(place, _) if at < place => len = len.min(place - at),
                    _ => {}
                }
                for (number, (slot, byte)) in (at..).zip(to.iter_mut().zip(down.drain(..len))) {
                    let spoils = matches!(self.course, Course::Spoils(place) if place == number);
                    *slot = byte ^ u8::from(spoils);
                }
                Poll::Ready(Ok(len))
            });
            let heartbeat = self.host.time.sleep_until_us(self.heartbeat_us.get());
            match select(received, heartbeat).await {
                Either::First(Ok(len)) => {
                    self.read.set(self.read.get() + len);
                    self.host.bytes.set((self.written.get(), self.read.get()));
                    return Ok(len);
                }
                Either::First(Err(kind)) => return Err(kind),
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
        if self.is_reset() {
            return Err(ErrorKind::ConnectionReset);
        }
        let mut len = bytes.len().min(self.host.piece.get());
        if let Course::Up(limit) = self.course {
            len = len.min(limit - self.written.get());
        }
        poll_fn(|context| hesitates(&self.write_turn, context)).await;
        self.written.set(self.written.get() + len);
        self.host.bytes.set((self.written.get(), self.read.get()));
        self.hear(&bytes[..len]);
        Ok(len)
    }
}

/// Waits at every second call of a direction, where the caller may give up.
fn hesitates(turn: &Cell<bool>, context: &Context<'_>) -> Poll<()> {
    if turn.replace(!turn.get()) {
        context.waker().wake_by_ref();
        return Poll::Pending;
    }
    Poll::Ready(())
}

impl Connect for &TlsHost<'_> {
    type Connection<'a>
        = Line<'a>
    where
        Self: 'a;

    async fn connect(&mut self) -> Result<Line<'_>, ErrorKind> {
        self.attempts_ms.borrow_mut().push(self.time.now_ms());
        let mut courses = self.courses.borrow_mut();
        let (config, course) = match courses.len() {
            1 => courses[0].clone(),
            _ => courses.pop_front().expect("a course"),
        };
        self.state.borrow_mut().accept();
        self.records.borrow_mut().clear();
        self.begins.borrow_mut().clear();
        Ok(Line {
            host: self,
            course,
            tls: RefCell::new(ServerConnection::new(config).unwrap()),
            down: RefCell::default(),
            read: Cell::new(0),
            written: Cell::new(0),
            part: RefCell::default(),
            heartbeat_us: Cell::new(self.time.now_us() + u64::from(HEARTBEAT_S) * 1_000_000),
            is_over: Cell::new(false),
            is_notified: Cell::new(false),
            read_turn: Cell::new(false),
            write_turn: Cell::new(false),
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

impl Split for &TlsHost<'_> {
    type Error = ErrorKind;

    fn split<'s, 'a>(
        line: &'s mut Line<'a>,
    ) -> (impl Read<Error = ErrorKind>, impl Write<Error = ErrorKind>)
    where
        Self: 'a,
        'a: 's,
    {
        (Half(line), Half(line))
    }

    async fn end<'a>(line: &mut Line<'a>, _: bool)
    where
        Self: 'a,
    {
        let _ = line;
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

impl Read for Half<'_, '_> {
    async fn read(&mut self, to: &mut [u8]) -> Result<usize, ErrorKind> {
        pin!(self.0.read(to)).await
    }
}

impl Write for Half<'_, '_> {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, ErrorKind> {
        self.0.write(bytes).await
    }

    async fn flush(&mut self) -> Result<(), ErrorKind> {
        Ok(())
    }
}

// Used for the handshake.
impl Read for Line<'_> {
    async fn read(&mut self, to: &mut [u8]) -> Result<usize, ErrorKind> {
        Half(self).read(to).await
    }
}

impl Write for Line<'_> {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, ErrorKind> {
        Half(self).write(bytes).await
    }

    async fn flush(&mut self) -> Result<(), ErrorKind> {
        Ok(())
    }
}
