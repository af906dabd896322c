//! Where events go: the recording.

pub mod console;
pub mod recording;
