//! How much may be in flight: a [`Window`], which fits itself to the way to the stream.
//!
//! Each request has a timeout. If the link is too slow for a message, its request times out, and the message is sent again.
//! Therefore the window grows while answers come fast, and shrinks when they come late or not at all. Once it cannot shrink any
//! more, there is one request at a time, and the timeout grows.

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
/// Largest number of requests for messages that a check makes at the same time.
pub(super) const REQUESTS_MAX: usize = 32;
/// How long a full window waits for an answer until a short request finds out whether it is because of the way.
const STALLED: Duration = Duration::from_secs(1);
/// An answer that takes this much longer than the fastest ones leaves room for more.
const FAST: Duration = Duration::from_millis(500);
/// An answer that takes this much longer is late: a part of the time that a request has.
const LATE: Duration = Duration::from_secs(2);
/// The fastest answers are taken for no slower than this.
const FASTEST_MAX: Duration = Duration::from_secs(3);
/// The fastest answers are those of this time, and as much before it: the way may have become longer.
const FASTEST: Duration = Duration::from_secs(30);

/// What is on the way to the stream, and how much may be.
///
/// The way keeps the order of the calls: an answer says that those which began before it have arrived, too. If they have no answer, it
/// is not because of the way. So it is with requests for messages, and the answers to others of them: the way back may be slower.
#[derive(Debug)]
pub(super) struct Window {
    /// How much there may be of answers to requests for messages, and of all else.
    answers: Limit,
    all: Limit,
    /// The calls on the way, by their numbers: requests for messages, and the others.
    requests: VecDeque<Flight>,
    others: VecDeque<Flight>,
    /// The bytes of the others, of the requests, and of all calls that have not ended.
    flying: usize,
    asked: usize,
    held: usize,
    /// Number of all calls since the way was interrupted last, and the number of the first one.
    open: usize,
    first: u64,
    /// When there was an answer, or nothing on the way.
    answered_at: Instant,
    /// The number of the next call.
    next: u64,
    fastest: Fastest,
    /// Bytes of the answer to a request for a message: of the longest one, less with each one after it.
    found: usize,
}

/// How many bytes may be on a way.
#[derive(Debug)]
struct Limit {
    max: usize,
    /// From this number on, it grows slowly: it was large enough before.
    threshold: usize,
    /// Which of the [`TIMEOUTS`] a request needs. From the second one on, there is one at a time.
    patience: usize,
    /// Calls before this one have lowered it already.
    lowered: u64,
}

/// A call that has begun.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flight {
    number: u64,
    bytes: usize,
    /// It is a request for messages.
    asks: bool,
    /// It is one for a message that is known to be long.
    is_long: bool,
    /// It has timed out.
    is_late: bool,
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
            all: Limit::default(),
            answers: Limit::default(),
            requests: VecDeque::new(),
            others: VecDeque::new(),
            flying: 0,
            held: 0,
            asked: 0,
            open: 0,
            first: 0,
            answered_at: now,
            next: 0,
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

    /// The longest body of a message that is put together from others, in bytes.
    pub(super) fn body_max(&self) -> usize {
        (self.all.max / 2).max(BODY_MIN)
    }

    /// How long a request may take.
    pub(super) fn timeout(&self) -> Duration {
        let patience = self.all.patience.max(self.answers.patience);
        TIMEOUTS.get(patience).copied().unwrap_or_default()
    }

    /// Whether another call may begin that is no request for messages.
    pub(super) const fn has_room(&self) -> bool {
        self.flying < self.all.max && self.held < MAX && self.is_next()
    }

    /// Whether a request for messages may begin.
    pub(super) const fn has_room_to_ask(&self) -> bool {
        self.asked < self.answers.max && self.held < MAX && self.may_ask()
    }

    /// Whether a request for messages may begin that does not wait for room.
    pub(super) const fn may_ask(&self) -> bool {
        self.is_next() && (self.answers.patience == 0 || self.asked == 0)
    }

    /// There are several calls at a time, or none is open.
    const fn is_next(&self) -> bool {
        self.all.patience == 0 || self.open == 0
    }

    /// When a short request must begin although there is no room: those on the way may have no answer for reasons of their own.
    pub(super) fn stalled_at(&self) -> Option<Instant> {
        let must_wait = self.answers.patience != 0 && self.asked != 0;
        let is_full = self.all.max <= self.flying || self.answers.max <= self.asked || must_wait;
        is_full.then(|| self.answered_at + STALLED)
    }

    /// How many requests for messages may be made at the same time.
    pub(super) fn requests(&self) -> usize {
        (self.answers.max / self.found).clamp(1, REQUESTS_MAX)
    }

    /// How many bytes the answers may take that are asked for.
    pub(super) const fn answers_max(&self) -> usize {
        self.answers.max
    }

    /// How long the fastest answers take.
    pub(super) fn fastest(&self) -> Duration {
        self.fastest.shown()
    }

    /// Bytes that the answer to a request for a message is taken for.
    pub(super) const fn found(&self) -> usize {
        self.found
    }

    /// Begins a call of this number of bytes. It must be [ended](Self::end).
    pub(super) fn begin(&mut self, bytes: usize) -> Flight {
        self.start(bytes, false, false)
    }

    /// Begins a call that requests a message. It must be [ended](Self::end).
    pub(super) fn begin_request(&mut self) -> Flight {
        self.asked += self.found;
        self.start(self.found, true, false)
    }

    /// Begins a part of a check, which requests this number of messages with answers of this number of bytes. It must be
    /// [ended](Self::end).
    pub(super) fn begin_part(&mut self, bytes: usize, count: usize) -> Flight {
        self.asked += bytes;
        self.start(bytes, true, count == 1 && FOUND <= bytes)
    }

    fn start(&mut self, bytes: usize, asks: bool, is_long: bool) -> Flight {
        if self.requests.is_empty() && self.others.is_empty() {
            self.answered_at = Instant::now();
        }
        let number = self.next;
        let flight = Flight {
            number,
            bytes,
            asks,
            is_long,
            is_late: false,
        };
        match asks {
            true => self.requests.push_back(flight),
            false => self.others.push_back(flight),
        }
        self.next += 1;
        self.flying += if asks { 0 } else { bytes };
        self.held += bytes;
        self.open += 1;
        flight
    }

    /// A call has ended. Its first request took this time.
    pub(super) fn end(&mut self, flight: Flight, took: Duration, outcome: &Outcome) {
        let Flight {
            number,
            bytes,
            asks,
            ..
        } = flight;
        // Half of a limit is enough to know that more would be used.
        let are_used = [
            self.all.max / 2 <= self.flying,
            self.answers.max / 2 <= self.asked && !self.is_short(outcome),
        ];
        self.held -= bytes;
        self.open -= usize::from(self.first <= number);
        let of = if asks {
            &mut self.requests
        } else {
            &mut self.others
        };
        let place = of.binary_search_by_key(&number, |call| call.number);
        if has_timed_out(outcome) {
            // One that was overtaken is not late because of the way. Any other is still on it.
            if let Ok(place) = place {
                if let Some(call) = of.get_mut(place) {
                    call.is_late = true;
                }
                self.lower(flight);
                self.found = if asks { FOUND_MAX } else { self.found };
            }
            return;
        }
        self.answered_at = Instant::now();
        let shows_requests = asks || matches!(outcome, Outcome::Probed(_));
        let arrived = self.arrive(number, shows_requests);
        if matches!(outcome, Outcome::Published(Err(PublishError::WrongLast))) {
            // Perhaps it was not sent.
            return;
        }
        let fastest = self.fastest.note(took);
        let is_long = self.note_found(bytes, outcome);
        let is_stored = matches!(outcome, Outcome::Published(Ok(_)));
        if is_stored && fastest + LATE < took {
            if place.is_ok() {
                self.lower(flight);
            }
            return;
        }
        let limits = [&mut self.all, &mut self.answers].into_iter().zip(arrived);
        let used = limits.zip(are_used).filter(|(_, is_used)| *is_used);
        if took <= fastest + FAST {
            used.for_each(|((limit, arrived), _)| limit.raise(arrived));
            if took <= self.timeout() / 4 {
                self.all.patience -= usize::from(is_stored && self.all.patience != 0);
                self.answers.patience -= usize::from(is_long && self.answers.patience != 0);
            }
        } else {
            used.for_each(|((limit, _), _)| limit.threshold = limit.threshold.min(limit.max));
        }
    }

    /// The way was interrupted: nothing is on it.
    pub(super) fn interrupted(&mut self) {
        self.requests.clear();
        self.others.clear();
        (self.flying, self.asked, self.open) = (0, 0, 0);
        self.first = self.next;
    }

    /// The calls up to this one have arrived. Returns the bytes of those that have not timed out: of the others,
    /// and of requests, if an answer shows that.
    fn arrive(&mut self, number: u64, shows_requests: bool) -> [usize; 2] {
        let mut timely = [0; 2];
        let is_shown = |it: &mut Flight| it.number <= number;
        while let Some(it) = self.others.pop_front_if(is_shown) {
            self.flying -= it.bytes;
            timely[0] += if it.is_late { 0 } else { it.bytes };
        }
        while shows_requests && let Some(it) = self.requests.pop_front_if(is_shown) {
            self.asked -= it.bytes;
            timely[1] += if it.is_late { 0 } else { it.bytes };
        }
        timely
    }

    /// Notes how long the answer to a request for a message is, as far as this one shows it. Returns whether it had a long one.
    fn note_found(&mut self, bytes: usize, outcome: &Outcome) -> bool {
        let is_long = matches!(outcome, Outcome::Found(Ok(_))) && !self.is_short(outcome);
        let len = match outcome {
            Outcome::Found(Ok(found)) => found.answer_len(),
            // It is encoded in base64.
            Outcome::Published(Ok(_)) => bytes / 3 * 4,
            _ => return false,
        };
        let before = self.found - self.found / 8;
        self.found = len.max(before).clamp(FOUND_MIN, FOUND_MAX);
        is_long
    }

    /// Whether an answer has a shorter message than others, which says nothing of the way.
    fn is_short(&self, outcome: &Outcome) -> bool {
        let Outcome::Found(Ok(found)) = outcome else {
            return false;
        };
        found.answer_len().max(FOUND_MIN) < self.found / 2
    }

    /// The way does not carry so much, as a call has shown.
    fn lower(&mut self, flight: Flight) {
        let limit = match flight.asks {
            true => &mut self.answers,
            false => &mut self.all,
        };
        if flight.number < limit.lowered {
            return;
        }
        // If it is a long message alone, there cannot be less.
        let is_alone = flight.is_long && self.asked == flight.bytes;
        match is_alone {
            true => limit.wait_longer(self.next),
            false => limit.lower(self.next),
        }
    }
}

impl Default for Limit {
    fn default() -> Self {
        Self {
            max: INITIAL,
            threshold: MAX,
            patience: 0,
            lowered: 0,
        }
    }
}

impl Limit {
    /// The way carries more, as the answer to calls of these bytes has shown: as much again as it had, and less from where it was
    /// enough before. A long message alone may take much of the time.
    fn raise(&mut self, arrived: usize) {
        let more = match self.max < self.threshold {
            true => arrived,
            false => arrived * STEP / self.max,
        };
        self.max = (self.max + more.min(self.max / 4)).min(MAX);
    }

    /// The way takes longer for one message. Calls before the next one are no more reason for that.
    fn wait_longer(&mut self, next: u64) {
        self.patience = (self.patience + 1).min(TIMEOUTS.len() - 1);
        self.lowered = next;
    }

    /// The way does not carry so much. Calls before the next one are no more reason for that.
    fn lower(&mut self, next: u64) {
        if self.max == MIN {
            self.wait_longer(next);
        }
        self.max = (self.max / 2).max(MIN);
        (self.threshold, self.lowered) = (self.max, next);
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
        self.shown()
    }

    fn shown(&self) -> Duration {
        let fastest = self.now.into_iter().chain(self.before).min();
        fastest.unwrap_or_default().min(FASTEST_MAX)
    }
}

/// Whether a call has no answer in time.
const fn has_timed_out(outcome: &Outcome) -> bool {
    matches!(
        outcome,
        Outcome::Published(Err(PublishError::Stream(StreamError::Timeout(_))))
            | Outcome::Found(Err(StreamError::Timeout(_)))
            | Outcome::Settled(_, Err(StreamError::Timeout(_)))
            | Outcome::Checked(Err(StreamError::Timeout(_)))
            | Outcome::Probed(Err(StreamError::Timeout(_)))
    )
}

#[cfg(test)]
mod tests;
