//! The daemon itself, as `/api/v1/daemon` shows it: a [`DaemonReport`].

use serde::{Deserialize, Serialize};

use crate::recorded::time::Time;

/// A daemon, its recording and its live view.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DaemonReport {
    /// When the values were read.
    pub time: Time,
    /// The version of the daemon.
    pub version: String,
    /// The name of its host.
    pub host: String,
    /// When it started.
    pub started: Time,
    /// Its recording, if it has one.
    pub recording: Option<RecordingReport>,
    /// Its live view.
    pub view: ViewReport,
}

/// A recording.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordingReport {
    /// Its directory.
    pub directory: String,
    /// `ok`, or `failing` while the disk accepts nothing.
    pub state: String,
    /// Duration of the last sync, in milliseconds.
    pub sync_ms: Option<f64>,
    /// Free bytes on its file system.
    pub free_bytes: Option<u64>,
    /// Seconds until these are used, at the rate of the last minutes.
    pub room_s: Option<u64>,
}

/// The memory of the live view.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ViewReport {
    /// Bytes of messages, faults and events that are kept.
    pub memory_bytes: u64,
    /// The most that is kept.
    pub memory_max_bytes: u64,
    /// Messages that were received while somebody watched their device, and that are not shown.
    pub not_shown: u64,
}
