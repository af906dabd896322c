//! The daemon's side: of a plain series ([`Series`]), and of a session ([`Host`]).

use std::collections::VecDeque;

use framing_core::session::wire::{Ack, Closing, Cont, Hello, SYNCED, Welcome};
use framing_core::session::{Gap, SessionReceiver, Written, crc32};

use crate::net::Peer;

/// Receives plain series, and answers each with a receipt.
#[derive(Default)]
pub(crate) struct Series {
    up: Vec<u8>,
    down: VecDeque<u8>,
    is_ended: bool,
    is_answered: bool,
    /// Messages and their bytes on this connection.
    tally: (usize, usize),
    is_mute: bool,
    /// All messages that arrived, and the number of end marks.
    pub(crate) messages: Vec<Vec<u8>>,
    pub(crate) ends: usize,
}

impl Series {
    /// Receives, and never answers.
    pub(crate) fn mute() -> Self {
        Self {
            is_mute: true,
            ..Self::default()
        }
    }
}

impl Peer for Series {
    fn accept(&mut self) {
        self.up.clear();
        self.down.clear();
        (self.is_ended, self.is_answered, self.tally) = (false, false, (0, 0));
    }

    fn take(&mut self, bytes: &[u8]) {
        self.up.extend_from_slice(bytes);
        while let Some(message) = next(&mut self.up) {
            if message.is_empty() {
                self.ends += 1;
                self.is_ended = true;
                continue;
            }
            assert!(!self.is_ended, "a message after the end");
            self.tally = (self.tally.0 + 1, self.tally.1 + message.len());
            self.messages.push(message);
        }
    }

    fn ended(&mut self) {
        if self.is_ended && !self.is_mute {
            let (blocks, bytes) = self.tally;
            let receipt = format!("{{\"blocks\":{blocks},\"bytes\":{bytes}}}");
            let header = u32::try_from(receipt.len()).unwrap().to_be_bytes();
            self.down.extend(header);
            self.down.extend(receipt.bytes());
            self.down.extend([0; 4]);
            self.is_answered = true;
        }
    }

    fn down(&mut self, max: usize) -> Option<Vec<u8>> {
        down(&mut self.down, self.is_answered, max)
    }
}

const SESSION: u64 = 0x9f3a_5c77_11d2_e4b6;
/// The host syncs and acknowledges when it has so many messages, and at the end of a series.
const SYNC_AFTER: u64 = 2;
/// Interval of the heartbeats that the host promises, and does not send.
pub(crate) const HEARTBEAT_S: u16 = 10;

/// How a host behaves, on every connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Manner {
    #[default]
    Acknowledges,
    /// Takes everything and answers nothing.
    Mute,
    /// Welcomes, and acknowledges nothing.
    Silent,
    /// Answers the HELLO with this CLOSING: a code, and seconds.
    Refuses(u8, u16),
}

/// The host of one session.
#[derive(Default)]
pub(crate) struct Host {
    receiver: Option<SessionReceiver>,
    conn: u64,
    next: u64,
    up: Vec<u8>,
    down: VecDeque<u8>,
    is_control: bool,
    is_welcomed: bool,
    is_closed: bool,
    manner: Manner,
    /// Messages in the order of their numbers; a gap has none.
    pub(crate) log: Vec<Option<Vec<u8>>>,
}

impl Host {
    pub(crate) fn new(manner: Manner) -> Self {
        Self {
            manner,
            ..Self::default()
        }
    }

    /// The messages that are recorded.
    pub(crate) fn messages(&self) -> Vec<Vec<u8>> {
        self.log.iter().flatten().cloned().collect()
    }

    fn hello(&mut self, hello: &Hello<'_>) {
        if let Manner::Refuses(code, retry_s) = self.manner {
            let closing = Closing {
                code,
                retry_s,
                number: 0,
                text: b"",
            };
            let (bytes, len) = closing.encode();
            self.down.extend(&bytes[..len]);
            self.is_closed = true;
            return;
        }
        let new = || SessionReceiver::new(hello.first, hello.lost);
        let receiver = self.receiver.get_or_insert_with(new);
        let resumed = receiver.hello(self.conn, hello.first, hello.held, hello.lost);
        let resumed = resumed.expect("the session of this ring");
        let welcome = Welcome {
            acked: resumed.acked,
            resume: resumed.resume,
            session: SESSION,
            time_ns: 1,
            block_max: 1 << 20,
            heartbeat_s: HEARTBEAT_S,
            flags: SYNCED,
            check: resumed.check,
        };
        (self.next, self.is_welcomed) = (resumed.resume, true);
        self.gap(resumed.gap);
        self.down.extend(welcome.encode());
    }

    fn gap(&mut self, gap: Option<Gap>) {
        let Some(gap) = gap else { return };
        assert_eq!(
            gap.unknown_below, gap.from,
            "nothing acknowledged is missing"
        );
        let receiver = self.receiver.as_mut().expect("after a HELLO");
        let written = receiver.write(gap.from, gap.to - gap.from);
        assert_eq!(written, Written::Write { skip: 0 });
        self.log.extend((gap.from..gap.to).map(|_| None));
    }

    fn message(&mut self, message: Vec<u8>) {
        let receiver = self.receiver.as_mut().expect("after a HELLO");
        let check = crc32(message.iter().copied());
        let counted = receiver.take(self.conn, &mut self.next, 1, check);
        let counted = counted.expect("the owner");
        if counted.skip == 0 {
            let written = receiver.write(counted.first, 1);
            assert_eq!(written, Written::Write { skip: 0 });
            self.log.push(Some(message));
        }
    }

    fn acknowledge(&mut self) {
        let Some(receiver) = self.receiver.as_mut() else {
            return;
        };
        let unsynced = receiver.written() - receiver.durable();
        let is_due = SYNC_AFTER <= unsynced || self.is_control && unsynced != 0;
        if is_due && self.is_welcomed && self.manner != Manner::Silent {
            receiver.synced(receiver.written());
            let ack = Ack {
                acked: receiver.acked(self.next),
                time_ns: None,
            };
            let (bytes, len) = ack.encode();
            self.down.extend(&bytes[..len]);
        }
    }
}

impl Peer for Host {
    fn accept(&mut self) {
        self.conn += 1;
        self.up.clear();
        self.down.clear();
        (self.is_control, self.is_welcomed, self.is_closed) = (true, false, false);
    }

    fn take(&mut self, bytes: &[u8]) {
        if self.manner == Manner::Mute || self.is_closed {
            return;
        }
        self.up.extend_from_slice(bytes);
        while let Some(message) = next(&mut self.up) {
            if message.is_empty() {
                self.is_control = true;
            } else if !std::mem::take(&mut self.is_control) {
                self.message(message);
            } else if self.is_welcomed {
                let cont = Cont::parse(&message).expect("a CONT");
                let receiver = self.receiver.as_mut().expect("after a HELLO");
                let continued = receiver.cont(self.conn, &mut self.next, cont.number);
                let continued = continued.expect("the owner");
                self.gap(continued.gap);
            } else {
                self.is_control = true;
                self.hello(&Hello::parse(&message).expect("a HELLO"));
            }
            self.acknowledge();
        }
    }

    fn ended(&mut self) {}

    fn down(&mut self, max: usize) -> Option<Vec<u8>> {
        down(&mut self.down, self.is_closed, max)
    }
}

/// Takes a whole message of `blocks`.
fn next(up: &mut Vec<u8>) -> Option<Vec<u8>> {
    let len = u32::from_be_bytes(*up.first_chunk::<4>()?) as usize;
    (4 + len <= up.len()).then(|| up.drain(..4 + len).skip(4).collect())
}

fn down(bytes: &mut VecDeque<u8>, is_closed: bool, max: usize) -> Option<Vec<u8>> {
    let len = bytes.len().min(max);
    (len != 0 || is_closed).then(|| bytes.drain(..len).collect())
}
