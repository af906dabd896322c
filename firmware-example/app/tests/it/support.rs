//! A simulated world: a clock that jumps, and a network whose connections fail where a test says.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::future::{pending, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use embedded_io::{ErrorKind, ErrorType};
use firmware_example::{Machine, Sample, tail};
use framing_core::blocking::Reader;
use framing_core::{Blocks, Fault, ReceiveError, Received};
use framing_uplink::{Clock, Connect, Ring, TAIL_MAX};
use minicbor::Decoder;
use minicbor::data::Type;

/// A clock that advances only when every task waits for it.
#[derive(Default)]
pub(crate) struct Time {
    now_us: Cell<u64>,
    /// The earliest time that a task waits for.
    next_us: Cell<u64>,
}

impl Clock for Time {
    fn now_us(&self) -> u64 {
        self.now_us.get()
    }

    async fn sleep_until_us(&self, at_us: u64) {
        poll_fn(|_| {
            if self.now_us.get() >= at_us {
                return Poll::Ready(());
            }
            self.next_us.set(self.next_us.get().min(at_us));
            Poll::Pending
        })
        .await;
    }
}

impl Time {
    pub(crate) fn now_ms(&self) -> u64 {
        self.now_us.get() / 1_000
    }

    /// Runs the future to its end in simulated time.
    pub(crate) fn run<F: Future>(&self, future: F) -> F::Output {
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut future = pin!(future);
        loop {
            self.next_us.set(u64::MAX);
            if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return output;
            }
            if !woken.0.swap(false, Ordering::Relaxed) {
                assert_ne!(self.next_us.get(), u64::MAX, "the future never completes");
                self.now_us.set(self.next_us.get());
            }
        }
    }
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Time limit for a peer that does not answer.
const SILENCE_MS: u32 = 10_000;

/// Fate of an attempt to connect.
#[derive(Clone, Copy)]
pub(crate) enum Fate {
    /// The connection is refused.
    Refused,
    /// Nothing answers; the attempt fails after its time limit.
    Unanswered,
    /// The connection takes this many bytes without an acknowledgement, and fails after the time limit for that.
    Deaf(usize),
    /// The connection takes this many bytes, and fails.
    Dies(usize),
    /// The connection takes this many bytes, and then stalls without an error.
    Stalls(usize),
    /// `arrive` bytes arrive, and the server closes. The connection takes `unseen` more, which are lost, before that is
    /// noticed; from then on a read returns 0.
    Closes {
        /// Bytes that arrive.
        arrive: usize,
        /// Bytes that the connection takes after them.
        unseen: usize,
    },
    /// The connection does not fail.
    Lives,
}

/// The server's reply to a series.
enum Answer {
    Bytes(Vec<u8>),
    /// The daemon's reply with `--reply receipt`.
    Receipt,
}

/// A simulated server: the data of each connection, and the times of the attempts.
pub(crate) struct Server<'t> {
    time: &'t Time,
    fates: RefCell<VecDeque<Fate>>,
    after: Fate,
    answer: Answer,
    pub(crate) wires: RefCell<Vec<Vec<u8>>>,
    pub(crate) attempts_ms: RefCell<Vec<u64>>,
    pub(crate) aborts: Cell<usize>,
    pub(crate) closes: Cell<usize>,
}

impl<'t> Server<'t> {
    /// Gives the first connections these fates, and all later ones the fate `after`.
    pub(crate) fn new(time: &'t Time, fates: &[Fate], after: Fate) -> Self {
        Self {
            time,
            fates: RefCell::new(fates.iter().copied().collect()),
            after,
            answer: Answer::Bytes(Vec::new()),
            wires: RefCell::default(),
            attempts_ms: RefCell::default(),
            aborts: Cell::default(),
            closes: Cell::default(),
        }
    }

    /// Replies to every series with these bytes.
    pub(crate) fn answering(mut self, answer: &[u8]) -> Self {
        self.answer = Answer::Bytes(answer.to_vec());
        self
    }

    /// Replies to every series with a receipt, as the daemon does.
    pub(crate) fn with_receipts(mut self) -> Self {
        self.answer = Answer::Receipt;
        self
    }

    /// The reply to a connection.
    fn answer(&self, connection: usize) -> Vec<u8> {
        match &self.answer {
            Answer::Bytes(bytes) => bytes.clone(),
            Answer::Receipt => receipt(&blocks(&self.wires.borrow()[connection]).0),
        }
    }

    /// Returns every sample that arrived completely, in order, and how each connection ended.
    pub(crate) fn received(&self) -> (Vec<BTreeMap<String, f64>>, Vec<Ending>) {
        let mut samples = Vec::new();
        let mut endings = Vec::new();
        for wire in self.wires.borrow().iter() {
            let (blocks, ending) = blocks(wire);
            samples.extend(blocks.iter().map(|block| decode(block)));
            endings.push(ending);
        }
        (samples, endings)
    }
}

/// How the data of a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Mark,
    Truncated,
}

/// One connection to a server.
pub(crate) struct Link<'a> {
    server: &'a Server<'a>,
    at: usize,
    fate: Fate,
    /// Bytes that the connection took.
    taken: usize,
    closed: bool,
    answered: usize,
}

impl Link<'_> {
    /// Whether the server has closed the connection, and the client has noticed it.
    fn is_over(&self) -> bool {
        matches!(self.fate, Fate::Closes { arrive, unseen } if arrive + unseen <= self.taken)
    }
}

impl Connect for &Server<'_> {
    type Connection<'a>
        = Link<'a>
    where
        Self: 'a;

    async fn connect(&mut self) -> Result<Link<'_>, ErrorKind> {
        let now_ms = self.time.now_ms();
        self.attempts_ms.borrow_mut().push(now_ms);
        let fate = self.fates.borrow_mut().pop_front().unwrap_or(self.after);
        match fate {
            Fate::Refused => return Err(ErrorKind::ConnectionRefused),
            Fate::Unanswered => {
                self.time.sleep_ms(SILENCE_MS).await;
                return Err(ErrorKind::TimedOut);
            }
            _ => {}
        }
        let mut wires = self.wires.borrow_mut();
        wires.push(Vec::new());
        Ok(Link {
            server: self,
            at: wires.len() - 1,
            fate,
            taken: 0,
            closed: false,
            answered: 0,
        })
    }

    async fn close<'a>(link: &mut Link<'a>) -> Result<(), ErrorKind>
    where
        Self: 'a,
    {
        link.closed = true;
        link.server.closes.set(link.server.closes.get() + 1);
        Ok(())
    }

    async fn abort<'a>(link: &mut Link<'a>)
    where
        Self: 'a,
    {
        link.server.aborts.set(link.server.aborts.get() + 1);
    }

    fn has_progress<'a>(link: &Link<'a>) -> bool
    where
        Self: 'a,
    {
        !matches!(link.fate, Fate::Deaf(_)) && link.taken != 0
    }
}

impl ErrorType for Link<'_> {
    type Error = ErrorKind;
}

impl embedded_io_async::Read for Link<'_> {
    async fn read(&mut self, bytes: &mut [u8]) -> Result<usize, ErrorKind> {
        if self.is_over() {
            return Ok(0);
        }
        if !self.closed {
            return pending().await;
        }
        let answer = self.server.answer(self.at);
        let rest = &answer[self.answered..];
        let len = rest.len().min(bytes.len());
        bytes[..len].copy_from_slice(&rest[..len]);
        self.answered += len;
        Ok(len)
    }
}

impl embedded_io_async::Write for Link<'_> {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, ErrorKind> {
        assert!(!bytes.is_empty(), "an empty write");
        // In small pieces, like a busy network.
        let mut len = bytes.len().min(13);
        match self.fate {
            Fate::Dies(limit) if self.taken >= limit => return Err(ErrorKind::ConnectionReset),
            Fate::Stalls(limit) if self.taken >= limit => return pending().await,
            Fate::Deaf(limit) if self.taken >= limit => {
                self.server.time.sleep_ms(SILENCE_MS).await;
                return Err(ErrorKind::ConnectionReset);
            }
            Fate::Dies(limit) | Fate::Stalls(limit) | Fate::Deaf(limit) => {
                len = len.min(limit - self.taken);
            }
            Fate::Closes { .. } | Fate::Refused | Fate::Unanswered | Fate::Lives => {}
        }
        let arrived = match self.fate {
            Fate::Closes { arrive, .. } => len.min(arrive.saturating_sub(self.taken)),
            _ => len,
        };
        self.taken += len;
        self.server.wires.borrow_mut()[self.at].extend_from_slice(&bytes[..arrived]);
        Ok(len)
    }

    async fn flush(&mut self) -> Result<(), ErrorKind> {
        Ok(())
    }
}

/// A sample as it is sent.
pub(crate) fn whole(sample: &Sample, lost: u32) -> Vec<u8> {
    let mut end = [0; TAIL_MAX];
    let len = tail(lost, &mut end);
    [&sample.encode()[..], &end[..len]].concat()
}

/// Puts a sample with this number into a ring.
pub(crate) fn push<const N: usize>(ring: &Ring<N>, number: u32) {
    let sample = Sample {
        number,
        ..Sample::default()
    };
    ring.push(&sample.encode()).expect("it is short");
}

/// A machine with constant values.
#[derive(Default)]
pub(crate) struct Bench {
    pub(crate) asked: u32,
}

impl Machine for Bench {
    fn stack_bytes(&mut self) -> u32 {
        self.asked += 1;
        1_234
    }

    fn frames_received(&mut self) -> u32 {
        10 * self.asked
    }

    fn frames_sent(&mut self) -> u32 {
        20 * self.asked
    }
}

/// The daemon's receipt for these blocks, encoded as a series.
pub(crate) fn receipt(blocks: &[Vec<u8>]) -> Vec<u8> {
    let (count, bytes) = (blocks.len(), blocks.concat().len());
    let text = format!("{{\"blocks\":{count},\"bytes\":{bytes}}}");
    [&[0, 0, 0, text.len() as u8], text.as_bytes(), &[0; 4]].concat()
}

/// Decodes the blocks of a connection's data, and how it ended.
pub(crate) fn blocks(wire: &[u8]) -> (Vec<Vec<u8>>, Ending) {
    let mut reader = Reader::new(wire, Blocks, [0; 256]);
    let mut blocks = Vec::new();
    loop {
        match reader.receive() {
            Ok(Received::Message(block)) => blocks.push(block.to_vec()),
            Ok(Received::End) => return (blocks, Ending::Mark),
            Ok(Received::Closed) | Err(ReceiveError::Fault(Fault::Truncated { .. })) => {
                return (blocks, Ending::Truncated);
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Decodes a map of text to numbers, with no bytes after it.
pub(crate) fn decode(block: &[u8]) -> BTreeMap<String, f64> {
    let mut decoder = Decoder::new(block);
    assert_eq!(decoder.map().unwrap(), None, "a map that an end follows");
    let mut map = BTreeMap::new();
    while decoder.datatype().unwrap() != Type::Break {
        let key = decoder.str().unwrap().to_owned();
        let value = match decoder.datatype().unwrap() {
            Type::F32 => f64::from(decoder.f32().unwrap()),
            _ => decoder.u64().unwrap() as f64,
        };
        assert_eq!(map.insert(key, value), None, "duplicate key");
    }
    assert_eq!(decoder.position(), block.len() - 1);
    map
}
