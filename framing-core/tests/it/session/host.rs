//! A host of one device: counts with [`SessionReceiver`], and keeps what it would record.

use std::collections::{BTreeMap, VecDeque};

use framing_core::session::wire::{Ack, Closing, ClosingCode, Cont, Hello, Welcome};
use framing_core::session::{Gap, SessionReceiver, Written, crc32};

/// The host and its connection.
#[derive(Default)]
pub(super) struct Host {
    /// Bytes that arrive.
    pub(super) wire: Vec<u8>,
    /// Frames on the way to the device.
    pub(super) down: VecDeque<Vec<u8>>,
    pub(super) is_connected: bool,
    conn: u64,
    session: Option<(u64, SessionReceiver)>,
    next: u64,
    acked: u64,
    /// The next message opens a series, or is the HELLO.
    is_control: bool,
    is_welcomed: bool,
    /// Messages and gaps by number, in the order in which they were written; a gap has no payload.
    log: Vec<(u64, u64, Option<Vec<u8>>)>,
}

impl Host {
    pub(super) fn accept(&mut self) {
        self.cut();
        self.conn += 1;
        self.is_connected = true;
        (self.is_control, self.is_welcomed) = (true, false);
    }

    /// The device is gone.
    pub(super) fn cut(&mut self) {
        self.is_connected = false;
        self.wire.clear();
        self.down.clear();
        if let Some((_, receiver)) = &mut self.session {
            receiver.closed(self.conn);
        }
    }

    /// The process ends: what is not durable is lost.
    pub(super) fn crash(&mut self) {
        self.cut();
        if let Some((_, receiver)) = &mut self.session {
            let durable = receiver.durable();
            self.log.retain(|(from, _, _)| *from < durable);
            let last = self.log.last().and_then(|(_, _, payload)| payload.as_ref());
            let check = last.map_or(0, |payload| crc32(payload.iter().copied()));
            *receiver = SessionReceiver::recovered(durable, check);
        }
    }

    pub(super) fn fail_sync(&mut self) {
        if let Some((_, receiver)) = &mut self.session {
            receiver.reset();
            let durable = receiver.durable();
            self.log.retain(|(from, _, _)| *from < durable);
            self.close(ClosingCode::Again);
        }
    }

    pub(super) fn sync(&mut self) {
        if let Some((_, receiver)) = &mut self.session {
            receiver.synced(receiver.written());
        }
        self.acknowledge(false);
    }

    /// Reads what has arrived. `made` has the payload of each number.
    pub(super) fn read(&mut self, made: &[Vec<u8>]) {
        while self.is_connected
            && let Some(header) = self.wire.first_chunk::<4>()
            && let end = 4 + u32::from_be_bytes(*header) as usize
            && end <= self.wire.len()
        {
            let message: Vec<u8> = self.wire.drain(..end).skip(4).collect();
            if message.is_empty() {
                self.is_control = true;
                self.acknowledge(true);
            } else if !std::mem::take(&mut self.is_control) {
                self.take(message, made);
            } else if self.is_welcomed {
                self.cont(&Cont::parse(&message).expect("a CONT"));
            } else {
                self.is_control = true;
                self.hello(&Hello::parse(&message).expect("a HELLO"));
            }
        }
    }

    /// The messages that a reader finds, by number.
    pub(super) fn recorded(&self) -> BTreeMap<u64, Vec<u8>> {
        let mut next = self.log.first().map_or(0, |(from, _, _)| *from);
        let mut found = BTreeMap::new();
        for (from, to, payload) in &self.log {
            assert_eq!(*from, next, "the recording is contiguous");
            next = *to;
            if let Some(payload) = payload {
                assert!(found.insert(*from, payload.clone()).is_none(), "twice");
            }
        }
        found
    }

    /// The number that a frame acknowledges.
    pub(super) fn acked_by(&self, frame: &[u8]) -> u64 {
        match frame {
            [1 | 2, number @ ..] => number[..7]
                .iter()
                .fold(0, |n, byte| n << 8 | u64::from(*byte)),
            _ => 0,
        }
    }

    fn hello(&mut self, hello: &Hello<'_>) {
        let (first, held, lost) = (hello.first, hello.held, hello.lost);
        let (session, receiver) = self.session.get_or_insert_with(|| {
            assert_eq!(hello.session, 0, "the host knows every session");
            (77, SessionReceiver::new(first, lost))
        });
        // A WELCOME that was lost: no message was sent.
        if hello.session == 0 && receiver.taken() != 0 {
            assert_eq!(
                receiver.taken(),
                receiver.taken().min(first),
                "messages before a WELCOME"
            );
        }
        let resumed = receiver
            .hello(self.conn, first, held, lost)
            .expect("the newest connection");
        let welcome = Welcome {
            acked: resumed.acked,
            resume: resumed.resume,
            session: *session,
            time_ns: 0,
            block_max: 1 << 20,
            heartbeat_s: 0,
            flags: 0,
            check: resumed.check,
        };
        (self.next, self.acked) = (resumed.resume, resumed.acked);
        self.down.push_back(welcome.encode()[4..].to_vec());
        self.is_welcomed = true;
        self.gap(resumed.gap);
    }

    fn cont(&mut self, cont: &Cont<'_>) {
        let Some((session, receiver)) = &mut self.session else {
            panic!("a CONT before the HELLO");
        };
        assert_eq!(cont.session, *session);
        let continued = receiver
            .cont(self.conn, &mut self.next, cont.number)
            .expect("the owner");
        self.gap(continued.gap);
        if continued.is_ping {
            self.acknowledge(true);
        }
    }

    fn take(&mut self, message: Vec<u8>, made: &[Vec<u8>]) {
        assert_eq!(message, made[self.next as usize], "number {}", self.next);
        let Some((_, receiver)) = &mut self.session else {
            panic!("a message before the HELLO");
        };
        let check = crc32(message.iter().copied());
        let counted = receiver
            .take(self.conn, &mut self.next, 1, check)
            .expect("the owner");
        if counted.skip == 0 && receiver.write(counted.first, 1) == (Written::Write { skip: 0 }) {
            self.log
                .push((counted.first, counted.first + 1, Some(message)));
        }
    }

    fn gap(&mut self, gap: Option<Gap>) {
        let (Some(gap), Some((_, receiver))) = (gap, &mut self.session) else {
            return;
        };
        assert_eq!(
            gap.unknown_below, gap.from,
            "the host has what it acknowledged"
        );
        let written = receiver.write(gap.from, gap.to - gap.from);
        assert_eq!(written, Written::Write { skip: 0 });
        self.log.push((gap.from, gap.to, None));
    }

    fn acknowledge(&mut self, always: bool) {
        let Some((_, receiver)) = &self.session else {
            return;
        };
        let acked = receiver.acked(self.next);
        if self.is_connected && self.is_welcomed && (always || self.acked < acked) {
            self.acked = acked;
            let (bytes, len) = Ack {
                acked,
                time_ns: Some(5),
            }
            .encode();
            self.down.push_back(bytes[4..len].to_vec());
        }
    }

    fn close(&mut self, code: ClosingCode) {
        let closing = Closing {
            code: code as u8,
            retry_s: 0,
            number: 0,
            text: b"",
        };
        let (bytes, len) = closing.encode();
        self.down.push_back(bytes[4..len].to_vec());
        self.is_connected = false;
    }
}
