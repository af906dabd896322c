//! `blocksd read --output csv` with a column for each field: which columns and rows there are, and what is refused.

use std::io::Write;
use std::path::Path;

use blocksd_tests::exported::DecodableFile;
use blocksd_tests::process::{Ended, Process, Server, blocksd, run, wait_until};
use tempfile::TempDir;

/// A recording of several devices, each with another encoding. A message follows 10 ms after the one before it.
fn recording() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut file = DecodableFile::begin();
    file.open("imu", 4);
    file.add(
        "imu",
        "json",
        r#"{"temp":30.5,"pos":{"lat":1,"l":[2,{"x":"a,b"}]},"seq":7}"#,
    );
    // {"temp": NaN, "ok": true}
    file.add("node", "cbor", b"\xa2\x64temp\xf9\x7e\x00\x62ok\xf5");
    file.add(
        "pack",
        "msgpack",
        b"\x82\xa4temp\xd1\xff\xe2\xa1s\xa5=1+1\n",
    );
    file.add("meter", "kv", "temp=31 s=\"x \\\"y\\\"\" seq=8");
    file.add("imu", "json", r#"{"temp":null,"a.b":1,"t":1767225600123}"#);
    file.add("imu", "json", "broken");
    file.add("imu", "json", "[1,2]");
    file.seal(folder.path());
    folder
}

/// Reads a recording as CSV.
fn csv(folder: &Path, more: &[&str]) -> Ended {
    let args = ["read", folder.to_str().unwrap(), "--output", "csv"];
    run(&[&args, more].concat(), b"")
}

/// The rows without their times.
fn rows(ended: &Ended) -> Vec<String> {
    let text = ended.stdout_text();
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let headers = reader.headers().unwrap().iter().skip(1).map(str::to_owned);
    let headers: Vec<_> = headers.collect();
    let records = reader.records().map(|record| {
        let record = record.unwrap();
        record.iter().skip(1).map(str::to_owned).collect()
    });
    let rows: Vec<Vec<String>> = std::iter::once(headers).chain(records).collect();
    rows.iter().map(|row| row.join("|")).collect()
}

const UNDECODABLE: &str = "blocksd: not in the table: 1 message that cannot be decoded; the first: number 2 of \"imu\": \
                           message is not valid json: unexpected character at byte 0\n";
const LEFT_OUT: &str = "blocksd: messages that are not exported: 1\n";

#[test]
fn all_fields_that_occur_have_a_column_in_the_order_in_which_they_occur() {
    let folder = recording();
    let ended = csv(folder.path(), &["--fields", "all"]);
    assert_eq!(
        rows(&ended),
        [
            "device|conn|seq|temp|pos.lat|pos.l.0|pos.l.1.x|_seq|ok|s|\"a.b\"|t|value.0|value.1",
            "imu|4|0|30.5|1|2|a,b|7||||||",
            "node||0|NaN|||||true|||||",
            "pack||0|-30||||||=1+1\n||||",
            "meter||0|31||||8||x \"y\"||||",
            "imu|4|1||||||||1|1767225600123||",
            "imu|4|3||||||||||1|2",
        ]
    );
    assert_eq!(
        (ended.code, &*ended.stderr),
        (Some(1), &*[UNDECODABLE, LEFT_OUT].concat())
    );
    let text = ended.stdout_text();
    let first = text.lines().nth(1).unwrap();
    assert!(
        first.starts_with("2026-01-01T00:00:00.000000000Z,imu,4,0,30.5,1,2,\"a,b\",7,"),
        "{text}"
    );
    // The decoding of the command replaces that of each device; CSV of decoded messages has columns of fields.
    let ended = csv(folder.path(), &["--decode", "kv", "--device", "meter"]);
    assert_eq!(
        (ended.code, rows(&ended)),
        (
            Some(0),
            vec![
                "device|conn|seq|temp|s|_seq".to_owned(),
                "meter||0|31|x \"y\"|8".to_owned()
            ]
        )
    );
}

#[test]
fn without_an_option_of_a_table_csv_has_the_payload_as_it_was_received() {
    let folder = recording();
    for more in [&[][..], &["--decode", "raw"]] {
        let ended = csv(folder.path(), more);
        let rows = rows(&ended);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert_eq!(rows[0], "device|seq|len|text|base64|conn|part|session");
        assert_eq!(rows[6], "imu|2|6|broken||4||");
    }
}

#[test]
fn named_fields_conditions_and_the_other_selectors_work_together() {
    let folder = recording();
    let ended = csv(
        folder.path(),
        &["--fields", "seq,temp,\"a.b\"", "--where", "temp>=30.5"],
    );
    assert_eq!(
        rows(&ended),
        [
            "device|conn|seq|_seq|temp|\"a.b\"",
            "imu|4|0|7|30.5|",
            "meter||0|8|31|"
        ]
    );
    // The unreadable message is counted; whether it meets the condition is not known.
    let seen = "blocksd: no message has the field \"\\\"a.b\\\"\"\n";
    assert_eq!(ended.stderr, [UNDECODABLE, seen, LEFT_OUT].concat());
    for (more, want) in [
        (&["--where", "s=\"=1+1\n\""][..], "pack||0|-30"),
        (&["--where", "temp<0", "--where", "temp>-31"], "pack||0|-30"),
        (&["--where", "ok=true"], "node||0|NaN"),
        (&["--device", "meter"], "meter||0|31"),
        (&["--last", "7", "--where", "temp>31.5"], ""),
        (
            &[
                "--from",
                "2026-01-01T00:00:00.03Z",
                "--until",
                "2026-01-01T00:00:00.04Z",
            ],
            "meter||0|31",
        ),
    ] {
        let ended = csv(folder.path(), &[&["--fields", "temp"], more].concat());
        let rows = rows(&ended);
        let found = rows.get(1).map_or("", |row| &**row);
        assert_eq!(found, want, "{more:?}: {ended:?}");
        assert!(rows.len() <= 2, "{rows:?}");
    }
}

#[test]
fn a_field_that_no_message_has_is_reported_with_what_may_be_meant() {
    let folder = recording();
    for (name, hint) in [
        ("nosuch", ""),
        ("device", "; it is a column, not a field: use --device"),
        ("_seq", "; a field is named without the _ of its column"),
        (
            "a.b",
            "; a key that contains a dot is written in double quotes",
        ),
    ] {
        let condition = format!("{name}!=x");
        let seen = format!("blocksd: no message has the field {name:?}{hint}\n");
        for more in [&["--fields", name][..], &["--where", &condition]] {
            let ended = csv(folder.path(), more);
            assert_eq!(ended.stderr, [UNDECODABLE, &seen, LEFT_OUT].concat());
        }
    }
}

#[test]
fn values_with_long_names_are_counted_and_cost_little() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = DecodableFile::begin();
    file.open("imu", 1);
    let ones = ["1"; 270_000].join(",");
    file.add(
        "imu",
        "json",
        format!(r#"{{"{}":[{ones}],"a":2}}"#, "k".repeat(500_000)),
    );
    file.seal(folder.path());
    let ended = csv(folder.path(), &["--fields", "all"]);
    assert_eq!(rows(&ended), ["device|conn|seq|a", "imu|1|0|2"]);
    let counted = "270000 values of fields with a name of more than 1024 bytes";
    let left_out = "blocksd: values that are not exported: 270000\n";
    assert_eq!(
        ended.stderr,
        format!("blocksd: not in the table: {counted}\n{left_out}")
    );
    assert_eq!(ended.code, Some(1));
    let ended = csv(folder.path(), &["--fields", "a"]);
    assert_eq!((ended.code, &*ended.stderr), (Some(0), ""));
    let (out, to) = (
        tempfile::tempdir().unwrap(),
        folder.path().to_str().unwrap(),
    );
    let out = out.path().join("out");
    let args = ["export", to, "--to", "csv", "--out", out.to_str().unwrap()];
    let ended = run(&args, b"");
    assert!(ended.stderr.contains(counted), "{ended:?}");
}

#[test]
fn a_field_is_the_time_of_its_row() {
    let folder = recording();
    let ended = csv(
        folder.path(),
        &[
            "--fields",
            "temp",
            "--time-field",
            "t:ms",
            "--device",
            "imu",
        ],
    );
    let text = ended.stdout_text();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(
        lines,
        [
            "time,device,conn,seq,received,temp",
            "2026-01-01T00:00:00.000000000Z,imu,4,0,2026-01-01T00:00:00.000000000Z,30.5",
            "2026-01-01T00:00:00.123000000Z,imu,4,1,2026-01-01T00:00:00.040000000Z,",
            "2026-01-01T00:00:00.060000000Z,imu,4,3,2026-01-01T00:00:00.060000000Z,",
        ]
    );
    let untimed = "blocksd: 2 messages without a time in \"t\": the time of reception is used\n";
    assert!(ended.stderr.contains(untimed), "{ended:?}");
}

#[test]
fn columns_have_a_limit_and_what_is_beyond_it_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = DecodableFile::begin();
    let members = |count: usize| {
        let members = (0..count).map(|number| format!("\"f{number}\":{number}"));
        format!("{{{}}}", members.collect::<Vec<_>>().join(","))
    };
    file.add("imu", "json", members(1_002));
    file.add("imu", "json", members(1_001));
    file.seal(folder.path());
    let ended = csv(folder.path(), &["--fields", "all"]);
    let rows = rows(&ended);
    assert_eq!(rows[0].split('|').count(), 3 + 1_000);
    assert!(rows[2].ends_with("|998|999"), "{}", rows[2]);
    let want = "blocksd: not in the table: 3 values of fields beyond the limit of columns; the first fields: f1000, f1001; \
                name the columns with --fields\nblocksd: values that are not exported: 3\n";
    assert_eq!((ended.code, &*ended.stderr), (Some(1), want));
    let ended = csv(folder.path(), &["--fields", "f1001"]);
    assert_eq!((ended.code, &*ended.stderr), (Some(0), ""));
    assert!(ended.stdout_text().contains(",0,1001\n"), "{ended:?}");
}

/// Length of a header and two rows.
const PRINTED_LEN: usize = 128;

#[test]
fn a_follower_prints_the_named_fields_of_new_messages() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rec");
    let record = path.to_str().unwrap();
    let mut server = Server::start(&["--record", record, "--decode", "kv", "--framing", "lines"]);
    let mut device = server.connect();
    device.write_all(b"t=1 temp=30\nt=2 temp=20\n").unwrap();
    server.wait_for("block", 2);
    let args = [
        "read", record, "--follow", "--output", "csv", "--fields", "temp,t",
    ];
    let args = [&args[..], &["--where", "temp>25"]].concat();
    let follower = Process::start(blocksd(&args));
    follower.line("time,device,conn,seq,temp,t");
    device.write_all(b"t=3 temp=40\n").unwrap();
    server.wait_for("block", 3);
    wait_until("the header and two rows are printed", || {
        PRINTED_LEN <= follower.printed()
    });
    follower.signal("INT");
    let ended = follower.end();
    let rows = rows(&ended);
    assert_eq!(rows[1..], ["127.0.0.1|1|0|30|1", "127.0.0.1|1|2|40|3"]);
    drop(device);
    server.stop();
}

#[test]
fn options_that_cannot_be_combined_are_refused() {
    let folder = recording();
    let path = folder.path().to_str().unwrap();
    let missing = "cannot be combined with this --output; use --output csv or --output parquet";
    for (more, want) in [
        (&["--fields", "temp"][..], missing),
        (&["--output", "json", "--where", "a=1"], missing),
        (&["--output", "raw", "--time-field", "t"], missing),
        (
            &["--output", "csv", "--follow", "--fields", "all"],
            "--follow cannot be combined with the columns of all fields; name the fields with --fields",
        ),
        (
            &["--output", "csv", "--follow", "--decode", "json"],
            "--follow cannot be combined with the columns of all fields; name the fields with --fields",
        ),
        (
            &["--output", "parquet", "--follow"],
            "--output parquet cannot be combined with --follow",
        ),
        (
            &["--output", "csv", "--where", "temp > 30 and x = 1"],
            "text after the value at character 11",
        ),
        (
            &["--output", "csv", "--fields", "a,,b"],
            "the name of a field is missing",
        ),
    ] {
        run(&[&["read", path], more].concat(), b"").assert_refused(2, want);
    }
}
