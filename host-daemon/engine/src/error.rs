//! The errors of the engine: an [`Error`].

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
    /// The engine has stopped.
    #[error("the engine has stopped")]
    Stopped,
}
