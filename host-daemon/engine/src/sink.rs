//! Sinks: a [`Sink`] takes [`Events`] on a thread of its own, and [`Delivery`] says what happens when it is too slow.

pub mod fanout;
pub mod lossy;

use std::fmt;

use tokio::sync::mpsc;

use self::lossy::Next;
use crate::error::SinkError;
use crate::event::Event;

/// Takes events, such as to record or to show them.
///
/// # Examples
/// ```
/// use blocksd_engine::error::SinkError;
/// use blocksd_engine::sink::{Events, Sink};
/// use blocksd_engine::sink::lossy::Next;
///
/// /// Counts events.
/// #[derive(Debug)]
/// struct Count;
///
/// impl Sink for Count {
///     fn name(&self) -> &'static str {
///         "count"
///     }
///
///     fn run(self: Box<Self>, mut events: Events) -> Result<(), SinkError> {
///         let mut count = 0;
///         while let Next::Event(_) = events.wait() {
///             count += 1;
///         }
///         println!("{count} events");
///         Ok(())
///     }
/// }
/// ```
pub trait Sink: fmt::Debug + Send {
    /// The word for it in logs and metrics.
    fn name(&self) -> &'static str;

    /// The events that it needs.
    fn interest(&self) -> Interest {
        Interest::All
    }

    /// Takes events until there are no more, on a thread of its own, from which a Tokio runtime can be reached. If a
    /// sink with [`Delivery::Backpressure`] ends before, the engine stops: nothing is received that would be lost.
    ///
    /// # Errors
    /// Why events were lost, or not all of them written.
    fn run(self: Box<Self>, events: Events) -> Result<(), SinkError>;

    /// Supervises the end of the sink. The result is called again and again from when all events are in the queue of the
    /// sink, until the sink has ended.
    fn supervisor(&self) -> Supervisor {
        Box::new(|| Supervision::Wait)
    }
}

/// See [`Sink::supervisor`].
pub type Supervisor = Box<dyn FnMut() -> Supervision + Send>;

/// What to do about a sink that has not ended.
#[derive(Debug)]
pub enum Supervision {
    /// Go on waiting for it.
    Wait,
    /// Give it up, with this result.
    GiveUp(Result<(), SinkError>),
}

/// The events that a sink needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Interest {
    /// All of them.
    #[default]
    All,
    /// Opened and closed connections, without messages.
    Connections,
}

/// What happens when a sink is too slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Delivery {
    /// Connections are not read until there is room for an event in the queue. Nothing is dropped. The memory of queued
    /// messages is bounded by the [pool](crate::pool).
    Backpressure {
        /// Events that may wait, at least 1.
        queue_len: usize,
    },
    /// The oldest events are dropped and counted. Connections never wait.
    Lossy {
        /// Bytes of events that may wait.
        max_bytes: usize,
    },
}

impl Delivery {
    /// Backpressure with a queue of 1,024 events.
    pub const BACKPRESSURE: Self = Self::Backpressure { queue_len: 1024 };
    /// Dropping, with a queue of 4 MiB.
    pub const LOSSY: Self = Self::Lossy {
        max_bytes: lossy::MAX_BYTES,
    };
}

/// The events of one sink, in the order of each connection.
#[derive(Debug)]
pub struct Events(Queue);

#[derive(Debug)]
enum Queue {
    Backpressure(mpsc::Receiver<Event>),
    Lossy(lossy::Receiver),
}

impl Events {
    /// What is next; never waits.
    pub fn poll(&mut self) -> Next {
        match &mut self.0 {
            Queue::Lossy(events) => events.receive(false),
            Queue::Backpressure(events) => match events.try_recv() {
                Ok(event) => Next::Event(event),
                Err(mpsc::error::TryRecvError::Empty) => Next::Empty,
                Err(mpsc::error::TryRecvError::Disconnected) => Next::End,
            },
        }
    }

    /// What is next; waits for it. Never returns [`Next::Empty`]. Not to be called in an async task.
    pub fn wait(&mut self) -> Next {
        match &mut self.0 {
            Queue::Lossy(events) => events.receive(true),
            Queue::Backpressure(events) => events.blocking_recv().map_or(Next::End, Next::Event),
        }
    }

    /// What is next; waits for it. Never returns [`Next::Empty`].
    ///
    /// Cancel-safe: dropped, it has taken no event.
    pub async fn recv(&mut self) -> Next {
        match &mut self.0 {
            Queue::Lossy(events) => events.recv().await,
            Queue::Backpressure(events) => events.recv().await.map_or(Next::End, Next::Event),
        }
    }

    /// Takes no more events than those that wait, so that no connection waits for this sink any more.
    pub fn close(&mut self) {
        match &mut self.0 {
            Queue::Lossy(events) => events.close(),
            Queue::Backpressure(events) => events.close(),
        }
    }
}
