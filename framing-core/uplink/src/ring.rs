//! Messages that wait for the uplink, in memory of fixed size: [`Ring`].

use core::cell::RefCell;
use core::fmt;
use core::future::poll_fn;
use core::task::Poll;

use embassy_sync::blocking_mutex::CriticalSectionMutex;
use embassy_sync::waitqueue::AtomicWaker;
use framing_core::session::{Full, HostClock, PushError};

/// Bytes that each message takes besides its own.
const HEADER_LEN: usize = 4;

/// Messages of any bytes, from 1 byte on, in `N` bytes: each takes 4 bytes more than its length.
///
/// It is filled from anywhere, also from interrupts, and never waits. One uplink at a time empties it. It is made for a
/// `static`, and takes no flash there.
///
/// ```
/// use framing_uplink::{Full, PushError, Ring};
///
/// static RING: Ring<64> = Ring::new(Full::DropOldest);
///
/// RING.push(b"temperature=21.5").unwrap();
/// assert_eq!(RING.len(), 1);
/// // Longer than the ring: it is refused, and counted.
/// assert_eq!(RING.push(&[0; 61]), Err(PushError::TooLong { max: 60 }));
/// assert_eq!(RING.counts().refused, 1);
/// ```
pub struct Ring<const N: usize> {
    state: CriticalSectionMutex<RefCell<State<N>>>,
    waiting: AtomicWaker,
}

/// The state of a new ring is all zeros.
struct State<const N: usize> {
    bytes: [u8; N],
    /// Index of the oldest byte.
    head: usize,
    /// Bytes of all messages, with their headers.
    len: usize,
    is_refusing: bool,
    is_closed: bool,
    /// Number of messages that were taken or dropped so far: the number of the oldest one.
    first: u32,
    counts: RingCounts,
    beyond: Beyond,
}

/// The messages of a ring so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct RingCounts {
    /// Messages that wait now.
    pub waiting: u32,
    /// Messages that were dropped for newer ones, since the start.
    pub dropped: u32,
    /// Messages that were refused, since the start: too long, empty, or without room in a ring that refuses.
    pub refused: u32,
}

/// What the session beyond a ring tells its producers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Beyond {
    /// The time of the host.
    pub(crate) host: HostClock,
    /// Messages of the session that are not acknowledged.
    pub(crate) held: u32,
    /// Messages that the session gave up or refused.
    pub(crate) lost: u32,
}

/// The oldest message, as it was looked at: it can be dropped meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Front {
    /// Its length, in bytes.
    pub(crate) len: usize,
    number: u32,
}

impl<const N: usize> Ring<N> {
    /// An empty ring. `full` says what a [`push`](Self::push) without room does.
    #[must_use]
    pub const fn new(full: Full) -> Self {
        Self {
            state: CriticalSectionMutex::new(RefCell::new(State {
                bytes: [0; N],
                head: 0,
                len: 0,
                is_refusing: matches!(full, Full::Refuse),
                is_closed: false,
                first: 0,
                counts: RingCounts {
                    waiting: 0,
                    dropped: 0,
                    refused: 0,
                },
                beyond: Beyond {
                    host: HostClock::new(),
                    held: 0,
                    lost: 0,
                },
            })),
            waiting: AtomicWaker::new(),
        }
    }

    /// Appends a message. Returns how many older ones it dropped for that. Copies the message in a critical section; does not
    /// wait.
    ///
    /// # Errors
    /// [`PushError::Empty`] and [`PushError::TooLong`]; [`PushError::Full`] if the ring refuses messages without room, or is
    /// [closed](Self::close). The message is counted as refused.
    pub fn push(&self, message: &[u8]) -> Result<u32, PushError> {
        self.push_parts(&[message])
    }

    /// Appends several parts as one message.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn push_parts(&self, parts: &[&[u8]]) -> Result<u32, PushError> {
        let pushed = self.with(|state| {
            let pushed = state.push(parts);
            if pushed.is_err() {
                state.counts.refused = state.counts.refused.saturating_add(1);
            }
            pushed
        });
        self.waiting.wake();
        pushed.unwrap_or(Err(PushError::Full { free: 0 }))
    }

    /// Says that no message will follow: the uplink ends when it has sent what is left.
    pub fn close(&self) {
        self.with(|state| state.is_closed = true);
        self.waiting.wake();
    }

    /// Number of messages that wait in the ring.
    pub fn len(&self) -> u32 {
        self.counts().waiting
    }

    /// Whether no message waits in the ring.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the ring is closed and empty.
    pub fn is_ended(&self) -> bool {
        let is_ended = self.with(|state| state.is_closed && state.counts.waiting == 0);
        is_ended.unwrap_or_default()
    }

    /// The counts of messages.
    pub fn counts(&self) -> RingCounts {
        self.with(|state| state.counts).unwrap_or_default()
    }

    /// Number of messages that wait, in the ring and in the memory of the session that empties it.
    pub fn unsent(&self) -> u32 {
        let unsent = self.with(|state| state.counts.waiting.saturating_add(state.beyond.held));
        unsent.unwrap_or_default()
    }

    /// Number of messages that will not arrive, or only perhaps: dropped or refused by the ring, or given up by the session
    /// that empties it.
    pub fn lost(&self) -> u32 {
        let lost = self.with(|state| state.counts.lost().saturating_add(state.beyond.lost));
        lost.unwrap_or_default()
    }

    /// The host's time at `uptime_us` of the device, in ns since 1970; `None` until the host of a session has said it.
    ///
    /// It is late by the shortest way from the host, and can step back when a connection begins: the host may be another one.
    pub fn host_time_ns(&self, uptime_us: u64) -> Option<u64> {
        self.with(|state| state.beyond.host.at(uptime_us))?
    }

    /// Waits until a message waits: `true`; or until the ring is closed and empty: `false`. Only one task may wait.
    ///
    /// # Cancel-safety
    /// Dropping the future changes nothing.
    pub async fn ready(&self) -> bool {
        poll_fn(|context| {
            self.waiting.register(context.waker());
            match self.with(|state| (state.counts.waiting, state.is_closed)) {
                Some((0, false)) | None => Poll::Pending,
                Some((waiting, _)) => Poll::Ready(waiting != 0),
            }
        })
        .await
    }

    /// Calls `sleep` in a critical section if nothing waits and the ring is open, so that it never sleeps with a message
    /// waiting: an interrupt that adds one cannot come between the check and the sleep.
    pub fn sleep_if_idle(&self, sleep: impl FnOnce()) {
        self.state.lock(|state| {
            let is_idle = {
                let state = state.try_borrow();
                state.is_ok_and(|it| it.counts.waiting == 0 && !it.is_closed)
            };
            if is_idle {
                sleep();
            }
        });
    }

    /// Looks at the oldest message.
    pub(crate) fn front(&self) -> Option<Front> {
        self.with(|state| {
            (state.counts.waiting != 0).then(|| Front {
                len: state.front_len(),
                number: state.first,
            })
        })?
    }

    /// Passes the oldest message, in two parts, and drops it. Does nothing and returns `None` if it is another one than
    /// `front`. `take` runs in a critical section.
    pub(crate) fn take<R>(&self, front: Front, take: impl FnOnce([&[u8]; 2]) -> R) -> Option<R> {
        self.with(|state| {
            if state.counts.waiting == 0 || state.first != front.number {
                return None;
            }
            let taken = take(state.parts(HEADER_LEN, front.len));
            state.pop();
            Some(taken)
        })?
    }

    /// Counts a message that was taken, and which its taker cannot use.
    pub(crate) fn refuse(&self) {
        self.with(|state| state.counts.refused = state.counts.refused.saturating_add(1));
    }

    /// Notes what the session beyond the ring tells its producers.
    pub(crate) fn note(&self, beyond: Beyond) {
        self.with(|state| state.beyond = beyond);
    }

    /// Calls `f` with the state. `None` only if a call is made within another one, which no function here does: so there is no
    /// panic for it.
    fn with<R>(&self, f: impl FnOnce(&mut State<N>) -> R) -> Option<R> {
        self.state
            .lock(|state| Some(f(&mut *state.try_borrow_mut().ok()?)))
    }
}

impl RingCounts {
    /// Messages that the ring has dropped or refused.
    pub(crate) const fn lost(&self) -> u32 {
        self.dropped.saturating_add(self.refused)
    }
}

impl<const N: usize> State<N> {
    fn push(&mut self, parts: &[&[u8]]) -> Result<u32, PushError> {
        let add = |len: usize, part: &&[u8]| len.saturating_add(part.len());
        let len = parts.iter().fold(0, add);
        let max = N.saturating_sub(HEADER_LEN);
        if len == 0 {
            return Err(PushError::Empty);
        }
        if max < len {
            return Err(PushError::TooLong { max: count(max) });
        }
        // Not below 0: the content is within the ring.
        let free = N.saturating_sub(self.len);
        let needed = len.saturating_add(HEADER_LEN);
        if self.is_closed || self.is_refusing && free < needed {
            return Err(PushError::Full { free: count(free) });
        }
        let mut dropped = 0_u32;
        while N.saturating_sub(self.len) < needed && self.counts.waiting != 0 {
            self.pop();
            dropped = dropped.saturating_add(1);
        }
        self.counts.dropped = self.counts.dropped.saturating_add(dropped);
        self.extend(&count(len).to_le_bytes());
        for part in parts {
            self.extend(part);
        }
        self.counts.waiting = self.counts.waiting.saturating_add(1);
        Ok(dropped)
    }

    /// Drops the oldest message.
    fn pop(&mut self) {
        let len = self.front_len().saturating_add(HEADER_LEN).min(self.len);
        self.head = self.index(len);
        self.len = self.len.saturating_sub(len);
        self.first = self.first.wrapping_add(1);
        self.counts.waiting = self.counts.waiting.saturating_sub(1);
    }

    /// Length of the oldest message.
    fn front_len(&self) -> usize {
        let mut header = [0; HEADER_LEN];
        let bytes = self.parts(0, HEADER_LEN).into_iter().flatten();
        for (place, byte) in header.iter_mut().zip(bytes) {
            *place = *byte;
        }
        u32::from_le_bytes(header) as usize
    }

    /// The bytes from `at` on, `len` of them. Positions count from the oldest byte.
    fn parts(&self, at: usize, len: usize) -> [&[u8]; 2] {
        let at = self.index(at);
        let first = len.min(N.saturating_sub(at));
        let front = self.bytes.get(at..at.saturating_add(first));
        let back = self.bytes.get(..len.saturating_sub(first));
        [front.unwrap_or_default(), back.unwrap_or_default()]
    }

    /// Appends bytes. There must be room.
    fn extend(&mut self, bytes: &[u8]) {
        let at = self.index(self.len);
        let (front, back) = bytes
            .split_at_checked(N.saturating_sub(at))
            .unwrap_or((bytes, &[]));
        copy(self.bytes.get_mut(at..), front);
        copy(self.bytes.get_mut(..), back);
        self.len = self.len.saturating_add(bytes.len());
    }

    fn index(&self, at: usize) -> usize {
        let at = self.head.saturating_add(at);
        at.checked_sub(N).unwrap_or(at)
    }
}

impl<const N: usize> fmt::Debug for Ring<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring")
            .field("counts", &self.counts())
            .finish_non_exhaustive()
    }
}

/// Copies as many bytes as fit. The compiler finds no panic in it, as it would in `copy_from_slice`.
fn copy(to: Option<&mut [u8]>, from: &[u8]) {
    let places = to.unwrap_or_default().iter_mut();
    for (place, byte) in places.zip(from) {
        *place = *byte;
    }
}

fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::collections::VecDeque;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    const LEN: usize = 37;

    /// What is done to a ring.
    #[derive(Clone, Debug)]
    enum Call {
        Push(Vec<u8>),
        Take,
        /// A message is taken after another one was pushed, as by an interrupt.
        TakeAfterPush(Vec<u8>),
    }

    fn call() -> impl Strategy<Value = Call> {
        let message = || proptest::collection::vec(any::<u8>(), 0..LEN + 2);
        prop_oneof![
            3 => message().prop_map(Call::Push),
            2 => Just(Call::Take),
            1 => message().prop_map(Call::TakeAfterPush),
        ]
    }

    /// The same, with a queue of messages.
    struct Model {
        messages: VecDeque<Vec<u8>>,
        counts: RingCounts,
        is_refusing: bool,
    }

    impl Model {
        fn push(&mut self, message: &[u8]) {
            let used = |messages: &VecDeque<Vec<u8>>| -> usize {
                messages.iter().map(|it| it.len() + HEADER_LEN).sum()
            };
            let needed = message.len() + HEADER_LEN;
            let is_full = LEN < used(&self.messages) + needed;
            if message.is_empty() || LEN < needed || self.is_refusing && is_full {
                self.counts.refused += 1;
                return;
            }
            while LEN < used(&self.messages) + needed {
                self.messages.pop_front();
                self.counts.dropped += 1;
            }
            self.messages.push_back(message.to_vec());
        }
    }

    fn taken(ring: &Ring<LEN>, front: Option<Front>) -> Option<Vec<u8>> {
        ring.take(front?, |parts| parts.concat())
    }

    proptest! {
        #[test]
        fn a_ring_does_what_a_queue_of_messages_does(
            calls in proptest::collection::vec(call(), 0..200),
            is_refusing in any::<bool>(),
        ) {
            let ring = Ring::<LEN>::new(if is_refusing { Full::Refuse } else { Full::DropOldest });
            let mut model = Model {
                messages: VecDeque::new(),
                counts: RingCounts::default(),
                is_refusing,
            };
            for call in calls {
                match call {
                    Call::Push(message) => {
                        let (start, end) = message.split_at(message.len() / 2);
                        let _ = ring.push_parts(&[start, end]);
                        model.push(&message);
                    }
                    Call::Take => prop_assert_eq!(taken(&ring, ring.front()), model.messages.pop_front()),
                    Call::TakeAfterPush(message) => {
                        let front = ring.front();
                        let before = model.counts.dropped;
                        let _ = ring.push(&message);
                        model.push(&message);
                        // If the message was dropped meanwhile, nothing is taken.
                        let is_there = front.is_some() && model.counts.dropped == before;
                        let wanted = if is_there { model.messages.pop_front() } else { None };
                        prop_assert_eq!(taken(&ring, front), wanted);
                    }
                }
                let waiting = model.messages.len() as u32;
                prop_assert_eq!(ring.counts(), RingCounts { waiting, ..model.counts });
                let len = model.messages.front().map(Vec::len);
                prop_assert_eq!(ring.front().map(|front| front.len), len);
            }
            ring.close();
            prop_assert!(ring.push(b"late").is_err());
            prop_assert_eq!(ring.is_ended(), model.messages.is_empty());
        }
    }

    #[test]
    fn a_tail_and_the_counts_show_what_was_lost() {
        use crate::source::{RingSource, Source as _, TAIL_MAX};

        fn tail(lost: u32, tail: &mut [u8; TAIL_MAX]) -> usize {
            tail[..4].copy_from_slice(&lost.to_be_bytes());
            4
        }
        let ring = Ring::<24>::new(Full::DropOldest);
        let mut source = RingSource::<24, 8>::new(&ring).with_tail(tail);
        for message in [&b"one"[..], b"two", b"three", b"too long to send", b"last"] {
            let _ = ring.push(message);
        }
        // Of `too long to send`, with its tail, the source has no room, and counts it.
        assert_eq!(source.peek(), Some(&b"last\0\0\0\x04"[..]));
        assert_eq!(ring.lost(), 4);
        assert_eq!((source.left(), source.unsent()), (1, 5));
        source.sent();
        assert_eq!((source.left(), source.taken(), source.unsent()), (0, 1, 4));
    }
}
