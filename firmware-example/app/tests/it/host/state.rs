//! The protocol of a host, and what it records: [`State`].

use std::collections::{BTreeMap, VecDeque};
use std::task::Waker;

use framing_core::session::wire::{Ack, Closing, Cont, Hello, SYNCED, Welcome};
use framing_core::session::{Gap, SessionReceiver, Written, crc32};

use crate::support::decode;

/// Interval of the host's heartbeats.
pub(crate) const HEARTBEAT_S: u16 = 10;
/// The number of messages after which the host syncs and acknowledges.
const SYNC_AFTER: u64 = 3;
const SESSION: u64 = 0x9f3a_5c77_11d2_e4b6;

/// The session of a host, and its connection.
#[derive(Default)]
pub(crate) struct State {
    receiver: Option<SessionReceiver>,
    conn: u64,
    next: u64,
    acked: u64,
    /// Bytes that arrived, and are not a whole message yet.
    pub(crate) up: Vec<u8>,
    pub(crate) down: VecDeque<u8>,
    is_control: bool,
    is_welcomed: bool,
    pub(crate) is_closed: bool,
    pub(crate) waiting: Option<Waker>,
    /// Messages by number; a gap has no payload.
    log: Vec<(u64, u64, Option<Vec<u8>>)>,
}

impl State {
    /// The durable samples in the order of their numbers, and the number of gaps. Asserts that each number is there once.
    #[track_caller]
    pub(crate) fn recorded(&self) -> (Vec<BTreeMap<String, f64>>, usize) {
        let (mut next, mut samples, mut gaps) = (0, Vec::new(), 0);
        let durable = self.receiver.map_or(0, |receiver| receiver.durable());
        for (from, to, payload) in &self.log {
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

    /// Begins a connection.
    pub(crate) fn accept(&mut self) {
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

    /// Sends bytes.
    pub(crate) fn push(&mut self, frame: &[u8]) {
        self.down.extend(frame);
        if let Some(waiting) = &self.waiting {
            waiting.wake_by_ref();
        }
    }

    /// Sends CLOSING, and closes.
    pub(crate) fn closing(&mut self, code: u8, retry_s: u16) {
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

    /// Closes the connection.
    pub(crate) fn close(&mut self) {
        self.is_closed = true;
        self.push(&[]);
    }

    /// Sends an ACK.
    pub(crate) fn acknowledge(&mut self, time_ns: u64) {
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
    pub(crate) fn read(&mut self, now_ns: u64) {
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
    pub(crate) fn crash(&mut self) {
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
