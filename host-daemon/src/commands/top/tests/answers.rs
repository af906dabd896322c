//! Answers of a daemon with any number of devices, as the HTTP API gives them: [`round`], and [`hostile`] ones.

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::api::daemon::ForwardReport;
use crate::api::from_json;
use crate::api::tail::Tail;
use crate::commands::top::poll::{FeedKind, PageSubject, Round, Wanted};
use crate::output::Clock;

const TIME: &str = "2026-11-28T12:00:05.000000000Z";
/// The same time, in milliseconds since 1970.
const TIME_MS: i64 = 1_795_867_205_000;

/// A clock at noon of that day, in UTC: screens do not depend on the day and the zone of the test.
pub(super) fn clock() -> Clock {
    let noon = "2026-11-28T12:00:00+00:00[UTC]".parse::<jiff::Zoned>();
    Clock::at(&noon.expect("a time"))
}

/// The answers to what a page wants.
pub(super) fn round(wanted: &Wanted, devices: usize) -> Round {
    let mut round = Round::default();
    match &wanted.subject {
        PageSubject::Devices {
            filter,
            sort,
            offset,
            limit,
        } => {
            let mut all: Vec<_> = (0..devices).collect();
            all.retain(|number| name(*number, devices).contains(&**filter));
            if *sort == "worst" {
                let order = ["silent", "faulty", "gone", "live"];
                let urgency = |state| order.iter().position(|it| *it == state);
                all.sort_by_key(|number| urgency(state(*number, devices)));
            }
            let matched = all.len();
            let page = all.into_iter().skip(*offset).take(*limit);
            let page =
                page.map(|number| one(&name(number, devices), state(number, devices), number));
            let page = page.collect();
            round.devices = Some((*offset, read(report(page, matched, devices))));
            round.daemon = Some(read(daemon()));
        }
        PageSubject::Device { device, fields, .. } => {
            let view = json!({
                "time": TIME, "device": one(device, "live", 7), "encoding": "json", "peer": "10.0.0.7:51234", "conn": 12,
                "session": {"session": "00000000000000ab", "received": 1200, "durable": 1190}, "since": TIME,
                "fields": [field("temp", true), field("rpm", true), field("state", false), field("n", true)],
                "fields_more": 0, "history": "complete",
            });
            round.device = Some((device.clone(), Some(read(view))));
            if !fields.is_empty() {
                round.plot = Some((device.clone(), read(plot(fields))));
            }
        }
    }
    for feed in &wanted.feeds {
        let device = feed.device.as_deref().unwrap_or("boiler");
        let tail = match feed.kind {
            FeedKind::Messages => (0..feed.limit).map(|id| block(id, device)).collect(),
            FeedKind::Faults => (0..3).map(|id| fault(id, device)).collect(),
        };
        round.feeds.push((feed.clone(), of_entries(tail)));
    }
    round
}

/// Answers with this text wherever a device has a say.
pub(super) fn hostile(wanted: &Wanted, evil: &str) -> Round {
    let round = round(wanted, 10);
    let mut hostile = Round {
        feeds: round.feeds,
        ..Round::default()
    };
    for (_, tail) in &mut hostile.feeds {
        for entry in &mut tail.entries {
            entry.insert("device".to_owned(), json!(evil));
            entry.insert("text".to_owned(), json!(evil));
            entry.remove("value");
        }
    }
    if round.devices.is_some() {
        let mut one = one(evil, evil, 1);
        one["last_close"] = json!(evil);
        one["values"] = json!([[evil, evil]]);
        let mut other = one.clone();
        other["values"] = json!([]);
        other["latest"]["text"] = json!(evil);
        let mut report = report(vec![one, other], 2, 2);
        report["states"] = json!({ evil: 2 });
        report["faults"] = json!([{"fault": evil, "count": 1, "device": evil, "time": TIME}]);
        hostile.devices = Some((0, read(report)));
        let mut daemon = daemon();
        for part in ["host", "version"] {
            daemon[part] = json!(evil);
        }
        daemon["recording"]["state"] = json!(evil);
        daemon["forwards"] = json!([{
            "to": evil, "stream": evil, "state": evil, "problem": evil, "messages_per_s": 0.0, "backlog_bytes": 1,
            "backlog_s": 1e300,
        }]);
        hostile.daemon = Some(read(daemon));
    }
    if let Some((name, _)) = round.device {
        let mut field = field(evil, true);
        field["last"] = json!(evil);
        let mut device = one(evil, evil, 1);
        device["faults"] = json!({ evil: 1 });
        device["last_close"] = json!(evil);
        let view = json!({
            "time": TIME, "device": device, "encoding": evil, "peer": evil, "conn": 12, "session": null, "since": null,
            "fields": [field], "fields_more": 0, "history": evil,
        });
        hostile.device = Some((name.clone(), Some(read(view))));
        let mut plot = plot(&[evil.to_owned()]);
        plot["series"][0]["error"] = json!(evil);
        hostile.plot = Some((name, read(plot)));
    }
    hostile
}

/// Clusters that the recording is forwarded to, each of them up or down.
pub(super) fn forwards(are_up: &[bool]) -> Vec<ForwardReport> {
    let all = are_up.iter().zip(1..).map(|(is_up, number)| {
        let (state, problem) = match is_up {
            true => ("up", None),
            false => ("down", Some(format!(
                    "the server cannot be reached: n{number}.plant:4222: Connection refused (os error 111); check that it runs, the address, and the firewall"
                ))),
        };
        let (bytes, age_s) = if *is_up { (0, 0.0) } else { (3_456_789, 754.2) };
        let to = format!("nats://n{number}.plant:4222,nats://n{number}.field:4222");
        read(json!({
            "to": to, "stream": "blocksd", "state": state, "problem": problem,
            "messages_per_s": if *is_up { 8214.2 } else { 0.0 }, "backlog_bytes": bytes, "backlog_s": age_s,
        }))
    });
    all.collect()
}

/// The same text of each of these devices.
pub(super) fn tail(devices: &[&str], text: &str) -> Tail {
    let entries = devices.iter().map(|device| {
        json!({"id": 1, "event": "block", "conn": 1, "device": device, "time": TIME, "seq": 1, "len": 2, "text": text})
    });
    of_entries(entries.collect())
}

fn read<T: DeserializeOwned>(json: Value) -> T {
    from_json(json.to_string().as_bytes()).expect("an answer")
}

fn name(number: usize, of: usize) -> String {
    match of {
        1 => "boiler".to_owned(),
        _ => format!("pump-{number:03}"),
    }
}

/// The state of a device: in a thousand, nine are silent, three faulty, and one is gone.
fn state(number: usize, of: usize) -> &'static str {
    match number {
        1..=9 if 10 < of => "silent",
        1 if of == 10 => "silent",
        2 if of == 10 => "faulty",
        12..=14 => "faulty",
        20 => "gone",
        _ => "live",
    }
}

fn one(name: &str, state: &str, number: usize) -> Value {
    let faults = if state == "faulty" { number } else { 0 };
    let spark: Vec<_> = (0..60).map(|second| (second * (number + 3)) % 11).collect();
    let rate = if state == "live" {
        8.3 + number as f64
    } else {
        0.0
    };
    json!({
        "device": name, "state": state, "connections": 1, "connections_total": 3, "reconnects": 2,
        "messages": 1200 + number, "bytes": 38_400, "messages_per_s": rate,
        "faults": {"too_long": faults, "reset": 0}, "gaps": 1, "gap_messages": 4, "interval_us": 100_012,
        "first_seen": "2026-11-28T11:58:00.000000000Z", "last_seen": "2026-11-28T12:00:04.950000000Z",
        "last_close": "reset",
        "latest": {"time": TIME, "seq": 12, "len": 41, "text": "{\"temp\":24.1}"},
        "values": [["temp", "24.1"], ["rpm", (1400 + number).to_string()], ["n", "88121"]],
        "spark": spark,
    })
}

fn report(page: Vec<Value>, matched: usize, total: usize) -> Value {
    let states = match total {
        1000 => json!({"live": 987, "silent": 9, "faulty": 3, "gone": 1}),
        1 => json!({"live": 1, "silent": 0, "faulty": 0, "gone": 0}),
        _ => json!({"live": total - 2, "silent": 1, "faulty": 1, "gone": 0}),
    };
    let history: Vec<_> = (0..120)
        .map(|at| 4000.0 + 4000.0 * f64::from(at % 40) / 40.0)
        .collect();
    json!({
        "time": TIME, "devices": page, "gone_dropped": 0, "matched": matched, "total": total, "states": states,
        "messages_per_s": 8214.2, "bytes_per_s": 1_234_567.0, "history": history,
        "faults": [
            {"fault": "too_long", "count": 12, "device": "pump-012", "time": "2026-11-28T12:00:01.000000000Z"},
            {"fault": "undecodable", "count": 1, "device": "pump-002", "time": "2026-11-28T09:00:01.000000000Z"},
        ],
    })
}

fn daemon() -> Value {
    json!({
        "time": TIME, "version": "0.1.0", "host": "plant-7", "started": "2026-11-20T12:00:05.000000000Z",
        "recording": {
            "directory": "/var/lib/blocksd", "state": "ok", "sync_ms": 0.8, "free_bytes": 512_000_000_000_u64,
            "room_s": 2_678_400,
        },
        "view": {"memory_bytes": 1000, "memory_max_bytes": 4_194_304, "not_shown": 0},
    })
}

fn field(name: &str, is_numeric: bool) -> Value {
    let number = |value: f64| {
        if is_numeric {
            json!(value)
        } else {
            Value::Null
        }
    };
    json!({
        "field": name, "numeric": is_numeric, "last": if is_numeric { "24.1" } else { "\"on\"" }, "min": number(20.1),
        "max": number(25.0), "count": 1200, "plotted": is_numeric,
    })
}

/// A triangle of ten seconds with a gap, in which each column has its minimum and its maximum.
fn plot(fields: &[String]) -> Value {
    let points: Vec<_> = (0..60)
        .flat_map(|second| {
            let time_ms = TIME_MS - 60_000 + second * 1000;
            let value = 20 + (second % 10 - 5).abs();
            match second {
                30..33 => vec![json!([time_ms, null])],
                _ => vec![json!([time_ms, value]), json!([time_ms + 500, value + 1])],
            }
        })
        .collect();
    let series = fields.iter();
    let series = series.map(|field| json!({"field": field, "points": points, "error": null}));
    json!({
        "time": TIME, "from_ms": TIME_MS - 60_000, "to_ms": TIME_MS, "step_ms": 1000, "history": "complete",
        "series": series.collect::<Vec<_>>(),
    })
}

fn block(id: usize, device: &str) -> Value {
    json!({
        "id": id, "event": "block", "conn": 1, "device": device, "time": TIME, "seq": id, "len": 41,
        "value": {"temp": 24.1, "rpm": 1407, "n": id},
    })
}

fn fault(id: usize, device: &str) -> Value {
    json!({
        "id": id, "event": "fault", "conn": 1, "device": device, "time": TIME, "fault": "too_long", "declared": 6000,
        "limit": 4096, "lost": false,
    })
}

fn of_entries(entries: Vec<Value>) -> Tail {
    read(json!({"time": TIME, "next": 17, "lost": 0, "not_shown": 0, "entries": entries}))
}
