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
    longest: LongestHeld,
}

impl Keeper {
    pub(super) fn new(spool: Option<Spool>) -> Self {
        Self {
            spool,
            longest: LongestHeld::default(),
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
            self.longest.push(number, message.len());
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
        while let Some(message) = queue.front() {
            let (number, len) = (next_number(sender), message.len());
            let max = sender.block_max().min(u32::MAX - HEADER_LEN as u32);
            if (max as usize) < len {
                queue.refuse(PushError::TooLong { max });
                continue;
            }
            match sender.push(message) {
                Ok(_) => {
                    self.longest.push(number, len);
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

    /// Checks, after a WELCOME, whether the daemon takes all messages of the ring.
    ///
    /// # Errors
    /// [`SessionError::TooLong`].
    pub(super) fn check_len(&mut self, sender: &RetainedSender) -> Result<(), SessionError> {
        let len = self.longest.get(sender.unacknowledged().first) as u64;
        let max = sender.block_max();
        match u64::from(max) < len {
            true => Err(SessionError::TooLong { len, max }),
            false => Ok(()),
        }
    }
}

/// Number of the next message.
pub(super) fn next_number(sender: &RetainedSender) -> u64 {
    let held = sender.unacknowledged();
    held.first + u64::from(held.blocks)
}

/// The longest message in the ring: the numbers and lengths of those after which none as long comes.
#[derive(Debug, Default)]
struct LongestHeld(VecDeque<(u64, usize)>);

impl LongestHeld {
    fn push(&mut self, number: u64, len: usize) {
        while self.0.pop_back_if(|(_, shorter)| *shorter <= len).is_some() {}
        self.0.push_back((number, len));
    }

    /// The length of the longest message from number `first` on.
    fn get(&mut self, first: u64) -> usize {
        while self.0.pop_front_if(|(number, _)| *number < first).is_some() {}
        self.0.front().map_or(0, |(_, len)| *len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_message_from_a_number_on_is_known() {
        let lens = [3, 9, 4, 4, 7, 1, 2];
        for first in 0..lens.len() {
            let mut longest = LongestHeld::default();
            for (number, len) in (0..).zip(lens) {
                longest.push(number, len);
            }
            let wanted = lens[first..].iter().max();
            assert_eq!(longest.get(first as u64), *wanted.unwrap());
        }
        assert_eq!(LongestHeld::default().get(0), 0);
    }
}
