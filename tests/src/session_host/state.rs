//! The sessions of a host, and its recording in memory: [`State`].

use std::collections::{BTreeMap, VecDeque};
use std::net::{Shutdown, TcpStream};

use framing_core::session::Unresumable;
use framing_core::session::wire::{Hello, NEW, Welcome};

use super::{ConnectionPlan, ReceivedHello};
use crate::recorded_session::RecordedSession;

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
struct Session {
    recorded: RecordedSession,
    /// Number of the connection of the last HELLO.
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
            session.recorded.receiver.closed(conn);
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
                recorded: RecordedSession::new(first, lost),
                used: 0,
            });
            session.used = conn;
            let recorded = &mut session.recorded;
            match recorded.receiver.hello(conn, first, held, lost) {
                Ok(resumed) => {
                    recorded.gap(resumed.gap);
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

    pub(super) fn session(&mut self, key: &Key) -> &mut RecordedSession {
        let session = self.sessions.get_mut(key);
        &mut session.expect("a session of the host").recorded
    }

    /// The process ends: messages that are not durable are lost.
    pub(super) fn crash(&mut self) {
        for stream in std::mem::take(&mut self.open).into_values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
        for session in self.sessions.values_mut() {
            session.recorded.crash();
        }
    }

    pub(super) fn record_foreign(&mut self, device: &str, session: u64, messages: &[&[u8]]) {
        let session = self.session(&(device.to_owned(), session));
        session.record_foreign(messages);
    }

    pub(super) fn session_of(&self, device: &str) -> u64 {
        let sessions = self.sessions.iter().filter(|((of, _), _)| of == device);
        let last = sessions.max_by_key(|(_, session)| session.used);
        last.map_or(0, |((_, number), _)| *number)
    }

    pub(super) fn message_count(&self) -> usize {
        let sessions = self.sessions.values();
        sessions
            .map(|session| session.recorded.message_count())
            .sum()
    }

    /// The messages of a device, session by session.
    pub(super) fn recorded(&self, device: &str) -> Vec<Vec<u8>> {
        let mut sessions: Vec<_> = self.sessions.iter().collect();
        sessions.retain(|((of, _), _)| of == device);
        sessions.sort_by_key(|((_, number), _)| *number);
        let messages = sessions
            .iter()
            .flat_map(|(_, session)| session.recorded.recorded().0);
        messages.collect()
    }
}
