//! A queue that never makes anybody wait: what is not read in time is dropped, and counted.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::engine::batch::Batch;
use crate::engine::event::{Event, What};

/// Bytes that may wait. They are copies: the pool's memory is for the recording.
const WEIGHT_MAX: usize = 4 << 20;
/// What an event weighs besides its batch, in bytes.
const EVENT_WEIGHT: usize = 256;
/// How often a full queue is emptied for newer events. Copying every event for a reader that never sees it would cost
/// the recording a quarter of its rate.
const RENEW: Duration = Duration::from_millis(100);

/// A new queue.
#[must_use]
pub fn queue() -> (Sender, Receiver) {
    renewed(RENEW)
}

fn renewed(renew: Duration) -> (Sender, Receiver) {
    let queue = Arc::new(Queue {
        renew,
        state: Mutex::default(),
        changed: Condvar::new(),
    });
    (Sender(Arc::clone(&queue)), Receiver(queue))
}

/// Where events go in.
#[derive(Debug)]
pub struct Sender(Arc<Queue>);

/// Where they come out.
#[derive(Debug)]
pub struct Receiver(Arc<Queue>);

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
struct Queue {
    renew: Duration,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    events: VecDeque<Entry>,
    /// Of the events, and of those that are being copied.
    weight: usize,
    /// Blocks dropped behind the last event.
    lost: u64,
    /// When the queue was last emptied to make room.
    renewed: Option<Instant>,
    /// One side is gone.
    closed: bool,
}

#[derive(Debug)]
struct Entry {
    event: Event,
    weight: usize,
    /// Blocks dropped before it.
    lost: u64,
}

impl Sender {
    /// Adds an event. Where there is no room for it, all that waits is dropped, or for a while the event is.
    pub fn send(&self, mut event: Event) {
        let weight = EVENT_WEIGHT + batch(&event).map_or(0, Batch::weight);
        let mut state = self.0.lock();
        if state.closed {
            return;
        }
        if WEIGHT_MAX < state.weight + weight {
            let is_due = |renewed: Instant| self.0.renew < renewed.elapsed();
            if WEIGHT_MAX < weight || !state.renewed.is_none_or(is_due) {
                state.lost += blocks(&event);
                return;
            }
            state.renewed = Some(Instant::now());
            while let Some(old) = state.events.pop_front() {
                state.weight -= old.weight;
                state.lost += old.lost + blocks(&old.event);
            }
        }
        state.weight += weight;
        drop(state);
        if let What::Batch { batch, .. } = &mut event.what {
            *batch = Arc::new(batch.to_own());
        }
        let mut state = self.0.lock();
        let lost = std::mem::take(&mut state.lost);
        state.events.push_back(Entry {
            event,
            weight,
            lost,
        });
        drop(state);
        self.0.changed.notify_one();
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
            if let Some(Entry { event, weight, .. }) = state.events.pop_front() {
                state.weight -= weight;
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
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.changed.notify_one();
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.closed = true;
        state.events.clear();
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn batch(event: &Event) -> Option<&Batch> {
    match &event.what {
        What::Batch { batch, .. } => Some(batch),
        _ => None,
    }
}

/// Whole blocks in an event.
fn blocks(event: &Event) -> u64 {
    batch(event).map_or(0, |batch| batch.blocks().0)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use framing_core::{AnyFraming, Blocks};

    use super::*;
    use crate::engine::batch::WholeBlocks;
    use crate::engine::event::{Position, Source};
    use crate::engine::pool::Buffer;
    use crate::payload::Decoder;

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
            WholeBlocks::Kept,
            &mut false,
        );
        Event {
            source: Arc::new(Source {
                conn,
                device: "d".into(),
                framing,
                decoder: Decoder::default(),
            }),
            time: SystemTime::now(),
            what: What::Batch {
                batch: Arc::new(decoded.batch),
                position: Position::default(),
            },
        }
    }

    #[test]
    fn the_oldest_make_room_and_are_counted() {
        let (sender, receiver) = renewed(Duration::ZERO);
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
        let (sender, receiver) = renewed(Duration::MAX);
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
        let (sender, receiver) = queue();
        sender.send(event(1, 1));
        drop(receiver);
        sender.send(event(2, 1));
        assert!(sender.is_empty());
    }
}
