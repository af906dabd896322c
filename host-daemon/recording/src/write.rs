//! Writes recordings: a thread that writes, and one that syncs, seals and deletes. Start with [`log::Log`].

mod active;
pub mod log;
pub mod retention;
pub mod retry;
pub mod segment;
pub mod stats;
pub mod storage;
pub mod sync;
