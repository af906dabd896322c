//! Names of the API, and of events of devices: start with [`names`].

use std::time::{Duration, UNIX_EPOCH};

use blocksd::devices::{DeviceReport, DevicesReport};
use blocksd::recorded::note::{Head, Note, NoteOrigin};
use blocksd::recorded::time::Time;
use blocksd_engine::device::DeviceState;
use serde_json::Value;

use super::{Names, event_keys};

pub(super) fn names(names: &mut Names) {
    let origin = NoteOrigin {
        conn: None,
        device: Some("imu".into()),
    };
    let time = Time(UNIX_EPOCH + Duration::from_secs(1));
    let head = Head {
        origin,
        seq: None,
        time,
    };
    let notes = [
        Note::Silent {
            head: head.clone(),
            since: time,
            interval_us: 1,
        },
        Note::Back {
            head,
            silence_us: 1,
        },
    ];
    let events: Vec<Value> = notes
        .iter()
        .map(|note| serde_json::to_value(note).unwrap())
        .collect();
    event_keys(&events, names);
    let report = DevicesReport {
        time,
        devices: vec![DeviceReport::new("imu", UNIX_EPOCH)],
        gone_dropped: 0,
    };
    let report: Value = serde_json::from_str(&report.to_json()).unwrap();
    for (path, object) in [("devices", &report), ("devices[]", &report["devices"][0])] {
        let keys = object.as_object().unwrap().keys();
        names.extend(keys.map(|key| format!("api key /api/v1/{path}: {key}")));
    }
    let states = DeviceState::ALL.map(|state| format!("device state {}", state.as_str()));
    names.extend(states);
}
