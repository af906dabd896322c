//! The queue between sampling and sending. It has a fixed size; when full, it drops and counts its oldest sample.

use core::cell::RefCell;
use core::fmt;
use core::future::poll_fn;
use core::task::Poll;

use embassy_sync::blocking_mutex::CriticalSectionMutex;
use embassy_sync::waitqueue::AtomicWaker;
use heapless::Deque;

use crate::sample::{Block, Sample};
use crate::uplink::Source;

/// At most `N` samples that wait to be sent. May be filled from an interrupt; one [`Samples`] empties it.
pub struct Queue<const N: usize> {
    state: CriticalSectionMutex<RefCell<State<N>>>,
    waiting: AtomicWaker,
}

struct State<const N: usize> {
    samples: Deque<Sample, N>,
    lost: u32,
    closed: bool,
}

impl<const N: usize> Queue<N> {
    /// An empty queue.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            state: CriticalSectionMutex::new(RefCell::new(State {
                samples: Deque::new(),
                lost: 0,
                closed: false,
            })),
            waiting: AtomicWaker::new(),
        }
    }

    /// Appends a sample, and drops the oldest one if the queue is full. Never waits.
    pub fn push(&self, sample: Sample) {
        self.with(|state| {
            if state.samples.is_full() {
                state.lost = state.lost.saturating_add(1);
                state.samples.pop_front();
            }
            // Cannot fail: the queue is not full any more.
            let _ = state.samples.push_back(sample);
        });
        self.waiting.wake();
    }

    /// Marks the queue as complete: the producer adds no more samples.
    pub fn close(&self) {
        self.with(|state| state.closed = true);
        self.waiting.wake();
    }

    /// Number of samples that wait to be sent.
    pub fn len(&self) -> u32 {
        self.with(|state| u32::try_from(state.samples.len()).unwrap_or(u32::MAX))
    }

    /// Whether the queue is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of samples that were dropped because the queue was full.
    pub fn lost(&self) -> u32 {
        self.with(|state| state.lost)
    }

    /// Calls `sleep` if there is nothing to send and more may come. Nothing can be added between the check and the sleep,
    /// because both are in one critical section.
    fn sleep_if_idle(&self, sleep: impl FnOnce()) {
        self.state.lock(|state| {
            let is_idle = {
                let state = state.borrow();
                state.samples.is_empty() && !state.closed
            };
            if is_idle {
                sleep();
            }
        });
    }

    /// Takes the oldest sample, with the number of samples dropped so far.
    pub(crate) fn pop(&self) -> Option<(Sample, u32)> {
        self.with(|state| state.samples.pop_front().map(|sample| (sample, state.lost)))
    }

    /// Waits for the oldest sample and takes it, with the number of samples dropped so far; `None` if the queue is closed
    /// and empty. Dropping the future loses nothing.
    pub(crate) async fn next(&self) -> Option<(Sample, u32)> {
        poll_fn(|cx| {
            self.waiting.register(cx.waker());
            match self.pop() {
                Some(next) => Poll::Ready(Some(next)),
                None if self.is_ended() => Poll::Ready(None),
                None => Poll::Pending,
            }
        })
        .await
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.with(|state| state.closed && state.samples.is_empty())
    }

    fn with<R>(&self, f: impl FnOnce(&mut State<N>) -> R) -> R {
        self.state.lock(|state| f(&mut state.borrow_mut()))
    }
}

impl<const N: usize> Default for Queue<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> fmt::Debug for Queue<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("len", &self.len())
            .field("lost", &self.lost())
            .finish_non_exhaustive()
    }
}

/// The samples of a queue as blocks. Keeps each block until a connection has taken it completely.
#[derive(Debug)]
pub struct Samples<'a, const N: usize> {
    queue: &'a Queue<N>,
    /// The block that is being sent, or empty.
    block: Block,
    taken: u32,
}

impl<'a, const N: usize> Samples<'a, N> {
    /// Takes the samples of this queue.
    pub const fn new(queue: &'a Queue<N>) -> Self {
        Self {
            queue,
            block: Block::new(),
            taken: 0,
        }
    }

    /// Returns the next block to send, the same one until [`sent`](Source::sent); `None` if the queue is empty.
    pub fn peek(&mut self) -> Option<&[u8]> {
        if self.block.is_empty() {
            let (sample, lost) = self.queue.pop()?;
            self.block = sample.encode(lost);
        }
        Some(&self.block)
    }

    /// Calls `sleep` if no sample waits and the queue is not closed, in a critical section: see
    /// [`blocking::stream`](crate::blocking::stream).
    pub fn sleep_if_idle(&self, sleep: impl FnOnce()) {
        if self.block.is_empty() {
            self.queue.sleep_if_idle(sleep);
        }
    }

    /// Number of samples that a connection took completely. Each may or may not have arrived.
    pub const fn taken(&self) -> u32 {
        self.taken
    }

    /// Number of samples that are neither taken nor counted as lost.
    pub fn left(&self) -> u32 {
        self.queue.len() + u32::from(!self.block.is_empty())
    }
}

impl<const N: usize> Source for Samples<'_, N> {
    const NAME: &'static str = "telemetry";

    async fn ready(&mut self) -> bool {
        poll_fn(|cx| {
            self.queue.waiting.register(cx.waker());
            if self.peek().is_some() {
                Poll::Ready(true)
            } else if self.is_ended() {
                Poll::Ready(false)
            } else {
                Poll::Pending
            }
        })
        .await
    }

    fn block(&self) -> &[u8] {
        &self.block
    }

    fn sent(&mut self) {
        self.block.clear();
        self.taken = self.taken.saturating_add(1);
    }

    fn is_ended(&self) -> bool {
        self.block.is_empty() && self.queue.is_ended()
    }
}
