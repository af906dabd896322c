//! A queue whose sender never waits, for one sink: an [`EventQueue`], and its [`Receiver`], which waits on a thread or in a
//! task.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use atomic_waker::AtomicWaker;

use crate::event::{Dropped, Event};

/// Cost of an event without its batch, in bytes.
pub(super) const EVENT_COST: usize = 256;

/// The result of receiving from a queue.
#[derive(Debug)]
pub enum Next {
    /// The next event.
    Event(Event),
    /// This was dropped before the next event.
    Lost(Dropped),
    /// No event waits.
    Empty,
    /// No more events come.
    End,
}

/// The receiving side of a queue.
#[derive(Debug)]
pub struct Receiver(Arc<EventQueue>);

/// Events that wait for a sink, and what was dropped between them.
#[derive(Debug, Default)]
pub(super) struct EventQueue {
    /// The waker of a receiver that waits in a task.
    waker: AtomicWaker,
    state: Mutex<QueueState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
pub(super) struct QueueState {
    pub(super) events: VecDeque<QueuedEvent>,
    /// Cost of the queued events, and of those that are being copied.
    pub(super) cost: QueueCost,
    /// What was dropped after the last queued event.
    pub(super) lost: Dropped,
    /// The sender or the receiver was dropped, or the receiver was closed.
    pub(super) closed: bool,
}

#[derive(Debug)]
pub(super) struct QueuedEvent {
    pub(super) event: Event,
    pub(super) cost: QueueCost,
    /// What was dropped before this event.
    pub(super) lost: Dropped,
}

/// What is bounded in a queue.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct QueueCost {
    pub(super) bytes: usize,
    /// Items that have a bound besides that on bytes.
    pub(super) reports: usize,
}

impl QueueCost {
    pub(super) const fn add(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.reports += other.reports;
    }

    pub(super) const fn subtract(&mut self, other: Self) {
        self.bytes -= other.bytes;
        self.reports -= other.reports;
    }
}

impl EventQueue {
    /// Creates a queue with its receiver.
    pub(super) fn new() -> (Arc<Self>, Receiver) {
        let queue = Arc::new(Self::default());
        (Arc::clone(&queue), Receiver(queue))
    }

    /// Adds an event whose cost is already added to that of the queue.
    pub(super) fn push(&self, event: Event, cost: QueueCost) {
        let mut state = self.lock();
        let lost = std::mem::take(&mut state.lost);
        state.events.push_back(QueuedEvent { event, cost, lost });
        drop(state);
        self.wake();
    }

    /// Ends the events: the sender is dropped.
    pub(super) fn end(&self) {
        self.lock().closed = true;
        self.wake();
    }

    /// Returns the number of queued events.
    pub(super) fn len(&self) -> usize {
        self.lock().events.len()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        self.changed.notify_one();
        self.waker.wake();
    }
}

impl Receiver {
    /// Returns the next event. If none is queued, blocks the thread if `wait`, otherwise returns [`Next::Empty`].
    #[must_use]
    pub fn receive(&self, wait: bool) -> Next {
        let mut state = self.0.lock();
        loop {
            let next = state.events.front_mut().map(|next| &mut next.lost);
            // Losses after the last event are reported once the queue is empty.
            let lost = std::mem::take(match next {
                Some(lost) => lost,
                None => &mut state.lost,
            });
            if !lost.is_empty() {
                return Next::Lost(lost);
            }
            if let Some(QueuedEvent { event, cost, .. }) = state.events.pop_front() {
                state.cost.subtract(cost);
                return Next::Event(event);
            }
            if state.closed {
                return Next::End;
            }
            if !wait {
                return Next::Empty;
            }
            let waited = self.0.changed.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits for the next event in a task.
    ///
    /// Cancel-safe: if the future is dropped, no event is taken.
    pub async fn recv(&self) -> Next {
        poll_fn(|context| {
            self.0.waker.register(context.waker());
            match self.receive(false) {
                Next::Empty => Poll::Pending,
                next => Poll::Ready(next),
            }
        })
        .await
    }

    /// Closes the queue: events that wait can still be received, new ones are discarded.
    pub fn close(&self) {
        self.0.lock().closed = true;
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let events = {
            let mut state = self.0.lock();
            state.closed = true;
            std::mem::take(&mut state.events)
        };
        // A connection may wait for the lock.
        drop(events);
    }
}
