//! Names of the API, and of events of devices: start with [`names`].

use std::time::{Duration, UNIX_EPOCH};

use blocksd::api::daemon::{DaemonReport, ForwardReport, RecordingReport, ViewReport};
use blocksd::api::device::{DeviceView, FieldView, SessionView};
use blocksd::api::devices::{DeviceReport, DevicesReport, FaultSummary, LatestMessage};
use blocksd::api::plot::{Plot, PlotSeries};
use blocksd::api::tail::Tail;
use blocksd::api::to_json;
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
    api(time, names);
    let states = DeviceState::ALL.map(|state| format!("device state {}", state.as_str()));
    names.extend(states);
}

/// The members of the answers of the API.
fn api(time: Time, names: &mut Names) {
    let text = String::new;
    let device = DeviceReport {
        latest: Some(LatestMessage {
            time,
            seq: 0,
            len: 0,
            text: text(),
        }),
        values: vec![(text(), text())],
        spark: vec![0],
        ..DeviceReport::new("imu", UNIX_EPOCH)
    };
    let devices = DevicesReport {
        time,
        devices: vec![device.clone()],
        faults: vec![FaultSummary {
            fault: text(),
            count: 0,
            device: None,
            time: None,
        }],
        ..DevicesReport::default()
    };
    let view = DeviceView {
        time,
        device,
        encoding: None,
        conn: None,
        peer: None,
        session: Some(SessionView {
            session: text(),
            received: 0,
            durable: 0,
        }),
        since: None,
        fields: vec![FieldView {
            field: text(),
            numeric: true,
            last: text(),
            min: None,
            max: None,
            count: 0,
            plotted: true,
        }],
        fields_more: 0,
        history: text(),
    };
    let daemon = DaemonReport {
        time,
        version: text(),
        host: text(),
        started: time,
        recording: Some(RecordingReport {
            directory: text(),
            state: text(),
            sync_ms: None,
            free_bytes: None,
            room_s: None,
        }),
        forwards: vec![ForwardReport {
            to: text(),
            stream: text(),
            state: text(),
            problem: None,
            messages_per_s: 0.0,
            backlog_bytes: 0,
            backlog_s: None,
        }],
        view: ViewReport {
            memory_bytes: 0,
            memory_max_bytes: 0,
            not_shown: 0,
        },
    };
    let plot = Plot {
        time,
        from_ms: 0,
        to_ms: 0,
        step_ms: 0,
        history: text(),
        series: vec![PlotSeries {
            field: text(),
            points: Vec::new(),
            error: None,
        }],
    };
    let tail = Tail {
        time,
        next: 0,
        lost: None,
        not_shown: 0,
        entries: Vec::new(),
    };
    let answers = [
        ("devices", to_json(&devices)),
        ("device", to_json(&view)),
        ("daemon", to_json(&daemon)),
        ("plot", to_json(&plot)),
        ("tail", to_json(&tail)),
    ];
    for (path, answer) in answers {
        let answer: Value = serde_json::from_str(&answer).unwrap();
        members(&format!("api key /api/v1/{path}"), &answer, names);
    }
}

/// The members of an object, and of the objects in it.
fn members(path: &str, value: &Value, names: &mut Names) {
    match value {
        Value::Object(members_of) => {
            for (key, value) in members_of {
                names.insert(format!("{path}: {key}"));
                members(&format!("{path}.{key}"), value, names);
            }
        }
        Value::Array(values) => {
            for value in values {
                members(&format!("{path}[]"), value, names);
            }
        }
        _ => {}
    }
}
