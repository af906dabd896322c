//! Where events go: the recording.

pub mod recording;
