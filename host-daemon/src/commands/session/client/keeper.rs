//! Messages that are not acknowledged: a [`Keeper`] puts them into the ring, and into the spool before they are sent.

use std::collections::VecDeque;
use std::path::Path;

use framing_core::session::{PushError, Retained, SessionSender};

use super::HEADER_LEN;
use crate::commands::session::queue::Queue;
use crate::commands::session::spool::Spool;
use crate::error::SessionError;
use crate::service::log::print_status;

/// The ring and its state.
pub(super) type RetainedSender = SessionSender<Vec<u8>, Retained>;

/// Puts messages into the ring of a sender, and into a spool.
#[derive(Debug)]
pub(super) struct Keeper {
    spool: Option<Spool>,
    judge: Judge,
}

/// Messages that were acknowledged and not recorded, because they are longer than the daemon takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RefusedMessages {
    /// Their number.
    pub(crate) messages: u64,
    /// Their length together, in bytes.
    pub(crate) bytes: u64,
    /// Length of the longest, in bytes.
    pub(crate) longest: u64,
    /// Length of the longest message that the daemon takes, in bytes.
    pub(crate) max: u32,
}

/// Tells refused messages from recorded ones: an acknowledgement covers both.
#[derive(Debug, Default)]
struct Judge {
    /// Number of the first message in the ring, and the lengths of all.
    first: u64,
    lens: VecDeque<u32>,
    /// Length of the longest message that the daemon takes, in bytes, once it is known.
    max: Option<u32>,
    refused: Option<RefusedMessages>,
}

impl Keeper {
    pub(super) fn new(spool: Option<Spool>) -> Self {
        Self {
            spool,
            judge: Judge::default(),
        }
    }

    /// The path of the spool, if there is one.
    pub(super) fn spool_path(&self) -> Option<&Path> {
        self.spool.as_ref().map(Spool::path)
    }

    /// Puts a message of the spool into the ring, which has room.
    pub(super) fn restore(&mut self, sender: &mut RetainedSender, message: &[u8]) {
        let number = next_number(sender);
        if sender.push(message).is_ok() {
            self.judge.push(number, message.len());
        }
    }

    /// Takes messages until the ring is full, and makes them and the session durable in the spool. Refuses a message that
    /// cannot be sent.
    ///
    /// # Errors
    /// [`SessionError::Spool`].
    pub(super) fn take(
        &mut self,
        sender: &mut RetainedSender,
        queue: &mut Queue,
    ) -> Result<(), SessionError> {
        self.judge.acknowledged(sender.unacknowledged().first);
        while let Some(message) = queue.front() {
            let (number, len) = (next_number(sender), message.len());
            let max = sender.block_max().min(u32::MAX - HEADER_LEN as u32);
            if (max as usize) < len {
                queue.refuse(PushError::TooLong { max });
                continue;
            }
            match sender.push(message) {
                Ok(_) => {
                    self.judge.push(number, len);
                    let message = queue.pop();
                    if let (Some(spool), Some(message)) = (&mut self.spool, message) {
                        spool.add(message);
                    }
                }
                // An acknowledgement makes room, or a longer ring does.
                Err(PushError::Full { .. } | PushError::TooLong { .. }) => break,
                Err(error) => queue.refuse(error),
            }
        }
        let first = sender.unacknowledged().first;
        match &mut self.spool {
            Some(spool) => spool.commit(sender.session(), first, next_number(sender)),
            None => Ok(()),
        }
    }

    /// Removes all messages from the spool, since they are acknowledged. If that fails, they stay there, and the host skips
    /// them the next time.
    pub(super) fn settle(&mut self, sender: &RetainedSender) {
        let next = next_number(sender);
        if let Some(spool) = &mut self.spool
            && let Err(error) = spool.settle(sender.session(), next)
        {
            print_status(format_args!(
                "blocksd: everything is acknowledged, but stays in the spool: {error}"
            ));
        }
    }

    /// A WELCOME has come.
    pub(super) fn welcomed(&mut self, sender: &RetainedSender) {
        let Judge { max, .. } = &mut self.judge;
        // What it acknowledges was received under the WELCOME before, if that was in this run.
        max.get_or_insert(sender.block_max());
        self.judge.acknowledged(sender.unacknowledged().first);
        self.judge.max = Some(sender.block_max());
    }

    /// Messages that were acknowledged and not recorded.
    pub(super) fn refused(&mut self, sender: &RetainedSender) -> Option<RefusedMessages> {
        self.judge.acknowledged(sender.unacknowledged().first);
        self.judge.refused
    }
}

/// Number of the next message.
pub(super) fn next_number(sender: &RetainedSender) -> u64 {
    let held = sender.unacknowledged();
    held.first + u64::from(held.blocks)
}

impl Judge {
    /// A message has this number.
    fn push(&mut self, number: u64, len: usize) {
        if self.lens.is_empty() {
            self.first = number;
        }
        self.lens.push_back(u32::try_from(len).unwrap_or(u32::MAX));
    }

    /// Counts the acknowledged messages, those below `first`, that the daemon has refused.
    fn acknowledged(&mut self, first: u64) {
        let Some(max) = self.max else {
            return;
        };
        while self.first < first
            && let Some(len) = self.lens.pop_front()
        {
            self.first += 1;
            if max < len {
                let refused = self.refused.get_or_insert_default();
                refused.messages += 1;
                refused.bytes += u64::from(len);
                refused.longest = refused.longest.max(len.into());
                refused.max = max;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_refused_by_the_length_that_was_in_effect_when_they_were_acknowledged() {
        let mut judge = Judge::default();
        for (number, len) in (7..).zip([3, 9, 4, 12, 9]) {
            judge.push(number, len);
        }
        judge.acknowledged(7);
        assert_eq!(judge.refused, None);
        judge.max = Some(9);
        judge.acknowledged(9);
        assert_eq!(judge.refused, None);
        judge.acknowledged(11);
        judge.max = Some(8);
        judge.acknowledged(12);
        judge.push(12, 8);
        judge.acknowledged(13);
        let refused = RefusedMessages {
            messages: 2,
            bytes: 21,
            longest: 12,
            max: 8,
        };
        assert_eq!(judge.refused, Some(refused));
    }
}
