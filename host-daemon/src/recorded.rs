//! How events of the engine stand in a recording: written by [`to_log`], read by [`from_log`].

pub mod budget;
pub mod from_log;
pub mod note;
pub mod to_log;
