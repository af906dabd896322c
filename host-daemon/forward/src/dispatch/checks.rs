//! When the stream is checked for what it had acknowledged, and which messages prove it: [`Checks`].

use std::time::Duration;

use tokio::time::Instant;

use super::given::Given;
use super::turns::PAUSE_MAX;
use crate::cursor::Newest;
use crate::place::Place;

/// How often the newest message is checked.
const INTERVAL: Duration = Duration::from_secs(10);
/// How often it is checked while messages are stored: files that the stream has can be deleted then.
const BUSY_INTERVAL: Duration = Duration::from_secs(2);
/// Checks take at most this fraction of the time, a tenth: over a slow way, messages are stored in between.
const SHARE: u32 = 10;
/// Time until it is checked after a failure.
const SOON: Duration = Duration::from_secs(1);
/// A stream that loses messages stores none for this time at least: servers restart. More than the time between two commits of
/// the recording, so that a check asks for few messages.
const QUIET: Duration = Duration::from_millis(150);
/// Largest number of pinned messages. No more are stored until some of them are checked.
const PINNED_MAX: usize = 1024;
/// Number from which on they are checked at once. What is new to the stream waits until all of them are.
const URGENT: usize = 64;
/// Bytes that the answers take which a part of a check asks for: at first, and limits. Other answers wait after these.
const PART: usize = 128 << 10;
const PART_LIMITS: (usize, usize) = (16 << 10, 512 << 10);
/// A part takes about this time, besides that of a short request.
const PART_TIME: Duration = Duration::from_millis(500);
/// Bytes that an answer takes at least.
const ANSWER_MIN: usize = 2 << 10;

/// Messages that a whole stream has.
#[derive(Debug)]
pub(super) struct Checks {
    /// The newest message that the stream has acknowledged or shown.
    newest: Option<Newest>,
    /// When the call began that says so, and when it ended. `None` if that was long ago.
    known: Option<(Instant, Instant)>,
    /// The numbers of the newest messages.
    given: Given,
    /// When answers came again after a quiet time. Those to earlier calls may have been held on the way, and tell of any time since.
    woken_at: Instant,
    /// The newest messages when something went wrong, or when the stream may have been away, which are not checked yet: a stream
    /// that has lost messages since then may have given their numbers to others.
    pinned: Vec<Pin>,
    /// Those that a successor proves, unless another recording has given their numbers to messages of its own.
    succeeded: Vec<Pin>,
    /// How often messages were pinned.
    pins: u64,
    /// The check in progress.
    round: Option<Round>,
    /// How long the parts of the last one took that has passed.
    spent: Duration,
    /// Bytes of the next part.
    part: usize,
    /// When the next check begins.
    at: Instant,
    /// When it begins if messages are stored.
    busy_at: Instant,
    /// The last one had no answer.
    has_failed: bool,
}

/// A message that is pinned.
#[derive(Debug)]
struct Pin {
    message: Newest,
    /// The number of its last pin.
    number: u64,
    /// Until then, a newer message that is pinned in the same way takes its place: answers came in between.
    replaced_until: Option<Instant>,
}

/// Messages to check.
#[derive(Clone, Debug, Default)]
pub(super) struct Listed {
    /// The messages: the newest one is the last.
    pub(super) messages: Vec<Newest>,
    /// Where everything was stored before the check.
    pub(super) before: Option<Place>,
    /// How often messages were pinned before.
    pins: u64,
    /// They are a part of a check, and others come after them.
    pub(super) has_more: bool,
}

/// A check in progress. It is made in parts, and messages are stored in between.
#[derive(Debug)]
struct Round {
    /// What no part was begun for.
    unasked: Option<Listed>,
    /// When the part on the way began.
    asked_at: Option<Instant>,
    /// How long the parts before it took.
    spent: Duration,
}

impl Listed {
    /// The newest message.
    pub(super) fn newest(&self) -> Option<Newest> {
        self.messages.last().copied()
    }
}

impl Checks {
    /// The stream had `newest` a moment ago. Whether it still has `pinned` is checked soon.
    pub(super) fn new(newest: Option<Newest>, pinned: Vec<Newest>) -> Self {
        let wait = if pinned.is_empty() { INTERVAL } else { SOON };
        let all = newest.iter().chain(&pinned);
        let newest = all.max_by_key(|it| it.sequence).copied();
        let pinned = pinned.into_iter().map(|message| Pin {
            message,
            number: 0,
            replaced_until: None,
        });
        Self {
            newest,
            known: None,
            given: Given::default(),
            woken_at: Instant::now(),
            pinned: pinned.collect(),
            succeeded: Vec::new(),
            pins: 0,
            round: None,
            spent: Duration::ZERO,
            part: PART,
            at: Instant::now() + wait,
            busy_at: Instant::now() + BUSY_INTERVAL,
            has_failed: false,
        }
    }

    /// The messages that prove that the stream is whole.
    pub(super) fn list(&self) -> Listed {
        let pinned = self.pinned.iter().map(|it| it.message);
        let newest = self.newest.filter(|it| !self.is_pinned(it));
        let mut messages: Vec<_> = pinned.chain(newest).collect();
        messages.sort_unstable_by_key(|it| it.sequence);
        Listed {
            messages,
            before: None,
            pins: self.pins,
            has_more: false,
        }
    }

    /// All messages of which that must be proved.
    pub(super) fn unproved(&self) -> Vec<Newest> {
        let mut messages: Vec<_> = self.succeeded.iter().map(|it| it.message).collect();
        messages.extend(self.list().messages);
        messages
    }

    /// The newest message.
    pub(super) const fn newest(&self) -> Option<Newest> {
        self.newest
    }

    /// Its sequence number, or 0 before the first one. A message that is stored later has a higher one.
    pub(super) fn last(&self) -> u64 {
        self.newest.map_or(0, |it| it.sequence)
    }

    /// Whether these messages are all that is to be checked.
    pub(super) fn are_proved_by(&self, listed: &Listed) -> bool {
        self.newest == listed.newest() && self.pinned.is_empty() && self.succeeded.is_empty()
    }

    /// Whether the largest number is pinned: nothing may be stored before a check.
    pub(super) const fn is_full(&self) -> bool {
        PINNED_MAX <= self.pinned.len()
    }

    /// Notes a message that the stream has acknowledged or shown, in answer to a call that began then. `is_only` says that no other
    /// recording is forwarded to the stream. Returns false if the stream has given the number to another message of this one
    /// before: it has lost that.
    pub(super) fn note(&mut self, message: Newest, begun: Option<Instant>, is_only: bool) -> bool {
        let is_first = self.given.note(message);
        if message.sequence <= self.last() {
            return is_first;
        }
        // Others may have the numbers of messages that were lost in between.
        let now = Instant::now();
        let was_held = begun.is_some_and(|begun| begun < self.woken_at) && !is_only;
        match self.known {
            Some((begun, _)) if now < begun + QUIET => {}
            Some((_, ended)) if now < ended + QUIET => {
                self.pin_until((!was_held).then(|| now + QUIET));
            }
            _ => {
                self.woken_at = now;
                self.pin_until(None);
            }
        }
        self.newest = Some(message);
        self.known = begun.map(|begun| (begun, now));
        self.at = self.at.min(self.busy_at);
        is_first
    }

    /// The stream has shown a message, perhaps one of another recording. Returns false if it has given the number to one of this
    /// recording before: it has lost that.
    pub(super) fn shown(&mut self, message: Newest) -> bool {
        self.given.note(message)
    }

    /// Notes the bytes of an answer with the message that has this number.
    pub(super) fn measure(&mut self, sequence: u64, answer_len: usize) {
        self.given.measure(sequence, answer_len);
    }

    /// The stream has acknowledged a message with this number. One that is not the newest was stored before the newest one, or its
    /// number was given twice.
    pub(super) fn acked(&mut self, sequence: u64) {
        if sequence <= self.last() {
            self.pin_until(Some(Instant::now() + QUIET));
        }
    }

    /// The servers may have restarted, so the newest message is checked soon: the stream may be another one, too.
    pub(super) fn pin(&mut self) {
        self.soon();
        self.pin_until(None);
        // Until now, a part on the way has waited for the cluster.
        if let Some(at) = self.round.as_mut().and_then(|it| it.asked_at.as_mut()) {
            *at = Instant::now();
        }
    }

    /// A call has failed, so it is checked, too.
    pub(super) fn doubt(&mut self) {
        self.soon();
        self.pin_until(Some(Instant::now() + QUIET));
    }

    /// Pins the newest message. Until then, a newer one can take its place.
    fn pin_until(&mut self, replaced_until: Option<Instant>) {
        let Some(message) = self.newest else {
            return;
        };
        self.pins += 1;
        let number = self.pins;
        let now = Instant::now();
        let same = self.pinned.iter_mut().find(|it| it.message == message);
        if let Some(pin) = same {
            pin.number = number;
            pin.replaced_until = pin.replaced_until.and(replaced_until);
        } else if let Some(pin) = self.pinned.last_mut()
            && replaced_until.is_some()
            && pin.replaced_until.is_some_and(|until| now < until)
        {
            (pin.message, pin.number) = (message, number);
        } else {
            self.pinned.push(Pin {
                message,
                number,
                replaced_until,
            });
        }
    }

    fn is_pinned(&self, message: &Newest) -> bool {
        self.pinned.iter().any(|it| it.message == *message)
    }

    /// The next check begins soon.
    pub(super) fn soon(&mut self) {
        self.at = self.at.min(Instant::now() + SOON);
    }

    /// Whether the last one had no answer.
    pub(super) const fn has_failed(&self) -> bool {
        self.has_failed
    }

    /// Begins a check if one is due, or at once unless the last one had no answer, and none is in progress. Everything before
    /// `before` is stored. Returns whether it begins.
    pub(super) fn begin(&mut self, at_once: bool, before: Option<Place>) -> bool {
        let is_urgent = (at_once || URGENT <= self.pinned.len()) && !self.has_failed;
        let is_due = is_urgent || self.at <= Instant::now();
        let begins = is_due && self.round.is_none();
        if begins {
            self.round = Some(Round {
                unasked: Some(Listed {
                    before,
                    ..self.list()
                }),
                asked_at: None,
                spent: Duration::ZERO,
            });
        }
        begins
    }

    /// Begins the next part of the check in progress, unless one is on the way: the oldest messages whose answers take at most `max`
    /// bytes, or one. `unknown` is what an answer of unknown length is taken for. Returns the bytes, too.
    pub(super) fn next_part(&mut self, max: usize, unknown: usize) -> Option<(Listed, usize)> {
        let round = self.round.as_mut().filter(|it| it.asked_at.is_none())?;
        let mut part = round.unasked.take()?;
        let (mut count, mut bytes) = (0, 0);
        let max = max.min(self.part);
        for message in &part.messages {
            let len = self.given.answer_len(message.sequence).unwrap_or(unknown);
            let more = bytes + len.max(ANSWER_MIN);
            if count != 0 && max < more {
                break;
            }
            (count, bytes) = (count + 1, more);
        }
        if count < part.messages.len() {
            let messages = part.messages.split_off(count);
            round.unasked = Some(Listed {
                messages,
                ..part.clone()
            });
            part.has_more = true;
        }
        round.asked_at = Some(Instant::now());
        Some((part, bytes))
    }

    /// When the next check begins; `None` while one is in progress.
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.round.is_none().then_some(self.at)
    }

    /// The stream has stored a message right after this one, of a subject that has no other writer as far as is known.
    pub(super) fn succeeded(&mut self, message: Newest) {
        let place = self.pinned.iter().position(|it| it.message == message);
        if self.succeeded.len() < PINNED_MAX
            && let Some(place) = place
        {
            self.pins += 1;
            let number = self.pins;
            let pin = self.pinned.remove(place);
            self.succeeded.push(Pin { number, ..pin });
        }
    }

    /// The stream has these messages, as a part of a check has found. The fastest answers take this time.
    pub(super) fn proved(&mut self, listed: &Listed, fastest: Duration) {
        if let Some(round) = &mut self.round {
            let took = round.asked_at.take().map(|it| it.elapsed());
            let took = took.unwrap_or_default();
            round.spent += took;
            let part = match took.saturating_sub(fastest) {
                long if 2 * PART_TIME < long => self.part / 2,
                short if short < PART_TIME && listed.has_more => self.part * 2,
                _ => self.part,
            };
            self.part = part.clamp(PART_LIMITS.0, PART_LIMITS.1);
        }
        // A message that was pinned after they were listed may have been lost after the answers.
        self.pinned
            .retain(|it| listed.pins < it.number || !listed.messages.contains(&it.message));
    }

    /// So the last part of a check has found, and whether no other recording is forwarded to the stream. Returns whether everything is
    /// proved that was there when the check began.
    pub(super) fn passed(&mut self, listed: &Listed, is_only: bool, fastest: Duration) -> bool {
        self.proved(listed, fastest);
        match is_only {
            true => self.succeeded.retain(|it| listed.pins < it.number),
            false => self.pinned.append(&mut self.succeeded),
        }
        let is_proved = self.pinned.iter().all(|it| listed.pins < it.number);
        let spent = self.round.take().map_or(Duration::ZERO, |it| it.spent);
        let before = std::mem::replace(&mut self.spent, spent);
        // A single long one may have waited for the cluster. Over a slow way, each one is long.
        let (now, rest) = (Instant::now(), spent.min(before) * (SHARE - 1));
        self.busy_at = now + rest.max(BUSY_INTERVAL);
        self.at = match self.pinned.is_empty() {
            true => now + rest.max(INTERVAL),
            false => self.busy_at,
        };
        self.has_failed = false;
        is_proved
    }

    /// There was no answer.
    pub(super) fn failed(&mut self) {
        self.round = None;
        self.at = Instant::now() + PAUSE_MAX;
        self.busy_at = self.at;
        self.has_failed = true;
    }
}

#[cfg(test)]
mod tests;
