//! How events of the engine stand in a recording: written by [`to_log`], read by [`from_log`], checked with
//! [`ranges::CHECKER`].

pub mod budget;
pub mod counters;
pub mod from_log;
pub mod note;
pub mod ranges;
pub mod report;
pub mod to_log;
