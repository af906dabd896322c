//! How much may be in flight: a [`Window`], which fits itself to the way to the stream.
//!
//! Each request has a timeout. What the way cannot carry within the timeout fails, and is sent again. So the window grows while answers come fast, and shrinks when they come late or not at all.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::call::Outcome;
use crate::stream::{PublishError, StreamError};

/// Largest number of bytes in flight.
const MAX: usize = 16 << 20;
/// Smallest number. One message is always in flight, however long it is.
const MIN: usize = 32 << 10;
/// The number at the start.
const INITIAL: usize = 512 << 10;
/// Bytes that a request takes beside the body of a message.
const HEAD: usize = 512;
/// Bytes that the answer to a request for a message is taken for: its length is not known before.
const FOUND: usize = 16 << 10;
/// A check makes one request at a time for each part of this length of the window.
const SHARE: usize = 64 << 10;
/// Largest number of these requests.
const REQUESTS_MAX: usize = 32;
/// How long a full window waits for an answer until a short request finds out whether it is because of the way.
const STALLED: Duration = Duration::from_secs(1);
/// An answer within this time leaves room for more.
const FAST: Duration = Duration::from_millis(500);
/// An answer after this time is late: a part of the time that a request has.
const LATE: Duration = Duration::from_secs(2);

/// What is on the way to the stream, and how much may be.
///
/// The way keeps the order of the calls: an answer says that those which began before it have arrived, too. If they have no answer, it
/// is not because of the way.
#[derive(Debug)]
pub(super) struct Window {
    max: usize,
    /// The calls on the way, by their numbers, and the bytes of each.
    calls: VecDeque<(u64, usize)>,
    /// The bytes of the calls on the way, and those of all calls.
    flying: usize,
    held: usize,
    /// When there was an answer, or nothing on the way.
    answered_at: Instant,
    /// The number of the next call.
    next: u64,
    /// Calls before this one have shrunk the window already.
    shrunk: u64,
}

/// A call that has begun.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flight {
    number: u64,
    bytes: usize,
}

impl Default for Window {
    fn default() -> Self {
        Self {
            max: INITIAL,
            calls: VecDeque::new(),
            flying: 0,
            held: 0,
            answered_at: Instant::now(),
            next: 0,
            shrunk: 0,
        }
    }
}

impl Window {
    /// What a request for a message takes.
    pub(super) const REQUEST: usize = FOUND;

    /// What a message with a body of this length takes.
    pub(super) const fn of_body(len: usize) -> usize {
        len + HEAD
    }

    /// Whether another call may begin.
    pub(super) const fn has_room(&self) -> bool {
        self.flying < self.max && self.held < MAX
    }

    /// When a short request must begin although there is no room: those on the way may have no answer for reasons of their own.
    pub(super) fn stalled_at(&self) -> Option<Instant> {
        (self.max <= self.flying).then(|| self.answered_at + STALLED)
    }

    /// How many requests for messages may be made at the same time.
    pub(super) fn requests(&self) -> usize {
        (self.max / SHARE).clamp(1, REQUESTS_MAX)
    }

    /// A call begins. It must be [ended](Self::end).
    pub(super) fn begin(&mut self, bytes: usize) -> Flight {
        if self.calls.is_empty() {
            self.answered_at = Instant::now();
        }
        let number = self.next;
        self.calls.push_back((number, bytes));
        self.next += 1;
        self.flying += bytes;
        self.held += bytes;
        Flight { number, bytes }
    }

    /// A call has ended, after this time.
    pub(super) fn end(&mut self, flight: Flight, took: Duration, outcome: &Outcome) {
        let Flight { number, bytes } = flight;
        // Half of the window is enough to know that more would be used.
        let is_used = self.max / 2 <= self.held;
        self.held -= bytes;
        let place = self.calls.binary_search_by_key(&number, |call| call.0);
        let is_late = match outcome {
            Outcome::Published(Err(PublishError::Stream(StreamError::Timeout(_))))
            | Outcome::Found(Err(StreamError::Timeout(_)))
            | Outcome::Settled(_, Err(StreamError::Timeout(_)))
            | Outcome::Checked(_, Err(StreamError::Timeout(_))) => {
                if let Ok(place) = place {
                    self.calls.remove(place);
                    self.flying -= bytes;
                }
                true
            }
            _ => {
                self.answered_at = Instant::now();
                if let Ok(place) = place {
                    let arrived = self.calls.drain(..=place);
                    self.flying -= arrived.map(|call| call.1).sum::<usize>();
                }
                // The others may have more than one request.
                matches!(outcome, Outcome::Published(Ok(_))) && LATE < took
            }
        };
        if is_late {
            // One that was overtaken is not late because of the way.
            if place.is_ok() {
                self.shrink(number);
            }
        } else if is_used && took <= FAST {
            self.max = (self.max + bytes).min(MAX);
        }
    }

    /// The way does not carry so much, as a call has shown.
    fn shrink(&mut self, number: u64) {
        if self.shrunk <= number {
            self.max = (self.max / 2).max(MIN);
            self.shrunk = self.next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The time that a request has.
    const LIMIT: Duration = Duration::from_secs(5);

    /// An answer, or none.
    fn outcome(is_timely: bool) -> Outcome {
        Outcome::Published(match is_timely {
            true => Ok(1),
            false => Err(StreamError::Timeout(5000).into()),
        })
    }

    /// Sends messages of this length over a way of this rate, in bytes a second. Returns the longest time to an answer after the first
    /// minute, and the rate of what arrived then.
    async fn sent(len: usize, rate: usize) -> (Duration, usize) {
        let mut window = Window::default();
        let bytes = Window::of_body(len);
        let mut flying = VecDeque::new();
        let (mut longest, mut carried) = (Duration::ZERO, 0);
        let (start, warm) = (Instant::now(), Duration::from_secs(60));
        let mut free_at = start;
        while start.elapsed() < 2 * warm {
            while window.has_room() {
                let begun = Instant::now();
                free_at = free_at.max(begun) + Duration::from_secs_f64(bytes as f64 / rate as f64);
                flying.push_back((window.begin(bytes), begun, free_at));
            }
            let (flight, begun, end) = flying.pop_front().expect("a message");
            tokio::time::sleep_until(end.min(begun + LIMIT)).await;
            window.end(flight, begun.elapsed(), &outcome(end < begun + LIMIT));
            if start + warm < begun {
                longest = longest.max(end - begun);
                carried += bytes;
            }
        }
        (longest, carried / 60)
    }

    #[tokio::test(start_paused = true)]
    async fn it_fits_itself_to_the_way() {
        for (len, rate) in [
            (256 << 10, 125_000),
            (256 << 10, 1_000_000),
            (256 << 10, 100_000_000),
            (64 << 10, 30_000),
            (100, 30_000),
            (100, 1_000_000),
        ] {
            let (longest, carried) = sent(len, rate).await;
            assert!(longest < LIMIT, "{len} {rate}: {longest:?}");
            assert!(rate * 9 / 10 < carried, "{len} {rate}: {carried}");
        }
    }

    #[test]
    fn what_times_out_together_shrinks_it_once() {
        let mut window = Window::default();
        let together = [(); 10].map(|()| window.begin(MIN));
        for flight in together {
            window.end(flight, LIMIT, &outcome(false));
        }
        assert_eq!(
            (window.max, window.flying, window.held),
            (INITIAL / 2, 0, 0)
        );
        for _ in 0..10 {
            let flight = window.begin(MIN);
            window.end(flight, LIMIT, &outcome(false));
        }
        assert_eq!(window.max, MIN);
        // Answers that come fast prove nothing while little is on the way.
        let flight = window.begin(1);
        window.end(flight, Duration::ZERO, &outcome(true));
        assert_eq!(window.max, MIN);
    }

    #[test]
    fn calls_that_others_overtake_are_not_on_the_way() {
        let mut window = Window::default();
        let overtaken = [(); 15].map(|()| window.begin(MIN));
        let last = window.begin(MIN);
        assert!(!window.has_room() && window.stalled_at().is_some());
        window.end(last, Duration::ZERO, &outcome(true));
        assert!(window.has_room());
        for flight in overtaken {
            window.end(flight, LIMIT, &outcome(false));
        }
        assert_eq!(
            (window.max, window.flying, window.held),
            (INITIAL + MIN, 0, 0)
        );
        assert_eq!(window.stalled_at(), None);
        // But they take memory.
        for _ in 0..MAX / MIN / 8 {
            for _ in 0..8 {
                assert!(window.has_room());
                window.begin(MIN);
            }
            let probe = window.begin(0);
            window.end(probe, Duration::ZERO, &outcome(true));
        }
        assert!(!window.has_room());
    }
}
