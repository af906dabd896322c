//! A queue whose sender never waits: events that are not received in time are dropped and counted.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use atomic_waker::AtomicWaker;

use crate::batch::Batch;
use crate::event::{Event, EventKind};

/// Bytes that may wait by default. They are copies: the pool's memory is for sinks with backpressure.
pub const MAX_BYTES: usize = 4 << 20;
/// The cost of an event besides its batch, in bytes.
const EVENT_COST: usize = 256;
/// How often a full queue is emptied for newer events. Copying every event for a reader that never sees it would cost
/// the recording a quarter of its rate.
const RENEW: Duration = Duration::from_millis(100);

/// A new queue, for at most so many bytes of events.
#[must_use]
pub fn queue(max_bytes: usize) -> (Sender, Receiver) {
    renewed(RENEW, max_bytes)
}

fn renewed(renew: Duration, max_bytes: usize) -> (Sender, Receiver) {
    let queue = Arc::new(LossyQueue {
        renew,
        max_bytes,
        waker: AtomicWaker::new(),
        state: Mutex::default(),
        changed: Condvar::new(),
    });
    (Sender(Arc::clone(&queue)), Receiver(queue))
}

/// Where events go in.
#[derive(Debug)]
pub struct Sender(Arc<LossyQueue>);

/// Where they come out.
#[derive(Debug)]
pub struct Receiver(Arc<LossyQueue>);

/// What [`Receiver::receive`] gives.
#[derive(Debug)]
pub enum Next {
    /// The oldest event.
    Event(Event),
    /// So many blocks that stood before the next event were dropped.
    Lost(u64),
    /// Nothing waits.
    Empty,
    /// Nothing will come any more.
    End,
}

#[derive(Debug)]
struct LossyQueue {
    renew: Duration,
    max_bytes: usize,
    /// Of a receiver that waits in a task.
    waker: AtomicWaker,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    events: VecDeque<QueuedEvent>,
    /// Of the events, and of those that are being copied.
    cost: usize,
    /// Blocks dropped behind the last event.
    lost: u64,
    /// When the queue was last emptied to make room.
    renewed: Option<Instant>,
    /// One side is gone.
    closed: bool,
}

#[derive(Debug)]
struct QueuedEvent {
    event: Event,
    cost: usize,
    /// Blocks dropped before it.
    lost: u64,
}

impl Sender {
    /// Adds an event. Where there is no room for it, all that waits is dropped, or for a while the event is.
    pub fn send(&self, mut event: Event) {
        let cost = EVENT_COST + batch(&event).map_or(0, Batch::cost);
        let mut state = self.0.lock();
        if state.closed {
            return;
        }
        if self.0.max_bytes < state.cost + cost {
            let is_due = |renewed: Instant| self.0.renew < renewed.elapsed();
            if self.0.max_bytes < cost || !state.renewed.is_none_or(is_due) {
                state.lost += messages(&event);
                return;
            }
            state.renewed = Some(Instant::now());
            while let Some(old) = state.events.pop_front() {
                state.cost -= old.cost;
                state.lost += old.lost + messages(&old.event);
            }
        }
        state.cost += cost;
        drop(state);
        if let EventKind::Batch { batch, .. } = &mut event.kind {
            *batch = Arc::new(batch.to_own());
        }
        let mut state = self.0.lock();
        let lost = std::mem::take(&mut state.lost);
        state.events.push_back(QueuedEvent { event, cost, lost });
        drop(state);
        self.0.wake();
    }

    /// Events that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.lock().events.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Receiver {
    /// What is next; waits for it if `wait`.
    #[must_use]
    pub fn receive(&self, wait: bool) -> Next {
        let mut state = self.0.lock();
        loop {
            let next = state.events.front_mut().map(|next| &mut next.lost);
            // Behind the last event, it is told once nothing else is.
            let lost = std::mem::take(match next {
                Some(lost) => lost,
                None => &mut state.lost,
            });
            if lost != 0 {
                return Next::Lost(lost);
            }
            if let Some(QueuedEvent { event, cost, .. }) = state.events.pop_front() {
                state.cost -= cost;
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

    /// What is next; waits for it in a task.
    ///
    /// Cancel-safe: dropped, it has taken nothing.
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

    /// Takes no more events than those that wait.
    pub fn close(&self) {
        self.0.lock().closed = true;
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.wake();
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.close();
        self.0.lock().events.clear();
    }
}

impl LossyQueue {
    fn wake(&self) {
        self.changed.notify_one();
        self.waker.wake();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn batch(event: &Event) -> Option<&Batch> {
    match &event.kind {
        EventKind::Batch { batch, .. } => Some(batch),
        _ => None,
    }
}

/// Whole blocks in an event.
fn messages(event: &Event) -> u64 {
    batch(event).map_or(0, |batch| batch.messages().0)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use framing_core::{AnyFraming, Blocks};

    use super::*;
    use crate::batch::WholeMessages;
    use crate::event::{ConnectionInfo, Encoding, StreamPosition};
    use crate::pool::Buffer;

    fn event(conn: u64, len: u32) -> Event {
        let wire = [&len.to_be_bytes()[..], &vec![0; len as usize]].concat();
        let framing = AnyFraming::Blocks(Blocks);
        let limits = framing_core::Limits {
            block_max: 1 << 30,
            skip_max: 0,
        };
        let decoded = Batch::decode(
            Buffer::own(wire),
            &mut framing_core::Framing::decoder(&framing),
            &limits,
            Default::default(),
            WholeMessages::Kept,
            &mut false,
        );
        Event {
            source: Arc::new(ConnectionInfo {
                conn,
                device: "d".into(),
                framing,
                encoding: Encoding::default(),
                first_seq: 0,
            }),
            time: SystemTime::now(),
            kind: EventKind::Batch {
                batch: Arc::new(decoded.batch),
                position: StreamPosition::default(),
            },
        }
    }

    #[test]
    fn the_oldest_make_room_and_are_counted() {
        let (sender, receiver) = renewed(Duration::ZERO, MAX_BYTES);
        for conn in 1..=6 {
            sender.send(event(conn, 1 << 20));
        }
        assert!(matches!(receiver.receive(true), Next::Lost(3)));
        for conn in 4..=6 {
            let next = receiver.receive(true);
            assert!(matches!(next, Next::Event(event) if event.source.conn == conn));
        }
        assert!(matches!(receiver.receive(false), Next::Empty));
        sender.send(event(7, 1));
        drop(sender);
        assert!(matches!(receiver.receive(true), Next::Event(_)));
        assert!(matches!(receiver.receive(true), Next::End));
    }

    #[test]
    fn what_finds_no_room_for_a_while_is_counted_where_it_is_missing() {
        let (sender, receiver) = renewed(Duration::MAX, MAX_BYTES);
        // The fourth makes room once; the seventh and eighth find none.
        for conn in 1..=8 {
            sender.send(event(conn, 1 << 20));
        }
        assert!(matches!(receiver.receive(true), Next::Lost(3)));
        assert!(matches!(receiver.receive(true), Next::Event(event) if event.source.conn == 4));
        sender.send(event(9, 1 << 20));
        for conn in 5..=6 {
            let next = receiver.receive(true);
            assert!(matches!(next, Next::Event(event) if event.source.conn == conn));
        }
        assert!(matches!(receiver.receive(true), Next::Lost(2)));
        assert!(matches!(receiver.receive(true), Next::Event(event) if event.source.conn == 9));
        sender.send(event(10, 5 << 20));
        assert!(matches!(receiver.receive(true), Next::Lost(1)));
        assert!(matches!(receiver.receive(false), Next::Empty));
    }

    #[test]
    fn nothing_waits_for_a_reader_that_is_gone() {
        let (sender, receiver) = queue(MAX_BYTES);
        sender.send(event(1, 1));
        drop(receiver);
        sender.send(event(2, 1));
        assert!(sender.is_empty());
    }
}
