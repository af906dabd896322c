//! The daemon itself, as `/api/v1/daemon` shows it: a [`DaemonReport`].

use serde::{Deserialize, Serialize};

use crate::recorded::time::Time;

/// The state of a cluster that takes messages.
pub const UP: &str = "up";

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
    /// The clusters that the recording is forwarded to.
    #[serde(default)]
    pub forwards: Vec<ForwardReport>,
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

/// A cluster that the recording is forwarded to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ForwardReport {
    /// Its servers, separated by commas.
    pub to: String,
    /// The stream.
    pub stream: String,
    /// `up`, or `down` while the cluster takes nothing.
    pub state: String,
    /// Why it takes nothing.
    pub problem: Option<String>,
    /// Messages a second that it stores, over the last seconds.
    pub messages_per_s: f64,
    /// Bytes that wait.
    pub backlog_bytes: u64,
    /// Age of the oldest message that waits, in seconds.
    pub backlog_s: Option<f64>,
}

impl ForwardReport {
    /// Whether the cluster takes messages.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.state == UP
    }
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
