//! The host's side of a session: [`SessionReceiver`] numbers messages, and decides which are written and acknowledged.

use core::error::Error;
use core::fmt;

/// The state of one session at the host. Sans-IO.
///
/// Three parts of a host share it, under a lock: its connections ([`hello`](Self::hello), [`cont`](Self::cont),
/// [`take`](Self::take)), the writer of the recording ([`write`](Self::write)), and what syncs the recording
/// ([`synced`](Self::synced), [`reset`](Self::reset)). The writer is the judge: what it has written is contiguous, whatever
/// the connections pass to it, and nothing is written twice.
///
/// ```
/// use framing_core::session::{SessionReceiver, Written};
///
/// // Connection 1 begins a session at number 0, and sends two messages.
/// let mut session = SessionReceiver::new(0, 0);
/// let resumed = session.hello(1, 0, 2, 0)?;
/// assert_eq!((resumed.acked, resumed.resume), (0, 0));
/// let mut next = resumed.resume;
/// session.cont(1, &mut next, 0)?;
/// let counted = session.take(1, &mut next, 2, 0xcafe)?;
/// assert_eq!((counted.first, counted.skip), (0, 0));
///
/// // They are written, then synced: now they can be acknowledged.
/// assert_eq!(session.write(0, 2), Written::Write { skip: 0 });
/// assert_eq!(session.durable(), 0);
/// session.synced(session.written());
/// assert_eq!(session.acked(next), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionReceiver {
    /// Number of the next message that is expected: all below were passed to the writer, or are durable.
    taken: u64,
    /// All below are written to the recording, or need not be.
    written: u64,
    /// All below are durable.
    durable: u64,
    /// The latest connection that has owned the session; 0: none. Connections are numbered in the order of their accept.
    newest: u64,
    /// Whether that connection may still send.
    is_owned: bool,
    /// CRC-32 of message `taken - 1`; 0: unknown.
    check: u32,
}

/// The answer to a HELLO, and what it changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resumed {
    /// For the WELCOME: all below are durable.
    pub acked: u64,
    /// For the WELCOME: where the sender may begin. The numbering of the connection begins here.
    pub resume: u64,
    /// For the WELCOME: CRC-32 of message `resume - 1`; 0: unknown.
    pub check: u32,
    /// Numbers that the sender does not hold and the host does not have.
    pub gap: Option<Gap>,
    /// The connection that owned the session before, and is to be closed as superseded.
    pub superseded: Option<u64>,
}

/// Numbers that were not received. To be passed to [`SessionReceiver::write`] in the order of the messages, and recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The first number.
    pub from: u64,
    /// The number after the last one.
    pub to: u64,
    /// The numbers below were acknowledged by a host, and this one does not have them: it was restored from an older backup,
    /// or another host has them. Equal to `from` if there are none.
    pub unknown_below: u64,
}

/// The answer to a CONT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Continued {
    /// Numbers that the sender gave up.
    pub gap: Option<Gap>,
    /// The sender names the expected number: it is owed an ACK with the time.
    pub is_ping: bool,
}

/// The numbers of messages that were received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Number of the first message, before the skipped ones.
    pub first: u64,
    /// How many of the messages, from the first on, the host already has.
    pub skip: u64,
}

/// What the writer does with messages or a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// Write all but the first `skip`.
    Write {
        /// How many are in the recording already.
        skip: u64,
    },
    /// Drop all: messages before them were dropped. The sender sends all of them again.
    Drop,
}

/// Why a HELLO cannot continue a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unresumable {
    /// A connection that was accepted later has owned the session: close this one as superseded.
    Superseded,
    /// The host has messages beyond those of the sender, so the session is that of another ring: give the sender a new one.
    Ahead {
        /// Number of the next message that the host expects.
        taken: u64,
    },
}

/// The connection does not own the session: close it as superseded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotOwner;

impl SessionReceiver {
    /// A session that is new to the host: of a sender that had none, or that the host has forgotten. Begins before the
    /// messages that the sender gave up, so that its [`hello`](Self::hello) returns them as a gap.
    #[must_use]
    pub fn new(first: u64, lost: u32) -> Self {
        Self::recovered(first.saturating_sub(lost.into()), 0)
    }

    /// A session of the recording: everything below `next` is durable. `check` is the CRC-32 of message `next - 1`, 0 if
    /// unknown.
    #[must_use]
    pub const fn recovered(next: u64, check: u32) -> Self {
        Self {
            taken: next,
            written: next,
            durable: next,
            newest: 0,
            is_owned: false,
            check,
        }
    }

    /// Takes the HELLO of connection `conn`: the sender holds `held` messages from `first` on, and gave up `lost` right
    /// before them.
    ///
    /// # Errors
    /// [`Unresumable`]. Nothing is changed.
    pub fn hello(
        &mut self,
        conn: u64,
        first: u64,
        held: u32,
        lost: u32,
    ) -> Result<Resumed, Unresumable> {
        if conn < self.newest {
            return Err(Unresumable::Superseded);
        }
        if first.saturating_add(held.into()) < self.taken {
            return Err(Unresumable::Ahead { taken: self.taken });
        }
        let superseded = (self.is_owned && self.newest != conn).then_some(self.newest);
        (self.newest, self.is_owned) = (conn, true);
        let unknown_below = first.saturating_sub(lost.into());
        let gap = self.gap(first, unknown_below);
        // The sender does not hold the message before its first.
        let check = if first < self.taken { self.check } else { 0 };
        Ok(Resumed {
            acked: self.durable,
            resume: self.taken,
            check,
            gap,
            superseded,
        })
    }

    /// Takes a CONT of connection `conn`, whose next message has the number `next`.
    ///
    /// # Errors
    /// [`NotOwner`].
    pub fn cont(&mut self, conn: u64, next: &mut u64, number: u64) -> Result<Continued, NotOwner> {
        self.owned_by(conn)?;
        // An eager sender skips to `resume` of the WELCOME, and expects an answer then, too.
        let is_ping = number == *next || number == self.taken;
        *next = number;
        let gap = self.gap(number, 0);
        Ok(Continued { gap, is_ping })
    }

    /// Numbers `count` messages of connection `conn`: received ones, and refused ones whose last byte was skipped. Call it
    /// only with a place in the queue to the writer, and pass them on before the lock is released. `check` is the CRC-32 of
    /// the last message, 0 if it was refused.
    ///
    /// # Errors
    /// [`NotOwner`]. Nothing is changed.
    pub fn take(
        &mut self,
        conn: u64,
        next: &mut u64,
        count: u64,
        check: u32,
    ) -> Result<Counted, NotOwner> {
        self.owned_by(conn)?;
        let first = *next;
        let skip = self.taken.saturating_sub(first).min(count);
        *next = first.saturating_add(count);
        if self.taken < *next {
            (self.taken, self.check) = (*next, check);
        }
        Ok(Counted { first, skip })
    }

    /// Whether the writer writes `count` messages or a gap of this length, from number `first` on. Counts them as written if
    /// so.
    pub fn write(&mut self, first: u64, count: u64) -> Written {
        if self.written < first {
            return Written::Drop;
        }
        let skip = (self.written - first).min(count);
        self.written = self.written.max(first.saturating_add(count));
        // After a reset, messages that were on the way to the writer can still be next.
        if self.taken < self.written {
            (self.taken, self.check) = (self.written, 0);
        }
        Written::Write { skip }
    }

    /// Everything below `written` was synced, where `written` is the state of [`written`](Self::written) when the sync was
    /// begun.
    pub fn synced(&mut self, written: u64) {
        self.durable = self.durable.max(written.min(self.written));
    }

    /// A sync failed: forgets what is not durable. The sender has it, and sends it again. Call it from the writer, before
    /// it writes anything more. Returns the connection that is to be closed with the code `again`.
    pub fn reset(&mut self) -> Option<u64> {
        (self.taken, self.written) = (self.durable, self.durable);
        self.check = 0;
        let owner = self.is_owned.then_some(self.newest);
        self.is_owned = false;
        owner
    }

    /// Connection `conn` has ended.
    pub fn closed(&mut self, conn: u64) {
        self.is_owned &= self.newest != conn;
    }

    /// Number of the next message that is expected.
    #[must_use]
    pub const fn taken(&self) -> u64 {
        self.taken
    }

    /// Everything below is in the recording.
    #[must_use]
    pub const fn written(&self) -> u64 {
        self.written
    }

    /// Everything below is durable.
    #[must_use]
    pub const fn durable(&self) -> u64 {
        self.durable
    }

    /// What is acknowledged to a connection whose next message has the number `next`: not more than it has sent, because
    /// messages of an earlier connection can become durable later than the WELCOME.
    #[must_use]
    pub fn acked(&self, next: u64) -> u64 {
        self.durable.min(next)
    }

    /// CRC-32 of message `taken - 1`; 0 if unknown.
    #[must_use]
    pub const fn check(&self) -> u32 {
        self.check
    }

    /// The connection that may send, if there is one.
    #[must_use]
    pub fn owner(&self) -> Option<u64> {
        self.is_owned.then_some(self.newest)
    }

    /// Whether the session may be forgotten: no connection owns it, and all that was received is durable.
    #[must_use]
    pub const fn is_forgettable(&self) -> bool {
        !self.is_owned && self.taken == self.durable
    }

    fn owned_by(&self, conn: u64) -> Result<(), NotOwner> {
        match self.is_owned && self.newest == conn {
            true => Ok(()),
            false => Err(NotOwner),
        }
    }

    /// Skips the numbers below `first`, if they are expected.
    fn gap(&mut self, first: u64, unknown_below: u64) -> Option<Gap> {
        let from = self.taken;
        if first <= from {
            return None;
        }
        (self.taken, self.check) = (first, 0);
        Some(Gap {
            from,
            to: first,
            unknown_below: unknown_below.max(from).min(first),
        })
    }
}

impl fmt::Display for Unresumable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Superseded => f.write_str("a later connection continues the session"),
            Self::Ahead { taken } => write!(
                f,
                "the session has messages up to number {taken}, beyond those of the sender: it is that of another ring"
            ),
        }
    }
}

impl fmt::Display for NotOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("another connection continues the session")
    }
}

impl Error for Unresumable {}

impl Error for NotOwner {}
