//! The recording: the files that blocks are kept in.

pub mod stats;
