//! Which sessions a commit makes durable: [`Commits`].

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use blocksd_engine::session::Session;
use blocksd_recording::CommitOutcome;

/// Upper bounds of the histogram of times, in milliseconds.
pub const DURABLE_BOUNDS_MS: [u64; 10] = [10, 25, 50, 100, 150, 250, 500, 1000, 2500, 10_000];

/// The sessions that each commit concerns. The writer adds them. The sync thread reports the outcome of each commit. A task
/// of the runtime passes the outcomes on to the sessions, which wake their connections.
#[derive(Debug, Default)]
pub struct Commits {
    state: Mutex<Pending>,
    /// Held while outcomes are applied, so that they are applied in the order of the commits.
    applying: Mutex<()>,
    ended: Notify,
    times: Mutex<DurableTimes>,
}

/// How long messages took from their arrival at the writer until they were durable: one count for each commit and session.
#[derive(Clone, Debug, Default)]
pub struct DurableTimes {
    /// Sum in seconds.
    pub sum: f64,
    /// Counts up to each of [`DURABLE_BOUNDS_MS`], and beyond.
    pub counts: [u64; DURABLE_BOUNDS_MS.len() + 1],
}

#[derive(Debug, Default)]
struct Pending {
    /// Commits with a session, in order.
    lists: VecDeque<List>,
    /// Outcomes of commits, in order.
    outcomes: VecDeque<CommitOutcome>,
}

#[derive(Debug)]
struct List {
    commit: u64,
    touched: Vec<Touched>,
}

#[derive(Debug)]
struct Touched {
    session: Arc<Session>,
    /// Everything below is written.
    written: u64,
    since: Instant,
}

impl Commits {
    /// Remembers that this commit makes durable everything that is written of a session so far.
    pub fn touch(&self, commit: u64, session: &Arc<Session>) {
        let written = session.written();
        let mut state = self.state();
        if state.lists.back().is_none_or(|list| list.commit != commit) {
            let touched = Vec::new();
            state.lists.push_back(List { commit, touched });
        }
        let Some(list) = state.lists.back_mut() else {
            return;
        };
        let place = list.touched.len();
        let known = session.committed_in(commit, place);
        match known.and_then(|place| list.touched.get_mut(place)) {
            Some(touched) => touched.written = written,
            None => list.touched.push(Touched {
                session: Arc::clone(session),
                written,
                since: Instant::now(),
            }),
        }
    }

    /// Takes the outcome of a commit. Does not wait for sessions.
    pub fn ended(&self, outcome: CommitOutcome) {
        self.state().outcomes.push_back(outcome);
        self.ended.notify_one();
    }

    /// Applies the outcomes of all commits that have ended to their sessions.
    pub fn apply(&self) {
        let _applying = self.applying.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((list, is_durable)) = self.next() {
            for Touched {
                session,
                written,
                since,
            } in list.touched
            {
                if is_durable {
                    session.synced(written);
                    self.times().add(since.elapsed());
                }
            }
        }
    }

    /// Applies outcomes whenever a commit ends.
    pub async fn run(&self) {
        loop {
            self.ended.notified().await;
            self.apply();
        }
    }

    /// Returns how long messages took to become durable.
    #[must_use]
    pub fn durable_times(&self) -> DurableTimes {
        self.times().clone()
    }

    /// The sessions of the next commit that has ended, and whether it is durable.
    fn next(&self) -> Option<(List, bool)> {
        let mut state = self.state();
        loop {
            let CommitOutcome {
                number, is_durable, ..
            } = state.outcomes.pop_front()?;
            if let Some(list) = state.lists.pop_front_if(|list| list.commit <= number) {
                return Some((list, is_durable));
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, Pending> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn times(&self) -> MutexGuard<'_, DurableTimes> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DurableTimes {
    fn add(&mut self, time: Duration) {
        self.sum += time.as_secs_f64();
        let bounds = DURABLE_BOUNDS_MS.map(Duration::from_millis);
        let index = bounds.iter().position(|bound| time <= *bound);
        if let Some(count) = self.counts.get_mut(index.unwrap_or(bounds.len())) {
            *count += 1;
        }
    }
}
