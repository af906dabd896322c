//! How much may be in flight: a [`Window`], which fits itself to the way to the stream.
//!
//! Each request has a timeout. What the way cannot carry within the timeout fails, and is sent again. So the window grows while answers
//! come fast, and shrinks when they come late or not at all. Once it cannot shrink any more, there is one request at a time, and
//! the timeout grows.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::call::Outcome;
use crate::stream::{PublishError, StreamError, TIMEOUTS};

/// Largest number of bytes in flight.
const MAX: usize = 16 << 20;
/// Smallest number. One message is always in flight, however long it is.
const MIN: usize = 32 << 10;
/// The number at the start.
const INITIAL: usize = 512 << 10;
/// The bytes by which it grows slowly, for as many as are in flight.
const STEP: usize = 64 << 10;
/// Bytes that a request takes beside the body of a message.
const HEAD: usize = 512;
/// Bytes that the answer to a request for a message is taken for: at least, at first, and at most, as with the longest body.
const FOUND_MIN: usize = 16 << 10;
const FOUND: usize = 64 << 10;
const FOUND_MAX: usize = 352 << 10;
/// Messages that are shorter than this are not divided to fit into the window.
const BODY_MIN: usize = 16 << 10;
/// A check makes one request at a time for each part of this length of the window.
const SHARE: usize = 64 << 10;
/// Largest number of these requests.
const REQUESTS_MAX: usize = 32;
/// How long a full window waits for an answer until a short request finds out whether it is because of the way.
const STALLED: Duration = Duration::from_secs(1);
/// An answer that takes this much longer than the fastest ones leaves room for more.
const FAST: Duration = Duration::from_millis(500);
/// An answer that takes this much longer is late: a part of the time that a request has.
const LATE: Duration = Duration::from_secs(2);
/// The fastest answers are taken for no slower than this.
const FASTEST_MAX: Duration = Duration::from_secs(2);
/// The fastest answers are those of this time, and as much before it: the way may have become longer.
const FASTEST: Duration = Duration::from_secs(30);

/// What is on the way to the stream, and how much may be.
///
/// The way keeps the order of the calls: an answer says that those which began before it have arrived, too. If they have no answer, it
/// is not because of the way.
#[derive(Debug)]
pub(super) struct Window {
    max: usize,
    /// From this number on, it grows slowly: it was large enough before.
    threshold: usize,
    /// The timeout of a request: one of [`TIMEOUTS`]. From the second one on, there is one request at a time.
    patience: usize,
    /// The calls on the way, by their numbers, and the bytes of each.
    calls: VecDeque<(u64, usize)>,
    /// The bytes of the calls on the way, and those of all calls.
    flying: usize,
    held: usize,
    /// Number of all calls.
    open: usize,
    /// When there was an answer, or nothing on the way.
    answered_at: Instant,
    /// The number of the next call.
    next: u64,
    /// Calls before this one have shrunk the window already.
    shrunk: u64,
    fastest: Fastest,
    /// Bytes of the answer to a request for a message: of the longest one, less with each one after it.
    found: usize,
}

/// A call that has begun.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flight {
    number: u64,
    bytes: usize,
}

/// How long the fastest answers of the last time take.
#[derive(Debug)]
struct Fastest {
    since: Instant,
    now: Option<Duration>,
    before: Option<Duration>,
}

impl Default for Window {
    fn default() -> Self {
        let now = Instant::now();
        Self {
            max: INITIAL,
            threshold: MAX,
            patience: 0,
            calls: VecDeque::new(),
            flying: 0,
            held: 0,
            open: 0,
            answered_at: now,
            next: 0,
            shrunk: 0,
            fastest: Fastest {
                since: now,
                now: None,
                before: None,
            },
            found: FOUND,
        }
    }
}

impl Window {
    /// What a message with a body of this length takes.
    pub(super) const fn of_body(len: usize) -> usize {
        len + HEAD
    }

    /// What a request for a message takes, or for several at the same time.
    pub(super) const fn of_found(&self, requests: usize) -> usize {
        self.found * requests
    }

    /// The longest body of a message that is put together from others, in bytes.
    pub(super) fn body_max(&self) -> usize {
        (self.max / 2).max(BODY_MIN)
    }

    /// How long a request may take.
    pub(super) fn timeout(&self) -> Duration {
        TIMEOUTS.get(self.patience).copied().unwrap_or_default()
    }

    /// Whether another call may begin.
    pub(super) const fn has_room(&self) -> bool {
        match self.patience {
            0 => self.flying < self.max && self.held < MAX,
            _ => self.open == 0,
        }
    }

    /// Whether a call may begin that does not wait for room.
    pub(super) const fn may_exceed(&self) -> bool {
        self.patience == 0 || self.open == 0
    }

    /// When a short request must begin although there is no room: those on the way may have no answer for reasons of their own.
    pub(super) fn stalled_at(&self) -> Option<Instant> {
        (self.max <= self.flying).then(|| self.answered_at + STALLED)
    }

    /// How many requests for messages may be made at the same time.
    pub(super) fn requests(&self) -> usize {
        (self.max / SHARE.max(self.found)).clamp(1, REQUESTS_MAX)
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
        self.open += 1;
        Flight { number, bytes }
    }

    /// A call has ended. Its first request took this time.
    pub(super) fn end(&mut self, flight: Flight, took: Duration, outcome: &Outcome) {
        let Flight { number, bytes } = flight;
        // Half of the window is enough to know that more would be used.
        let is_used = self.max / 2 <= self.held;
        self.held -= bytes;
        self.open -= 1;
        let place = self.calls.binary_search_by_key(&number, |call| call.0);
        if has_timed_out(outcome) {
            // One that was overtaken is not late because of the way.
            if let Ok(place) = place {
                self.calls.remove(place);
                self.flying -= bytes;
                self.shrink(number);
                if matches!(outcome, Outcome::Found(_) | Outcome::Checked(..)) {
                    self.found = FOUND_MAX;
                }
            }
            return;
        }
        self.answered_at = Instant::now();
        let arrived = self.calls.drain(..place.map_or(0, |it| it + 1));
        let arrived: usize = arrived.map(|call| call.1).sum();
        self.flying -= arrived;
        let fastest = self.fastest.note(took);
        self.note_found(bytes, outcome);
        let is_stored = matches!(outcome, Outcome::Published(Ok(_)));
        if is_stored && fastest + LATE < took {
            if place.is_ok() {
                self.shrink(number);
            }
        } else if took <= fastest + FAST {
            if is_used {
                self.grow(arrived);
            }
            let is_whole = is_stored || matches!(outcome, Outcome::Found(Ok(_)));
            if is_whole && took <= self.timeout() / 4 {
                self.patience = self.patience.saturating_sub(1);
            }
        } else if is_used {
            self.threshold = self.threshold.min(self.max);
        }
    }

    /// Notes how long the answer to a request for a message is, as far as this one shows it.
    fn note_found(&mut self, bytes: usize, outcome: &Outcome) {
        let len = match outcome {
            Outcome::Found(Ok(found)) => found.last.as_ref().map_or(0, |it| it.answer_len),
            // It is encoded in base64.
            Outcome::Published(Ok(_)) => bytes / 3 * 4,
            _ => return,
        };
        let before = self.found - self.found / 8;
        self.found = len.max(before).clamp(FOUND_MIN, FOUND_MAX);
    }

    /// The way carries more, as the answer to calls of these bytes has shown: as much again as the window had, and less from where it
    /// was enough before. A long message alone may take much of the time.
    fn grow(&mut self, arrived: usize) {
        let more = match self.max < self.threshold {
            true => arrived,
            false => arrived * STEP / self.max,
        };
        self.max = (self.max + more.min(self.max / 4)).min(MAX);
    }

    /// The way does not carry so much, as a call has shown.
    fn shrink(&mut self, number: u64) {
        if self.shrunk <= number {
            if self.max == MIN {
                self.patience = (self.patience + 1).min(TIMEOUTS.len() - 1);
            }
            self.max = (self.max / 2).max(MIN);
            self.threshold = self.max;
            self.shrunk = self.next;
        }
    }
}

impl Fastest {
    /// Notes an answer. Returns how long the fastest ones take.
    fn note(&mut self, took: Duration) -> Duration {
        if FASTEST < self.since.elapsed() {
            let is_old = 2 * FASTEST < self.since.elapsed();
            self.before = self.now.take().filter(|_| !is_old);
            self.since = Instant::now();
        }
        let now = self.now.map_or(took, |it| it.min(took));
        self.now = Some(now);
        let fastest = self.before.map_or(now, |it| it.min(now));
        fastest.min(FASTEST_MAX)
    }
}

/// Whether a call has no answer in time.
const fn has_timed_out(outcome: &Outcome) -> bool {
    matches!(
        outcome,
        Outcome::Published(Err(PublishError::Stream(StreamError::Timeout(_))))
            | Outcome::Found(Err(StreamError::Timeout(_)))
            | Outcome::Settled(_, Err(StreamError::Timeout(_)))
            | Outcome::Checked(_, Err(StreamError::Timeout(_)))
            | Outcome::Probed(Err(StreamError::Timeout(_)))
    )
}

#[cfg(test)]
mod tests;
