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
    refused: Option<RefusedMessage>,
}

/// A message that cannot be sent. Those after it are not taken.
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
    /// Takes the messages of `input`.
    pub(crate) const fn new(input: Receiver<Vec<Vec<u8>>>) -> Self {
        Self {
            input,
            waiting: VecDeque::new(),
            is_ended: false,
            taken: 0,
            refused: None,
        }
    }

    /// The message that cannot be sent, if there is one.
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
        Some(message)
    }

    /// Refuses the next message, and drops those after it.
    pub(super) fn refuse(&mut self, error: PushError) {
        self.refused = self.front().map(|message| RefusedMessage {
            index: self.taken,
            len: message.len() as u64,
            error,
        });
        self.waiting.clear();
        self.input.close();
        self.is_ended = true;
    }

    /// Number of messages that were received and are not in the ring.
    pub(super) fn len(&self) -> u64 {
        self.waiting.len() as u64
    }

    /// Whether [`fill`](Self::fill) can receive something.
    pub(super) fn wants_more(&self) -> bool {
        self.waiting.is_empty() && !self.is_ended
    }

    /// Whether all messages are in the ring.
    pub(super) fn is_done(&self) -> bool {
        self.waiting.is_empty() && self.is_ended
    }

    /// Waits for the next messages, or for the end. Cancel-safe.
    pub(super) async fn fill(&mut self) {
        match self.input.recv().await {
            Some(messages) => self.waiting.extend(messages),
            None => self.is_ended = true,
        }
    }
}
