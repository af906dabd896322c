//! Writes recordings: a thread that writes, and one that syncs, seals and deletes. Start with [`log::Log`].

mod active;
mod buffer;
pub(crate) mod channel;
pub(crate) mod compress;
pub(crate) mod log;
pub(crate) mod report;
pub(crate) mod retention;
pub(crate) mod retry;
pub(crate) mod segment;
pub(crate) mod stats;
pub mod storage;
pub(crate) mod sync;
