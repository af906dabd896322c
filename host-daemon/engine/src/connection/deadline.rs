//! The deadlines of a connection: [`Deadlines`] tracks how long it is silent, and how long a message takes.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use framing_core::{AnyDecoder, Decode, Fault, Part};
use tokio::time::{Instant, Sleep};

use crate::connection::policy::Timeouts;
use crate::moment::Moment;
use crate::reason::CloseReason;

/// When the timeouts of a connection began.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    /// Since when there is nothing to read.
    silent: Option<Moment>,
    /// When the first byte of the incomplete message arrived.
    begun: Option<Moment>,
    /// Wakes the task at the deadline or before it. `None` without a deadline.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Deadlines {
    /// Resets the silence: bytes can be read.
    pub(crate) const fn heard(&mut self) {
        self.silent = None;
    }

    /// Updates the deadlines after decoding. `is_cut` says that the bytes end within a message, and `ended` that this
    /// message began in them.
    pub(crate) fn decoded(&mut self, timeouts: &Timeouts, is_cut: bool, ended: bool) {
        if !is_cut || (timeouts.header.is_none() && timeouts.message.is_none()) {
            self.begun = None;
        } else if ended || self.begun.is_none() {
            self.begun = Some(Moment::now());
        }
    }

    /// Postpones the deadlines of a message by the time for which the daemon itself did not read.
    pub(crate) fn held_back(&mut self, time: Duration) {
        self.begun = self.begun.map(|begun| begun.later(time));
    }

    /// Returns the reason to close when a deadline has passed. Otherwise wakes the task at the next one. `is_first`
    /// says that no byte has arrived yet. `is_in_header` is called only if needed.
    pub(crate) fn poll_late(
        &mut self,
        context: &mut Context<'_>,
        timeouts: &Timeouts,
        is_first: bool,
        is_in_header: impl FnOnce() -> bool,
    ) -> Poll<CloseReason> {
        let Some((at, reason)) = self.deadline(timeouts, is_first, is_in_header) else {
            self.timer = None;
            return Poll::Pending;
        };
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
        // Waking too early costs less than resetting the timer at every read.
        if at < timer.deadline() {
            timer.as_mut().reset(at);
        }
        while timer.as_mut().poll(context).is_ready() {
            if at <= Instant::now() {
                return Poll::Ready(reason);
            }
            timer.as_mut().reset(at);
        }
        Poll::Pending
    }

    /// Returns the next deadline, and the reason to close if nothing arrives before it.
    fn deadline(
        &mut self,
        timeouts: &Timeouts,
        is_first: bool,
        is_in_header: impl FnOnce() -> bool,
    ) -> Option<(Instant, CloseReason)> {
        let mut silence = |time: Option<Duration>, reason| {
            let silent = self.silent.get_or_insert_with(Moment::now);
            Some((silent.after(time?)?, reason))
        };
        let first_byte = timeouts.first_byte.filter(|_| is_first);
        let first_byte = silence(first_byte, CloseReason::FirstByteTimeout);
        let idle = silence(timeouts.idle, CloseReason::Idle);
        first_byte
            .into_iter()
            .chain(idle)
            .chain(self.message_deadline(timeouts, is_in_header))
            .min_by_key(|(at, _)| *at)
    }

    /// Returns the deadline of the incomplete message.
    pub(crate) fn message_deadline(
        &self,
        timeouts: &Timeouts,
        is_in_header: impl FnOnce() -> bool,
    ) -> Option<(Instant, CloseReason)> {
        let begun = self.begun?;
        let after = |time: Option<Duration>, reason| Some((begun.after(time?)?, reason));
        let block = after(timeouts.message, CloseReason::BlockTimeout);
        let header = after(timeouts.header, CloseReason::HeaderTimeout).filter(|_| is_in_header());
        header.into_iter().chain(block).min_by_key(|(at, _)| *at)
    }
}

/// Returns the part of a message that is incomplete after decoding. `remainder` holds the bytes that were not decoded.
pub(crate) fn cut(decoder: &AnyDecoder, remainder: &[u8]) -> Option<Part> {
    if remainder.is_empty() && !decoder.is_mid_block() {
        return None;
    }
    // On a copy, because `close` resets the decoder.
    match { *decoder }.close(remainder.len()) {
        Some(Fault::Truncated { part, .. }) => Some(part).filter(|part| *part != Part::End),
        _ => None,
    }
}
