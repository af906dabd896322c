//! Writes recordings: a thread that writes, and one that syncs, seals and deletes.

pub mod log;
pub mod segment;
pub mod stats;
pub mod storage;
pub mod sync;
