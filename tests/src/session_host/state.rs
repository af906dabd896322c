//! The sessions of a host, and its recording in memory: [`State`].

use std::collections::{BTreeMap, VecDeque};
use std::net::{Shutdown, TcpStream};

use framing_core::session::wire::{Hello, NEW, Welcome};
use framing_core::session::{Gap, SessionReceiver, Unresumable, Written, crc32};

use super::{ConnectionPlan, ReceivedHello};

/// Device id and session.
pub(super) type Key = (String, u64);

/// Everything that the connections of a host share.
#[derive(Debug)]
pub(super) struct State {
    pub(super) sync_every: u64,
    pub(super) plans: VecDeque<ConnectionPlan>,
    pub(super) block_max: u32,
    pub(super) hellos: Vec<ReceivedHello>,
    /// Violations of the protocol by senders.
    pub(super) errors: Vec<String>,
    sessions: BTreeMap<Key, Session>,
    /// Connections by number.
    open: BTreeMap<u64, TcpStream>,
    conns: u64,
}

#[derive(Debug)]
pub(super) struct Session {
    pub(super) receiver: SessionReceiver,
    /// Messages and gaps, in the order in which they were written; a gap has no payload.
    log: Vec<(u64, u64, Option<Vec<u8>>)>,
    /// In the order of the last HELLO.
    used: u64,
}

impl State {
    pub(super) fn new(sync_every: u64, plans: VecDeque<ConnectionPlan>) -> Self {
        Self {
            sync_every,
            plans,
            block_max: 1 << 20,
            hellos: Vec::new(),
            errors: Vec::new(),
            sessions: BTreeMap::new(),
            open: BTreeMap::new(),
            conns: 0,
        }
    }

    /// Counts a connection.
    pub(super) fn accept(&mut self, stream: &TcpStream) -> (u64, ConnectionPlan) {
        self.conns += 1;
        self.open.insert(self.conns, stream.try_clone().unwrap());
        (self.conns, self.plans.pop_front().unwrap_or_default())
    }

    pub(super) fn closed(&mut self, conn: u64) {
        self.open.remove(&conn);
        for session in self.sessions.values_mut() {
            session.receiver.closed(conn);
        }
    }

    /// The answer to a HELLO, and the session of the connection.
    pub(super) fn hello(&mut self, conn: u64, hello: &Hello<'_>) -> Option<(Key, Welcome)> {
        self.hellos.push(ReceivedHello {
            device: hello.device.to_owned(),
            session: hello.session,
            first: hello.first,
            held: hello.held,
        });
        let mut key = (hello.device.to_owned(), hello.session);
        let mut flags = 0;
        loop {
            if key.1 == 0 {
                key.1 = 1000 + self.sessions.len() as u64;
            }
            let (first, held, lost) = (hello.first, hello.held, hello.lost);
            let session = self.sessions.entry(key.clone());
            let session = session.or_insert_with(|| Session {
                receiver: SessionReceiver::new(first, lost),
                log: Vec::new(),
                used: 0,
            });
            session.used = conn;
            match session.receiver.hello(conn, first, held, lost) {
                Ok(resumed) => {
                    session.gap(resumed.gap);
                    let welcome = Welcome {
                        acked: resumed.acked,
                        resume: resumed.resume,
                        session: key.1,
                        time_ns: 5,
                        block_max: self.block_max,
                        heartbeat_s: 10,
                        flags,
                        check: resumed.check,
                    };
                    return Some((key, welcome));
                }
                Err(Unresumable::Ahead { .. }) => (key.1, flags) = (0, NEW),
                Err(Unresumable::Superseded) => return None,
            }
        }
    }

    pub(super) fn session(&mut self, key: &Key) -> &mut Session {
        self.sessions.get_mut(key).expect("a session of the host")
    }

    /// The process ends: messages that are not durable are lost.
    pub(super) fn crash(&mut self) {
        for stream in std::mem::take(&mut self.open).into_values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
        for session in self.sessions.values_mut() {
            session.forget_unsynced();
            let receiver = &mut session.receiver;
            let check = session
                .log
                .last()
                .and_then(|(_, _, message)| message.as_deref());
            let check = check.map_or(0, |message| crc32(message.iter().copied()));
            *receiver = SessionReceiver::recovered(receiver.durable(), check);
        }
    }

    pub(super) fn record_foreign(&mut self, device: &str, session: u64, messages: &[&[u8]]) {
        let session = self.session(&(device.to_owned(), session));
        let (first, count) = (session.receiver.taken(), messages.len() as u64);
        session.log.retain(|(from, _, _)| *from < first);
        for (number, message) in (first..).zip(messages) {
            session
                .log
                .push((number, number + 1, Some(message.to_vec())));
        }
        let check = messages
            .last()
            .map_or(0, |message| crc32(message.iter().copied()));
        session.receiver = SessionReceiver::recovered(first + count, check);
    }

    pub(super) fn session_of(&self, device: &str) -> u64 {
        let sessions = self.sessions.iter().filter(|((of, _), _)| of == device);
        let last = sessions.max_by_key(|(_, session)| session.used);
        last.map_or(0, |((_, number), _)| *number)
    }

    pub(super) fn message_count(&self) -> usize {
        let messages = |session: &Session| {
            let messages = session
                .log
                .iter()
                .filter(|(_, _, message)| message.is_some());
            messages.count()
        };
        self.sessions.values().map(messages).sum()
    }

    /// The messages of a device, session by session.
    pub(super) fn recorded(&self, device: &str) -> Vec<Vec<u8>> {
        let mut sessions: Vec<_> = self.sessions.iter().collect();
        sessions.retain(|((of, _), _)| of == device);
        sessions.sort_by_key(|((_, number), _)| *number);
        let messages = sessions.iter().flat_map(|(_, session)| session.messages());
        messages.collect()
    }
}

impl Session {
    /// Writes a message that the receiver has counted, unless it is there.
    pub(super) fn write(&mut self, number: u64, message: Vec<u8>) {
        if self.receiver.write(number, 1) == (Written::Write { skip: 0 }) {
            self.log.push((number, number + 1, Some(message)));
        }
    }

    pub(super) fn gap(&mut self, gap: Option<Gap>) {
        if let Some(gap) = gap
            && self.receiver.write(gap.from, gap.to - gap.from) == (Written::Write { skip: 0 })
        {
            self.log.push((gap.from, gap.to, None));
        }
    }

    pub(super) fn sync(&mut self) {
        self.receiver.synced(self.receiver.written());
    }

    /// A sync fails.
    pub(super) fn fail_sync(&mut self) {
        self.receiver.reset();
        self.forget_unsynced();
    }

    fn forget_unsynced(&mut self) {
        let durable = self.receiver.durable();
        self.log.retain(|(from, _, _)| *from < durable);
    }

    /// The messages, which have each number once.
    fn messages(&self) -> Vec<Vec<u8>> {
        let mut next = self.log.first().map_or(0, |(from, _, _)| *from);
        let mut messages = Vec::new();
        for (from, to, message) in &self.log {
            assert_eq!(*from, next, "the numbers are contiguous");
            next = *to;
            messages.extend(message.clone());
        }
        messages
    }
}
