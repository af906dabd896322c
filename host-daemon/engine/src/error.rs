//! Why the engine could not do what was asked: an [`Error`].

use std::io;

/// A boxed error of a sink.
pub type SinkError = Box<dyn std::error::Error + Send + Sync>;

/// An error of the engine, with its cause.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address as it was given.
        address: String,
        /// The error of the system.
        source: io::Error,
    },
    /// Two listeners, or a listener and something else, on one address.
    #[error("{again} is the same address as {first}")]
    Duplicate {
        /// The address as it was given first.
        first: String,
        /// The address as it was given again.
        again: String,
    },
    /// A thread cannot be started.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
    /// A sink that nothing may be lost of has failed.
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
