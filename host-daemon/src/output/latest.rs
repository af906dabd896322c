//! A queue that never makes anybody wait: what is not read in time is dropped, the oldest first, and counted.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::event::{Event, What};

/// Bytes that may wait. They are copies: the pool's memory is for the recording.
const WEIGHT_MAX: usize = 4 << 20;
/// What an event weighs besides its batch, in bytes.
const EVENT_WEIGHT: usize = 256;

/// A new queue.
#[must_use]
pub fn queue() -> (Sender, Receiver) {
    let queue = Arc::<Queue>::default();
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
    /// So many blocks that stood before the oldest event were dropped.
    Lost(u64),
    /// Nothing waits.
    Empty,
    /// Nothing will come any more.
    End,
}

#[derive(Debug, Default)]
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    events: VecDeque<(Event, usize)>,
    weight: usize,
    lost: u64,
    /// One side is gone.
    closed: bool,
}

impl Sender {
    /// Adds an event, and drops old ones to make room.
    pub fn send(&self, mut event: Event) {
        if self.0.lock().closed {
            return;
        }
        let mut weight = EVENT_WEIGHT;
        if let What::Batch { batch, .. } = &mut event.what {
            weight += batch.weight();
            *batch = Arc::new(batch.to_own());
        }
        let mut state = self.0.lock();
        state.weight += weight;
        state.events.push_back((event, weight));
        while WEIGHT_MAX < state.weight
            && let Some((event, weight)) = state.events.pop_front()
        {
            state.weight -= weight;
            if let What::Batch { batch, .. } = &event.what {
                state.lost += batch.blocks().0;
            }
        }
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
            if state.lost != 0 {
                return Next::Lost(std::mem::take(&mut state.lost));
            }
            if let Some((event, weight)) = state.events.pop_front() {
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
        state.weight = 0;
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use framing_core::{AnyFraming, Blocks};

    use super::*;
    use crate::batch::Batch;
    use crate::decode::Decoder;
    use crate::event::{Position, Source};
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
        let (sender, receiver) = queue();
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
    fn nothing_waits_for_a_reader_that_is_gone() {
        let (sender, receiver) = queue();
        sender.send(event(1, 1));
        drop(receiver);
        sender.send(event(2, 1));
        assert!(sender.is_empty());
    }
}
