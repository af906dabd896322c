//! A crash-safe log in MCAP files: written by one thread, read while it is written, checked and repaired.

pub mod check;
pub mod error;
pub mod format;
pub mod lock;
pub mod read;
pub mod write;
