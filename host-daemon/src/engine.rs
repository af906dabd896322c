//! Sockets in, events out: listens, admits connections, finds messages, and passes them to sinks.

pub mod admission;
pub mod batch;
pub mod connection;
pub mod counters;
pub mod event;
pub mod limit;
pub mod listen;
pub mod metric_writer;
pub mod metrics;
pub mod moment;
pub mod origin;
pub mod peer_log;
pub mod permit;
pub mod pool;
pub mod sink;
