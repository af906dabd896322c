//! The recording: MCAP files in a directory, and everything that reads them.

pub mod chunk;
pub mod input;
pub mod record;
pub mod recover;
pub mod repair;
pub mod scan;
pub mod seal;
pub mod summary;
