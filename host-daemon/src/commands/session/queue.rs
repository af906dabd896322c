//! Messages on their way from the input of a command into the ring of a session: [`Queue`].

use std::collections::VecDeque;

use framing_core::session::PushError;
use tokio::sync::mpsc::Receiver;

/// The messages of an input that are not in the ring yet.
#[derive(Debug)]
pub(crate) struct Queue {
    /// Some messages at a time.
    input: Receiver<Vec<Vec<u8>>>,
    waiting: VecDeque<Vec<u8>>,
    is_ended: bool,
    /// Number of messages that were taken.
    taken: u64,
    /// Bytes of the messages that were taken.
    taken_bytes: u64,
    /// A message that cannot be sent is left out, and does not end the input.
    leaves_out: bool,
    left_out: u64,
    refused: Option<RefusedMessage>,
}

/// A message that cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RefusedMessage {
    /// Its number in the input, from 0.
    pub(crate) index: u64,
    /// Its length, in bytes.
    pub(crate) len: u64,
    /// Why.
    pub(crate) error: PushError,
}

impl Queue {
    /// Takes the messages of `input` up to one that cannot be sent.
    pub(crate) const fn new(input: Receiver<Vec<Vec<u8>>>) -> Self {
        Self {
            input,
            waiting: VecDeque::new(),
            is_ended: false,
            taken: 0,
            taken_bytes: 0,
            leaves_out: false,
            left_out: 0,
            refused: None,
        }
    }

    /// Leaves out messages that cannot be sent, and goes on with those after them.
    pub(crate) const fn leaving_out(mut self) -> Self {
        self.leaves_out = true;
        self
    }

    /// Number of messages that were left out.
    pub(crate) const fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Messages and bytes that were put into the ring.
    pub(crate) const fn taken(&self) -> (u64, u64) {
        (self.taken, self.taken_bytes)
    }

    /// The first message that cannot be sent, if there is one.
    pub(crate) const fn refused(&self) -> Option<RefusedMessage> {
        self.refused
    }

    /// The next message, if it has been received.
    pub(super) fn front(&self) -> Option<&[u8]> {
        self.waiting.front().map(Vec::as_slice)
    }

    /// Removes the next message, which is in the ring.
    pub(super) fn pop(&mut self) -> Option<Vec<u8>> {
        let message = self.waiting.pop_front()?;
        self.taken += 1;
        self.taken_bytes += message.len() as u64;
        Some(message)
    }

    /// Refuses the next message, and drops those after it unless they are to be sent.
    pub(super) fn refuse(&mut self, error: PushError) {
        let refused = self.front().map(|message| RefusedMessage {
            index: self.taken + self.left_out,
            len: message.len() as u64,
            error,
        });
        self.refused = self.refused.or(refused);
        if self.leaves_out {
            self.waiting.pop_front();
            self.left_out += 1;
            return;
        }
        self.waiting.clear();
        self.input.close();
        self.is_ended = true;
    }

    /// Number of messages that were received and are not in the ring.
    pub(crate) fn len(&self) -> u64 {
        self.waiting.len() as u64
    }

    /// Whether [`fill`](Self::fill) can receive something.
    pub(crate) fn wants_more(&self) -> bool {
        self.waiting.is_empty() && !self.is_ended
    }

    /// Whether all messages are in the ring.
    pub(crate) fn is_done(&self) -> bool {
        self.waiting.is_empty() && self.is_ended
    }

    /// Waits for the next messages, or for the end. Cancel-safe.
    pub(crate) async fn fill(&mut self) {
        match self.input.recv().await {
            Some(messages) => self.waiting.extend(messages),
            None => self.is_ended = true,
        }
    }
}
