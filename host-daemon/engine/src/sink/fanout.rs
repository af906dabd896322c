//! Fan-out: a [`Fanout`] sends each event to all sinks, or to none while the queue of one is full.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::batch::Batch;
use crate::counters::Counters;
use crate::event::{ConnectionInfo, Encoding, Event, EventKind};
use crate::sink::watched::WatchedSender;
use crate::sink::{Delivery, Events, Interest, Queue, lossy, watched};

/// The queues of all sinks.
///
/// # Examples
/// ```
/// use blocksd_engine::sink::fanout::Fanout;
/// use blocksd_engine::sink::lossy::Next;
/// use blocksd_engine::sink::{Delivery, Interest};
///
/// let mut fanout = Fanout::default();
/// assert!(fanout.is_empty());
/// let mut events = fanout.add("mine", Interest::All, Delivery::BACKPRESSURE);
/// assert!(!fanout.is_empty());
/// drop(fanout);
/// assert!(matches!(events.poll(), Next::End));
/// ```
#[derive(Debug, Default)]
pub struct Fanout {
    backpressure: Vec<Outlet<mpsc::Sender<Event>>>,
    lossy: Vec<Outlet<lossy::Sender>>,
    watched: Vec<Outlet<WatchedSender>>,
    /// A sink needs all messages, whether somebody looks or not.
    wants_messages: bool,
    /// A sink needs the messages of encodings other than raw.
    wants_encoded: bool,
    /// Counts what lossy sinks drop.
    counters: Arc<Counters>,
}

/// The queue of one sink.
#[derive(Debug)]
struct Outlet<Sender> {
    name: &'static str,
    interest: Interest,
    sender: Sender,
}

/// The number of events in the queue of a sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueDepth {
    /// Name of the sink.
    pub sink: &'static str,
    /// Number of events.
    pub events: usize,
}

impl Fanout {
    /// Creates a fan-out without sinks, which counts there what lossy sinks drop.
    #[must_use]
    pub fn counting(counters: Arc<Counters>) -> Self {
        Self {
            counters,
            ..Self::default()
        }
    }

    /// Adds a sink and returns its events. They end when the fan-out is dropped.
    pub fn add(&mut self, name: &'static str, interest: Interest, delivery: Delivery) -> Events {
        if !matches!(delivery, Delivery::Watched { .. }) {
            self.wants_messages |= interest == Interest::All;
            self.wants_encoded |= interest == Interest::Encoded;
        }
        Events(match delivery {
            Delivery::Backpressure { queue_len } => {
                let (sender, events) = mpsc::channel(queue_len.max(1));
                self.backpressure.push(Outlet {
                    name,
                    interest,
                    sender,
                });
                Queue::Backpressure(events)
            }
            Delivery::Lossy { max_bytes } => {
                let (sender, events) = lossy::queue(max_bytes);
                self.lossy.push(Outlet {
                    name,
                    interest,
                    sender,
                });
                Queue::Lossy(events)
            }
            Delivery::Watched { max_bytes } => {
                let (sender, events) = watched::queue(max_bytes);
                self.watched.push(Outlet {
                    name,
                    interest,
                    sender,
                });
                Queue::Lossy(events)
            }
        })
    }

    /// Returns the number of events in each queue.
    pub fn depths(&self) -> impl Iterator<Item = QueueDepth> {
        let backpressure = self.backpressure.iter().map(|outlet| QueueDepth {
            sink: outlet.name,
            events: outlet.sender.max_capacity() - outlet.sender.capacity(),
        });
        let lossy = self.lossy.iter().map(|outlet| QueueDepth {
            sink: outlet.name,
            events: outlet.sender.len(),
        });
        let watched = self.watched.iter().map(|outlet| QueueDepth {
            sink: outlet.name,
            events: outlet.sender.len(),
        });
        backpressure.chain(lossy).chain(watched)
    }

    /// Returns whether there is no sink.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.backpressure.is_empty() && self.lossy.is_empty() && self.watched.is_empty()
    }

    /// Returns whether any sink needs the messages of this connection now. The answer changes when somebody begins or ends
    /// to look at its device, if there is a sink with [`Delivery::Watched`].
    #[must_use]
    pub fn wants_messages(&self, source: &ConnectionInfo) -> bool {
        self.queues_messages(&source.encoding) || self.is_viewed(source)
    }

    /// Returns whether the batches of this encoding go into queues, whether somebody looks or not. The answer never changes.
    pub(crate) fn queues_messages(&self, encoding: &Encoding) -> bool {
        self.wants_messages || self.wants_encoded && !encoding.is_raw()
    }

    /// Returns whether any sink needs something of a batch of this connection now.
    pub(crate) fn wants_batch(&self, source: &ConnectionInfo, batch: &Batch) -> bool {
        self.wants_messages(source) || !self.watched.is_empty() && batch.reports() != 0
    }

    fn is_viewed(&self, source: &ConnectionInfo) -> bool {
        let stats = source.stats.as_ref();
        !self.watched.is_empty() && stats.is_some_and(|stats| stats.is_viewed())
    }

    /// Sends an event to all sinks, unless a queue with backpressure is full.
    ///
    /// # Errors
    /// Returns the event if a queue is full. No sink has received it: [`send`](Self::send) it.
    #[allow(clippy::result_large_err, reason = "the event goes back to the caller")]
    pub fn try_send(&self, event: Event) -> Result<(), Event> {
        if !try_send_all(&self.backpressure, &event) {
            return Err(event);
        }
        self.offer(event);
        Ok(())
    }

    /// Sends an event to all sinks, waiting while a queue with backpressure is full.
    ///
    /// Cancel-safe: if the future is dropped, the event was sent to all sinks or to none.
    pub async fn send(&self, event: Event) {
        match self.backpressure.as_slice() {
            [] => {}
            [outlet] if !outlet.wants(&event) => {}
            // An error means that the sink has ended and the engine is stopping.
            [outlet] => drop(outlet.sender.send(event.clone()).await),
            outlets => {
                let mut permits = Vec::with_capacity(outlets.len());
                for outlet in outlets.iter().filter(|outlet| outlet.wants(&event)) {
                    permits.extend(outlet.sender.reserve().await);
                }
                for permit in permits {
                    permit.send(event.clone());
                }
            }
        }
        self.offer(event);
    }

    /// Reserves a place for the messages of a session, or for a gap, in the queue of each sink with backpressure that needs
    /// them. Returns `None` if a queue is full.
    pub(crate) fn try_reserve(&self, encoding: &Encoding) -> Option<Places<'_>> {
        let mut places = Places::of(self);
        for outlet in self.backpressure.iter().filter(|it| it.numbered(encoding)) {
            match outlet.sender.try_reserve() {
                Ok(permit) => places.add(permit),
                Err(mpsc::error::TrySendError::Full(())) => return None,
                // The sink has ended and the engine is stopping.
                Err(mpsc::error::TrySendError::Closed(())) => {}
            }
        }
        Some(places)
    }

    /// As [`try_reserve`](Self::try_reserve), but waits while a queue is full.
    ///
    /// Cancel-safe: if the future is dropped, no place is taken.
    pub(crate) async fn reserve(&self, encoding: &Encoding) -> Places<'_> {
        let mut places = Places::of(self);
        for outlet in self.backpressure.iter().filter(|it| it.numbered(encoding)) {
            // An error means that the sink has ended and the engine is stopping.
            if let Ok(permit) = outlet.sender.reserve().await {
                places.add(permit);
            }
        }
        places
    }

    /// Sends an event to the sinks that connections never wait for.
    fn offer(&self, event: Event) {
        if !self.watched.is_empty() {
            let views = self.watched.iter().filter(|view| view.wants(&event));
            watched::show(views.map(|view| &view.sender), &event, &self.counters);
        }
        let Some((last, others)) = self.lossy.split_last() else {
            return;
        };
        for outlet in others.iter().filter(|outlet| outlet.wants(&event)) {
            let dropped = outlet.sender.send(event.clone());
            self.counters.output_lost(dropped);
        }
        if last.wants(&event) {
            self.counters.output_lost(last.sender.send(event));
        }
    }
}

/// A place in the queue of each sink.
#[derive(Debug)]
pub(crate) struct Places<'a> {
    fanout: &'a Fanout,
    first: Option<mpsc::Permit<'a, Event>>,
    others: Vec<mpsc::Permit<'a, Event>>,
}

impl<'a> Places<'a> {
    const fn of(fanout: &'a Fanout) -> Self {
        Self {
            fanout,
            first: None,
            others: Vec::new(),
        }
    }

    fn add(&mut self, permit: mpsc::Permit<'a, Event>) {
        match self.first {
            None => self.first = Some(permit),
            Some(_) => self.others.push(permit),
        }
    }

    /// Sends an event to all sinks. Does not wait.
    pub(crate) fn send(self, event: Event) {
        for permit in self.first.into_iter().chain(self.others) {
            permit.send(event.clone());
        }
        self.fanout.offer(event);
    }
}

impl<Sender> Outlet<Sender> {
    /// Whether the sink needs the messages of sessions with this encoding.
    fn numbered(&self, encoding: &Encoding) -> bool {
        match self.interest {
            Interest::All => true,
            Interest::Connections => false,
            Interest::Encoded => !encoding.is_raw(),
        }
    }

    fn wants(&self, event: &Event) -> bool {
        match self.interest {
            Interest::All => true,
            Interest::Connections => {
                !matches!(event.kind, EventKind::Batch { .. } | EventKind::Gap(_))
            }
            Interest::Encoded => !event.source.encoding.is_raw(),
        }
    }
}

/// Reserves a place in the queue of every sink, then sends to all. The reservations are on the stack, so that nothing
/// is allocated.
fn try_send_all(outlets: &[Outlet<mpsc::Sender<Event>>], event: &Event) -> bool {
    let Some((outlet, others)) = outlets.split_first() else {
        return true;
    };
    if !outlet.wants(event) {
        return try_send_all(others, event);
    }
    match outlet.sender.try_reserve() {
        Ok(place) => {
            let is_sent = try_send_all(others, event);
            if is_sent {
                place.send(event.clone());
            }
            is_sent
        }
        Err(mpsc::error::TrySendError::Full(())) => false,
        // The sink has ended and the engine is stopping.
        Err(mpsc::error::TrySendError::Closed(())) => try_send_all(others, event),
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::sync::Arc;
    use std::task::{Context, Poll, Waker};
    use std::time::SystemTime;

    use framing_core::{AnyFraming, Blocks};

    use super::*;
    use crate::batch::Batch;
    use crate::device::DeviceRegistry;
    use crate::event::{ConnectionInfo, Peer, StreamPosition};
    use crate::pool::Span;
    use crate::sink::lossy::Next;

    const ONE: Delivery = Delivery::Backpressure { queue_len: 1 };

    fn event(conn: u64, kind: EventKind) -> Event {
        Event {
            source: Arc::new(ConnectionInfo {
                conn,
                device: "d".into(),
                framing: AnyFraming::Blocks(Blocks),
                encoding: Encoding::default(),
                first_seq: 0,
                session: None,
                certificate: None,
                stats: None,
            }),
            time: SystemTime::now(),
            kind,
        }
    }

    fn opened(conn: u64) -> Event {
        let peer = Peer::Local("test".into());
        event(conn, EventKind::Opened { peer })
    }

    fn batch(conn: u64) -> Event {
        let batch = Arc::new(Batch::of_messages(vec![0], vec![Span::new(0, 1)]));
        let position = StreamPosition::default();
        event(conn, EventKind::Batch { batch, position })
    }

    fn conns(events: &mut Events) -> Vec<u64> {
        let next = || match events.poll() {
            Next::Event(event) => Some(event.source.conn),
            _ => None,
        };
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn an_event_goes_to_all_sinks_or_to_none() {
        let mut fanout = Fanout::default();
        let mut one = fanout.add("one", Interest::All, ONE);
        let mut two = fanout.add("two", Interest::All, ONE);
        let mut shown = fanout.add("shown", Interest::All, Delivery::LOSSY);
        assert!(fanout.try_send(opened(1)).is_ok());
        assert_eq!(conns(&mut one), [1]);
        // The second sink is full: neither the first sink nor the lossy one gets the event.
        let back = fanout.try_send(opened(2)).unwrap_err();
        assert_eq!(conns(&mut one), []);
        assert_eq!(conns(&mut shown), [1]);
        let depths: Vec<_> = fanout.depths().map(|it| (it.sink, it.events)).collect();
        assert_eq!(depths, [("one", 0), ("two", 1), ("shown", 0)]);
        // The same holds while the event waits, and when waiting is cancelled.
        let mut context = Context::from_waker(Waker::noop());
        {
            let mut sending = pin!(fanout.send(back.clone()));
            assert_eq!(sending.as_mut().poll(&mut context), Poll::Pending);
            assert_eq!(conns(&mut one), []);
        }
        let mut sending = pin!(fanout.send(back));
        assert_eq!(sending.as_mut().poll(&mut context), Poll::Pending);
        assert_eq!(conns(&mut two), [1]);
        assert_eq!(sending.as_mut().poll(&mut context), Poll::Ready(()));
        for events in [&mut one, &mut two, &mut shown] {
            assert_eq!(conns(events), [2]);
        }
    }

    #[test]
    fn a_sink_that_has_ended_blocks_no_other() {
        let mut fanout = Fanout::default();
        let one = fanout.add("one", Interest::All, ONE);
        let mut two = fanout.add("two", Interest::All, ONE);
        drop(one);
        assert!(fanout.try_send(opened(1)).is_ok());
        assert_eq!(conns(&mut two), [1]);
    }

    #[test]
    fn a_sink_gets_only_the_events_that_it_needs() {
        let mut fanout = Fanout::default();
        let mut connections = fanout.add("connections", Interest::Connections, ONE);
        assert!(!fanout.wants_messages(&opened(1).source) && !fanout.is_empty());
        let mut shown = fanout.add("shown", Interest::Connections, Delivery::LOSSY);
        let mut all = fanout.add("all", Interest::All, Delivery::BACKPRESSURE);
        assert!(fanout.wants_messages(&opened(1).source));
        for event in [opened(1), batch(2)] {
            assert!(fanout.try_send(event).is_ok());
        }
        assert_eq!(conns(&mut connections), [1]);
        assert_eq!(conns(&mut shown), [1]);
        assert_eq!(conns(&mut all), [1, 2]);
    }

    #[test]
    fn events_end_when_the_fan_out_is_dropped() {
        let mut fanout = Fanout::default();
        let mut one = fanout.add("one", Interest::All, ONE);
        let mut two = fanout.add("two", Interest::All, Delivery::LOSSY);
        assert!(fanout.try_send(opened(1)).is_ok());
        drop(fanout);
        for events in [&mut one, &mut two] {
            assert!(matches!(events.wait(), Next::Event(_)));
            assert!(matches!(events.wait(), Next::End));
            assert!(matches!(events.poll(), Next::End));
        }
    }
    #[test]
    fn a_live_view_wants_messages_only_while_somebody_looks() {
        let mut fanout = Fanout::default();
        let max_bytes = 1 << 20;
        let mut live = fanout.add("live", Interest::All, Delivery::Watched { max_bytes });
        let device = DeviceRegistry::new(1).open(&"d".into(), SystemTime::now());
        let stats = Some(Arc::clone(&device));
        let source = ConnectionInfo {
            conn: 1,
            device: "d".into(),
            framing: AnyFraming::Blocks(Blocks),
            encoding: Encoding::default(),
            first_seq: 0,
            session: None,
            certificate: None,
            stats,
        };
        let (reset, end) = (Batch::of_reset(), Batch::of_end());
        assert!(!fanout.is_empty() && !fanout.wants_messages(&source));
        assert!(fanout.wants_batch(&source, &reset) && !fanout.wants_batch(&source, &end));
        device.sample();
        assert!(fanout.wants_messages(&source) && fanout.wants_batch(&source, &end));
        assert!(!fanout.queues_messages(&source.encoding));
        let other = Fanout::default();
        assert!(!other.wants_messages(&source) && !other.wants_batch(&source, &reset));
        for event in [opened(1), batch(2), opened(3)] {
            assert!(fanout.try_send(event).is_ok());
        }
        let depths: Vec<_> = fanout.depths().map(|it| (it.sink, it.events)).collect();
        assert_eq!(depths, [("live", 2)]);
        assert_eq!(conns(&mut live), [1, 3]);
    }
}
