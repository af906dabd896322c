//! The errors of the engine: an [`Error`].

use std::any::Any;
use std::io;

/// The error that a [`Sink`](crate::sink::Sink) returns.
pub type SinkError = Box<dyn std::error::Error + Send + Sync>;

/// Why the engine could not start, run or apply settings. [`source`](std::error::Error::source) returns the cause.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Listening on an address failed.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address as it was given.
        address: String,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The same address was configured twice.
    #[error("{again} is the same address as {first}")]
    Duplicate {
        /// The address in its first spelling.
        first: String,
        /// The address in its second spelling.
        again: String,
    },
    /// A thread could not be started.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
    /// A sink with [`Delivery::Backpressure`](crate::sink::Delivery::Backpressure) failed, so messages may be lost.
    #[error("the sink `{name}` failed")]
    Sink {
        /// The name of the sink.
        name: &'static str,
        /// Its error.
        source: SinkError,
    },
    /// Connections did not close before the engine gave up on them, because a queue with backpressure stayed full. The
    /// events that wait are sent if the queue is received from later.
    #[error(
        "{connections} connections did not close in time; some of their events were not delivered"
    )]
    Undelivered {
        /// Number of connections.
        connections: usize,
    },
    /// The engine has stopped.
    #[error("the engine has stopped")]
    Stopped,
}

/// Returns the message of a panic, for a log.
#[must_use]
pub fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("without a message")
}
