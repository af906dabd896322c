//! The deadlines of a connection: [`Deadlines`] says when it has been silent, or within a message, for too long.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use framing_core::{AnyDecoder, Decode, Fault, Part};
use tokio::time::{Instant, Sleep};

use crate::connection::policy::Timeouts;
use crate::moment::Moment;
use crate::reason::CloseReason;

/// What a connection is waiting for, and since when.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    /// Since when there is nothing to read.
    silent: Option<Moment>,
    /// When the first byte came of the message that is not whole.
    begun: Option<Moment>,
    /// Wakes at the deadline, or before it; only where there is one.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Deadlines {
    /// There was something to read.
    pub(crate) const fn heard(&mut self) {
        self.silent = None;
    }

    /// Bytes were decoded: `is_cut` says whether they end within a message, and `ended` whether that began in them.
    pub(crate) fn decoded(&mut self, timeouts: &Timeouts, is_cut: bool, ended: bool) {
        if !is_cut || (timeouts.header.is_none() && timeouts.message.is_none()) {
            self.begun = None;
        } else if ended || self.begun.is_none() {
            self.begun = Some(Moment::now());
        }
    }

    /// The daemon itself has held the device back for so long: that is not the device's fault.
    pub(crate) fn held_back(&mut self, time: Duration) {
        self.begun = self.begun.map(|begun| begun.later(time));
    }

    /// There is nothing to read. Says why the connection is to be closed when it is, and wakes the task then.
    /// `is_first`: no byte has come yet. `is_in_header` is asked where that matters.
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
        // One that wakes too early costs less than one that is set anew at every read.
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

    /// When the connection is to be closed, and why, if nothing comes.
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

    /// When the message that is not whole must be, if nothing else is looked at.
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

/// What is not whole, at the end of what was decoded: a header or a message; `remainder` is what is unread.
pub(crate) fn cut(decoder: &AnyDecoder, remainder: &[u8]) -> Option<Part> {
    if remainder.is_empty() && !decoder.is_mid_block() {
        return None;
    }
    // On a copy: closing starts afresh.
    match { *decoder }.close(remainder.len()) {
        Some(Fault::Truncated { part, .. }) => Some(part).filter(|part| *part != Part::End),
        _ => None,
    }
}
