//! Writes recordings. One thread appends messages, and another syncs, seals and deletes files. Start with [`log::Log`].

mod active;
mod buffer;
pub(crate) mod channel;
pub(crate) mod compress;
pub(crate) mod epoch;
mod epochs;
mod hook;
pub(crate) mod log;
pub(crate) mod options;
pub(crate) mod report;
pub(crate) mod retention;
pub(crate) mod retry;
pub(crate) mod segment;
pub(crate) mod space;
pub(crate) mod stats;
pub mod storage;
pub(crate) mod sync;
