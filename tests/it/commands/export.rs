//! `blocksd export`: what is in the files for Foxglove, PlotJuggler and spreadsheets, and what is refused or left out.

use std::fs;
use std::path::Path;

use blocksd_tests::elf::{BUILD, elf, note};
use blocksd_tests::exported::{DecodableFile, exported};
use blocksd_tests::process::{Ended, run};
use blocksd_tests::recording::{BEGIN, STEP, put};
use serde_json::json;

/// Exports the recording `rec` of a folder to `out` in the same folder.
fn export(folder: &Path, to: &str, out: &str, more: &[&str]) -> Ended {
    let (recording, out) = (folder.join("rec"), folder.join(out));
    let (recording, out) = (recording.to_str().unwrap(), out.to_str().unwrap());
    let args = ["export", recording, "--to", to, "--out", out];
    run(&[&args, more].concat(), b"")
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("rec")).unwrap();
    folder
}

#[track_caller]
fn assert_done(ended: &Ended, want: &str) {
    let line = ended.stdout_text();
    let line = line.split(" to ").next().unwrap();
    assert_eq!((ended.code, line, &*ended.stderr), (Some(0), want, ""));
}

#[test]
fn each_device_is_a_topic_with_fields_its_connection_and_its_numbers() {
    let folder = folder();
    let mut recording = DecodableFile::begin();
    recording.open("10.0.0.7", 4);
    recording.add(
        "10.0.0.7",
        "json",
        r#"{"temp":21,"acc":{"x":1},"none":null}"#,
    );
    // {"temp": NaN, "acc": [1.5]}
    recording.add(
        "imu",
        "cbor",
        b"\xa2\x64temp\xf9\x7e\x00\x63acc\x81\xf9\x3e\x00",
    );
    recording.add(
        "10.0.0.7",
        "json",
        r#"{"temp":21.5,"acc":{"x":2,"y":true},"none":1}"#,
    );
    recording.add("imu", "cbor", b"\xa1\x64temp\x07");
    recording.add("meter", "text", "23.5");
    recording.add("meter", "text", "t=1 unit=\"C\"");
    recording.add("-", "raw", b"\xff");
    recording.seal(&folder.path().join("rec"));
    for to in ["foxglove", "plotjuggler"] {
        let ended = export(folder.path(), to, to, &[]);
        assert_done(&ended, "exported 7 messages of 4 devices");
        let mut messages = exported(&folder.path().join(to)).into_iter();
        let event = messages.next().unwrap();
        assert_eq!(
            (&*event.topic, &event.object["event"]),
            ("/blocksd/events", &json!("open"))
        );
        let (imu, meter) = ("/device_imu", "/device_meter");
        let want = [
            (
                "/device_10_0_0_7",
                0,
                json!({"_conn": 4, "_seq": 0, "temp": 21, "acc": {"x": 1}}),
            ),
            (imu, 0, json!({"_seq": 0, "acc": [1.5]})),
            (
                "/device_10_0_0_7",
                1,
                json!({"_conn": 4, "_seq": 1, "temp": 21.5, "acc": {"x": 2, "y": true}, "none": 1}),
            ),
            (imu, 1, json!({"_seq": 1, "temp": 7})),
            (meter, 0, json!({"_seq": 0, "value": 23.5})),
            (meter, 1, json!({"_seq": 1, "t": 1, "unit": "C"})),
            ("/device_--2d", 0, json!({"_seq": 0, "base64": "/w=="})),
        ];
        for (number, (topic, seq, object)) in (0..).zip(want) {
            let message = messages.next().unwrap();
            let found = (
                &*message.topic,
                message.sequence,
                message.time,
                &message.object,
            );
            assert_eq!(found, (topic, seq, BEGIN + number * STEP, &object));
            assert_eq!(message.schema, format!("blocksd.{}", &topic[1..]));
        }
        assert_eq!(messages.count(), 0);
    }
}

#[test]
fn a_log_is_for_the_log_panel() {
    let folder = folder();
    let path = folder.path().join("firmware.elf");
    let formats = [
        ("timestamp", "{=u64:us}"),
        ("error", "hot: {=u8} \"C\""),
        ("println", "hi"),
    ];
    fs::write(&path, elf(&formats)).unwrap();
    let frame =
        |index: u8, more: &[u8]| [&[index, 0][..], &1_000_000_u64.to_le_bytes(), more].concat();
    let mut recording = DecodableFile::begin();
    recording.add("board", "defmt", BUILD);
    recording.add("board", "defmt", frame(2, &[95]));
    recording.add("board", "defmt", frame(3, &[]));
    recording.add("other", "defmt", note(7));
    recording.add("other", "defmt", frame(3, &[]));
    recording.seal(&folder.path().join("rec"));

    let ended = export(folder.path(), "csv", "raw", &[]);
    let note =
        "the log of \"board\" is not decoded; name the firmware's ELF file with --decode defmt:ELF";
    assert!(ended.stderr.contains(note), "{ended:?}");

    let defmt = format!("defmt:{}", path.display());
    let own = ["--decode", &defmt, "--device", "board"];
    for to in ["foxglove", "plotjuggler", "csv"] {
        let ended = export(folder.path(), to, to, &own);
        assert_done(&ended, "exported 3 messages of 1 device");
    }
    let build = "firmware build 0102030405060708090a0b0c0d0e0f1011121314";
    let place = json!({"name": "board", "file": "", "line": 0});
    let want = [
        json!({"_seq": 0, "level": 2, "message": build}),
        json!({"_seq": 1, "level": 4, "message": "hot: 95 \"C\"", "device_time": "1.000000"}),
        json!({"_seq": 2, "level": 0, "message": "hi", "device_time": "1.000000"}),
    ];
    for (to, schema) in [
        ("foxglove", "foxglove.Log"),
        ("plotjuggler", "blocksd.log_board"),
    ] {
        let messages = exported(&folder.path().join(to));
        assert_eq!(messages.len(), want.len());
        for (message, want) in messages.iter().zip(&want) {
            let mut want = want.clone();
            let members = want.as_object_mut().unwrap();
            members.extend(place.as_object().unwrap().clone());
            if to == "foxglove" {
                let time = json!({"sec": message.time / 1_000_000_000, "nsec": message.time % 1_000_000_000});
                members.insert("timestamp".to_owned(), time);
            }
            assert_eq!(message.object, want);
            assert_eq!(
                (&*message.topic, &*message.schema),
                ("/device_board/log", schema)
            );
        }
    }
    let csv = fs::read_to_string(folder.path().join("csv/device_board.csv")).unwrap();
    let want = format!(
        "_time,_conn,_seq,level,message,file,line,device_time\r\n\
         2026-01-01T00:00:00.000000000Z,,0,info,{build},,0,\r\n\
         2026-01-01T00:00:00.010000000Z,,1,error,\"hot: 95 \"\"C\"\"\",,0,1.000000\r\n\
         2026-01-01T00:00:00.020000000Z,,2,,hi,,0,1.000000\r\n"
    );
    assert_eq!(csv, want);
    // The time of the device is the time of the message.
    let field = ["--time-field", "device_time", "--force"];
    let ended = export(
        folder.path(),
        "foxglove",
        "foxglove",
        &[&own[..], &field].concat(),
    );
    assert!(
        ended.stderr.contains("1 message without a time in"),
        "{ended:?}"
    );
    let messages = exported(&folder.path().join("foxglove"));
    let times: Vec<_> = messages.iter().map(|it| it.time).collect();
    assert_eq!(times, [BEGIN, 1_000_000_000, 1_000_000_000]);
    assert_eq!(
        messages[1].object["timestamp"],
        json!({"sec": 1, "nsec": 0})
    );

    // The logs of another build are not decoded.
    let ended = export(folder.path(), "foxglove", "all.mcap", &["--decode", &defmt]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let note = "1 message that cannot be decoded; the first: number 1 of \"other\"";
    assert!(ended.stderr.contains(note), "{ended:?}");
    let messages = exported(&folder.path().join("all.mcap"));
    let note = "07".repeat(20);
    let note = format!("firmware build {note}, of which the ELF file is missing");
    assert!(
        messages.iter().any(|it| it.object["message"] == *note),
        "{messages:?}"
    );
}

#[test]
fn csv_has_a_file_for_each_device_and_a_column_for_each_field() {
    let folder = folder();
    let mut recording = DecodableFile::begin();
    recording.open("10.0.0.7", 4);
    recording.add(
        "10.0.0.7",
        "json",
        r#"{"temp":21,"acc":{"x":1,"y":null},"s":["a,b","c\"d\n"]}"#,
    );
    recording.add(
        "10.0.0.7",
        "json",
        r#"{"time":7,"temp":null,"a.b":true,"_seq":"own"}"#,
    );
    // {"temp": NaN}
    recording.add("../../etc/imu", "cbor", b"\xa1\x64temp\xf9\x7e\x00");
    recording.seal(&folder.path().join("rec"));
    let ended = export(folder.path(), "csv", "out", &[]);
    assert_done(&ended, "exported 3 messages of 2 devices");
    let read = |name: &str| fs::read_to_string(folder.path().join("out").join(name)).unwrap();
    assert_eq!(
        read("device_10_0_0_7.csv"),
        "_time,_conn,_seq,temp,acc.x,acc.y,s.0,s.1,time,\"\"\"a.b\"\"\",\"\"\"_seq\"\"\"\r\n\
         2026-01-01T00:00:00.000000000Z,4,0,21,1,,\"a,b\",\"c\"\"d\n\",,,\r\n\
         2026-01-01T00:00:00.010000000Z,4,1,,,,,,7,true,own\r\n"
    );
    assert_eq!(
        read("device_--2e--2e--2f--2e--2e--2fetc--2fimu.csv"),
        "_time,_conn,_seq,temp\r\n2026-01-01T00:00:00.020000000Z,,0,NaN\r\n"
    );
    assert_eq!(fs::read_dir(folder.path().join("out")).unwrap().count(), 2);

    // One file for one device.
    let ended = export(folder.path(), "csv", "one.csv", &[]);
    ended.assert_refused(2, "more than one device");
    let ended = export(folder.path(), "csv", "one.csv", &["--device", "10.0.0.7"]);
    assert_done(&ended, "exported 2 messages of 1 device");
    let one = fs::read_to_string(folder.path().join("one.csv")).unwrap();
    assert_eq!(one, read("device_10_0_0_7.csv"));
    // By time.
    let times = [
        "--from",
        "2026-01-01T00:00:00.01Z",
        "--until",
        "2026-01-01T00:00:00.02Z",
    ];
    let ended = export(folder.path(), "csv", "part", &times);
    assert_done(&ended, "exported 1 message of 1 device");
}

#[test]
fn the_time_of_a_message_can_be_one_of_its_fields() {
    let folder = folder();
    let mut recording = DecodableFile::begin();
    recording.add("imu", "json", r#"{"h":{"t":1700000000123}}"#);
    recording.add("imu", "json", r#"{"h":{"t":"2023-11-14T22:13:21Z"}}"#);
    recording.add("imu", "json", r#"{"h":{}}"#);
    recording.seal(&folder.path().join("rec"));
    let field = ["--time-field", "h.t:ms"];
    let ended = export(folder.path(), "foxglove", "out.mcap", &field);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let note = "blocksd: 1 message without a time in \"h.t\": the time of reception is used\n";
    assert_eq!(ended.stderr, note);
    let messages = exported(&folder.path().join("out.mcap"));
    let times = [
        1_700_000_000_123_000_000,
        1_700_000_001_000_000_000,
        BEGIN + 2 * STEP,
    ];
    let found: Vec<_> = messages.iter().map(|message| message.time).collect();
    assert_eq!(found, times);
    let received: Vec<_> = messages
        .iter()
        .map(|it| it.object["_received"].as_u64())
        .collect();
    assert_eq!(received, [Some(BEGIN), Some(BEGIN + STEP), None]);
    export(folder.path(), "csv", "out.csv", &field);
    let csv = fs::read_to_string(folder.path().join("out.csv")).unwrap();
    let begin = "_time,_conn,_seq,_received,h.t\r\n2023-11-14T22:13:20.123000000Z,,0,2026-01-01T00:00:00.000000000Z,1700000000123\r\n";
    assert!(csv.starts_with(begin), "{csv}");
    export(folder.path(), "csv", "x", &["--time-field", "t:min"])
        .assert_refused(2, "the units are ns, us, ms and s");
}

#[test]
fn what_cannot_be_exported_is_counted_and_everything_else_is_exported() {
    let folder = folder();
    let mut recording = DecodableFile::begin();
    recording.add("imu", "json", "{\"a\":1}");
    recording.add("imu", "json", "{\"a\":");
    recording.add("imu", "json", "");
    recording.add("imu", "json", "{\"a\":2}");
    let time = recording.time;
    recording
        .file
        .message("imu", "pieces", ("stream", "raw"), 0, time, b"piece");
    recording.seal(&folder.path().join("rec"));
    for (to, out) in [("foxglove", "out.mcap"), ("csv", "out.csv")] {
        let ended = export(folder.path(), to, out, &[]);
        assert_eq!((ended.code, &*ended.stdout_text()), (Some(1), ""));
        for part in [
            "not exported: 2 messages that cannot be decoded; the first: number 1 of \"imu\": message is not valid json",
            "not exported: 1 piece of messages that were not received whole",
            "blocksd: messages that are not exported: 3; exported 2 messages of 1 device to ",
        ] {
            assert!(ended.stderr.contains(part), "{part}: {ended:?}");
        }
    }
    assert_eq!(exported(&folder.path().join("out.mcap")).len(), 2);
    let csv = fs::read_to_string(folder.path().join("out.csv")).unwrap();
    assert_eq!(csv.lines().count(), 3);
}

#[test]
fn the_intact_part_of_a_damaged_recording_is_exported() {
    let folder = folder();
    let mut recording = DecodableFile::begin();
    for number in 0..100 {
        recording.add("imu", "json", format!("{{\"a\":{number}}}"));
        if number % 10 == 9 {
            recording.file.end_chunk();
        }
    }
    let mut bytes = recording.file.seal();
    bytes[500] ^= 1;
    put(&folder.path().join("rec"), 1, "mcap", &bytes);
    let ended = export(folder.path(), "csv", "out.csv", &[]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("bytes lost at "), "{ended:?}");
    assert!(
        ended
            .stderr
            .contains("bytes of the recording are lost; exported 90 messages of 1 device"),
        "{ended:?}"
    );
    // Reported once, not in each pass.
    assert_eq!(ended.stderr.lines().count(), 2, "{ended:?}");
    let csv = fs::read_to_string(folder.path().join("out.csv")).unwrap();
    assert_eq!(csv.lines().count(), 91);
}

#[test]
fn an_existing_file_is_overwritten_only_on_demand() {
    let folder = folder();
    let mut recording = DecodableFile::begin();
    recording.add("imu", "json", "{}");
    recording.seal(&folder.path().join("rec"));
    for (to, out, file) in [
        ("foxglove", "out.mcap", "out.mcap"),
        ("csv", "out.csv", "out.csv"),
        ("csv", "out", "out/device_imu.csv"),
    ] {
        let file = folder.path().join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, "mine").unwrap();
        export(folder.path(), to, out, &[]).assert_refused(2, "overwrite it with --force");
        assert_eq!(fs::read(&file).unwrap(), b"mine");
        assert_eq!(export(folder.path(), to, out, &["--force"]).code, Some(0));
        assert_ne!(fs::read(&file).unwrap(), b"mine");
    }
    // Not into a recording, where it would be read as a part of it, and not over it.
    let path = "rec/out.mcap";
    let refused = export(folder.path(), "foxglove", path, &["--force"]);
    refused.assert_refused(2, "the recording is there");
    let file = folder.path().join("out.mcap");
    let file = file.to_str().unwrap();
    let refused = run(
        &["export", file, "--to", "foxglove", "--out", file, "--force"],
        b"",
    );
    refused.assert_refused(2, "the recording is there");
    // The same for a file that is named, and for a CSV file in its place.
    let recorded = fs::read_dir(folder.path().join("rec")).unwrap();
    let recorded = recorded.map(|it| it.unwrap().path()).next().unwrap();
    let recorded = recorded.to_str().unwrap();
    let inside = folder.path().join("rec/out.mcap");
    let inside = inside.to_str().unwrap();
    let command = ["export", recorded, "--to", "foxglove", "--out", inside];
    run(&command, b"").assert_refused(2, "the recording is there");
    let own = folder.path().join("own.csv");
    fs::copy(recorded, &own).unwrap();
    let own = own.to_str().unwrap();
    let command = ["export", own, "--to", "csv", "--out", own, "--force"];
    run(&command, b"").assert_refused(2, "the recording is there");
    assert_eq!(fs::read(own).unwrap(), fs::read(recorded).unwrap());
    fs::remove_file(own).unwrap();
    let refused = export(folder.path(), "foxglove", "out", &["--force"]);
    refused.assert_refused(2, "it is not a regular file");
    export(folder.path(), "foxglove", "no/such/out.mcap", &[]).assert_refused(2, "cannot write");
    // Nothing else is left behind.
    let mut left: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|it| it.unwrap().file_name())
        .collect();
    left.sort_unstable();
    assert_eq!(left, ["out", "out.csv", "out.mcap", "rec"]);
}

#[test]
fn many_devices_and_fields_stay_within_the_limits() {
    let folder = folder();
    let mut recording = DecodableFile::begin();
    for device in 0..300 {
        for _ in 0..2 {
            recording.add(&format!("d{device}"), "json", "{\"a\":1}");
        }
    }
    for part in 0..20 {
        let members = (0..1_000).map(|number| format!("\"f{part}-{number}\":1"));
        let members = members.collect::<Vec<_>>().join(",");
        recording.add("wide", "json", format!("{{{members}}}"));
    }
    recording.seal(&folder.path().join("rec"));
    let ended = export(folder.path(), "csv", "out", &[]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let (columns, values) = (4096, 20_000 - 4096);
    let want = format!("{values} values of fields beyond the limit of columns");
    assert!(ended.stderr.contains(&want), "{ended:?}");
    let read = |name: &str| fs::read_to_string(folder.path().join("out").join(name)).unwrap();
    let header = read("device_wide.csv");
    assert_eq!(
        header.lines().next().unwrap().split(',').count(),
        3 + columns
    );
    for device in 0..300 {
        assert_eq!(read(&format!("device_d{device}.csv")).lines().count(), 3);
    }
    // The schema lists fewer fields, and every message is there.
    assert_eq!(
        export(folder.path(), "foxglove", "out.mcap", &[]).code,
        Some(0)
    );
    let messages = exported(&folder.path().join("out.mcap"));
    assert_eq!(messages.len(), 620);
    assert_eq!(
        messages.last().unwrap().object.as_object().unwrap().len(),
        1_001
    );
}
