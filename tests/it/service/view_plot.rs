//! The live view: fields, plots and tables of one device.

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::thread::sleep;
use std::time::{Duration, UNIX_EPOCH};

use blocksd::recorded::time::Time;
use blocksd_engine::device::WATCHED;
use blocksd_tests::board::ports;
use blocksd_tests::process::{Server, connect, run, wait_until};
use blocksd_tests::viewer::{Viewer, encode};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::view::{keys, start, wait_for_entries, wait_for_messages};
use crate::payload::defmt::{frame, write_elf};

/// A field of the answer of a device.
#[track_caller]
fn field<'a>(device: &'a Value, name: &str) -> &'a Value {
    let fields = device["fields"].as_array().expect("fields");
    let found = fields.iter().find(|field| field["field"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {fields:?}"))
}

/// Waits until a field has this many values.
#[track_caller]
fn wait_for_values(viewer: &Viewer, name: &str, count: u64) -> Value {
    let mut device = Value::Null;
    wait_until(name, || {
        device = viewer.get("device?device=127.0.0.1");
        let fields = device["fields"].as_array().expect("fields");
        fields
            .iter()
            .any(|it| it["field"] == name && it["count"] == count)
    });
    device
}

/// Milliseconds since 1970 of a time of the API.
fn millis(time: &Value) -> i64 {
    let Time(time) = serde_json::from_value(time.clone()).expect("a time");
    let since = time.duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_millis()).expect("a time")
}

/// The points of a field.
fn points(plot: &Value) -> Vec<(i64, Option<f64>)> {
    serde_json::from_value(plot["series"][0]["points"].clone()).expect("points")
}

fn send(device: &mut TcpStream, message: &[u8]) {
    let len = u32::try_from(message.len()).unwrap().to_be_bytes();
    device.write_all(&[&len[..], message].concat()).unwrap();
}

#[test]
fn every_decoding_has_fields() {
    let folder = TempDir::new().unwrap();
    let elf = folder.path().join("firmware.elf");
    write_elf(&elf, "raw", None);
    let defmt = format!("defmt:{}", elf.display());
    let decodings = ["raw", "text", "kv", "json", "cbor", "msgpack", &defmt];
    let listen = decodings.map(|it| format!("127.0.0.1:0,decode={it}"));
    let listen = listen.iter().flat_map(|it| ["--listen", it]);
    let args = [
        "--http",
        "127.0.0.1:0",
        "--output",
        "none",
        "--device-by",
        "listener",
    ];
    let server = Server::start(&args.into_iter().chain(listen).collect::<Vec<_>>());
    let viewer = Viewer::of(&server);
    let messages: [&[&[u8]]; 7] = [
        &[b"21.5", b"22", b"\xff\xfe"],
        &[b"t=1 n=2", b"t=3", b"hello"],
        &[b"t=1 n=2", b"t=3 n=x", b"n=5"],
        &[br#"{"a":{"b":[1,2]},"c":true}"#, br#"{"a":{"b":[-7.5]}}"#],
        &[b"\xa2\x61t\x01\x61n\xf9\x4d\x60", b"\xa1\x61t\x20"],
        &[b"\x82\xa1t\x01\xa1n\x02", b"\x81\xa1t\xff"],
        &[&frame(1), &frame(2)],
    ];
    let want: [&[(&str, bool, u64)]; 7] = [
        &[("value", true, 2), ("base64", false, 1)],
        &[("t", true, 2), ("n", true, 1), ("text", false, 1)],
        &[("t", true, 2), ("n", true, 3)],
        &[("a.b.0", true, 2), ("a.b.1", true, 1), ("c", true, 1)],
        &[("t", true, 2), ("n", true, 1)],
        &[("t", true, 2), ("n", true, 1)],
        &[("level", false, 2), ("message", false, 2)],
    ];
    for (index, port) in ports(&server).into_iter().enumerate() {
        let path = format!("device?device=127.0.0.1:{port}");
        let mut device = connect(([127, 0, 0, 1], port).into());
        wait_until("the device is known", || viewer.ask(&path).status == 200);
        for message in messages[index] {
            send(&mut device, message);
        }
        let mut shown = Value::Null;
        wait_until("its fields are known", || {
            shown = viewer.get(&path);
            want[index].iter().all(|(name, numeric, count)| {
                let fields = shown["fields"].as_array().unwrap();
                let found = fields.iter().find(|it| it["field"] == *name);
                found.is_some_and(|it| it["numeric"] == *numeric && it["count"] == *count)
            })
        });
        let name = decodings[index].split(':').next().unwrap();
        assert_eq!(shown["encoding"], name, "{shown}");
        // Without a recording, a table has the messages that are kept.
        let table = viewer.ask(&format!("csv?device=127.0.0.1:{port}")).body;
        assert_eq!(table.lines().count(), 1 + messages[index].len(), "{table}");
        for (field, ..) in want[index] {
            let header = table.lines().next().unwrap();
            assert!(
                header.split(',').any(|it| it == *field),
                "{field}: {header}"
            );
        }
    }
    let port = ports(&server)[6];
    let tail = viewer.get(&format!("tail?device=127.0.0.1:{port}&level=info"));
    assert_eq!(tail["entries"][1]["message"], "n=2", "{tail}");
    assert_eq!(viewer.get("tail?level=error")["entries"], json!([]));
    server.stop();
}

#[test]
fn a_field_is_numeric_if_most_values_are_and_two_hundred_are_kept() {
    let (server, viewer) = start(&[]);
    let mut device = server.connect();
    wait_for_entries(&viewer, "events", 1);
    viewer.get("device?device=127.0.0.1");
    for value in ["1", "\"x\"", "-2.5", "null", "1e3"] {
        let line = format!("{{\"most\":{value},\"few\":[\"a\",{value}],\"t\":false}}\n");
        device.write_all(line.as_bytes()).unwrap();
    }
    let shown = wait_for_values(&viewer, "t", 5);
    let most = field(&shown, "most");
    let want = json!({"field":"most","numeric":true,"last":"1e3","min":-2.5,"max":1000.0,"count":5,"plotted":true});
    assert_eq!(*most, want);
    let few = field(&shown, "few.0");
    assert_eq!(
        (&few["numeric"], &few["min"]),
        (&json!(false), &Value::Null)
    );
    assert_eq!(field(&shown, "t")["max"], 0.0);
    let many: Vec<_> = (0..500).map(|number| format!("\"f{number}\":1")).collect();
    device
        .write_all(format!("{{{}}}\n", many.join(",")).as_bytes())
        .unwrap();
    wait_until("the fields are bounded", || {
        let shown = viewer.get("device?device=127.0.0.1");
        shown["fields"].as_array().unwrap().len() == 200 && shown["fields_more"] == 304
    });
    // 64 plots are kept, and those in use do not give way.
    let ask = |name: &str| viewer.get(&format!("plot?device=127.0.0.1&field={name}"));
    for number in 0..62 {
        ask(&format!("f{number}"));
    }
    let refused = ["f62", "f63", "f64", "f65"].map(|name| ask(name)["series"][0]["error"].clone());
    assert!(
        refused.contains(&json!("too many plots; close one")),
        "{refused:?}"
    );
    let unknown = ask("nothing");
    assert_eq!(
        unknown["series"][0],
        json!({"field":"nothing","points":[],"error":null})
    );
    assert_eq!(
        viewer.get("device?device=127.0.0.1")["fields"]
            .as_array()
            .unwrap()
            .len(),
        200
    );
    server.stop();
}

#[test]
fn a_plot_has_the_extremes_at_their_times_and_a_gap_for_a_pause() {
    let (server, viewer) = start(&[]);
    let mut device = server.connect();
    wait_for_entries(&viewer, "events", 1);
    viewer.get("device?device=127.0.0.1");
    for part in 0..2 {
        for number in 0..200 {
            let value = (number * 7919 + part * 31) % 1000 - 500;
            device
                .write_all(format!("{{\"v\":{value}}}\n").as_bytes())
                .unwrap();
            sleep(Duration::from_millis(2));
        }
        // A plot has a gap after three intervals, and at least a second.
        sleep(Duration::from_millis(2500 * (1 - part) as u64));
    }
    wait_for_values(&viewer, "v", 400);
    let tail = viewer.get("tail?limit=1000");
    let sent: Vec<(i64, f64)> = tail["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| (millis(&it["time"]), it["value"]["v"].as_f64().unwrap()))
        .collect();
    assert_eq!(sent.len(), 400);
    let plot = viewer.get("plot?device=127.0.0.1&field=v&last_s=60&columns=600");
    let step_ms = plot["step_ms"].as_i64().unwrap();
    let shown = points(&plot);
    assert_eq!(
        shown.iter().filter(|it| it.1.is_none()).count(),
        1,
        "{shown:?}"
    );
    let values: Vec<_> = shown
        .iter()
        .filter_map(|(time, value)| Some((*time, (*value)?)))
        .collect();
    for point in &values {
        assert!(sent.contains(point), "{point:?}");
    }
    assert!(values.is_sorted_by_key(|it| it.0));
    // The least and the greatest value of every column.
    for (time, _) in &sent {
        let column = time.div_euclid(step_ms);
        let of = |all: &[(i64, f64)]| {
            let own = all
                .iter()
                .filter(|it| it.0.div_euclid(step_ms) == column)
                .map(|it| it.1);
            own.fold((f64::MAX, f64::MIN), |(least, most), it| {
                (least.min(it), most.max(it))
            })
        };
        assert_eq!(of(&values), of(&sent), "{column}");
    }
    // The event of a silence has no encoding.
    wait_until("the device is silent again", || {
        let events = viewer.get("events?contains=%22silent%22");
        events["entries"].as_array().unwrap().len() == 2
    });
    let shown = viewer.get("device?device=127.0.0.1");
    assert_eq!(shown["encoding"], "json", "{shown}");
    let coarse = points(&viewer.get("plot?device=127.0.0.1&field=v&last_s=3600&columns=10"));
    assert!(coarse.len() <= 6, "{coarse:?}");
    server.stop();
}

#[test]
fn the_past_comes_from_the_recording_once() {
    let folder = TempDir::new().unwrap();
    let record = ["--record", folder.path().to_str().unwrap()];
    let (server, viewer) = start(&record);
    let mut device = server.connect();
    for number in 0..300 {
        device
            .write_all(format!("{{\"old\":{number}}}\n").as_bytes())
            .unwrap();
    }
    wait_for_messages(&viewer, 300);
    drop(device);
    server.stop();
    let (server, viewer) = start(&record);
    let mut device = server.connect();
    let send = |device: &mut TcpStream, from: u64, to: u64| {
        for number in from..to {
            device
                .write_all(format!("{{\"old\":{number},\"new\":{number}}}\n").as_bytes())
                .unwrap();
            sleep(Duration::from_millis(1));
        }
    };
    send(&mut device, 300, 350);
    wait_for_messages(&viewer, 50);
    // Nobody has watched so far. Messages that come during the question are shown once, too.
    let asked = std::thread::spawn(move || {
        send(&mut device, 350, 450);
        (device, send)
    });
    sleep(Duration::from_millis(30));
    assert_eq!(viewer.get("device?device=127.0.0.1")["history"], "loading");
    let (mut device, send) = asked.join().unwrap();
    let mut shown = Value::Null;
    wait_until("the past is complete", || {
        shown = viewer.get("device?device=127.0.0.1");
        shown["history"] == "complete"
    });
    assert_eq!(field(&shown, "old")["count"], 450, "{shown}");
    assert_eq!(field(&shown, "new")["count"], 150, "{shown}");
    assert_eq!(
        (&field(&shown, "old")["min"], &field(&shown, "old")["max"]),
        (&json!(0.0), &json!(449.0))
    );
    send(&mut device, 450, 460);
    let shown = wait_for_values(&viewer, "old", 460);
    assert_eq!(shown["history"], "complete");
    let plot = viewer.get("plot?device=127.0.0.1&field=old&field=new&last_s=600");
    assert_eq!(plot["history"], "complete");
    let old = points(&plot);
    assert_eq!((old[0].1, old.last().unwrap().1), (Some(0.0), Some(459.0)));
    assert!(old[0].0 < millis(&shown["device"]["first_seen"]));
    server.stop();
}

#[test]
fn a_table_is_that_of_read_with_and_without_a_recording() {
    let folder = TempDir::new().unwrap();
    let record = folder.path().join("recording");
    let record = record.to_str().unwrap();
    for more in [&["--record", record][..], &[]] {
        let (server, viewer) = start(more);
        let mut device = server.connect();
        wait_for_entries(&viewer, "events", 1);
        viewer.get("tail");
        let lines = "{\"a\":1,\"b\":\"x,\\\"y\\n\"}\nno json\n{\"b\":null,\"c\":[1,2.50]}\n{\"time\":7,\"é\":true}\n";
        device.write_all(lines.as_bytes()).unwrap();
        wait_for_entries(&viewer, "tail", 4);
        let mut answer = viewer.ask("csv?device=127.0.0.1");
        // The recording is written a moment later.
        wait_until("the table is whole", || {
            answer = viewer.ask("csv?device=127.0.0.1&last_s=600");
            answer.body.matches(",127.0.0.1,").count() == 3
        });
        assert!(
            answer.header.contains("content-type: text/csv"),
            "{}",
            answer.header
        );
        let name = "content-disposition: attachment; filename=\"127.0.0.1.csv\"";
        assert!(answer.header.contains(name), "{}", answer.header);
        assert!(!answer.body.contains("left out"), "{}", answer.body);
        server.stop();
        if !more.is_empty() {
            let read = run(&["read", record, "--output", "csv", "--fields", "all"], b"");
            assert_eq!(answer.body, read.stdout_text());
        }
        let header = answer.body.lines().next();
        assert_eq!(header, Some("time,device,conn,seq,a,b,c.0,c.1,_time,é"));
        fs::create_dir_all(record).unwrap();
    }
    let (server, viewer) = start(&[]);
    let _device = server.connect();
    wait_for_entries(&viewer, "events", 1);
    let empty = viewer.ask(&format!("csv?device={}", encode("127.0.0.1")));
    assert_eq!(empty.body, "time,device,conn,seq\n");
    assert_eq!(keys(&viewer.get("daemon")["view"]).len(), 3);
    server.stop();
}

#[test]
fn the_newest_message_of_a_device_that_is_gone_comes_from_the_recording() {
    let folder = TempDir::new().unwrap();
    let record = folder.path().join("telemetry");
    let record = ["--record", record.to_str().unwrap()];
    let (server, viewer) = start(&record);
    let mut device = connect(server.addr());
    device
        .write_all(b"{\"temp\":20}\n{\"temp\": 21.5}\n")
        .unwrap();
    wait_until("the messages are counted", || {
        viewer.get("devices")["devices"][0]["messages"] == 2
    });
    drop(device);
    wait_until("it is gone", || {
        viewer.get("devices")["devices"][0]["state"] == "gone"
    });
    // Nobody has looked until now: no message was copied.
    let mut shown = Value::Null;
    wait_until("its message is read", || {
        shown = viewer.get("devices?detail=true")["devices"][0].clone();
        shown["latest"].is_object()
    });
    assert_eq!(shown["latest"]["len"], 14);
    assert_eq!(shown["latest"]["seq"], 1);
    // As a message that was copied.
    assert_eq!(shown["latest"]["text"], "temp=21.5");
    assert_eq!(shown["values"], json!([["temp", "21.5"]]));
    // It sends again after ten seconds without a request: what is known is no longer the newest.
    sleep(WATCHED);
    let mut device = connect(server.addr());
    device.write_all(b"{\"temp\":30}\n").unwrap();
    drop(device);
    wait_until("the newer message is read", || {
        shown = viewer.get("devices?detail=true")["devices"][0].clone();
        shown["latest"]["text"] == "temp=30"
    });
    assert_eq!(server.stop().0.code, Some(0));
}
