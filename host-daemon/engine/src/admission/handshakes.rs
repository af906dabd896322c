//! Limits how many handshakes run at once, fairly for their origins: [`Handshakes`].
//!
//! Origins that wait take turns. If all places are taken, an origin that has fewer than another ends the longest handshake of
//! that one, unless it has just begun. So a party that stalls its handshakes delays no other one for long.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::origin::Origin;

/// Age from which a handshake may be ended for one of another origin. A small microcontroller needs a second or two.
const SETTLED: Duration = Duration::from_secs(3);
/// Interval at which one that waits looks for a handshake to end.
const RECHECK: Duration = Duration::from_secs(1);

/// The handshakes that run now, and those that wait.
#[derive(Debug)]
pub(crate) struct Handshakes {
    state: Mutex<HandshakesState>,
}

#[derive(Debug)]
struct HandshakesState {
    max: usize,
    next_key: u64,
    /// In the order in which they began.
    running: Vec<RunningHandshake>,
    /// Those that wait, by origin. No queue is empty, and the keys of each increase.
    waiting: HashMap<Origin, VecDeque<WaitingHandshake>>,
    /// The origins in `waiting`. The first one has the next turn.
    turns: VecDeque<Origin>,
}

#[derive(Debug)]
struct RunningHandshake {
    key: u64,
    origin: Origin,
    since: Instant,
    ended: CancellationToken,
}

/// The place of a handshake that runs. Dropping it gives the place to the next one.
#[derive(Debug)]
pub(crate) struct HandshakePlace {
    /// `None` if the place was never taken.
    handshakes: Option<Arc<Handshakes>>,
    key: u64,
    ended: CancellationToken,
}

#[derive(Debug)]
struct WaitingHandshake {
    key: u64,
    sender: oneshot::Sender<HandshakePlace>,
}

/// A handshake that waits until this is dropped.
struct Waiter<'a> {
    handshakes: &'a Handshakes,
    origin: &'a Origin,
    key: u64,
}

impl Handshakes {
    /// At most `max` handshakes run at once.
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(HandshakesState {
                max,
                next_key: 0,
                running: Vec::new(),
                waiting: HashMap::new(),
                turns: VecDeque::new(),
            }),
        })
    }

    /// Changes the number of handshakes that run at once. Those that run go on.
    pub(crate) fn set_max(self: &Arc<Self>, max: usize) {
        let mut state = self.state();
        state.max = max;
        state.fill(self);
    }

    /// Waits for a place.
    ///
    /// Cancel-safe: if the future is dropped, the place goes to the next one.
    pub(crate) async fn place(self: &Arc<Self>, origin: &Origin) -> HandshakePlace {
        loop {
            let (sender, mut receiver) = oneshot::channel();
            let key = {
                let mut state = self.state();
                let key = state.wait(origin, sender);
                state.fill(self);
                key
            };
            let _waiter = Waiter {
                handshakes: self,
                origin,
                key,
            };
            loop {
                self.state().end_longest(origin);
                match tokio::time::timeout(RECHECK, &mut receiver).await {
                    Ok(Ok(place)) => return place,
                    // The sender is not dropped without a place.
                    Ok(Err(_)) => break,
                    Err(_) => {}
                }
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, HandshakesState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HandshakesState {
    fn wait(&mut self, origin: &Origin, sender: oneshot::Sender<HandshakePlace>) -> u64 {
        let key = self.next_key;
        self.next_key += 1;
        let waiting = self.waiting.entry(origin.clone()).or_default();
        if waiting.is_empty() {
            self.turns.push_back(origin.clone());
        }
        waiting.push_back(WaitingHandshake { key, sender });
        key
    }

    /// Forgets one that waits no more.
    fn forget(&mut self, origin: &Origin, key: u64) {
        let Some(waiting) = self.waiting.get_mut(origin) else {
            return;
        };
        if let Ok(at) = waiting.binary_search_by_key(&key, |it| it.key) {
            waiting.remove(at);
        }
        if waiting.is_empty() {
            self.waiting.remove(origin);
            self.turns.retain(|it| it != origin);
        }
    }

    /// Gives free places to those that wait.
    fn fill(&mut self, handshakes: &Arc<Handshakes>) {
        while self.running.len() < self.max
            && let Some((origin, sender)) = self.next()
        {
            let place = HandshakePlace {
                handshakes: Some(Arc::clone(handshakes)),
                key: self.next_key,
                ended: CancellationToken::new(),
            };
            self.next_key += 1;
            self.running.push(RunningHandshake {
                key: place.key,
                origin,
                since: Instant::now(),
                ended: place.ended.clone(),
            });
            // Nobody waits for it any more. Dropping it as it is would lock the state again.
            if let Err(mut place) = sender.send(place) {
                place.handshakes = None;
                self.running.pop();
            }
        }
    }

    /// Takes the one that waits longest of the origin whose turn it is.
    fn next(&mut self) -> Option<(Origin, oneshot::Sender<HandshakePlace>)> {
        let origin = self.turns.pop_front()?;
        let waiting = self.waiting.get_mut(&origin)?;
        let WaitingHandshake { sender, .. } = waiting.pop_front()?;
        if waiting.is_empty() {
            self.waiting.remove(&origin);
        } else {
            self.turns.push_back(origin.clone());
        }
        Some((origin, sender))
    }

    /// Ends the longest handshake of the origin that has the most, if `origin` waits, and has none or at least two fewer.
    fn end_longest(&self, origin: &Origin) {
        if !self.waiting.contains_key(origin) {
            return;
        }
        let mut counts: HashMap<&Origin, usize> = HashMap::new();
        for running in &self.running {
            *counts.entry(&running.origin).or_default() += 1;
        }
        let own = counts.get(origin).copied().unwrap_or_default();
        let Some((most, count)) = counts.into_iter().max_by_key(|(_, count)| *count) else {
            return;
        };
        let mut of_most = self.running.iter().filter(|it| it.origin == *most);
        if (own == 0 || own + 1 < count)
            && let Some(longest) = of_most.find(|it| !it.ended.is_cancelled())
            && SETTLED <= longest.since.elapsed()
        {
            longest.ended.cancel();
        }
    }
}

impl HandshakePlace {
    /// Waits until the handshake must end for one of another origin.
    pub(crate) async fn until_ended(&self) {
        self.ended.cancelled().await;
    }
}

impl Drop for HandshakePlace {
    fn drop(&mut self) {
        if let Some(handshakes) = &self.handshakes {
            let mut state = handshakes.state();
            state.running.retain(|it| it.key != self.key);
            state.fill(handshakes);
        }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.handshakes.state().forget(self.origin, self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn origin(number: u8) -> Origin {
        Origin::V4([10, 0, 0, number])
    }

    fn polled<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> Option<T> {
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn origins_that_wait_take_turns() {
        let handshakes = Handshakes::new(1);
        let first = handshakes.place(&origin(1)).await;
        let (one, two) = (origin(1), origin(2));
        let mut of_one = [
            Box::pin(handshakes.place(&one)),
            Box::pin(handshakes.place(&one)),
        ];
        for waiting in &mut of_one {
            assert!(polled(waiting.as_mut()).is_none());
        }
        let mut of_two = pin!(handshakes.place(&two));
        assert!(polled(of_two.as_mut()).is_none());
        drop(first);
        let [second, third] = &mut of_one;
        let place = polled(second.as_mut()).expect("the first that waited");
        drop(place);
        assert!(polled(third.as_mut()).is_none(), "it is the other's turn");
        let place = polled(of_two.as_mut()).expect("the other origin");
        drop(place);
        assert!(polled(third.as_mut()).is_some());
        let state = handshakes.state();
        assert!(state.waiting.is_empty() && state.turns.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_that_nobody_takes_any_more_goes_to_the_next_one() {
        let handshakes = Handshakes::new(1);
        let place = handshakes.place(&origin(1)).await;
        let (two, three) = (origin(2), origin(3));
        {
            let mut gone = pin!(handshakes.place(&two));
            assert!(polled(gone.as_mut()).is_none());
        }
        let mut granted = Box::pin(handshakes.place(&two));
        assert!(polled(granted.as_mut()).is_none());
        let mut next = pin!(handshakes.place(&three));
        assert!(polled(next.as_mut()).is_none());
        drop(place);
        // It was given the place, and did not look.
        drop(granted);
        assert!(polled(next.as_mut()).is_some());
        assert!(handshakes.state().running.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_stalled_handshake_of_the_origin_with_most_ends_for_another_origin() {
        let handshakes = Handshakes::new(2);
        let (one, two) = (origin(1), origin(2));
        let stalled = [handshakes.place(&one).await, handshakes.place(&one).await];
        let mut ended = pin!(stalled[0].until_ended());
        {
            let mut early = pin!(handshakes.place(&two));
            assert!(polled(early.as_mut()).is_none());
            assert!(polled(ended.as_mut()).is_none(), "it has just begun");
        }
        tokio::time::advance(SETTLED).await;
        let mut same = pin!(handshakes.place(&one));
        assert!(polled(same.as_mut()).is_none());
        assert!(polled(ended.as_mut()).is_none(), "not for its own origin");
        let mut other = pin!(handshakes.place(&two));
        assert!(polled(other.as_mut()).is_none());
        assert!(polled(ended.as_mut()).is_some());
    }

    /// A stalled handshake ends without a newcomer, and for an origin that has none also if no origin has two.
    #[tokio::test(start_paused = true)]
    async fn one_that_waits_looks_again() {
        let handshakes = Handshakes::new(1);
        let stalled = handshakes.place(&origin(1)).await;
        let two = origin(2);
        let waiting = handshakes.place(&two);
        let ends = async {
            stalled.until_ended().await;
            drop(stalled);
        };
        let since = Instant::now();
        let (_place, ()) = tokio::join!(waiting, ends);
        assert!(
            since.elapsed() <= SETTLED + RECHECK,
            "{:?}",
            since.elapsed()
        );
    }

    /// Tens of thousands that gave up leave nothing, and no place is lost on them.
    #[tokio::test(start_paused = true)]
    async fn those_that_gave_up_leave_nothing() {
        let handshakes = Handshakes::new(1);
        let place = handshakes.place(&origin(0)).await;
        let origins: Vec<_> = (1..=9).map(origin).collect();
        let mut gone = Vec::new();
        for number in 0..50_000 {
            let mut waiting = Box::pin(handshakes.place(&origins[number % 9]));
            assert!(polled(waiting.as_mut()).is_none());
            gone.push(waiting);
        }
        drop(gone);
        let last = origin(200);
        let mut next = pin!(handshakes.place(&last));
        assert!(polled(next.as_mut()).is_none());
        assert_eq!(handshakes.state().waiting.len(), 1);
        drop(place);
        assert!(polled(next.as_mut()).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn more_places_are_given_at_once() {
        let handshakes = Handshakes::new(1);
        let _place = handshakes.place(&origin(1)).await;
        let two = origin(2);
        let mut waiting = pin!(handshakes.place(&two));
        assert!(polled(waiting.as_mut()).is_none());
        handshakes.set_max(2);
        assert!(polled(waiting.as_mut()).is_some());
    }
}
