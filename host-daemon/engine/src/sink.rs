//! Sinks: a [`Sink`] receives [`Events`] on a dedicated thread. [`Delivery`] decides what happens when it is too slow.

pub mod fanout;
pub mod lossy;
mod queue;
pub mod watched;

use std::fmt;

use tokio::sync::mpsc;

use self::lossy::Next;
use crate::error::SinkError;
use crate::event::Event;

/// A receiver of events, such as a recording or a display.
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
    /// Returns the name of the sink in logs and metrics.
    fn name(&self) -> &'static str;

    /// Returns which events the sink needs.
    fn interest(&self) -> Interest {
        Interest::All
    }

    /// Receives events until [`Next::End`]. Runs on a dedicated thread, within the context of the Tokio runtime. If a
    /// sink with [`Delivery::Backpressure`] returns earlier, the engine stops, so that no more messages are received
    /// and lost. A panic is an error of [`Engine::run`](crate::Engine::run), for every delivery; the other sinks
    /// continue.
    ///
    /// # Errors
    /// Why events were lost or could not be written.
    fn run(self: Box<Self>, events: Events) -> Result<(), SinkError>;

    /// Returns a function that supervises the end of the sink. The engine calls it every millisecond from the time when
    /// the last event is in the queue of the sink, until the sink has ended. The default waits without a limit.
    fn supervisor(&self) -> Supervisor {
        Box::new(|| Supervision::Wait)
    }
}

/// A function that decides whether to wait for a sink that has not ended; see [`Sink::supervisor`].
pub type Supervisor = Box<dyn FnMut() -> Supervision + Send>;

/// How to continue with a sink that has not ended.
#[derive(Debug)]
pub enum Supervision {
    /// Continue to wait.
    Wait,
    /// Abandon the sink, with this result.
    GiveUp(Result<(), SinkError>),
}

/// Which events a sink needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Interest {
    /// All events.
    #[default]
    All,
    /// Opened and closed connections, but no messages.
    Connections,
    /// All events of connections whose [encoding](crate::event::Encoding) is not raw.
    Encoded,
}

/// What happens when a sink is too slow.
///
/// # Examples
/// ```
/// use blocksd_engine::sink::Delivery;
///
/// let recording = Delivery::BACKPRESSURE;
/// let display = Delivery::Lossy { max_bytes: 1 << 20 };
/// assert_ne!(recording, display);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Delivery {
    /// Connections are not read while the queue is full. No event is dropped. The [pool](crate::pool) bounds the memory
    /// of queued messages.
    Backpressure {
        /// Length of the queue in events, at least 1.
        queue_len: usize,
    },
    /// The oldest events are dropped while the queue is full, and reported as [`Next::Lost`]. Connections never wait.
    Lossy {
        /// Memory of the queue, in bytes.
        max_bytes: usize,
    },
    /// For a live view. Messages are copied only while their device is [watched](crate::device::DeviceStats::watch) or
    /// [sampled](crate::device::DeviceStats::sample), within a budget: see [`watched`]. Events without messages, and faults,
    /// are queued for all devices; end marks are left out. New events are dropped while the queue is full, and reported as
    /// [`Next::Lost`], as are messages of a watched device beyond the budget. Only what a full queue drops is among the
    /// [`Counters`](crate::counters::Counters) of dropped messages. Connections never wait.
    Watched {
        /// Memory of the messages in the queue, in bytes.
        max_bytes: usize,
    },
}

impl Delivery {
    /// Backpressure with a queue of 1,024 events.
    pub const BACKPRESSURE: Self = Self::Backpressure { queue_len: 1024 };
    /// Lossy, with a queue of 4 MiB.
    pub const LOSSY: Self = Self::Lossy {
        max_bytes: lossy::MAX_BYTES,
    };

    /// Whether connections never wait for the sink, so that the engine continues when it ends.
    pub(crate) const fn is_lossy(self) -> bool {
        matches!(self, Self::Lossy { .. } | Self::Watched { .. })
    }
}

/// The events of one sink. Those of a connection come in order.
#[derive(Debug)]
pub struct Events(Queue);

#[derive(Debug)]
enum Queue {
    Backpressure(mpsc::Receiver<Event>),
    Lossy(lossy::Receiver),
}

impl Events {
    /// Returns the next event, or [`Next::Empty`] if none waits.
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

    /// Waits for the next event. Never returns [`Next::Empty`]. Blocks the thread, so it must not be called in an async
    /// task.
    pub fn wait(&mut self) -> Next {
        match &mut self.0 {
            Queue::Lossy(events) => events.receive(true),
            Queue::Backpressure(events) => events.blocking_recv().map_or(Next::End, Next::Event),
        }
    }

    /// Waits for the next event. Never returns [`Next::Empty`].
    ///
    /// Cancel-safe: if the future is dropped, no event is taken.
    pub async fn recv(&mut self) -> Next {
        match &mut self.0 {
            Queue::Lossy(events) => events.recv().await,
            Queue::Backpressure(events) => events.recv().await.map_or(Next::End, Next::Event),
        }
    }

    /// Closes the queue: events that wait can still be received, new ones are discarded, and no connection waits for
    /// this sink.
    pub fn close(&mut self) {
        match &mut self.0 {
            Queue::Lossy(events) => events.close(),
            Queue::Backpressure(events) => events.close(),
        }
    }
}
