//! Stored events of the daemon itself: its start, a reload, a repair, its stop. Start with [`Lifecycle`].
//!
//! They are in the channel of the [`Note`](crate::recorded::note::Note)s, between the events of connections.

use std::borrow::Cow;
use std::io;

use serde::{Deserialize, Serialize};

use crate::escape::json::write_json;
use crate::recorded::time::Time;

/// An event of the daemon itself.
///
/// ```
/// use blocksd::recorded::lifecycle::Lifecycle;
///
/// let json = r#"{"event":"started","time":"2026-11-27T12:00:00.000000000Z","version":"0.1.0","config":"sha256:5f3a"}"#;
/// let event: Lifecycle = serde_json::from_str(json).unwrap();
/// assert!(matches!(event, Lifecycle::Started { version, .. } if version == "0.1.0"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Lifecycle<'a> {
    /// The daemon has started. Connection numbers begin at 1 again.
    Started {
        /// When.
        #[serde(skip_deserializing)]
        time: Time,
        /// The version of the daemon.
        version: Cow<'a, str>,
        /// The [digest](crate::config::digest) of its configuration.
        config: Cow<'a, str>,
    },
    /// A changed configuration is in effect.
    Reloaded {
        /// When.
        #[serde(skip_deserializing)]
        time: Time,
        /// The digest of the configuration.
        config: Cow<'a, str>,
    },
    /// A file that a crash had torn was repaired at the start.
    Repaired {
        /// When.
        #[serde(skip_deserializing)]
        time: Time,
        /// The name of the torn file.
        file: Cow<'a, str>,
        /// Messages that were recovered.
        blocks: u64,
        /// Bytes that were lost.
        lost_bytes: u64,
        /// The name of the original, if it was kept.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        original: Option<Cow<'a, str>>,
    },
    /// A torn file could not be repaired. The next start tries again.
    Unrepaired {
        /// When.
        #[serde(skip_deserializing)]
        time: Time,
        /// The name of the file.
        file: Cow<'a, str>,
        /// The reason.
        error: Cow<'a, str>,
    },
    /// The daemon has stopped. If this event is missing, the daemon was killed, or its recording failed.
    Stopped {
        /// When.
        #[serde(skip_deserializing)]
        time: Time,
        /// Messages that were received since the start.
        blocks: u64,
    },
}

impl Lifecycle<'_> {
    /// When it happened.
    #[must_use]
    pub const fn time(&self) -> Time {
        match self {
            Self::Started { time, .. }
            | Self::Reloaded { time, .. }
            | Self::Repaired { time, .. }
            | Self::Unrepaired { time, .. }
            | Self::Stopped { time, .. } => *time,
        }
    }

    /// Sets when it happened. The time is not read from JSON, since the record that contains the event has it too.
    pub const fn set_time(&mut self, at: Time) {
        match self {
            Self::Started { time, .. }
            | Self::Reloaded { time, .. }
            | Self::Repaired { time, .. }
            | Self::Unrepaired { time, .. }
            | Self::Stopped { time, .. } => *time = at,
        }
    }

    /// Appends the event as a JSON object.
    ///
    /// # Errors
    /// None: a write to memory does not fail.
    pub fn write(&self, to: &mut Vec<u8>) -> io::Result<()> {
        write_json(to, self)
    }
}
