//! Where events go: the recording.

pub mod recording;
pub mod recording_metrics;
