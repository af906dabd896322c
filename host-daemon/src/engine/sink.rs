//! Sinks: where events go, and the queues before them.

pub mod fanout;
pub mod lossy;
