//! A queue whose sender never waits: start with [`queue`]. Events that do not fit are dropped and counted.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::batch::Batch;
use crate::event::{Dropped, Event, EventKind};
use crate::sink::queue::{EVENT_COST, EventQueue, QueueCost};
pub use crate::sink::queue::{Next, Receiver};

/// Default memory of a queue, in bytes. Events are copied, because the memory of the pool is for sinks with
/// backpressure.
pub const MAX_BYTES: usize = 4 << 20;
/// Shortest time between two purges of a full queue. Copying every event for a slow reader would reduce the rate of a
/// recording by a quarter.
const RENEW: Duration = Duration::from_millis(100);

/// Creates a queue that holds at most `max_bytes` of events.
///
/// # Examples
/// ```
/// use blocksd_engine::sink::lossy::{MAX_BYTES, Next, queue};
///
/// let (sender, receiver) = queue(MAX_BYTES);
/// assert!(sender.is_empty());
/// assert!(matches!(receiver.receive(false), Next::Empty));
/// drop(sender);
/// assert!(matches!(receiver.receive(true), Next::End));
/// ```
#[must_use]
pub fn queue(max_bytes: usize) -> (Sender, Receiver) {
    renewed(RENEW, max_bytes)
}

fn renewed(renew: Duration, max_bytes: usize) -> (Sender, Receiver) {
    let (queue, receiver) = EventQueue::new();
    let sender = Sender {
        queue,
        renew,
        max_bytes,
        renewed: Mutex::default(),
    };
    (sender, receiver)
}

/// The sending side of a queue.
#[derive(Debug)]
pub struct Sender {
    queue: Arc<EventQueue>,
    renew: Duration,
    max_bytes: usize,
    /// When the queue was last purged. Locked while the queue is.
    renewed: Mutex<Option<Instant>>,
}

impl Sender {
    /// Adds an event. If it does not fit, drops all queued events, or drops this event if that was done recently. Returns
    /// what was dropped.
    pub fn send(&self, mut event: Event) -> Dropped {
        let bytes = EVENT_COST + batch(&event).map_or(0, Batch::cost);
        let cost = QueueCost { bytes, reports: 0 };
        let mut state = self.queue.lock();
        let mut dropped = Dropped::default();
        if state.closed {
            return dropped;
        }
        if self.max_bytes < state.cost.bytes + bytes {
            if self.max_bytes < bytes || !self.may_purge() {
                dropped = Dropped::of(&event);
                state.lost.add(dropped);
                return dropped;
            }
            while let Some(old) = state.events.pop_front() {
                state.cost.subtract(old.cost);
                state.lost.add(old.lost);
                dropped.add(Dropped::of(&old.event));
            }
            state.lost.add(dropped);
        }
        state.cost.add(cost);
        drop(state);
        if let EventKind::Batch { batch, .. } = &mut event.kind {
            *batch = Arc::new(batch.to_own());
        }
        self.queue.push(event, cost);
        dropped
    }

    /// Returns the number of queued events.
    #[must_use]
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Returns whether no event is queued.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the last purge was long ago. Then notes that the queue is purged now.
    fn may_purge(&self) -> bool {
        let mut renewed = self.renewed.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = renewed.is_none_or(|renewed| self.renew < renewed.elapsed());
        if is_due {
            *renewed = Some(Instant::now());
        }
        is_due
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.queue.end();
    }
}

fn batch(event: &Event) -> Option<&Batch> {
    match &event.kind {
        EventKind::Batch { batch, .. } => Some(batch),
        _ => None,
    }
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
                session: None,
                certificate: None,
                stats: None,
            }),
            time: SystemTime::now(),
            kind: EventKind::Batch {
                batch: Arc::new(decoded.batch),
                position: StreamPosition::default(),
            },
        }
    }

    fn lost(next: Next) -> Dropped {
        match next {
            Next::Lost(dropped) => dropped,
            other => panic!("{other:?}"),
        }
    }

    fn messages(messages: u64) -> Dropped {
        Dropped {
            messages,
            others: 0,
        }
    }

    #[test]
    fn connections_faults_and_end_marks_that_are_dropped_are_counted() {
        let (sender, receiver) = renewed(Duration::ZERO, 4 * EVENT_COST);
        let with = |kind| Event {
            kind,
            ..event(1, 1)
        };
        let batch = |batch| EventKind::Batch {
            batch: Arc::new(batch),
            position: StreamPosition::default(),
        };
        let fault = framing_core::Fault::EarlyEnd { missing: 1 };
        let peer = crate::event::Peer::Local("test".into());
        let mut returned = Dropped::default();
        returned.add(sender.send(with(EventKind::Opened { peer })));
        returned.add(sender.send(with(batch(Batch::of_fault(fault)))));
        returned.add(sender.send(with(batch(Batch::of_end()))));
        returned.add(sender.send(event(1, 5000)));
        let closed = EventKind::Closed {
            messages: 1,
            bytes: 5000,
            reason: crate::reason::CloseReason::Eof,
            series_open: false,
        };
        // Purges the queue.
        returned.add(sender.send(with(closed.clone())));
        returned.add(sender.send(with(closed)));
        drop(sender);
        let (mut dropped, mut received) = (Dropped::default(), 0);
        loop {
            match receiver.receive(true) {
                Next::Lost(more) => dropped.add(more),
                Next::Event(_) => received += 1,
                Next::End => break,
                Next::Empty => {}
            }
        }
        assert_eq!(dropped, returned);
        assert_eq!(dropped.messages, 1);
        assert_eq!(dropped.others + received, 5);
        assert!(dropped.others != 0);
    }

    #[test]
    fn the_oldest_events_are_dropped_and_counted() {
        let (sender, receiver) = renewed(Duration::ZERO, MAX_BYTES);
        for conn in 1..=6 {
            sender.send(event(conn, 1 << 20));
        }
        assert_eq!(lost(receiver.receive(true)), messages(3));
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
    fn events_dropped_between_purges_are_counted_at_their_position() {
        let (sender, receiver) = renewed(Duration::MAX, MAX_BYTES);
        // The fourth event purges the queue. The seventh and eighth do not fit, and it is too early for another purge.
        for conn in 1..=8 {
            sender.send(event(conn, 1 << 20));
        }
        assert_eq!(lost(receiver.receive(true)), messages(3));
        assert!(matches!(receiver.receive(true), Next::Event(event) if event.source.conn == 4));
        sender.send(event(9, 1 << 20));
        for conn in 5..=6 {
            let next = receiver.receive(true);
            assert!(matches!(next, Next::Event(event) if event.source.conn == conn));
        }
        assert_eq!(lost(receiver.receive(true)), messages(2));
        assert!(matches!(receiver.receive(true), Next::Event(event) if event.source.conn == 9));
        sender.send(event(10, 5 << 20));
        assert_eq!(lost(receiver.receive(true)), messages(1));
        assert!(matches!(receiver.receive(false), Next::Empty));
    }

    #[test]
    fn events_are_discarded_after_the_receiver_is_dropped() {
        let (sender, receiver) = queue(MAX_BYTES);
        sender.send(event(1, 1));
        drop(receiver);
        sender.send(event(2, 1));
        assert!(sender.is_empty());
    }
}
