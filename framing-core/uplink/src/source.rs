//! Where the messages of a plain series come from: a [`Source`], such as the messages of a ring ([`RingSource`]).

use crate::ring::Ring;

/// A source of messages. A message stays the same until it was sent.
#[allow(
    async_fn_in_trait,
    reason = "for a single-threaded executor, as in embedded-io-async"
)]
pub trait Source {
    /// Name of the source in the log.
    const NAME: &'static str;

    /// The first message of every connection, or empty.
    fn greeting(&self) -> &[u8] {
        &[]
    }

    /// Waits for a message; returns `false` if the source has ended. Dropping the future loses nothing.
    async fn ready(&mut self) -> bool;

    /// The message that is [`ready`](Self::ready). Never empty.
    fn message(&self) -> &[u8];

    /// Called when a connection has taken the complete message.
    fn sent(&mut self);

    /// Whether the source has ended: no more messages will follow.
    fn is_ended(&self) -> bool;

    /// Number of messages that the source has lost, or that are left in it.
    fn unsent(&self) -> u32 {
        0
    }
}

/// The messages of a ring, for a plain series. Keeps each message until a connection has taken it completely.
///
/// `M` is the longest message, in bytes. A longer one in the ring is counted as refused, and is not sent.
#[derive(Debug)]
pub struct RingSource<'r, const N: usize, const M: usize> {
    ring: &'r Ring<N>,
    message: [u8; M],
    /// Length of the message that is being sent, or 0.
    len: usize,
    taken: u32,
}

impl<'r, const N: usize, const M: usize> RingSource<'r, N, M> {
    /// Takes the messages of this ring. There may be only one at a time.
    #[must_use]
    pub const fn new(ring: &'r Ring<N>) -> Self {
        Self {
            ring,
            message: [0; M],
            len: 0,
            taken: 0,
        }
    }

    /// Returns the next message, the same one until [`sent`](Source::sent); `None` if the ring is empty.
    pub fn peek(&mut self) -> Option<&[u8]> {
        while self.len == 0 {
            let front = self.ring.front()?;
            let message = &mut self.message;
            let taken = self.ring.take(front, |parts| {
                let bytes = parts.into_iter().flatten();
                for (place, byte) in message.iter_mut().zip(bytes) {
                    *place = *byte;
                }
            });
            match taken {
                Some(()) if front.len <= M => self.len = front.len,
                Some(()) => self.ring.refuse(),
                // Another one is the oldest now.
                None => {}
            }
        }
        Some(self.message())
    }

    /// Calls `sleep` if nothing is left to send and the ring is open, in a critical section: see [`Ring::sleep_if_idle`].
    pub fn sleep_if_idle(&self, sleep: impl FnOnce()) {
        if self.len == 0 {
            self.ring.sleep_if_idle(sleep);
        }
    }

    /// Number of messages that a connection took completely. Each may or may not have arrived.
    #[must_use]
    pub const fn taken(&self) -> u32 {
        self.taken
    }

    /// Number of messages that are neither taken nor counted as lost.
    #[must_use]
    pub fn left(&self) -> u32 {
        self.ring.len().saturating_add(u32::from(self.len != 0))
    }
}

impl<const N: usize, const M: usize> Source for RingSource<'_, N, M> {
    const NAME: &'static str = "telemetry";

    async fn ready(&mut self) -> bool {
        loop {
            if self.peek().is_some() {
                return true;
            }
            if !self.ring.ready().await {
                return false;
            }
        }
    }

    fn message(&self) -> &[u8] {
        self.message.get(..self.len).unwrap_or_default()
    }

    fn sent(&mut self) {
        self.len = 0;
        self.taken = self.taken.saturating_add(1);
    }

    fn is_ended(&self) -> bool {
        self.len == 0 && self.ring.is_ended()
    }

    fn unsent(&self) -> u32 {
        self.ring.lost().saturating_add(self.left())
    }
}
