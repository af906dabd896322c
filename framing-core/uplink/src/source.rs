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

/// Longest tail of a message, in bytes.
pub const TAIL_MAX: usize = 16;

/// Writes what is appended to a message when it is taken from a ring; returns its length. `lost` is the number of messages that were
/// lost before this one: it is known only then, since a full ring drops its oldest messages.
///
/// ```
/// use framing_uplink::{Full, Ring, RingSource, TAIL_MAX};
///
/// fn tail(lost: u32, tail: &mut [u8; TAIL_MAX]) -> usize {
///     tail[0] = b',';
///     tail[1] = b'0' + lost as u8;
///     2
/// }
///
/// let ring = Ring::<16>::new(Full::DropOldest);
/// let mut source = RingSource::<16, 8>::new(&ring).with_tail(tail);
/// for message in [b"20.5", b"21.0", b"21.5"] {
///     ring.push(message).unwrap();
/// }
/// assert_eq!(source.peek(), Some(&b"21.0,1"[..]));
/// ```
pub type Tail = fn(lost: u32, tail: &mut [u8; TAIL_MAX]) -> usize;

/// The messages of a ring, for a plain series. Keeps each message until a connection has taken it completely.
///
/// `M` is the longest message, in bytes, with its tail. A longer one in the ring is counted as refused, and is not sent.
#[derive(Debug)]
pub struct RingSource<'r, const N: usize, const M: usize> {
    ring: &'r Ring<N>,
    message: [u8; M],
    /// Length of the message that is being sent, or 0.
    len: usize,
    taken: u32,
    tail: Option<Tail>,
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
            tail: None,
        }
    }

    /// Appends this to each message when it is taken from the ring.
    #[must_use]
    pub fn with_tail(mut self, tail: Tail) -> Self {
        self.tail = Some(tail);
        self
    }

    /// Returns the next message, the same one until [`sent`](Source::sent); `None` if the ring is empty.
    pub fn peek(&mut self) -> Option<&[u8]> {
        while self.len == 0 {
            let front = self.ring.front()?;
            let message = &mut self.message;
            let mut tail = [0; TAIL_MAX];
            let tail = tail_of(self.tail, self.ring.lost(), &mut tail);
            let len = front.len.saturating_add(tail.len());
            let taken = self.ring.take(front, |[start, end]| {
                let bytes = [start, end, tail].into_iter().flatten();
                for (place, byte) in message.iter_mut().zip(bytes) {
                    *place = *byte;
                }
            });
            match taken {
                Some(()) if len <= M => self.len = len,
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

/// The tail of a message; empty without a `tail`.
pub(crate) fn tail_of(tail: Option<Tail>, lost: u32, bytes: &mut [u8; TAIL_MAX]) -> &[u8] {
    let len = tail.map_or(0, |tail| tail(lost, bytes));
    bytes.get(..len).unwrap_or_default()
}
