//! Devices that are watched, on given clocks.

use framing_core::{AnyFraming, Blocks};

use super::*;

const SECOND: u64 = 1_000_000_000;
const NOW: u64 = 1_700_000_000 * SECOND;

fn source(device: &str) -> ConnectionInfo {
    ConnectionInfo {
        conn: 1,
        device: device.into(),
        framing: AnyFraming::Blocks(Blocks),
        encoding: Encoding::new("json"),
        first_seq: 0,
        session: None,
        certificate: None,
        stats: None,
    }
}

fn message(devices: &mut WatchedDevices, device: &str, time: u64, object: &str) {
    let now_ms = time.saturating_sub(NOW) / 1_000_000;
    let objects = [object.as_bytes()].into_iter();
    devices.messages(&source(device), (time, now_ms), objects);
}

#[test]
fn a_clock_that_is_set_back_hides_nothing() {
    let mut devices = WatchedDevices::default();
    let boiler = Arc::from("boiler");
    let object = |n| format!(r#"{{"n":{n}}}"#);
    devices.ask(&boiler, 0, NOW, true).expect("a past");
    devices.messages(
        &source("boiler"),
        (NOW, 0),
        [object(1).as_bytes()].into_iter(),
    );
    let back = NOW - 600 * SECOND;
    devices.messages(
        &source("boiler"),
        (back, 1),
        [object(2).as_bytes()].into_iter(),
    );
    let fields = devices.shown("boiler").unwrap().fields().0;
    assert_eq!((&*fields[0].last, fields[0].count), ("2", 1));
    assert!(
        !devices.past("boiler", 1, NOW, b"{}"),
        "an earlier reading has ended"
    );
    // It was set back while nobody sent: the past is read again.
    devices.set_history("boiler", 0, History::Complete);
    let earlier = back - 600 * SECOND;
    let range = devices.ask(&boiler, 2000, earlier, true).expect("a past");
    assert_eq!((range.from, range.to), (earlier - PAST_NS, earlier));
}

#[test]
fn messages_for_a_tail_do_not_hide_a_pause() {
    let mut devices = WatchedDevices::default();
    let boiler = Arc::from("boiler");
    devices.ask(&boiler, 0, NOW, true).expect("a past");
    devices.set_history("boiler", 1, History::Complete);
    message(&mut devices, "boiler", NOW + 5 * SECOND, r#"{"a":1}"#);
    // Somebody has a tail of all devices.
    message(&mut devices, "boiler", NOW + 30 * SECOND, r#"{"a":2}"#);
    let range = devices.ask(&boiler, 31_000, NOW + 31 * SECOND, true);
    let range = range.expect("a past");
    let (from, to) = (NOW + 5 * SECOND + 1, NOW + 31 * SECOND);
    assert_eq!((range.from, range.to), (from, to));
    assert_eq!(devices.shown("boiler").unwrap().fields().0[0].count, 1);
}

#[test]
fn the_past_is_read_once_and_again_after_a_pause() {
    let mut devices = WatchedDevices::default();
    let boiler = Arc::from("boiler");
    let range = devices.ask(&boiler, 1000, NOW, true);
    let hour = PastRange {
        from: NOW - 3600 * SECOND,
        to: NOW,
        reading: 1,
    };
    assert_eq!(range, Some(hour));
    // A message that was received before is read from the recording.
    message(&mut devices, "boiler", NOW - 1, r#"{"a":1}"#);
    assert!(devices.past("boiler", 1, NOW - 1, br#"{"a":1}"#));
    assert!(!devices.past("boiler", 7, NOW - 1, br#"{"a":1}"#));
    message(&mut devices, "boiler", NOW + 5, r#"{"a":2}"#);
    let count = |devices: &WatchedDevices| devices.shown("boiler").unwrap().fields().0[0].count;
    assert_eq!(count(&devices), 2);
    assert_eq!(devices.ask(&boiler, 9000, NOW + 8 * SECOND, true), None);
    devices.set_history("boiler", 7, History::Partial);
    devices.set_history("boiler", 1, History::Complete);
    assert_eq!(devices.shown("boiler").unwrap().history, History::Complete);
    assert_eq!(devices.ask(&boiler, 18_000, NOW + 17 * SECOND, true), None);
    // Nobody asked for ten seconds.
    let range = devices.ask(&boiler, 28_001, NOW + 27 * SECOND, true);
    let pause = PastRange {
        from: NOW + 6,
        to: NOW + 27 * SECOND,
        reading: 2,
    };
    assert_eq!(range, Some(pause));
    assert_eq!(devices.ask(&boiler, 99_000, NOW + 98 * SECOND, true), None);
}

#[test]
fn without_a_recording_there_is_no_past() {
    let mut devices = WatchedDevices::default();
    let boiler = Arc::from("boiler");
    assert_eq!(devices.ask(&boiler, 0, NOW, false), None);
    assert_eq!(devices.ask(&boiler, 60_000, NOW, false), None);
    assert_eq!(devices.shown("boiler").unwrap().history, History::None);
}

#[test]
fn series_are_bounded_and_the_least_used_gives_way() {
    let mut devices = WatchedDevices::default();
    let fields: Vec<_> = (0..40).map(|number| format!(r#""f{number}":1"#)).collect();
    let object = format!("{{{}}}", fields.join(","));
    for name in ["a", "b"] {
        devices.ask(&Arc::from(name), 0, NOW, false);
        message(&mut devices, name, NOW, &object);
    }
    assert_eq!(devices.series(), SERIES_MAX);
    let span = PlotSpan::new((NOW / 1_000_000) as i64, 60, 600);
    let mut plot = |field: &str, now_ms| devices.ask_plot("b", field, now_ms, &span, 1000);
    assert_eq!(plot("f1", 20_000).map(|points| points.len()), Some(1));
    // It has a series from now on.
    assert_eq!(plot("f39", 20_000).map(|points| points.len()), Some(0));
    assert_eq!(devices.series(), SERIES_MAX);
    for number in 0..40 {
        let field = format!("f{number}");
        assert!(devices.ask_plot("a", &field, 30_000, &span, 1000).is_some());
    }
    // All others are in use.
    let mut refused = 0;
    for number in 0..40 {
        let field = format!("f{number}");
        refused += u8::from(devices.ask_plot("b", &field, 30_001, &span, 1000).is_none());
    }
    assert_eq!(refused, 16);
    assert!(devices.series() <= SERIES_MAX && devices.cost() <= WatchedDevices::COST_MAX);
}

#[test]
fn devices_are_bounded() {
    let mut devices = WatchedDevices::default();
    for number in 0..3000_u64 {
        let name = Arc::from(format!("d{number}"));
        devices.ask(&name, number, NOW, false);
        devices.ask_newest(&name, number);
    }
    assert_eq!(
        (devices.shown.len(), devices.newest.len()),
        (SHOWN_MAX, NEWEST_MAX)
    );
    assert!(devices.shown("d2999").is_some() && devices.shown("d0").is_none());
}
