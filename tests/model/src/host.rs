//! The host: sessions, connections, and the queue to the writer.

use framing_core::session::wire::{Ack, Closing, ClosingCode, Welcome};
use framing_core::session::{Gap, SessionReceiver, Unresumable, Written};

use crate::Mutant;
use crate::device::{Up, check_of};
use crate::disk::{Record, What};

/// A session that the host knows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Session {
    pub(crate) id: u64,
    pub(crate) receiver: SessionReceiver,
    /// The record that begins it is not written.
    pub(crate) begins: bool,
    /// The sender's clock at the last HELLO.
    pub(crate) clock: u8,
}

/// A connection, seen from both ends.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Connection {
    /// Its place in the order of accepts.
    pub(crate) id: u8,
    /// The device has not closed it.
    pub(crate) device: bool,
    /// The host has not closed it.
    pub(crate) host: bool,
    pub(crate) up: Vec<Up>,
    pub(crate) down: Vec<Vec<u8>>,
    pub(crate) session: u64,
    /// Number of its next message.
    pub(crate) next: u64,
    /// A message that waits for a place in the queue, and its number if that was given early.
    pub(crate) waiting: Option<(What, Option<u64>)>,
    /// The host will close it, and goes on reading until then.
    pub(crate) due: Option<Due>,
}

/// Why the host will close a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Due {
    Superseded,
    Again,
}

/// Records on the way to the writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Queued {
    pub(crate) session: u64,
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) what: What,
}

/// The host's process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Host {
    pub(crate) sessions: Vec<Session>,
    pub(crate) queue: Vec<Queued>,
    /// Number of the last session that was made.
    pub(crate) made: u64,
    /// HELLOs so far: for `LatestHelloWins`.
    pub(crate) hellos: u8,
    /// A session was replaced by a new one.
    pub(crate) has_replaced: bool,
    /// A session was forgotten, all of which was durable: its sender can send it again under the same numbers.
    pub(crate) has_forgotten: bool,
}

impl Connection {
    pub(crate) fn new(id: u8, hello: Up) -> Self {
        Self {
            id,
            device: true,
            host: true,
            up: vec![hello],
            down: Vec::new(),
            session: 0,
            next: 0,
            waiting: None,
            due: None,
        }
    }

    /// Closes it, if that is due.
    pub(crate) fn close_if_due(&mut self) {
        match self.due.take() {
            Some(Due::Superseded) => self.closing(ClosingCode::Superseded),
            Some(Due::Again) => self.closing(ClosingCode::Again),
            None => {}
        }
    }

    pub(crate) fn closing(&mut self, code: ClosingCode) {
        let closing = Closing {
            code: code as u8,
            retry_s: 0,
            number: 0,
            text: b"",
        };
        let (bytes, len) = closing.encode();
        self.down.push(bytes[4..len].to_vec());
        self.host = false;
    }

    pub(crate) fn acknowledge(&mut self, acked: u64) {
        let (bytes, len) = Ack {
            acked,
            time_ns: None,
        }
        .encode();
        // An acknowledgement replaces an earlier one.
        self.down.retain(|frame| frame.first() != Some(&2));
        self.down.push(bytes[4..len].to_vec());
    }
}

impl Host {
    pub(crate) fn session(&mut self, id: u64) -> Option<&mut Session> {
        self.sessions.iter_mut().find(|session| session.id == id)
    }

    /// Takes the next frame of a connection.
    pub(crate) fn take(
        &mut self,
        conns: &mut [Connection],
        at: usize,
        mutant: Option<Mutant>,
    ) -> Result<(), String> {
        let conn = &mut conns[at];
        match conn.up.remove(0) {
            Up::Hello {
                session,
                first,
                held,
                lost,
                clock,
            } => self.hello(conns, at, mutant, (session, first, held, lost, clock)),
            Up::Cont { session, number } => {
                if session != conn.session {
                    conn.closing(ClosingCode::Protocol);
                    return Ok(());
                }
                if mutant == Some(Mutant::ContIgnored) {
                    return Ok(());
                }
                let owner = self.acts_for(conn, mutant);
                let (id, mut next) = (conn.session, conn.next);
                let Some(session) = self.session(id) else {
                    conn.host = false;
                    return Ok(());
                };
                match session.receiver.cont(owner, &mut next, number) {
                    Err(_) => conn.closing(ClosingCode::Superseded),
                    Ok(continued) => {
                        if continued.is_ping {
                            conn.acknowledge(acked(&session.receiver, next, mutant));
                        }
                        self.gap(id, continued.gap);
                        conn.next = next;
                    }
                }
                Ok(())
            }
            Up::Message(value) => {
                self.receive(conn, What::Message(value), mutant);
                Ok(())
            }
            Up::OversizeBegin => {
                if mutant == Some(Mutant::RefusedAtHeader) {
                    // The value is not known yet.
                    self.receive(conn, What::Refused(u8::MAX), mutant);
                }
                Ok(())
            }
            Up::OversizeEnd(value) => {
                match mutant {
                    Some(Mutant::RefusedAtHeader) => {}
                    Some(Mutant::RefusedUncounted) => {}
                    _ => self.receive(conn, What::Refused(value), mutant),
                }
                Ok(())
            }
        }
    }

    /// Numbers what waits for a place in the queue, and puts it there.
    pub(crate) fn place(&mut self, conn: &mut Connection, mutant: Option<Mutant>) {
        let Some((what, early)) = conn.waiting.take() else {
            return;
        };
        let (id, owner) = (conn.session, self.acts_for(conn, mutant));
        if let Some(from) = early {
            let to = from + 1;
            self.queue.push(Queued {
                session: id,
                from,
                to,
                what,
            });
            return;
        }
        let Some(session) = self.session(id) else {
            conn.host = false;
            return;
        };
        let mut next = match mutant {
            Some(Mutant::NumberedByTaken) => session.receiver.taken(),
            _ => conn.next,
        };
        match session.receiver.take(owner, &mut next, 1, check(what)) {
            Err(_) => conn.closing(ClosingCode::Superseded),
            Ok(counted) => {
                conn.next = next;
                match counted.skip {
                    0 => self.queue.push(Queued {
                        session: id,
                        from: counted.first,
                        to: counted.first + 1,
                        what,
                    }),
                    // It may be durable, and no sync follows.
                    _ => conn.acknowledge(acked(&session.receiver, next, mutant)),
                }
            }
        }
    }

    /// What the writer writes of the next record in the queue.
    pub(crate) fn write(&mut self, mutant: Option<Mutant>) -> Option<Record> {
        let queued = self.queue.remove(0);
        let session = self.session(queued.session)?;
        let from = match session.receiver.write(queued.from, queued.to - queued.from) {
            Written::Write { skip } if mutant != Some(Mutant::WriterBelieves) => queued.from + skip,
            Written::Drop if mutant != Some(Mutant::WriterBelieves) => return None,
            _ => queued.from,
        };
        let begins = std::mem::take(&mut session.begins);
        (from < queued.to).then_some(Record {
            session: queued.session,
            from,
            to: queued.to,
            what: queued.what,
            begins,
        })
    }

    /// Sets all sessions back to what is durable, and closes their connections.
    pub(crate) fn reset(&mut self, conns: &mut [Connection]) {
        for session in &mut self.sessions {
            let owner = session.receiver.reset();
            for conn in conns
                .iter_mut()
                .filter(|conn| Some(u64::from(conn.id)) == owner && conn.host)
            {
                conn.due = Some(Due::Again);
            }
        }
    }

    fn hello(
        &mut self,
        conns: &mut [Connection],
        at: usize,
        mutant: Option<Mutant>,
        (asked, first, held, lost, clock): (u64, u64, u32, u32, u8),
    ) -> Result<(), String> {
        self.hellos += 1;
        let id = match mutant {
            Some(Mutant::LatestHelloWins) => u64::from(self.hellos),
            _ => u64::from(conns[at].id),
        };
        let is_older = self.session(asked).is_some_and(|known| clock < known.clock);
        let mut continued = asked;
        let is_ahead = |session: &Session| first + u64::from(held) < session.receiver.taken();
        let is_compared_first = mutant == Some(Mutant::LateHelloCompared)
            && self.session(asked).is_some_and(|known| is_ahead(known));
        self.has_replaced |= is_compared_first;
        if asked == 0 || is_compared_first || is_older && mutant == Some(Mutant::ClockCompared) {
            continued = self.new_session();
        }
        loop {
            if self.session(continued).is_none() {
                self.sessions.push(Session {
                    id: continued,
                    receiver: SessionReceiver::new(first, lost),
                    begins: true,
                    clock,
                });
                self.sessions.sort_unstable_by_key(|session| session.id);
            }
            let session = self.session(continued).expect("is known now");
            match session.receiver.hello(id, first, held, lost) {
                Err(Unresumable::Superseded) => {
                    conns[at].closing(ClosingCode::Superseded);
                    return Ok(());
                }
                Err(Unresumable::Ahead { .. }) => {
                    continued = self.new_session();
                    self.has_replaced = true;
                }
                Ok(mut resumed) => {
                    session.clock = clock;
                    match mutant {
                        Some(Mutant::WelcomeAcksTaken) => resumed.acked = resumed.resume,
                        Some(Mutant::ResumeDurable) => resumed.resume = resumed.acked.max(first),
                        _ => {}
                    }
                    if let Some(owner) = resumed.superseded {
                        let old = conns
                            .iter_mut()
                            .find(|conn| u64::from(conn.id) == owner && conn.host);
                        if let Some(old) = old {
                            old.due = Some(Due::Superseded);
                        }
                    }
                    let welcome = Welcome {
                        acked: resumed.acked,
                        resume: resumed.resume,
                        session: continued,
                        time_ns: 0,
                        block_max: u32::MAX,
                        heartbeat_s: 0,
                        flags: 0,
                        check: resumed.check,
                    };
                    let conn = &mut conns[at];
                    conn.down.push(welcome.encode()[4..].to_vec());
                    (conn.session, conn.next) = (continued, resumed.resume);
                    self.gap(continued, resumed.gap);
                    return Ok(());
                }
            }
        }
    }

    fn new_session(&mut self) -> u64 {
        self.made += 1;
        self.made
    }

    fn gap(&mut self, session: u64, gap: Option<Gap>) {
        if let Some(gap) = gap {
            self.queue.push(Queued {
                session,
                from: gap.from,
                to: gap.to,
                what: What::Gap,
            });
        }
    }

    fn receive(&mut self, conn: &mut Connection, what: What, mutant: Option<Mutant>) {
        let mut early = None;
        if mutant == Some(Mutant::NumberedEarly) {
            let owner = self.acts_for(conn, mutant);
            let (id, mut next) = (conn.session, conn.next);
            let counted = self
                .session(id)
                .and_then(|session| session.receiver.take(owner, &mut next, 1, check(what)).ok());
            match counted {
                None => return conn.closing(ClosingCode::Superseded),
                Some(counted) => {
                    conn.next = next;
                    if counted.skip != 0 {
                        return;
                    }
                    early = Some(counted.first);
                }
            }
        }
        conn.waiting = Some((what, early));
    }

    /// In whose name a connection acts.
    fn acts_for(&mut self, conn: &Connection, mutant: Option<Mutant>) -> u64 {
        let owner = self
            .session(conn.session)
            .and_then(|session| session.receiver.owner());
        match (mutant, owner) {
            (Some(Mutant::OwnerUnchecked | Mutant::LatestHelloWins), Some(owner)) => owner,
            _ => u64::from(conn.id),
        }
    }
}

/// What is acknowledged to a connection.
pub(crate) fn acked(receiver: &SessionReceiver, next: u64, mutant: Option<Mutant>) -> u64 {
    match mutant {
        Some(Mutant::AckWritten) => receiver.written(),
        Some(Mutant::AckUnsent) => receiver.durable(),
        _ => receiver.acked(next),
    }
}

fn check(what: What) -> u32 {
    match what {
        What::Message(value) => check_of(value),
        What::Refused(_) | What::Gap => 0,
    }
}
