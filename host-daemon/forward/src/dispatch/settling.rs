//! Sessions of which the stream must say what it has, once none of their messages waits: [`Settling`].

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Dispatcher;
use super::checks::Listed;
use super::input::Asked;
use super::turns::PAUSE_MAX;
use crate::confirm::Unsettled;
use crate::stream::{Stream, StreamError};

/// Largest number of sessions that the stream is asked for at the same time.
const ASKED_MAX: usize = 64;
/// How often it is looked whether messages of a session still wait.
const INTERVAL: Duration = Duration::from_millis(200);

/// A device and its session.
type Key = (Arc<str>, String);

/// Sessions that are not settled.
#[derive(Debug, Default)]
pub(super) struct Settling {
    /// Those that wait for a call, and when they may have it.
    pending: HashMap<Key, (Asked, Instant)>,
    /// Calls in progress.
    asking: usize,
    /// Those whose last call has failed.
    failing: HashSet<Key>,
    /// When it is looked next which of them can be asked for.
    at: Option<Instant>,
}

impl<S: Stream> Dispatcher<S> {
    /// Asks what the stream has of sessions of which no message waits.
    pub(super) fn settle(&mut self) {
        if !self.can_settle() {
            return;
        }
        if self.waiting.is_empty() {
            self.settling.soon();
        }
        let lanes = &self.lanes;
        let taken = self.settling.take(self.window.requests(), |asked| {
            let Unsettled {
                device,
                session,
                to,
            } = &asked.unsettled;
            let of = lanes.get(&asked.subject);
            of.is_some_and(|of| of.lane.waits_for(device, session, *to))
        });
        for asked in taken {
            let call = self.new_call(None, Listed::default());
            let flight = self.window.begin_request();
            self.begin(flight, call.settle(asked));
        }
    }

    /// Whether the stream may be asked for a session.
    pub(super) fn can_settle(&self) -> bool {
        self.can_call() && self.window.has_room_to_ask()
    }

    /// Takes what the stream has of a session.
    pub(super) fn settled(&mut self, asked: Asked, runs: Result<Vec<(u64, u64)>, StreamError>) {
        match runs {
            Ok(runs) => {
                self.settling.settled(&asked);
                if let Some(confirm) = &self.confirm {
                    confirm.settled(&asked.unsettled, &runs);
                }
                self.works();
            }
            Err(error) => {
                self.progress.failed(&error);
                self.settling.failed(asked);
            }
        }
    }
}

impl Settling {
    /// Adds sessions.
    pub(super) fn add(&mut self, sessions: Vec<Asked>) {
        let now = Instant::now();
        for asked in sessions {
            let paused = self.pending.remove(&key(&asked));
            let from = paused.map_or(now, |(_, from)| from);
            self.pending.insert(key(&asked), (asked, from));
        }
        self.soon();
    }

    /// The stream may answer again.
    pub(super) fn end_pauses(&mut self) {
        let now = Instant::now();
        self.pending.values_mut().for_each(|(_, from)| *from = now);
        self.soon();
    }

    /// Looks at once.
    pub(super) fn soon(&mut self) {
        self.at = (!self.pending.is_empty()).then(Instant::now);
    }

    /// Takes those of which no message waits, if it is time to look: no more than can be asked for at the same time.
    pub(super) fn take(&mut self, requests: usize, waits: impl Fn(&Asked) -> bool) -> Vec<Asked> {
        let now = Instant::now();
        if self.at.is_none_or(|at| now < at) {
            return Vec::new();
        }
        let free = ASKED_MAX.min(requests).saturating_sub(self.asking);
        let pending = self.pending.iter();
        let ready = pending.filter(|(_, (asked, from))| *from <= now && !waits(asked));
        let keys: Vec<_> = ready.take(free).map(|(key, _)| key.clone()).collect();
        let taken = keys.iter().filter_map(|key| self.pending.remove(key));
        let taken: Vec<_> = taken.map(|(asked, _)| asked).collect();
        self.asking += taken.len();
        self.at = (!self.pending.is_empty()).then(|| now + INTERVAL);
        taken
    }

    /// When to [take](Self::take) next.
    pub(super) const fn next_at(&self) -> Option<Instant> {
        self.at
    }

    /// The stream has answered.
    pub(super) fn settled(&mut self, asked: &Asked) {
        self.asking -= 1;
        if self.asking == 0 {
            self.soon();
        }
        self.failing.remove(&key(asked));
    }

    /// There was no answer: asks again later, unless there is a later number by now.
    pub(super) fn failed(&mut self, asked: Asked) {
        self.asking -= 1;
        self.failing.insert(key(&asked));
        let from = Instant::now() + PAUSE_MAX;
        let pending = self.pending.entry(key(&asked));
        pending.or_insert((asked, from)).1 = from;
        self.at.get_or_insert(from);
    }

    /// Whether sessions wait for an answer that may come soon.
    pub(super) fn has_more(&self) -> bool {
        self.asking != 0 || self.pending.keys().any(|it| !self.failing.contains(it))
    }

    /// Whether the last call of a session has failed.
    pub(super) fn is_failing(&self) -> bool {
        !self.failing.is_empty()
    }
}

fn key(asked: &Asked) -> Key {
    let Unsettled {
        device, session, ..
    } = &asked.unsettled;
    (Arc::clone(device), session.clone())
}
