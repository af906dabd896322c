//! One session of a host, recorded in memory: a [`RecordedSession`].

use framing_core::session::{Gap, SessionReceiver, Written, crc32};

/// The state of a session, and its messages.
#[derive(Debug)]
pub(crate) struct RecordedSession {
    pub(crate) receiver: SessionReceiver,
    /// Messages and gaps in the order of their writes: the first number, the number after the last one, and the payload. A gap has
    /// no payload.
    log: Vec<(u64, u64, Option<Vec<u8>>)>,
}

impl RecordedSession {
    /// A new session, from the `first` and `lost` of its HELLO.
    pub(crate) fn new(first: u64, lost: u32) -> Self {
        Self {
            receiver: SessionReceiver::new(first, lost),
            log: Vec::new(),
        }
    }

    /// Takes the next message of a connection, and writes it unless it is there. Returns whether the connection owns the session.
    pub(crate) fn take(&mut self, conn: u64, next: &mut u64, message: &[u8]) -> bool {
        let check = crc32(message.iter().copied());
        let Ok(counted) = self.receiver.take(conn, next, 1, check) else {
            return false;
        };
        if counted.skip == 0 {
            self.write(counted.first, counted.first + 1, Some(message.to_vec()));
        }
        true
    }

    /// Writes a gap.
    pub(crate) fn gap(&mut self, gap: Option<Gap>) {
        if let Some(gap) = gap {
            self.write(gap.from, gap.to, None);
        }
    }

    /// Makes everything durable.
    pub(crate) fn sync(&mut self) {
        self.receiver.synced(self.receiver.written());
    }

    /// A sync fails: messages that are not durable are lost.
    pub(crate) fn fail_sync(&mut self) {
        self.receiver.reset();
        self.forget_from(self.receiver.durable());
    }

    /// The host ends: messages that are not durable are lost.
    pub(crate) fn crash(&mut self) {
        self.forget_from(self.receiver.durable());
        self.recover();
    }

    /// Takes over messages that the sender does not have, all of them durable.
    pub(crate) fn record_foreign(&mut self, messages: &[&[u8]]) {
        let first = self.receiver.taken();
        self.forget_from(first);
        for (number, message) in (first..).zip(messages) {
            self.log.push((number, number + 1, Some(message.to_vec())));
        }
        self.recover();
    }

    /// The messages, and the number of gaps. Asserts that each number is there once.
    #[track_caller]
    pub(crate) fn recorded(&self) -> (Vec<Vec<u8>>, usize) {
        let mut next = self.log.first().map_or(0, |(from, ..)| *from);
        let (mut messages, mut gaps) = (Vec::new(), 0);
        for (from, to, payload) in &self.log {
            assert_eq!(*from, next, "the numbers are contiguous");
            next = *to;
            match payload {
                Some(payload) => messages.push(payload.clone()),
                None => gaps += 1,
            }
        }
        (messages, gaps)
    }

    /// Number of messages.
    pub(crate) fn message_count(&self) -> usize {
        let messages = self.log.iter().filter(|(.., payload)| payload.is_some());
        messages.count()
    }

    fn write(&mut self, from: u64, to: u64, payload: Option<Vec<u8>>) {
        if self.receiver.write(from, to - from) == (Written::Write { skip: 0 }) {
            self.log.push((from, to, payload));
        }
    }

    fn forget_from(&mut self, number: u64) {
        self.log.retain(|(from, ..)| *from < number);
    }

    /// Continues with the recording alone.
    fn recover(&mut self) {
        let last = self.log.last();
        let next = last.map_or_else(|| self.receiver.durable(), |(_, to, _)| *to);
        let payload = last.and_then(|(.., payload)| payload.as_deref());
        let check = payload.map_or(0, |payload| crc32(payload.iter().copied()));
        self.receiver = SessionReceiver::recovered(next, check);
    }
}
