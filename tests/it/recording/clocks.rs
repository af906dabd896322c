//! Clocks beyond the range of nanoseconds, of the calendar, and before 1970: everything is recorded, and shown by every
//! command.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use blocksd::output::{Format, Hex, Json, Out, Text};
use blocksd::recorded::to_log::EventWriter;
use blocksd_engine::event::{Event, EventKind, Peer};
use blocksd_engine::reason::CloseReason;
use blocksd_recording::{Log, LogContext, LogOptions, Retention};
use blocksd_tests::process::{Server, run};
use blocksd_tests::recorded::{event, source};
use tempfile::TempDir;

/// Times in the years 1901, 1970, 2554, 2597, 9999, 12000 and 200,000, and the time that is recorded for each.
fn times() -> [(SystemTime, &'static str); 7] {
    let year = Duration::from_secs(31_556_952);
    let at = |years: u32| UNIX_EPOCH + year * years;
    let last = "2554-07-21T23:34:33.709551615Z";
    [
        (UNIX_EPOCH - year * 69, "1970-01-01T00:00:00.000000000Z"),
        (UNIX_EPOCH, "1970-01-01T00:00:00.000000000Z"),
        (UNIX_EPOCH + Duration::from_nanos(u64::MAX), last),
        (at(627), last),
        (at(8028), last),
        (at(10_030), last),
        (at(198_030), last),
    ]
}

/// An open, a message and a close at this time.
fn events(time: SystemTime) -> [Event; 3] {
    let device = source(1);
    let of = |kind| Event {
        source: Arc::clone(&device),
        time,
        kind,
    };
    let peer = Peer::Local("unix:/run/peer".into());
    let reason = CloseReason::ALL[0];
    let closed = EventKind::Closed {
        messages: 1,
        bytes: 9,
        reason,
        series_open: false,
    };
    let message = Event {
        time,
        ..event(&device, 0..0, b"\0\0\0\x05hello")
    };
    [of(EventKind::Opened { peer }), message, of(closed)]
}

fn record(folder: &Path, time: SystemTime) {
    let context = LogContext::open(folder, Arc::default(), Retention::new(None));
    let log = Log::after_others(LogOptions::default(), Arc::new(context.unwrap()));
    let mut writer = EventWriter::new(log.unwrap());
    for event in events(time) {
        writer.event(&event).unwrap();
    }
    writer.finish().unwrap();
}

#[test]
fn a_message_of_any_time_is_recorded_and_shown_by_every_command() {
    for (time, recorded) in times() {
        let folder = TempDir::new().unwrap();
        record(folder.path(), time);
        let path = folder.path().to_str().unwrap();
        for output in ["text", "json", "hex", "csv", "raw"] {
            let shown = |more: &[&str]| {
                let args = [&["read", path, "--output", output], more].concat();
                let ended = run(&args, b"");
                assert_eq!(ended.code, Some(0), "{recorded}: {ended:?}");
                let text = ended.stdout_text();
                let is_shown = text.contains("hello") || text.contains("68 65 6c 6c 6f");
                // What is there is reported if nothing is shown.
                assert_eq!(ended.stderr.is_empty(), is_shown, "{recorded}: {ended:?}");
                is_shown
            };
            assert!(shown(&[]), "{output}, {recorded}");
            assert!(shown(&["--from", recorded]), "{output}, {recorded}");
            assert!(
                shown(&["--until", "9999-12-30T22:00:00Z"]),
                "{output}, {recorded}"
            );
            assert!(shown(&[
                "--from",
                "1901-01-01T00:00:00Z",
                "--until",
                "2700-01-01T00:00:00Z"
            ]));
            assert!(
                !shown(&["--until", "1970-01-01T00:00:00Z"]),
                "{output}, {recorded}"
            );
            assert!(
                !shown(&["--until", recorded]) || recorded.starts_with("2554"),
                "{output}"
            );
        }
        let csv = run(&["read", path, "--output", "csv"], b"").stdout_text();
        assert!(csv.contains(recorded), "{csv}");
        let listed = run(&["recordings", path], b"").stdout_text();
        let until_second = &recorded[..19];
        assert_eq!(listed.matches(until_second).count(), 2, "{listed}");
        for command in ["verify", "recordings"] {
            assert_eq!(
                run(&[command, path], b"").code,
                Some(0),
                "{command}, {recorded}"
            );
        }
        let mut server = Server::start(&["--listen", "127.0.0.1:0"]);
        let to = server.addr().to_string();
        assert_eq!(run(&["replay", path, "--to", &to], b"").code, Some(0));
        server.wait_for("block", 1);
        server.stop();
    }
}

#[test]
fn files_of_a_clock_that_jumps_are_in_the_order_of_their_numbers() {
    let folder = TempDir::new().unwrap();
    for (number, (time, _)) in times().into_iter().enumerate() {
        record(folder.path(), time);
        let files = fs::read_dir(folder.path()).unwrap();
        let names = files.map(|it| it.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.filter(|name| name.ends_with(".mcap")).collect();
        names.sort();
        assert!(
            names[number].starts_with(&format!("{:08}-", number + 1)),
            "{names:?}"
        );
    }
    let path = folder.path().to_str().unwrap();
    let shown = run(&["read", path], b"").stdout_text();
    assert_eq!(shown.matches("hello").count(), 7, "{shown}");
}

#[test]
fn every_format_writes_events_of_any_time() {
    for (time, _) in times() {
        let formats: [Box<dyn Format>; 3] = [
            Box::new(Text::new(false)),
            Box::new(Json::default()),
            Box::new(Hex::new()),
        ];
        for mut format in formats {
            let folder = TempDir::new().unwrap();
            let to = folder.path().join("out");
            let file = fs::File::create(&to).unwrap();
            let mut out = Out::new(Box::new(file), None);
            for event in events(time) {
                format.event(&event, &mut out).unwrap();
            }
            out.flush().unwrap();
            assert!(3 <= fs::read_to_string(&to).unwrap().lines().count());
        }
    }
}
