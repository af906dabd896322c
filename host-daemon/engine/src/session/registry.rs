//! All sessions of an engine: [`Sessions`].

mod unsettled;

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use framing_core::session::wire::{ClosingCode, Hello};
use framing_core::session::{Gap, Resumed, Unresumable};
use hashbrown::HashTable;

pub use self::unsettled::Unsettled;
use crate::moment::Moment;
use crate::session::counts::HelloKind;
use crate::session::{GapCause, Session, SessionCounters, SessionGap};

/// One session in this many is forgotten at once, so that a flood of new sessions does not search the table for each.
const FORGOTTEN_PART: usize = 64;

/// The sessions of all devices.
///
/// A session is forgotten only if there are too many, everything received of it is durable, and no connection owns it. Sessions
/// that have only gaps are forgotten first, and then those that were opened least recently.
///
/// # Examples
/// ```
/// use blocksd_engine::session::{Recovered, Sessions};
///
/// let sessions = Sessions::new(1000);
/// sessions.recover([Recovered { device: "boiler".into(), session: 9, next: 7, check: 0 }]);
/// assert_eq!(sessions.len(), 1);
/// ```
#[derive(Debug)]
pub struct Sessions {
    max: AtomicUsize,
    /// The largest number for which there is room in the files that repeat their states.
    max_of_room: AtomicUsize,
    counters: SessionCounters,
    /// Messages are acknowledged only after they are confirmed.
    is_confirming: bool,
    /// No session can be opened, because the sessions of the recording are not known.
    is_closed: AtomicBool,
    /// The clock of the host is synchronised.
    is_clock_synced: AtomicBool,
    /// A session was forgotten that is taken from its device again.
    has_forgotten: AtomicBool,
    /// A HELLO continues a session with messages that are not confirmed.
    has_unsettled: AtomicBool,
    all: Mutex<All>,
}

/// A session as a recording has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// The device.
    pub device: Arc<str>,
    /// Number of the session.
    pub session: u64,
    /// Number of the next message. All numbers before it are decided and durable.
    pub next: u64,
    /// CRC-32 of message `next - 1`; 0 if unknown.
    pub check: u32,
}

#[derive(Default)]
struct All {
    table: HashTable<Arc<Session>>,
    hasher: RandomState,
    /// Counts the openings.
    used: u64,
    /// When all sessions were looked at for those that are not settled.
    looked: Option<Moment>,
}

/// A session that a connection opened.
#[derive(Debug)]
pub(crate) struct OpenedSession {
    pub(crate) session: Arc<Session>,
    pub(crate) kind: HelloKind,
    pub(crate) resumed: Resumed,
}

/// Why a session cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HelloRefused {
    /// A connection that was accepted later continues it. The sender may connect again after this delay.
    Superseded { retry_s: u16 },
    /// There are too many sessions.
    Full { max: usize },
    /// The recording could not be repaired.
    Closed,
}

impl Sessions {
    /// Creates a table for up to `max` sessions.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self {
            max: AtomicUsize::new(max),
            max_of_room: AtomicUsize::new(usize::MAX),
            counters: SessionCounters::default(),
            is_confirming: false,
            is_closed: AtomicBool::new(false),
            is_clock_synced: AtomicBool::new(false),
            has_forgotten: AtomicBool::new(false),
            has_unsettled: AtomicBool::new(false),
            all: Mutex::default(),
        }
    }

    /// Has messages acknowledged only after they are [confirmed](Self::confirm).
    #[must_use]
    pub fn confirming(self) -> Self {
        Self {
            is_confirming: true,
            ..self
        }
    }

    /// Returns once whether a session was forgotten that is taken from its device again. The sink that stores messages then writes
    /// the states of all sessions.
    pub fn take_forgotten(&self) -> bool {
        self.has_forgotten.swap(false, Ordering::Relaxed)
    }

    /// Changes the largest number of sessions.
    pub fn set_max(&self, max: usize) {
        self.max.store(max, Ordering::Relaxed);
    }

    /// Sets the largest number of sessions that a recording of limited size has room for. The smaller limit applies.
    pub fn set_room(&self, max: usize) {
        self.max_of_room.store(max, Ordering::Relaxed);
    }

    /// Returns the largest number of sessions.
    #[must_use]
    pub fn max(&self) -> usize {
        let max_of_room = self.max_of_room.load(Ordering::Relaxed);
        self.max.load(Ordering::Relaxed).min(max_of_room)
    }

    /// Adds the sessions of a recording, in the order in which they were last used.
    pub fn recover(&self, sessions: impl IntoIterator<Item = Recovered>) {
        let mut all = self.all();
        for recovered in sessions {
            let Recovered {
                device,
                session,
                next,
                check,
            } = recovered;
            let session = Session::recovered(device, session, next, check);
            let session = Arc::new(self.confirmed(session));
            all.insert(&session);
        }
    }

    /// Refuses all sessions from now on, because the acknowledged numbers are not known.
    pub fn close(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
    }

    /// Whether no session can be opened.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Relaxed)
    }

    /// Sets whether the clock of the host is synchronised, as reported to devices. At first, it is not.
    pub fn set_clock_synced(&self, is_synced: bool) {
        self.is_clock_synced.store(is_synced, Ordering::Relaxed);
    }

    pub(crate) fn is_clock_synced(&self) -> bool {
        self.is_clock_synced.load(Ordering::Relaxed)
    }

    /// Returns the number of sessions.
    #[must_use]
    pub fn len(&self) -> usize {
        self.all().table.len()
    }

    /// Returns whether there is no session.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the counters.
    #[must_use]
    pub const fn counters(&self) -> &SessionCounters {
        &self.counters
    }

    /// Calls a function for each session with a message or a gap in the recording.
    pub fn for_each(&self, mut each: impl FnMut(&Arc<Session>)) {
        let sessions: Vec<_> = self.all().table.iter().cloned().collect();
        for session in sessions
            .iter()
            .filter(|session| session.state().is_recorded)
        {
            each(session);
        }
    }

    /// Resets each session to its durable number after a failed sync. The sink that writes calls this after it has reported
    /// everything that became durable before the failure, and before it writes anything more. Connections close with the
    /// code `again`.
    pub fn reset(&self) {
        let sessions: Vec<_> = self.all().table.iter().cloned().collect();
        for session in sessions {
            if session.reset() {
                self.counters.reset();
            }
        }
    }

    /// Opens the session of a HELLO for a connection.
    pub(crate) fn hello(
        &self,
        conn: u64,
        hello: &Hello<'_>,
    ) -> Result<OpenedSession, HelloRefused> {
        if self.is_closed() {
            return Err(HelloRefused::Closed);
        }
        let mut all = self.all();
        let known = all.find(hello.device, hello.session);
        let mut kind = match (&known, hello.session) {
            (_, 0) => HelloKind::Began,
            (Some(_), _) => HelloKind::Resumed,
            (None, _) => HelloKind::Adopted,
        };
        let known = known.filter(|_| hello.session != 0);
        let again = known.as_ref().and_then(|it| it.again(conn, hello));
        if let (Some(session), Some(_)) = (&known, &again) {
            session.replace(conn);
            all.remove(session);
            self.has_forgotten.store(true, Ordering::Relaxed);
            kind = HelloKind::Adopted;
        } else if let Some(session) = known {
            match self.resume(&mut all, conn, hello, &session) {
                Ok(resumed) => {
                    return Ok(OpenedSession {
                        session,
                        kind,
                        resumed,
                    });
                }
                Err(Unresumable::Superseded) => {
                    let retry_s = session.state().retry_s();
                    return Err(HelloRefused::Superseded { retry_s });
                }
                Err(Unresumable::Ahead { .. }) => kind = HelloKind::Replaced,
            }
        }
        let max = self.max();
        if max <= all.table.len() {
            all.forget(max);
        }
        if max <= all.table.len() {
            return Err(HelloRefused::Full { max });
        }
        let number = match kind {
            HelloKind::Adopted => hello.session,
            _ => all.new_number(hello.device),
        };
        let device = hello.device.into();
        let session = Session::new(device, number, hello.first, hello.lost);
        let session = Arc::new(self.confirmed(session));
        session.state().is_adopted = kind == HelloKind::Adopted;
        if again.is_some() {
            session.state().confirmation = again;
        }
        all.insert(&session);
        let resumed = self.resume(&mut all, conn, hello, &session);
        // A new session has no owner, and no messages.
        let resumed = resumed.map_err(|_| HelloRefused::Superseded { retry_s: 0 })?;
        Ok(OpenedSession {
            session,
            kind,
            resumed,
        })
    }

    fn confirmed(&self, session: Session) -> Session {
        match self.is_confirming {
            true => session.confirming(),
            false => session,
        }
    }

    fn resume(
        &self,
        all: &mut All,
        conn: u64,
        hello: &Hello<'_>,
        session: &Session,
    ) -> Result<Resumed, Unresumable> {
        let Hello {
            first, held, lost, ..
        } = *hello;
        let mut state = session.state();
        let mut resumed = state.receiver.hello(conn, first, held, lost)?;
        if let Some(confirmation) = &mut state.confirmation {
            // The device has forgotten those: a host has acknowledged them.
            confirmation.begin(first.saturating_sub(lost.into()), first);
        }
        resumed.acked = state.acknowledged();
        if resumed.acked < state.receiver.durable() {
            self.has_unsettled.store(true, Ordering::Relaxed);
        }
        all.used += 1;
        state.used = all.used;
        state.newest = conn;
        if let Some(gap) = resumed.gap {
            state.gaps.extend(split(gap));
        }
        if resumed.superseded.is_some() {
            state.supersede();
            if let Some(waker) = state.waker.take() {
                waker.wake();
            }
        }
        Ok(resumed)
    }

    /// Whether this HELLO would take the session over from another connection.
    pub(crate) fn would_supersede(&self, conn: u64, hello: &Hello<'_>) -> bool {
        let Hello {
            first, held, lost, ..
        } = *hello;
        let known = self.all().find(hello.device, hello.session);
        known.is_some_and(|session| {
            let mut receiver = session.state().receiver;
            let resumed = receiver.hello(conn, first, held, lost);
            resumed.is_ok_and(|resumed| resumed.superseded.is_some())
        })
    }

    /// Ends a connection of a session. Forgets the session if nothing was received of it; of a session of the recording, a
    /// gap without a series.
    pub(crate) fn closed(&self, session: &Arc<Session>, conn: u64) {
        let mut all = self.all();
        let mut state = session.state();
        state.receiver.closed(conn);
        if state.is_used || state.receiver.owner().is_some() {
            return;
        }
        // The gap of a HELLO comes again with the next one.
        state.gaps.clear();
        state.receiver.reset();
        let is_recorded = state.is_recorded;
        drop(state);
        if !is_recorded {
            all.remove(session);
        }
    }

    fn all(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl All {
    fn hash(&self, device: &str, number: u64) -> u64 {
        hash(&self.hasher, device, number)
    }

    fn find(&self, device: &str, number: u64) -> Option<Arc<Session>> {
        let is_it = |it: &Arc<Session>| it.number == number && &*it.device == device;
        let found = self.table.find(self.hash(device, number), is_it);
        found.cloned()
    }

    /// Adds a session, unless there is one with its number.
    fn insert(&mut self, session: &Arc<Session>) {
        if self.find(&session.device, session.number).is_some() {
            return;
        }
        self.used += 1;
        session.state().used = self.used;
        let Self { table, hasher, .. } = self;
        let hash_of = |it: &Arc<Session>| hash(hasher, &it.device, it.number);
        table.insert_unique(hash_of(session), Arc::clone(session), hash_of);
    }

    fn remove(&mut self, session: &Arc<Session>) {
        let hash = self.hash(&session.device, session.number);
        let found = self.table.find_entry(hash, |it| Arc::ptr_eq(it, session));
        if let Ok(entry) = found {
            entry.remove();
        }
    }

    /// Forgets the sessions that were opened least recently, of those that may be forgotten.
    fn forget(&mut self, max: usize) {
        let surplus = (self.table.len() + 1).saturating_sub(max) + max / FORGOTTEN_PART;
        let mut idle: Vec<_> = self
            .table
            .iter()
            .filter_map(|session| {
                let state = session.state();
                let is_acked = state.acknowledged() == state.receiver.durable();
                // Of an earlier run: if its device comes back, it sends what it has no acknowledgement for.
                let confirmation = state.confirmation.as_ref();
                let is_earlier = confirmation.is_some_and(|it| !it.has_begun());
                let is_idle = state.receiver.is_forgettable()
                    && state.gaps.is_empty()
                    && (is_acked || is_earlier);
                let cost = (!is_acked, state.has_messages, state.used);
                is_idle.then(|| (cost, Arc::clone(session)))
            })
            .collect();
        // Those without messages first: a repeated gap costs nothing.
        idle.sort_unstable_by_key(|(cost, _)| *cost);
        for (.., session) in idle.iter().take(surplus) {
            self.remove(session);
        }
    }

    /// A number that no session of the device has, and that cannot be guessed.
    fn new_number(&self, device: &str) -> u64 {
        loop {
            // `RandomState` is seeded randomly by the system, and differs for each instance.
            let number = RandomState::new().build_hasher().finish();
            if number != 0 && self.find(device, number).is_none() {
                return number;
            }
        }
    }
}

impl HelloRefused {
    /// The CLOSING that answers the HELLO: code, seconds until the next attempt, and text.
    pub(crate) fn closing(self) -> (ClosingCode, u16, &'static str) {
        match self {
            Self::Superseded { retry_s } => (ClosingCode::Superseded, retry_s, "superseded"),
            Self::Full { .. } => (ClosingCode::Full, 60, "too many sessions"),
            Self::Closed => (ClosingCode::Full, 60, "recording needs a repair"),
        }
    }
}

impl fmt::Display for HelloRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Superseded { .. } => f.write_str("a later connection continues the session"),
            Self::Full { max } => write!(
                f,
                "all {max} sessions are in use; raise --max-sessions, or find out who opens them"
            ),
            Self::Closed => f.write_str(
                "sessions are refused, because a file of the recording could not be repaired; see the error at the start",
            ),
        }
    }
}

/// The parts of a gap: numbers that are not known here, and numbers that the sender gave up.
fn split(gap: Gap) -> impl Iterator<Item = SessionGap> {
    let unknown = SessionGap {
        from: gap.from,
        to: gap.unknown_below,
        cause: GapCause::Unknown,
    };
    let given_up = SessionGap {
        from: gap.unknown_below,
        to: gap.to,
        cause: GapCause::Device,
    };
    let parts = [unknown, given_up].into_iter();
    parts.filter(|gap| gap.from < gap.to)
}

fn hash(hasher: &RandomState, device: &str, number: u64) -> u64 {
    hasher.hash_one((device, number))
}

impl fmt::Debug for All {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("All")
            .field("sessions", &self.table.len())
            .finish_non_exhaustive()
    }
}
