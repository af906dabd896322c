//! What is known of devices, as the HTTP API and `blocksd devices` show it: a [`DevicesReport`] has a [`DeviceReport`] of
//! each.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::recorded::time::Time;
use blocksd_engine::device::{DeviceSnapshot, DeviceState};
use blocksd_engine::reason::FaultKind;

/// All devices of a daemon: the answer of `/api/v1/devices`.
///
/// ```
/// use blocksd::api::devices::DevicesReport;
/// use blocksd::api::from_json;
///
/// let json = br#"{"time":"2026-11-27T12:00:00.000000000Z","devices":[],"gone_dropped":7}"#;
/// let report: DevicesReport = from_json(json).unwrap();
/// assert_eq!(report.gone_dropped, 7);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DevicesReport {
    /// When the values were read.
    pub time: Time,
    /// The devices, by name.
    pub devices: Vec<DeviceReport>,
    /// Number of devices that were gone, and are not remembered.
    pub gone_dropped: u64,
    /// Number of devices that the request has selected, before `offset` and `limit`.
    #[serde(default)]
    pub matched: u64,
    /// Number of all devices.
    #[serde(default)]
    pub total: u64,
    /// Number of all devices in each state.
    #[serde(default)]
    pub states: BTreeMap<String, u64>,
    /// Messages a second, of all devices.
    #[serde(default)]
    pub messages_per_s: f64,
    /// Payload bytes a second, of all devices.
    #[serde(default)]
    pub bytes_per_s: f64,
    /// Messages a second over the last ten minutes, each value a mean of five seconds, the oldest first.
    #[serde(default)]
    pub history: Vec<f64>,
    /// The kinds of faults that occurred, the newest first.
    #[serde(default)]
    pub faults: Vec<FaultSummary>,
}

/// The faults of one kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FaultSummary {
    /// The kind.
    pub fault: String,
    /// How many occurred, of all devices.
    pub count: u64,
    /// The device of the newest one.
    pub device: Option<String>,
    /// The time of the newest one.
    pub time: Option<Time>,
}

/// The newest message of a device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LatestMessage {
    /// When it was received.
    pub time: Time,
    /// Its number in its connection or session.
    pub seq: u64,
    /// Its length in bytes.
    pub len: u64,
    /// The decoded message as text, cut to 200 characters.
    pub text: String,
}

/// One device. What a recording does not have is `None`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeviceReport {
    /// Its name.
    pub device: String,
    /// Its state: `live`, `silent`, `faulty` or `gone`.
    pub state: Option<String>,
    /// Open connections.
    pub connections: Option<u32>,
    /// Connections so far.
    pub connections_total: u64,
    /// Times that it connected again.
    pub reconnects: Option<u64>,
    /// Complete messages.
    pub messages: u64,
    /// Payload bytes.
    pub bytes: u64,
    /// Messages a second, in which the last five seconds weigh most.
    pub messages_per_s: Option<f64>,
    /// Faults of each kind.
    pub faults: BTreeMap<String, u64>,
    /// Gaps of its sessions.
    pub gaps: u64,
    /// Numbers without a message in these gaps.
    pub gap_messages: u64,
    /// Median interval between its batches, in microseconds.
    pub interval_us: Option<u64>,
    /// When it was first seen.
    pub first_seen: Time,
    /// When it last connected or sent a batch.
    pub last_seen: Time,
    /// Why its last closed connection was closed.
    pub last_close: Option<String>,
    /// Its newest message, if the request asks for details and one is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest: Option<LatestMessage>,
    /// Names and values of the first fields of this message.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<(String, String)>,
    /// Messages in each of the last 60 seconds, the oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spark: Vec<u64>,
}

impl DeviceReport {
    /// A device of which only its name is known, and when it was seen.
    #[must_use]
    pub fn new(device: &str, seen: SystemTime) -> Self {
        Self {
            device: device.to_owned(),
            state: None,
            connections: None,
            connections_total: 0,
            reconnects: None,
            messages: 0,
            bytes: 0,
            messages_per_s: None,
            faults: faults([0; FaultKind::ALL.len()]),
            gaps: 0,
            gap_messages: 0,
            interval_us: None,
            first_seen: Time(seen),
            last_seen: Time(seen),
            last_close: None,
            latest: None,
            values: Vec::new(),
            spark: Vec::new(),
        }
    }

    /// Number of faults of all kinds.
    #[must_use]
    pub fn all_faults(&self) -> u64 {
        // Those of another daemon can have any value.
        let faults = self.faults.values();
        faults.fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// A device of a daemon.
    #[must_use]
    pub fn of(seen: &DeviceSnapshot) -> Self {
        let interval_us =
            |interval: std::time::Duration| u64::try_from(interval.as_micros()).unwrap_or(u64::MAX);
        Self {
            device: seen.device.to_string(),
            state: Some(seen.state.as_str().to_owned()),
            connections: Some(seen.connections),
            connections_total: seen.connections_total,
            reconnects: Some(seen.reconnects),
            messages: seen.messages,
            bytes: seen.bytes,
            messages_per_s: Some((seen.messages_per_s * 1e3).round() / 1e3),
            faults: faults(seen.faults),
            gaps: seen.gaps,
            gap_messages: seen.gap_messages,
            interval_us: seen.interval.map(interval_us),
            first_seen: Time(seen.first_seen),
            last_seen: Time(seen.last_seen),
            last_close: seen.last_close.map(|reason| reason.as_str().to_owned()),
            latest: None,
            values: Vec::new(),
            spark: Vec::new(),
        }
    }
}

/// How urgent a state is, in views: 0 is shown first. A device that is gone may have done its work, so it comes after those
/// that are connected and not well.
#[must_use]
pub fn urgency(state: &str) -> u8 {
    let of = |other: DeviceState| state == other.as_str();
    match () {
        () if of(DeviceState::Silent) => 0,
        () if of(DeviceState::Faulty) => 1,
        () if of(DeviceState::Gone) => 2,
        () if of(DeviceState::Live) => 3,
        // A state of a later version.
        () => 0,
    }
}

fn faults(counts: [u64; FaultKind::ALL.len()]) -> BTreeMap<String, u64> {
    let names = FaultKind::ALL.map(|kind| kind.as_str().to_owned());
    names.into_iter().zip(counts).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use blocksd_engine::device::DeviceRegistry;

    use super::*;
    use crate::api::{from_json, to_json};

    #[test]
    fn no_name_breaks_the_json() {
        let names = [
            "\"},{\"device\":\"x\",",
            "a\\",
            "line\nbreak\r\u{2028}",
            "\u{1b}[31mred\u{202e}",
            "nul\0",
            "µ-sensor",
            "",
        ];
        let registry = DeviceRegistry::new(10);
        for name in names {
            let device = registry.open(&Arc::from(name), SystemTime::now());
            device.arrived();
            device.batch(2, 30, SystemTime::now());
        }
        let list = registry.list();
        let report = DevicesReport {
            devices: list.devices.iter().map(DeviceReport::of).collect(),
            ..DevicesReport::default()
        };
        let json = to_json(&report);
        assert_eq!(json.lines().count(), 1);
        let confuses = |it: char| it.is_control() || "\u{202e}\u{2028}".contains(it);
        assert!(!json.trim_end().chars().any(confuses), "{json}");
        let read: DevicesReport = from_json(json.as_bytes()).expect("a report");
        assert_eq!(read, report);
        let mut names: Vec<_> = names.map(str::to_owned).into();
        names.sort_unstable();
        let mut read: Vec<_> = read.devices.into_iter().map(|it| it.device).collect();
        read.sort_unstable();
        assert_eq!(read, names);
    }
}
