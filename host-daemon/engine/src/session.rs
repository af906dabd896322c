//! Acknowledged sessions: a [`Session`] numbers the messages of one sender, and knows which of them are durable. The
//! [`Sessions`] of an engine are the table of them.
//!
//! `docs/sessions.md` specifies the protocol. A connection passes messages with their numbers to the sinks. The sink that
//! stores them reports the numbers that are [written](Session::write), and later those that are
//! [durable](Session::synced). The connection acknowledges the durable ones.

mod confirmation;
mod counts;
mod hole;
mod registry;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use framing_core::session::{Continued, Counted, NotOwner, SessionReceiver, Written};

use self::confirmation::Confirmation;
pub(crate) use self::counts::add_saturating;
pub use self::counts::{HelloKind, SessionCounters, SessionTotals};
pub(crate) use self::registry::OpenedSession;
pub use self::registry::{Recovered, Sessions, Unsettled};
use crate::moment::Moment;

/// Time in which a third supersession makes a sender wait for longer.
const RIVALRY: Duration = Duration::from_secs(60);
/// Seconds until a superseded sender may connect again: usually, and while connections supersede each other.
const RETRY_S: (u16, u16) = (1, 60);

/// The messages of one sender, numbered without a hole. Several parts of a program share it.
///
/// # Examples
/// ```
/// use blocksd_engine::session::Session;
/// use framing_core::session::Written;
///
/// // A session of a recording that has all messages below 7.
/// let session = Session::recovered("boiler", 0x9f3a, 7, 0);
/// assert_eq!(session.write(7, 2), Written::Write { skip: 0 });
/// session.synced(session.written());
/// assert_eq!(session.durable(), 9);
/// ```
pub struct Session {
    device: Arc<str>,
    number: u64,
    /// The device waits for the commit of everything below this number; 0: it does not.
    hastened: AtomicU64,
    state: Mutex<Numbering>,
}

struct Numbering {
    receiver: SessionReceiver,
    /// Which messages may be acknowledged, if being durable is not enough.
    confirmation: Option<Confirmation>,
    /// Gaps that were not passed to the sinks yet.
    gaps: Vec<SessionGap>,
    /// Wakes the connection that owns the session.
    waker: Option<Waker>,
    /// When the session was last opened: a larger number is later.
    used: u64,
    /// A message or a gap of the session was written.
    is_recorded: bool,
    /// It has messages, and not only gaps.
    has_messages: bool,
    /// A series was begun since this engine knows the session.
    is_used: bool,
    /// The session was begun at another host or was forgotten here, and the sink has not recorded that yet.
    is_adopted: bool,
    /// Another one has taken its place.
    is_replaced: bool,
    /// The latest connection that has opened the session.
    newest: u64,
    /// When the last three connections were superseded.
    superseded: [Option<Moment>; 3],
    /// The commit that makes the last written message durable, and the place of the session among those that the commit
    /// concerns.
    commit: (u64, usize),
}

/// Numbers without a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionGap {
    /// The first number.
    pub from: u64,
    /// The number after the last one.
    pub to: u64,
    /// Why there is no message.
    pub cause: GapCause,
}

/// Why a number has no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GapCause {
    /// The sender has given it up, because its ring was full.
    Device,
    /// It was too long, and was refused.
    Refused,
    /// A host has acknowledged it, and this host does not have it.
    Unknown,
}

/// The next event of a session for the sinks.
#[derive(Debug)]
pub(crate) enum Passing {
    Gap(SessionGap),
    /// The messages of the caller, with their numbers.
    Messages(Counted),
    /// Nothing is left.
    Nothing,
}

/// Whether a connection may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It owns the session. All numbers below are durable.
    Owner { durable: u64 },
    /// Another connection continues the session. The sender may connect again after this delay.
    Superseded { retry_s: u16 },
    /// A sync failed, or the recording was damaged: the sender must send its unacknowledged messages again.
    Again,
}

impl GapCause {
    /// All causes, in the order of their declaration.
    pub const ALL: [Self; 3] = [Self::Device, Self::Refused, Self::Unknown];

    /// The name of the cause in output, recordings and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Refused => "refused",
            Self::Unknown => "unknown",
        }
    }

    /// Returns the cause with this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|cause| cause.as_str() == name)
    }
}

impl fmt::Display for GapCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Session {
    /// Creates a session that is in a recording up to the number before `next`. `check` is the CRC-32 of message `next - 1`,
    /// 0 if unknown.
    #[must_use]
    pub fn recovered(device: impl Into<Arc<str>>, number: u64, next: u64, check: u32) -> Self {
        let state = Numbering {
            is_recorded: true,
            has_messages: true,
            ..Numbering::new(SessionReceiver::recovered(next, check))
        };
        Self {
            device: device.into(),
            number,
            hastened: AtomicU64::new(0),
            state: Mutex::new(state),
        }
    }

    /// Has messages acknowledged only after they are confirmed, also those of the recording.
    fn confirming(self) -> Self {
        let mut state = self.state();
        let next = state.receiver.durable();
        state.confirmation = Some(match state.is_recorded {
            true => Confirmation::recovered(next),
            false => Confirmation::new(next),
        });
        drop(state);
        self
    }

    fn new(device: Arc<str>, number: u64, first: u64, lost: u32) -> Self {
        Self {
            device,
            number,
            hastened: AtomicU64::new(0),
            state: Mutex::new(Numbering::new(SessionReceiver::new(first, lost))),
        }
    }

    /// Returns the device that the session belongs to.
    #[must_use]
    pub const fn device(&self) -> &Arc<str> {
        &self.device
    }

    /// Returns the number of the session. With the [device](Self::device), it identifies the session.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// Decides which of `count` messages from number `first` on are to be written. Counts these as written. Called by the one sink
    /// that stores messages, in the order of its events.
    pub fn write(&self, first: u64, count: u64) -> Written {
        let mut state = self.state();
        if state.is_replaced {
            return Written::Drop;
        }
        state.is_recorded = true;
        let written = state.receiver.write(first, count);
        if let (Some(confirmation), Written::Write { skip }) = (&mut state.confirmation, written)
            && skip < count
        {
            confirmation.written(first.saturating_add(count));
        }
        written
    }

    /// As [`write`](Self::write), for a gap of this length.
    pub fn write_gap(&self, first: u64, count: u64) -> Written {
        let mut state = self.state();
        if state.is_replaced {
            return Written::Drop;
        }
        state.is_recorded = true;
        let written = state.receiver.write(first, count);
        if let (Some(confirmation), Written::Write { skip }) = (&mut state.confirmation, written)
            && skip < count
        {
            confirmation.gap(first.saturating_add(skip), first.saturating_add(count));
        }
        written
    }

    /// Returns once whether the session was begun at another host or was forgotten here. The first message of such a session
    /// may have any number.
    pub fn take_adopted(&self) -> bool {
        std::mem::take(&mut self.state().is_adopted)
    }

    /// Returns the number after the last written one.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.state().receiver.written()
    }

    /// Returns the number up to which everything is durable.
    #[must_use]
    pub fn durable(&self) -> u64 {
        self.state().receiver.durable()
    }

    /// Returns the CRC-32 of message `next - 1`; 0 if unknown.
    #[must_use]
    pub fn check_before(&self, next: u64) -> u32 {
        let receiver = self.state().receiver;
        match receiver.taken() == next {
            true => receiver.check(),
            false => 0,
        }
    }

    /// Counts every number below `written` as durable, and wakes the connection. `written` is the value of
    /// [`written`](Self::written) when the sync was begun.
    pub fn synced(&self, written: u64) {
        let mut state = self.state();
        state.receiver.synced(written);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Returns the number up to which everything may be acknowledged: durable, and [confirmed](Sessions::confirm) if that is needed.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.state().acknowledged()
    }

    /// Returns whether the device waits for the commit of messages that are [written](Self::write). True once for each time
    /// that it has begun to wait: its series has ended, or half of its ring is full. Called by the sink that stores messages,
    /// after each batch.
    pub fn take_hastened(&self) -> bool {
        let hastened = self.hastened.load(Ordering::Relaxed);
        if hastened == 0 || self.written() < hastened {
            return false;
        }
        self.hastened.store(0, Ordering::Relaxed);
        true
    }

    /// The device waits for the commit of everything below `next`. A smaller number that was given before is kept.
    pub(crate) fn hasten(&self, next: u64) {
        let (order, free) = (Ordering::Relaxed, 0);
        // An error is the smaller number.
        let _ = self.hastened.compare_exchange(free, next, order, order);
    }

    /// Remembers that commit number `commit` makes everything written so far durable. Returns the place that was given
    /// before for the same commit; otherwise `place` is remembered.
    pub fn committed_in(&self, commit: u64, place: usize) -> Option<usize> {
        let mut state = self.state();
        if state.commit.0 == commit {
            return Some(state.commit.1);
        }
        state.commit = (commit, place);
        None
    }

    /// Takes a CONT.
    pub(crate) fn cont(
        &self,
        conn: u64,
        next: &mut u64,
        number: u64,
    ) -> Result<Continued, NotOwner> {
        let mut state = self.state();
        let continued = state.receiver.cont(conn, next, number)?;
        state.is_used = true;
        state.gaps.extend(continued.gap.map(SessionGap::given_up));
        Ok(continued)
    }

    /// Numbers a refused message, whose last byte was skipped.
    pub(crate) fn refuse(&self, conn: u64, next: &mut u64) -> Result<(), NotOwner> {
        let mut state = self.state();
        let counted = state.receiver.take(conn, next, 1, 0)?;
        if counted.skip == 0 {
            state.gaps.push(SessionGap {
                from: counted.first,
                to: counted.first + 1,
                cause: GapCause::Refused,
            });
        }
        Ok(())
    }

    /// Passes the first gap, or else `count` messages, to `send`, which must not wait: it holds a place in the queue of
    /// each sink. The session is locked meanwhile, so the sinks get everything in the order of the numbers. `messages` has
    /// their count and the CRC-32 of the last; `None` passes gaps only.
    pub(crate) fn pass(
        &self,
        conn: u64,
        next: &mut u64,
        messages: Option<(u64, u32)>,
        send: impl FnOnce(Passing),
    ) -> Result<bool, NotOwner> {
        let mut state = self.state();
        if !state.gaps.is_empty() {
            send(Passing::Gap(state.gaps.remove(0)));
            return Ok(false);
        }
        match messages {
            Some((count, check)) => {
                let counted = state.receiver.take(conn, next, count, check)?;
                state.has_messages |= counted.skip < count;
                send(Passing::Messages(counted));
            }
            None => send(Passing::Nothing),
        }
        Ok(true)
    }

    /// Whether this connection must pass gaps to the sinks. Gaps of a HELLO wait for the first series. Gaps of a session that
    /// has an owner are passed by the owner.
    pub(crate) fn has_gaps(&self, conn: u64) -> bool {
        let state = self.state();
        let owner = state.receiver.owner();
        state.is_used && !state.gaps.is_empty() && owner.is_none_or(|owner| owner == conn)
    }

    /// Returns whether a connection may go on, and the number below which everything is durable, at most `next`. Wakes the
    /// task of the connection when that changes.
    pub(crate) fn standing(&self, conn: u64, next: u64, waker: &Waker) -> Standing {
        let mut state = self.state();
        if state.receiver.owner() == Some(conn) {
            if state.waker.as_ref().is_none_or(|old| !old.will_wake(waker)) {
                state.waker = Some(waker.clone());
            }
            let durable = state.acknowledged().min(next);
            return Standing::Owner { durable };
        }
        match state.newest == conn {
            true => Standing::Again,
            false => Standing::Superseded {
                retry_s: state.retry_s(),
            },
        }
    }

    /// Forgets the messages that are not durable, because a sync failed. Returns whether a connection must begin again.
    fn reset(&self) -> bool {
        let mut state = self.state();
        state.gaps.clear();
        self.hastened.store(0, Ordering::Relaxed);
        let owner = state.receiver.reset();
        let durable = state.receiver.durable();
        if let Some(confirmation) = &mut state.confirmation {
            confirmation.reset(durable);
        }
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        owner.is_some()
    }

    fn state(&self) -> MutexGuard<'_, Numbering> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SessionGap {
    /// Numbers that the sender does not have.
    const fn given_up(gap: framing_core::session::Gap) -> Self {
        Self {
            from: gap.from,
            to: gap.to,
            cause: GapCause::Device,
        }
    }
}

impl Numbering {
    const fn new(receiver: SessionReceiver) -> Self {
        Self {
            receiver,
            confirmation: None,
            gaps: Vec::new(),
            waker: None,
            used: 0,
            is_recorded: false,
            has_messages: false,
            is_used: false,
            is_adopted: false,
            is_replaced: false,
            newest: 0,
            superseded: [None; 3],
            commit: (0, 0),
        }
    }

    /// The number up to which everything may be acknowledged.
    fn acknowledged(&self) -> u64 {
        let durable = self.receiver.durable();
        let confirmation = self.confirmation.as_ref();
        let confirmed = confirmation.map(|it| it.acknowledged(durable));
        confirmed.unwrap_or(durable)
    }

    /// A connection has been superseded.
    fn supersede(&mut self) {
        let [_, second, third] = self.superseded;
        self.superseded = [second, third, Some(Moment::now())];
    }

    /// When the superseded sender may connect again, in seconds.
    fn retry_s(&self) -> u16 {
        let now = Moment::now();
        let is_rival = |at: Option<Moment>| at.is_some_and(|at| !at.is_past(RIVALRY, now));
        match self.superseded.into_iter().all(is_rival) {
            true => RETRY_S.1,
            false => RETRY_S.0,
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("device", &self.device)
            .field("number", &format_args!("{:016x}", self.number))
            .finish_non_exhaustive()
    }
}
