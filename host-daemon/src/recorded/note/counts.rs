//! The counts of a suppressed event: [`Counts`].

use serde::{Deserialize, Serialize};

use crate::recorded::time::Time;
use blocksd_engine::event::Suppressed;

/// Counts of a [`Suppressed`]. Those that are zero are left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// When the first event was received.
    pub since: Time,
    /// Connections without payload.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub connections: u64,
    /// Empty messages.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub empty: u64,
    /// Ends of empty series.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub ends: u64,
    /// Connections that sent bytes after the end mark that closed them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub after_end: u64,
    /// Faults of each kind, in the order of [`FaultKind::ALL`](blocksd_engine::reason::FaultKind::ALL).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub too_long: u64,
    /// See `too_long`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub bad_length: u64,
    /// See `too_long`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub bad_ending: u64,
    /// See `too_long`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub bad_checksum: u64,
    /// See `too_long`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub truncated: u64,
    /// See `too_long`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub reset: u64,
    /// See `too_long`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub undecodable: u64,
}

impl From<&Suppressed> for Counts {
    fn from(sums: &Suppressed) -> Self {
        let [
            too_long,
            bad_length,
            bad_ending,
            bad_checksum,
            truncated,
            reset,
            undecodable,
        ] = sums.faults;
        Self {
            since: Time(sums.since),
            connections: sums.connections,
            empty: sums.empty,
            ends: sums.ends,
            after_end: sums.after_end,
            too_long,
            bad_length,
            bad_ending,
            bad_checksum,
            truncated,
            reset,
            undecodable,
        }
    }
}

impl Counts {
    /// The counts as the type of the engine.
    #[must_use]
    pub const fn suppressed(&self, seq: Option<u64>) -> Suppressed {
        Suppressed {
            since: self.since.0,
            seq,
            connections: self.connections,
            empty: self.empty,
            ends: self.ends,
            after_end: self.after_end,
            faults: [
                self.too_long,
                self.bad_length,
                self.bad_ending,
                self.bad_checksum,
                self.truncated,
                self.reset,
                self.undecodable,
            ],
        }
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}
